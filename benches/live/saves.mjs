// From a save to the browser's repaint.
//
//   node saves.mjs ORIGIN FOLDER PAGE SAVES CHROMIUM
//
// Gives the page a stylesheet of its own, and saves the stylesheet and the page by turns; prints
// the milliseconds from before each write to the first paint that shows it:
// {"stylesheet": [...], "page": [...], "load": [...]}. The last is what the browser takes to load
// the same page again with nothing changed: no save of a page can be shown sooner.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const [origin, folder, address, saves, executablePath] = process.argv.slice(2);
const files = { page: join(folder, address), stylesheet: join(folder, "saved.css") };

const browser = await puppeteer.launch({
  executablePath,
  headless: true,
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});
const page = await browser.newPage();

// What waits for the next paint that shows something.
let waiting = { shows: "", done: () => {} };
await page.exposeFunction("painted", (shows, at) => {
  if (shows === waiting.shows) waiting.done(at);
});
await page.evaluateOnNewDocument(() => {
  let last = "";
  const look = () => {
    const root = document.documentElement;
    const style = root && getComputedStyle(root).getPropertyValue("--saved").trim();
    const meta = document.querySelector('meta[name="saved"]')?.content;
    const shows = `${meta ?? ""} ${style ?? ""}`;
    // A frame's callbacks run before it is painted; the next task comes after that.
    if (root && shows !== last) {
      last = shows;
      const channel = new MessageChannel();
      channel.port1.onmessage = () => {
        window.painted(shows, performance.timeOrigin + performance.now());
      };
      channel.port2.postMessage(0);
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
});

const original = readFileSync(files.page);
const link = '<link rel="stylesheet" href="/saved.css">';
const written = {
  page: (number) => `${original}${link}<meta name="saved" content="p${number}">`,
  stylesheet: (number) => `:root{--saved:s${number}}`,
};

const now = () => performance.timeOrigin + performance.now();
async function show(shows, what, act) {
  const painted = new Promise((done, failed) => {
    waiting = { shows, done };
    setTimeout(() => failed(new Error(`${what} was never shown`)), 20_000).unref();
  });
  const start = now();
  act();
  return (await painted) - start;
}

// An author looks at what they saved before they save again.
const look = () => new Promise((done) => setTimeout(done, 1_500));

writeFileSync(files.stylesheet, written.stylesheet("first"));
writeFileSync(files.page, written.page("first"));
// A slow disk takes longer than a person.
for (let times = 0; times < 4; times += 1) await look();
await page.goto(`${origin}/${address}`, { waitUntil: "load" });
const took = { stylesheet: [], page: [], load: [] };
const shown = ["pfirst", "sfirst"];
for (let number = 0; number < Number(saves); number += 1) {
  for (const [at, what] of [[1, "stylesheet"], [0, "page"]]) {
    await look();
    shown[at] = `${what[0]}${number}`;
    const save = () => writeFileSync(files[what], written[what](number));
    took[what].push(await show(shown.join(" "), `${what} ${number}`, save));
  }
  await look();
  const reload = () => void page.evaluate(() => location.reload()).catch(() => {});
  took.load.push(await show(shown.join(" "), "the page", reload));
}
await browser.close();
writeFileSync(files.page, original);
rmSync(files.stylesheet);
// The first save is not measured: caches are cold.
for (const times of Object.values(took)) times.shift();
console.log(JSON.stringify(took));
process.exit(0);
