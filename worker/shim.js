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
    return guarded(() => module.fetch.call(this, request, this.env, this.ctx));
  }
}

export class SpaceDO extends DurableObject {
  #make;
  #made;
  #life;

  constructor(state, env) {
    super(state, env);
    this.#make = () => new module.SpaceDO(state, env);
  }

  fetch(request) {
    return guarded(() => this.#space().fetch(request));
  }

  alarm() {
    return guarded(() => this.#space().alarm());
  }

  #space() {
    if (this.#life !== life.instanceId) {
      this.#made = this.#make();
      this.#life = life.instanceId;
    }
    return this.#made;
  }
}
