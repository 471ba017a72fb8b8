/**
 * What an encoder is: a whole entry to bytes and back, without the log.
 *
 * Holds the two interfaces and what the built-in encoders share: the check of
 * a record before it is encoded, the check of numbers after they are decoded,
 * and strict UTF-8. Knows no layout; those are in binary_encoder.ts and
 * json_encoder.ts.
 *
 * @module
 */

import { InvalidEntryError } from "./errors.ts";

/** The least time that fits the format: 1677-09-21, in nanoseconds. */
export const TIMESTAMP_NS_MIN: bigint = -(2n ** 63n);
/** The greatest time that fits the format: 2262-04-11, in nanoseconds. */
export const TIMESTAMP_NS_MAX: bigint = 2n ** 63n - 1n;

// Made once: making one costs more than a short text does.
const ENCODER = new TextEncoder();
// A byte order mark is a character like any other here.
const DECODER = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * An entry as an {@link Encoder} sees it: plain fields, no methods.
 *
 * @example
 * ```ts
 * import { BinaryEncoder, type EntryRecord } from "@walrus/wal";
 *
 * const record: EntryRecord = {
 *   index: 1,
 *   term: 0,
 *   timestampNs: BigInt(Date.now()) * 1_000_000n,
 *   transactionId: undefined,
 *   data: new TextEncoder().encode("Hello World!"),
 *   checksum: 0,
 * };
 * console.log(new BinaryEncoder().encode(record).length); // 48
 * ```
 */
export interface EntryRecord {
  /** Its place in the log, from 1 on. */
  index: number;
  /** The term it was written in. */
  term: number;
  /** When it was written, in nanoseconds since 1970, 64 bits signed. */
  timestampNs: bigint;
  /** The transaction that wrote it, `undefined` for none. */
  transactionId: string | undefined;
  /** What was written. */
  data: Uint8Array<ArrayBuffer>;
  /** The checksum found in the bytes; encoders compute it, so any will do. */
  checksum: number;
}

/**
 * Turns entries into bytes and back. Pass one as `format` to store entries in
 * a form of your own; the log keeps its name and compares it when opened.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { type Encoder, JsonEncoder } from "@walrus/wal";
 *
 * const encoder: Encoder = new JsonEncoder();
 * const bytes = encoder.encode({
 *   index: 7,
 *   term: 2,
 *   timestampNs: 1_700_000_000_000_000_000n,
 *   transactionId: undefined,
 *   data: new TextEncoder().encode("set x 1"),
 *   checksum: 0,
 * });
 * assert.equal(encoder.decode(bytes).term, 2);
 * ```
 */
export interface Encoder {
  /** What the log remembers the format by. */
  readonly name: string;
  /** Exactly how many bytes `encode` will give. */
  byteLength(record: EntryRecord): number;
  /** The record's bytes, in memory of their own. */
  encode(record: EntryRecord): Uint8Array<ArrayBuffer>;
  /** Writes them to `target`'s start and returns how many they are. */
  encodeInto(record: EntryRecord, target: Uint8Array<ArrayBuffer>): number;
  /** The record in exactly these bytes; its data is a copy. */
  decode(bytes: Uint8Array<ArrayBuffer>): EntryRecord;
  /** The same; its data may lie in `bytes`. */
  decodeView(bytes: Uint8Array<ArrayBuffer>): EntryRecord;
}

/** Throws unless every field can be encoded and decoded again unchanged. */
export function checkRecord(record: EntryRecord): void {
  checkSafe("index", record.index);
  checkSafe("term", record.term);
  const time = record.timestampNs;
  if (typeof time !== "bigint") {
    throw new TypeError(refusal("timestampNs", typeof time, "a bigint"));
  }
  if (time < TIMESTAMP_NS_MIN || time > TIMESTAMP_NS_MAX) {
    const range = `${TIMESTAMP_NS_MIN} to ${TIMESTAMP_NS_MAX}`;
    throw new RangeError(refusal("timestampNs", `${time}`, range));
  }
  if (!(record.data instanceof Uint8Array)) {
    throw new TypeError(refusal("data", typeof record.data, "a Uint8Array"));
  }
  const id: unknown = record.transactionId;
  if (id === undefined) return;
  if (typeof id !== "string") {
    throw new TypeError(
      refusal("transactionId", typeof id, "a string or undefined"),
    );
  }
  // UTF-8 has no bytes for half a character: it would come back changed.
  if (!id.isWellFormed()) {
    const found = JSON.stringify(id);
    throw new InvalidEntryError(
      refusal("transactionId", found, "no lone surrogates"),
    );
  }
}

/** Throws `RangeError` when a target cannot hold what is to be encoded. */
export function checkTarget(target: Uint8Array, bytes: number): void {
  if (target.length >= bytes) return;
  throw new RangeError(
    `Cannot encode entry: target is ${target.length} bytes, ` +
      `expected at least ${bytes}`,
  );
}

/** The number, when JavaScript holds it exactly; `RangeError` otherwise. */
export function decodedSafe(
  what: string,
  field: "index" | "term",
  value: bigint,
): number {
  if (value <= Number.MAX_SAFE_INTEGER) return Number(value);
  throw new RangeError(
    `Cannot decode ${what}: ${field} is ${value}, ` +
      `expected at most ${Number.MAX_SAFE_INTEGER}`,
  );
}

/** The text's bytes. */
export function utf8(text: string): Uint8Array<ArrayBuffer> {
  return ENCODER.encode(text);
}

/** The text in the bytes; `undefined` when they are not UTF-8. */
export function decodedText(bytes: Uint8Array): string | undefined {
  if (bytes.length === 0) return "";
  try {
    return DECODER.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Throws `InvalidEntryError` unless the checksums are the same. */
export function checkChecksum(
  what: string,
  found: number,
  expected: number,
): void {
  if (found === expected) return;
  throw new InvalidEntryError(
    `Cannot decode ${what}: checksum is ${hexOf(found)}, ` +
      `expected ${hexOf(expected)}`,
  );
}

function checkSafe(field: "index" | "term", value: unknown): void {
  const expected = `a whole number from 0 to ${Number.MAX_SAFE_INTEGER}`;
  if (typeof value !== "number") {
    throw new TypeError(refusal(field, typeof value, expected));
  }
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(refusal(field, String(value), expected));
  }
}

function refusal(field: string, found: string, expected: string): string {
  return `Cannot encode entry: ${field} is ${found}, expected ${expected}`;
}

function hexOf(crc: number): string {
  return "0x" + crc.toString(16).padStart(8, "0");
}
