// A live page: hears which deploys changed what it shows, and takes that in. Stylesheets and images
// are exchanged in place; the page is loaded again only if it changed itself, or a script of it.
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

  // `know` is the server's token of that deploy: it gives no older one to a request that has it.
  const remember = ({ deploy, know }) => {
    if (deploy > at) kept("pmx.deploy", (at = deploy));
    if (know && deploy >= at) {
      document.cookie = `_pmx_deploy=${know};path=/;max-age=120;samesite=lax`;
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

  // An address of this site, or nothing.
  const own = (address) => {
    try {
      const url = new URL(address, document.baseURI);
      return url.origin === here ? url : null;
    } catch {
      return null;
    }
  };

  // Everything that was loaded, by path, and what asked for it.
  const loaded = new Map();
  const note = (address, how) => {
    const path = own(address)?.pathname;
    if (path && !/^\/_(pmx\/|events$)/.test(path) && (!loaded.has(path) || how === "css")) {
      loaded.set(path, how);
    }
  };

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
    ["image,feImage", "href"],
  ];
  const sets = [
    ["img,source", "srcset"],
    ['link[rel="preload"]', "imagesrcset"],
  ];
  const each = (query, name, act) => {
    for (const element of document.querySelectorAll(query)) {
      const value = element.getAttribute(name) ?? element.getAttribute(`xlink:${name}`);
      if (value) act(element, value);
    }
  };
  // A page in a frame has a script of its own, if it may run.
  const isLive = (frame) => {
    try {
      return frame.contentWindow.pmxLive;
    } catch {}
  };
  const look = () => {
    each("link", "href", ({ rel, localName }, href) => {
      if (/stylesheet|icon|preload|manifest/.test(rel)) note(href, localName);
    });
    each("script,source,video,audio,track", "src", ({ localName }, src) => note(src, localName));
    each("use", "href", (_, href) => note(href, "use"));
    for (const [query, name] of places) {
      each(query, name, (element, value) => isLive(element) || note(value, element.localName));
    }
    for (const [query, name] of sets) {
      each(query, name, (_, set) => candidates(set).forEach(([address]) => note(address, "img")));
    }
  };

  // Exchanges every address in an attribute whose file changed; notes which files these are.
  const renew = (address, is, done) => {
    const url = own(address);
    if (!url || !is(url)) return address;
    done.add(url.pathname);
    url.searchParams.set("pmx", at);
    return url.href;
  };
  const leaving = new WeakSet();
  const exchange = (is) => {
    const done = new Set();
    for (const old of document.querySelectorAll('link[rel~="stylesheet"][href]')) {
      const href = renew(old.href, is, done);
      if (href === old.href || leaving.has(old)) continue;
      // The old one goes when the new one is there, so nothing is ever shown without style.
      const link = old.cloneNode();
      link.href = href;
      link.onload = () => old.remove();
      link.onerror = () => (leaving.delete(old), link.remove());
      leaving.add(old);
      old.after(link);
    }
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
    for (const [query, name] of sets) {
      each(query, name, (element, set) => {
        const parts = candidates(set);
        const renewed = parts.map(([address]) => renew(address, is, done));
        if (renewed.every((address, index) => address === parts[index][0])) return;
        element.setAttribute(name, renewed.map((a, index) => `${a} ${parts[index][1]}`).join(", "));
      });
    }
    return done;
  };

  const reload = () => {
    kept("pmx.scroll", JSON.stringify([location.pathname, scrollX, scrollY]));
    close();
    location.reload();
  };

  // Where this page came from, and what it is called by now. In the place of a page that is not
  // there, the site shows the nearest `404.html`.
  const came = location.pathname;
  const pages = () => {
    const all = [came, location.pathname];
    if (script?.dataset.missing !== undefined) {
      const folders = came.split("/").slice(0, -1);
      folders.forEach((_, depth) => all.push([...folders.slice(0, depth + 1), "404"].join("/")));
    }
    return [...new Set(all)];
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
    if (partly || pages().some((path) => changed.has(key(path)))) return reload();
    const used = [...loaded].filter(([path]) => is({ pathname: path }));
    // What stylesheets asked for may be an image of the page too, and is not exchanged with it.
    if (used.some(([, how]) => /^(css|script|fetch|xmlhttprequest|use)$/.test(how))) return reload();
    // Whatever else is used and can't be exchanged takes another load.
    const done = exchange(is);
    if (used.some(([path, how]) => !done.has(path) && how !== "iframe")) reload();
  };

  let socket, timer, pulse, heard;
  let tries = 0;

  const close = () => {
    clearTimeout(timer);
    clearInterval(pulse);
    const old = socket;
    socket = null;
    old?.close();
  };

  const later = (least = 0) => {
    const most = script?.dataset.deploy === "0" ? 1000 : 30000;
    const wait = Math.max(least, Math.min(most, 250 * 2 ** tries++)) * (0.5 + Math.random());
    timer = setTimeout(connect, wait);
  };

  // Says what this page is, uses, and how far it is.
  const say = () => {
    look();
    const [page, ...more] = pages().reverse();
    const uses = [...more, ...loaded.keys()].slice(0, 500);
    // Where there is no site yet, its first deploy is news.
    const offset = at || script?.dataset.deploy === "0" ? `0_${at}` : "now";
    if (socket?.readyState === 1) {
      socket.send(JSON.stringify({ page, uses, offset }));
    }
  };

  function connect() {
    close();
    if (document.hidden) return;
    const mine = (socket = new WebSocket(`${here.replace(/^http/, "ws")}/_events`, "pmx.v1"));
    mine.onopen = () => {
      heard = true;
      say();
      pulse = setInterval(() => {
        if (!heard) return mine.close();
        heard = false;
        mine.send("ping");
      }, 25000);
    };
    mine.onmessage = ({ data }) => {
      heard = true;
      tries = 0;
      if (data !== "pong" && socket === mine) take(JSON.parse(data));
    };
    mine.onclose = ({ code }) => {
      if (socket !== mine) return;
      close();
      if (code !== 4410) return later(code === 4404 ? 30000 : 0);
      // What was missed can't be told any more: all is new, once.
      if (kept("pmx.gone") === `${at}`) return (at = 0), later();
      kept("pmx.gone", at);
      reload();
    };
  }

  let soon;
  const again = () => {
    clearTimeout(soon);
    soon = setTimeout(say, 500);
  };
  // What is fetched for another page is none of this one.
  const isAhead = ({ name, initiatorType }) =>
    initiatorType === "link" &&
    [...document.querySelectorAll('link[rel~="prefetch"]')].some(({ href }) => href === name);
  new PerformanceObserver((list) => {
    const known = loaded.size;
    for (const entry of list.getEntries()) isAhead(entry) || note(entry.name, entry.initiatorType);
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

  // A tab that nobody looks at is told nothing; when somebody does, it asks what it missed.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : connect()));
  addEventListener("pageshow", (event) => event.persisted && connect());
  addEventListener("pagehide", close);
  addEventListener("online", connect);

  const [path, x, y] = JSON.parse(kept("pmx.scroll") || "[]");
  if (path === location.pathname) {
    kept("pmx.scroll", "[]");
    const back = () => scrollTo(x, y);
    document.readyState === "complete" ? back() : addEventListener("load", back);
  }
  connect();
})();
