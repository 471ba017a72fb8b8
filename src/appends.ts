/**
 * The calls that append: options and input are checked, the entries written,
 * and the call settles when they are as safe as asked. Single entries,
 * batches and the commits of transactions all go through here.
 *
 * @module
 */

import {
  type AppendOptions,
  type AskedAppend,
  type Bounds,
  checkBounds,
  checkIterable,
  checkWhole,
  closedError,
  readAppendOptions,
} from "./calls.ts";
import type { EntryInput } from "./entry.ts";
import type { Staged } from "./input.ts";
import type { Durability } from "./options.ts";
import { LatencyHistogram } from "./percentiles.ts";
import type { Clock } from "./storage.ts";
import type { SyncRounds } from "./sync_rounds.ts";
import type { LogWriter } from "./writer.ts";

/** One call of so many is measured: a stop watch costs more than a write. */
const SAMPLE_EVERY = 64;

/** What appending needs. */
export interface AppendParts {
  /** The log's folder, for errors. */
  readonly directory: string;
  /** Measures calls. */
  readonly clock: Clock;
  /** Writes entries. */
  readonly writer: LogWriter;
  /** Makes them durable. */
  readonly rounds: SyncRounds;
  /** When an append counts as done. */
  readonly sync: Durability;
}

/** The appending calls of one open log. */
export class Appends {
  /** How long writing took, in samples. */
  readonly latency: LatencyHistogram = new LatencyHistogram();
  readonly #parts: AppendParts;
  readonly #writer: LogWriter;
  readonly #rounds: SyncRounds;
  readonly #always: boolean;
  #calls = 0;

  /** For a log that is open. */
  constructor(parts: AppendParts) {
    this.#parts = parts;
    this.#writer = parts.writer;
    this.#rounds = parts.rounds;
    this.#always = parts.sync === "always";
  }

  /** `Wal.append`. */
  append(entry: EntryInput, options?: AppendOptions): Promise<number> {
    try {
      const asked = this.ask(options);
      const durable = this.admit(asked);
      const index = this.#write(entry, asked);
      const wait = durable || this.#rounds.crowded;
      return wait ? this.#rounds.wait(index) : Promise.resolve(index);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** `Wal.appendSync`. */
  appendSync(entry: EntryInput, options?: AppendOptions): number {
    const asked = this.ask(options);
    const durable = this.admit(asked);
    const index = this.#write(entry, asked);
    if (durable || this.#rounds.crowded) this.#rounds.sync();
    return index;
  }

  #write(entry: EntryInput, asked: AskedAppend | undefined): number {
    const writer = this.#writer;
    // The caller's getters may have used the log.
    if (writer.stage(entry)) this.admit(asked);
    if (++this.#calls % SAMPLE_EVERY !== 0) return writer.appendStaged();
    const { clock } = this.#parts;
    const startNs = clock.monotonicNs();
    const index = writer.appendStaged();
    this.latency.add(clock.monotonicNs() - startNs);
    return index;
  }

  /** `Wal.appendBatch`. */
  appendBatch(
    entries: Iterable<EntryInput>,
    options?: AppendOptions,
  ): Promise<number[]> {
    try {
      return this.settle(this.#writeAll(entries, options));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** `Wal.appendBatchSync`. */
  appendBatchSync(
    entries: Iterable<EntryInput>,
    options?: AppendOptions,
  ): number[] {
    return this.settleSync(this.#writeAll(entries, options));
  }

  #writeAll(
    entries: Iterable<EntryInput>,
    options: AppendOptions | undefined,
  ): WrittenBatch {
    const asked = this.ask(options);
    this.admit(asked);
    checkIterable(entries);
    const batch = this.#writer.stageBatch([...entries]);
    // Iterable and getters are the caller's program: they may have used the
    // log.
    const written = this.writeBatch(batch, asked, undefined);
    this.#writer.releaseBatch(batch);
    return written;
  }

  /** Admits and writes a batch; `settle` or `settleSync` must follow. */
  writeBatch(
    batch: readonly Staged[],
    asked: AskedAppend | undefined,
    transactionId: Uint8Array<ArrayBuffer> | undefined,
  ): WrittenBatch {
    const durable = this.admit(asked);
    const { length } = batch;
    if (length === 0) return { first: 0, length, durable: false };
    const first = this.#writer.appendBatch(batch, transactionId);
    return { first, length, durable: durable || this.#rounds.crowded };
  }

  /** The batch's indexes, when it is as safe as asked. */
  settle(batch: WrittenBatch): Promise<number[]> {
    const indexes = indexesOf(batch);
    if (!batch.durable) return Promise.resolve(indexes);
    return this.#rounds.wait(indexes[indexes.length - 1]!)
      .then(() => indexes);
  }

  /** The blocking twin of `settle`. */
  settleSync(batch: WrittenBatch): number[] {
    if (batch.durable) this.#rounds.sync();
    return indexesOf(batch);
  }

  /** Reads a call's options; that the log is closed is told first. */
  ask(options: AppendOptions | undefined): AskedAppend | undefined {
    this.checkOpen();
    return readAppendOptions(options);
  }

  /** Checks a call before it writes; whether it is to wait for a sync. */
  admit(asked: AskedAppend | undefined): boolean {
    this.checkOpen();
    this.#writer.expect(asked?.expectedIndex);
    return asked?.durable ?? this.#always;
  }

  /** `Wal.flush`. */
  flush(log: Bounds, index: number | undefined): Promise<void> {
    try {
      this.checkWritable();
      if (index !== undefined) {
        checkWhole("flush", "index", index);
        const bounds = { least: 0, most: log.nextIndex - 1 };
        checkBounds(log, `flush entry ${index}`, index, bounds);
      }
      const { durableIndex, pending } = this.#rounds;
      const there = index !== undefined && index <= durableIndex;
      if (there || !pending) return Promise.resolve();
      return this.#rounds.wait(index ?? 0).then(() => undefined);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Throws when the log is closed or a sync has failed. */
  checkWritable(): void {
    this.checkOpen();
    if (this.#rounds.failure !== undefined) throw this.#rounds.failure;
  }

  /** Whether the log is closed. */
  get ended(): boolean {
    return this.#writer.ended;
  }

  /** Throws `WalClosedError` once it is. */
  checkOpen(): void {
    if (this.ended) throw closedError(this.#parts.directory);
  }
}

/** A batch that is in the log. */
export interface WrittenBatch {
  /** The first entry's index. */
  readonly first: number;
  /** How many entries. */
  readonly length: number;
  /** Whether the call is to wait for a sync. */
  readonly durable: boolean;
}

/** The indexes of a batch that was written. */
export function indexesOf({ first, length }: WrittenBatch): number[] {
  // `Array.from` takes V8 40 to 90 ns for each, as much as writing its entry.
  const indexes = new Array<number>(length);
  for (let i = 0; i < length; i++) indexes[i] = first + i;
  return indexes;
}
