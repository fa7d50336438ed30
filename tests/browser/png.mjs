// Screenshots: PNG with eight bits a sample and without interlacing.

import { inflateSync } from "node:zlib";

// Returns the colour of each pixel: red, green, blue.
export function pixels(png) {
  const file = Buffer.from(png);
  const [width, height] = [file.readUInt32BE(16), file.readUInt32BE(20)];
  const samples = file[25] === 6 ? 4 : 3;
  const parts = [];
  for (let at = 8; at < file.length; at += file.readUInt32BE(at) + 12) {
    const end = at + 8 + file.readUInt32BE(at);
    if (file.toString("latin1", at + 4, at + 8) === "IDAT") parts.push(file.subarray(at + 8, end));
  }
  const data = inflateSync(Buffer.concat(parts));
  const row = width * samples;
  const out = Buffer.alloc(row * height);
  for (let at = 0; at < out.length; at += 1) {
    const [y, x] = [Math.floor(at / row), at % row];
    const left = x < samples ? 0 : out[at - samples];
    const up = y ? out[at - row] : 0;
    const corner = y && x >= samples ? out[at - row - samples] : 0;
    out[at] = data[at + y + 1] + predicted(data[y * (row + 1)], left, up, corner);
  }
  return (x, y) => [...out.subarray(y * row + x * samples, y * row + x * samples + 3)];
}

function predicted(filter, left, up, corner) {
  if (filter < 4) return [0, left, up, (left + up) >> 1][filter];
  const near = (value) => Math.abs(left + up - corner - value);
  return [left, up, corner].reduce((best, value) => (near(value) < near(best) ? value : best));
}
