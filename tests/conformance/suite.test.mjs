// The official suite, against the server at CONFORMANCE_TEST_URL. With SUBSCRIPTIONS=1 also its tests
// of the reserved subscription addresses, whose webhooks come to this machine.
import { runConformanceTests } from "@durable-streams/server-conformance-tests";
import { withSecret } from "./bearer.mjs";

// workerd hangs up on connections that idle for five seconds. A client that was busy for as long
// does not notice in time, and the suite does not try again.
if (process.env.FRESH_CONNECTIONS === "1") {
  await fetch("data:,");
  const dispatcher = Symbol.for("undici.globalDispatcher.1");
  globalThis[dispatcher] = new globalThis[dispatcher].constructor({ pipelining: 0 });
}

const baseUrl = process.env.CONFORMANCE_TEST_URL;
if (!baseUrl) throw new Error("CONFORMANCE_TEST_URL says which server to test");
withSecret(baseUrl);
const longPoll = Number(process.env.LONGPOLL_TIMEOUT_MS ?? 0);
runConformanceTests({
  baseUrl,
  subscriptions: process.env.SUBSCRIPTIONS === "1",
  ...(longPoll > 0 && { longPollTimeoutMs: longPoll }),
});
