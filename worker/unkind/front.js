// What a data centre does in front of the isolates: each request goes to one of them, by chance, and
// ends there when its client leaves.

import { draw } from "./chance.js";

// How to end the requests that are being answered.
const answering = new Map();

export default {
  async fetch(request, env) {
    const path = new URL(request.url).pathname;
    if (path.startsWith("/.unkind/")) {
      return control(path, request, env);
    }
    const { seed, isolates } = env.UNKIND;
    const asked = request.headers.get("x-unkind-isolate");
    const number = asked ?? Math.floor(draw(seed, "isolate") * isolates);
    return taken(request, (whole) => ending(whole, env[`ISOLATE_${number}`]));
  },
};

// Answers a request once its body is read as far as it comes, whether or not an isolate wants it: a
// client that is refused then gets its answer, where this runtime would reset its connection.
async function taken(request, answer) {
  const length = Number(request.headers.get("content-length"));
  if (request.body === null || length <= SMALL_BYTES) {
    return answer(request);
  }
  const { readable, writable } = new FixedLengthStream(length);
  const answering = answer(new Request(request, { body: readable }));
  await pass(request.body.getReader(), writable.getWriter(), answering);
  return answering;
}

// The runtime takes so much itself.
const SMALL_BYTES = 64 * 1024;

// So long a client that has its answer may pause until the rest of its body is no longer waited for.
const PAUSE_MS = 200;

// Passes a body on until it is answered, and reads the rest. What an isolate leaves unread would hold
// up the writer for ever.
async function pass(reader, writer, answering) {
  let isWanted = true;
  const end = () => (isWanted = false);
  const answered = answering.then(end, end);
  const paused = () => answered.then(() => scheduler.wait(PAUSE_MS)).then(() => ({ done: true }));
  try {
    for (;;) {
      const { done, value } = await Promise.race([reader.read(), paused()]);
      if (done) {
        break;
      }
      if (isWanted) {
        await Promise.race([writer.write(value).catch(end), answered]);
      }
    }
    writer.close().catch(end);
  } catch (error) {
    writer.abort(error).catch(end);
  }
}

// Answers a request until its client leaves.
async function ending(request, isolate) {
  const id = request.headers.get("x-unkind-request");
  if (id === null || request.headers.has("upgrade")) {
    return isolate.fetch(request);
  }
  const leaving = new AbortController();
  const left = new Promise((leave) => answering.set(id, leave));
  left.then(() => leaving.abort(new Error("the client left")));
  try {
    return await isolate.fetch(request, { signal: leaving.signal });
  } finally {
    answering.delete(id);
  }
}

async function control(path, request, env) {
  const [, , what, id] = path.split("/");
  switch (what) {
    case "left":
      answering.get(id)?.();
      return new Response();
    case "fail": {
      const body = await request.text();
      const asked = env[`ISOLATE_${request.headers.get("x-unkind-isolate")}`];
      return asked.fetch("http://unkind/fail", { method: "POST", body });
    }
    case "settled":
      return settled(env);
    default:
      return report(env);
  }
}

function isolates(env) {
  return [...Array(env.UNKIND.isolates).keys()].map((number) => `ISOLATE_${number}`);
}

// Answers once every isolate shows what was written: KV does so, and what an isolate read before
// counts no more.
async function settled(env) {
  const asked = await env.ISOLATE_0.fetch("http://unkind/written");
  const body = await asked.text();
  const times = isolates(env).map(async (name) => {
    const answer = await env[name].fetch("http://unkind/settles", { method: "POST", body });
    return answer.json();
  });
  const last = Math.max(...(await Promise.all(times)));
  const wait = Math.max(0, last + env.UNKIND.moment - Date.now());
  await scheduler.wait(wait);
  return Response.json({ waited: wait });
}

// The faults of each isolate, and its memory.
async function report(env) {
  const reports = isolates(env).map(async (name) => {
    const answer = await env[name].fetch("http://unkind/report");
    return [name, await answer.json()];
  });
  return Response.json(Object.fromEntries(await Promise.all(reports)));
}
