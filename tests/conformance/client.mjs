// The protocol's own client, as an application uses it, against the server at SERVER_URL. Prints
// one line for each story that held. Its caller kills the server and starts it again when
// asked by the line "kill", and answers with a line when it is back; with NO_KILLS=1, for a server
// that is deployed, that story is left out.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { withSecret } from "./bearer.mjs";
import { DurableStream, IdempotentProducer, StaleEpochError, stream } from "@durable-streams/client";

withSecret(process.env.SERVER_URL);
// Names that no run used before.
const run = process.env.NO_KILLS === "1" ? `client-${randomUUID()}` : "client";
const root = `${process.env.SERVER_URL}/v1/stream/${run}`;
const answers = createInterface({ input: process.stdin });
const numbers = (from, to) => Array.from({ length: to - from }, (_, at) => from + at);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function made(name, contentType = "application/json") {
  return DurableStream.create({ url: `${root}/${name}`, contentType });
}

/** What is in a stream, from the start. */
async function all(url) {
  return (await stream({ url, offset: "-1", live: false })).json();
}

/** Appends numbers, one message each. */
async function count(log, from, to) {
  for (const number of numbers(from, to)) await log.append(JSON.stringify(number));
}

/** Follows a stream until `count` items came; returns them and the offset behind the last. */
function follow(session, enough, each = () => {}) {
  return new Promise((done, failed) => {
    const items = [];
    session.subscribeJson((batch) => {
      items.push(...batch.items);
      each(items.length);
      if (items.length >= enough) {
        session.cancel();
        done({ items, offset: batch.offset });
      }
    });
    session.closed.catch(failed);
  });
}

/** A connection that breaks is no answer: the server knows what it has taken already. */
async function stubborn(...request) {
  for (;;) {
    try {
      const answer = await fetch(...request);
      if (answer.status < 500) return answer;
      await answer.body?.cancel();
    } catch (error) {
      if (error.name === "AbortError") throw error;
    }
    await pause(50);
  }
}

async function killed() {
  console.log("kill");
  await once(answers, "line");
}

const stories = {
  async "a producer sends many messages at once, and all come once and in order"() {
    const log = await made("many");
    const faults = [];
    const onError = (error) => faults.push(error);
    const options = { maxBatchBytes: 400, maxInFlight: 5, onError };
    const producer = new IdempotentProducer(log, "p", options);
    for (const number of numbers(0, 1000)) producer.append(JSON.stringify(number));
    await producer.flush();
    await producer.detach();
    assert.deepEqual(faults, []);
    assert.deepEqual(await all(log.url), numbers(0, 1000));
  },

  async "a producer that was replaced is fenced off"() {
    const log = await made("fenced");
    const faults = [];
    const old = new IdempotentProducer(log, "p", { onError: (error) => faults.push(error) });
    old.append("1");
    await old.flush();
    const next = new IdempotentProducer(log, "p", { epoch: 1 });
    next.append("2");
    await next.flush();
    old.append("3");
    await old.flush();
    assert.ok(faults[0] instanceof StaleEpochError, `${faults}`);
    // A producer that does not know of those before takes over.
    const third = new IdempotentProducer(log, "p", { autoClaim: true });
    third.append("4");
    await third.flush();
    assert.equal(third.epoch, 2);
    assert.deepEqual(await all(log.url), [1, 2, 4]);
  },

  async "a producer that closes its stream ends its readers"() {
    const log = await made("closed");
    const session = await stream({ url: log.url, offset: "-1", live: "sse", json: true });
    const producer = new IdempotentProducer(log, "p");
    producer.append("1");
    await producer.close("2");
    const items = [];
    for await (const item of session.jsonStream()) items.push(item);
    assert.deepEqual(items, [1, 2]);
    assert.equal((await log.head()).streamClosed, true);
  },

  async "bytes come as they went, in both live modes"() {
    const log = await made("bytes", "application/octet-stream");
    const sent = Uint8Array.from({ length: 70_000 }, (_, at) => (at * 7) % 251);
    await log.append(sent.subarray(0, 30_000));
    for (const live of ["long-poll", "sse"]) {
      const session = await stream({ url: log.url, offset: "-1", live });
      if (live === "long-poll") setTimeout(() => log.append(sent.subarray(30_000)), 100);
      const got = [];
      session.subscribeBytes((chunk) => {
        got.push(...chunk.data);
        if (got.length >= sent.length) session.cancel();
      });
      await session.closed;
      assert.deepEqual(Buffer.from(got), Buffer.from(sent), live);
    }
  },
};

for (const live of ["long-poll", "sse", true]) {
  stories[`a reader that follows by ${live} receives all that was and all that comes`] = async () => {
    const log = await made(`live-${live}`);
    await count(log, 0, 10);
    const session = await stream({ url: log.url, offset: "-1", live, json: true });
    let next = 10;
    const received = await follow(session, 20, async (count) => {
      // One by one, each when the last was received.
      if (count === next && next < 20) await log.append(JSON.stringify(next++));
    });
    assert.deepEqual(received.items, numbers(0, 20));
    const { offset } = await log.head();
    assert.equal(received.offset, offset);
  };

  stories[`a reader that was away goes on where it was, by ${live}`] = async () => {
    const log = await made(`away-${live}`);
    await count(log, 0, 7);
    const first = await stream({ url: log.url, offset: "-1", live, json: true });
    const { items, offset } = await follow(first, 7);
    assert.deepEqual(items, numbers(0, 7));
    await count(log, 7, 60);
    const second = await stream({ url: log.url, offset, live, json: true });
    assert.deepEqual((await follow(second, 53)).items, numbers(7, 60));
  };
}

async function killedAgainAndAgain() {
  const log = await made("killed");
  const faults = [];
  const onError = (error) => faults.push(error);
  const options = { fetch: stubborn, maxInFlight: 3, onError };
  const producer = new IdempotentProducer(log, "p", options);
  // Sessions end with the server; the place in the stream does not.
  const received = [];
  const read = (async () => {
    let offset = "-1";
    while (received.length < 600) {
      const session = await stream({ url: log.url, offset, live: "sse", json: true, fetch: stubborn });
      session.subscribeJson((batch) => {
        received.push(...batch.items);
        offset = batch.offset;
        if (received.length >= 600) session.cancel();
      });
      await session.closed.catch(() => pause(50));
    }
  })();
  for (const round of [0, 1, 2]) {
    const back = killed();
    for (const number of numbers(round * 200, round * 200 + 200)) {
      producer.append(JSON.stringify(number));
      if (number % 10 === 0) await pause(10);
    }
    await back;
  }
  await producer.flush();
  await read;
  assert.deepEqual(faults, []);
  assert.deepEqual(await all(log.url), numbers(0, 600));
  assert.deepEqual(received, numbers(0, 600));
}

if (process.env.NO_KILLS !== "1") {
  stories["the server is killed again and again: nothing is lost, nothing comes twice"] =
    killedAgainAndAgain;
}

for (const [name, story] of Object.entries(stories)) {
  await story();
  console.log(`held: ${name}`);
}
console.log(`${Object.keys(stories).length} stories`);
process.exit(0);
