// BLAKE3 in plain JavaScript: neither Node nor Bun has it, and publish.mjs has no dependency.

const IV = Uint32Array.of(
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
);
const ORDER = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
const [CHUNK_START, CHUNK_END, PARENT, ROOT] = [1, 2, 4, 8];
const CHUNK = 1024;

// The words of a block, in the order of each of the seven rounds.
const ROUNDS = [ORDER.map((_, at) => at)];
while (ROUNDS.length < 7) ROUNDS.push(ORDER.map((from) => ROUNDS.at(-1)[from]));

const s = new Int32Array(16);

function mix(a, b, c, d, x, y) {
  s[a] = s[a] + s[b] + x;
  s[d] ^= s[a];
  s[d] = (s[d] >>> 16) | (s[d] << 16);
  s[c] = s[c] + s[d];
  s[b] ^= s[c];
  s[b] = (s[b] >>> 12) | (s[b] << 20);
  s[a] = s[a] + s[b] + y;
  s[d] ^= s[a];
  s[d] = (s[d] >>> 8) | (s[d] << 24);
  s[c] = s[c] + s[d];
  s[b] ^= s[c];
  s[b] = (s[b] >>> 7) | (s[b] << 25);
}

function compress(value, w, counter, length, flags) {
  for (let at = 0; at < 8; at++) s[at] = value[at];
  for (let at = 0; at < 4; at++) s[8 + at] = IV[at];
  s[12] = counter;
  s[13] = counter / 2 ** 32;
  s[14] = length;
  s[15] = flags;
  for (const r of ROUNDS) {
    mix(0, 4, 8, 12, w[r[0]], w[r[1]]);
    mix(1, 5, 9, 13, w[r[2]], w[r[3]]);
    mix(2, 6, 10, 14, w[r[4]], w[r[5]]);
    mix(3, 7, 11, 15, w[r[6]], w[r[7]]);
    mix(0, 5, 10, 15, w[r[8]], w[r[9]]);
    mix(1, 6, 11, 12, w[r[10]], w[r[11]]);
    mix(2, 7, 8, 13, w[r[12]], w[r[13]]);
    mix(3, 4, 9, 14, w[r[14]], w[r[15]]);
  }
  return Int32Array.from({ length: 8 }, (_, at) => s[at] ^ s[at + 8]);
}

const block = new Uint8Array(64);
const blockView = new DataView(block.buffer);
const words = new Int32Array(16);

function chunk(bytes, counter, root) {
  let value = IV;
  for (let at = 0; at === 0 || at < bytes.length; at += 64) {
    const part = bytes.subarray(at, at + 64);
    block.fill(0);
    block.set(part);
    for (let word = 0; word < 16; word++) words[word] = blockView.getInt32(4 * word, true);
    const start = at === 0 ? CHUNK_START : 0;
    const end = at + 64 >= bytes.length ? CHUNK_END | root : 0;
    value = compress(value, words, counter, part.length, start | end);
  }
  return value;
}

function tree(bytes, counter, root) {
  if (bytes.length <= CHUNK) return chunk(bytes, counter, root);
  const chunks = Math.floor((bytes.length - 1) / CHUNK);
  const left = 2 ** (31 - Math.clz32(chunks));
  const halves = [
    ...tree(bytes.subarray(0, left * CHUNK), counter, 0),
    ...tree(bytes.subarray(left * CHUNK), counter + left, 0),
  ];
  return compress(IV, halves, 0, 64, PARENT | root);
}

/** The BLAKE3 hash of a Uint8Array, in hexadecimal digits. */
export function blake3(bytes) {
  const digest = new DataView(new ArrayBuffer(32));
  tree(bytes, 0, ROOT).forEach((word, at) => digest.setInt32(4 * at, word, true));
  return Buffer.from(digest.buffer).toString("hex");
}
