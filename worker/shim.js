// The entry of the Worker: hands requests to the module, and starts it anew after a panic.
//
// A panic aborts. What the module's memory holds then is worth nothing, and so is every object in
// it: the next call begins with a fresh instance, and a space with a fresh object over its storage.

import { DurableObject } from "cloudflare:workers";
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

// The module takes up its tasks in microtasks. A promise's cost a tenth of the runtime's own.
const settled = Promise.resolve();
globalThis.queueMicrotask = (task) => {
  settled.then(() => {
    try {
      task();
    } catch (error) {
      mark(error);
      throw error;
    }
  });
};

async function guarded(call) {
  revive();
  try {
    return await call();
  } catch (error) {
    mark(error);
    throw error;
  }
}

// What the runtime throws while an object moves or restarts passes in a moment; a panic does not.
function unanswered(error) {
  if (error instanceof WebAssembly.RuntimeError) {
    throw error;
  }
  return module.unanswered(error);
}

// A request is answered to its end although its client left: one that the platform cancels leaves in
// the module's memory what it held, for as long as the isolate lives.
function finished(answering, context) {
  context.waitUntil(Promise.resolve(answering).catch(() => {}));
  return answering;
}

addEventListener("error", (event) => mark(event.error));

// Requests of a deployed server come by https, nearly all.
function plain(request, env) {
  return request.url.startsWith("http:") ? module.plain(request, env) : undefined;
}

export default {
  fetch(request, env, context) {
    // What streams answer goes through without passing the module.
    return guarded(() => {
      const passed =
        plain(request, env) ?? module.stream(request, env) ?? module.live(request, env);
      const answering = passed ?? module.fetch.call(this, request, env, context);
      // Readers that wait for something end with their clients.
      return passed && request.method === "GET" ? answering : finished(answering, context);
    }).catch(unanswered);
  },
};

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

  webSocketMessage(socket, message) {
    return guarded(() => this.#object().webSocketMessage(socket, message));
  }

  webSocketClose(socket, code, reason, clean) {
    return guarded(() => this.#object().webSocketClose(socket, code, reason, clean));
  }

  webSocketError(socket, error) {
    return guarded(() => this.#object().webSocketError(socket, error));
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

export class HubDO extends Revived {
  constructor(state, env) {
    super(state, env, () => new module.HubDO(state, env));
  }
}

export class StreamDO extends Revived {
  constructor(state, env) {
    super(state, env, () => new module.StreamDO(state, env));
  }
}
