/**
 * Waits for a writer in another thread or process: says so in a small file,
 * so that the writer touches its page, and has that watched. Where a reader
 * may not write or nothing can be watched, it looks again and again, less
 * and less often. docs/architecture.md, "Readers beside a writer".
 *
 * @module
 */

import { StorageError } from "./errors.ts";
import { LIVE_BYTES, LIVE_NAME, WAKE_NAME } from "./format.ts";
import type { Clock, StorageDirectory, StorageFile } from "./storage.ts";
import type { WakeSource } from "./wakeups.ts";

/** Looks at first so often … */
const POLL_LEAST_MS = 1;
/** … then half as often after each so many looks … */
const POLLS = 16;
/** … down to this. */
const POLL_MOST_MS = 16;
/** What is watched is looked at all the same: an event may be lost. */
const WATCHED_POLL_MS = 40;

/** What waiting needs. */
export interface LiveWaitParts {
  /** The log's folder. */
  readonly folder: StorageDirectory;
  /** Timers. */
  readonly clock: Clock;
  /** Whether there is something new. */
  changed(): boolean;
  /** Wakes those who wait. */
  wake(): void;
}

/** Watches one log for those who wait. */
export class LiveWait implements WakeSource {
  readonly #parts: LiveWaitParts;
  readonly #said = new Uint8Array([1, 0, 0, 0]);
  #flag: StorageFile | undefined;
  #flagTried = false;
  #unwatch: (() => void) | undefined;
  #stopTimer: (() => void) | undefined;
  #pollMs = 0;
  #polls = 0;

  /** Nobody waits yet. */
  constructor(parts: LiveWaitParts) {
    this.#parts = parts;
  }

  /** Somebody has begun to wait. */
  arm(): void {
    const { folder } = this.#parts;
    this.#unwatch ??= folder.watch(LIVE_NAME, () => this.#look());
    this.#say();
    const watched = this.#unwatch !== undefined && this.#flag !== undefined;
    this.#poll(watched ? WATCHED_POLL_MS : POLL_LEAST_MS);
    // What came before the writer could know of us is seen now.
    if (this.#parts.changed()) queueMicrotask(() => this.#parts.wake());
  }

  /** Nobody waits any more. */
  disarm(): void {
    this.#stopTimer?.();
    this.#stopTimer = undefined;
  }

  /** Tells the writer, where there is a file for it that may be written. */
  #say(): void {
    try {
      if (!this.#flagTried) this.#flag = this.#openFlag();
      this.#flagTried = true;
      this.#flag?.writeAt(this.#said, 0);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      this.#flagTried = true;
      this.#flag?.close();
      this.#flag = undefined;
    }
  }

  #openFlag(): StorageFile | undefined {
    const file = this.#parts.folder.open(WAKE_NAME, "write");
    if (file === undefined || file.bytes === LIVE_BYTES) return file;
    file.close();
    return undefined;
  }

  #poll(ms: number): void {
    this.#stopTimer?.();
    this.#pollMs = ms;
    this.#polls = 0;
    this.#stopTimer = this.#parts.clock.every(ms, () => this.#tick());
  }

  #tick(): void {
    this.#look();
    if (this.#stopTimer === undefined || this.#pollMs >= POLL_MOST_MS) return;
    if (++this.#polls >= POLLS) this.#poll(2 * this.#pollMs);
  }

  #look(): void {
    if (this.#stopTimer === undefined) return;
    if (this.#parts.changed()) this.#parts.wake();
  }

  /** The reader is closed. */
  close(): void {
    this.disarm();
    this.#unwatch?.();
    this.#unwatch = undefined;
    this.#flag?.close();
    this.#flag = undefined;
    this.#flagTried = true;
  }
}
