// KV as another place sees it: what was written shows after a lag of the isolate's own, and what was
// missing stays missing for a while.
//
// Beside each value lies what was written before it, and when. A value written past this wrapper
// counts at once.

import { fraction } from "./chance.js";

const LAG_MAX = 60_000;
const MISSING_MIN = 30_000;
const MISSING_MAX = 60_000;
// Writes of a key, one a second at most, that may still be on their way.
const WRITES_MAX = 64;

export class LaggingKv {
  #kv;
  #isolate;
  #scale;
  #missing = new Map();
  #written = new Map();

  // Times are multiplied by `scale`.
  constructor(kv, isolate, scale) {
    this.#kv = kv;
    this.#isolate = isolate;
    this.#scale = scale;
  }

  async get(key) {
    const now = Date.now();
    const until = this.#missing.get(key);
    if (until > now) {
      return null;
    }
    this.#missing.delete(key);
    const shown = await this.#shown(key, now);
    if (shown === null && this.#scale > 0) {
      const span = MISSING_MIN + this.#own(`${key} missing ${now}`) * (MISSING_MAX - MISSING_MIN);
      this.#missing.set(key, now + span * this.#scale);
    }
    return shown;
  }

  async put(key, value, options) {
    const now = Date.now();
    const [writes, current] = await Promise.all([this.#writes(key), this.#kv.get(key)]);
    if (writes.length === 0 && current !== null) {
      writes.push([0, current]);
    }
    writes.push([now, value]);
    await this.#kv.put(history(key), JSON.stringify(writes.slice(-WRITES_MAX)));
    await this.#kv.put(key, value, options);
    this.#written.set(key, now);
  }

  // What this isolate wrote, and when.
  written() {
    return [...this.#written];
  }

  // When this isolate shows what was written then.
  settles(written) {
    const times = written.map(([key, at]) =>
      Math.max(at + this.#lag(key, at), this.#missing.get(key) ?? 0),
    );
    return Math.max(0, ...times);
  }

  async #shown(key, now) {
    const [writes, current] = await Promise.all([this.#writes(key), this.#kv.get(key)]);
    if (writes.at(-1)?.[1] !== current) {
      return current;
    }
    const isShown = ([at]) => at + this.#lag(key, at) <= now;
    return writes.findLast(isShown)?.[1] ?? null;
  }

  #lag(key, at) {
    return at === 0 ? 0 : this.#own(`${key} ${at}`) * LAG_MAX * this.#scale;
  }

  #own(name) {
    return fraction(`${this.#isolate} ${name}`);
  }

  async #writes(key) {
    return (await this.#kv.get(history(key), "json")) ?? [];
  }
}

function history(key) {
  return `written/${key}`;
}
