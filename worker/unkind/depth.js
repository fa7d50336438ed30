// The depth of calls, as the platform counts it: each object that another one asks lies one deeper
// than what reached that one last, an alarm begins anew, and what lies too deep is refused.

import { over } from "./bindings.js";

const HEADER = "x-unkind-depth";
const MAX = 16;
// The Worker itself is the first.
const ASKED_BY_WORKER = 2;

export class Depth {
  #now = 0;
  #faults;

  constructor(faults) {
    this.#faults = faults;
  }

  // A request reached the object.
  arrived(request) {
    this.#now = Number(request.headers.get(HEADER) ?? ASKED_BY_WORKER);
    this.#faults.most("depth", this.#now);
  }

  // An alarm did.
  rung() {
    this.#now = 1;
  }

  // `env` as the object is to see it.
  within(env) {
    const objects = ["SPACE", "STREAM", "HUB"].map((name) => [name, this.#namespace(env[name])]);
    return { ...env, ...Object.fromEntries(objects) };
  }

  #namespace(objects) {
    const deeper = (stub) => over(stub, { fetch: (request) => this.#ask(stub, request) });
    return over(objects, {
      getByName: (...given) => deeper(objects.getByName(...given)),
      get: (...given) => deeper(objects.get(...given)),
    });
  }

  async #ask(stub, request) {
    const depth = this.#now + 1;
    if (depth > MAX) {
      this.#faults.note("too deep");
      throw new Error("Subrequest depth limit exceeded. This request recursed through Workers too many times.");
    }
    const deeper = new Request(request);
    deeper.headers.set(HEADER, String(depth));
    return stub.fetch(deeper);
  }
}
