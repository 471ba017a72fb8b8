/**
 * Integers, names and magic numbers in byte records, as docs/format.md draws
 * them: pure functions over a DataView, used by every record codec.
 *
 * @module
 */

import { FORMAT_NAME_BYTES } from "./format.ts";

const TWO_32 = 4294967296;

const lengthGetter: () => number = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype),
  "length",
)!.get!;

/**
 * The true length of a program's bytes. `length` may be a getter of a subclass
 * of the program's own, which may say anything and use the log.
 */
export function lengthOf(bytes: Uint8Array): number {
  return lengthGetter.call(bytes);
}

/** A DataView over exactly the bytes of `bytes`. */
export function viewOf(bytes: Uint8Array<ArrayBuffer>): DataView<ArrayBuffer> {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Writes a whole number below 2^53 as two u32, low one first. */
export function setSafe(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / TWO_32), true);
}

/**
 * Reads two u32; `NaN` when the number is above 2^53, the index after the
 * last possible entry.
 */
export function getSafe(view: DataView, offset: number): number {
  const high = view.getUint32(offset + 4, true);
  const low = view.getUint32(offset, true);
  if (high > 0x1fffff && !(high === 0x200000 && low === 0)) return NaN;
  return high * TWO_32 + low;
}

/** Reads a segment's number or a generation; `NaN` above 2^53 - 1. */
export function getNumber(view: DataView, offset: number): number {
  const value = getSafe(view, offset);
  return value <= Number.MAX_SAFE_INTEGER ? value : NaN;
}

/** Whether the bytes at `offset` are exactly `magic`. */
export function hasMagic(
  bytes: Uint8Array,
  offset: number,
  magic: readonly number[],
): boolean {
  return magic.every((byte, i) => bytes[offset + i] === byte);
}

/** Whether all bytes of a range are zero. */
export function isZero(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (bytes[i] !== 0) return false;
  return true;
}

/** Writes a format's name, padded with zeros. */
export function setName(
  bytes: Uint8Array<ArrayBuffer>,
  offset: number,
  name: string,
): void {
  const encoded = new TextEncoder().encode(name);
  bytes.fill(0, offset, offset + FORMAT_NAME_BYTES);
  bytes.set(encoded, offset);
}

/** Reads a zero-padded name; `undefined` when it is none. */
export function getName(
  bytes: Uint8Array<ArrayBuffer>,
  offset: number,
): string | undefined {
  let end = offset;
  const limit = offset + FORMAT_NAME_BYTES;
  while (end < limit && bytes[end] !== 0) end++;
  if (end === offset || !isZero(bytes, end, limit)) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
      .decode(bytes.subarray(offset, end));
  } catch {
    return undefined;
  }
}

/** A log id as 32 hex digits. */
export function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

/** Writes hex digits as bytes: what `hex` reads back. */
export function setHex(
  bytes: Uint8Array<ArrayBuffer>,
  offset: number,
  text: string,
): void {
  for (let i = 0; 2 * i < text.length; i++) {
    bytes[offset + i] = parseInt(text.slice(2 * i, 2 * i + 2), 16);
  }
}
