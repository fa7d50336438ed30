// Heads on their way into the module and out of it, as one text each: a call for each header costs
// more than the header.

const NONE = "\0";

// The method and the address of a request, and the values of some of its headers, a line each. None
// has a line's end in it, and no value is what stands for one that is not there.
export function picked(request, lists) {
  const { headers, method } = request;
  let text = `${method}\n${request.url}`;
  for (const name of lists[method] ?? lists.OTHER) {
    text += `\n${headers.get(name) ?? NONE}`;
  }
  return text;
}

// The same with all headers: a line for each name, and one for its value.
export function all(request) {
  return [request.method, request.url, ...[...request.headers].flat()].join("\n");
}

// What the client itself accepts. The header says what Cloudflare's own edge does, always.
export function accepted(request) {
  return request.cf?.clientAcceptEncoding;
}

// The headers of an answer, from lines of the same kind.
export function headersOf(text) {
  return new Headers(pairs(text));
}

// An answer. Its body is encoded already if a header says so.
export function answered(status, text, body, isEncoded) {
  const encodeBody = isEncoded ? "manual" : "automatic";
  return new Response(body, { status, headers: pairs(text), encodeBody });
}

// A record costs the runtime half of what pairs do, and has each name once.
function pairs(text) {
  const lines = text.split("\n");
  const record = {};
  for (let at = 0; at + 1 < lines.length; at += 2) {
    if (record[lines[at]] !== undefined) {
      return lines.flatMap((name, at) => (at % 2 ? [] : [[name, lines[at + 1]]])).slice(0, -1);
    }
    record[lines[at]] = lines[at + 1];
  }
  return record;
}
