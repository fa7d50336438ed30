// The memory that isolates take, as the platform's limit of 128 MB counts it: the heap of JavaScript
// and buffers, by the inspector of the runtime, and the module's memory, which never shrinks.

import WebSocket from "ws";

const PAUSE = 50;

// What is asked, one after the other. Garbage counts only as long as it can't be collected: a search
// for objects begins with its collection, and ends before anything else runs in the isolate.
const CONTEXT = "Runtime.enable";
const PROTOTYPE = "Runtime.evaluate";
const COLLECT = "Runtime.queryObjects";
const RELEASE = "Runtime.releaseObjectGroup";
const USAGE = "Runtime.getHeapUsage";
const FOUND = "found";

export class Memory {
  #peaks = {};

  // Watches isolates by the inspector at a port of this machine.
  constructor(port, names) {
    for (const name of names) {
      this.#peaks[name] = 0;
      this.#watch(new WebSocket(`ws://127.0.0.1:${port}/core:user:${name}`), name);
    }
  }

  #watch(socket, name) {
    const methods = [CONTEXT, PROTOTYPE, COLLECT, RELEASE, USAGE];
    const ask = (method, params) =>
      socket.send(JSON.stringify({ id: methods.indexOf(method), method, params }));
    let prototypeObjectId;
    const look = () => {
      ask(COLLECT, { prototypeObjectId, objectGroup: FOUND });
      ask(USAGE);
      ask(RELEASE, { objectGroup: FOUND });
    };
    socket.on("open", () => ask(CONTEXT));
    socket.on("message", (text) => {
      const { id, result, method, params } = JSON.parse(text);
      if (method === "Runtime.executionContextCreated") {
        ask(PROTOTYPE, { expression: "(class {}).prototype", contextId: params.context.id });
      } else if (methods[id] === PROTOTYPE) {
        prototypeObjectId = result.result.objectId;
        look();
      } else if (methods[id] === USAGE) {
        this.#peaks[name] = Math.max(this.#peaks[name], bytes(result));
        setTimeout(look, PAUSE);
      }
    });
    socket.on("error", (error) => console.error(`unkind: the memory of ${name}: ${error}`));
  }

  // The most bytes that each isolate had beside its module.
  get peaks() {
    return this.#peaks;
  }
}

function bytes({ usedSize, embedderHeapUsedSize, backingStorageSize }) {
  return usedSize + embedderHeapUsedSize + backingStorageSize;
}
