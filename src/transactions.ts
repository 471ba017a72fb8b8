/**
 * The transactions of an open log: which are pending, how the last ones
 * ended, and which have expired.
 *
 * @module
 */

import type { Appends } from "./appends.ts";
import {
  APPEND_OPTIONS,
  type AppendOptions,
  readAppendOptions,
} from "./calls.ts";
import { checkNames, checkTimeout, isObject, show } from "./checks.ts";
import { TransactionNotFoundError, type TransactionState } from "./errors.ts";
import { TRANSACTION_ID_BYTES } from "./format.ts";
import type { StoragePort } from "./storage.ts";
import { type Transaction, transactionInternals } from "./transaction.ts";

/** The states of so many ended transactions are remembered. */
const ENDED_MAX = 1000;

/** How one transaction differs from the log's options. */
export interface TransactionOptions {
  /** How long it may stay pending, in ms; `transactionTimeoutMs`. */
  timeoutMs?: number | undefined;
}

/** The names of transaction options. */
export const TRANSACTION_OPTIONS: readonly string[] = ["timeoutMs"];

/** What the transactions of a log work with. */
export interface TransactionsParts {
  /** Its clock and its randomness. */
  readonly port: StoragePort;
  /** Writes them. */
  readonly appends: Appends;
  /** How long one may stay pending. */
  readonly timeoutMs: number;
  /** How often expired ones are looked for. */
  readonly cleanupIntervalMs: number;
  /** The most entries of one. */
  readonly entriesMax: number;
  /** The largest data of one entry. */
  readonly maxEntryBytes: number;
}

/** The transactions of one open log. */
export class Transactions {
  readonly #parts: TransactionsParts;
  readonly #pending = new Map<string, Transaction>();
  readonly #ended = new Map<string, TransactionState>();
  #stopTimer: (() => void) | undefined;

  /** For a log that is open. */
  constructor(parts: TransactionsParts) {
    this.#parts = parts;
  }

  /** Begins one; without a timeout of its own it gets the log's. */
  begin(timeoutMs: number = this.#parts.timeoutMs): Transaction {
    const { port, appends, entriesMax, maxEntryBytes } = this.#parts;
    const id = new Uint8Array(TRANSACTION_ID_BYTES);
    port.fillRandom(id);
    const transaction = transactionInternals().make({
      id,
      expiresAtMs: port.clock.nowMs() + timeoutMs,
      appends,
      entriesMax,
      maxEntryBytes,
      nowMs: () => port.clock.nowMs(),
      ended: (one) => this.#remember(one),
    });
    this.#pending.set(transaction.id, transaction);
    this.#stopTimer ??= port.clock.every(
      this.#parts.cleanupIntervalMs,
      () => void this.cleanUp(),
    );
    return transaction;
  }

  #remember(transaction: Transaction): void {
    this.#pending.delete(transaction.id);
    this.#ended.set(transaction.id, transaction.state);
    if (this.#ended.size > ENDED_MAX) {
      for (const oldest of this.#ended.keys()) {
        this.#ended.delete(oldest);
        break;
      }
    }
    if (this.#pending.size === 0) this.#stop();
  }

  /** How many are pending, expired ones included until they are cleaned up. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  /** A pending one. */
  find(id: string): Transaction {
    const transaction = this.#pending.get(id);
    if (transaction !== undefined) return transaction;
    const state = this.#ended.get(id);
    throw notFound(
      id,
      state === undefined ? "there is none" : `it is ${state}`,
    );
  }

  /** How a pending one, or one of the last ended ones, stands. */
  stateOf(id: string): TransactionState {
    const state = this.#pending.get(id)?.state ?? this.#ended.get(id);
    if (state !== undefined) return state;
    throw notFound(id, `it is none of the last ${ENDED_MAX}`);
  }

  /** Aborts those whose time is over; tells how many. */
  cleanUp(): number {
    const nowMs = this.#parts.port.clock.nowMs();
    let count = 0;
    for (const transaction of [...this.#pending.values()]) {
      if (transaction.expiresAt.getTime() > nowMs) continue;
      if (transactionInternals().abort(transaction)) count++;
    }
    return count;
  }

  /** Aborts all: the log is closing. */
  end(): void {
    for (const transaction of [...this.#pending.values()]) {
      transactionInternals().abort(transaction);
    }
    this.#stop();
  }

  #stop(): void {
    this.#stopTimer?.();
    this.#stopTimer = undefined;
  }
}

/** `Wal.transaction`: commits when `work` is done, rolls back when it throws. */
export async function runTransaction<T>(
  log: { beginTransaction(options?: TransactionOptions): Transaction },
  work: (tx: Transaction) => T | Promise<T>,
  options: (TransactionOptions & AppendOptions) | undefined,
): Promise<T> {
  const asked = splitOptions(options);
  // Checked at the call: a signal that is aborted later changes nothing.
  readAppendOptions(asked.append);
  if (typeof work !== "function") {
    throw new TypeError(
      `Cannot run transaction: work is ${show(work)}, expected a function`,
    );
  }
  const transaction = log.beginTransaction(asked.transaction);
  try {
    const result = await work(transaction);
    // Work may have ended it itself; one that expired meanwhile is refused.
    if (!transactionInternals().wasEnded(transaction)) {
      await transaction.commit({ ...asked.append, signal: undefined });
    }
    return result;
  } finally {
    transactionInternals().abort(transaction);
  }
}

interface SplitOptions {
  readonly transaction: TransactionOptions;
  readonly append: AppendOptions;
}

function splitOptions(
  options: (TransactionOptions & AppendOptions) | undefined,
): SplitOptions {
  if (options === undefined) return { transaction: {}, append: {} };
  if (!isObject(options)) {
    throw new TypeError(
      `Cannot run transaction: options is ${show(options)}, expected an object`,
    );
  }
  const known = [...TRANSACTION_OPTIONS, ...APPEND_OPTIONS];
  checkNames("transaction options", options, known);
  const { timeoutMs, ...append } = options;
  return { transaction: { timeoutMs }, append };
}

/** Reads and checks the options of one transaction. */
export function readTimeout(
  options: TransactionOptions | undefined,
): number | undefined {
  if (options === undefined) return undefined;
  if (!isObject(options)) {
    throw new TypeError(
      `Cannot begin transaction: options is ${show(options)}, expected an ` +
        `object`,
    );
  }
  checkNames("transaction options", options, TRANSACTION_OPTIONS);
  const { timeoutMs } = options;
  if (timeoutMs === undefined) return undefined;
  return checkTimeout("Cannot begin transaction", "timeoutMs", timeoutMs);
}

function notFound(id: unknown, why: string): TransactionNotFoundError {
  const transactionId = String(id);
  return new TransactionNotFoundError(
    `Cannot find transaction ${show(id)}: ${why}, expected a pending one`,
    { transactionId },
  );
}
