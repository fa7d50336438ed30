// A Worker that keeps what is PUT to it in R2, one object each: how a folder is published by those
// who upload each file by itself. Run by the benches, on the same runtime as the Worker of pmx.
//
//   node benches/blobs.js --data DIR
//
// Prints its address, and ends with its stdin.

import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const worker = join(import.meta.dirname, "../worker/package.json");
const found = createRequire(worker).resolve("miniflare");
const { Log, LogLevel, Miniflare } = (await import(pathToFileURL(found))).default;
const { values: options } = parseArgs({ options: { data: { type: "string" } } });

const script = `
export default {
  async fetch(request, env) {
    await env.OBJECTS.put(new URL(request.url).pathname.slice(1), request.body);
    return new Response(null, { status: 201 });
  },
};`;

const miniflare = new Miniflare({
  host: "127.0.0.1",
  port: 0,
  cf: false,
  log: new Log(LogLevel.WARN),
  modules: true,
  script,
  compatibilityDate: "2026-07-01",
  r2Buckets: ["OBJECTS"],
  r2Persist: join(options.data, "r2"),
});

console.log(`${await miniflare.ready}`);
process.stdin.resume().on("end", async () => {
  await miniflare.dispose();
  process.exit(0);
});
