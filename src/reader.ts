/**
 * Reading: what a log open for writing and a reader have in common.
 *
 * @module
 */

import { checkWhole, closedError, outOfRange } from "./calls.ts";
import { Copier } from "./copier.ts";
import type { Encoder } from "./encoder.ts";
import { type Entry, StoredEntry } from "./entry.ts";
import {
  ChecksumMismatchError,
  IndexOutOfRangeError,
  InvalidEntryError,
} from "./errors.ts";
import { FLAG, FRAME_HEADER_BYTES } from "./format.ts";
import { frameFlags, frameLength, frameTerm, payloadStart } from "./frame.ts";
import type { LogState } from "./log_state.ts";
import { checkNames, show } from "./checks.ts";
import type { RecoveryReport, SegmentInfo, WalStats } from "./report.ts";
import type { Segment } from "./segment.ts";
import type { StoragePort } from "./storage.ts";

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

/** What a reader works with. */
export interface ReaderParts {
  /** The log's folder. */
  readonly directory: string;
  /** The storage. */
  readonly port: StoragePort;
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
  readonly #copier: Copier;

  /** Made by `openWal`. */
  protected constructor(parts: ReaderParts) {
    this.directory = parts.directory;
    this.recovery = parts.recovery;
    this.#parts = parts;
    this.#state = parts.state;
    this.#copier = new Copier((bytes) => parts.port.sharedMemory(bytes));
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
    checkWhole("read", "index", index);
    const { firstIndex, nextIndex } = this.#state;
    if (index < firstIndex || index >= nextIndex) {
      throw outOfRange(this, `read entry ${index}`, index);
    }
    return this.#read(index);
  }

  /** As `get`, but `undefined` where that throws `IndexOutOfRangeError`. */
  at(index: number): Entry | undefined {
    this.#check();
    checkWhole("read", "index", index);
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
    checkWhole("read", "first", first);
    checkWhole("read", "last", last);
    if (first > last) {
      const { firstIndex, lastIndex } = this;
      throw new IndexOutOfRangeError(
        `Cannot read entries ${first} to ${last}: the first is above the ` +
          `last, expected first <= last`,
        { index: first, firstIndex, lastIndex, reason: "absent" },
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
    if (
      options !== undefined && (typeof options !== "object" || options === null)
    ) {
      throw new TypeError(
        `Cannot read entries: options is ${show(options)}, expected an object`,
      );
    }
    const given = options ?? {};
    checkNames("read options", given, READ_OPTIONS);
    const { from, to, reverse, limit } = given;
    if (from !== undefined) checkWhole("read", "from", from);
    if (to !== undefined) checkWhole("read", "to", to);
    if (limit !== undefined) checkWhole("read", "limit", limit);
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
    const { firstIndex } = this.#state;
    return this.#state.segments.map((segment) => {
      const { lastIndex, identity } = segment;
      const first = Math.max(segment.baseIndex, firstIndex);
      const empty = first > lastIndex;
      return {
        number: segment.number,
        path: segment.path,
        firstIndex: empty ? 0 : first,
        lastIndex: empty ? 0 : lastIndex,
        bytes: identity.segmentBytes,
        sealed: segment.sealed,
        createdAt: new Date(identity.createdAtMs),
      };
    });
  }

  /** Counts and latencies since opening. */
  stats(): WalStats {
    this.#check();
    const none = { count: 0, p50: 0, p99: 0, p999: 0, max: 0 };
    return {
      storage: this.#parts.port.kind,
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
    if (this.state === "closed") throw closedError(this.directory);
  }

  #read(index: number): Entry {
    const segment = this.#state.holding(index);
    const at = segment.locateFrame(index, this.#parts.verifyReads);
    const { bytes, view } = segment.file.window;
    const flags = frameFlags(view, at);
    const term = frameTerm(view, at);
    const start = at + payloadStart(flags);
    const payload = this.#copier.copy(bytes, start, at + frameLength(view, at));
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
