// Publishes a folder with three JSON calls, from Node 20 or Bun, without a dependency:
//
//   PMX_TOKEN=… node publish.mjs DIR SPACE [SERVER]
//
// docs/pathmx.md describes the calls.
import { readdir, readFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { blake3 } from "./blake3.mjs";

const UPLOADS_AT_ONCE = 8;

const [dir, space, server = "http://127.0.0.1:8787"] = process.argv.slice(2);
const token = process.env.PMX_TOKEN ?? process.env.PATHMX_PUBLISH_TOKEN;

async function post(path, type, body) {
  const headers = { authorization: `Bearer ${token}`, "content-type": type };
  const answer = await fetch(new URL(path, server), { method: "POST", headers, body });
  const json = await answer.json();
  if (!answer.ok) throw new Error(`${json.code}: ${json.detail}\n${json.hint}`);
  return json;
}

// Like `pmx`, this leaves out names that begin with a dot, and files of settings.
const isPublished = (path) =>
  path.split("/").every((name) => !name.startsWith(".") || name === ".well-known") &&
  !/(^|\/)pmx\.toml$/.test(path);

async function list() {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = [];
  for (const entry of entries.filter((entry) => entry.isFile())) {
    const place = join(entry.parentPath ?? entry.path, entry.name);
    const path = relative(dir, place).split(sep).join("/");
    if (!isPublished(path)) continue;
    const bytes = await readFile(place);
    files.push({ path, hash: blake3(bytes), size: bytes.length });
  }
  return files;
}

async function main() {
  if (!space || !token) throw new Error("usage: PMX_TOKEN=… publish.mjs DIR SPACE [SERVER]");
  const site = JSON.stringify({ space, files: await list() });
  const places = new Map(JSON.parse(site).files.map(({ hash, path }) => [hash, path]));
  const { missing } = await post("/api/publish/begin", "application/json", site);
  const upload = async () => {
    for (let blob = missing.pop(); blob; blob = missing.pop()) {
      const bytes = await readFile(join(dir, places.get(blob.hash)));
      await post(blob.uploadUrl, "application/octet-stream", bytes);
    }
  };
  await Promise.all(Array.from({ length: UPLOADS_AT_ONCE }, upload));
  const { url, deployId, root, outcome } = await post("/api/publish/commit", "application/json", site);
  console.log(JSON.stringify({ url, deployId, root, outcome }));
}

await main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
