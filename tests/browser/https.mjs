// A live page behind TLS in a real browser, as one line of JSON a story.
//
//   node https.mjs PORT PMX_PROGRAM FOLDER CHROMIUM CERTIFICATE KEY
//
// The server at PORT has the domain `path.test`. A proxy in this process ends TLS before it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import net from "node:net";
import { dirname, join } from "node:path";
import tls from "node:tls";
import puppeteer from "puppeteer-core";

const [port, pmx, folder, executablePath, cert, key] = process.argv.slice(2);

const publish = (text) => {
  const page = `<!doctype html><html><head></head><body><p id="text">${text}</p></body></html>`;
  writeFileSync(join(folder, "index.html"), page);
  const args = ["sync", folder, "--space", "docs", "--live", "-q"];
  execFileSync(pmx, args, { cwd: dirname(folder), encoding: "utf8" });
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

const browser = await puppeteer.launch({
  executablePath,
  headless: true,
  args: [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--ignore-certificate-errors",
    "--host-resolver-rules=MAP *.path.test 127.0.0.1",
  ],
});

// What is waited for: a tab behind others paints nothing, so there is no frame to look at it in.
const patient = { timeout: 20000, polling: 20 };
const shows = (page, text) =>
  page.waitForFunction(
    (text) => document.querySelector("#text")?.textContent === text && window.sockets?.open,
    patient,
    text,
  );

const stories = {
  async a_lost_socket_of_a_public_site_comes_back_within_ten_seconds() {
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

for (const [name, story] of Object.entries(stories)) {
  try {
    await story();
    console.log(JSON.stringify({ story: name, passed: true }));
  } catch (error) {
    console.log(JSON.stringify({ story: name, passed: false, why: String(error.stack) }));
  }
}
await browser.close();
proxy.close();
for (const socket of open) socket.destroy();
