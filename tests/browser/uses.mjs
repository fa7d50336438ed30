// What open pages make of a change of each kind of file that they use, as one line of JSON a story.
//
//   node uses.mjs PORT PMX_PROGRAM FOLDER CHROMIUM [STORY]
//
// Publishes with the real `pmx` (its environment says where) what lies in FOLDER, to a server all of
// whose pages are live.

import assert from "node:assert/strict";
import { launch, patient, runner, report, write } from "./browser.mjs";
import { pixels } from "./png.mjs";
import { alone, together, wide } from "./kinds.mjs";

const [port, pmx, folder, chromium, only] = process.argv.slice(2);
const run = runner(pmx, folder);
const publish = (space, files) => {
  write(folder, files);
  run("sync", folder, "--space", space, "--live", "-q");
};
const browser = await launch(chromium);

// Runs in each page before anything else: keeps what the page says it uses, and whether an
// answer came since.
function listen() {
  const Real = window.WebSocket;
  window.WebSocket = class extends Real {
    constructor(...args) {
      super(...args);
      this.addEventListener("message", () => (window.isAnswered_ = !!window.said_));
    }
    send(text) {
      if (text !== "ping") [window.said_, window.isAnswered_] = [JSON.parse(text), false];
      super.send(text);
    }
  };
}

async function open(space, path) {
  const page = await browser.newPage();
  // Tabs behind others are as awake as the first.
  const session = await page.createCDPSession();
  await session.send("Emulation.setFocusEmulationEnabled", { enabled: true });
  const tab = { page, loads: 0 };
  page.on("request", (request) => {
    if (request.isNavigationRequest() && request.frame() === page.mainFrame()) tab.loads += 1;
  });
  await page.evaluateOnNewDocument(listen);
  await page.goto(`http://${space}.localhost:${port}${path}`, { waitUntil: "load" });
  return tab;
}

// Waits until the server knows that the page uses these files.
const uses = async ({ page }, paths) => {
  const isKnown = (paths) => {
    const { all, uses } = window.said_ ?? {};
    return window.isAnswered_ && (all || paths.every((path) => uses.includes(path)));
  };
  await page.waitForFunction(isKnown, patient, paths).catch(async () => {
    const said = JSON.stringify(await page.evaluate(() => window.said_));
    throw new Error(`the server does not know of ${paths}, but of ${said}`);
  });
};

// Waits until an expression in the page has a value.
const shows = ({ page }, shows, value) => {
  const is = `(() => { try { return String(${shows}) } catch {} })() === "${value}"`;
  return page.waitForFunction(is, patient).catch(() => {
    throw new Error(`${value} is not shown`);
  });
};

// What is looked at lies in a row of cells.
const CELL = 16;
const cell = (body, index) =>
  `<div style="position:absolute;left:${CELL * index}px;top:0;width:${CELL}px;height:${CELL}px;overflow:hidden">
    ${body}</div>`;

// Waits until all cells are red, or all are blue.
async function look({ page }, names, colour) {
  await page.bringToFront();
  const clip = { x: 0, y: 0, width: CELL * names.length, height: CELL };
  let wrong;
  for (const end = Date.now() + patient.timeout; Date.now() < end; ) {
    const pixel = pixels(await page.screenshot({ clip }));
    const colours = names.map((_, index) => pixel(CELL * (index + 0.5), CELL / 2).join());
    wrong = names.filter((_, index) => colours[index] !== colour);
    if (!wrong.length) return;
  }
  throw new Error(`${wrong} should be ${colour}`);
}

const at = (name) => `/r/${name}`;
const pageOf = (body, head = "") =>
  `<!doctype html><html><head>${head}</head><body style="margin:0">${body}</body></html>`;
// The addresses of the files that are not the same in two versions.
const changed = (name, { files }) => {
  const [one, two] = [files(1), files(2)];
  const differ = Object.keys(two).filter((file) => String(one[file]) !== String(two[file]));
  return differ.map((file) => `${at(name)}/${file}`);
};
// All files of a version; what only the other has is taken away.
const version = (kinds, number) =>
  Object.fromEntries(
    Object.entries(kinds).flatMap(([name, { files }]) =>
      Object.keys(files(2)).map((file) => [`r/${name}/${file}`, files(number)[file]]),
    ),
  );
const versions = [1, 2, 1];
const colours = ["255,0,0", "0,0,255", "255,0,0"];

// A page of all that can be exchanged, and one of each kind of file that can't.
function pages() {
  const painted = Object.keys(together).filter((name) => together[name].shows === null);
  const measured = Object.keys(together).filter((name) => together[name].shows !== null);
  const body = (name) => together[name].body(at(name));
  const head = Object.entries(together).map(([name, kind]) => kind.head?.(at(name)) ?? "");
  const cells = painted.map((name, index) => cell(body(name), index));
  const rest = `<div style="padding-top:${2 * CELL}px">${measured.map(body).join("\n")}</div>`;
  const files = { "together.html": pageOf(cells.join("\n") + rest, head.join("\n")) };
  for (const [name, kind] of Object.entries(alone)) {
    files[`${name}.html`] = pageOf(
      `${kind.body(at(name))}<a href="/other.html">x</a>`,
      `${kind.head?.(at(name)) ?? ""}<link rel="prefetch" href="/ahead.html">`,
    );
  }
  return { painted, measured, files };
}

// Takes some at once, for two cores; says of all what is wrong.
async function each(list, act) {
  const failed = [];
  const left = [...list];
  const work = async () => {
    for (let one; (one = left.shift()); ) {
      await act(one).catch((error) => failed.push(`${one}: ${error.message}`));
    }
  };
  await Promise.all(Array.from({ length: 4 }, work));
  assert.equal(failed.length, 0, failed.join("\n"));
}

const stories = {
  async used_files_are_replaced_and_no_others() {
    const kinds = { ...together, ...alone };
    const { painted, measured, files } = pages();
    publish("uses", { ...version(kinds, 1), ...files, "ahead.html": "1", "other.html": "1" });
    const tabs = {};
    const names = Object.keys(alone);
    tabs.together = await open("uses", "/together");
    await each(names, async (name) => {
      tabs[name] = await open("uses", `/${name}`);
      // A tab loads no film before it was painted, so none is left before it shows its own.
      await shows(tabs[name], alone[name].shows, versions[0]);
    });
    const check = async (index) => {
      await each(measured, async (name) => {
        const { shows: expression, versions: own = versions } = together[name];
        await shows(tabs.together, expression(at(name)), own[index]);
      });
      await look(tabs.together, painted, colours[index]);
      await each(names, (name) => {
        const { shows: expression, versions: own = versions } = alone[name];
        return shows(tabs[name], expression, own[index]);
      });
      // The next deploy concerns them only if the server knows what they use.
      await uses(tabs.together, [...painted, ...measured].flatMap((name) => changed(name, together[name])));
      await each(names, (name) => uses(tabs[name], changed(name, alone[name])));
    };
    await check(0);
    publish("uses", version(kinds, 2));
    await check(1);
    publish("uses", { "ahead.html": "2", "other.html": "2", "r/new.svg": "2" });
    publish("uses", version(kinds, 1));
    await check(2);
    assert.equal(tabs.together.loads, 1);
    for (const name of names) assert.equal(tabs[name].loads, 3, name);
    for (const { page } of Object.values(tabs)) await page.close();
  },

  // More than it may name: it subscribes to all that changes, and takes in what is its own.
  async page_that_uses_very_much_is_shown_what_changes() {
    const files = Array.from({ length: 600 }, (_, n) => `much/${n}.svg`);
    // The browser loads none of them, but they are the page's own.
    const body = files.map((file) => `<img loading="lazy" src="/${file}">`);
    publish("much", {
      ...Object.fromEntries(files.map((file) => [file, wide(1)])),
      "index.html": pageOf(`<div hidden>${body.join("")}</div>`),
    });
    const tab = await open("much", "/");
    await uses(tab, ["/much/599.svg"]);
    publish("much", { "r/new.svg": "3" });
    publish("much", { "much/599.svg": wide(2) });
    await tab.page.waitForFunction(() => /pmx=3$/.test(document.images[599].src), patient);
    assert.equal(tab.loads, 1);
    await tab.page.close();
  },

  async site_is_shown_that_was_opened_before_its_first_deploy() {
    const tab = await open("first", "/first");
    publish("first", { "first.html": pageOf('<p id="x">1</p>') });
    await shows(tab, "document.querySelector('#x').textContent", 1);
    assert.equal(tab.loads, 2);
    await uses(tab, []);
    publish("first", { "first.html": pageOf('<p id="x">2</p>') });
    await shows(tab, "document.querySelector('#x').textContent", 2);
    await tab.page.close();
  },
};

await report(only ? { [only]: stories[only] } : stories, browser);
