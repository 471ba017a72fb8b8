/**
 * What works behind an open log's public object: the parts put together, the
 * timers, what runs in the background, and the end of it all.
 *
 * @module
 */

import { Appends } from "./appends.ts";
import type { Bounds } from "./calls.ts";
import { Closing } from "./closing.ts";
import type { ConsumerLog } from "./consumer.ts";
import type { WalFailedError } from "./errors.ts";
import type { Followed } from "./follow.ts";
import { IdleMark } from "./idle_mark.ts";
import { Removal } from "./removal.ts";
import { Retention } from "./retention.ts";
import { runSoon, type Steps } from "./steps.ts";
import { Transactions } from "./transactions.ts";
import type { WalParts } from "./wal_parts.ts";

/** What errors and followers ask of the public object. */
export type LogFace = Bounds & { readonly durableIndex: number };

/** The workings of one open log. */
export class Workings {
  /** Appends. */
  readonly appends: Appends;
  /** Stages and commits. */
  readonly transactions: Transactions;
  /** Takes away. */
  readonly removal: Removal;
  /** What consumers work with. */
  readonly consumerLog: ConsumerLog;
  readonly #parts: WalParts;
  readonly #idle: IdleMark;
  readonly #retention: Retention | undefined;
  readonly #closing: Closing;
  readonly #tasks = new Set<Promise<unknown>>();
  #stopTimer: (() => void) | undefined;

  /** Puts them together and starts the timers. */
  constructor(parts: WalParts, face: LogFace) {
    this.#parts = parts;
    const { port, rounds } = parts;
    const { clock } = port;
    const appends = new Appends({ ...parts, clock });
    this.appends = appends;
    const { limits } = parts;
    this.transactions = new Transactions({ ...limits, appends, port });
    this.removal = new Removal({ ...parts, clock });
    this.#idle = new IdleMark({ ...parts, clock });
    this.#closing = new Closing(parts);
    this.consumerLog = {
      ...parts,
      bounds: face,
      followed: this.#followed(face),
      reach: (index) => this.#reach(index),
      checkOpen: () => appends.checkOpen(),
      checkWritable: () => appends.checkWritable(),
      start: (steps) => this.start(steps),
    };
    this.#retention = this.#retain(face);
    if (parts.sync !== "interval") return;
    this.#stopTimer = clock.every(
      parts.syncIntervalMs,
      () => rounds.startIfDirty(),
    );
  }

  #followed(face: LogFace): Followed {
    const { state, rounds, wakeups, writer, entries } = this.#parts;
    return {
      bounds: face,
      look: () => {
        const { firstIndex, nextIndex } = state;
        return { firstIndex, nextIndex, durableIndex: rounds.durableIndex };
      },
      cursors: state.cursors,
      wakeups,
      isClosed: () => writer.ended,
      read: (index, zeroCopy, run) => entries.read(index, zeroCopy, run),
    };
  }

  *#reach(index: number): Steps<void> {
    const { rounds, state } = this.#parts;
    // A log that begins anew is not there before its first segment is.
    const covered = rounds.covers(state.segments[0]!);
    if (index > rounds.durableIndex || !covered) yield [rounds];
  }

  #retain(face: LogFace): Retention | undefined {
    const { retention: rules, port, rotation } = this.#parts;
    if (rules === undefined) return undefined;
    const { clock } = port;
    const remove = (index: number) =>
      this.start(this.removal.truncateBefore(face, index));
    const retention = new Retention({ ...this.#parts, clock, rules, remove });
    rotation.onRotated = () => retention.soon();
    return retention;
  }

  /** Runs steps of which close() waits for the rest. */
  start<T>(steps: Steps<T>): Promise<T> {
    const task = runSoon(steps)
      .finally(() => this.#tasks.delete(task));
    this.#tasks.add(task);
    return task;
  }

  /** The durable mark is in this segment now. */
  markMoved(segment: number): void {
    const { writer, rounds, state, keeper, logger } = this.#parts;
    if (writer.ended) return;
    this.#idle.arm();
    if (!rounds.covers(state.segments[0]!)) return;
    keeper.renewSoon(segment, (error) => {
      logger?.warn("The manifest could not be renewed", error);
    });
  }

  /** A sync has failed. */
  failed(error: WalFailedError): void {
    this.#stopTimer?.();
    this.#retention?.end();
    this.#parts.logger?.error("A sync failed: the log is failed", error);
  }

  /** `Wal.close`. */
  close(): Promise<void> {
    const { keeper, writer } = this.#parts;
    const running = writer.ended ? [] : [...this.#tasks, keeper.idle()];
    this.#end();
    return this.#closing.soon(running);
  }

  /** `Wal.closeSync`. */
  closeSync(): void {
    this.#end();
    this.#closing.now();
  }

  /** From now on every call is refused. */
  #end(): void {
    const { writer, wakeups } = this.#parts;
    if (writer.ended) return;
    writer.ended = true;
    this.#stopTimer?.();
    this.#idle.end();
    this.#retention?.end();
    this.transactions.end();
    wakeups.wake();
  }
}
