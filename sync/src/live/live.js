// Live page: receives which deploys changed what it shows, and applies the changes. Stylesheets and
// images are exchanged in place; the page reloads only if it changed itself, or a script of it.
(() => {
  "use strict";
  if (window.pmxLive) return;
  window.pmxLive = true;

  const script = document.currentScript;
  const here = location.origin;
  const [visit] = performance.getEntriesByType("navigation");

  // Storage may be forbidden; then only what the page itself holds counts.
  const kept = (key, value) => {
    try {
      if (value === undefined) return sessionStorage.getItem(key);
      sessionStorage.setItem(key, value);
    } catch {}
  };

  // The deploy that this page shows, or a later one. A page out of the browser's own cache is as
  // old as it says; any other was asked for with the cookie, and so is no older than that.
  const said = visit?.serverTiming?.find((entry) => entry.name === "pmx")?.description;
  const served = Math.max(+said || 0, +script?.dataset.deploy || 0);
  let at = visit?.type === "back_forward" ? served : Math.max(served, +kept("pmx.deploy") || 0);

  // No other site of the domain can set this cookie, where there is https.
  const isSecure = here.startsWith("https:");
  const cookie = (value) =>
    isSecure ? `__Host-_pmx_deploy=${value};secure` : `_pmx_deploy=${value}`;

  // `know` is the server's token of that deploy: it gives no older one to a request that has it.
  const remember = ({ deploy, know }) => {
    if (deploy > at) kept("pmx.deploy", (at = deploy));
    if (know && deploy >= at) {
      document.cookie = `${cookie(know)};path=/;max-age=120;samesite=lax`;
    }
  };

  // What `/a`, `/a/`, `/a.html` and `/a/index.html` have in common.
  const key = (path) => {
    try {
      path = decodeURIComponent(path);
    } catch {}
    path = path.replace(/^\/+|\/+$/g, "").replace(/\.html$/, "");
    return path.replace(/(^|\/)index$/, "");
  };

  // An address of another file of this site, or nothing.
  const own = (address, base = document.baseURI) => {
    try {
      const url = new URL(address, base);
      return url.origin === here && !/^#/.test(address) ? url : null;
    } catch {
      return null;
    }
  };

  // Everything that was loaded, by path: 2 if only another load of the page shows what became of
  // it; 1 if it may be exchanged; 0 if it is exchanged where it is found, or has a script itself.
  const loaded = new Map();
  const RANKS = { script: 2, fetch: 2, xmlhttprequest: 2, iframe: 0, rule: 0 };
  // What stylesheets ask for, and drawings that others use.
  const styled = new Set();
  const note = (address, how, base) => {
    const path = own(address, base)?.pathname;
    if (!/^\/(?!_(pmx\/|events$))/.test(path)) return;
    loaded.set(path, Math.max(RANKS[how] ?? 1, loaded.get(path) ?? 0));
    if (/^(css|rule|use)$/.test(how)) styled.add(path);
  };

  // What a worker loads is reported to it alone. So what its script names counts as loaded.
  const read = new Set();
  const readWorker = async (address) => {
    const url = own(address);
    if (!url || read.has(url.pathname)) return;
    read.add(url.pathname);
    try {
      const text = await (await fetch(url, { cache: "force-cache" })).text();
      for (const [, name] of text.matchAll(/["'`]([^"'`\s]+\.(?:m?js|json|wasm))["'`]/g)) {
        note(new URL(name, url), "fetch");
      }
    } catch {}
    again();
  };
  // Nothing reports a shared worker.
  if (window.SharedWorker) {
    window.SharedWorker = new Proxy(SharedWorker, {
      construct(...made) {
        note(made[1][0], "script");
        readWorker(made[1][0]);
        return Reflect.construct(...made);
      },
    });
  }

  // The candidates of a srcset, as HTML cuts them: a comma may be part of an address.
  const candidates = (set) => {
    const found = [];
    for (let rest = set; (rest = rest.replace(/^[\s,]+/, "")); ) {
      let [address] = rest.match(/^\S+/);
      rest = rest.slice(address.length);
      let described = "";
      if (address.endsWith(",")) address = address.replace(/,+$/, "");
      else [described] = rest.match(/^(?:[^(,]|\([^)]*\)?)*/);
      rest = rest.slice(described.length);
      found.push([address, described.trim()]);
    }
    return found;
  };

  // What can be exchanged in place: where, and in which attribute.
  const places = [
    ['link[rel~="icon"],link[rel="manifest"],link[rel="apple-touch-icon"]', "href"],
    ["img,input[type=image],embed,iframe,frame", "src"],
    ["object", "data"],
    ["video", "poster"],
    ["image,feImage,use", "href"],
  ];
  // The document and its open shadow trees.
  let trees;
  const each = (query, name, act) => {
    for (const tree of trees) {
      for (const element of tree.querySelectorAll(query)) {
        const value = element.getAttribute(name) ?? element.getAttribute(`xlink:${name}`);
        if (value) act(element, value);
      }
    }
  };
  const eachSet = (query, name, act) =>
    each(query, name, (element, set) => act(element, candidates(set)));
  // A page in a frame has a script of its own, if it may run.
  const isLive = (frame) => {
    try {
      return frame.contentWindow.pmxLive;
    } catch {}
  };
  // The stylesheets of all these, and those that they import.
  const rulesOf = (sheet) => {
    try {
      return [...sheet.cssRules];
    } catch {
      return [];
    }
  };
  const sheets = () => {
    const all = trees.flatMap((tree) => [...tree.styleSheets, ...tree.adoptedStyleSheets]);
    for (const sheet of all) {
      for (const { styleSheet } of rulesOf(sheet)) styleSheet && all.push(styleSheet);
    }
    return all;
  };
  const ADDRESSES = /url\((["']?)(.*?)\1\)/g;
  const seen = new WeakSet();
  const look = () => {
    trees = [document];
    for (const tree of trees) {
      for (const { shadowRoot } of tree.querySelectorAll("*")) shadowRoot && trees.push(shadowRoot);
    }
    each("link", "href", ({ rel, localName }, href) => {
      if (/stylesheet|icon|preload|manifest/.test(rel)) note(href, localName);
    });
    each("script,source,video,audio,track", "src", ({ localName }, src) => note(src, localName));
    for (const [query, name] of places) {
      each(query, name, (element, value) => isLive(element) || note(value, element.localName));
    }
    for (const [query, name] of [["img,source", "srcset"], ["link", "imagesrcset"]]) {
      eachSet(query, name, (_, parts) => parts.forEach(([address]) => note(address, "img")));
    }
    // What came with a stylesheet that the browser had kept is not reported.
    for (const sheet of sheets()) {
      if (seen.has(sheet)) continue;
      for (const { cssText, styleSheet } of rulesOf(sheet)) {
        seen.add(sheet);
        if (styleSheet) continue;
        for (const [, , address] of cssText.matchAll(ADDRESSES)) {
          note(address, "rule", sheet.href ?? undefined);
        }
      }
    }
    // What others load is reported to them, also where they have no script.
    for (const frame of trees.flatMap((tree) => [...tree.querySelectorAll("iframe,object")])) {
      if (isLive(frame) || frame.contentDocument?.readyState !== "complete") continue;
      const { performance } = frame.contentWindow;
      performance.getEntriesByType("resource").forEach(({ name }) => note(name, "fetch"));
    }
  };

  // The address of a file that changed, as it is asked for anew; notes which file it is.
  const renew = (address, is, done, base) => {
    const url = own(address, base);
    if (!url || !is(url)) return address;
    done.add(url.pathname);
    url.searchParams.set("pmx", at);
    return url.href;
  };
  // A stylesheet that is kept shows the files that it came with, after another load as well. So
  // what it names gets another address.
  const restyle = (is, done) => {
    const renewed = (text, base) =>
      text.replace(ADDRESSES, (whole, _, address) => {
        const other = renew(address, is, done, base);
        return other === address ? whole : `url("${other}")`;
      });
    for (const sheet of sheets()) {
      rulesOf(sheet).forEach(({ cssText, styleSheet }, index) => {
        const text = styleSheet ? cssText : renewed(cssText, sheet.href ?? undefined);
        if (text === cssText) return;
        sheet.insertRule(text, index);
        sheet.deleteRule(index + 1);
      });
    }
    each("[style]", "style", (element, old) => {
      const text = renewed(old);
      if (text !== old) element.style.cssText = text;
    });
  };
  // Stylesheets that another takes the place of, by that one.
  const before = new WeakMap();
  const leaving = new WeakSet();
  const exchange = (is) => {
    const done = new Set();
    each('link[rel~="stylesheet"]', "href", (old, value) => {
      const href = renew(value, is, done);
      if (href === value || leaving.has(old)) return;
      // The old one goes when the new one is there, so nothing is ever shown without style.
      const link = old.cloneNode();
      link.href = href;
      link.onload = () => {
        for (let one = link; (one = before.get(one)); ) one.remove();
        restyle(is, done);
      };
      link.onerror = () => (leaving.delete(old), link.remove());
      leaving.add(old);
      before.set(link, old);
      old.after(link);
    });
    for (const [query, name] of places) {
      each(query, name, (element, value) => {
        const live = isLive(element);
        const address = live ? value : renew(value, is, done);
        if (live && own(value)) done.add(own(value).pathname);
        if (address === value) return;
        element.setAttribute(name, address);
        element.removeAttribute(`xlink:${name}`);
      });
    }
    eachSet("img,source", "srcset", (element, parts) => {
      const renewed = parts.map(([address]) => renew(address, is, done));
      if (renewed.every((address, index) => address === parts[index][0])) return;
      element.srcset = renewed.map((a, index) => `${a} ${parts[index][1]}`).join(", ");
    });
    restyle(is, done);
    return done;
  };

  const reload = () => {
    kept("pmx.scroll", JSON.stringify([location.pathname, scrollX, scrollY]));
    close();
    location.reload();
  };

  // Where this page came from, and what it is called by now. A rule or the shell may show another
  // file there. In the place of a page that is not there, the site shows the nearest `404.html`.
  const came = location.pathname;
  const RULES = ["/_redirects", "/_site.toml"];
  const pages = () => {
    const all = [];
    const { missing, shown } = script?.dataset ?? {};
    if (shown) all.push(shown);
    // Other rules may show another page. Those of a build change with each of its files, so only
    // a missing page waits for them.
    if (shown || missing !== undefined) all.push(...RULES);
    if (missing !== undefined) {
      all.push("/_pmx/rules.json");
      const folders = came.split("/").slice(0, -1);
      folders.forEach((_, depth) => all.push([...folders.slice(0, depth + 1), "404"].join("/")));
    }
    return [...new Set([location.pathname, came, ...all])];
  };

  // Shows what keeps the site from being published whole; nothing is shown where all is well.
  let sign;
  const show = (lines) => {
    sign?.remove();
    if (!lines.length) return;
    sign = document.createElement("pmx-notice");
    const root = sign.attachShadow({ mode: "open" });
    const text = root.appendChild(document.createElement("div"));
    text.textContent = lines.join("\n");
    text.title = "Click to hide";
    text.style.cssText = `all:initial;position:fixed;left:8px;bottom:8px;z-index:2147483647;
      max-width:min(40em,90vw);max-height:30vh;overflow:auto;padding:6px 10px;border-radius:6px;
      font:12px/1.5 system-ui,sans-serif;white-space:pre-wrap;color:#fff;background:#7a2e00e6`;
    text.onclick = () => sign.remove();
    document.documentElement.append(sign);
  };

  // What of it changed since this tab was opened: the browser may still have it as it was.
  const fresh = new Set(JSON.parse(kept("pmx.fresh") || "[]"));
  const refresh = () => {
    look();
    if (fresh.size) exchange((url) => fresh.has(url.pathname));
  };

  // Takes in what changed.
  const take = (frame) => {
    if (frame.notice) return show(frame.notice);
    remember(frame);
    const { events } = frame;
    const changed = new Set(events.flatMap((event) => event.paths.map(key)));
    const partly = events.some((event) => event.truncated);
    if (!changed.size && !partly) return;
    const news = new CustomEvent("pmx:change", { detail: frame, cancelable: true });
    if (!document.dispatchEvent(news)) return;
    look();
    const is = (url) => changed.has(key(url.pathname));
    const used = [...loaded].filter(([path]) => is({ pathname: path }));
    for (const [path] of used) styled.has(path) && fresh.add(path);
    kept("pmx.fresh", JSON.stringify([...fresh].slice(-200)));
    if (partly || pages().some((path) => changed.has(key(path)))) return reload();
    if (used.some(([, rank]) => rank === 2)) return reload();
    const done = exchange(is);
    if (used.some(([path, rank]) => rank && !done.has(path))) reload();
  };

  let socket, timer, pulse, alive;
  let tries = 0;

  const close = () => {
    clearTimeout(timer);
    clearInterval(pulse);
    const old = socket;
    socket = null;
    old?.close();
  };

  // A public server that is replaced loses all sockets at once: they come back over ten seconds.
  const later = (least = 0, code = 1000) => {
    // A first deploy is waited for: for a minute as for any save, then without many requests.
    const most = script?.dataset.deploy !== "0" ? 30000 : tries < 60 ? 1000 : 5000;
    const isLost = isSecure && !tries && code !== 1000 && code < 4000;
    const wait = Math.max(least, Math.min(most, 250 * 2 ** tries++)) * (0.5 + Math.random());
    timer = setTimeout(connect, isLost ? Math.random() * 10000 : wait);
  };

  // Says what this page is, uses, and how far it is.
  const say = () => {
    look();
    const [page, ...more] = pages();
    const uses = [...more, ...loaded.keys()];
    // Where there is no site yet, its first deploy is news.
    const offset = at || script?.dataset.deploy === "0" ? `0_${at}` : "now";
    let wish = JSON.stringify({ page, uses, offset });
    // A page that would name too much subscribes to all that changes.
    if (uses.length > 500 || wish.length > 60000) wish = JSON.stringify({ all: true, offset });
    if (socket?.readyState === 1) socket.send(wish);
  };

  function connect() {
    close();
    if (document.hidden) return;
    const mine = (socket = new WebSocket(`${here.replace(/^http/, "ws")}/_events`, "pmx.v1"));
    mine.onopen = () => {
      alive = true;
      say();
      pulse = setInterval(() => {
        if (!alive) return mine.close();
        alive = false;
        mine.send("ping");
      }, 25000);
    };
    mine.onmessage = ({ data }) => {
      alive = true;
      tries = 0;
      if (data !== "pong" && socket === mine) take(JSON.parse(data));
    };
    mine.onclose = ({ code }) => {
      if (socket !== mine) return;
      close();
      if (code !== 4410) return later(code === 4404 ? 30000 : 0, code);
      // The server can't name the missed changes any more: all is new, once.
      if (kept("pmx.gone") === `${at}`) return (at = 0), later();
      kept("pmx.gone", at);
      reload();
    };
  }

  let soon;
  const again = () => {
    soon ||= setTimeout(() => ((soon = 0), say()), 500);
  };
  const isLinked = (address, rel) =>
    [...document.querySelectorAll(`link[rel~="${rel}"]`)].some(({ href }) => href === address);
  new PerformanceObserver((list) => {
    const known = loaded.size;
    for (const { name, initiatorType: how } of list.getEntries()) {
      // What is fetched for another page is none of this one.
      if (how === "link" && isLinked(name, "prefetch")) continue;
      note(name, how);
      if (how === "other" && /\.m?js$/.test(name) && !isLinked(name, "modulepreload")) {
        readWorker(name);
      }
    }
    if (loaded.size !== known) again();
  }).observe({ type: "resource", buffered: true });
  document.addEventListener("DOMContentLoaded", again);
  addEventListener("load", again);
  // A script may give the page another address.
  let called = came;
  const renamed = () => {
    if (called !== location.pathname) (called = location.pathname), again();
  };
  window.navigation?.addEventListener("currententrychange", renamed);
  if (!window.navigation) setInterval(renamed, 1000);

  // A hidden tab receives nothing; when it is shown again, it asks what it missed.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : connect()));
  addEventListener("pageshow", (event) => event.persisted && connect());
  addEventListener("pagehide", close);
  addEventListener("online", connect);

  document.readyState === "complete" ? refresh() : addEventListener("load", refresh);
  const [path, x, y] = JSON.parse(kept("pmx.scroll") || "[]");
  if (path === location.pathname) {
    kept("pmx.scroll", "[]");
    const back = () => scrollTo(x, y);
    document.readyState === "complete" ? back() : addEventListener("load", back);
  }
  connect();
})();
