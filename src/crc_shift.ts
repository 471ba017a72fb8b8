/**
 * What zero bytes do to the inner state of a checksum, without walking them.
 *
 * The state after n zero bytes is a linear function of the state before, so
 * four tables of 256 values hold it for one n. There is one set for each power
 * of two, and one for each length that is asked for again and again. With it
 * the checksum of a whole follows from the checksums of its parts.
 *
 * @module
 */

import { crcWord } from "./crc32.ts";

/** Four tables of 256, one after another: what each byte of a state becomes. */
type Shift = Int32Array<ArrayBuffer>;

/** Lengths that are kept, each in the place of its low bits. */
const KEPT = 64;
/** Frames are shorter than a segment, which has at most 2^30 bytes. */
const POWERS = 31;

const powers: (Shift | undefined)[] = Array.from({ length: POWERS });
const kept: (Shift | undefined)[] = Array.from({ length: KEPT });
const keptBytes: Int32Array<ArrayBuffer> = new Int32Array(KEPT);

/**
 * The state after `bytes` zero bytes, of which there may be none.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { crcBegin, crcEnd } from "./crc32.ts";
 * import { crc32 } from "./crc32.ts";
 * import { crcShift } from "./crc_shift.ts";
 *
 * const state = crcShift(crcBegin(0), 100);
 * assert.equal(crcEnd(state), crc32(new Uint8Array(100)));
 * ```
 */
export function crcShift(state: number, bytes: number): number {
  const place = (bytes >>> 2) & (KEPT - 1);
  if (keptBytes[place] === bytes) {
    const shift = kept[place] ??= shiftOf((one) => byPowers(one, bytes));
    return apply(shift, state);
  }
  // Kept from the second time on: tables cost as much as 40 such walks.
  keptBytes[place] = bytes;
  kept[place] = undefined;
  return byPowers(state, bytes);
}

function byPowers(state: number, bytes: number): number {
  let result = state;
  for (let power = 0, left = bytes; left > 0; power++, left >>>= 1) {
    if ((left & 1) !== 0) result = apply(powerOf(power), result);
  }
  return result;
}

/** The shift by 2^`power` bytes. */
function powerOf(power: number): Shift {
  return powers[power] ??= power === 0 ? shiftOf(oneByte) : shiftOf((state) => {
    const half = powerOf(power - 1);
    return apply(half, apply(half, state));
  });
}

/** The state after one zero byte: the word's three others are taken back. */
function oneByte(state: number): number {
  // Four zero bytes move the low byte to where one of them moves the high one.
  return crcWord((state & 0xff) << 24, 0) ^ (state >>> 8);
}

function apply(shift: Shift, state: number): number {
  return shift[state & 0xff]! ^ shift[256 + ((state >>> 8) & 0xff)]! ^
    shift[512 + ((state >>> 16) & 0xff)]! ^ shift[768 + (state >>> 24)]!;
}

/** The tables of a linear function. */
function shiftOf(walk: (state: number) => number): Shift {
  const shift = new Int32Array(4 * 256);
  for (let place = 0; place < 4; place++) {
    const start = 256 * place;
    for (let byte = 1; byte < 256; byte++) {
      const lowest = byte & -byte;
      shift[start + byte] = byte === lowest
        ? walk(byte << (8 * place))
        : shift[start + lowest]! ^ shift[start + byte - lowest]!;
    }
  }
  return shift;
}
