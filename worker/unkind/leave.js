// A proxy that notices when a client leaves, which the runtime on this machine does not: it passes
// bytes on as they are, and says to the front which request has lost its client.

import { Agent, createServer, request } from "node:http";
import { connect } from "node:net";

// Listens on one port of this machine and passes everything on to another. Answers itself what
// `memory` says.
export function leave(port, inner, memory) {
  // The runtime closes a connection behind a body that no isolate read. So each request has its own.
  const agent = new Agent({ keepAlive: false });
  let count = 0;
  const server = createServer((asked, answered) => {
    if (asked.url === "/.unkind/memory") {
      answered.end(JSON.stringify(memory()));
      return;
    }
    const id = String((count += 1));
    const { method, url: path } = asked;
    const passed = request({ port: inner, host: "127.0.0.1", agent, method, path, setHost: false });
    pairs([...ownHeaders(asked.rawHeaders), "x-unkind-request", id], (...header) => passed.appendHeader(...header));
    // Otherwise node would make an empty body of it, and one of unknown length where it may.
    hasBody(asked) || ["content-length", "transfer-encoding"].forEach((name) => passed.removeHeader(name));
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
    // An answer may come before the first byte of a body.
    passed.flushHeaders();
    asked.pipe(passed);
  });
  server.on("upgrade", (asked, socket, head) => tunnel(asked, socket, head, inner));
  server.on("clientError", (_, socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
  server.timeout = 0;
  server.requestTimeout = 0;
  server.headersTimeout = 0;
  return new Promise((listening) => server.listen(port, "127.0.0.1", listening));
}

function hasBody({ headers }) {
  return "content-length" in headers || "transfer-encoding" in headers;
}

// Does something with each name and value of a list of headers.
function pairs(raw, each) {
  for (let at = 0; at < raw.length; at += 2) {
    each(raw[at], raw[at + 1]);
  }
}

// Headers without those that are about one connection.
function ownHeaders(raw) {
  return raw.filter((_, at) => !/^(connection|keep-alive)$/i.test(raw[at - (at % 2)]));
}

// A WebSocket: its two ends are tied to each other.
function tunnel(asked, socket, head, inner) {
  const to = connect(inner, "127.0.0.1", () => {
    to.write(`${asked.method} ${asked.url} HTTP/1.1\r\n`);
    pairs(asked.rawHeaders, (name, value) => to.write(`${name}: ${value}\r\n`));
    to.write("\r\n");
    to.write(head);
    to.pipe(socket).pipe(to);
  });
  for (const [one, other] of [[to, socket], [socket, to]]) {
    one.on("error", () => other.destroy());
    one.on("close", () => other.destroy());
  }
}
