// Build tools and editors in front of a real browser: `pmx dev` follows each as it writes, in one
// deploy, and the open page shows the last version. Prints one line of JSON a story.
//
//   node tools.mjs PMX_PROGRAM FOLDER CHROMIUM

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { launch, patient, report, write as put } from "./browser.mjs";

const [pmx, home, executablePath] = process.argv.slice(2);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const browser = await launch(executablePath);

const empty = (folder) => {
  for (const name of fs.readdirSync(folder)) fs.rmSync(join(folder, name), { recursive: true });
};
const page = (text, head = "", more = "") =>
  `<!doctype html><html><head><title>x</title>${head}</head><body><p id="text">${text}</p>${more}</body></html>`;
const pages = (count, text) =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`p${n}/index.html`, page(text)]));

// A folder under `pmx dev`, and a tab that shows a page of it.
async function dev(name, files, { path = "/", link } = {}) {
  const folder = join(home, name);
  put(link ? join(home, link) : folder, files);
  if (link) fs.symlinkSync(link, folder);
  const args = ["dev", folder, "--data", join(home, `${name}.data`), "--listen", "127.0.0.1:0"];
  const process = spawn(pmx, [...args, "--space", "dev", "--json"], { stdio: ["ignore", "pipe", "ignore"] });
  const lines = [];
  const url = await new Promise((done) => {
    createInterface({ input: process.stdout }).on("line", (line) => {
      lines.push(JSON.parse(line));
      if (lines.at(-1).type === "serving") done(lines.at(-1).url);
    });
  });
  const tab = await browser.newPage();
  const statuses = [];
  tab.on("response", (answer) => {
    const request = answer.request();
    if (request.isNavigationRequest() && request.frame() === tab.mainFrame()) statuses.push(answer.status());
  });
  await tab.evaluateOnNewDocument(() => {
    const Real = window.WebSocket;
    window.WebSocket = class extends Real {
      constructor(...args) {
        super(...args);
        this.addEventListener("message", () => (window.known = window.said));
      }
      send(text) {
        if (text !== "ping") [window.said, window.known] = [JSON.parse(text), undefined];
        super.send(text);
      }
    };
  });
  await tab.goto(new URL(path, url).href, { waitUntil: "load" });
  // Waits until the server knows what the page said last: which page it is, and which files it uses.
  const known = (paths = [], page = null) =>
    tab.waitForFunction(
      (paths, page) =>
        window.known &&
        (page === null || window.known.page === page) &&
        paths.every((path) => window.known.uses.includes(path)),
      patient,
      paths,
      page,
    );
  await known();
  return {
    folder,
    tab,
    lines,
    statuses,
    known,
    deploys: () => lines.filter(({ outcome }) => outcome === "published").length,
    shows: (text) =>
      tab.waitForFunction(
        (text) => document.querySelector("#text")?.textContent === text,
        patient,
        text,
      ),
    async end() {
      await tab.close();
      process.kill();
    },
  };
}

// A tool builds: what it does, of which afterwards the page shows the last version.
const builds = (files, build, options) => async (name) => {
  const site = await dev(name, files, options);
  await build(site.folder);
  await site.shows("v2");
  // Longer than `pmx dev` waits for the rest of a build: nothing shows that no more will come.
  await pause(350);
  assert.equal(site.deploys(), 2, "one deploy for the build");
  assert(site.statuses.every((status) => status < 400), `${site.statuses}`);
  await site.end();
};

const bundle = (text) => {
  const hash = text === "v1" ? "DiwrgTda" : "BzX9qLe0";
  return {
    "index.html": page("", `<script type="module" src="/assets/index-${hash}.js"></script>`),
    [`assets/index-${hash}.js`]: `document.querySelector("#text").textContent = "${text}"`,
    [`assets/index-${hash}.css`]: "p { color: red }",
    "vite.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>",
  };
};
const slowly = async (folder, files, ms) => {
  for (const [path, content] of Object.entries(files)) {
    put(folder, { [path]: content });
    await pause(ms);
  }
};

const stories = {
  vite_empties_the_folder_and_names_assets_anew: builds(bundle("v1"), async (folder) => {
    empty(folder);
    await pause(300);
    put(folder, bundle("v2"));
  }),

  esbuild_writes_in_place: builds(
    {
      "index.html": page("", '<script defer src="/app.js"></script><link rel="stylesheet" href="/app.css">'),
      "app.js": 'document.querySelector("#text").textContent = "v1"',
      "app.css": "p { color: red }",
    },
    async (folder) => {
      put(folder, { "app.css": "p { color: blue }" });
      put(folder, { "app.js": 'document.querySelector("#text").textContent = "v2"' });
    },
  ),

  hugo_writes_in_place_and_removes_what_is_stale: builds(
    { ...pages(12, "v1"), "stale/index.html": page("v1") },
    async (folder) => {
      await slowly(folder, pages(12, "v2"), 20);
      fs.rmSync(join(folder, "stale"), { recursive: true });
    },
    { path: "/p7/" },
  ),

  mkdocs_empties_the_folder_and_writes_page_by_page: builds(
    pages(12, "v1"),
    async (folder) => {
      empty(folder);
      put(folder, { "assets/theme.css": "p {}" });
      await slowly(folder, pages(12, "v2"), 60);
    },
    { path: "/p11/" },
  ),

  eleventy_writes_in_place: builds(pages(12, "v1"), (folder) => slowly(folder, pages(12, "v2"), 50), {
    path: "/p0/",
  }),

  mdbook_puts_another_folder_in_the_place: builds({ "index.html": page("v1") }, async (folder) => {
    put(`${folder}.new`, { "index.html": page("v2"), "b.html": page("b") });
    fs.rmSync(folder, { recursive: true });
    await pause(50);
    fs.renameSync(`${folder}.new`, folder);
  }),

  nix_switches_a_link: builds(
    { "index.html": page("v1") },
    async (folder) => {
      put(`${folder}-2`, { "index.html": page("v2") });
      fs.symlinkSync(`${folder}-2`, `${folder}.tmp`);
      fs.renameSync(`${folder}.tmp`, folder);
    },
    { link: "nix-1" },
  ),

  vim_renames_the_old_file_away: builds({ "index.html": page("v1") }, async (folder) => {
    const at = (name) => join(folder, name);
    fs.writeFileSync(at("4913"), "");
    fs.rmSync(at("4913"));
    fs.renameSync(at("index.html"), at("index.html~"));
    await pause(20);
    fs.writeFileSync(at("index.html"), page("v2"));
    fs.rmSync(at("index.html~"));
  }),

  async page_is_shown_that_was_opened_before_it_existed() {
    const site = await dev("later", { "index.html": page("home") }, { path: "/guide/a" });
    assert.deepEqual(site.statuses, [404]);
    put(site.folder, { "guide/a.html": "" });
    await site.tab.waitForFunction(() => document.body?.textContent === "", patient);
    await site.known();
    put(site.folder, { "guide/a.html": page("v1") });
    await site.shows("v1");
    await site.known();
    fs.rmSync(join(site.folder, "guide/a.html"));
    await site.tab.waitForFunction(() => /404/.test(document.body.textContent), patient);
    await site.end();
  },

  async fault_of_the_folder_is_shown_and_taken_away() {
    const site = await dev("fault", { "index.html": page("v1") });
    fs.symlinkSync("nowhere", join(site.folder, "broken"));
    put(site.folder, { "index.html": page("v2") });
    await site.shows("v2");
    const notice = () => document.querySelector("pmx-notice")?.shadowRoot.textContent ?? "";
    await site.tab.waitForFunction(`(${notice})().includes("broken")`, patient);
    fs.rmSync(join(site.folder, "broken"));
    await site.tab.waitForFunction(`(${notice})() === ""`, patient);
    await site.end();
  },

  async lines_of_a_bad_rule_are_shown_and_the_last_good_deploy_stays() {
    const rules = "/app/* /index 200!\n";
    const site = await dev("rules", { "index.html": page("v1"), _redirects: rules }, { path: "/app/x" });
    put(site.folder, { "index.html": page("v2"), _redirects: `${rules}/old /new 999\n` });
    const notice = () => document.querySelector("pmx-notice")?.shadowRoot.textContent ?? "";
    await site.tab.waitForFunction(`(${notice})().includes("_redirects:2:11: error[rules-status]")`, patient);
    await site.shows("v1");
    put(site.folder, { _redirects: rules });
    await site.shows("v2");
    await site.tab.waitForFunction(`(${notice})() === ""`, patient);
    await site.end();
  },

  async page_at_another_path_is_loaded_again() {
    const shell = (text) => ({ "shell.html": page(text), "index.html": page("home") });
    const settings = 'missing = "spa"\nshell = "shell.html"\n';
    const site = await dev("shell", { ...shell("v1"), "_site.toml": settings }, { path: "/deep/link" });
    put(site.folder, shell("v2"));
    await site.shows("v2");
    await site.known(["/shell.html"]);
    // Another rule shows another page there.
    put(site.folder, { "other.html": page("v3"), _redirects: "/deep/* /other 200\n" });
    await site.shows("v3");
    await site.known(["/other.html"]);
    put(site.folder, { "other.html": page("v4") });
    await site.shows("v4");
    assert(site.statuses.every((status) => status === 200), `${site.statuses}`);
    await site.end();
  },

  async used_file_that_cannot_be_replaced_reloads_the_page() {
    const svg = (id) => `<svg xmlns="http://www.w3.org/2000/svg"><g id="${id}"/></svg>`;
    const files = {
      "index.html": page(
        "v1",
        '<base href="https://other.example/">',
        `<svg><use href="${"ORIGIN"}/sprite.svg#a"/></svg>
         <img srcset="ORIGIN/a.svg 2x,ORIGIN/b.svg 1x">
         <script>fetch("ORIGIN/data.json")</script>`,
      ),
      "sprite.svg": svg("a"),
      "a.svg": svg("a"),
      "b.svg": svg("a"),
      "data.json": "1",
    };
    // The page's `base` is of another host, so its own addresses are whole.
    const site = await dev("uses", { "index.html": page("first") });
    const origin = new URL(site.tab.url()).origin;
    put(site.folder, { ...files, "index.html": files["index.html"].replaceAll("ORIGIN", origin) });
    await site.shows("v1");
    await site.known();
    put(site.folder, { "b.svg": svg("b") });
    await site.tab.waitForFunction(
      () => /a\.svg 2x, \S+b\.svg\?pmx=\d+ 1x$/.test(document.images[0].srcset),
      patient,
    );
    // A drawing that others use is exchanged as an image is.
    put(site.folder, { "sprite.svg": svg("c") });
    await site.tab.waitForFunction(
      () => /sprite\.svg\?pmx=\d+#a$/.test(document.querySelector("use").getAttribute("href")),
      patient,
    );
    const loads = site.statuses.length;
    await site.known(["/data.json"]);
    put(site.folder, { "data.json": "2" });
    for (let turn = 0; site.statuses.length === loads; turn += 1) {
      if (turn > 1000) throw new Error("the page is not loaded again");
      await pause(20);
    }
    await site.known();
    // A page that its script named anew is loaded again as what it was, and as what it is called.
    await site.tab.evaluate(() => history.pushState(null, "", `${location.origin}/called`));
    await site.known([], "/called");
    put(site.folder, { "called.html": page("called") });
    await site.shows("called");
    await site.end();
  },
};

await report(stories, browser);
