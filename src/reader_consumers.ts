/**
 * Consumers of a log that somebody else writes. Each has its file and the
 * lock of it to itself; positions are synced here, entries are made durable
 * by their writer and waited for. A cut that the writer has made is applied
 * to the consumers that are open here as soon as this reader sees it.
 *
 * @module
 */

import { closedError } from "./calls.ts";
import {
  type Consumer,
  type ConsumerLog,
  type ConsumerOptions,
  openConsumer,
} from "./consumer.ts";
import { Consumers } from "./consumers.ts";
import type { PositionRounds } from "./position_file.ts";
import { type WalError, WalFailedError } from "./errors.ts";
import type { Followed } from "./follow.ts";
import { missingLog } from "./look.ts";
import type { Logger } from "./logger.ts";
import type { LogState } from "./log_state.ts";
import type { ConsumerInfo } from "./report.ts";
import { runSoon, type Steps, syncAll } from "./steps.ts";
import type {
  StorageDirectory,
  StoragePort,
  Syncable,
  SyncDone,
} from "./storage.ts";

/** What consumers of a reader need. */
export interface ReaderConsumersParts {
  /** The storage. */
  readonly storage: StoragePort;
  /** The log's folder. */
  readonly path: string;
  /** The log's id, hex. */
  readonly logId: string;
  /** What they follow. */
  readonly followed: Followed;
  /** Whether reads give views unless told otherwise. */
  readonly zeroCopy: boolean;
  /** Told of files that cannot be read. */
  readonly logger: Logger | undefined;
  /** The log's segments, as its writer shows them now. */
  state(): LogState;
}

/** Syncs positions; one sync at a time, and the next collects meanwhile. */
class PositionSyncs implements PositionRounds {
  failure: WalFailedError | undefined;
  readonly #folder: StorageDirectory;
  #waiting = new Set<Syncable>();
  #settle: SyncDone[] = [];
  #running = false;

  constructor(folder: StorageDirectory) {
    this.#folder = folder;
  }

  touchOther(file: Syncable): void {
    this.#waiting.add(file);
  }

  touchNames(): void {
    this.#waiting.add(this.#folder);
  }

  fail(cause: unknown, what = "a sync failed"): void {
    const why = cause instanceof Error ? cause.message : String(cause);
    this.failure ??= new WalFailedError(
      `Cannot move consumers: ${what} (${why}), so what is on the disk is not ` +
        `known; close the reader and open it again`,
      { cause },
    );
  }

  sync(): void {
    if (this.failure !== undefined) throw this.failure;
    const wanted = this.#waiting;
    this.#waiting = new Set();
    try {
      for (const one of wanted) one.sync();
    } catch (error) {
      this.fail(error);
      throw this.failure ?? error;
    }
  }

  syncSoon(done: SyncDone): void {
    this.#settle.push(done);
    if (!this.#running) this.#start();
  }

  /** Syncs what waits, for nobody in particular. */
  start(): void {
    if (!this.#running && this.#waiting.size > 0) this.#start();
  }

  #start(): void {
    this.#running = true;
    const settle = this.#settle;
    const wanted = [...this.#waiting];
    this.#settle = [];
    this.#waiting = new Set();
    const end = (error?: WalError) => {
      this.#running = false;
      if (error !== undefined) this.fail(error);
      for (const done of settle) done(this.failure);
      if (this.#settle.length > 0) this.#start();
    };
    if (this.failure === undefined) syncAll(wanted, end);
    else queueMicrotask(() => end());
  }
}

/** The consumers of one reader; their files are opened when first used. */
export class ReaderConsumers {
  readonly #parts: ReaderConsumersParts;
  #folder: StorageDirectory | undefined;
  #consumers: Consumers | undefined;
  #rounds: PositionSyncs | undefined;
  readonly #tasks = new Set<Promise<unknown>>();

  /** Nobody uses one yet. */
  constructor(parts: ReaderConsumersParts) {
    this.#parts = parts;
  }

  /** `WalReader.consumer`. */
  open(name: string, options?: ConsumerOptions): Promise<Consumer> {
    return this.#start(this.#open(name, options));
  }

  *#open(name: string, options?: ConsumerOptions): Steps<Consumer> {
    this.#checkOpen();
    return yield* openConsumer(this.#log(), name, options);
  }

  /** `WalReader.consumers`. */
  list(): ConsumerInfo[] {
    return this.#made().list(this.#parts.state());
  }

  /** The writer has cut the log: positions above the cut are lowered. */
  lower(state: LogState): void {
    if (this.#consumers === undefined) return;
    this.#consumers.lowerBy(state);
    this.#rounds?.start();
  }

  #made(): Consumers {
    if (this.#consumers !== undefined) return this.#consumers;
    const { storage, path, logId, logger } = this.#parts;
    const modes = { directoryMode: 0o750, fileMode: 0o640 };
    this.#folder ??= storage.openDirectory(path, { create: false, ...modes });
    const folder = this.#folder;
    if (folder === undefined) throw missingLog("read", path);
    const consumers = new Consumers({ storage, folder, logId, modes, logger });
    this.#rounds = new PositionSyncs(folder);
    consumers.rounds = this.#rounds;
    this.#consumers = consumers;
    return consumers;
  }

  #log(): ConsumerLog {
    const consumers = this.#made();
    const { followed, zeroCopy, state } = this.#parts;
    const rounds = this.#rounds!;
    return {
      bounds: followed.bounds,
      get state(): LogState {
        return state();
      },
      rounds,
      followed,
      zeroCopy,
      consumers,
      reach: (index) => this.#reach(index),
      checkOpen: () => this.#checkOpen(),
      checkWritable: () => {
        this.#checkOpen();
        if (rounds.failure !== undefined) throw rounds.failure;
      },
      start: (steps) => this.#start(steps),
    };
  }

  /** Waits for the writer: a reader makes no entry durable. */
  *#reach(index: number): Steps<void> {
    const { followed } = this.#parts;
    const { wakeups } = followed;
    const change: Syncable = {
      sync: () => this.#checkOpen(),
      syncSoon: (done) => void wakeups.wait(undefined).then(() => done()),
    };
    for (;;) {
      const { firstIndex, nextIndex, durableIndex } = followed.look();
      if (index <= Math.max(durableIndex, firstIndex - 1)) return;
      // One that a truncation takes away is no longer waited for.
      if (nextIndex <= index) return;
      yield [change];
      this.#checkOpen();
    }
  }

  #checkOpen(): void {
    if (this.#parts.followed.isClosed()) throw closedError(this.#parts.path);
  }

  #start<T>(steps: Steps<T>): Promise<T> {
    const task = runSoon(steps).finally(() => this.#tasks.delete(task));
    this.#tasks.add(task);
    return task;
  }

  /** What is under way ends; then `close` may be called. */
  async idle(): Promise<void> {
    while (this.#tasks.size > 0) await Promise.allSettled([...this.#tasks]);
  }

  /** Frees their files. */
  close(): void {
    this.#consumers?.close();
    this.#folder?.close();
    this.#consumers = this.#folder = undefined;
  }
}
