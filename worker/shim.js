// The entry of the Worker: hands requests to the module, and starts it anew after a panic.
//
// A panic aborts. What the module's memory holds then is worth nothing, and so is every object in
// it: the next call begins with a fresh instance, and a space with a fresh object over its storage.

import { DurableObject, WorkerEntrypoint } from "cloudflare:workers";
import * as module from "./glue.js";

const life = module.__worker_init_state();

function revive() {
  if (life.criticalError) {
    module.__wbg_reset_state();
    life.criticalError = false;
    life.instanceId += 1;
  }
}

function mark(error) {
  if (error instanceof WebAssembly.RuntimeError) {
    console.error("the module was aborted:", error);
    life.criticalError = true;
  }
}

async function guarded(call) {
  revive();
  try {
    return await call();
  } catch (error) {
    mark(error);
    throw error;
  }
}

addEventListener("error", (event) => mark(event.error));

export default class extends WorkerEntrypoint {
  fetch(request) {
    // What streams answer goes through without passing the module.
    return guarded(
      () =>
        module.stream(request, this.env) ??
        module.fetch.call(this, request, this.env, this.ctx),
    );
  }
}

class Revived extends DurableObject {
  #make;
  #made;
  #life;

  constructor(state, env, make) {
    super(state, env);
    this.#make = make;
  }

  fetch(request) {
    return guarded(() => this.#object().fetch(request));
  }

  alarm() {
    return guarded(() => this.#object().alarm());
  }

  #object() {
    if (this.#life !== life.instanceId) {
      this.#made = this.#make();
      this.#life = life.instanceId;
    }
    return this.#made;
  }
}

export class SpaceDO extends Revived {
  constructor(state, env) {
    super(state, env, () => new module.SpaceDO(state, env));
  }
}

export class StreamDO extends Revived {
  constructor(state, env) {
    super(state, env, () => new module.StreamDO(state, env));
  }
}
