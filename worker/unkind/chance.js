// Seeded chance: the n-th draw of a kind has the same outcome in every run with the same seed.
//
// Kinds are counted apart, so that one more request of one kind does not change the fate of another.

const drawn = new Map();

// A number from 0 (included) to 1 (excluded).
export function draw(seed, kind) {
  const count = drawn.get(kind) ?? 0;
  drawn.set(kind, count + 1);
  return fraction(`${seed}/${kind}/${count}`);
}

// The same for something that has a name: always the same number for one name.
export function fraction(name) {
  let hash = 0x811c9dc5;
  for (let at = 0; at < name.length; at += 1) {
    hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193);
  }
  // The last bits of a name hardly reach the first ones of its hash.
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
}

// One of several.
export function pick(seed, kind, some) {
  return some[Math.floor(draw(seed, kind) * some.length)];
}
