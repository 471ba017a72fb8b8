/**
 * The log open for writing: checks each call, has it written, and settles it
 * when it is as safe as asked. Orchestration only.
 *
 * @module
 */

import type { Appends } from "./appends.ts";
import type { AppendOptions } from "./calls.ts";
import {
  type Consumer,
  type ConsumerOptions,
  openConsumer,
} from "./consumer.ts";
import type { EntryInput } from "./entry.ts";
import type { TransactionState } from "./errors.ts";
import type { LogState } from "./log_state.ts";
import { WalReader } from "./reader.ts";
import type { Removal } from "./removal.ts";
import type { ConsumerInfo, WalStats } from "./report.ts";
import { runBlocking, type Steps } from "./steps.ts";
import type { SyncRounds } from "./sync_rounds.ts";
import type { Transaction } from "./transaction.ts";
import {
  readTimeout,
  runTransaction,
  type TransactionOptions,
} from "./transactions.ts";
import type { WalInternals, WalParts } from "./wal_parts.ts";
import { Workings } from "./workings.ts";
import { type WritableOptions, writeEntries } from "./writable.ts";

let internals: WalInternals<Wal>;

/** The doors that the public class does not show. */
export function walInternals(): WalInternals<Wal> {
  return internals;
}

/**
 * A log open for writing.
 *
 * @example Write and read
 * ```ts
 * import { memoryStorage, openWal } from "@walrus/wal";
 *
 * await using wal = await openWal("log", { storage: memoryStorage() });
 * const index = await wal.append("Hello World!");
 * console.log(wal.get(index).text());
 * ```
 */
export class Wal extends WalReader {
  static {
    internals = {
      make: (parts) => new Wal(parts),
      markMoved: (wal, segment) => wal.#own.markMoved(segment),
      failed: (wal, error) => wal.#own.failed(error),
      appendsOf: (wal) => wal.#own.appends,
    };
  }

  readonly #parts: WalParts;
  readonly #state: LogState;
  readonly #rounds: SyncRounds;
  readonly #appends: Appends;
  readonly #own: Workings;

  private constructor(parts: WalParts) {
    super(parts);
    this.#parts = parts;
    this.#state = parts.state;
    this.#rounds = parts.rounds;
    this.#own = new Workings(parts, this);
    this.#appends = this.#own.appends;
  }

  /** "failed" after a sync failed: reads go on, writes are refused. */
  override get state(): "open" | "failed" | "closed" {
    if (this.#appends.ended) return "closed";
    return this.#rounds.failure === undefined ? "open" : "failed";
  }

  /**
   * The last entry that no power cut takes back; 0 for none. A blocking sync
   * counts once an asynchronous one that was running beside it has returned.
   */
  override get durableIndex(): number {
    const { durableIndex } = this.#rounds;
    return durableIndex < this.#state.firstIndex ? 0 : durableIndex;
  }

  /**
   * Appends an entry. It is written, indexed and readable when this returns;
   * the promise gives its index when it is as safe as `sync` says. Never
   * throws: rejects with the errors of `appendSync`, with an aborted signal's
   * reason, and with `IndexOutOfRangeError` when a truncation takes the entry
   * away before it is durable.
   */
  append(entry: EntryInput, options?: AppendOptions): Promise<number> {
    return this.#appends.append(entry, options);
  }

  /**
   * The blocking twin of `append`.
   * @throws {TypeError | RangeError} when a field or an option is wrong
   * @throws {EmptyDataError} when there is no data
   * @throws {InvalidEntryError} when the data is above `maxEntryBytes`
   * @throws {IndexConflictError} when `expectedIndex` is not the next one
   * @throws {StorageError} when the disk is full; nothing was written
   * @throws {WalFailedError} when a sync failed, now or before
   */
  appendSync(entry: EntryInput, options?: AppendOptions): number {
    return this.#appends.appendSync(entry, options);
  }

  /**
   * Appends several entries as one: all or none of them are in the log, also
   * after a crash. The iterable is read to its end first. Gives their indexes;
   * rejects as `append`.
   * @throws {SegmentFullError} (rejects) when they are more than 1 GiB
   */
  appendBatch(
    entries: Iterable<EntryInput>,
    options?: AppendOptions,
  ): Promise<number[]> {
    return this.#appends.appendBatch(entries, options);
  }

  /** The blocking twin of `appendBatch`. */
  appendBatchSync(
    entries: Iterable<EntryInput>,
    options?: AppendOptions,
  ): number[] {
    return this.#appends.appendBatchSync(entries, options);
  }

  /**
   * Begins a transaction: entries staged in memory until it is committed.
   * @throws {WalFailedError} when a sync has failed
   */
  beginTransaction(options?: TransactionOptions): Transaction {
    this.#appends.checkWritable();
    const timeoutMs = readTimeout(options);
    // Getters of the options are the caller's program.
    this.#appends.checkWritable();
    return this.#own.transactions.begin(timeoutMs);
  }

  /**
   * Runs `work` with a transaction, and commits it when `work` is done; when
   * it throws, nothing of it is in the log.
   *
   * @example Both or none
   * ```ts
   * import { memoryStorage, openWal } from "@walrus/wal";
   *
   * await using wal = await openWal("log", { storage: memoryStorage() });
   * await wal.transaction((tx) => {
   *   tx.add("debit alice 10");
   *   tx.add("credit bob 10");
   * });
   * ```
   */
  async transaction<T>(
    work: (tx: Transaction) => T | Promise<T>,
    options?: TransactionOptions & AppendOptions,
  ): Promise<T> {
    this.#appends.checkOpen();
    return await runTransaction(this, work, options);
  }

  /**
   * A pending transaction.
   * @throws {TransactionNotFoundError} when there is none, or it has ended
   */
  getTransaction(id: string): Transaction {
    this.#appends.checkOpen();
    return this.#own.transactions.find(id);
  }

  /**
   * How a pending transaction, or one of the last 1 000 ended ones, stands.
   * @throws {TransactionNotFoundError} when it is none of these
   */
  getTransactionState(id: string): TransactionState {
    this.#appends.checkOpen();
    return this.#own.transactions.stateOf(id);
  }

  /** Pending transactions; expired ones count until they are cleaned up. */
  get activeTransactionCount(): number {
    return this.#own.transactions.pendingCount;
  }

  /** Aborts the transactions whose time is over; returns how many. */
  cleanupExpiredTransactions(): number {
    this.#appends.checkOpen();
    return this.#own.transactions.cleanUp();
  }

  /**
   * Waits until entry `index` is durable; with none, all written so far.
   * @throws {IndexOutOfRangeError} (rejects) above the last index
   * @throws {WalFailedError} (rejects) when a sync failed, now or before
   */
  flush(index?: number): Promise<void> {
    return this.#appends.flush(this, index);
  }

  /**
   * Blocks until all written so far is durable.
   * @throws {WalFailedError} when a sync failed, now or before
   */
  flushSync(): void {
    this.#appends.checkWritable();
    if (this.#rounds.pending) this.#rounds.sync();
  }

  /**
   * Drops the entries above `index`. Takes effect at the call; settles when
   * no crash can undo it. Consumers above it are lowered to it; followers that
   * were given a dropped entry throw, in whatever process.
   * @throws {IndexOutOfRangeError} (rejects) below `firstIndex - 1` or above
   * `lastIndex`
   * @throws {WalFailedError} (rejects) when a sync failed, now or before
   */
  truncateAfter(index: number): Promise<void> {
    return this.#own.start(this.#take((log) => log.truncateAfter(this, index)));
  }

  /** The blocking twin of `truncateAfter`. */
  truncateAfterSync(index: number): void {
    runBlocking(this.#take((log) => log.truncateAfter(this, index)));
  }

  /**
   * Drops the entries below `index`, and the segment files that hold no
   * others; an emptied log keeps its next index. Takes effect at the call;
   * settles when no crash can undo it. At or below the first index it does
   * nothing. It is an order: consumers are passed, unlike by `retention`.
   * @throws {IndexOutOfRangeError} (rejects) above `lastIndex + 1`
   * @throws {WalFailedError} (rejects) when a sync failed, now or before
   */
  truncateBefore(index: number): Promise<void> {
    return this.#own.start(
      this.#take((log) => log.truncateBefore(this, index)),
    );
  }

  /** The blocking twin of `truncateBefore`. */
  truncateBeforeSync(index: number): void {
    runBlocking(this.#take((log) => log.truncateBefore(this, index)));
  }

  /**
   * Drops all entries and goes on at `nextIndex`, which may lie beyond the
   * end, as after a Raft snapshot. Takes effect at the call; settles when no
   * crash can undo it.
   * @throws {IndexOutOfRangeError} (rejects) below 1
   * @throws {WalFailedError} (rejects) when a sync failed, now or before
   */
  reset(nextIndex: number): Promise<void> {
    return this.#own.start(this.#take((log) => log.reset(this, nextIndex)));
  }

  /** The blocking twin of `reset`. */
  resetSync(nextIndex: number): void {
    runBlocking(this.#take((log) => log.reset(this, nextIndex)));
  }

  *#take(call: (removal: Removal) => Steps<void>): Steps<void> {
    this.#appends.checkWritable();
    yield* call(this.#own.removal);
  }

  /**
   * Opens the consumer of this name, or makes it: a position in the log that
   * outlives the process. A name has 1 to 64 of A-Z, a-z, 0-9, dot, underscore
   * and hyphen, and does not begin with a dot.
   * @throws {TypeError | RangeError} (rejects) when the name or `from` is wrong
   * @throws {WalLockedError} (rejects) when it is open, in whatever process
   * @throws {IndexOutOfRangeError} (rejects) when `from` is not in the log
   * @throws {WalCorruptedError} (rejects) when its file is damaged
   */
  override consumer(
    name: string,
    options?: ConsumerOptions,
  ): Promise<Consumer> {
    return this.#own.start(openConsumer(this.#own.consumerLog, name, options));
  }

  /** All consumers, by name. */
  override consumers(): ConsumerInfo[] {
    this.#appends.checkOpen();
    return this.#parts.consumers.list(this.#state);
  }

  /**
   * Ends the growing segment and begins a new one, unless it is empty; settles
   * when all is durable. Retention looks afterwards.
   * @throws {WalFailedError} (rejects) when a sync failed, now or before
   */
  rotate(): Promise<void> {
    return this.#own.start(this.#rotate());
  }

  /** The blocking twin of `rotate`. */
  rotateSync(): void {
    runBlocking(this.#rotate());
  }

  *#rotate(): Steps<void> {
    this.#appends.checkWritable();
    if (this.#state.active.entryCount > 0) {
      const { segmentBytes } = this.#parts;
      this.#parts.rotation.rotate(this.#state.nextSegmentBytes(segmentBytes));
      this.#parts.writer.publisher.publish();
    }
    // An earlier rotation may still be on its way to the disk.
    if (this.#rounds.pending) yield [this.#rounds];
  }

  /**
   * A stream that appends what is written into it. `write()` settles when the
   * entry is written, and waits while more than `maxUnsyncedBytes` are not
   * durable; `close()` settles when all is. Neither closes the log.
   * @throws {TypeError | RangeError} when an option is wrong
   *
   * @example Write through a stream
   * ```ts
   * import { memoryStorage, openWal } from "@walrus/wal";
   *
   * await using wal = await openWal("log", { storage: memoryStorage() });
   * const writer = wal.writable().getWriter();
   * await writer.write("one");
   * await writer.close();
   * console.log(wal.durableIndex); // 1
   * ```
   */
  writable(options?: WritableOptions): WritableStream<EntryInput> {
    this.#appends.checkOpen();
    return writeEntries({
      append: (entry, how) => this.append(entry, how),
      flush: () => this.flush(),
      unsyncedBytes: () => this.#unsyncedBytes,
    }, options);
  }

  get #unsyncedBytes(): number {
    const { durable, pending } = this.#rounds;
    return pending ? this.#state.bytesAfter(durable) : 0;
  }

  /** Counts and latencies since opening. */
  override stats(): WalStats {
    const stats = super.stats();
    const { durableIndex, latency, syncCount } = this.#rounds;
    const { appendCount, bytesWritten } = this.#parts.writer;
    return {
      ...stats,
      appendCount,
      syncCount,
      bytesWritten,
      unsyncedBytes: this.#unsyncedBytes,
      unsyncedCount: this.#state.nextIndex - 1 - durableIndex,
      appendNs: this.#appends.latency.percentiles(),
      syncNs: latency.percentiles(),
    };
  }

  /**
   * Waits for the appends before it, makes all durable and frees everything,
   * also when it rejects. A second call has the first one's outcome.
   * @throws {WalFailedError} (rejects) when a sync failed, now or before
   */
  override close(): Promise<void> {
    return this.#own.close();
  }

  /** The blocking twin of `close`; pending appends settle by its sync. */
  override closeSync(): void {
    this.#own.closeSync();
  }
}
