// Documents of @durable-streams/y-durable-streams over the server at SERVER_URL: they converge over
// compactions. After a snapshot the package asks for the offset behind it plus one, which lies
// beyond the tail or inside an append. Prints one line for each story that held.
import assert from "node:assert/strict";
import { withSecret } from "./bearer.mjs";
import { YjsProvider } from "@durable-streams/y-durable-streams";
import { YjsServer } from "@durable-streams/y-durable-streams/server";
import * as Y from "yjs";

withSecret(process.env.SERVER_URL);
const compactionThreshold = 2_000;
const server = new YjsServer({ dsServerUrl: process.env.SERVER_URL, compactionThreshold });
const baseUrl = `${await server.start()}/v1/yjs/notes`;
const opened = [];

async function until(what, holds) {
  const end = Date.now() + 20_000;
  while (!(await holds())) {
    assert.ok(Date.now() < end, `${what} does not happen`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** Opens a document as one more client, and waits until it has what is there. */
async function open(docId, liveMode) {
  const doc = new Y.Doc();
  const provider = new YjsProvider({ doc, baseUrl, docId, liveMode });
  const faults = [];
  provider.on("error", (error) => faults.push(error));
  opened.push(provider);
  await until("the first synchronisation", () => provider.synced || faults.length > 0);
  assert.deepEqual(faults, []);
  return { list: doc.getArray("lines"), faults, provider };
}

const lines = (client) => client.list.toArray().join(" ");
const agree = (a, b) => until("the documents converge", () => lines(a) === lines(b));

/** The place of the last snapshot. */
async function snapshot(docId) {
  const url = `${baseUrl}/docs/${docId}?offset=snapshot`;
  const answer = await fetch(url, { redirect: "manual" });
  await answer.arrayBuffer();
  return new URL(answer.headers.get("location"), url).searchParams.get("offset");
}

/** Writes until another snapshot was made. */
async function compact(docId, client, other) {
  const before = await snapshot(docId);
  for (let round = 0; round < 30; round += 1) client.list.push([`${round} ${"x".repeat(100)}`]);
  await agree(client, other);
  client.list.push(["enough"]);
  await until("the compaction", async () => (await snapshot(docId)) !== before);
}

for (const liveMode of ["sse", "long-poll"]) {
  const docId = `doc-${liveMode}`;
  const first = await open(docId, liveMode);
  const second = await open(docId, liveMode);
  for (const again of [1, 2]) {
    await compact(docId, first, second);
    // Nothing was appended since the snapshot: the offset lies beyond the tail.
    const third = await open(docId, liveMode);
    await agree(first, third);
    first.list.push([`first ${again}`]);
    await agree(first, third);
    third.list.push([`third ${again}`]);
    await agree(third, first);
    // By now it lies inside an append.
    const fourth = await open(docId, liveMode);
    await agree(fourth, first);
    fourth.list.push([`fourth ${again}`]);
    for (const client of [first, second, third]) await agree(client, fourth);
    for (const client of [first, second, third, fourth]) assert.deepEqual(client.faults, []);
  }
  console.log(`held: documents converge over compactions by ${liveMode}`);
}
for (const provider of opened) provider.destroy();
process.exit(0);
