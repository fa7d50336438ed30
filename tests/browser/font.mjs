// A TrueType font with one letter, `A`, that is `width` thousandths of an em wide.

const u16 = (...values) => values.flatMap((value) => [(value >> 8) & 255, value & 255]);
const u32 = (...values) => values.flatMap((value) => u16(value >>> 16, value & 65535));
const none = (count) => Array(count).fill(0);

// A square of 100 units: its box, one contour that ends with point 3, four points on the curve.
const square = [
  ...u16(1, 0, 0, 100, 100, 3, 0),
  ...[1, 1, 1, 1],
  ...u16(0, 100, 0, -100),
  ...u16(0, 0, 100, 0),
  ...none(2),
];

const tables = (width) => ({
  "OS/2": [
    ...u16(4, width, 400, 5, 0),
    ...none(52),
    ...u16(64, 65, 65, 800, -200, 0, 800, 200),
    ...none(18),
  ],
  // Format 4: a segment for `A`, and the one that ends all.
  cmap: [
    ...u16(0, 1, 3, 1),
    ...u32(12),
    ...u16(4, 32, 0, 4, 4, 1, 0, 65, 65535, 0, 65, 65535, -64, 1, 0, 0),
  ],
  glyf: square,
  head: [
    ...u32(0x10000, 0x10000, 0, 0x5f0f3cf5),
    ...u16(0, 1000),
    ...none(16),
    ...u16(0, 0, 100, 100, 0, 8, 2, 1, 0),
  ],
  hhea: [...u32(0x10000), ...u16(800, -200, 0, width, 0, 0, 100, 1), ...none(14), ...u16(2)],
  hmtx: u16(width, 0, width, 0),
  loca: u32(0, 0, square.length),
  maxp: [...u32(0x10000), ...u16(2, 4, 1, 0, 0, 2), ...none(16)],
  name: u16(0, 0, 6),
  post: [...u32(0x30000), ...none(28)],
});

export function font(width) {
  const all = Object.entries(tables(width));
  const head = [...u32(0x10000), ...u16(all.length, 128, 3, 32)];
  const body = [];
  for (const [tag, bytes] of all) {
    const start = 12 + 16 * all.length + body.length;
    const name = [...tag].map((letter) => letter.charCodeAt(0));
    head.push(...name, ...u32(sum(bytes), start, bytes.length));
    body.push(...bytes, ...none(-bytes.length & 3));
  }
  return Buffer.from([...head, ...body]);
}

function sum(bytes) {
  let total = 0;
  bytes.forEach((byte, at) => (total += byte << (24 - 8 * (at & 3))));
  return total;
}
