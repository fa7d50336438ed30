// The bindings of an isolate, each in a wrapper that makes it as unreliable as the platform's.

// `env` as the Worker is to see it.
export function unkind({ UNKIND, ...env }, lagging, faults) {
  return {
    ...env,
    POINTERS: over(env.POINTERS, {
      get: (key) => faults.around("kv get", "get", () => lagging.get(key)),
      put: (...put) => faults.around("kv put", "put", () => lagging.put(...put)),
    }),
    OBJECTS: bucket(slowed(env.OBJECTS, UNKIND.slow, faults), faults),
    SPACE: namespace(env.SPACE, faults, "space"),
    STREAM: namespace(env.STREAM, faults, "stream"),
    HUB: namespace(env.HUB, faults, "hub"),
    ...(env.ANALYTICS && { ANALYTICS: counted(env.ANALYTICS, faults) }),
  };
}

function bucket(r2, faults) {
  const methods = ["get", "head", "put", "delete", "list"].map((name) => [
    name,
    (...given) => faults.around(`r2 ${name}`, name, () => r2[name](...given), discard),
  ]);
  return over(r2, Object.fromEntries(methods));
}

// A bucket that takes its time to write. What began and what is done is counted.
function slowed(r2, millis, faults) {
  const put = async (...given) => {
    faults.note("begun: r2 put");
    await scheduler.wait(millis);
    const done = await r2.put(...given);
    faults.note("done: r2 put");
    return done;
  };
  return millis > 0 ? over(r2, { put }) : r2;
}

function namespace(objects, faults, kind) {
  const fails = (stub) =>
    over(stub, {
      fetch: (...given) => faults.around(`stub ${kind}`, "fetch", () => stub.fetch(...given), discard),
    });
  return over(objects, {
    getByName: (...given) => fails(objects.getByName(...given)),
    get: (...given) => fails(objects.get(...given)),
  });
}

// Points that are written, by what they are about; how long the shortest and the longest took.
function counted(analytics, faults) {
  const writeDataPoint = (point) => {
    faults.note(`point ${point.blobs[1]}`);
    faults.least(`shortest ${point.blobs[1]}`, point.doubles[2]);
    faults.most(`longest ${point.blobs[1]}`, point.doubles[2]);
    analytics.writeDataPoint(point);
  };
  return over(analytics, { writeDataPoint });
}

// What is never handed on must not keep its connection.
async function discard(made) {
  await made?.body?.cancel?.();
  made?.webSocket?.accept();
  made?.webSocket?.close(1011);
}

// An object of the platform, some of whose methods are others. The rest needs the object itself.
export function over(object, methods) {
  return new Proxy(object, {
    get(target, name) {
      if (Object.hasOwn(methods, name)) {
        return methods[name];
      }
      const value = target[name];
      const isMethod = typeof value === "function" && name !== "constructor";
      return isMethod ? value.bind(target) : value;
    },
  });
}
