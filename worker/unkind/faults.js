// Transient failures: which operation fails, before or after its effect, and with which error.
//
// The words and properties are those of the platform's documentation of R2, KV and stubs.

import { draw, pick } from "./chance.js";

const R2 = [
  "We encountered an internal error. Please try again. (10001)",
  "Please look at https://www.cloudflarestatus.com for issues or contact customer support. (10043)",
  "Reduce your concurrent request rate for the same object. (10058)",
];
const STUB = [
  ["Network connection lost.", { retryable: true }],
  ["Cannot resolve Durable Object due to transient issue on remote node.", { retryable: true }],
  ["Internal error while starting up Durable Object storage caused object to be reset.", { retryable: true, durableObjectReset: true }],
  ["Durable Object is overloaded. Requests queued for too long.", { overloaded: true }],
];

export class Faults {
  #seed;
  #share;
  #planned = [];
  counts = {};

  // `share` of all operations fail, half of them after their effect.
  constructor(seed, share) {
    this.#seed = seed;
    this.#share = share;
  }

  // Does something, or fails before or after it. What came of it nevertheless goes to `waste`.
  async around(kind, what, operation, waste = () => {}) {
    this.note(`asked: ${kind}`);
    const planned = this.#planned.find((it) => it.kind === kind && it.times > 0);
    if (planned !== undefined) {
      planned.times -= 1;
      this.note(`planned: ${kind}`);
      throw Object.assign(new Error(planned.message), planned.properties);
    }
    const drawn = draw(this.#seed, kind);
    if (drawn >= this.#share) {
      return operation();
    }
    const isAfter = drawn < this.#share / 2;
    if (isAfter) {
      await waste(await operation());
    }
    const error = this.#error(kind, what);
    this.note(`${kind} ${isAfter ? "after" : "before"}`);
    console.log(`fault: ${kind}, ${isAfter ? "after" : "before"} its effect: ${error.message}`);
    throw error;
  }

  note(name) {
    this.counts[name] = (this.counts[name] ?? 0) + 1;
  }

  // The largest number of a name.
  most(name, number) {
    this.counts[name] = Math.max(this.counts[name] ?? 0, number);
  }

  // The smallest number of a name.
  least(name, number) {
    this.counts[name] = Math.min(this.counts[name] ?? number, number);
  }

  // The next `times` operations of a kind fail before their effect.
  plan(failures) {
    this.#planned.push(failures);
  }

  #error(kind, what) {
    if (kind.startsWith("r2")) {
      return new Error(`${what}: ${pick(this.#seed, "error", R2)}`);
    }
    if (kind.startsWith("kv")) {
      const reason = kind === "kv put" ? "429 Too Many Requests" : "500 Internal Server Error";
      return new Error(`KV ${what.toUpperCase()} failed: ${reason}`);
    }
    const [words, properties] = pick(this.#seed, "error", STUB);
    return Object.assign(new Error(words), properties);
  }
}
