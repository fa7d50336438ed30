// The memory that isolates take, as the platform's limit of 128 MB counts it: the heap of JavaScript
// and buffers, by the inspector of the runtime, and the module's memory, which never shrinks.

import WebSocket from "ws";

const PAUSE = 100;

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
    const ask = () => {
      // Garbage counts only as long as it can't be collected.
      socket.send(JSON.stringify({ id: 1, method: "HeapProfiler.collectGarbage" }));
      socket.send(JSON.stringify({ id: 2, method: "Runtime.getHeapUsage" }));
    };
    socket.on("open", ask);
    socket.on("message", (text) => {
      const { id, result } = JSON.parse(text);
      if (id === 2) {
        const { usedSize, embedderHeapUsedSize, backingStorageSize } = result;
        const bytes = usedSize + embedderHeapUsedSize + backingStorageSize;
        this.#peaks[name] = Math.max(this.#peaks[name], bytes);
        setTimeout(ask, PAUSE);
      }
    });
    socket.on("error", (error) => console.error(`unkind: the memory of ${name}: ${error}`));
  }

  // The most bytes that each isolate had beside its module.
  get peaks() {
    return this.#peaks;
  }
}
