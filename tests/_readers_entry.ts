/**
 * Entries that tell what they are: their place, the entry before them, their
 * batch, their history, and a checksum of their own. Whoever follows a log of
 * such entries sees by himself when one is wrong, missing, repeated, half of
 * a batch, or of another history.
 *
 * @module
 */

import type { Entry } from "../mod.ts";
import { crc32 } from "../src/crc32.ts";
import { assert } from "./_assert.ts";

/** What an entry tells of itself. */
export interface Told {
  /** Larger than that of every entry written before it; from 1. */
  readonly serial: number;
  /** The serial of the entry before it when it was written; 0 for none. */
  readonly previous: number;
  readonly index: number;
  /** How often the log's end had been cut; larger in each later history. */
  readonly history: number;
  /** Its place in its batch, from 0. */
  readonly position: number;
  /** The entries of its batch. */
  readonly count: number;
}

const AT = {
  serial: 0,
  previous: 8,
  index: 16,
  history: 24,
  position: 32,
  count: 36,
  bytes: 40,
  crc: 44,
};
/** The smallest entry. */
export const TOLD_BYTES = 48 as const;

/** The data of an entry, `bytes` long or as short as can be. */
export function tellingData(told: Told, bytes = 0): Uint8Array<ArrayBuffer> {
  const data = new Uint8Array(Math.max(TOLD_BYTES, bytes));
  const view = new DataView(data.buffer);
  data.fill(told.serial % 251 + 1, TOLD_BYTES);
  view.setFloat64(AT.serial, told.serial, true);
  view.setFloat64(AT.previous, told.previous, true);
  view.setFloat64(AT.index, told.index, true);
  view.setFloat64(AT.history, told.history, true);
  view.setUint32(AT.position, told.position, true);
  view.setUint32(AT.count, told.count, true);
  view.setUint32(AT.bytes, data.length, true);
  view.setUint32(AT.crc, crc32(data), true);
  return data;
}

/** What the entry tells; throws when it is not what it says. */
export function readTold({ index, data }: Pick<Entry, "index" | "data">): Told {
  const { length } = data;
  assert(length >= TOLD_BYTES, `entry ${index} has ${length} bytes`);
  const copy = data.slice();
  const view = new DataView(copy.buffer);
  const crc = view.getUint32(AT.crc, true);
  view.setUint32(AT.crc, 0, true);
  assert(crc32(copy) === crc, `entry ${index} is not as it was written`);
  assert(view.getUint32(AT.bytes, true) === length, `length of ${index}`);
  const told = {
    serial: view.getFloat64(AT.serial, true),
    previous: view.getFloat64(AT.previous, true),
    index: view.getFloat64(AT.index, true),
    history: view.getFloat64(AT.history, true),
    position: view.getUint32(AT.position, true),
    count: view.getUint32(AT.count, true),
  };
  assert(told.index === index, `entry ${index} is number ${told.index}`);
  return told;
}

/** Whether a batch ends with it. */
export function endsBatch({ position, count }: Told): boolean {
  return position === count - 1;
}

/** In words, for messages. */
export function showTold(told: Told): string {
  const { serial, previous, index, history, position, count } = told;
  return `entry ${index} (serial ${serial} after ${previous}, history ` +
    `${history}, ${position + 1} of ${count})`;
}

/** Throws unless `told` comes right behind `last` in one history. */
export function checkNext(last: Told, told: Told): void {
  const what = `${showTold(told)} came behind ${showTold(last)}`;
  assert(told.index === last.index + 1, `index: ${what}`);
  assert(told.previous === last.serial, `another history: ${what}`);
  assert(told.serial > last.serial, `serial: ${what}`);
  assert(told.history >= last.history, `history: ${what}`);
}

/** Throws unless whole batches, which nobody cuts in two, follow so. */
export function checkNextOfBatch(last: Told, told: Told): void {
  const what = `${showTold(told)} came behind ${showTold(last)}`;
  const expected = endsBatch(last) ? 0 : last.position + 1;
  assert(told.position === expected, `half of a batch: ${what}`);
}
