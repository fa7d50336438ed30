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

  const remember = (deploy) => {
    at = deploy;
    kept("pmx.deploy", at);
    document.cookie = `_pmx_deploy=${at};path=/;max-age=120;samesite=lax`;
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

  // Everything that was loaded, by path: and whether a stylesheet asked for it.
  const loaded = new Map();
  const note = (address, how) => {
    const path = own(address)?.pathname;
    if (path && !/^\/_(pmx\/|events$)/.test(path) && (!loaded.has(path) || how === "css")) {
      loaded.set(path, how);
    }
  };
  const look = () => {
    for (const element of document.querySelectorAll("link[href],script[src],img[src],video[poster]")) {
      const { rel } = element;
      if (rel && !/stylesheet|icon|preload/.test(rel)) continue;
      note(element.href || element.src || element.poster, element.localName);
    }
    for (const element of document.querySelectorAll("[srcset]")) {
      for (const part of element.srcset.split(/,\s+/)) note(part.trim().split(/\s/)[0], "img");
    }
  };

  // Exchanges every address in an attribute whose file changed.
  const renew = (address, is) => {
    const url = own(address);
    if (!url || !is(url)) return address;
    url.searchParams.set("pmx", at);
    return url.href;
  };
  const leaving = new WeakSet();
  const exchange = (is) => {
    let done = false;
    for (const old of document.querySelectorAll('link[rel~="stylesheet"][href]')) {
      const href = renew(old.href, is);
      if (href === old.href || leaving.has(old)) continue;
      // The old one goes when the new one is there, so nothing is ever shown without style.
      const link = old.cloneNode();
      link.href = href;
      link.onload = () => old.remove();
      link.onerror = () => (leaving.delete(old), link.remove());
      leaving.add(old);
      old.after(link);
      done = true;
    }
    for (const [query, name] of [
      ["img[src],input[src]", "src"],
      ["video[poster]", "poster"],
      ['link[rel~="icon"][href]', "href"],
    ]) {
      for (const element of document.querySelectorAll(query)) {
        const address = renew(element[name], is);
        if (address !== element[name]) (element[name] = address), (done = true);
      }
    }
    for (const element of document.querySelectorAll("[srcset]")) {
      const parts = element.srcset.split(/,\s+/).map((part) => {
        const [address, ...rest] = part.trim().split(/\s+/);
        return [renew(address, is), ...rest].join(" ");
      });
      const set = parts.join(", ");
      if (own(parts[0]) && set.includes(`pmx=${at}`)) (element.srcset = set), (done = true);
    }
    return done;
  };

  const reload = () => {
    kept("pmx.scroll", JSON.stringify([location.pathname, scrollX, scrollY]));
    close();
    location.reload();
  };

  // Takes in what changed.
  const take = (frame) => {
    if (frame.deploy > at) remember(frame.deploy);
    const { events } = frame;
    const changed = new Set(events.flatMap((event) => event.paths.map(key)));
    const partly = events.some((event) => event.truncated);
    if (!changed.size && !partly) return;
    const news = new CustomEvent("pmx:change", { detail: frame, cancelable: true });
    if (!document.dispatchEvent(news)) return;
    look();
    const is = (url) => changed.has(key(url.pathname));
    // Whether nothing but another load takes it in: scripts, and what stylesheets asked for.
    const deep = ([path, how]) =>
      is({ pathname: path }) && (how === "css" || how === "script" || /\.(m?js|wasm)$/.test(path));
    if (partly || is(location) || [...loaded].some(deep)) return reload();
    exchange(is);
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
    const wait = Math.max(least, Math.min(30000, 250 * 2 ** tries++)) * (0.5 + Math.random());
    timer = setTimeout(connect, wait);
  };

  // Says what this page is, uses, and how far it is.
  const say = () => {
    look();
    const uses = [...loaded.keys()].slice(0, 500);
    const offset = at ? `0_${at}` : "now";
    if (socket?.readyState === 1) {
      socket.send(JSON.stringify({ page: location.pathname, uses, offset }));
    }
  };

  function connect() {
    close();
    if (document.hidden) return;
    const mine = (socket = new WebSocket(`${here.replace(/^http/, "ws")}/_events`));
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
  new PerformanceObserver((list) => {
    const known = loaded.size;
    for (const { name, initiatorType } of list.getEntries()) note(name, initiatorType);
    if (loaded.size !== known) again();
  }).observe({ type: "resource", buffered: true });
  window.navigation?.addEventListener("navigatesuccess", again);

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
