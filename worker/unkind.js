// Runs the Worker on this machine as unkindly as the platform may: several isolates that answer in
// turn, KV that lags, and R2, stubs and objects that fail now and then.
//
//   node worker/unkind.js --data DIR [--port N] [--build DIR] [--until-stdin-ends]
//
// The parts are real; around each binding lies a wrapper (`unkind/`). The environment says how bad
// it is, by PMX_UNKIND_:
//
//   SEED      of all chance; stderr says which
//   ISOLATES  how many there are (3); the objects live in the first
//   LAG       what the 60 s that KV may lag are multiplied by, and the 5 s that an isolate does not
//             read a pointer again (0)
//   FAULTS    the share of all operations of bindings that fail (0)
//   RESETS    the share of all calls of objects in which the object ends (0)
//   SLOW_MS   how long R2 takes to write (0)
//   MEMORY    1: memory is watched
//   OLDER     the folder of a second build: that of the last isolate and of half of the objects
//
// Prints one line on stdout, the address, once it listens.

import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Log, LogLevel, Miniflare } from "miniflare";
import { bindings, dataFolder, extras, freePort, modules, run, storage } from "./host.js";
import { leave } from "./unkind/leave.js";

const here = dirname(fileURLToPath(import.meta.url));
const { values: options } = parseArgs({
  options: {
    data: { type: "string" },
    port: { type: "string", default: "0" },
    build: { type: "string", default: join(here, "build") },
    "until-stdin-ends": { type: "boolean", default: false },
  },
});
const setting = (name, otherwise) => process.env[`PMX_UNKIND_${name}`] ?? otherwise;
const seed = setting("SEED", String(randomInt(2 ** 32)));
const isolates = Number(setting("ISOLATES", 3));
const older = setting("OLDER");
const lag = Number(setting("LAG", 0));
const moment = Math.ceil(5_000 * lag);
console.error(`unkind: seed ${seed}`);

const data = dataFolder(options.data);
const port = Number(options.port) || (await freePort());
const inner = await freePort();
const watched = setting("MEMORY") === "1" ? await freePort() : undefined;

// Files under names of their own, wherever they lie.
const ROOT = "/unkind-root";
const WRAPPERS = ["isolate", "module", "bindings", "chance", "depth", "faults", "kv"];
const wrapped = [
  ...WRAPPERS.map((name) => text(`unkind/${name}.js`)),
  ...placed(options.build, "build"),
  ...(older ? placed(older, "older") : [same()]),
];

function text(path) {
  const contents = readFileSync(join(here, path), "utf8");
  return { type: "ESModule", path: join(ROOT, path), contents };
}

function placed(build, name) {
  return modules(build).map(({ type, path }) => {
    const contents = readFileSync(path);
    return { type, path: join(ROOT, name, relative(build, path)), contents };
  });
}

// Without an older build, the newest stands for it, and takes its place in memory too.
function same() {
  const contents = 'export { default } from "../build/index.js"; export * from "../build/index.js";';
  return { type: "ESModule", path: join(ROOT, "older/index.js"), contents };
}

// Where the objects live: on the platform too, they share isolates with requests.
const HOME = "isolate-0";

function isolate(name, isOlder) {
  const elsewhere = name === HOME ? {} : { scriptName: HOME };
  const objects = (className) => ({ className, useSQLite: true, ...elsewhere });
  return {
    name,
    modulesRoot: ROOT,
    modules: wrapped,
    compatibilityDate: "2026-07-01",
    bindings: {
      PMX_POINTER_MOMENT_MS: String(moment),
      ...bindings(data, port),
      UNKIND: {
        seed,
        isolate: name,
        isOlder,
        isMixed: Boolean(older),
        lag,
        faults: Number(setting("FAULTS", 0)),
        resets: Number(setting("RESETS", 0)),
        slow: Number(setting("SLOW_MS", 0)),
      },
    },
    r2Buckets: ["OBJECTS"],
    kvNamespaces: ["POINTERS"],
    durableObjects: {
      DOMAINS: objects("DomainsDO"),
      HUB: objects("HubDO"),
      SPACE: objects("SpaceDO"),
      STREAM: objects("StreamDO"),
    },
    ...extras(),
  };
}

const numbers = [...Array(isolates).keys()];
const front = {
  name: "front",
  modulesRoot: ROOT,
  modules: ["front", "chance"].map((name) => text(`unkind/${name}.js`)),
  compatibilityDate: "2026-07-01",
  bindings: { UNKIND: { seed, isolates, moment } },
  serviceBindings: {
    ...Object.fromEntries(numbers.map((number) => [`ISOLATE_${number}`, `isolate-${number}`])),
  },
};

const miniflare = new Miniflare({
  host: "127.0.0.1",
  port: inner,
  ...(watched && { inspectorPort: watched }),
  cf: false,
  log: new Log(LogLevel.WARN),
  ...storage(data),
  workers: [
    front,
    ...numbers.map((number) => isolate(`isolate-${number}`, number === isolates - 1 && Boolean(older))),
  ],
});

await miniflare.ready;
await leave(port, inner, await watch());
await run(miniflare, port, options["until-stdin-ends"]);

// Says how much memory isolates took, by name, if it is watched.
async function watch() {
  if (watched === undefined) {
    return () => ({});
  }
  const { Memory } = await import("./unkind/memory.js");
  const memory = new Memory(watched, numbers.map((number) => `isolate-${number}`));
  return () => memory.peaks;
}
