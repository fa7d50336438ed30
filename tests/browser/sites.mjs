// Sites of generators in a real browser: published, and browsed as a visitor does. Prints one line of
// JSON a story.
//
//   node sites.mjs PORT PMX_PROGRAM CHROMIUM NAME=FOLDER...
//
// No step depends on the hash in a file's name, so outputs of other releases of a generator pass too.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { launch, patient, report } from "./browser.mjs";

const [port, pmx, executablePath, ...folders] = process.argv.slice(2);
const hashed = "public, max-age=31536000, immutable";
const revalidated = "public, max-age=0, must-revalidate";

// What a visitor does, and the text that only the right page has:
// - home: the first page
// - clicks: [text of the link, path then, text then]; with `stays`, the page is exchanged by its own
//   script, without another load
// - deep: pages that are opened by their address
// - old: [old path, statuses on the way, path then, text then]
// - headers: [path of a file or page that was loaded, name, value]
// - missing: [path, status, text]
const sites = {
  vite: {
    home: ["/", "Welcome to the orchard"],
    stays: true,
    clicks: [
      ["Apples", "/apples", "Boskoop keeps until spring."],
      ["Conference", "/pears/conference", "The pear called conference ripens in October."],
      ["Orchard", "/", "Welcome to the orchard"],
    ],
    deep: [
      ["/pears/williams", "The pear called williams ripens in October."],
      ["/apples", "Boskoop keeps until spring."],
    ],
    old: [
      ["/fruit/quince", [301], "/pears/quince", "The pear called quince ripens in October."],
      ["/index.html", [307], "/", "Welcome to the orchard"],
    ],
    headers: [
      [/^\/assets\/index-.*\.js$/, "cache-control", hashed],
      [/^\/assets\/apples-.*\.css$/, "cache-control", hashed],
      [/^\/apples$/, "cache-control", revalidated],
    ],
    missing: [
      ["/no/tree", 200, "No tree stands here"],
      ["/assets/gone.js", 404, "404 Not Found"],
    ],
  },
  vitepress: {
    home: ["/", "A loom holds the warp under tension."],
    stays: true,
    clicks: [
      ["guide", "/guide/", "The guide has two parts."],
      ["warping", "/guide/warping", "Wind the threads around the pegs, and count them twice."],
    ],
    deep: [
      ["/guide/warping", "Wind the threads around the pegs, and count them twice."],
      ["/guide/warping#tension", "Each thread has the same tension."],
    ],
    old: [
      ["/manual/warping", [301], "/guide/warping", "Wind the threads around the pegs"],
      ["/guide/warping.html", [307], "/guide/warping", "Wind the threads around the pegs"],
      ["/guide", [307], "/guide/", "The guide has two parts."],
    ],
    headers: [
      [/^\/assets\/chunks\/framework\..*\.js$/, "cache-control", hashed],
      [/^\/guide\/warping$/, "content-type", "text/html; charset=utf-8"],
    ],
    missing: [["/guide/weft", 404, "PAGE NOT FOUND"]],
  },
  mkdocs: {
    home: ["/", "Clay becomes stone in a kiln."],
    clicks: [["firing", "/user/firing/", "Raise the heat slowly, by a hundred degrees an hour."]],
    deep: [["/user/firing/#cooling", "Open the door on the third day."]],
    old: [
      ["/firing", [301], "/user/firing/", "Raise the heat slowly"],
      ["/user/firing", [307], "/user/firing/", "Raise the heat slowly"],
      ["/user/firing/index.html", [307], "/user/firing/", "Raise the heat slowly"],
    ],
    headers: [[/^\/assets\/javascripts\/bundle\..*\.js$/, "content-type", "text/javascript; charset=utf-8"]],
    missing: [["/user/glazing/", 404, "404 - Not found"]],
  },
  hugo: {
    home: ["/", "Notes about ice, in the order of the winter."],
    clicks: [
      ["Posts", "/posts/", "Thaw"],
      ["First frost", "/posts/first-frost/", "The pond froze on a Tuesday."],
    ],
    deep: [["/posts/thaw/", "In March the ice broke."]],
    old: [
      ["/2019/01/frost.html", [301], "/posts/first-frost/", "The pond froze on a Tuesday."],
      ["/blog/thaw/", [301], "/posts/thaw/", "In March the ice broke."],
      ["/blog/thaw", [301, 307], "/posts/thaw/", "In March the ice broke."],
    ],
    headers: [
      [/^\/css\/frost\.min\..*\.css$/, "cache-control", hashed],
      [/^\/posts\/thaw\/$/, "x-frame-options", "DENY"],
      [/^\/posts\/thaw\/$/, "content-security-policy", "default-src 'self'"],
      [/^\/posts\/thaw\/$/, "referrer-policy", "same-origin"],
      [/^\/posts\/gone\/$/, "x-frame-options", "DENY"],
    ],
    missing: [["/posts/gone/", 404, "Nothing froze here"]],
  },
  pathmx: {
    home: ["/", "The course begins.", "/index.path"],
    clicks: [["Lesson one", "/lesson-1.path", "The first lesson is about names."]],
    deep: [["/lesson-1.path", "The first lesson is about names."]],
    old: [["/start", [302], "/index.path", "The course begins."]],
    headers: [
      [/^\/assets\/runtime\.js$/, "cache-control", hashed],
      [/^\/lesson-1\.path$/, "cache-control", revalidated],
    ],
    missing: [["/lesson-1", 404, "404 Not Found"]],
  },
};

const browser = await launch(executablePath);

// A tab that records each answer, and everything that goes wrong in it.
async function open(origin) {
  const page = await browser.newPage();
  const tab = { page, origin, answers: [], wrong: [], loads: 0, intended: null };
  // The browser asks for this by itself, on a page that names no icon.
  const isIcon = (url) => new URL(url, origin).pathname === "/favicon.ico";
  const note = (what) => tab.wrong.push(`${new URL(page.url()).pathname}: ${what}`);
  page.on("load", () => (tab.loads += 1));
  page.on("pageerror", (error) => note(`exception: ${error}`));
  page.on("requestfailed", (request) => note(`${request.url()} failed: ${request.failure()?.errorText}`));
  page.on("console", (message) => {
    if (message.type() !== "error" || isIcon(message.location().url ?? origin)) return;
    // Chromium reports the status of a missing page, which is the intended one.
    if (message.location().url === tab.intended && message.text().includes("404")) return;
    note(`${message.type()}: ${message.text()} ${message.location().url ?? ""}`);
  });
  page.on("response", (answer) => {
    tab.answers.push(answer);
    const isIntended = answer.url() === tab.intended || isIcon(answer.url());
    if (answer.status() >= 400 && !isIntended) note(`${answer.url()} is ${answer.status()}`);
  });
  return tab;
}

const path = (tab) => tab.page.url().slice(tab.origin.length).replace(/#.*/, "");

// Waits for a text of the page, and until its requests have ended.
async function shows(tab, text, at) {
  await tab.page
    .waitForFunction((text) => document.body?.innerText.includes(text), patient, text)
    .catch(async () => {
      const body = await tab.page.evaluate(() => document.body?.innerText);
      assert.fail(`${tab.page.url()} does not show ${JSON.stringify(text)} but ${JSON.stringify(body)}; ${tab.wrong}`);
    });
  await tab.page.waitForNetworkIdle({ idleTime: 100, timeout: 120_000 });
  if (at !== undefined) assert.equal(path(tab), at);
  assert.deepEqual(tab.wrong, []);
}

// Opens an address, and answers with the statuses on the way to the page.
async function go(tab, to, intended = null) {
  // Only the fragment may differ from the address before, which is no load.
  await tab.page.goto("about:blank");
  tab.intended = intended && tab.origin + to;
  const answer = await tab.page.goto(tab.origin + to, { waitUntil: "load" });
  const before = answer.request().redirectChain();
  const statuses = [...before.map((request) => request.response()), answer].map((it) => it.status());
  // The browser keeps each page, and asks whether it is still the one.
  return statuses.map((status) => (status === 304 ? 200 : status));
}

async function click(tab, text) {
  const links = await tab.page.$$("a");
  for (const link of links) {
    const [shown, visible] = await Promise.all([link.evaluate((a) => a.innerText.trim()), link.isVisible()]);
    if (shown === text && visible) return link.click();
  }
  assert.fail(`${tab.page.url()} has no link ${text}`);
}

async function browse(name, folder) {
  execFileSync(pmx, ["sync", folder, "--space", name, "--live", "--order", "none", "-q"]);
  const site = sites[name];
  const tab = await open(`http://${name}.localhost:${port}`);
  const [home, text, at] = site.home;
  await go(tab, home);
  await shows(tab, text, at ?? home);
  const scripts = await tab.page.$$eval("script", (all) => all.map((it) => it.src));
  assert.ok(scripts.some((src) => src.includes("/_pmx/")), `the page is live: ${scripts}`);
  for (const [link, to, text] of site.clicks) {
    const { loads } = tab;
    await click(tab, link);
    await shows(tab, text, to);
    if (site.stays) assert.equal(tab.loads, loads, `${link} loaded another page`);
    else assert.ok(tab.loads > loads, `${link} loaded no page`);
  }
  if (site.clicks.length > 1) {
    await tab.page.goBack();
    await shows(tab, site.clicks.at(-2)[2], site.clicks.at(-2)[1]);
  }
  for (const [to, text] of site.deep) {
    assert.deepEqual(await go(tab, to), [200], to);
    await shows(tab, text);
  }
  for (const [from, statuses, to, text] of site.old) {
    assert.deepEqual(await go(tab, from), [...statuses, 200], from);
    await shows(tab, text, to);
  }
  for (const [to, status, text] of site.missing) {
    assert.deepEqual(await go(tab, to, status === 404), [status], to);
    await shows(tab, text, to);
  }
  for (const [pattern, header, value] of site.headers) {
    const those = tab.answers.filter((answer) => pattern.test(new URL(answer.url()).pathname) && answer.status() !== 304);
    assert.ok(those.length > 0, `${pattern} was loaded`);
    for (const answer of those) {
      // The Worker forbids the platform to compress once more what is stored compressed.
      const sent = answer.headers()[header]?.replace(/, no-transform$/, "");
      assert.equal(sent, value, `${answer.url()} ${header}`);
    }
  }
  await tab.page.close();
}

const stories = folders.map((named) => {
  const [name, folder] = named.split("=");
  return [`${name}_is_browsed`, () => browse(name, folder)];
});

await report(Object.fromEntries(stories), browser);
