// Open pages, as sockets.
//
//   PMX=... node crowd.mjs receivers PORT SPACE SITE SERVER how many of 1,000 pages receive an edit
//   node crowd.mjs many PORT SPACE SECRET SOCKETS DEPLOYS   what it takes to send all a deploy
//
// Prints one line of JSON.

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, posix } from "node:path";
import WebSocket from "ws";

const [task, port, space, ...rest] = process.argv.slice(2);
const PAGES = 1_000;

function open(wish, receive, secret) {
  return new Promise((ready, failed) => {
    const headers = { Host: `${space}.localhost:${port}` };
    if (secret) headers.Authorization = `Bearer ${secret}`;
    const socket = new WebSocket(`ws://127.0.0.1:${port}/_events`, "pmx.v1", { headers });
    let said = false;
    socket.on("error", failed);
    socket.on("open", () => socket.send(JSON.stringify(wish)));
    socket.on("message", (data) => {
      const frame = JSON.parse(data);
      if (!said) {
        said = true;
        ready({ socket, frame });
      } else {
        receive(frame);
      }
    });
  });
}

async function all(count, one) {
  const made = [];
  for (let start = 0; start < count; start += 100) {
    const some = Array.from({ length: Math.min(100, count - start) }, (_, at) => one(start + at));
    made.push(...(await Promise.all(some)));
  }
  return made;
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// What a page of HTML asks for when it is loaded.
function usesOf(file, html) {
  const tags = html.match(/<(?:link|script|img)\b[^>]*>/g) ?? [];
  const uses = new Set();
  for (const tag of tags) {
    if (tag.startsWith("<link") && !/stylesheet|icon|preload/.test(tag)) continue;
    const address = tag.match(/\b(?:href|src)="([^"#?]+)/)?.[1];
    if (!address || /^[a-z]+:|^\/\//.test(address)) continue;
    uses.add(posix.resolve("/", posix.dirname(file), address));
  }
  return [...uses];
}

async function receivers([site, server]) {
  const files = readdirSync(site, { recursive: true }).filter((file) => file.endsWith(".html"));
  files.sort();
  const step = Math.floor(files.length / PAGES);
  const pages = Array.from({ length: PAGES }, (_, at) => {
    const file = files[at * step];
    return { file, uses: usesOf(file, readFileSync(join(site, file), "utf8")) };
  });
  const users = new Map();
  for (const { uses } of pages) {
    for (const use of uses) users.set(use, (users.get(use) ?? 0) + 1);
  }
  const used = (kind) =>
    [...users].filter(([use]) => kind.test(use)).sort(([, a], [, b]) => b - a);
  const stylesheets = used(/\.css$/);
  const images = used(/\.(png|svg|ico|jpg|webp)$/);
  let count = 0;
  await all(PAGES, (at) => {
    const { file, uses } = pages[at];
    return open({ page: `/${file}`, uses, offset: "now" }, () => (count += 1));
  });
  const edit = async (file, text) => {
    count = 0;
    writeFileSync(join(site, file), text(file));
    const args = ["sync", site, "--server", server, "--space", space, "-q", "--allow-collisions"];
    execFileSync(process.env.PMX, args);
    // Every page that receives the edit has it by now.
    await pause(2_000);
    return count;
  };
  const longer = (file) => Buffer.concat([readFileSync(join(site, file)), Buffer.from("\n")]);
  const rows = [
    ["a page", pages[500].file, longer],
    ["the stylesheet of most pages", stylesheets[0][0], longer],
    ["a stylesheet of one book", stylesheets.at(-1)[0], longer],
    ["an image", images.at(-1)[0], longer],
    ["a new page", "a-page-that-is-new.html", () => "<p>new"],
  ];
  const result = [];
  for (const [what, file, text] of rows) {
    const use = file.startsWith("/") ? file : `/${file}`;
    const users_ = what === "a page" ? 1 : (users.get(use) ?? 0);
    result.push({ what, received: await edit(file, text), concerned: users_ });
  }
  return result;
}

async function many([secret, sockets, deploys]) {
  const [count, last] = [Number(sockets), Number(deploys)];
  let [arrived, wrong, number] = [0, 0, 0];
  const latencies = [];
  let [start, done] = [0, () => {}];
  const at = [];
  await all(count, async (index) => {
    const { frame } = await open({ all: true, offset: "now" }, (next) => {
      if (next.deploy !== at[index] + 1) wrong += 1;
      at[index] = next.deploy;
      latencies.push(performance.now() - start);
      arrived += 1;
      if (arrived === count) done();
    }, secret);
    at[index] = frame.deploy;
    number = frame.deploy;
  });
  for (let deploy = 0; deploy < last; deploy += 1) {
    number += 1;
    arrived = 0;
    const allArrived = new Promise((all) => (done = all));
    const body = JSON.stringify({ v: 1, space, to: 2 - (number % 2), key: `k${number}` });
    start = performance.now();
    const answer = await fetch(`http://127.0.0.1:${port}/api/publish/rollback`, {
      method: "POST",
      headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
      body,
    });
    if (!answer.ok) throw new Error(await answer.text());
    await Promise.race([allArrived, pause(20_000)]);
  }
  latencies.sort((a, b) => a - b);
  const rank = (part) => latencies[Math.ceil(latencies.length * part) - 1];
  const share = latencies.length / (count * last);
  return { share: wrong ? 0 : share, p50: rank(0.5), p95: rank(0.95), p99: rank(0.99) };
}

console.log(JSON.stringify(await { receivers, many }[task](rest)));
process.exit(0);
