/**
 * The log open for writing: checks each call, has it written, and settles it
 * when it is as safe as asked. Orchestration only.
 *
 * @module
 */

import type { EntryInput } from "./entry.ts";
import { runsProgram } from "./input.ts";
import {
  type AppendOptions,
  type AskedAppend,
  checkBounds,
  checkIterable,
  checkWhole,
  closedError,
  readAppendOptions,
} from "./calls.ts";
import type { WalFailedError } from "./errors.ts";
import type { LogState } from "./log_state.ts";
import { comparePositions } from "./mark.ts";
import { LatencyHistogram } from "./percentiles.ts";
import { WalReader } from "./reader.ts";
import type { WalStats } from "./report.ts";
import { runBlocking, runSoon, type Steps } from "./steps.ts";
import type { SyncRounds } from "./sync_rounds.ts";
import { cutAfter, discard } from "./truncate.ts";
import type { WalInternals, WalParts } from "./wal_parts.ts";
import type { LogWriter } from "./writer.ts";

/** One call of so many is measured: a stop watch costs more than a write. */
const SAMPLE_EVERY = 64;

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
      markMoved: (wal, segment) => wal.#markMoved(segment),
      failed: (wal, error) => wal.#failed(error),
    };
  }

  readonly #parts: WalParts;
  readonly #state: LogState;
  readonly #writer: LogWriter;
  readonly #rounds: SyncRounds;
  readonly #appendLatency = new LatencyHistogram();
  readonly #tasks = new Set<Promise<unknown>>();
  #calls = 0;
  #closing: Promise<void> | undefined;
  #closed = false;
  #finishing = false;
  #closeError: { error: unknown } | undefined;
  #stopTimer: (() => void) | undefined;

  private constructor(parts: WalParts) {
    super(parts);
    this.#parts = parts;
    this.#state = parts.state;
    this.#writer = parts.writer;
    this.#rounds = parts.rounds;
    if (parts.sync === "interval") {
      this.#stopTimer = parts.port.clock.every(parts.syncIntervalMs, () => {
        this.#rounds.startIfDirty();
      });
    }
  }

  /** "failed" after a sync failed: reads go on, writes are refused. */
  override get state(): "open" | "failed" | "closed" {
    if (this.#closed) return "closed";
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
   * the promise gives its index when it is as safe as `sync` says.
   * @throws never: all errors reject
   */
  append(entry: EntryInput, options?: AppendOptions): Promise<number> {
    try {
      const asked = this.#ask(options);
      const durable = this.#admit(asked);
      const index = this.#write(entry, asked);
      const wait = durable || this.#rounds.crowded;
      return wait ? this.#rounds.wait(index) : Promise.resolve(index);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * The blocking twin of `append`.
   * @throws {EmptyDataError} when there is no data
   * @throws {InvalidEntryError} when the data is above `maxEntryBytes`
   * @throws {IndexConflictError} when `expectedIndex` is not the next one
   * @throws {StorageError} when the disk is full; nothing was written
   * @throws {WalFailedError} when a sync failed, now or before
   */
  appendSync(entry: EntryInput, options?: AppendOptions): number {
    const asked = this.#ask(options);
    const durable = this.#admit(asked);
    const index = this.#write(entry, asked);
    if (durable || this.#rounds.crowded) this.#rounds.sync();
    return index;
  }

  #write(entry: EntryInput, asked: AskedAppend | undefined): number {
    const writer = this.#writer;
    writer.stage(entry);
    // The caller's getters have run: they may have used the log.
    if (runsProgram(entry)) this.#admit(asked);
    if (++this.#calls % SAMPLE_EVERY !== 0) return writer.appendStaged();
    const { clock } = this.#parts.port;
    const startNs = clock.monotonicNs();
    const index = writer.appendStaged();
    this.#appendLatency.add(clock.monotonicNs() - startNs);
    return index;
  }

  /**
   * Appends several entries as one: all or none of them are in the log, also
   * after a crash. The iterable is read to its end first.
   */
  appendBatch(
    entries: Iterable<EntryInput>,
    options?: AppendOptions,
  ): Promise<number[]> {
    try {
      const asked = this.#ask(options);
      const durable = this.#admit(asked);
      const indexes = this.#writeBatch(entries, asked);
      const wait = durable || this.#rounds.crowded;
      if (!wait || indexes.length === 0) return Promise.resolve(indexes);
      return this.#rounds.wait(indexes[indexes.length - 1]!)
        .then(() => indexes);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The blocking twin of `appendBatch`. */
  appendBatchSync(
    entries: Iterable<EntryInput>,
    options?: AppendOptions,
  ): number[] {
    const asked = this.#ask(options);
    const durable = this.#admit(asked);
    const indexes = this.#writeBatch(entries, asked);
    const wait = durable || this.#rounds.crowded;
    if (wait && indexes.length > 0) this.#rounds.sync();
    return indexes;
  }

  #writeBatch(
    entries: Iterable<EntryInput>,
    asked: AskedAppend | undefined,
  ): number[] {
    checkIterable(entries);
    const batch = this.#writer.stageBatch([...entries]);
    // Iterable and getters are the caller's program: they may have used the
    // log.
    this.#admit(asked);
    if (batch.length === 0) return [];
    const first = this.#writer.appendBatch(batch);
    return batch.map((_, i) => first + i);
  }

  /** Reads a call's options; that the log is closed is told first. */
  #ask(options: AppendOptions | undefined): AskedAppend | undefined {
    if (this.#closed) throw closedError(this.directory);
    return readAppendOptions(options);
  }

  /** Checks a call before it writes; whether it is to wait for a sync. */
  #admit(asked: AskedAppend | undefined): boolean {
    if (this.#closed) throw closedError(this.directory);
    this.#writer.expect(asked?.expectedIndex);
    return asked?.durable ?? this.#parts.sync === "always";
  }

  /**
   * Waits until entry `index` is durable; with none, all written so far.
   * @throws {IndexOutOfRangeError} (rejects) above the last index
   */
  flush(index?: number): Promise<void> {
    try {
      this.#checkWritable();
      if (index !== undefined) {
        checkWhole("flush", "index", index);
        const bounds = { least: 0, most: this.#state.nextIndex - 1 };
        checkBounds(this, `flush entry ${index}`, index, bounds);
      }
      const { durableIndex, pending } = this.#rounds;
      const there = index !== undefined && index <= durableIndex;
      if (there || !pending) return Promise.resolve();
      return this.#rounds.wait(index ?? 0).then(() => undefined);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Blocks until all written so far is durable. */
  flushSync(): void {
    this.#checkWritable();
    if (this.#rounds.pending) this.#rounds.sync();
  }

  /**
   * Drops the entries above `index`. Takes effect at the call; settles when
   * no crash can undo it.
   * @throws {IndexOutOfRangeError} below `firstIndex - 1` or above `lastIndex`
   */
  truncateAfter(index: number): Promise<void> {
    return this.#start(this.#truncateAfter(index));
  }

  /** The blocking twin of `truncateAfter`. */
  truncateAfterSync(index: number): void {
    runBlocking(this.#truncateAfter(index));
  }

  *#truncateAfter(index: number): Steps<void> {
    this.#checkWritable();
    const { firstIndex, nextIndex } = this.#state;
    checkWhole("truncate", "index", index);
    const bounds = { least: firstIndex - 1, most: nextIndex - 1 };
    checkBounds(this, `truncate after ${index}`, index, bounds);
    if (index === nextIndex - 1) {
      // An earlier truncation to here may still be on its way to the disk.
      if (this.#rounds.pending) yield [this.#rounds];
      return;
    }
    const nowMs = this.#parts.port.clock.nowMs();
    const cut = cutAfter(this.#state, this.#writer, index, nowMs);
    // A later truncation may have begun the chain anew meanwhile: no manifest
    // may name a segment that is not on the disk.
    do yield [this.#rounds]; while (
      !this.#rounds.covers(this.#state.segments[0]!)
    );
    try {
      yield* this.#parts.keeper.replace(false);
      if (this.#parts.keeper.ended) return;
      this.#rounds.touchNames();
      yield [this.#rounds];
    } catch (error) {
      // No crash can undo the cut any more; only the tidying up failed.
      if (this.#rounds.failure !== undefined) throw error;
      this.#parts.logger?.warn("The manifest could not be renewed", error);
      return;
    }
    if (!this.#parts.keeper.ended) discard(this.#parts.folder, cut);
  }

  /** Ends the growing segment and begins a new one, unless it is empty. */
  rotate(): Promise<void> {
    return this.#start(this.#rotate());
  }

  /** The blocking twin of `rotate`. */
  rotateSync(): void {
    runBlocking(this.#rotate());
  }

  *#rotate(): Steps<void> {
    this.#checkWritable();
    if (this.#state.active.entryCount > 0) {
      const { segmentBytes } = this.#parts;
      this.#writer.rotate(this.#state.nextSegmentBytes(segmentBytes));
    }
    // An earlier rotation may still be on its way to the disk.
    if (this.#rounds.pending) yield [this.#rounds];
  }

  #checkWritable(): void {
    if (this.#closed) throw closedError(this.directory);
    if (this.#rounds.failure !== undefined) throw this.#rounds.failure;
  }

  /** Runs steps of which close() waits for the rest. */
  #start<T>(steps: Steps<T>): Promise<T> {
    const task = runSoon(steps)
      .finally(() => this.#tasks.delete(task));
    this.#tasks.add(task);
    return task;
  }

  #markMoved(segment: number): void {
    if (this.#closed || !this.#rounds.covers(this.#state.segments[0]!)) return;
    this.#parts.keeper.renewSoon(segment, (error) => {
      this.#parts.logger?.warn("The manifest could not be renewed", error);
    });
  }

  #failed(error: WalFailedError): void {
    this.#stopTimer?.();
    this.#parts.logger?.error("A sync failed: the log is failed", error);
  }

  /** Counts and latencies since opening. */
  override stats(): WalStats {
    const stats = super.stats();
    const { durable, durableIndex, latency, syncCount } = this.#rounds;
    return {
      ...stats,
      appendCount: this.#writer.appendCount,
      syncCount,
      bytesWritten: this.#writer.bytesWritten,
      unsyncedBytes: this.#state.bytesAfter(durable),
      unsyncedCount: this.#state.nextIndex - 1 - durableIndex,
      appendNs: this.#appendLatency.percentiles(),
      syncNs: latency.percentiles(),
    };
  }

  /**
   * Waits for the appends before it, makes all durable and frees everything,
   * also when it rejects. A second call has the first one's outcome.
   * @throws {WalFailedError} (rejects) when a sync failed, now or before
   */
  override close(): Promise<void> {
    if (this.#closing !== undefined) return this.#closing;
    const { keeper } = this.#parts;
    const running = this.#closed ? [] : [...this.#tasks, keeper.idle()];
    this.#closed = this.#writer.ended = true;
    this.#closing = Promise.allSettled(running).then(() => {
      // closeSync() may have been first, or may have overtaken us.
      if (!this.#finishing) return runSoon(this.#finish());
      if (this.#closeError !== undefined) throw this.#closeError.error;
      return undefined;
    });
    return this.#closing;
  }

  /** The blocking twin of `close`; pending appends settle by its sync. */
  override closeSync(): void {
    if (this.#closeError !== undefined) throw this.#closeError.error;
    if (this.#finishing) return;
    this.#closed = this.#writer.ended = true;
    runBlocking(this.#finish());
  }

  *#finish(): Steps<void> {
    const { folder, lock, closedEnd } = this.#parts;
    this.#finishing = true;
    this.#stopTimer?.();
    try {
      if (this.#rounds.failure !== undefined) throw this.#rounds.failure;
      if (this.#rounds.pending) yield [this.#rounds];
      const end = this.#writer.end();
      if (
        closedEnd === undefined || comparePositions(end, closedEnd) !== 0
      ) {
        this.#writer.writeWatermark();
        this.#state.active.writeBlock();
        yield [this.#rounds];
      }
      yield* this.#parts.keeper.replace(true);
      this.#rounds.touchNames();
      yield [this.#rounds];
    } catch (error) {
      this.#closeError = { error };
      throw error;
    } finally {
      this.#parts.keeper.end();
      this.#rounds.end();
      this.#state.close();
      folder.close();
      lock.release();
    }
  }
}
