// The official suite, against the server at CONFORMANCE_URL. With SUBSCRIPTIONS=1 also its tests
// of the reserved subscription addresses.
import { runConformanceTests } from "@durable-streams/server-conformance-tests";

const baseUrl = process.env.CONFORMANCE_URL;
if (!baseUrl) throw new Error("CONFORMANCE_URL says which server to test");
runConformanceTests({ baseUrl, subscriptions: process.env.SUBSCRIPTIONS === "1" });
