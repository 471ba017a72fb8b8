/**
 * One consumer's file: writes positions over the record that no promise rests
 * on, so that a crash always leaves a sound one.
 *
 * @module
 */

import { assert } from "./assert.ts";
import {
  encodePosition,
  type PositionOwner,
  type PositionRecord,
} from "./consumer_record.ts";
import { SegmentNotFoundError, WalError } from "./errors.ts";
import { CONSUMER_RECORD_OFFSETS } from "./format.ts";
import type {
  StorageDirectory,
  StorageFile,
  StorageLock,
  Syncable,
  SyncDone,
} from "./storage.ts";

/** A call that waits for its entry; `lost` once a truncation took it away. */
export interface Watch {
  /** The entry. */
  readonly index: number;
  /** Whether it was taken away. */
  lost: boolean;
}

/** What makes positions durable. */
export interface PositionRounds extends Syncable {
  /** Why nothing can be made durable any more, if so. */
  readonly failure: Error | undefined;
  /** A file or a folder waits for the next sync. */
  touchOther(file: Syncable): void;
  /** So do the names in the log's folder. */
  touchNames(): void;
  /** Nothing can be made durable any more. */
  fail(cause: unknown, what?: string): void;
}

/** The position of one consumer, in memory and on the disk. */
export class PositionFile implements Syncable {
  /** The consumer's name. */
  readonly name: string;
  /** The last position that is durable, or that a truncation lowered it to. */
  position: number;
  /** Counts the calls of `seek`: an earlier `ack` must not undo one … */
  seekCount = 0;
  /** … and is done only when no later one is on its way. */
  seeking = 0;
  /** The position that is on the disk for sure. */
  durablePosition: number;
  /** Whether it was taken away. */
  removed = false;
  /** Nobody uses it: its file is closed once all is durable. */
  resting = true;
  /** What keeps others from it, for as long as it is used or written. */
  lock: StorageLock | undefined;
  readonly #directory: StorageDirectory;
  readonly #owner: PositionOwner;
  readonly #watches = new Set<Watch>();
  #file: StorageFile | undefined;
  #wanted: PositionRecord;
  #confirmed = 0;
  /** The record that a sync has covered, and its sequence. */
  #slot: number;
  #durable: number;
  /** The sequence of the record that the file was given last. */
  #stored: number;
  #storedPosition: number;
  #syncing = 0;
  #closeWhenIdle = false;

  /** A file as it was read, or was made. */
  constructor(
    directory: StorageDirectory,
    owner: PositionOwner,
    found: { record: PositionRecord; slot: number },
  ) {
    this.#directory = directory;
    this.#owner = owner;
    this.name = owner.name;
    this.#wanted = found.record;
    this.#slot = found.slot;
    this.#durable = this.#stored = found.record.sequence;
    this.position = this.durablePosition = found.record.position;
    this.#storedPosition = this.position;
  }

  /** The last position that was asked for, durable or not. */
  get wanted(): PositionRecord {
    return this.#wanted;
  }

  /**
   * Asks for a position; the next sync writes it. Not at once: a record that
   * a sync is covering must stay as it is until that has returned.
   */
  write(position: number, generation: number): PositionRecord {
    const sequence = this.#wanted.sequence + 1;
    this.#wanted = { sequence, position, generation };
    return this.#wanted;
  }

  /** A sync has covered this record. */
  confirm({ sequence, position }: PositionRecord): void {
    if (sequence < this.#confirmed) return;
    this.#confirmed = sequence;
    this.position = position;
  }

  /** Moves it back to `index` at once: what is above was taken away. */
  lower(index: number, generation: number): boolean {
    for (const watch of this.#watches) {
      if (watch.index > index) watch.lost = true;
    }
    if (!this.isAbove(index)) return false;
    // A seek back may be on its way: that one goes lower still.
    const lowered = Math.min(index, this.#wanted.position);
    this.confirm(this.write(lowered, generation));
    return true;
  }

  /** Whether it stands, or will stand, above an entry. */
  isAbove(index: number): boolean {
    return Math.max(this.position, this.#wanted.position) > index;
  }

  /** Opens its file, so that only the disk can refuse what follows. */
  open(): void {
    this.#open();
  }

  /** Watches whether an entry is taken away, until `unwatch`. */
  watch(index: number): Watch {
    const watch = { index, lost: false };
    this.#watches.add(watch);
    return watch;
  }

  /** Ends watching. */
  unwatch(watch: Watch): void {
    this.#watches.delete(watch);
  }

  #open(): StorageFile {
    assert(!this.removed, "a removed consumer has no position");
    this.#file ??= this.#directory.open(this.name, "write");
    if (this.#file !== undefined) return this.#file;
    const path = `${this.#directory.path}/${this.name}`;
    throw new SegmentNotFoundError(
      `Cannot move consumer "${this.name}": "${path}" is missing, expected it ` +
        `to stay where it is while the log is open`,
      { path },
    );
  }

  sync(): void {
    if (this.removed) return;
    if (this.#stored > this.#durable) {
      // A sync of it is in flight: this one covers the same record.
      this.#open().sync();
      this.#covered(this.#stored);
    }
    if (!this.#store()) return;
    this.#open().sync();
    this.#covered(this.#stored);
  }

  syncSoon(done: SyncDone): void {
    const failed = this.#tryStore();
    if (failed !== undefined || this.#file === undefined) {
      queueMicrotask(() => done(failed));
      return;
    }
    const sequence = this.#stored;
    this.#syncing++;
    this.#file.syncSoon((error) => {
      this.#syncing--;
      if (error === undefined) this.#covered(sequence);
      if (this.#closeWhenIdle && this.#syncing === 0) this.#close();
      done(error);
    });
  }

  #tryStore(): WalError | undefined {
    try {
      this.#store();
      return undefined;
    } catch (error) {
      if (error instanceof WalError) return error;
      throw error;
    }
  }

  /** Puts what is wanted over the record that no promise rests on. */
  #store(): boolean {
    if (this.removed || this.#stored === this.#wanted.sequence) return false;
    assert(this.#stored === this.#durable, "one record is always whole");
    const bytes = encodePosition(this.#wanted, this.#owner);
    const offset = CONSUMER_RECORD_OFFSETS[1 - this.#slot]!;
    this.#open().writeAt(bytes, offset);
    this.#stored = this.#wanted.sequence;
    this.#storedPosition = this.#wanted.position;
    return true;
  }

  #covered(sequence: number): void {
    if (sequence <= this.#durable) return;
    this.#durable = sequence;
    this.durablePosition = this.#storedPosition;
    this.#slot = 1 - this.#slot;
    if (this.resting) this.rest();
  }

  /** Nobody uses it any more: closes its file, now or when all is durable. */
  rest(): void {
    this.resting = true;
    if (this.#durable === this.#wanted.sequence) this.close();
  }

  /** It is gone from the folder: nothing of it is synced any more. */
  remove(): void {
    this.removed = true;
    this.resting = true;
    this.close();
  }

  /** Frees what it holds, once no sync is on it; a write opens it again. */
  close(): void {
    if (this.#syncing === 0) this.#close();
    else this.#closeWhenIdle = true;
  }

  #close(): void {
    this.#closeWhenIdle = false;
    this.#file?.close();
    this.#file = undefined;
    if (!this.resting) return;
    this.lock?.release();
    this.lock = undefined;
  }

  /** Whether all that is known of it is what the file holds. */
  get idle(): boolean {
    return this.resting && this.#syncing === 0 && this.lock === undefined &&
      this.#durable === this.#wanted.sequence;
  }
}
