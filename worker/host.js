// What the ways to run the Worker on this machine share: the folder, the modules, the variables.

import { randomBytes, randomInt } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";

// Where V8 sweeps beside the program, this release of workerd may wait for that for ever, with one
// core busy, after many large bodies: its message loop takes the same sweeping task again and again.
process.env.MINIFLARE_WORKERD_V8_FLAGS ??= "--single-threaded-gc";

// The folder of a server's data, made if it is not there.
export function dataFolder(path) {
  const data = resolve(path);
  mkdirSync(data, { recursive: true });
  // First of all, so that no scan takes the folder for content.
  writeFileSync(
    join(data, ".pmx-data"),
    "This is a data folder of pmx. pmx never publishes a folder that holds this file.\n",
  );
  return data;
}

// The entry first, then what it imports.
export function modules(build) {
  const files = readdirSync(build, { recursive: true }).map(String).sort();
  const code = files.filter((file) => file.endsWith(".js") && file !== "index.js");
  const wasm = files.filter((file) => file.endsWith(".wasm"));
  return [
    ...["index.js", ...code].map((file) => ({ type: "ESModule", path: join(build, file) })),
    ...wasm.map((file) => ({ type: "CompiledWasm", path: join(build, file) })),
  ];
}

// The variables of a Worker that answers on a port of this machine.
export function bindings(data, port) {
  return {
    DOMAIN: "localhost",
    SITE_SCHEME: "http",
    LOG_SAMPLE: "1",
    SITE_PORT: String(port),
    PUBLISH_SECRET: secret(data),
    ...variables(),
  };
}

// What the environment says about streams and pages, as `pmx serve` reads it.
function variables() {
  const entries = Object.entries(process.env);
  const known = /^((PMX_)?STREAM_[A-Z_]+|AUTH_TOKEN|CACHE_MODE|DEBUG_TIMING|LEASE|LIVE|DOH_URL|DICTIONARIES|LOCATION_HINT|SITE_SCHEME|HSTS|LOG_SAMPLE|ZSTD|PMX_POINTER_(LAG|MOMENT)_MS)$/;
  return Object.fromEntries(entries.filter(([name]) => known.test(name)));
}

function secret(data) {
  const file = join(data, "secret");
  try {
    return readFileSync(file, "utf8").trim();
  } catch {
    const fresh = randomBytes(32).toString("hex");
    writeFileSync(file, `${fresh}\n`, { mode: 0o600 });
    return fresh;
  }
}

// Where all state lies, for a Worker with these objects.
export function storage(data) {
  return {
    r2Persist: join(data, "r2"),
    kvPersist: join(data, "kv"),
    cachePersist: join(data, "cache"),
    durableObjectsPersist: join(data, "spaces"),
    d1Persist: join(data, "d1"),
  };
}

// What the environment asks for beside the objects.
export function extras() {
  return {
    ...(process.env.PMX_STREAM_INDEX === "1" && { d1Databases: ["INDEX"] }),
    ...(process.env.PMX_EVENTS_LIMIT && {
      ratelimits: {
        EVENTS_LIMIT: {
          namespace_id: "7001",
          simple: { limit: Number(process.env.PMX_EVENTS_LIMIT), period: 10 },
        },
      },
    }),
    // Miniflare takes points and forgets them.
    ...(process.env.PMX_STREAM_ANALYTICS === "1" && {
      analyticsEngineDatasets: { ANALYTICS: { dataset: "streams" } },
    }),
  };
}

// A port below those that systems give to outgoing connections: one of these could take it between
// this look and the server's start.
export async function freePort() {
  for (;;) {
    const port = randomInt(20_000, 32_768);
    if (await isFree(port)) return port;
  }
}

function isFree(port) {
  return new Promise((found) => {
    const server = createServer().on("error", () => found(false));
    server.listen(port, "127.0.0.1", () => server.close(() => found(true)));
  });
}

// Says where the server listens, and ends it with a signal or, if asked for, with stdin.
export async function run(miniflare, port, untilStdinEnds) {
  await miniflare.ready;
  console.log(`http://127.0.0.1:${port}/`);
  const stop = async () => {
    await miniflare.dispose();
    process.exit(0);
  };
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.on(signal, stop);
  }
  if (untilStdinEnds) {
    process.stdin.resume().on("end", stop).on("error", stop);
  }
}
