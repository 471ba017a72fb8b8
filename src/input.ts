/**
 * What a caller gives to `append`, checked and made ready to be written.
 * Nothing of the log is touched here.
 *
 * @module
 */

import { crc32 } from "./crc32.ts";
import type { Encoder } from "./encoder.ts";
import {
  type EntryFields,
  type EntryInput,
  showTransactionId,
} from "./entry.ts";
import { EmptyDataError, InvalidEntryError } from "./errors.ts";
import { show } from "./checks.ts";
import { lengthOf } from "./fields.ts";
import type { Clock } from "./storage.ts";

const TIME_MIN = -(2n ** 63n);
const TIME_MAX = 2n ** 63n - 1n;
const timeCell = new DataView(new ArrayBuffer(8));
const encoder = new TextEncoder();
/** Nothing. */
export const NO_BYTES: Uint8Array = new Uint8Array(0);

/** An entry on its way into the log; reused, so that none is made per call. */
export class Staged {
  /** The bytes to store; the caller's own while the call lasts. */
  data: Uint8Array = NO_BYTES;
  /** What the frame will carry: the data, or what the encoder made of it. */
  payload: Uint8Array = NO_BYTES;
  /** Its size, told once: shared memory can grow. */
  payloadBytes = 0;
  /** The term; -1 for the last entry's. */
  term = -1;
  /** Whether the caller gave a time. */
  timed = false;
  /** The time's low half. */
  low = 0;
  /** The time's high half. */
  high = 0;
  /** Where its frame was written. */
  offset = 0;
}

/**
 * Checks an input and fills `staged` from it. Returns whether that may have
 * run the caller's program (getters).
 */
export function stageEntry(
  input: EntryInput,
  maxEntryBytes: number,
  staged: Staged,
): boolean {
  let ranProgram = false;
  if (typeof input === "string") {
    reset(staged);
    staged.data = encodeText(input, maxEntryBytes);
  } else if (input instanceof Uint8Array) {
    reset(staged);
    staged.data = input;
  } else {
    ranProgram = true;
    stageFields(input, maxEntryBytes, staged);
  }
  const bytes = lengthOf(staged.data);
  if (bytes > maxEntryBytes) throw tooLarge(`${bytes} bytes`, maxEntryBytes);
  staged.payload = staged.data;
  staged.payloadBytes = bytes;
  return ranProgram;
}

function reset(staged: Staged): void {
  staged.term = -1;
  staged.timed = false;
}

function tooLarge(found: string, maxEntryBytes: number): InvalidEntryError {
  return new InvalidEntryError(
    `Cannot append entry: data is ${found}, maxEntryBytes is ${maxEntryBytes}`,
  );
}

function encodeText(text: string, maxEntryBytes: number): Uint8Array {
  // UTF-8 never has fewer bytes than UTF-16 has units.
  if (text.length > maxEntryBytes) {
    throw tooLarge(`${text.length} characters`, maxEntryBytes);
  }
  return encoder.encode(text);
}

function stageFields(
  input: EntryFields,
  maxEntryBytes: number,
  staged: Staged,
): void {
  checkFields(input);
  // Getters run here, and may use the log: only then is `staged` ours.
  const { data, term, timestamp, timestampNs } = input;
  reset(staged);
  if (data === undefined || data === null) throw noData(data);
  if (typeof data === "string") staged.data = encodeText(data, maxEntryBytes);
  else if (data instanceof Uint8Array) staged.data = data;
  else {
    throw new TypeError(
      `Cannot append entry: data is ${show(data)}, expected a string or a ` +
        `Uint8Array`,
    );
  }
  if (term !== undefined) staged.term = checkTerm(term);
  if (timestampNs !== undefined) stageTime(timestampNs, "timestampNs", staged);
  else if (timestamp !== undefined) stageTimestamp(timestamp, staged);
}

/** Checks that an input is an object that may have fields. */
export function checkFields(input: EntryFields, verb = "append"): void {
  if (input === undefined || input === null) throw noData(input, verb);
  if (
    typeof input === "object" && !Array.isArray(input) &&
    !ArrayBuffer.isView(input) && !((input as unknown) instanceof ArrayBuffer)
  ) return;
  throw new TypeError(
    `Cannot ${verb} entry: it is ${show(input)}, expected a string, a ` +
      `Uint8Array or an object with data`,
  );
}

/** The error for data that is not there. */
export function noData(data: unknown, verb = "append"): EmptyDataError {
  return new EmptyDataError(
    `Cannot ${verb} entry: data is ${data}, expected a string or a ` +
      `Uint8Array; zero bytes are allowed`,
  );
}

function checkTerm(term: unknown): number {
  if (Number.isSafeInteger(term) && term as number >= 0) return term as number;
  const expected = `expected a whole number from 0 to 2^53 - 1`;
  const message = `Cannot append entry: term is ${show(term)}, ${expected}`;
  throw typeof term === "number"
    ? new RangeError(message)
    : new TypeError(message);
}

function stageTimestamp(timestamp: unknown, staged: Staged): void {
  if (typeof timestamp === "bigint") {
    stageTime(timestamp, "timestamp", staged);
    return;
  }
  const expected = "expected a Date or nanoseconds since 1970 as a bigint";
  if (!(timestamp instanceof Date)) {
    throw new TypeError(
      `Cannot append entry: timestamp is ${show(timestamp)}, ${expected}`,
    );
  }
  const ms = Date.prototype.getTime.call(timestamp);
  if (Number.isNaN(ms)) {
    throw new RangeError(
      `Cannot append entry: timestamp is an invalid Date, ${expected}`,
    );
  }
  stageTime(BigInt(ms) * 1_000_000n, "timestamp", staged);
}

function stageTime(ns: unknown, name: string, staged: Staged): void {
  if (typeof ns !== "bigint" || ns < TIME_MIN || ns > TIME_MAX) {
    const expected = "expected nanoseconds since 1970, a signed 64-bit bigint";
    const message = `Cannot append entry: ${name} is ${show(ns)}, ${expected}`;
    throw typeof ns === "bigint"
      ? new RangeError(message)
      : new TypeError(message);
  }
  // Through memory: arithmetic on bigints makes new ones.
  timeCell.setBigInt64(0, ns, true);
  staged.low = timeCell.getUint32(0, true);
  staged.high = timeCell.getInt32(4, true);
  staged.timed = true;
}

/** Fills in the time `nowMs`, milliseconds since 1970, without a bigint. */
export function stageNow(nowMs: number, staged: Staged): void {
  // ns = ms * 1e6, in two halves: ms is split so that no product is inexact.
  const upper = Math.floor(nowMs / 65536);
  const x = upper * 1_000_000;
  const y = (nowMs - upper * 65536) * 1_000_000;
  const xHigh = Math.floor(x / 65536);
  const low = (x - xHigh * 65536) * 65536 + y;
  const carry = Math.floor(low / 4294967296);
  staged.low = low - carry * 4294967296;
  staged.high = xHigh + carry;
}

/** Stamps entries with the time of the call, made once per millisecond. */
export class TimeStamp {
  readonly #clock: Clock;
  #nowMs = -1;
  #low = 0;
  #high = 0;

  /** Asks this clock. */
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Fills in the time now. */
  now(staged: Staged): void {
    const nowMs = this.#clock.nowMs();
    if (nowMs !== this.#nowMs) {
      stageNow(nowMs, staged);
      this.#nowMs = nowMs;
      this.#low = staged.low;
      this.#high = staged.high;
    }
    this.again(staged);
  }

  /** Fills in the time that `now` told last. */
  again(staged: Staged): void {
    staged.low = this.#low;
    staged.high = this.#high;
  }
}

/** Makes the payload of a staged entry with the log's encoder. */
export function encodePayload(
  encoder: Encoder,
  staged: Staged,
  index: number,
  term: number,
  transactionId?: Uint8Array<ArrayBuffer>,
): void {
  const data = new Uint8Array(staged.data);
  const payload: unknown = encoder.encode({
    index,
    term,
    timestampNs: (BigInt(staged.high | 0) << 32n) | BigInt(staged.low >>> 0),
    transactionId: transactionId && showTransactionId(transactionId),
    data,
    checksum: crc32(data),
  });
  if (!(payload instanceof Uint8Array)) {
    throw new InvalidEntryError(
      `Cannot append entry: encoder "${encoder.name}" returned ` +
        `${show(payload)}, expected a Uint8Array`,
    );
  }
  // A copy: an encoder may use its memory again for the next entry.
  staged.payload = new Uint8Array(payload);
  staged.payloadBytes = staged.payload.length;
}

/** Data of another size than room was made for cannot be copied. */
export function grownOr(error: unknown): unknown {
  if (!(error instanceof RangeError)) return error;
  return new InvalidEntryError(
    "Cannot append entry: its data changed its size during the call, expected " +
      "memory whose size stays",
    { cause: error },
  );
}
