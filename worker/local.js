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
// Sites get their port before anything listens.
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
    DOMAINS: { className: "DomainsDO", useSQLite: true },
    HUB: { className: "HubDO", useSQLite: true },
    SPACE: { className: "SpaceDO", useSQLite: true },
    STREAM: { className: "StreamDO", useSQLite: true },
  },
  ...storage(data),
  ...extras(),
});

await run(miniflare, port, options["until-stdin-ends"]);
