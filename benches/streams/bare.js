// The least that a Worker can do for an append: it asks a Durable Object, which writes the row of
// the message and the row of the stream. What any Worker costs here, it costs as well.
//
//   node benches/streams/bare.js --data DIR [--direct]
//
// Prints its address, and ends with its stdin. With `--direct` Miniflare's own Worker is not in front.

import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const worker = join(import.meta.dirname, "../../worker/package.json");
const found = createRequire(worker).resolve("miniflare");
const { Log, LogLevel, Miniflare } = (await import(pathToFileURL(found))).default;
const { freePort } = await import("../../worker/host.js");
const { values: options } = parseArgs({
  options: { data: { type: "string" }, direct: { type: "boolean", default: false } },
});
const host = "127.0.0.1";
const port = await freePort();

const script = `
import { DurableObject } from "cloudflare:workers";

export class Stream extends DurableObject {
  constructor(state, env) {
    super(state, env);
    this.sql = state.storage.sql;
    this.sql.exec("CREATE TABLE IF NOT EXISTS log (start INTEGER PRIMARY KEY, body TEXT)");
    this.sql.exec("CREATE TABLE IF NOT EXISTS meta (key INTEGER PRIMARY KEY, tail INTEGER)");
    this.sql.exec("INSERT OR IGNORE INTO meta VALUES (1, 0)");
  }

  async fetch(request) {
    const body = await request.text();
    const { tail } = this.sql.exec("SELECT tail FROM meta WHERE key = 1").one();
    if (body) {
      this.sql.exec("INSERT INTO log VALUES (?, ?)", tail, body);
      this.sql.exec("UPDATE meta SET tail = ? WHERE key = 1", tail + 1);
    }
    return new Response(null, { status: 204, headers: { "Stream-Next-Offset": tail + 1 } });
  }
}

export default {
  async fetch(request, env) {
    const name = new URL(request.url).pathname;
    return env.STREAM.get(env.STREAM.idFromName(name)).fetch(request);
  },
};`;

const miniflare = new Miniflare({
  host,
  ...(options.direct ? { unsafeDirectSockets: [{ host, port }] } : { port }),
  cf: false,
  log: new Log(LogLevel.WARN),
  modules: true,
  script,
  compatibilityDate: "2026-07-01",
  durableObjects: { STREAM: { className: "Stream", useSQLite: true } },
  durableObjectsPersist: join(options.data, "streams"),
});

await miniflare.ready;
console.log(`http://${host}:${port}/`);
process.stdin.resume().on("end", async () => {
  await miniflare.dispose();
  process.exit(0);
});
