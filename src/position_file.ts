/**
 * One consumer's file: writes positions into the record that is not the last
 * durable one, so that a crash always leaves a sound one.
 *
 * @module
 */

import { assert } from "./assert.ts";
import {
  encodePosition,
  type PositionOwner,
  type PositionRecord,
} from "./consumer_record.ts";
import { SegmentNotFoundError } from "./errors.ts";
import { CONSUMER_RECORD_OFFSETS } from "./format.ts";
import type {
  StorageDirectory,
  StorageFile,
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

/** The position of one consumer, in memory and on the disk. */
export class PositionFile implements Syncable {
  /** The consumer's name. */
  readonly name: string;
  /** The last position that is durable, or that a truncation lowered it to. */
  position: number;
  /** Counts the calls of `seek`: an earlier `ack` must not undo one. */
  seekCount = 0;
  readonly #directory: StorageDirectory;
  readonly #owner: PositionOwner;
  readonly #watches = new Set<Watch>();
  #file: StorageFile | undefined;
  #written: PositionRecord;
  #confirmed = 0;
  /** The record that a sync has covered … */
  #slot: number;
  /** … and whether the other one holds a newer one. */
  #dirty = false;
  #syncing = 0;
  #removed = false;
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
    this.#written = found.record;
    this.#slot = found.slot;
    this.position = found.record.position;
  }

  /** The last position that was written, durable or not. */
  get written(): PositionRecord {
    return this.#written;
  }

  /** Writes a position; it counts once a sync has covered it. */
  write(position: number, generation: number): PositionRecord {
    const sequence = this.#written.sequence + 1;
    const record = { sequence, position, generation };
    const slot = 1 - this.#slot;
    const bytes = encodePosition(record, this.#owner);
    this.#open().writeAt(bytes, CONSUMER_RECORD_OFFSETS[slot]!);
    this.#dirty = true;
    this.#written = record;
    return record;
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
    if (Math.max(this.position, this.#written.position) <= index) return false;
    this.confirm(this.write(index, generation));
    return true;
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
    assert(!this.#removed, "a removed consumer has no position");
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
    this.#file?.sync();
    this.#covered(this.#written.sequence);
  }

  syncSoon(done: SyncDone): void {
    if (this.#file === undefined) {
      queueMicrotask(done);
      return;
    }
    const { sequence } = this.#written;
    this.#syncing++;
    this.#file.syncSoon((error) => {
      this.#syncing--;
      if (error === undefined) this.#covered(sequence);
      if (this.#closeWhenIdle && this.#syncing === 0) this.#close();
      done(error);
    });
  }

  #covered(sequence: number): void {
    if (!this.#dirty || sequence !== this.#written.sequence) return;
    this.#slot = 1 - this.#slot;
    this.#dirty = false;
  }

  /** It is gone from the folder: nothing of it is synced any more. */
  remove(): void {
    this.#removed = true;
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
  }
}
