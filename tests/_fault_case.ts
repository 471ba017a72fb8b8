/**
 * One log on one disk where a call fails: every step is taken by one of the
 * twins, and judged by what the log says of itself. It took effect, or it
 * changed nothing, or the log is failed.
 *
 * @module
 */

import {
  type Consumer,
  openWalSync,
  type Transaction,
  type Wal,
} from "../mod.ts";
import { StorageError, WalError } from "../src/errors.ts";
import { assert, assertEquals } from "./_assert.ts";
import {
  type Contents,
  explain,
  extend,
  findVersion,
  type Found,
  type History,
  shorten,
  type Version,
  type Written,
} from "./_crash_history.ts";
import { LOG, open, pump, readAll } from "./_crash_verdict.ts";
import type { SimulatedStorage } from "../testing/mod.ts";

/** The name of the consumer that workloads use. */
const CONSUMER = "worker";

/** How a log is used. */
export interface Mode {
  /** By the blocking twins. */
  readonly blocking: boolean;
  readonly mapped: boolean;
}

/** An entry that names its time. */
export type Timed = Written & { readonly timestampNs: bigint };

/** An entry of so many bytes. */
export function entry(bytes: number, serial: number): Timed {
  const data = new Uint8Array(bytes).fill(serial);
  return { data, term: serial % 3, timestampNs: BigInt(serial) };
}

/** Opens, at the second attempt if the first one fails. */
export async function openTwice(
  storage: SimulatedStorage,
  blocking: boolean,
): Promise<Wal> {
  const options = { storage, segmentBytes: 65536 };
  try {
    return await open(storage, options, blocking);
  } catch (error) {
    assert(error instanceof WalError, `open: ${(error as Error).stack}`);
    // It must have let go of the lock, and left what can be opened.
    return await open(storage, options, blocking);
  }
}

/** Reads all, at the second attempt if the fault hits the first one. */
export function readTwice(wal: Wal): Found {
  try {
    return readAll(wal);
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    return readAll(wal);
  }
}

/** What a case is made of. */
export interface FaultParts {
  readonly storage: SimulatedStorage;
  readonly history: History;
  readonly wal: Wal;
  readonly blocking: boolean;
  /** Whether the fault has been met: from then on every step is judged. */
  readonly isMet: () => boolean;
}

/** A log, and what is known of it. */
export class FaultCase {
  readonly storage: SimulatedStorage;
  readonly history: History;
  wal: Wal;
  readonly #blocking: boolean;
  readonly #isMet: () => boolean;
  /** Where the consumer may stand; undefined where it may not be there. */
  #standings = new Set<number | undefined>([undefined]);

  constructor(parts: FaultParts) {
    this.storage = parts.storage;
    this.history = parts.history;
    this.wal = parts.wal;
    this.#blocking = parts.blocking;
    this.#isMet = parts.isMet;
  }

  /** Appends an entry, or several as a batch. */
  async append(...entries: Timed[]): Promise<void> {
    const { wal } = this;
    const only = entries.length === 1 ? entries[0] : undefined;
    await this.#change(
      `append ${entries.map(({ data }) => data.length).join("+")}`,
      extend(this.history.current, entries),
      () => only ? wal.appendSync(only) : wal.appendBatchSync(entries),
      () => only ? wal.append(only) : wal.appendBatch(entries),
    );
  }

  /** Commits a transaction; one that could not be is tried once more. */
  async transact(...entries: Timed[]): Promise<void> {
    const { wal } = this;
    if (wal.state !== "open") return;
    const transaction = wal.beginTransaction();
    for (const one of entries) transaction.add(one);
    for (let turn = 0; turn < 2; turn++) {
      const version = await this.#change(
        `commit ${entries.length}`,
        extend(this.history.current, entries),
        () => transaction.commitSync(),
        () => transaction.commit(),
      );
      checkState(transaction, version);
      if (version.state === "written" || wal.state !== "open") return;
    }
  }

  /** Drops the entries above `last`. */
  async truncateAfter(last: number): Promise<void> {
    if (last >= this.history.current.nextIndex - 1) return;
    const { wal } = this;
    const version = await this.#change(
      `truncateAfter ${last}`,
      shorten(this.history.current, last),
      () => wal.truncateAfterSync(last),
      () => wal.truncateAfter(last),
    );
    this.#lower(version, last);
  }

  /** Drops the entries below `first`. */
  async truncateBefore(first: number): Promise<void> {
    const { current } = this.history;
    if (first <= current.firstIndex || first > current.nextIndex) return;
    const { wal } = this;
    await this.#change(
      `truncateBefore ${first}`,
      { ...current, firstIndex: first },
      () => wal.truncateBeforeSync(first),
      () => wal.truncateBefore(first),
    );
  }

  /** Drops all, and goes on at `next`. */
  async reset(next: number): Promise<void> {
    const { wal } = this;
    const version = await this.#change(
      `reset ${next}`,
      { firstIndex: next, nextIndex: next, last: undefined },
      () => wal.resetSync(next),
      () => wal.reset(next),
    );
    this.#lower(version, next - 1);
  }

  /** Calls, and keeps the history by what the log says has happened. */
  async #change(
    what: string,
    contents: Contents,
    blocking: () => unknown,
    soon: () => Promise<unknown>,
  ): Promise<Version> {
    const { history, wal } = this;
    const before = boundsOf(wal);
    const version = history.propose(what, contents);
    let failure: unknown;
    let promise: Promise<unknown> | undefined;
    try {
      if (this.#blocking) blocking();
      else promise = soon();
    } catch (error) {
      failure = error;
    }
    const grows = version.nextIndex > history.current.nextIndex;
    const after = boundsOf(wal);
    if (after === `${version.firstIndex} ${version.nextIndex}`) {
      history.accept(version);
    } else {
      assertEquals(after, before, what);
      history.refuse(version, grows);
    }
    try {
      if (promise !== undefined) await pump(this.storage, promise);
      if (failure !== undefined) throw failure;
      assertEquals(version.state, "written", `${what} succeeded`);
      history.acknowledge(version);
    } catch (error) {
      assert(error instanceof WalError, `${what}: ${(error as Error).stack}`);
      if (wal.state === "failed") history.poisoned = true;
      const third = version.state === "written" && wal.state !== "failed";
      assert(!third, `${what} took effect, failed, and the log is open`);
    }
    if (this.#isMet()) this.#checkDeath(what);
    return version;
  }

  /** A process that died now would leave just what its calls have told. */
  #checkDeath(what: string): void {
    const { history } = this;
    const wal = openWalSync(LOG, { storage: this.storage.fork() });
    const allowed = history.expected().afterDeath;
    const found = readAll(wal);
    assert(
      findVersion(allowed, found) !== undefined,
      `death after "${what}": ${explain(allowed, found)}`,
    );
    // What a failed write has left was taken back, or the log is failed.
    const { outcome } = wal.recovery;
    const sound = outcome !== "torn" || this.wal.state === "failed";
    assert(sound, `death after "${what}": a torn tail, though nothing was cut`);
  }

  /** Ends the growing segment. */
  async rotate(): Promise<void> {
    const { wal } = this;
    await this.#quiet("rotate", () => wal.rotateSync(), () => wal.rotate());
  }

  /** Makes all durable. */
  async flush(): Promise<void> {
    const { wal } = this;
    await this.#quiet("flush", () => wal.flushSync(), () => wal.flush());
  }

  /** A call that changes no entry. */
  async #quiet(
    what: string,
    blocking: () => void,
    soon: () => Promise<void>,
  ): Promise<void> {
    const { current } = this.history;
    const before = boundsOf(this.wal);
    try {
      if (this.#blocking) blocking();
      else await pump(this.storage, soon());
      this.history.acknowledge(current);
    } catch (error) {
      assert(error instanceof WalError, `${what}: ${(error as Error).stack}`);
      if (this.wal.state === "failed") this.history.poisoned = true;
    }
    assertEquals(boundsOf(this.wal), before, what);
  }

  /** Opens the consumer, moves it to `index`, and lets go of it. */
  async consume(index: number): Promise<void> {
    const { wal, storage } = this;
    let consumer: Consumer;
    try {
      const from = Math.max(1, wal.firstIndex);
      if (this.#standings.has(undefined)) this.#standings.add(from - 1);
      consumer = await pump(storage, wal.consumer(CONSUMER));
    } catch (error) {
      assert(error instanceof WalError, `consumer: ${(error as Error).stack}`);
      return;
    }
    this.#standings.delete(undefined);
    this.#checkStanding(consumer.position, "an opened consumer");
    this.#standings = new Set([consumer.position]);
    try {
      this.#standings.add(Math.max(index, consumer.position));
      await pump(storage, consumer.ack(index));
      this.#standings = new Set([Math.max(index, consumer.position)]);
      assertEquals(consumer.position >= index, true, "acknowledged");
    } catch (error) {
      assert(error instanceof WalError, `ack: ${(error as Error).stack}`);
    }
    await pump(storage, consumer[Symbol.asyncDispose]());
  }

  #checkStanding(position: number | undefined, when: string): void {
    const allowed = [...this.#standings].join(", ");
    const sound = this.#standings.has(position);
    assert(sound, `${when} stands at ${position}, allowed was ${allowed}`);
  }

  /** A cut that took effect moves the consumer back, one that may have may. */
  #lower(version: Version, last: number): void {
    if (version.state !== "written") return;
    const lowered = [...this.#standings].map((position) =>
      position === undefined ? position : Math.min(position, last)
    );
    const sure = this.wal.state === "open";
    this.#standings = new Set(
      sure ? lowered : [...this.#standings, ...lowered],
    );
  }

  /** Closes whatever happens; says whether it succeeded. */
  async close(): Promise<boolean> {
    const { current } = this.history;
    try {
      if (this.#blocking) this.wal.closeSync();
      else await pump(this.storage, this.wal.close());
      this.history.acknowledge(current);
      return true;
    } catch (error) {
      assert(error instanceof WalError, `close: ${(error as Error).stack}`);
      return false;
    }
  }

  /** Closes, opens, and goes on with what is found. */
  async reopen(): Promise<void> {
    const clean = await this.close();
    this.wal = await openTwice(this.storage, this.#blocking);
    const found = readTwice(this.wal);
    const expected = this.history.expected();
    const allowed = clean || !this.history.poisoned
      ? expected.afterDeath
      : expected.afterPowerLoss;
    const version = findVersion(allowed, found);
    assert(version !== undefined, `reopened: ${explain(allowed, found)}`);
    const again = this.history.propose("reopened", version);
    this.history.accept(again);
    this.history.acknowledge(again);
    this.history.poisoned = false;
    this.checkConsumer(this.wal, "after reopening");
    this.#standings = new Set([standingIn(this.wal)]);
  }

  /** The consumer stands where it was, in a log that was just opened. */
  checkConsumer(wal: Wal, when: string): void {
    const position = standingIn(wal);
    assert((position ?? 0) < wal.nextIndex, `${when}: beyond the log's end`);
    this.#checkStanding(position, when);
  }
}

function checkState(transaction: Transaction, version: Version): void {
  const state = version.state === "written" ? "committed" : "pending";
  assertEquals(transaction.state, state, version.what);
}

function standingIn(wal: Wal): number | undefined {
  return wal.consumers().find(({ name }) => name === CONSUMER)?.position;
}

/** Where the log begins and ends; an empty one begins where it ends. */
function boundsOf({ firstIndex, nextIndex, length }: Wal): string {
  return `${length === 0 ? nextIndex : firstIndex} ${nextIndex}`;
}
