/**
 * The iterator that `entries()` gives: a generator object written by hand,
 * whose steps cost less than a generator's (docs/performance.md).
 *
 * @module
 */

import type { Entry } from "./entry.ts";
import { FrameRun } from "./frame_run.ts";
import type { AskedRange } from "./read_options.ts";

/** What an iterator asks of its log. */
export interface Iterated {
  /** Its first entry, and the one behind its last. */
  look(): { readonly firstIndex: number; readonly nextIndex: number };
  /** Entry `index`, with a run that may have it ready. */
  get(index: number, zeroCopy: boolean, run: FrameRun | undefined): Entry;
  /** Why it cannot be read on, if that is so. */
  stuck(): Error | undefined;
}

/** Iterates over entries. */
export class EntryIterator extends Iterator<Entry, void, undefined>
  implements Generator<Entry, void, undefined> {
  readonly #log: Iterated;
  readonly #range: AskedRange;
  #run: FrameRun | undefined;
  #begun = false;
  #ended = false;
  #running = false;
  #next = 0;
  #left = 0;
  /** Whether what is missing behind the last one would be asked for. */
  #endless = false;

  /** Which entry is the last one is decided at the first step. */
  constructor(log: Iterated, range: AskedRange) {
    super();
    this.#log = log;
    this.#range = range;
  }

  /** Itself, as every iterator. */
  override [Symbol.iterator](): this {
    return this;
  }

  /** The next entry. */
  override next(): IteratorResult<Entry, void> {
    this.#checkIdle();
    if (this.#ended) return { done: true, value: undefined };
    // What throws has ended, as a generator that throws.
    this.#ended = true;
    this.#running = true;
    try {
      if (!this.#begun) this.#begin();
      const value = this.#step();
      if (value === undefined) return { done: true, value: undefined };
      this.#ended = false;
      return { done: false, value };
    } finally {
      this.#running = false;
    }
  }

  #step(): Entry | undefined {
    if (this.#left <= 0) {
      // There may be more that was shown and cannot be read.
      const stuck = this.#endless ? this.#log.stuck() : undefined;
      if (stuck !== undefined) throw stuck;
      return undefined;
    }
    const index = this.#next;
    this.#next = index + (this.#range.reverse ? -1 : 1);
    this.#left--;
    return this.#log.get(index, this.#range.zeroCopy, this.#run);
  }

  /** A decoder is the caller's program, and may hold this iterator. */
  #checkIdle(): void {
    if (!this.#running) return;
    throw new TypeError(
      "Cannot iterate: this iterator is reading an entry, expected no call " +
        "of it from the decoder",
    );
  }

  #begin(): void {
    this.#begun = true;
    const { reverse, limit, from, to } = this.#range;
    const { firstIndex, nextIndex } = this.#log.look();
    const first = Math.max(from, firstIndex);
    const last = Math.min(to, nextIndex - 1);
    this.#left = Math.min(limit, last - first + 1);
    this.#next = reverse ? last : first;
    this.#endless = !reverse && to >= nextIndex && this.#left < limit;
    if (!reverse) this.#run = new FrameRun(first + this.#left - 1);
  }

  /** Ends it. */
  override return(value: void): IteratorResult<Entry, void> {
    this.#checkIdle();
    this.#ended = true;
    return { done: true, value };
  }

  /** Ends it, and throws. */
  override throw(error: unknown): IteratorResult<Entry, void> {
    this.#checkIdle();
    this.#ended = true;
    throw error;
  }
}
