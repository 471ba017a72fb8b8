/**
 * CRC-32 (IEEE 802.3, as zlib): the checksum of every record and frame.
 *
 * Long inputs go to zlib, which every runtime has built in and which uses the
 * processor's instructions; short ones are done here by "slicing by four",
 * because the call alone costs more than they do. A frame's header is
 * checksummed word by word, without touching memory: `crcBegin`, `crcWord` …,
 * `crcEnd`. All of them give the same values and continue one another.
 *
 * The only file of src/ that imports a `node:` module.
 *
 * @module
 */

import { crc32 as zlibCrc32 } from "node:zlib";

/** The reflected form of the polynomial 0x04c11db7. */
const POLYNOMIAL = 0xedb88320;

/**
 * From this many bytes on zlib is asked: there its vector code sets in.
 * Measured with a seed on Deno 2.9 and Bun 1.4, x86-64: zlib 45 to 98 ns for
 * 32 or 48 bytes, 24 to 47 ns for 64 to 128; the loop below 27 to 46 ns for
 * 32, 39 to 68 for 48, 52 to 92 for 64. On Node 26 they meet at about 96.
 */
export const CRC_ZLIB_BYTES_MIN = 64;

// Int32Array: its elements are what `^` works on, so nothing is converted.
// Four tables of their own: measured 20 ns for nine words on Deno and Bun,
// against 25 ns for one table of 1024 elements and an offset.
const TABLE_0: Int32Array<ArrayBuffer> = byteTable();
const TABLE_1: Int32Array<ArrayBuffer> = nextTable(TABLE_0);
const TABLE_2: Int32Array<ArrayBuffer> = nextTable(TABLE_1);
const TABLE_3: Int32Array<ArrayBuffer> = nextTable(TABLE_2);

/**
 * The checksum of `bytes`, from 0 to 2^32 - 1.
 *
 * With the checksum of what came before as `seed`, it is that of both:
 * `crc32(b, crc32(a))` is the checksum of a followed by b.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { crc32 } from "./crc32.ts";
 *
 * const bytes = new TextEncoder().encode("123456789");
 * assert.equal(crc32(bytes), 0xcbf43926);
 *
 * const head = crc32(bytes.subarray(0, 4));
 * assert.equal(crc32(bytes.subarray(4), head), 0xcbf43926);
 * ```
 */
export function crc32(bytes: Uint8Array, seed: number = 0): number {
  if (bytes.length >= CRC_ZLIB_BYTES_MIN) return zlibCrc32(bytes, seed);
  return crc32Short(bytes, seed);
}

/**
 * The same as `crc32`, always in JavaScript: what short inputs take.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { crc32Short } from "./crc32.ts";
 *
 * const bytes = new TextEncoder().encode("123456789");
 * assert.equal(crc32Short(bytes, 0), 0xcbf43926);
 * ```
 */
export function crc32Short(bytes: Uint8Array, seed: number): number {
  return crc32Loop(bytes, 0, bytes.length, seed);
}

/**
 * The checksum of `bytes` from `start` to `end`: no view is made of a short
 * range, which costs more than its checksum.
 */
export function crc32Range(
  bytes: Uint8Array<ArrayBuffer>,
  start: number,
  end: number,
  seed: number,
): number {
  if (end - start < CRC_ZLIB_BYTES_MIN) {
    return crc32Loop(bytes, start, end, seed);
  }
  const offset = bytes.byteOffset + start;
  return zlibCrc32(new Uint8Array(bytes.buffer, offset, end - start), seed);
}

function crc32Loop(
  bytes: Uint8Array,
  start: number,
  end: number,
  seed: number,
): number {
  const endWhole = start + ((end - start) & -4);
  let state = ~seed;
  let i = start;
  for (; i < endWhole; i += 4) {
    const mixed = state ^ (bytes[i] | (bytes[i + 1] << 8) |
      (bytes[i + 2] << 16) | (bytes[i + 3] << 24));
    state = TABLE_3[mixed & 0xff] ^ TABLE_2[(mixed >>> 8) & 0xff] ^
      TABLE_1[(mixed >>> 16) & 0xff] ^ TABLE_0[mixed >>> 24];
  }
  for (; i < end; i++) {
    state = TABLE_0[(state ^ bytes[i]) & 0xff] ^ (state >>> 8);
  }
  return ~state >>> 0;
}

/**
 * Begins a checksum over words: the inner state for `crcWord`. `seed` is a
 * checksum to continue, or any other 32 bits to start from.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { crc32, crcBegin, crcEnd, crcWord } from "./crc32.ts";
 *
 * const state = crcWord(crcBegin(0), 0x04030201);
 * assert.equal(crcEnd(state), crc32(new Uint8Array([1, 2, 3, 4])));
 * ```
 */
export function crcBegin(seed: number): number {
  return ~seed;
}

/**
 * Takes in one word, as if its four bytes lay little-endian in memory. Only
 * the low 32 bits of `word` count, so an index above 2^32 may be given as it
 * is for its low half.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { crcBegin, crcWord } from "./crc32.ts";
 *
 * const state = crcBegin(0);
 * assert.equal(crcWord(state, 2 ** 32 + 5), crcWord(state, 5));
 * ```
 */
export function crcWord(state: number, word: number): number {
  const mixed = state ^ word;
  return TABLE_3[mixed & 0xff] ^ TABLE_2[(mixed >>> 8) & 0xff] ^
    TABLE_1[(mixed >>> 16) & 0xff] ^ TABLE_0[mixed >>> 24];
}

/**
 * Ends a checksum over words: the value that `crc32` would have given, which
 * may seed `crc32` or `crcBegin` to go on.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { crcBegin, crcEnd } from "./crc32.ts";
 *
 * assert.equal(crcEnd(crcBegin(0xcbf43926)), 0xcbf43926);
 * ```
 */
export function crcEnd(state: number): number {
  return ~state >>> 0;
}

/** What each byte alone does to the state. */
function byteTable(): Int32Array<ArrayBuffer> {
  const table = new Int32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let state = byte;
    for (let bit = 0; bit < 8; bit++) {
      state = (state & 1) === 0 ? state >>> 1 : (state >>> 1) ^ POLYNOMIAL;
    }
    table[byte] = state;
  }
  return table;
}

/** What each byte does to the state when one more zero byte follows. */
function nextTable(
  table: Int32Array<ArrayBuffer>,
): Int32Array<ArrayBuffer> {
  return table.map((state) => TABLE_0[state & 0xff] ^ (state >>> 8));
}
