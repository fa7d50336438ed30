// A proxy that notices when a client leaves, which the runtime on this machine does not: it passes
// bytes on as they are, and says to the front which request has lost its client.

import { Agent, createServer, request } from "node:http";
import { connect } from "node:net";

// Listens on one port of this machine and passes everything on to another. Answers itself what
// `memory` says.
export function leave(port, inner, memory) {
  const agent = new Agent({ keepAlive: true });
  let count = 0;
  const server = createServer((asked, answered) => {
    if (asked.url === "/.unkind/memory") {
      answered.end(JSON.stringify(memory()));
      return;
    }
    const id = String((count += 1));
    const headers = [...ownHeaders(asked.rawHeaders), "x-unkind-request", id];
    const passed = request({ port: inner, host: "127.0.0.1", agent, method: asked.method, path: asked.url, headers, setHost: false });
    passed.on("response", (answer) => {
      answered.writeHead(answer.statusCode, answer.statusMessage, ownHeaders(answer.rawHeaders));
      answered.flushHeaders();
      answer.pipe(answered);
      answer.on("error", () => answered.destroy());
    });
    passed.on("error", () => answered.headersSent || answered.destroy());
    answered.on("close", () => {
      if (!answered.writableFinished) {
        request({ port: inner, host: "127.0.0.1", path: `/.unkind/left/${id}` }, (said) => said.resume())
          .on("error", () => {})
          .end();
        passed.destroy();
      }
    });
    asked.on("error", () => passed.destroy());
    // Passed on as a stream, no body would become an empty one of unknown length.
    const { "content-length": length, "transfer-encoding": coding } = asked.headers;
    length === undefined && coding === undefined ? passed.end() : asked.pipe(passed);
  });
  server.on("upgrade", (asked, socket, head) => tunnel(asked, socket, head, inner));
  server.on("clientError", (_, socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
  server.timeout = 0;
  server.requestTimeout = 0;
  server.headersTimeout = 0;
  return new Promise((listening) => server.listen(port, "127.0.0.1", listening));
}

// Headers without those that are about one connection.
function ownHeaders(raw) {
  return raw.filter((_, at) => !/^(connection|keep-alive)$/i.test(raw[at - (at % 2)]));
}

// A WebSocket: its two ends are tied to each other.
function tunnel(asked, socket, head, inner) {
  const to = connect(inner, "127.0.0.1", () => {
    to.write(`${asked.method} ${asked.url} HTTP/1.1\r\n`);
    for (let at = 0; at < asked.rawHeaders.length; at += 2) {
      to.write(`${asked.rawHeaders[at]}: ${asked.rawHeaders[at + 1]}\r\n`);
    }
    to.write("\r\n");
    to.write(head);
    to.pipe(socket).pipe(to);
  });
  for (const [one, other] of [[to, socket], [socket, to]]) {
    one.on("error", () => other.destroy());
    one.on("close", () => other.destroy());
  }
}
