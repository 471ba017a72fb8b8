/**
 * An entry as it is handed out, and the public shapes of entries.
 *
 * @module
 */

import { crc32 } from "./crc32.ts";
import { hex } from "./fields.ts";

/** The fields of an entry to append. */
export interface EntryFields {
  /** What to store; a string is stored as UTF-8. */
  data: string | Uint8Array;
  /** A number that the program gives a meaning; the last entry's, or 0. */
  term?: number | undefined;
  /** When it happened, a Date or nanoseconds since 1970; now. */
  timestamp?: Date | bigint | undefined;
  /** Nanoseconds since 1970; wins over `timestamp`. */
  timestampNs?: bigint | undefined;
}

/** What can be appended. */
export type EntryInput = string | Uint8Array | EntryFields;

/** An entry of the log. */
export interface Entry {
  /** Its place in the log, from 1, without gaps. */
  readonly index: number;
  /** The number that the program gave it. */
  readonly term: number;
  /** Its bytes; the caller's own copy. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** When it happened, to the millisecond. */
  readonly timestamp: Date;
  /** When it happened, in nanoseconds since 1970. */
  readonly timestampNs: bigint;
  /** The transaction that wrote it, "tx_" and 32 hex digits. */
  readonly transactionId: string | undefined;
  /** CRC-32 (IEEE) of the data. */
  readonly checksum: number;
  /** The data as UTF-8 text. */
  text(): string;
  /** The data parsed as JSON. */
  json<T = unknown>(): T;
  /** A form that `JSON.stringify` can write. */
  toJSON(): EntryJson;
}

/** An entry as JSON. */
export interface EntryJson {
  /** Its place in the log. */
  index: number;
  /** The number that the program gave it. */
  term: number;
  /** When it happened, RFC 3339 with nanoseconds, UTC. */
  timestamp: string;
  /** The transaction that wrote it. */
  transactionId?: string;
  /** The data, if it is UTF-8 … */
  text?: string;
  /** … else as base64. */
  base64?: string;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const strictDecoder = new TextDecoder("utf-8", {
  fatal: true,
  ignoreBOM: true,
});

/** An entry that was read from the log. */
export class StoredEntry implements Entry {
  readonly index: number;
  readonly term: number;
  readonly data: Uint8Array<ArrayBuffer>;
  readonly #timeLow: number;
  readonly #timeHigh: number;
  readonly #transaction: Uint8Array | undefined;

  /** Made by the log; the time comes as two 32-bit halves. */
  constructor(
    index: number,
    term: number,
    data: Uint8Array<ArrayBuffer>,
    timeLow: number,
    timeHigh: number,
    transaction: Uint8Array | undefined,
  ) {
    this.index = index;
    this.term = term;
    this.data = data;
    this.#timeLow = timeLow;
    this.#timeHigh = timeHigh;
    this.#transaction = transaction;
  }

  get timestampNs(): bigint {
    const high = BigInt(this.#timeHigh | 0) << 32n;
    return high | BigInt(this.#timeLow >>> 0);
  }

  get timestamp(): Date {
    return new Date(floorMs(this.timestampNs));
  }

  get transactionId(): string | undefined {
    const transaction = this.#transaction;
    return transaction && showTransactionId(transaction);
  }

  get checksum(): number {
    return crc32(this.data);
  }

  text(): string {
    return decoder.decode(this.data);
  }

  json<T = unknown>(): T {
    return JSON.parse(this.text()) as T;
  }

  toJSON(): EntryJson {
    const { index, term, transactionId, data } = this;
    const json: EntryJson = { index, term, timestamp: this.#isoTime() };
    if (transactionId !== undefined) json.transactionId = transactionId;
    try {
      json.text = strictDecoder.decode(data);
    } catch {
      json.base64 = toBase64(data);
    }
    return json;
  }

  #isoTime(): string {
    const ns = this.timestampNs;
    const fraction = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
    const seconds = this.timestamp.toISOString().slice(0, 19);
    return `${seconds}.${String(fraction).padStart(9, "0")}Z`;
  }

  static {
    // What console.log shows, in Node and Bun and in Deno.
    const forNode = function (this: StoredEntry): EntryJson {
      return this.toJSON();
    };
    const forDeno = function (
      this: StoredEntry,
      inspect: (value: unknown, options: unknown) => string,
      options: unknown,
    ): string {
      return `Entry ${inspect(this.toJSON(), options)}`;
    };
    const { prototype } = StoredEntry;
    const node = Symbol.for("nodejs.util.inspect.custom");
    Object.defineProperty(prototype, node, { value: forNode });
    const deno = Symbol.for("Deno.customInspect");
    Object.defineProperty(prototype, deno, { value: forDeno });
  }
}

/** A transaction's id as it is shown: "tx_" and 32 hex digits. */
export function showTransactionId(id: Uint8Array): string {
  return `tx_${hex(id)}`;
}

function floorMs(ns: bigint): number {
  const ms = ns / 1_000_000n;
  return Number(ns < 0n && ns % 1_000_000n !== 0n ? ms - 1n : ms);
}

function toBase64(bytes: Uint8Array): string {
  let binary = "";
  const step = 8192;
  for (let i = 0; i < bytes.length; i += step) {
    binary += String.fromCharCode(...bytes.subarray(i, i + step));
  }
  return btoa(binary);
}
