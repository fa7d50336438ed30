// Live pages in a real browser: what a person would see, as one line of JSON a story.
//
//   node stories.mjs PORT PMX_PROGRAM FOLDER CHROMIUM
//
// Publishes with the real `pmx` (its environment says where) what lies in FOLDER.

import assert from "node:assert/strict";
import dns from "node:dns";
import { stream } from "@durable-streams/client";
import { launch, patient, runner, report, write as put } from "./browser.mjs";

const [port, pmx, folder, executablePath] = process.argv.slice(2);
const siteOf = (space) => `http://${space}.localhost:${port}`;

const write = (files) => put(folder, files);
const run = runner(pmx, folder);
const publish = (space, files = {}) => {
  write(files);
  run("sync", folder, "--space", space, "--live", "-q");
};

const pageOf = (text, more = "") => `<!doctype html><html><head>
<link rel="stylesheet" href="/style.css"></head><body style="height:4000px">
<p id="text">${text}</p><img src="/dot.svg" width="9">${more}</body></html>`;
const dot = (colour) =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9" fill="${colour}"/></svg>`;

// Not every system knows where names below localhost are; a browser does.
const lookup = dns.lookup;
dns.lookup = (name, ...rest) =>
  lookup(name.endsWith(".localhost") ? "127.0.0.1" : name, ...rest);

const first = {
  "index.html": pageOf("home"),
  "a.html": pageOf("a", '<script src="/app.js"></script>'),
  "b/index.html": pageOf("b"),
  "style.css": "p { color: rgb(1, 0, 0) }",
  "app.js": "window.app = 1;",
  "dot.svg": dot("red"),
};

const browser = await launch(executablePath);

// A tab that counts its loads and says what its stylesheet makes of it.
async function open(space, path, { visible = true } = {}) {
  const page = await browser.newPage();
  const tab = { page, loads: 0, requests: [] };
  page.on("load", () => (tab.loads += 1));
  page.on("request", (request) => tab.requests.push(new URL(request.url()).pathname));
  await page.evaluateOnNewDocument(() => {
    // Headless tabs are all visible; what hides one is said here.
    let hidden = false;
    Object.defineProperty(document, "hidden", { get: () => hidden });
    window.hide = (value) => {
      hidden = value;
      document.dispatchEvent(new Event("visibilitychange"));
    };
    const Real = window.WebSocket;
    [window.frames_, window.sockets_] = [[], []];
    window.WebSocket = class extends Real {
      constructor(...args) {
        super(...args);
        window.sockets_.push(this);
        this.addEventListener("message", ({ data }) => data === "pong" || window.frames_.push(data));
      }
    };
  });
  await page.goto(siteOf(space) + path, { waitUntil: "load" });
  if (visible) await received(tab, 1);
  tab.colour = () => page.$eval("#text", (text) => getComputedStyle(text).color);
  tab.text = () => page.$eval("#text", (text) => text.textContent);
  return tab;
}

// Waits until so many frames came since the page was loaded: from the first on it is live.
const received = (tab, count) =>
  tab.page.waitForFunction((count) => window.frames_?.length >= count, patient, count);
const becomes = (tab, what, value) =>
  tab.page.waitForFunction(
    (what, value) => {
      const text = document.querySelector("#text");
      if (!text) return false;
      return (what === "text" ? text.textContent : getComputedStyle(text).color) === value;
    },
    patient,
    what,
    value,
  );
// A text may be there before the load that brought it is counted.
const loaded = async (tab, count) => {
  for (let turn = 0; tab.loads < count && turn < 500; turn += 1) await pause(20);
  assert.equal(tab.loads, count);
};
// Waits until a page has all that was sent to it: the answer to a ping comes behind it.
const current = (tab) =>
  tab.page.evaluate(() => {
    const open = window.sockets_.filter(({ readyState }) => readyState === WebSocket.OPEN);
    const answers = open.map(
      (socket) =>
        new Promise((done) => {
          socket.addEventListener("message", ({ data }) => data === "pong" && done());
          socket.send("ping");
        }),
    );
    return Promise.all(answers).then((all) => all.length);
  });
// A page may receive its offset more than once, which is no change.
const nothingNew = async (tab) => {
  assert.equal(await current(tab), 1, "one open socket");
  for (const frame of await tab.page.evaluate(() => window.frames_)) {
    assert.deepEqual(JSON.parse(frame).events, []);
  }
};
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

const stories = {
  async stylesheet_is_replaced_without_a_load() {
    publish("one", first);
    const tab = await open("one", "/a");
    await tab.page.evaluate(() => (window.mark = 1));
    publish("one", { "style.css": "p { color: rgb(2, 0, 0) }" });
    await becomes(tab, "colour", "rgb(2, 0, 0)");
    publish("one", { "style.css": "p { color: rgb(3, 0, 0) }" });
    await becomes(tab, "colour", "rgb(3, 0, 0)");
    assert.equal(await tab.page.evaluate(() => window.mark), 1);
    await tab.page.waitForFunction(
      () => document.querySelectorAll('link[rel="stylesheet"]').length === 1,
      patient,
    );
    publish("one", { "dot.svg": dot("blue") });
    await tab.page.waitForFunction(() => /pmx=\d+$/.test(document.images[0].src), patient);
    assert.equal(tab.loads, 1);
    await tab.page.close();
  },

  async page_is_reloaded_only_where_it_changed() {
    publish("two", first);
    const [a, b, home] = [await open("two", "/a"), await open("two", "/b/"), await open("two", "/")];
    await a.page.evaluate(() => scrollTo(0, 1200));
    publish("two", { "a.html": pageOf("a2", '<script src="/app.js"></script>') });
    await becomes(a, "text", "a2");
    await a.page.waitForFunction(() => scrollY === 1200, patient);
    await received(a, 1);
    publish("two", { "app.js": "window.app = 2;" });
    await a.page.waitForFunction(() => window.app === 2, patient);
    await received(a, 1);
    publish("two", { "c.html": pageOf("c") });
    publish("two", { "b/index.html": pageOf("b2") });
    await becomes(b, "text", "b2");
    await loaded(b, 2);
    await nothingNew(a);
    await nothingNew(home);
    assert.deepEqual([a.loads, b.loads, home.loads], [3, 2, 1]);
    for (const tab of [a, b, home]) await tab.page.close();
  },

  async deploy_while_a_page_loads_is_not_missed() {
    publish("three", first);
    const page = await browser.newPage();
    await page.setRequestInterception(true);
    let published = false;
    page.on("request", async (request) => {
      // Between the page and its script, the page itself changes.
      if (new URL(request.url()).pathname === "/_pmx/live.js" && !published) {
        published = true;
        publish("three", { "b/index.html": pageOf("late") });
      }
      await request.continue();
    });
    await page.goto(`${siteOf("three")}/b/`, { waitUntil: "load" });
    await becomes({ page }, "text", "late");
    await page.close();
  },

  async hidden_tab_catches_up_with_one_net_event() {
    publish("four", first);
    const tab = await open("four", "/a");
    await tab.page.evaluate(() => window.hide(true));
    await tab.page.waitForFunction(
      () => window.sockets_.every(({ readyState }) => readyState === WebSocket.CLOSED),
      patient,
    );
    for (let number = 0; number < 50; number += 1) {
      publish("four", { "style.css": `p { color: rgb(4, ${number}, 0) }` });
    }
    const before = await tab.page.evaluate(() => window.frames_.length);
    await tab.page.evaluate(() => window.hide(false));
    await becomes(tab, "colour", "rgb(4, 49, 0)");
    await current(tab);
    const frames = await tab.page.evaluate(() => window.frames_);
    assert.equal(frames.length, before + 1, "one frame for fifty deploys");
    assert.equal(JSON.parse(frames.at(-1)).since, 1);
    assert.equal(tab.loads, 1);
    await tab.page.close();
  },

  async rollback_is_live() {
    publish("five", first);
    const tab = await open("five", "/a");
    publish("five", { "style.css": "p { color: rgb(5, 0, 0) }" });
    await becomes(tab, "colour", "rgb(5, 0, 0)");
    run("rollback", "1", "--space", "five", "-q");
    await becomes(tab, "colour", "rgb(1, 0, 0)");
    assert.equal(tab.loads, 1);
    await tab.page.close();
  },

  async sites_receive_their_own_events_only() {
    publish("six", first);
    publish("seven", first);
    const [six, seven] = [await open("six", "/a"), await open("seven", "/a")];
    publish("six", { "style.css": "p { color: rgb(6, 0, 0) }" });
    await becomes(six, "colour", "rgb(6, 0, 0)");
    await nothingNew(seven);
    assert.equal(await seven.colour(), "rgb(1, 0, 0)");
    for (const tab of [six, seven]) await tab.page.close();
  },

  async preview_is_live_and_its_site_receives_nothing() {
    publish("nine", first);
    const preview = (files) => {
      write(files);
      run("sync", folder, "--space", "nine", "--preview", "pr-7", "-q");
    };
    preview({});
    const [site, beside] = [await open("nine", "/a"), await open("pr-7--nine", "/a")];
    preview({ "style.css": "p { color: rgb(9, 0, 0) }" });
    await becomes(beside, "colour", "rgb(9, 0, 0)");
    preview({ "a.html": pageOf("a9") });
    await becomes(beside, "text", "a9");
    await loaded(beside, 2);
    await nothingNew(site);
    assert.equal(site.loads, 1);
    assert.equal(await site.colour(), "rgb(1, 0, 0)");
    publish("nine", {});
    await becomes(site, "colour", "rgb(9, 0, 0)");
    for (const tab of [site, beside]) await tab.page.close();
  },

  async preview_is_shown_that_was_opened_before_its_first_deploy() {
    publish("ten", first);
    const sites = ["pr-1--ten", "pr-2--eleven"];
    const tabs = await Promise.all(sites.map((site) => open(site, "/a", { visible: false })));
    // One of a site that is there, and one of a site that is not.
    run("sync", folder, "--space", "ten", "--preview", "pr-1", "-q");
    run("sync", folder, "--space", "eleven", "--preview", "pr-2", "-q");
    for (const tab of tabs) {
      await becomes(tab, "text", "a");
      await loaded(tab, 2);
    }
    // It lives on as any other.
    await received(tabs[1], 1);
    write({ "a.html": pageOf("a2") });
    run("sync", folder, "--space", "eleven", "--preview", "pr-2", "-q");
    await becomes(tabs[1], "text", "a2");
    assert.equal(tabs[0].loads, 2);
    for (const tab of tabs) await tab.page.close();
  },

  async returning_browser_is_sent_the_difference() {
    const words = Array.from({ length: 4000 }, (_, n) => ((n * 2654435761) % 2 ** 32).toString(36));
    const release = (version) => {
      write({
        "long.html": `<title>${version}</title><script src="/app-${version}4f3c2a1b9d.js"></script>
          <p>${words.join(" ")}</p>`,
        [`app-${version}4f3c2a1b9d.js`]: `window.app = ${version}; /*${words.join(";")}*/`,
      });
      run("sync", folder, "--space", "back", "-q");
    };
    release(1);
    const page = await browser.newPage();
    const watched = await page.createCDPSession();
    await watched.send("Network.enable");
    const [names, sizes] = [new Map(), new Map()];
    watched.on("Network.requestWillBeSent", ({ requestId, request }) =>
      names.set(requestId, new URL(request.url).pathname));
    watched.on("Network.loadingFinished", ({ requestId, encodedDataLength }) =>
      sizes.set(names.get(requestId), encodedDataLength));
    // Visits the page, and says how many bytes came for it and for its script, heads and all.
    const visit = async () => {
      await page.goto("about:blank");
      await page.goto(`${siteOf("back")}/long`, { waitUntil: "networkidle0" });
      const version = await page.evaluate(() => window.app);
      assert.equal(await page.title(), String(version));
      return [version, sizes.get("/long"), sizes.get(`/app-${version}4f3c2a1b9d.js`)];
    };
    const [one, ...whole] = await visit();
    assert.equal(one, 1);
    assert(whole.every((size) => size > 10000), `${whole}`);
    release(2);
    const [two, ...differences] = await visit();
    assert.equal(two, 2);
    assert(differences.every((size) => size < 1200), `${differences}`);
    // It was asked to keep the page, and never takes the kept one for what is there now.
    release(3);
    const text = await page.evaluate(() => fetch("/long").then((answer) => answer.text()));
    assert(text.includes("<title>3</title>"));
    assert.equal((await visit())[0], 3);
    await page.close();
  },

  async durable_streams_client_reads_events_live() {
    publish("eight", first);
    const seen = [];
    const read = async (offset, live, enough) => {
      const aborted = new AbortController();
      const response = await stream({
        url: `${siteOf("eight")}/_events`,
        offset,
        live,
        json: true,
        signal: aborted.signal,
      });
      return new Promise((done, failed) => {
        setTimeout(() => failed(new Error(`${seen.length} of ${enough}`)), 20000).unref();
        response.subscribeJson(async (batch) => {
          seen.push(...batch.items.map((message) => message.deploy));
          if (seen.length >= enough) {
            aborted.abort();
            done(batch.offset);
          }
        });
      });
    };
    const live = read("-1", "long-poll", 2);
    publish("eight", { "a.html": pageOf("8") });
    const offset = await live;
    publish("eight", { "a.html": pageOf("88") });
    publish("eight", { "a.html": pageOf("888") });
    const rest = read(offset, "sse", 5);
    publish("eight", { "a.html": pageOf("8888") });
    await rest;
    assert.deepEqual(seen, [1, 2, 3, 4, 5]);
  },
};

await report(stories, browser);
