// Runs the Worker on this machine: the real runtime, with R2, KV and Durable Objects in a folder.
//
//   node worker/local.js --data DIR [--port N] [--build DIR] [--direct] [--until-stdin-ends]
//
// Miniflare puts a Worker of its own in front, which does what Cloudflare's edge does to encodings,
// and costs half a millisecond a request. With `--direct` there is none: benches measure ours.
//
// Prints one line on stdout, the address, once it listens. The token that may publish lies in
// `secret` in the folder, where `pmx --data DIR` finds it; it is made if it is not there.

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Log, LogLevel, Miniflare } from "miniflare";
import { bindings, dataFolder, extras, freePort, modules, run, storage } from "./host.js";

const here = dirname(fileURLToPath(import.meta.url));
const { values: options } = parseArgs({
  options: {
    data: { type: "string" },
    port: { type: "string", default: "0" },
    build: { type: "string", default: join(here, "build") },
    direct: { type: "boolean", default: false },
    "until-stdin-ends": { type: "boolean", default: false },
  },
});
const data = dataFolder(options.data);
// Sites are told their port before anything listens.
const port = Number(options.port) || (await freePort());

const miniflare = new Miniflare({
  host: "127.0.0.1",
  ...(options.direct ? { unsafeDirectSockets: [{ host: "127.0.0.1", port }] } : { port }),
  cf: false,
  log: new Log(LogLevel.WARN),
  modulesRoot: options.build,
  modules: modules(options.build),
  compatibilityDate: "2026-07-01",
  bindings: bindings(data, port),
  r2Buckets: ["OBJECTS"],
  kvNamespaces: ["POINTERS"],
  durableObjects: {
    HUB: { className: "HubDO", useSQLite: true },
    SPACE: { className: "SpaceDO", useSQLite: true },
    STREAM: { className: "StreamDO", useSQLite: true },
  },
  durableObjectsPersist: join(data, "spaces"),
  ...(process.env.PMX_STREAM_INDEX === "1" && {
    d1Databases: ["INDEX"],
    d1Persist: join(data, "d1"),
  }),
  ...(process.env.PMX_EVENTS_LIMIT && {
    ratelimits: {
      EVENTS_LIMIT: { simple: { limit: Number(process.env.PMX_EVENTS_LIMIT), period: 10 } },
    },
  }),
  // Miniflare takes points and forgets them.
  ...(process.env.PMX_STREAM_ANALYTICS === "1" && {
    analyticsEngineDatasets: { ANALYTICS: { dataset: "streams" } },
  }),
});

await miniflare.ready;
console.log(`http://127.0.0.1:${port}/`);
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, stop);
}
if (options["until-stdin-ends"]) {
  process.stdin.resume().on("end", stop).on("error", stop);
}

async function stop() {
  await miniflare.dispose();
  process.exit(0);
}

// The entry first, then what it imports.
function modules(build) {
  const files = readdirSync(build, { recursive: true }).map(String).sort();
  const code = files.filter((file) => file.endsWith(".js") && file !== "index.js");
  const wasm = files.filter((file) => file.endsWith(".wasm"));
  return [
    ...["index.js", ...code].map((file) => ({ type: "ESModule", path: join(build, file) })),
    ...wasm.map((file) => ({ type: "CompiledWasm", path: join(build, file) })),
  ];
}

// What the environment says about streams and pages, as `pmx serve` reads it.
function variables() {
  const entries = Object.entries(process.env);
  const known = /^((PMX_)?STREAM_[A-Z_]+|AUTH_TOKEN|CACHE_MODE|DEBUG_TIMING|LEASE|LIVE|DICTIONARIES|LOCATION_HINT|PMX_POINTER_LAG_MS)$/;
  return Object.fromEntries(entries.filter(([name]) => known.test(name)));
}

function secret() {
  const file = join(data, "secret");
  try {
    return readFileSync(file, "utf8").trim();
  } catch {
    const fresh = randomBytes(32).toString("hex");
    writeFileSync(file, `${fresh}\n`, { mode: 0o600 });
    return fresh;
  }
}

function freePort() {
  return new Promise((found, failed) => {
    const server = createServer().on("error", failed);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => found(port));
    });
  });
}
