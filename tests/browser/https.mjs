// A live page behind TLS in a real browser, as one line of JSON a story.
//
//   node https.mjs PORT PMX_PROGRAM FOLDER CHROMIUM CERTIFICATE KEY
//
// The server at PORT has the domain `path.test`. A proxy in this process ends TLS before it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import net from "node:net";
import tls from "node:tls";
import { launch, patient, report, runner, write } from "./browser.mjs";

const [port, pmx, folder, executablePath, cert, key] = process.argv.slice(2);

const run = runner(pmx, folder);
const publish = (text) => {
  const page = `<!doctype html><html><head></head><body><p id="text">${text}</p></body></html>`;
  write(folder, { "index.html": page });
  run("sync", folder, "--space", "docs", "--live", "-q");
};

const open = new Set();
const options = { cert: readFileSync(cert), key: readFileSync(key) };
const proxy = tls.createServer(options, (socket) => {
  const server = net.connect(Number(port), "127.0.0.1");
  for (const end of [socket, server]) {
    open.add(end);
    end.on("error", () => {}).on("close", () => open.delete(end));
  }
  socket.pipe(server).pipe(socket);
});
await new Promise((done) => proxy.listen(0, "127.0.0.1", done));
const site = `https://docs.path.test:${proxy.address().port}/`;

const browser = await launch(executablePath, [
  "--ignore-certificate-errors",
  "--host-resolver-rules=MAP *.path.test 127.0.0.1",
]);

const shows = (page, text) =>
  page.waitForFunction(
    (text) => document.querySelector("#text")?.textContent === text && window.sockets?.open,
    patient,
    text,
  );

const stories = {
  async lost_socket_of_a_public_site_returns_within_ten_seconds() {
    publish("one");
    const page = await browser.newPage();
    await page.evaluateOnNewDocument(() => {
      // The waits are noted, and then cut short.
      window.sockets = { waits: [], open: 0 };
      Math.random = () => 0.9;
      const later = window.setTimeout;
      window.setTimeout = (task, wait, ...rest) => {
        if (task.name !== "connect") return later(task, wait, ...rest);
        window.sockets.waits.push(wait);
        return later(task, 0, ...rest);
      };
      const Real = window.WebSocket;
      window.WebSocket = class extends Real {
        constructor(...args) {
          super(...args);
          this.addEventListener("message", () => (window.sockets.open += 1));
        }
      };
    });
    await page.goto(site, { waitUntil: "load" });
    await shows(page, "one");
    publish("two");
    await shows(page, "two");
    // No other site of the domain could have set it.
    const [cookie] = await page.cookies();
    assert.equal(cookie.name, "__Host-_pmx_deploy");
    assert.deepEqual([cookie.secure, cookie.domain], [true, "docs.path.test"]);
    for (const socket of open) socket.destroy();
    await page.waitForFunction(() => window.sockets.waits.length > 0, patient);
    assert.equal(await page.evaluate(() => window.sockets.waits[0]), 9000);
    publish("three");
    await shows(page, "three");
  },
};

await report(stories, browser);
