// Credentials for programs that send none: with STREAM_SECRET set, each request to `base` carries
// it. Nothing is sent by plain http over a network.
export function withSecret(base) {
  const secret = process.env.STREAM_SECRET;
  if (!secret) return;
  const { origin, protocol, hostname } = new URL(base);
  const isHere = ["localhost", "127.0.0.1", "[::1]"].includes(hostname);
  if (protocol !== "https:" && !isHere) {
    throw new Error(`STREAM_SECRET is not sent to ${origin}: use https`);
  }
  const send = globalThis.fetch;
  globalThis.fetch = (input, init = {}) => {
    const url = new URL(input instanceof Request ? input.url : input);
    if (url.origin !== origin) return send(input, init);
    const headers = new Headers(init.headers ?? (input instanceof Request ? input.headers : {}));
    if (!headers.has("authorization")) headers.set("authorization", `Bearer ${secret}`);
    return send(input, { ...init, headers });
  };
}
