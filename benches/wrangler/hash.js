// What Cloudflare's wrangler does to a folder before it asks which files are new: the hash of each,
// of its content in base64 and its extension, with the library that wrangler uses.
//
//   node benches/wrangler/hash.js FOLDER
//
// Prints how many files there are.

import { readdirSync, readFileSync } from "node:fs";
import { extname, join } from "node:path";
import { hash } from "blake3-wasm";

const folder = process.argv[2];
const manifest = {};
for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
  if (entry.isFile()) {
    const file = join(entry.parentPath, entry.name);
    const content = readFileSync(file).toString("base64");
    const digest = hash(content + extname(file).substring(1)).toString("hex");
    manifest[file] = digest.slice(0, 32);
  }
}
console.log(Object.keys(manifest).length);
