/**
 * Entries that are known by their number: what is in one follows from it, so
 * that a reader tells an entry from every other and from a damaged one.
 *
 * @module
 */
import { assert } from "./_assert.ts";

/** The largest one. */
export const ENTRY_BYTES_MAX = 24_000;

const made = new Map<number, Uint8Array<ArrayBuffer>>();

/** The entry with a number; most are small, some go over several pages. */
export function entryOf(serial: number): Uint8Array<ArrayBuffer> {
  const known = made.get(serial);
  if (known !== undefined) return known;
  const text = new TextEncoder().encode(`entry ${serial} `);
  const bytes = Math.max(text.length, bytesOf(serial));
  const entry = new Uint8Array(bytes).fill(serial % 251);
  entry.set(text);
  made.set(serial, entry);
  return entry;
}

function bytesOf(serial: number): number {
  if (serial % 13 === 0) return ENTRY_BYTES_MAX - serial % 1000;
  if (serial % 5 === 0) return 3000 + serial % 4000;
  return serial % 90;
}

/** The number of an entry; throws if a byte of it is another. */
export function serialOf(data: Uint8Array): number {
  const head = new TextDecoder("latin1").decode(data.subarray(0, 30));
  const [, digits] = /^entry (\d+) /.exec(head) ?? [];
  assert(digits !== undefined, `no entry of ours: "${head}"`);
  const serial = Number(digits);
  const expected = entryOf(serial);
  const same = data.length === expected.length &&
    expected.every((byte, at) => byte === data[at]);
  assert(same, `entry ${serial} is damaged`);
  return serial;
}
