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
  done: boolean;
}

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
    const event = { change, cut: undefined, ahead: false, done: false };
    this.#events.push(event);
    return () => void (event.done = true);
  }

  /** It changes with a cut of the log, or also `ahead` of it. */
  changeWith(cut: Cut, change: Change<T>, ahead: boolean): void {
    this.#events.push({ change, cut, ahead, done: false });
  }

  /** As it is now: what is done later does not change it. */
  snapshot(): Uncertain<T> {
    const events = this.#events.map((event) => ({ ...event }));
    return new Uncertain(this.#first, events);
  }

  /** What it may be when the log is found to be version `number`. */
  allowed(number: number): Set<T> {
    let found = new Set([this.#first]);
    for (const { change, cut, ahead, done } of this.#events) {
      if (cut?.state === "void") continue;
      const certain = cut === undefined ? done : cut.number <= number;
      const possible = cut === undefined || ahead;
      const changed = [...found].map(change);
      if (certain) found = new Set(changed);
      else if (possible) found = new Set([...found, ...changed]);
    }
    return found;
  }
}
