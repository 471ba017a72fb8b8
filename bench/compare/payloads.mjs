/**
 * The same payloads for every contender and every round: random bytes, which
 * do not compress, from a fixed seed. A ring of them keeps the generator out
 * of what is measured.
 */

const RING = 64;

/** `RING` payloads of `bytes` bytes each. */
export function makePayloads(bytes) {
  let state = 0x9e3779b9;
  return Array.from({ length: RING }, () => {
    const payload = new Uint8Array(bytes);
    for (let i = 0; i < bytes; i++) {
      state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x6d2b79f5 | 0;
      payload[i] = state >>> 24;
    }
    return payload;
  });
}

/** Lists of `count` payloads, for batches. */
export function makeBatch(payloads, count) {
  return Array.from({ length: count }, (_, i) => payloads[i % RING]);
}

/** Numbers below `limit` without end, the same ones in every process. */
export function* randomBelow(limit) {
  for (let state = 12345;;) {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    yield Math.floor(state / 0x80000000 * limit);
  }
}
