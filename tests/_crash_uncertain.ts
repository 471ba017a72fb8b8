/**
 * A number that a crash may find at one of several values, because some of
 * its changes were promised to nobody yet: the first index of a log, or where
 * a consumer stands.
 *
 * @module
 */

/** A cut of the log, as the version that it made. */
export interface Cut {
  readonly number: number;
  readonly state: "pending" | "written" | "refused" | "void";
}

/** A change of the number. */
type Change<T> = (value: T) => T;

/** What became of it; `done` when no crash undoes it. */
interface Event<T> {
  readonly change: Change<T>;
  readonly cut: Cut | undefined;
  /** The change may be on the disk although the cut is not. */
  readonly ahead: boolean;
  /** The log began anew: of cuts before it the disk may have lost all. */
  readonly anew: boolean;
  done: boolean;
}

/** What a change with a cut is like. */
export type CutOptions = Pick<Event<unknown>, "ahead" | "anew">;

/** All that one number may be. */
export class Uncertain<T> {
  readonly #first: T;
  readonly #events: Event<T>[];

  /** It is this, for sure. */
  constructor(first: T, events: Event<T>[] = []) {
    this.#first = first;
    this.#events = events;
  }

  /** It is about to change; the returned function says that it has. */
  change(change: Change<T>): () => void {
    const alone = { cut: undefined, ahead: false, anew: false };
    const event = { change, ...alone, done: false };
    this.#events.push(event);
    return () => void (event.done = true);
  }

  /** It changes with a cut of the log. */
  changeWith(cut: Cut, change: Change<T>, options: CutOptions): void {
    this.#events.push({ change, cut, ...options, done: false });
  }

  /** No crash undoes the cuts up to version `number`. */
  settle(number: number): void {
    for (const event of this.#events) {
      if (event.cut !== undefined && event.cut.number <= number) {
        event.done = true;
      }
    }
  }

  /** As it is now: what is done later does not change it. */
  snapshot(): Uncertain<T> {
    const events = this.#events.map((event) => ({ ...event }));
    return new Uncertain(this.#first, events);
  }

  /** What it may be when the log is found to be version `number`. */
  allowed(number: number): Set<T> {
    let found = new Set([this.#first]);
    const isThere = (cut: Cut) => cut.number <= number && cut.state !== "void";
    const newest = this.#events.findLastIndex(({ cut, anew }) =>
      anew && cut !== undefined && isThere(cut)
    );
    for (const [nth, { change, cut, ahead, done }] of this.#events.entries()) {
      if (cut?.state === "void") continue;
      const certain = cut === undefined
        ? done
        : isThere(cut) && (done || nth >= newest);
      const possible = cut === undefined || ahead;
      const changed = [...found].map(change);
      if (certain) found = new Set(changed);
      else if (possible) found = new Set([...found, ...changed]);
    }
    return found;
  }
}
