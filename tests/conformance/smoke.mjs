// A performance smoke run against the streams of the server at PERF_BASE_URL: how long an append, a
// read and a long-poll take until the answer is there, from here. Prints a line for each, and one of
// JSON. With PERF_ENFORCE=1 it fails if a 95th percentile is above PERF_BUDGET_MS.
import { randomUUID } from "node:crypto";
import { withSecret } from "./bearer.mjs";

const number = (name, fallback) => {
  const value = Number(process.env[name] ?? fallback);
  if (!Number.isFinite(value) || value <= 0) throw new Error(`${name} is not a positive number`);
  return value;
};
const base = process.env.PERF_BASE_URL;
if (!base) throw new Error("PERF_BASE_URL says which server to measure");
const iterations = Math.ceil(number("PERF_ITERATIONS", 25));
const budget = number("PERF_BUDGET_MS", 10);
const enforced = ["1", "true"].includes(process.env.PERF_ENFORCE ?? "");
withSecret(base);

const url = `${base.replace(/\/$/, "")}/v1/stream/smoke-${randomUUID()}`;
const json = { "content-type": "application/json" };

async function ask(address, init = {}) {
  const answer = await fetch(address, init);
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${init.method ?? "GET"} ${address}: ${answer.status} ${text}`);
  return { text, next: answer.headers.get("stream-next-offset") };
}

const append = (value) => ask(url, { method: "POST", headers: json, body: JSON.stringify(value) });

/** Milliseconds of each of many runs, sorted; the first run warms up and does not count. */
async function timed(run) {
  const times = [];
  for (let round = 0; round <= iterations; round += 1) times.push(await run(round));
  return times.slice(1).sort((a, b) => a - b);
}

async function took(work) {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

const measures = {
  append: (round) => took(() => append({ round })),
  read: () => took(() => ask(`${url}?offset=-1`)),
  // From the append until the reader that waits has it.
  async "long-poll"(round) {
    const { next } = await ask(`${url}?offset=now`);
    const waiting = ask(`${url}?offset=${next}&live=long-poll`);
    const millis = await took(async () => {
      await append({ waited: round });
      const { text } = await waiting;
      if (!text.includes(`"waited":${round}`)) throw new Error(`another message came: ${text}`);
    });
    return millis;
  },
};

await ask(url, { method: "PUT", headers: json });
const results = {};
try {
  for (const [name, run] of Object.entries(measures)) {
    const times = await timed(run);
    const at = (share) => Number(times[Math.ceil(times.length * share) - 1].toFixed(2));
    const [p50, p95] = [at(0.5), at(0.95)];
    results[name] = { p50, p95, met: p95 <= budget };
    console.log(`${name}: p50 ${p50} ms, p95 ${p95} ms, budget ${budget} ms: ${p95 <= budget ? "met" : "missed"}`);
  }
} finally {
  await ask(url, { method: "DELETE" });
}
console.log(JSON.stringify({ base, iterations, budget, enforced, results }));
const missed = Object.entries(results).filter(([, result]) => !result.met);
process.exitCode = enforced && missed.length > 0 ? 1 : 0;
