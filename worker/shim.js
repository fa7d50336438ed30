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

addEventListener("error", (event) => mark(event.error));

// Requests of a deployed server come by https, nearly all.
function plain(request, env) {
  return request.url.startsWith("http:") ? module.plain(request, env) : undefined;
}

export default {
  fetch(request, env, context) {
    let isReader = false;
    const answering = guarded(() => {
      // What streams answer goes through without passing the module.
      const passed =
        plain(request, env) ?? module.stream(request, env) ?? module.live(request, env);
      isReader = passed && request.method === "GET";
      return passed ?? module.fetch.call(this, request, env, context);
    }).catch(unanswered);
    // A request is answered to its end although its client left: one that the platform cancels
    // leaves in the module's memory what it held, for as long as the isolate lives. Readers that
    // wait for something end with their clients.
    if (!isReader) {
      context.waitUntil(answering);
    }
    return answering;
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

  fetch(request, body) {
    return guarded(() => this.#object().fetch(request, body));
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

// A body that is short enough to be read before anything is known of the request.
const SHORT_BYTES = 16384;

async function short(request) {
  const length = request.method === "POST" ? Number(request.headers.get("content-length")) : 0;
  if (length > 0 && length <= SHORT_BYTES) {
    return new Uint8Array(await request.arrayBuffer());
  }
}

export class SpaceDO extends Revived {
  constructor(state, env) {
    super(state, env, () => new module.SpaceDO(state, env));
  }
}

export class DomainsDO extends Revived {
  constructor(state, env) {
    super(state, env, () => new module.DomainsDO(state, env));
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

  async fetch(request) {
    return super.fetch(request, await short(request));
  }
}
