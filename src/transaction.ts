/**
 * A transaction: entries staged in memory, written as one batch when it is
 * committed. docs/architecture.md, "Transactions".
 *
 * @module
 */

import { type Appends, indexesOf, type WrittenBatch } from "./appends.ts";
import type { AppendOptions } from "./calls.ts";
import { type EntryInput, showTransactionId } from "./entry.ts";
import {
  InvalidEntryError,
  TransactionExpiredError,
  TransactionNotPendingError,
  type TransactionState,
  TransactionTooLargeError,
} from "./errors.ts";
import { Staged, stageEntry } from "./input.ts";

/** What a transaction works with. */
export interface TransactionParts {
  /** The 16 bytes of its id. */
  readonly id: Uint8Array<ArrayBuffer>;
  /** When it expires, in milliseconds since 1970. */
  readonly expiresAtMs: number;
  /** Writes it. */
  readonly appends: Appends;
  /** The most entries. */
  readonly entriesMax: number;
  /** The largest data of one entry. */
  readonly maxEntryBytes: number;
  /** The time now. */
  readonly nowMs: () => number;
  /** Told once, when it has ended. */
  readonly ended: (transaction: Transaction) => void;
}

/** What only this library does with a transaction. */
export interface TransactionInternals {
  /** Makes one. */
  make(parts: TransactionParts): Transaction;
  /** Ends a pending one; false, and nothing happens, for others. */
  abort(transaction: Transaction): boolean;
  /**
   * Whether it was committed or rolled back, and did not just expire; throws
   * when the log was closed.
   */
  wasEnded(transaction: Transaction): boolean;
}

let internals: TransactionInternals;

/** The doors that the public class does not show. */
export function transactionInternals(): TransactionInternals {
  return internals;
}

/**
 * Entries that come into the log together or not at all, also across a crash.
 * Made by `Wal.beginTransaction`.
 *
 * @example Add, then commit
 * ```ts
 * import { memoryStorage, openWal } from "@walrus/wal";
 *
 * await using wal = await openWal("log", { storage: memoryStorage() });
 * using tx = wal.beginTransaction();
 * tx.add("debit alice 10");
 * tx.add("credit bob 10");
 * console.log(await tx.commit()); // [ 1, 2 ]
 * ```
 */
export class Transaction {
  static {
    internals = {
      make: (parts) => new Transaction(parts),
      abort: (transaction) => transaction.#end("aborted"),
      wasEnded: (transaction) => {
        transaction.#parts.appends.checkOpen();
        return transaction.#state !== "pending" && !transaction.#expired;
      },
    };
  }

  /** "tx_" and 32 hex digits; its entries carry it. */
  readonly id: string;
  readonly #parts: TransactionParts;
  #entries: Staged[] = [];
  #size = 0;
  #state: TransactionState = "pending";
  #expired = false;
  #writing = false;
  #written: WrittenBatch | undefined;

  private constructor(parts: TransactionParts) {
    this.#parts = parts;
    this.id = showTransactionId(parts.id);
  }

  /** Whether it can still be committed; "aborted" once it has expired. */
  get state(): TransactionState {
    return this.#state === "pending" && this.#late ? "aborted" : this.#state;
  }

  /** How many entries were added. */
  get size(): number {
    return this.#size;
  }

  /** From then on it can not be committed any more. */
  get expiresAt(): Date {
    return new Date(this.#parts.expiresAtMs);
  }

  /** Its entries' indexes once it is committed. */
  get indexes(): readonly number[] | undefined {
    return this.#written && indexesOf(this.#written);
  }

  /**
   * Adds an entry. Its data is copied; without a time it gets that of the
   * commit.
   * @throws {TransactionExpiredError} when its time is over
   * @throws {TransactionNotPendingError} when it has ended
   * @throws {TransactionTooLargeError} above `maxTransactionEntries`
   * @throws {EmptyDataError} when there is no data
   * @throws {InvalidEntryError} when the data is above `maxEntryBytes`
   */
  add(entry: EntryInput): void {
    const { appends, maxEntryBytes } = this.#parts;
    appends.checkOpen();
    this.#checkPending("add to");
    this.#checkUnused("add to");
    this.#checkSize();
    const staged = new Staged();
    stageEntry(entry, maxEntryBytes, staged);
    // The caller's getters have run: they may have ended it, or filled it.
    appends.checkOpen();
    this.#checkPending("add to");
    this.#checkSize();
    staged.data = staged.payload = new Uint8Array(staged.data);
    staged.payloadBytes = staged.data.length;
    this.#entries.push(staged);
    this.#size++;
  }

  /**
   * Writes its entries as one batch. It is committed when they are in the
   * log; a failure before that leaves it pending, to be tried again.
   * @throws {TransactionExpiredError} (rejects) when its time is over
   * @throws {TransactionNotPendingError} (rejects) when it has ended
   * @throws {IndexConflictError} (rejects) when `expectedIndex` is not next
   * @throws {SegmentFullError} (rejects) when it is larger than a segment
   * @throws {StorageError} (rejects) when the disk is full
   * @throws {WalFailedError} (rejects) when a sync failed; then it is
   * committed, and whether a power cut takes it away is not known
   */
  commit(options?: AppendOptions): Promise<number[]> {
    try {
      return this.#parts.appends.settle(this.#write(options));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The blocking twin of `commit`. */
  commitSync(options?: AppendOptions): number[] {
    return this.#parts.appends.settleSync(this.#write(options));
  }

  #write(options: AppendOptions | undefined): WrittenBatch {
    const { appends, id } = this.#parts;
    const asked = appends.ask(options);
    // Getters of the options are the caller's program.
    appends.checkOpen();
    this.#checkPending("commit");
    this.#checkUnused("commit");
    // Copies: what a failed try fills in must not show in the next one.
    const batch = this.#entries
      .map((staged) => Object.assign(new Staged(), staged));
    this.#writing = true;
    try {
      this.#written = appends.writeBatch(batch, asked, id);
    } finally {
      this.#writing = false;
      if (this.#written !== undefined) this.#end("committed");
      else if (appends.ended) this.#end("aborted");
    }
    return this.#written;
  }

  /**
   * Gives up its entries.
   * @throws {TransactionNotPendingError} when it has ended
   */
  rollback(): void {
    this.#parts.appends.checkOpen();
    if (this.#state !== "pending") throw this.#notPending("roll back");
    this.#checkUnused("roll back");
    this.#end("aborted");
  }

  /** Rolls it back if it is pending. */
  [Symbol.dispose](): void {
    if (this.#state === "pending") this.#end("aborted");
  }

  get #late(): boolean {
    return this.#parts.nowMs() >= this.#parts.expiresAtMs;
  }

  #checkPending(what: string): void {
    if (this.#state === "pending" && this.#late) this.#end("aborted");
    if (this.#state === "pending") return;
    if (!this.#expired) throw this.#notPending(what);
    throw new TransactionExpiredError(
      `Cannot ${what} transaction ${this.id}: it expired at ` +
        `${this.expiresAt.toISOString()}; begin a new one, or ask for a ` +
        `longer timeoutMs`,
      { transactionId: this.id, expiredAt: this.expiresAt },
    );
  }

  /** The encoder is the caller's program: it must leave this one alone. */
  #checkUnused(what: string): void {
    if (!this.#writing) return;
    throw new InvalidEntryError(
      `Cannot ${what} transaction ${this.id}: it is being committed, expected ` +
        `its encoder to leave it alone`,
    );
  }

  #notPending(what: string): TransactionNotPendingError {
    const state = this.#state;
    return new TransactionNotPendingError(
      `Cannot ${what} transaction ${this.id}: it is ${state}, expected a ` +
        `pending one`,
      { transactionId: this.id, state },
    );
  }

  #checkSize(): void {
    const { entriesMax } = this.#parts;
    if (this.#size < entriesMax) return;
    throw new TransactionTooLargeError(
      `Cannot add to transaction ${this.id}: it has ${this.#size} entries, ` +
        `maxTransactionEntries is ${entriesMax}`,
      { transactionId: this.id, entriesMax },
    );
  }

  #end(state: TransactionState): boolean {
    if (this.#state !== "pending" || this.#writing) return false;
    this.#expired = state === "aborted" && this.#late;
    this.#state = state;
    this.#entries = [];
    this.#parts.ended(this);
    return true;
  }
}
