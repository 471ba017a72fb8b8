/**
 * Reading: what a log open for writing and a reader have in common.
 *
 * @module
 */

import type { Encoder } from "./encoder.ts";
import { type Entry, StoredEntry } from "./entry.ts";
import {
  ChecksumMismatchError,
  IndexOutOfRangeError,
  InvalidEntryError,
  WalClosedError,
} from "./errors.ts";
import { FLAG, FRAME_HEADER_BYTES } from "./format.ts";
import { frameFlags, frameLength, frameTerm, payloadStart } from "./frame.ts";
import type { LogState } from "./log_state.ts";
import { checkNames, show } from "./options.ts";
import type { Percentiles } from "./percentiles.ts";
import type { Segment } from "./segment.ts";
import type { WalStorage } from "./storage.ts";

/** Which entries to iterate over. */
export interface ReadOptions {
  /** The lowest index; the log's first. */
  from?: number | undefined;
  /** The highest index; the log's last. */
  to?: number | undefined;
  /** Begin at `to` and go down. @default {false} */
  reverse?: boolean | undefined;
  /** At most so many entries. */
  limit?: number | undefined;
}

/** One segment file. */
export interface SegmentInfo {
  /** Its running number. */
  readonly number: number;
  /** Its file. */
  readonly path: string;
  /** Its first entry; 0 while it has none. */
  readonly firstIndex: number;
  /** Its last entry; 0 while it has none. */
  readonly lastIndex: number;
  /** The file's size in bytes. */
  readonly bytes: number;
  /** Whether a successor has ended it. */
  readonly sealed: boolean;
  /** When it was made. */
  readonly createdAt: Date;
}

/** A named position; none exist yet. */
export interface ConsumerInfo {
  /** The consumer's name. */
  readonly name: string;
  /** The last entry that it acknowledged. */
  readonly position: number;
  /** Entries between that and the log's end. */
  readonly lag: number;
}

/** Counts and latencies of an open log. */
export interface WalStats {
  /** Which storage is in use. */
  readonly storage: "mapped" | "files" | "memory" | "simulated";
  /** Entries in the log. */
  readonly entryCount: number;
  /** Segment files of the log. */
  readonly segmentCount: number;
  /** Bytes of all segment files. */
  readonly bytes: number;
  /** Entries appended since opening. */
  readonly appendCount: number;
  /** Syncs asked of the system since opening. */
  readonly syncCount: number;
  /** Bytes of frames written since opening. */
  readonly bytesWritten: number;
  /** Bytes of frames that no sync has made durable yet. */
  readonly unsyncedBytes: number;
  /** Entries that no sync has made durable yet. */
  readonly unsyncedCount: number;
  /** How long one call of 64 took to write, in nanoseconds. */
  readonly appendNs: Percentiles;
  /** How long rounds of syncs took, in nanoseconds. */
  readonly syncNs: Percentiles;
  /** Named positions. */
  readonly consumers: readonly ConsumerInfo[];
}

/** What opening found and did. */
export interface RecoveryReport {
  /** How the log was found. */
  readonly outcome: "created" | "clean" | "torn" | "salvaged";
  /** Entries in the log after opening. */
  readonly entryCount: number;
  /** Segments that had to be read through. */
  readonly segmentsScanned: number;
  /** How long opening took, in milliseconds. */
  readonly ms: number;
  /** Bytes of unfinished writes that were cut. */
  readonly tornBytes: number;
  /** Where those are kept. */
  readonly savedPath: string | undefined;
  /** What cannot be read; empty unless salvaged. */
  readonly gaps: readonly {
    /** The damaged segment's path. */
    segment: string;
    /** Where the damage begins. */
    offset: number;
    /** The first entry that cannot be read. */
    firstLostIndex: number;
    /** The last entry that cannot be read. */
    lastLostIndex: number;
  }[];
}

/** What a reader works with. */
export interface ReaderParts {
  /** The log's folder. */
  readonly directory: string;
  /** The storage's kind. */
  readonly storage: WalStorage["kind"];
  /** The log's segments. */
  readonly state: LogState;
  /** The encoder of a format other than "binary". */
  readonly encoder: Encoder | undefined;
  /** Whether reads check. */
  readonly verifyReads: boolean;
  /** What opening found. */
  readonly recovery: RecoveryReport;
}

const READ_OPTIONS = ["from", "to", "reverse", "limit"];

/**
 * Reads a log. `Wal` is one; get it with `openWal`.
 *
 * @example Read what was written
 * ```ts
 * import { memoryStorage, openWal } from "@walrus/wal";
 *
 * await using wal = await openWal("log", { storage: memoryStorage() });
 * await wal.append("one");
 * for (const entry of wal) console.log(entry.index, entry.text());
 * ```
 */
export class WalReader {
  /** The log's folder. */
  readonly directory: string;
  /** What opening found and did. */
  readonly recovery: RecoveryReport;
  readonly #parts: ReaderParts;
  readonly #state: LogState;

  /** Made by `openWal`. */
  protected constructor(parts: ReaderParts) {
    this.directory = parts.directory;
    this.recovery = parts.recovery;
    this.#parts = parts;
    this.#state = parts.state;
  }

  /** Whether the log can be used: "failed" still reads. */
  get state(): "open" | "failed" | "closed" {
    return "open";
  }

  /** The first entry's index; 0 while the log is empty. */
  get firstIndex(): number {
    return this.#state.entryCount === 0 ? 0 : this.#state.firstIndex;
  }

  /** The last entry's index; 0 while the log is empty. */
  get lastIndex(): number {
    return this.#state.entryCount === 0 ? 0 : this.#state.nextIndex - 1;
  }

  /** The last entry that no power cut takes back; 0 for none. */
  get durableIndex(): number {
    return this.lastIndex;
  }

  /** The index that the next entry gets. */
  get nextIndex(): number {
    return this.#state.nextIndex;
  }

  /** How many entries there are. */
  get length(): number {
    return this.#state.entryCount;
  }

  /**
   * The entry with this index; its data is a copy.
   * @throws {IndexOutOfRangeError} when there is none
   * @throws {ChecksumMismatchError} when its bytes are damaged
   */
  get(index: number): Entry {
    this.#check();
    this.#checkIndex("index", index);
    const { firstIndex, nextIndex } = this.#state;
    if (index < firstIndex || index >= nextIndex) throw this.#absent(index);
    return this.#read(index);
  }

  /** As `get`, but `undefined` where that throws `IndexOutOfRangeError`. */
  at(index: number): Entry | undefined {
    this.#check();
    this.#checkIndex("index", index);
    const { firstIndex, nextIndex } = this.#state;
    if (index < firstIndex || index >= nextIndex) return undefined;
    return this.#read(index);
  }

  /**
   * The entries from `first` to `last` that exist.
   * @throws {IndexOutOfRangeError} when `first` is above `last`
   */
  getRange(first: number, last: number): Entry[] {
    this.#check();
    this.#checkIndex("first", first);
    this.#checkIndex("last", last);
    if (first > last) {
      throw this.#outOfRange(
        `Cannot read entries ${first} to ${last}: the first is above the ` +
          `last, expected first <= last`,
        first,
        "absent",
      );
    }
    const from = Math.max(first, this.#state.firstIndex);
    const to = Math.min(last, this.#state.nextIndex - 1);
    const entries: Entry[] = [];
    for (let index = from; index <= to; index++) {
      entries.push(this.#read(index));
    }
    return entries;
  }

  /**
   * Iterates over the entries; which is the last one is decided at the first
   * step. Entries removed meanwhile throw `IndexOutOfRangeError`.
   */
  entries(options?: ReadOptions): Generator<Entry, void, undefined> {
    this.#check();
    return this.#iterate(this.#checkRange(options));
  }

  *#iterate(
    range: { from: number; to: number; reverse: boolean; limit: number },
  ): Generator<Entry, void, undefined> {
    const from = Math.max(range.from, this.#state.firstIndex);
    const to = Math.min(range.to, this.#state.nextIndex - 1);
    const count = Math.min(range.limit, to - from + 1);
    for (let i = 0; i < count; i++) {
      yield this.get(range.reverse ? to - i : from + i);
    }
  }

  #checkRange(
    options: ReadOptions | undefined,
  ): { from: number; to: number; reverse: boolean; limit: number } {
    const given = options ?? {};
    checkNames("read options", given, READ_OPTIONS);
    const { from, to, reverse, limit } = given;
    if (from !== undefined) this.#checkIndex("from", from);
    if (to !== undefined) this.#checkIndex("to", to);
    if (limit !== undefined) this.#checkIndex("limit", limit);
    if (limit !== undefined && limit < 0) {
      throw new RangeError(
        `Cannot read entries: limit is ${limit}, expected 0 or more`,
      );
    }
    if (reverse !== undefined && typeof reverse !== "boolean") {
      throw new TypeError(
        `Cannot read entries: reverse is ${show(reverse)}, expected a boolean`,
      );
    }
    return {
      from: from ?? 1,
      to: to ?? Infinity,
      reverse: reverse ?? false,
      limit: limit ?? Infinity,
    };
  }

  /** All entries in order. */
  [Symbol.iterator](): Generator<Entry, void, undefined> {
    return this.entries();
  }

  /** The segment files that make up the log, in order. */
  segments(): SegmentInfo[] {
    this.#check();
    return this.#state.segments.map((segment) => ({
      number: segment.number,
      path: segment.path,
      firstIndex: segment.entryCount === 0 ? 0 : segment.baseIndex,
      lastIndex: segment.entryCount === 0 ? 0 : segment.lastIndex,
      bytes: segment.identity.segmentBytes,
      sealed: segment.sealed,
      createdAt: new Date(segment.identity.createdAtMs),
    }));
  }

  /** Counts and latencies since opening. */
  stats(): WalStats {
    this.#check();
    const none = { count: 0, p50: 0, p99: 0, p999: 0, max: 0 };
    return {
      storage: this.#parts.storage,
      entryCount: this.#state.entryCount,
      segmentCount: this.#state.segments.length,
      bytes: this.#state.bytes,
      appendCount: 0,
      syncCount: 0,
      bytesWritten: 0,
      unsyncedBytes: 0,
      unsyncedCount: 0,
      appendNs: none,
      syncNs: none,
      consumers: [],
    };
  }

  /** Frees the log's files and memory; entries already read stay good. */
  close(): Promise<void> {
    this.#state.close();
    return Promise.resolve();
  }

  /** The blocking twin of `close`. */
  closeSync(): void {
    this.#state.close();
  }

  /** Closes the log at the end of an `await using` block. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Closes the log at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.closeSync();
  }

  #check(): void {
    if (this.state !== "closed") return;
    throw new WalClosedError(
      `Cannot use log "${this.directory}": it is closed, expected an open one`,
    );
  }

  #checkIndex(name: string, index: unknown): void {
    const message =
      `Cannot read: ${name} is ${show(index)}, expected a whole ` +
      `number`;
    if (typeof index !== "number") throw new TypeError(message);
    if (!Number.isSafeInteger(index)) throw new RangeError(message);
  }

  #absent(index: number): IndexOutOfRangeError {
    const { firstIndex, nextIndex } = this.#state;
    const removed = index >= 1 && index < firstIndex;
    const has = this.#state.entryCount === 0
      ? `the log is empty, its next index is ${nextIndex}`
      : `the log holds ${firstIndex} to ${nextIndex - 1}`;
    const what = removed ? "was removed" : "is not there";
    return this.#outOfRange(
      `Cannot read entry ${index}: it ${what}, ${has}`,
      index,
      removed ? "removed" : "absent",
    );
  }

  #outOfRange(
    message: string,
    index: number,
    reason: "absent" | "removed",
  ): IndexOutOfRangeError {
    const { firstIndex, lastIndex } = this;
    return new IndexOutOfRangeError(message, {
      index,
      firstIndex,
      lastIndex,
      reason,
    });
  }

  #read(index: number): Entry {
    const segment = this.#state.holding(index);
    const at = segment.locateFrame(index, this.#parts.verifyReads);
    const { bytes, view } = segment.file.window;
    const flags = frameFlags(view, at);
    const term = frameTerm(view, at);
    const start = at + payloadStart(flags);
    const payload = bytes.slice(start, at + frameLength(view, at));
    const transaction = (flags & FLAG.transaction) === 0
      ? undefined
      : bytes.slice(at + FRAME_HEADER_BYTES, start);
    const low = view.getUint32(at + 32, true);
    const high = view.getInt32(at + 36, true);
    const { encoder } = this.#parts;
    const data = encoder === undefined
      ? payload
      : this.#decode(encoder, segment, index, payload);
    return new StoredEntry(index, term, data, low, high, transaction);
  }

  #decode(
    encoder: Encoder,
    segment: Segment,
    index: number,
    payload: Uint8Array<ArrayBuffer>,
  ): Uint8Array<ArrayBuffer> {
    let data: unknown;
    try {
      data = encoder.decode(payload)?.data;
    } catch (error) {
      // With the checksum off, damage shows here first.
      if (!this.#parts.verifyReads && error instanceof InvalidEntryError) {
        const offset = segment.offsetOf(index);
        throw new ChecksumMismatchError(
          `Cannot read entry ${index}: ${error.message}`,
          { index, segment: segment.path, offset },
        );
      }
      throw error;
    }
    if (data instanceof Uint8Array) return data as Uint8Array<ArrayBuffer>;
    throw new InvalidEntryError(
      `Cannot read entry ${index}: encoder "${encoder.name}" gave ` +
        `${show(data)} as data, expected a Uint8Array`,
    );
  }
}
