/**
 * Where a follower stands. Cuts tell the cursors of what they took away, so
 * that nobody is given another history without a word.
 *
 * @module
 */

/** One follower's place. */
export interface Cursor {
  /** The entry that it gets next. */
  next: number;
  /** The last entry that it was given; 0 for none. */
  delivered: number;
  /** Whether an entry that it was given has been taken away. */
  lost: boolean;
}

/** The followers of one open log. */
export class Cursors {
  /** Whoever never takes a step does not end either: nobody is kept. */
  readonly #open = new Set<WeakRef<Cursor>>();
  readonly #refs = new WeakMap<Cursor, WeakRef<Cursor>>();

  /**
   * A place from which entry `next` comes next, of one who has been given
   * everything up to `delivered`.
   */
  open(next: number, delivered: number): Cursor {
    const cursor = { next, delivered, lost: false };
    const ref = new WeakRef(cursor);
    this.#open.add(ref);
    this.#refs.set(cursor, ref);
    return cursor;
  }

  /** Ends it. */
  close(cursor: Cursor): void {
    this.#open.delete(this.#refs.get(cursor)!);
  }

  /** Everything above `index` was taken away. */
  cut(index: number): void {
    for (const ref of this.#open) {
      const cursor = ref.deref();
      if (cursor === undefined) this.#open.delete(ref);
      else if (cursor.delivered > index) cursor.lost = true;
    }
  }
}
