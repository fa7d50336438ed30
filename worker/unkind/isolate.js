// An isolate of the Worker as it is built, between bindings that fail: the entry of each of them.
//
// The objects live in one of these isolates. A second build, if there is one, may lie beside the
// first: each object that is made then takes one of the two, as during a gradual deployment.

import { moduleBytes } from "./module.js";
import { DurableObject } from "cloudflare:workers";
import * as newest from "../build/index.js";
import * as older from "../older/index.js";
import { unkind } from "./bindings.js";
import { draw } from "./chance.js";
import { Depth } from "./depth.js";
import { Faults } from "./faults.js";
import { LaggingKv } from "./kv.js";

let made;

function isolate(env) {
  if (made === undefined) {
    const { seed, isolate, faults, resets, isOlder } = env.UNKIND;
    const failing = new Faults(`${seed}/${isolate}`, faults);
    const lagging = new LaggingKv(env.POINTERS, `${seed}/${isolate}`, env.UNKIND.lag);
    made = {
      seed: `${seed}/${isolate}`,
      faults: failing,
      lagging,
      resets,
      build: isOlder ? older : newest,
      env: unkind(env, lagging, failing),
    };
  }
  return made;
}

export default {
  fetch(request, env, context) {
    const { build, faults, env: wrapped } = isolate(env);
    if (request.url.startsWith("http://unkind/")) {
      return asked(request, isolate(env), env);
    }
    return build.default.fetch(request, wrapped, context);
  },
};

// What the front asks, and no client.
async function asked(request, { faults, lagging }, env) {
  switch (new URL(request.url).pathname) {
    case "/report":
      return Response.json({ faults: faults.counts, module: moduleBytes() });
    case "/fail":
      faults.plan(await request.json());
      return new Response();
    case "/written":
      await Promise.all([...spaces].map((name) => delivered(env.SPACE.getByName(name))));
      return Response.json(lagging.written());
    default:
      return Response.json(lagging.settles(await request.json()));
  }
}

// The names of all spaces that were alive.
const spaces = new Set();

// Waits until a space has written its pointers.
async function delivered(space) {
  while (await (await space.fetch("http://unkind/pending")).json()) {
    await scheduler.wait(20);
  }
}

function object(name) {
  return class extends DurableObject {
    #inner;
    #isolate;
    #depth;

    constructor(context, env) {
      super(context, env);
      this.#isolate = isolate(env);
      const { seed } = this.#isolate;
      const isOlder = env.UNKIND.isMixed && draw(seed, "version") < 0.5;
      // A release from before a class has none.
      const build = isOlder && older[name] ? older : newest;
      this.#depth = new Depth(this.#isolate.faults);
      this.#inner = new build[name](context, this.#depth.within(this.#isolate.env));
      if (name === "SpaceDO") {
        spaces.add(context.id.name);
      }
    }

    async fetch(request) {
      if (request.url === "http://unkind/pending") {
        return Response.json(this.#hasPointers());
      }
      this.#depth.arrived(request);
      return this.#orReset(() => this.#inner.fetch(request));
    }

    // Whether pointers wait in the space's outbox. Its alarm says less: a preview may end in a week.
    #hasPointers() {
      const rows = (select) => this.ctx.storage.sql.exec(select).toArray().length;
      const hasTable = rows("SELECT 1 FROM sqlite_master WHERE name = 'outbox'");
      return hasTable > 0 && rows("SELECT 1 FROM outbox LIMIT 1") > 0;
    }

    alarm(info) {
      this.#depth.rung();
      return this.#orReset(() => this.#inner.alarm(info));
    }

    webSocketMessage(socket, message) {
      return this.#inner.webSocketMessage(socket, message);
    }

    webSocketClose(socket, code, reason, clean) {
      return this.#inner.webSocketClose(socket, code, reason, clean);
    }

    webSocketError(socket, error) {
      return this.#inner.webSocketError(socket, error);
    }

    // Does something and may end in the middle of it: at once, after some turns, or when all is on
    // disk and only the answer is missing.
    async #orReset(handle) {
      const { seed, resets, faults } = this.#isolate;
      const drawn = draw(seed, `reset ${name}`);
      if (drawn >= resets) {
        return handle();
      }
      const when = ["before", "during", "after"][Math.floor((drawn / resets) * 3)];
      const handled = when === "before" ? undefined : handle();
      if (when === "during") {
        await Promise.race([scheduler.wait(draw(seed, "turns") * 20), handled]);
      } else if (when === "after") {
        await handled;
        await this.ctx.storage.sync();
      }
      faults.note(`reset ${name} ${when}`);
      console.log(`fault: a reset of ${name}, ${when} its work`);
      this.ctx.abort(RESET);
      return handled;
    }
  };
}

const RESET = "Internal error in Durable Object storage caused object to be reset.";

export const SpaceDO = object("SpaceDO");
export const StreamDO = object("StreamDO");
export const HubDO = object("HubDO");
export const DomainsDO = object("DomainsDO");
