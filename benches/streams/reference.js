// The reference server of Durable Streams, as npm has it, on this machine.
//
//   node benches/streams/reference.js --port N [--data DIR]
//
// Without a folder it keeps everything in memory.

import { parseArgs } from "node:util";
import { DurableStreamTestServer } from "@durable-streams/server";

const { values: options } = parseArgs({
  options: { data: { type: "string" }, port: { type: "string" } },
});
await new DurableStreamTestServer({
  host: "127.0.0.1",
  port: Number(options.port),
  ...(options.data && { dataDir: options.data }),
}).start();
