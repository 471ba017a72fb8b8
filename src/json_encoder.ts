/**
 * The JSON layout of the Go library, walrus v0.2.3, byte for byte:
 *
 * `{"index":1,"term":3,"data":"SGk=","checksum":2691909929,` +
 * `"timestamp":1700000000000000000,"transaction_id":""}`
 *
 * on one line, without spaces, in this order. Data is base64, the time counts
 * nanoseconds since 1970, the transaction id is "" for none and escaped as Go
 * does it. The checksum is the CRC-32 of the same text with 0 in its place, so
 * every byte is covered.
 *
 * Reads only what it writes: the text is taken apart byte by byte, because
 * JSON.parse would round the time, and what decodes encodes to the same bytes.
 *
 * @module
 */

import type { Encoder, EntryRecord } from "./encoder.ts";
import { crc32 } from "./crc32.ts";
import {
  checkChecksum,
  checkRecord,
  checkTarget,
  decodedSafe,
  decodedText,
  TIMESTAMP_NS_MAX,
  TIMESTAMP_NS_MIN,
  utf8,
} from "./encoder.ts";
import { InvalidEntryError } from "./errors.ts";

const WHAT = "JSON entry";
const QUOTE = 0x22;
const MINUS = 0x2d;
const DIGIT_0 = 0x30;
const DIGIT_9 = 0x39;
const CHECKSUM_KEY: Uint8Array<ArrayBuffer> = utf8('","checksum":');
/** Stands for the checksum while it is computed. */
const ZERO_DIGIT: Uint8Array<ArrayBuffer> = utf8("0");
/** The checksum is at most "4294967295". */
const CHECKSUM_DIGITS_MAX = 10;
const U64_MAX = 2n ** 64n - 1n;
const U32_MAX = 2n ** 32n - 1n;

const BASE64 = Uint8Array.from(
  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
  (letter) => letter.charCodeAt(0),
);
const BASE64_PAD = 0x3d;
/** In BASE64_VALUES: not one of the 64. */
const BASE64_NONE = 0xff;
const BASE64_VALUES: Uint8Array<ArrayBuffer> = base64Values();

/**
 * Entries as the Go library's `JSONEncoder` writes and reads them.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { JsonEncoder } from "@walrus/wal";
 *
 * const encoder = new JsonEncoder();
 * const bytes = encoder.encode({
 *   index: 1,
 *   term: 3,
 *   timestampNs: 1_700_000_000_000_000_000n,
 *   transactionId: undefined,
 *   data: new TextEncoder().encode("Hi"),
 *   checksum: 0,
 * });
 * assert.equal(JSON.parse(new TextDecoder().decode(bytes)).data, "SGk=");
 * assert.equal(encoder.decode(bytes).timestampNs, 1_700_000_000_000_000_000n);
 * ```
 */
export class JsonEncoder implements Encoder {
  /** The format's name. */
  readonly name = "json";

  /**
   * Exactly how many bytes `encode` will give. As slow as `encode`, because
   * the checksum's digits have to be known.
   */
  byteLength(record: EntryRecord): number {
    return this.encode(record).length;
  }

  /**
   * The record's bytes. `RangeError` for an index or a term that is not a
   * whole number up to 2^53 - 1, and for a time beyond 64 bits.
   */
  encode(record: EntryRecord): Uint8Array<ArrayBuffer> {
    const parts = partsOf(record);
    const bytesMax = parts.head.length + base64Length(parts.data.length) +
      CHECKSUM_KEY.length + CHECKSUM_DIGITS_MAX + parts.tail.length;
    const target = new Uint8Array(bytesMax);
    const bytes = write(parts, target);
    // Three of four checksums have ten digits: seldom a copy.
    return bytes === bytesMax ? target : target.slice(0, bytes);
  }

  /**
   * Writes the record's bytes to `target`'s start and returns how many they
   * are. `RangeError` when it is too small; what it then holds is undefined.
   */
  encodeInto(record: EntryRecord, target: Uint8Array<ArrayBuffer>): number {
    return write(partsOf(record), target);
  }

  /**
   * The record in exactly these bytes. `InvalidEntryError` unless they are
   * what `encode` writes and the checksum is right; `RangeError` for an index
   * or a term above 2^53 - 1.
   */
  decode(bytes: Uint8Array<ArrayBuffer>): EntryRecord {
    const text = new Scanner(bytes);
    text.literal('{"index":');
    const index = text.integer("index", 0n, U64_MAX);
    text.literal(',"term":');
    const term = text.integer("term", 0n, U64_MAX);
    text.literal(',"data":');
    const data = text.data();
    text.literal(',"checksum":');
    const checksumOffset = text.offset;
    const checksum = Number(text.integer("checksum", 0n, U32_MAX));
    const checksumEnd = text.offset;
    text.literal(',"timestamp":');
    const timestampNs = text.integer(
      "timestamp",
      TIMESTAMP_NS_MIN,
      TIMESTAMP_NS_MAX,
    );
    text.literal(',"transaction_id":');
    const transactionId = text.lastString();

    let crc = crc32(bytes.subarray(0, checksumOffset));
    crc = crc32(bytes.subarray(checksumEnd), crc32(ZERO_DIGIT, crc));
    checkChecksum(WHAT, checksum, crc);
    return {
      index: decodedSafe(WHAT, "index", index),
      term: decodedSafe(WHAT, "term", term),
      timestampNs,
      transactionId: transactionId === "" ? undefined : transactionId,
      data,
      checksum,
    };
  }

  /** The same as `decode`: base64 has to be decoded to memory of its own. */
  decodeView(bytes: Uint8Array<ArrayBuffer>): EntryRecord {
    return this.decode(bytes);
  }
}

/** What stands before the data, the data, what follows the checksum. */
interface Parts {
  readonly head: Uint8Array<ArrayBuffer>;
  readonly data: Uint8Array<ArrayBuffer>;
  readonly tail: Uint8Array<ArrayBuffer>;
}

function partsOf(record: EntryRecord): Parts {
  checkRecord(record);
  const { index, term, timestampNs, data } = record;
  const id = goString(record.transactionId ?? "");
  return {
    head: utf8(`{"index":${index},"term":${term},"data":"`),
    data,
    tail: utf8(`,"timestamp":${timestampNs},"transaction_id":${id}}`),
  };
}

function write(parts: Parts, target: Uint8Array<ArrayBuffer>): number {
  const { head, data, tail } = parts;
  const dataEnd = head.length + base64Length(data.length);
  const checksumOffset = dataEnd + CHECKSUM_KEY.length;
  checkTarget(target, checksumOffset + 1 + tail.length);
  target.set(head);
  writeBase64(data, target, head.length);
  target.set(CHECKSUM_KEY, dataEnd);

  let crc = crc32(target.subarray(0, checksumOffset));
  crc = crc32(tail, crc32(ZERO_DIGIT, crc));
  const checksum = utf8(String(crc));
  const tailOffset = checksumOffset + checksum.length;
  const bytes = tailOffset + tail.length;
  checkTarget(target, bytes);
  target.set(checksum, checksumOffset);
  target.set(tail, tailOffset);
  return bytes;
}

/** A string as Go's encoding/json writes it: fit for HTML and JavaScript. */
function goString(text: string): string {
  return JSON.stringify(text).replace(
    /[<>&\u2028\u2029]/g,
    (letter) => "\\u" + letter.charCodeAt(0).toString(16).padStart(4, "0"),
  );
}

/** Reads the parts of an entry's text one after the other. */
class Scanner {
  /** Where the next part begins. */
  offset = 0;
  readonly #bytes: Uint8Array<ArrayBuffer>;

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.#bytes = bytes;
  }

  /** Goes past this text; it must be here. */
  literal(text: string): void {
    for (let i = 0; i < text.length; i++) {
      if (this.#bytes[this.offset + i] !== text.charCodeAt(i)) {
        this.#fail(text.slice(i), this.offset + i);
      }
    }
    this.offset += text.length;
  }

  /** A number without needless digits. */
  integer(field: string, min: bigint, max: bigint): bigint {
    const bytes = this.#bytes;
    const start = this.offset;
    let end = start;
    if (min < 0n && bytes[end] === MINUS) end++;
    const digits = end;
    while (bytes[end] >= DIGIT_0 && bytes[end] <= DIGIT_9) end++;
    // No more than these: a bigint of a million digits takes its time.
    const count = end - digits;
    if (count === 0 || count > 20) this.#fail(`${field}'s digits`, digits);
    const text = decodedText(bytes.subarray(start, end)) ?? "";
    const value = BigInt(text);
    if (String(value) !== text) this.#fail(`${value}`, start);
    if (value < min || value > max) {
      throw new InvalidEntryError(
        `Cannot decode ${WHAT}: ${field} is ${value}, ` +
          `expected ${min} to ${max}`,
      );
    }
    this.offset = end;
    return value;
  }

  /** Base64 in quotes, or Go's null for no data. */
  data(): Uint8Array<ArrayBuffer> {
    if (this.#bytes[this.offset] !== QUOTE) {
      this.literal("null");
      return new Uint8Array(0);
    }
    const start = this.offset + 1;
    const end = this.#bytes.indexOf(QUOTE, start);
    if (end < 0) this.#fail("data's closing quote", this.#bytes.length);
    const data = readBase64(this.#bytes.subarray(start, end));
    if (data === undefined) {
      throw new InvalidEntryError(
        `Cannot decode ${WHAT}: its data is ${end - start} other bytes, ` +
          `expected base64 with padding`,
      );
    }
    this.offset = end + 1;
    return data;
  }

  /** A string, escaped as Go does it; the object and the bytes end after it. */
  lastString(): string {
    const bytes = this.#bytes;
    const end = Math.max(this.offset, bytes.length - 1);
    const text = decodedText(bytes.subarray(this.offset, end));
    let value: unknown;
    try {
      value = JSON.parse(text ?? "");
    } catch {
      value = undefined;
    }
    if (typeof value !== "string" || goString(value) !== text) {
      throw new InvalidEntryError(
        `Cannot decode ${WHAT}: its transaction_id is no string ` +
          `or written otherwise, expected what encode writes`,
      );
    }
    this.offset = end;
    this.literal("}");
    return value;
  }

  #fail(expected: string, offset: number): never {
    const byte = this.#bytes[offset];
    const found = byte === undefined
      ? `it ends at byte ${offset}`
      : `byte ${offset} is 0x${byte.toString(16).padStart(2, "0")}`;
    throw new InvalidEntryError(
      `Cannot decode ${WHAT}: ${found}, expected ${expected}`,
    );
  }
}

function base64Length(bytes: number): number {
  return Math.ceil(bytes / 3) * 4;
}

// Of its own, because Node 22 has no Uint8Array.prototype.setFromBase64 and
// btoa makes a string of every byte first.
function writeBase64(
  source: Uint8Array,
  target: Uint8Array,
  offset: number,
): void {
  const wholeEnd = source.length - source.length % 3;
  let at = offset;
  let i = 0;
  for (; i < wholeEnd; i += 3) {
    const bits = (source[i] << 16) | (source[i + 1] << 8) | source[i + 2];
    target[at++] = BASE64[bits >>> 18];
    target[at++] = BASE64[(bits >>> 12) & 63];
    target[at++] = BASE64[(bits >>> 6) & 63];
    target[at++] = BASE64[bits & 63];
  }
  if (i === source.length) return;
  const last = i + 1 < source.length ? source[i + 1] : 0;
  const bits = (source[i] << 16) | (last << 8);
  target[at++] = BASE64[bits >>> 18];
  target[at++] = BASE64[(bits >>> 12) & 63];
  const pad = i + 1 === source.length;
  target[at++] = pad ? BASE64_PAD : BASE64[(bits >>> 6) & 63];
  target[at] = BASE64_PAD;
}

/** `undefined` unless it is what `writeBase64` writes. */
function readBase64(source: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
  if (source.length % 4 !== 0) return undefined;
  if (source.length === 0) return new Uint8Array(0);
  let end = source.length;
  if (source[end - 1] === BASE64_PAD) end--;
  if (end < source.length && source[end - 1] === BASE64_PAD) end--;
  const target = new Uint8Array(Math.floor(end * 6 / 8));

  const wholeEnd = end & -4;
  let seen = 0;
  let at = 0;
  for (let i = 0; i < wholeEnd; i += 4) {
    const a = BASE64_VALUES[source[i]];
    const b = BASE64_VALUES[source[i + 1]];
    const c = BASE64_VALUES[source[i + 2]];
    const d = BASE64_VALUES[source[i + 3]];
    seen |= a | b | c | d;
    target[at++] = (a << 2) | (b >> 4);
    target[at++] = (b << 4) | (c >> 2);
    target[at++] = (c << 6) | d;
  }
  // Two or three letters before the padding give one or two bytes; what is
  // left over of their bits must be zero.
  let rest = 0;
  for (let i = wholeEnd; i < end; i++) {
    const value = BASE64_VALUES[source[i]];
    seen |= value;
    rest = (rest << 6) | value;
  }
  const restBits = (end - wholeEnd) * 6 % 8;
  const surplus = rest & ((1 << restBits) - 1);
  rest >>= restBits;
  if (end - wholeEnd === 3) target[at++] = rest >> 8;
  if (end > wholeEnd) target[at] = rest;
  // A letter outside of the alphabet has a high bit.
  return seen < 64 && surplus === 0 ? target : undefined;
}

function base64Values(): Uint8Array<ArrayBuffer> {
  const values = new Uint8Array(256).fill(BASE64_NONE);
  BASE64.forEach((letter, value) => values[letter] = value);
  return values;
}
