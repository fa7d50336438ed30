// What an append costs workerd's processor: a bare Durable Object, this Worker, and other builds of
// it, in turns, each straight to its socket over connections that stay open.
//
//   node benches/streams/appends.js [--rounds N] [--on DIR] [--pin CPU] [NAME=BUILD ...]
//
// Without builds it measures `worker/build`, which `cargo xtask worker` makes. The folder of `--on`
// decides what a write to the disk costs: in `/dev/shm`, nothing. With `--pin`, each workerd stays on
// one processor; `taskset` in front of the command keeps the client on another.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { parseArgs } from "node:util";

const root = join(import.meta.dirname, "../..");
const { values: options, positionals: builds } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "9" },
    on: { type: "string", default: "/var/tmp" },
    pin: { type: "string" },
  },
});
const rounds = Number(options.rounds);
const others = builds.length > 0 ? builds : [`worker=${join(root, "worker/build")}`];

// Who appends: a name, writers, streams, and appends of a round.
const MODES = [
  ["one writer", 1, 1, 400],
  ["32 writers, one stream", 32, 1, 960],
  ["32 writers, 32 streams", 32, 32, 960],
];

// V8 compiles beside the first thousands of appends.
const WARM = 1600;

// Milliseconds before and after what is measured.
const REST = 50;

// Starts a server, which ends with its stdin.
async function start(name, script, more) {
  const data = mkdtempSync(join(options.on, "pmx-appends-"));
  const child = spawn("node", [join(root, script), "--direct", "--data", data, ...more], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, STREAM_ACCESS: "open", LOG_SAMPLE: "0.01" },
  });
  const address = await new Promise((found) => child.stdout.once("data", (line) => found(`${line}`)));
  const port = Number(/:(\d+)\//.exec(address)[1]);
  const workerd = readdirSync("/proc").find((id) => isWorkerdOf(id, child.pid));
  if (options.pin) {
    execFileSync("taskset", ["--all-tasks", "--pid", "--cpu-list", options.pin, workerd]);
  }
  const connections = Array.from({ length: 32 }, () => new Connection(port));
  return { name, data, child, workerd, connections };
}

function isWorkerdOf(id, parent) {
  try {
    const stat = readFileSync(`/proc/${Number(id)}/stat`, "utf8");
    return stat.includes("(workerd)") && Number(stat.split(") ")[1].split(" ")[1]) === parent;
  } catch {
    return false;
  }
}

// Microseconds that all threads of a process ran so far.
function processor(id) {
  const times = readdirSync(`/proc/${id}/task`).map((thread) => {
    try {
      return Number(readFileSync(`/proc/${id}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
    } catch {
      return 0;
    }
  });
  return times.reduce((sum, time) => sum + time, 0) / 1000;
}

// A connection that asks one thing after the other.
class Connection {
  constructor(port) {
    this.port = port;
  }

  // The server closes one that waited for seconds, so each turn begins with a new one.
  close() {
    this.socket?.removeAllListeners().destroy();
    this.socket = undefined;
  }

  ask(method, path, body) {
    const socket = this.socket ?? this.#open();
    const length = Buffer.byteLength(body);
    return new Promise((taken, failed) => {
      this.waiting = { taken, failed };
      socket.write(
        `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1:${this.port}\r\n` +
          `Content-Type: application/json\r\nContent-Length: ${length}\r\n\r\n${body}`,
      );
    });
  }

  #open() {
    let text = "";
    this.socket = connect(this.port, "127.0.0.1").setNoDelay(true);
    const closed = (error) => this.waiting?.failed(error || new Error("the server hung up"));
    this.socket.on("error", closed).on("close", closed);
    this.socket.on("data", (bytes) => {
      text += bytes.toString("latin1");
      const end = text.indexOf("\r\n\r\n") + 4;
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? 0);
      if (end < 4 || text.length < end + length) {
        return;
      }
      const { taken, failed } = this.waiting;
      const answer = text;
      text = "";
      this.waiting = undefined;
      answer.startsWith("HTTP/1.1 20") ? taken() : failed(new Error(answer));
    });
    return this.socket;
  }
}

const message = (number) => JSON.stringify({ type: "message", number, text: "a line ".repeat(20) });
const rest = () => new Promise((done) => setTimeout(done, REST));
let made = 0;

// Appends to new streams, and says what one append cost.
async function turn({ workerd, connections }, writers, streams, appends) {
  const paths = Array.from({ length: streams }, () => `/v1/stream/appends-${made++}`);
  connections.forEach((connection) => connection.close());
  for (const path of paths) {
    await connections[0].ask("PUT", path, "");
  }
  for (const [writer, connection] of connections.slice(0, writers).entries()) {
    await connection.ask("POST", paths[writer % streams], message(0));
  }
  await rest();
  const before = processor(workerd);
  const writing = connections.slice(0, writers).map(async (connection, writer) => {
    for (let number = 0; number < appends / writers; number += 1) {
      await connection.ask("POST", paths[writer % streams], message(number));
    }
  });
  await Promise.all(writing);
  await rest();
  return (processor(workerd) - before) / appends;
}

const sorted = (numbers) => numbers.toSorted((one, other) => one - other);
const median = (numbers) => sorted(numbers)[Math.floor(numbers.length / 2)];

const places = [await start("bare", "benches/streams/bare.js", [])];
for (const build of others) {
  const [name, folder] = build.split("=");
  places.push(await start(name, "worker/local.js", ["--until-stdin-ends", "--build", folder]));
}
for (const place of places) {
  for (const [, writers, streams] of MODES) {
    await turn(place, writers, streams, WARM);
  }
}
for (const [name, writers, streams, appends] of MODES) {
  const costs = places.map(() => []);
  for (let round = 0; round < rounds; round += 1) {
    for (const at of places.keys()) {
      const next = (at + round) % places.length;
      costs[next].push(await turn(places[next], writers, streams, appends));
    }
  }
  console.log(`an append, ${name}: microseconds of workerd, ${rounds} rounds of ${appends}`);
  const [bare] = costs;
  for (const [at, own] of costs.entries()) {
    const ratios = own.map((cost, round) => cost / bare[round]);
    console.log(
      `  ${places[at].name}: least ${Math.min(...own).toFixed(0)}, median ${median(own).toFixed(0)};`,
      `of bare: least ${(Math.min(...own) / Math.min(...bare)).toFixed(2)},`,
      `medians ${(median(own) / median(bare)).toFixed(2)}, paired ${median(ratios).toFixed(2)}`,
    );
  }
}
for (const { child, connections, data } of places) {
  connections.forEach((connection) => connection.close());
  child.stdin.end();
  await new Promise((ended) => child.on("exit", ended));
  rmSync(data, { recursive: true });
}
