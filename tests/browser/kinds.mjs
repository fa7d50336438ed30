// The ways in which a page uses a file. A kind's body and head name files below `u`; `files` are what
// these hold in a version; `shows` is what the page makes of them, as an expression in the page, or
// `null` where it is seen: in version 1 the body is red, in version 2 blue.

import { font } from "./font.mjs";

const colours = [undefined, "red", "blue"];
const svg = (v, size = 16) =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="${size}" height="16"><g id="a"><rect width="16"
    height="16" fill="${colours[v]}"/></g></svg>`;
export const wide = (v) => svg(v, 16 * v);

// Silence of a tenth of a second, or two.
function wav(v) {
  const bytes = Buffer.alloc(44 + 800 * v, 128);
  bytes.write("RIFF", 0);
  bytes.writeUInt32LE(bytes.length - 8, 4);
  bytes.write("WAVEfmt ", 8);
  bytes.writeUInt32LE(16, 16);
  bytes.writeUInt16LE(1, 20);
  bytes.writeUInt16LE(1, 22);
  bytes.writeUInt32LE(8000, 24);
  bytes.writeUInt32LE(8000, 28);
  bytes.writeUInt16LE(1, 32);
  bytes.writeUInt16LE(8, 34);
  bytes.write("data", 36);
  bytes.writeUInt32LE(bytes.length - 44, 40);
  return bytes;
}

const film = "Math.round(10 * document.querySelector('video,audio').duration)";
const letter = (id) => `document.querySelector('#${id}').offsetWidth / 50`;
const box = (u) => `<div id="${u.slice(3)}" style="width:16px;height:16px"></div>`;
const drawn = (style) => (u) => `<div style="width:16px;height:16px;${style(u)}"></div>`;
const picture = (body, head) => ({
  body,
  head,
  files: (v) => ({ "a.svg": svg(v) }),
  shows: null,
});
const counted = (body, files, head) => ({ body, head, files, shows: "window.v" });

// What can share one page: all of it is exchanged in place.
export const together = {
  image: {
    body: (u) => `<img src="${u}/a.svg">`,
    files: (v) => ({ "a.svg": wide(v) }),
    shows: (u) => `document.querySelector('img[src*="${u}/"]').naturalWidth / 16`,
  },
  picture: {
    body: (u) => `<picture><source srcset="${u}/a.svg"><img id="p" src="/none.svg"></picture>`,
    files: (v) => ({ "a.svg": wide(v) }),
    shows: () => "document.querySelector('#p').naturalWidth / 16",
  },
  preloaded_image: {
    head: (u) => `<link rel="preload" as="image" href="${u}/a.svg" imagesrcset="${u}/a.svg 1x">`,
    body: (u) => `<img src="${u}/a.svg" srcset="${u}/a.svg 1x">`,
    files: (v) => ({ "a.svg": wide(v) }),
    shows: (u) => `document.querySelector('img[src*="${u}/"]').naturalWidth / 16`,
  },
  image_that_was_not_there: {
    body: (u) => `<img src="${u}/a.svg">`,
    files: (v) => (v === 1 ? {} : { "a.svg": wide(1) }),
    shows: (u) => `document.querySelector('img[src*="${u}/"]').naturalWidth / 16 + 1`,
    // What is gone is still there for older pages; without a width it is for a moment only.
    versions: [1, 2, 2],
  },
  input: {
    body: (u) => `<input type="image" id="i" src="${u}/a.svg">`,
    files: (v) => ({ "a.svg": wide(v) }),
    shows: () => "document.querySelector('#i').offsetWidth / 16",
  },
  image_of_a_drawing: {
    body: (u) => `<svg width="64" height="16"><image href="${u}/a.svg#a"/></svg>`,
    files: (v) => ({ "a.svg": wide(v) }),
    shows: () => "document.querySelector('image').getBBox().width / 16",
  },
  poster: {
    body: (u) => `<video poster="${u}/a.svg"></video>`,
    files: (v) => ({ "a.svg": wide(v) }),
    shows: () => "document.querySelector('video').offsetWidth / 16",
  },
  ...Object.fromEntries(
    [
      ["iframe", "src", "contentDocument"],
      ["object", "data", "contentDocument"],
      ["embed", "src", "getSVGDocument()"],
    ].map(([name, source, inner]) => [
      name,
      {
        body: (u) => `<${name} ${source}="${u}/a.svg"></${name}>`,
        files: (v) => ({ "a.svg": wide(v) }),
        shows: () => `document.querySelector('${name}').${inner}.rootElement.width.baseVal.value / 16`,
      },
    ]),
  ),
  ...Object.fromEntries(
    [
      ["icon", "icon", "a.svg"],
      ["touch_icon", "apple-touch-icon", "a.svg"],
      ["app_manifest", "manifest", "site.webmanifest"],
    ].map(([name, rel, file]) => [
      name,
      {
        head: (u) => `<link rel="${rel}" href="${u}/${file}">`,
        body: () => "",
        files: (v) => ({ [file]: file === "a.svg" ? svg(v) : `{"name":"${v}"}` }),
        // No page sees more of it than its address, which names the deploy.
        shows: () => `/pmx=(.)|$/.exec(document.querySelector('[rel="${rel}"]').href)[1] ?? 1`,
        versions: [1, 2, 4],
      },
    ]),
  ),
  stylesheet: {
    head: (u) => `<link rel="stylesheet" href="${u}/a.css">`,
    body: () => '<p id="s">x</p>',
    files: (v) => ({ "a.css": `#s { order: ${v} }` }),
    shows: () => "getComputedStyle(document.querySelector('#s')).order",
  },
  stylesheet_of_a_shadow_tree_too: {
    head: (u) => `<link rel="stylesheet" href="${u}/a.css">`,
    body: (u) => `<div id="h"><template shadowrootmode="open">
      <link rel="stylesheet" href="${u}/a.css"><p>x</p></template></div>`,
    files: (v) => ({ "a.css": `p { orphans: ${v} }` }),
    shows: () => "getComputedStyle(document.querySelector('#h').shadowRoot.querySelector('p')).orphans",
  },

  font: {
    head: (u) => `<link rel="stylesheet" href="${u}/a.css">`,
    body: () => '<span id="f" style="font:100px f">A</span>',
    files: (v) => ({
      "a.css": '@font-face { font-family: f; src: url("a.ttf") }',
      "a.ttf": font(500 * v),
    }),
    shows: () => letter("f"),
  },
  preloaded_font: {
    head: (u) => `<link rel="preload" as="font" crossorigin href="${u}/a.ttf">
      <style>@font-face { font-family: g; src: url("${u}/a.ttf") }</style>`,
    body: () => '<span id="g" style="font:100px g">A</span>',
    files: (v) => ({ "a.ttf": font(500 * v) }),
    shows: () => letter("g"),
  },
  background_of_a_stylesheet: {
    head: (u) => `<link rel="stylesheet" href="${u}/a.css">`,
    body: box,
    files: (v) => ({ "a.css": '#background_of_a_stylesheet { background: url("a.svg") }', "a.svg": svg(v) }),
    shows: null,
  },
  background_of_an_imported_one: {
    head: (u) => `<link rel="stylesheet" href="${u}/a.css">`,
    body: box,
    files: (v) => ({
      "a.css": '@import "b.css";',
      "b.css": '#background_of_an_imported_one { background: url("a.svg") }',
      "a.svg": svg(v),
    }),
    shows: null,
  },
  background_of_a_name: {
    head: (u) => `<link rel="stylesheet" href="${u}/a.css">`,
    body: box,
    files: (v) => ({
      "a.css": "#background_of_a_name { --image: url('a.svg'); background: var(--image) }",
      "a.svg": svg(v),
    }),
    shows: null,
  },
  background_of_an_attribute: picture(drawn((u) => `background:url(${u}/a.svg)`)),
  background_of_an_adopted_stylesheet: picture(
    (u) => `${box(u)}<script>
      const sheet = new CSSStyleSheet();
      sheet.replaceSync("#${u.slice(3)} { background: url('${u}/a.svg') }");
      document.adoptedStyleSheets = [sheet];
    </script>`,
  ),
  preloaded_background: picture(
    drawn((u) => `background:url(${u}/a.svg)`),
    (u) => `<link rel="preload" as="image" href="${u}/a.svg" imagesrcset="${u}/a.svg 1x">`,
  ),
  background_of_a_class_and_an_image: picture(
    (u) => `${box(u)}<img src="${u}/a.svg">`,
    (u) => `<style>@layer l { @media all { #background_of_a_class_and_an_image { background: url("${u}/a.svg") } } }</style>`,
  ),
  background_of_an_attribute_and_an_image: picture(
    (u) => `<div style="width:16px;height:16px;background:url(${u}/a.svg)"></div><img src="${u}/a.svg">`,
  ),
  background_of_an_imported_one_and_an_image: {
    head: (u) => `<link rel="stylesheet" href="${u}/a.css">`,
    body: (u) => `${box(u)}<img src="${u}/a.svg">`,
    files: (v) => ({
      "a.css": '@import "b.css";',
      "b.css": '#background_of_an_imported_one_and_an_image { background: url("a.svg") }',
      "a.svg": svg(v),
    }),
    shows: null,
  },
  mask: {
    ...picture((u) => `<div style="background:blue">
      <div style="width:16px;height:16px;background:red;mask:url(${u}/a.svg)"></div></div>`),
    files: (v) => ({ "a.svg": svg(v).replace("blue", "none") }),
  },
  border_image: picture(drawn((u) => `box-sizing:border-box;border:8px solid;border-image:url(${u}/a.svg) 8`)),
  list_style: picture(drawn((u) => `display:list-item;list-style:inside url(${u}/a.svg)`)),
  content: picture(drawn((u) => `content:url(${u}/a.svg)`)),
  image_set: picture(drawn((u) => `background:image-set(url(${u}/a.svg) 1x)`)),
  cursor: {
    // It is painted outside of the page, so its length has to do.
    ...picture((u) => `<div style="cursor:url(${u}/a.svg),auto">x</div>`),
    shows: (u) => `performance.getEntriesByType("resource").findLast(({ name }) => name.includes("${u}"))
      .decodedBodySize - ${svg(1).length - 1}`,
  },
  use: picture((u) => `<svg width="16" height="16"><use href="${u}/a.svg#a"/></svg>`),
  use_and_an_image: picture(
    (u) => `<svg width="16" height="16"><use href="${u}/a.svg#a"/></svg><img src="${u}/a.svg">`,
  ),
  image_of_a_shadow_tree: {
    body: (u) => `<div id="j"><template shadowrootmode="open">
      <style>img { content: url("${u}/a.svg") }</style><img></template></div>`,
    files: (v) => ({ "a.svg": wide(v) }),
    shows: () => "document.querySelector('#j').shadowRoot.querySelector('img').offsetWidth / 16",
  },
};

// What takes a page of its own, which is loaded again where nothing says that it is exchanged.
export const alone = {
  video: { body: (u) => `<video src="${u}/a.wav"></video>`, files: (v) => ({ "a.wav": wav(v) }), shows: film },
  audio: { body: (u) => `<audio src="${u}/a.wav"></audio>`, files: (v) => ({ "a.wav": wav(v) }), shows: film },
  video_source: {
    body: (u) => `<video><source src="${u}/a.wav"></video>`,
    files: (v) => ({ "a.wav": wav(v) }),
    shows: film,
  },
  audio_source: {
    body: (u) => `<audio><source src="${u}/a.wav"></audio>`,
    files: (v) => ({ "a.wav": wav(v) }),
    shows: film,
  },
  sound_of_a_script: {
    body: (u) => `<script>(window.a = new Audio("${u}/a.wav")).load()</script>`,
    files: (v) => ({ "a.wav": wav(v) }),
    shows: "Math.round(10 * window.a.duration)",
  },
  subtitles: {
    body: (u) => `<video><track default src="${u}/a.vtt"></video>`,
    files: (v) => ({ "a.vtt": `WEBVTT\n\n00:00.000 --> 00:01.000\n${v}\n` }),
    shows: "document.querySelector('video').textTracks[0].cues[0].text",
  },

  imported_stylesheet: {
    head: (u) => `<style>@import "${u}/a.css"</style>`,
    body: box,
    files: (v) => ({ "a.css": `#imported_stylesheet { order: ${v} }` }),
    shows: "getComputedStyle(document.querySelector('#imported_stylesheet')).order",
  },
  stylesheet_that_one_imports: {
    head: (u) => `<link rel="stylesheet" href="${u}/a.css">`,
    body: box,
    files: (v) => ({ "a.css": '@import "b.css";', "b.css": `#stylesheet_that_one_imports { order: ${v} }` }),
    shows: "getComputedStyle(document.querySelector('#stylesheet_that_one_imports')).order",
  },
  font_and_its_page: {
    head: (u) => `<link rel="stylesheet" href="${u}/a.css"><script src="${u}/a.js"></script>`,
    body: () => '<span id="f" style="font:100px f">A</span>',
    files: (v) => ({
      "a.css": '@font-face { font-family: f; src: url("a.ttf") }',
      "a.ttf": font(500 * v),
      "a.js": `v = ${v}`,
    }),
    shows: `window.v === ${letter("f")} && window.v`,
  },

  script: counted((u) => `<script src="${u}/a.js"></script>`, (v) => ({ "a.js": `v = ${v}` })),
  script_that_was_not_there: {
    ...counted(
      (u) => `<script>v = 1</script><script src="${u}/a.js"></script>`,
      (v) => (v === 1 ? {} : { "a.js": "v = 2" }),
    ),
    // What is gone is still there for older pages.
    versions: [1, 2, 2],
  },
  module: counted(
    (u) => `<script type="module" src="${u}/a.mjs"></script>`,
    (v) => ({ "a.mjs": `window.v = ${v}` }),
  ),
  module_of_a_module: counted(
    (u) => `<script type="module" src="${u}/a.mjs"></script>`,
    (v) => ({ "a.mjs": 'import { v } from "./b.mjs"; window.v = v', "b.mjs": `export const v = ${v}` }),
  ),
  module_of_an_import_map: counted(
    () => '<script type="module">import { v } from "b"; window.v = v</script>',
    (v) => ({ "b.mjs": `export const v = ${v}` }),
    (u) => `<script type="importmap">{"imports": {"b": "${u}/b.mjs"}}</script>`,
  ),
  module_on_demand: counted(
    (u) => `<script>import("${u}/a.mjs").then(({ v }) => (window.v = v))</script>`,
    (v) => ({ "a.mjs": `export const v = ${v}` }),
  ),
  preloaded_module: counted(
    (u) => `<script type="module">import { v } from "${u}/a.mjs"; window.v = v</script>`,
    (v) => ({ "a.mjs": `export const v = ${v}` }),
    (u) => `<link rel="modulepreload" href="${u}/a.mjs">`,
  ),
  module_of_data: counted(
    (u) => `<script type="module">
      import v from "${u}/a.json" with { type: "json" }; window.v = v</script>`,
    (v) => ({ "a.json": `${v}` }),
  ),

  worker: counted(
    (u) => `<script>new Worker("${u}/a.js").onmessage = ({ data }) => (v = data)</script>`,
    (v) => ({ "a.js": `postMessage(${v})` }),
  ),
  script_of_a_worker: counted(
    (u) => `<script>new Worker("${u}/a.js").onmessage = ({ data }) => (v = data)</script>`,
    (v) => ({ "a.js": 'importScripts("b.js")', "b.js": `postMessage(${v})` }),
  ),
  data_of_a_worker: counted(
    (u) => `<script>new Worker("${u}/a.js").onmessage = ({ data }) => (v = data)</script>`,
    (v) => ({
      "a.js": 'fetch("b.json").then(async (answer) => postMessage(await answer.json()))',
      "b.json": `${v}`,
    }),
  ),
  module_of_a_worker: counted(
    (u) => `<script>
      new Worker("${u}/a.mjs", { type: "module" }).onmessage = ({ data }) => (v = data)</script>`,
    (v) => ({ "a.mjs": 'import { v } from "./b.mjs"; postMessage(v)', "b.mjs": `export const v = ${v}` }),
  ),
  shared_worker: counted(
    (u) => `<script>
      onload = () => (new SharedWorker("${u}/a.js").port.onmessage = ({ data }) => (v = data))</script>`,
    (v) => ({ "a.js": `onconnect = ({ ports: [port] }) => port.postMessage(${v})` }),
  ),
  script_of_a_shared_worker: counted(
    (u) => `<script>
      onload = () => (new SharedWorker("${u}/a.js").port.onmessage = ({ data }) => (v = data))</script>`,
    (v) => ({
      "a.js": 'importScripts("b.js"); onconnect = ({ ports: [port] }) => port.postMessage(v)',
      "b.js": `v = ${v}`,
    }),
  ),

  data: counted(
    (u) => `<script>fetch("${u}/a.json").then(async (answer) => (v = await answer.json()))</script>`,
    (v) => ({ "a.json": `${v}` }),
  ),
  data_of_an_older_request: counted(
    (u) => `<script>
      const request = new XMLHttpRequest();
      request.open("GET", "${u}/a.json");
      request.onload = () => (window.v = +request.responseText);
      request.send();
    </script>`,
    (v) => ({ "a.json": `${v}` }),
  ),
  preloaded_data: counted(
    (u) => `<script>fetch("${u}/a.json").then(async (answer) => (v = await answer.json()))</script>`,
    (v) => ({ "a.json": `${v}` }),
    (u) => `<link rel="preload" as="fetch" crossorigin href="${u}/a.json">`,
  ),

  image_of_an_inner_page: {
    body: (u) => `<img src="${u}/a.svg"><iframe srcdoc="<img src='${u}/a.svg'>"></iframe>`,
    files: (v) => ({ "a.svg": wide(v) }),
    shows: "document.querySelector('iframe').contentDocument.images[0].naturalWidth / 16",
  },
  image_of_an_inner_page_in_xml: {
    body: (u) => `<iframe src="${u}/in.xhtml"></iframe>`,
    files: (v) => ({
      "in.xhtml": '<html xmlns="http://www.w3.org/1999/xhtml"><body><img src="a.svg"/></body></html>',
      "a.svg": wide(v),
    }),
    shows: "document.querySelector('iframe').contentDocument.images[0].naturalWidth / 16",
  },
};
