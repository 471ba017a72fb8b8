/**
 * Reading: what a log open for writing and a reader have in common.
 *
 * @module
 */

import { checkWhole, closedError, outOfRange } from "./calls.ts";
import type { Consumer, ConsumerOptions } from "./consumer.ts";
import type { Entry } from "./entry.ts";
import { EntryIterator, type Iterated } from "./entry_iterator.ts";
import type { EntrySource } from "./entry_reader.ts";
import { WalFailedError } from "./errors.ts";
import {
  type AskedFollow,
  type Followed,
  followEntries,
  type FollowOptions,
  type Moment,
  readFollow,
  readTogether,
  streamEntries,
} from "./follow.ts";
import type { FrameRun } from "./frame_run.ts";
import type { LogState } from "./log_state.ts";
import {
  checkOrder,
  type ReadOptions,
  readRange,
  readZeroCopy,
} from "./read_options.ts";
import type {
  ConsumerInfo,
  RecoveryReport,
  SegmentInfo,
  WalStats,
} from "./report.ts";
import { findFirst, type Target, termTarget, timeTarget } from "./seek.ts";
import type { StoragePort } from "./storage.ts";
import type { Wakeups } from "./wakeups.ts";

/** What a reader works with. */
export interface ReaderParts {
  /** The storage. */
  readonly port: StoragePort;
  /** The log's segments. */
  readonly state: LogState;
  /** Reads its entries. */
  readonly entries: EntrySource;
  /** The log's folder. */
  readonly directory: string;
  /** Whether reads give views unless told otherwise. */
  readonly zeroCopy: boolean;
  /** What opening found. */
  readonly recovery: RecoveryReport;
  /** Wakes those who wait for entries. */
  readonly wakeups: Wakeups;
  /** Brings the state up to what a writer elsewhere shows. */
  readonly refresh?: (() => void) | undefined;
  /** Reads again what a writer elsewhere took away meanwhile. */
  readonly attempt?: (<T>(work: () => T) => T) | undefined;
  /** Why it cannot read on there, if it cannot. */
  readonly stuck?: (() => Error | undefined) | undefined;
}

/**
 * Reads a log. Get one with `openReader`; what `openWal` gives is one, too.
 *
 * @example Read what was written
 * ```ts
 * import { memoryStorage, openWal } from "@walrus/wal";
 * await using wal = await openWal("log", { storage: memoryStorage() });
 * await wal.appendBatch(["one", { data: "two", term: 7 }]);
 * for (const entry of wal) console.log(entry.index, entry.text());
 * console.log(wal.get(2).text(), wal.findByTerm(7)); // two 2
 * ```
 */
export class WalReader {
  /** The log's folder. */
  readonly directory: string;
  /** What opening found and did. */
  readonly recovery: RecoveryReport;
  readonly #parts: ReaderParts;
  readonly #own: LogState;
  readonly #entries: EntrySource;
  readonly #followed: Followed;
  readonly #iterated: Iterated;

  /** Made by `openWal`. */
  protected constructor(parts: ReaderParts) {
    this.directory = parts.directory;
    this.recovery = parts.recovery;
    this.#parts = parts;
    this.#own = parts.state;
    this.#entries = parts.entries;
    this.#followed = {
      bounds: this,
      look: () => this.#look(),
      cursors: parts.state.cursors,
      wakeups: parts.wakeups,
      isClosed: () => this.state === "closed",
      stuck: parts.stuck,
      read: (index, zeroCopy, run) => this.#entries.read(index, zeroCopy, run),
    };
    this.#iterated = {
      look: () => this.#state,
      get: (index, zeroCopy, run) => this.#get(index, zeroCopy, run),
      stuck: () => parts.stuck?.(),
    };
  }

  /** Up to what a writer elsewhere shows, if this is a reader. */
  get #state(): LogState {
    this.#parts.refresh?.();
    return this.#own;
  }

  #look(): Moment {
    // A reader's getter brings its state up to now.
    const { durableIndex } = this;
    const { firstIndex, nextIndex } = this.#own;
    return { firstIndex, nextIndex, durableIndex };
  }

  /** Whether the log can be used: "failed" still reads. */
  get state(): "open" | "failed" | "closed" {
    return "open";
  }

  /** The first entry's index; 0 while the log is empty. */
  get firstIndex(): number {
    const { entryCount, firstIndex } = this.#state;
    return entryCount === 0 ? 0 : firstIndex;
  }

  /** The last entry's index; 0 while the log is empty. */
  get lastIndex(): number {
    const { entryCount, nextIndex } = this.#state;
    return entryCount === 0 ? 0 : nextIndex - 1;
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
    return this.#get(index, this.#parts.zeroCopy);
  }

  #get(index: number, zeroCopy: boolean, run?: FrameRun): Entry {
    this.#check();
    checkWhole("read", "index", index);
    const { firstIndex, nextIndex } = this.#state;
    if (index < firstIndex || index >= nextIndex) {
      const stuck = index < firstIndex ? undefined : this.#parts.stuck?.();
      throw stuck ?? outOfRange(this, `read entry ${index}`, index);
    }
    return this.#entries.read(index, zeroCopy, run);
  }

  /**
   * The entry with this index; its data lies in the mapped file, without a
   * copy. It is valid for as long as somebody holds it, whatever becomes of
   * the log; what a program writes into it, only this process sees. Where
   * nothing is mapped, and with other formats than "binary", it is a copy.
   *
   * The data shares its buffer with the other views of its segment, which
   * cannot be transferred: clone `data`, not its buffer. Bun refuses to
   * transfer in `postMessage` and `structuredClone` only; after
   * `data.buffer.transfer()` and in byte streams all views of that segment
   * made before are empty, and the log makes new ones.
   * @throws {IndexOutOfRangeError} when there is none
   * @throws {ChecksumMismatchError} when its bytes are damaged
   */
  view(index: number): Entry {
    return this.#get(index, true);
  }

  /** As `get`, but `undefined` where that throws `IndexOutOfRangeError`. */
  at(index: number): Entry | undefined {
    this.#check();
    checkWhole("read", "index", index);
    const { firstIndex, nextIndex } = this.#state;
    if (index < firstIndex || index >= nextIndex) return undefined;
    return this.#entries.read(index, this.#parts.zeroCopy);
  }

  /**
   * The entries from `first` to `last` that exist; none is an empty array.
   * @throws {IndexOutOfRangeError} when `first` is above `last`
   * @throws {ChecksumMismatchError} when the bytes of one are damaged
   */
  getRange(
    first: number,
    last: number,
    options?: { zeroCopy?: boolean | undefined },
  ): Entry[] {
    this.#check();
    const zeroCopy = readZeroCopy(options, this.#parts.zeroCopy);
    checkOrder(this, first, last);
    const { firstIndex, nextIndex } = this.#state;
    const from = Math.max(first, firstIndex);
    const to = Math.min(last, nextIndex - 1);
    return readTogether(this.#followed, from, to, zeroCopy);
  }

  /**
   * Iterates over the entries; which is the last one is decided at the first
   * step. Entries removed meanwhile throw `IndexOutOfRangeError`.
   */
  entries(options?: ReadOptions): Generator<Entry, void, undefined> {
    this.#check();
    const range = readRange(options, this.#parts.zeroCopy);
    return new EntryIterator(this.#iterated, range);
  }

  /**
   * Gives the history from `from`, then every entry as it comes; waits for
   * the next one while the loop asks for it, and keeps the process alive so
   * long. An aborted signal makes the loop throw its reason; closing the log
   * ends it. No entry is skipped, and none comes twice.
   * @throws {IndexOutOfRangeError} (at a step) with reason "removed" when the
   * next entry is below the first index, "truncated" when one that was given
   * has been taken away
   */
  follow(options?: FollowOptions): AsyncGenerator<Entry, void, undefined> {
    return followEntries(this.#followed, this.#readFollow(options, false));
  }

  /**
   * The same as a stream of the web platform; with `live: false` it ends with
   * the last entry of the call.
   *
   * @example Pipe the log into another one
   * ```ts
   * import { memoryStorage, openWal } from "@walrus/wal";
   * await using source = await openWal("a", { storage: memoryStorage() });
   * await using target = await openWal("b", { storage: memoryStorage() });
   * await source.appendBatch(["one", "two"]);
   * await source.readable({ live: false }).pipeTo(target.writable());
   * console.log(target.length); // 2
   * ```
   */
  readable(
    options?: FollowOptions & { live?: boolean | undefined },
  ): ReadableStream<Entry> {
    return streamEntries(this.#followed, this.#readFollow(options, true));
  }

  #readFollow(
    options: FollowOptions & { live?: boolean | undefined } | undefined,
    stream: boolean,
  ): AskedFollow {
    this.#check();
    const { zeroCopy } = this.#parts;
    return readFollow(options, this.#followed, { zeroCopy, stream });
  }

  /**
   * The first entry in log order whose time is at or after `time`, a Date or
   * nanoseconds since 1970; undefined when there is none. Found through the
   * indexes of the segments, without a scan of the log.
   * @throws {TypeError | RangeError} when `time` is none
   */
  findByTime(time: Date | bigint): number | undefined {
    this.#check();
    return this.#find(timeTarget(time));
  }

  /** The first entry in log order whose term is `term` or higher; likewise. */
  findByTerm(term: number): number | undefined {
    this.#check();
    checkWhole("find by term", "term", term);
    return this.#find(termTarget(term));
  }

  #find(target: Target): number | undefined {
    const work = () => findFirst(this.#state, target);
    return this.#parts.attempt === undefined
      ? work()
      : this.#parts.attempt(work);
  }

  /** All in order. */
  [Symbol.iterator](): Generator<Entry, void, undefined> {
    return this.entries();
  }

  /** The segment files that make up the log, in order. */
  segments(): SegmentInfo[] {
    this.#check();
    const { firstIndex, segments } = this.#state;
    return segments.map((segment) => {
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
    const { entryCount, segments, bytes } = this.#state;
    return {
      storage: this.#parts.port.kind,
      entryCount,
      segmentCount: segments.length,
      bytes,
      appendCount: 0,
      syncCount: 0,
      bytesWritten: 0,
      unsyncedBytes: 0,
      unsyncedCount: 0,
      appendNs: none,
      syncNs: none,
      consumers: this.consumers(),
    };
  }

  /**
   * Opens the consumer of this name, or makes it: a position in the log that
   * outlives the process. Only one may have it open, in whatever process.
   * @throws {WalLockedError} (rejects) when it is open already
   * @throws {IndexOutOfRangeError} (rejects) when `from` is not in the log
   * @throws {WalFailedError} (rejects) in a log that is salvaged
   */
  consumer(_name: string, _options?: ConsumerOptions): Promise<Consumer> {
    return Promise.reject(
      new WalFailedError(
        `Cannot open consumer of "${this.directory}": a salvaged log has gaps, ` +
          `expected one that was repaired`,
      ),
    );
  }

  /** All consumers, by name; none in a log that is salvaged. */
  consumers(): ConsumerInfo[] {
    this.#check();
    return [];
  }

  /** Frees the log's files and memory; entries already read stay good. */
  close(): Promise<void> {
    this.#own.close();
    return Promise.resolve();
  }

  /** The blocking twin of `close`. */
  closeSync(): void {
    this.#own.close();
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
}
