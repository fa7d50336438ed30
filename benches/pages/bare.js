// The least that a Worker can do for a page: it reads one key of KV and answers bytes that it has
// in memory. What any Worker costs here, it costs as well.
//
//   node benches/pages/bare.js --data DIR --page FILE --port N [--no-kv]
//
// No Worker of Miniflare's stands in front. Prints its address, and ends with its stdin.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

process.env.MINIFLARE_WORKERD_V8_FLAGS ??= "--single-threaded-gc";

const worker = join(import.meta.dirname, "../../worker/package.json");
const found = createRequire(worker).resolve("miniflare");
const { Log, LogLevel, Miniflare } = (await import(pathToFileURL(found))).default;
const { values: options } = parseArgs({
  options: {
    data: { type: "string" },
    page: { type: "string" },
    port: { type: "string" },
    "no-kv": { type: "boolean", default: false },
  },
});
const port = Number(options.port);

const script = `
const page = new TextEncoder().encode(${JSON.stringify(readFileSync(options.page, "utf8"))});
const headers = {
  "content-type": "text/html; charset=utf-8",
  "cache-control": "public, max-age=0, must-revalidate",
  etag: '"0123456789abcdef0123456789abcdef"',
};

export default {
  async fetch(request, env) {
    ${options["no-kv"] ? "" : 'await env.POINTERS.get("space", { type: "text", cacheTtl: 30 });'}
    return new Response(page, { headers });
  },
};`;

const miniflare = new Miniflare({
  host: "127.0.0.1",
  unsafeDirectSockets: [{ host: "127.0.0.1", port }],
  cf: false,
  log: new Log(LogLevel.WARN),
  modules: true,
  script,
  compatibilityDate: "2026-07-01",
  kvNamespaces: ["POINTERS"],
  kvPersist: join(options.data, "kv"),
});

await miniflare.ready;
const pointers = await miniflare.getKVNamespace("POINTERS");
await pointers.put("space", JSON.stringify({ deploy: 1, root: "0".repeat(64) }));
console.log(`http://127.0.0.1:${port}/`);
process.stdin.resume().on("end", async () => {
  await miniflare.dispose();
  process.exit(0);
});
