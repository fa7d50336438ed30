// The memory of the module of this isolate: its instance passes through here when it is made.

const memories = [];

WebAssembly.Instance = class extends WebAssembly.Instance {
  constructor(...given) {
    super(...given);
    const { memory } = this.exports;
    if (memory instanceof WebAssembly.Memory) {
      memories.push(memory);
    }
  }
};

// Bytes; the module of a revived isolate takes the place of the one before.
export function moduleBytes() {
  return memories.at(-1)?.buffer.byteLength ?? 0;
}
