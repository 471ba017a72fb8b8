/**
 * What is known of one consumer on a disk that may crash at any moment: where
 * it may stand, and which entries it was given.
 *
 * @module
 */

/** A call under way, and what later calls have left of it. */
export interface Move {
  readonly order: number;
  /** The position that it stands for once it has resolved. */
  least: number;
}

/** What holds at one instant; whatever is found must keep to it. */
export interface Bounds {
  /** Whether there may be such a consumer. */
  readonly present: ReadonlySet<boolean>;
  /** No promise is lost: it stands here or above. */
  readonly floor: number;
  /** Nobody asked for more. */
  readonly most: number;
  /** The entries that it was given, by their texts. */
  readonly given: ReadonlySet<string>;
}

/** What is known of one consumer. */
export class Track {
  #present = new Set([false]);
  #floor = 0;
  #orders = 0;
  #lastSeek = 0;
  #targets: { order: number; index: number }[] = [];
  #given = new Set<string>();
  readonly #moves = new Set<Move>();

  /** Where it was found: that is durable. */
  static found(position: number, given: Iterable<string>): Track {
    const track = new Track();
    track.#present = new Set([true]);
    track.#floor = position;
    track.#targets.push({ order: 0, index: position });
    track.#given = new Set(given);
    return track;
  }

  /** It is about to be made. */
  begin(position: number, given: Iterable<string>): Move {
    this.#present = new Set([false, true]);
    this.#floor = 0;
    this.#targets = [];
    this.#given = new Set();
    return this.#move(position, given);
  }

  /** It is made. */
  begun(move: Move): void {
    this.#present = new Set([true]);
    this.done(move);
  }

  /** It is about to acknowledge all up to `index`, which it was given. */
  ack(index: number, given: Iterable<string>): Move {
    return this.#move(index, given);
  }

  /** It is about to move to `index`, be it back. */
  seek(index: number, given: Iterable<string>): Move {
    this.#floor = Math.min(this.#floor, index);
    for (const move of this.#moves) move.least = Math.min(move.least, index);
    const move = this.#move(index, given);
    this.#lastSeek = move.order;
    return move;
  }

  #move(index: number, given: Iterable<string>): Move {
    const order = ++this.#orders;
    const move = { order, least: index };
    this.#moves.add(move);
    this.#targets.push({ order, index });
    for (const text of given) this.#given.add(text);
    return move;
  }

  /** A call has resolved. */
  done(move: Move): void {
    this.#moves.delete(move);
    this.#floor = Math.max(this.#floor, move.least);
    if (move.order !== this.#lastSeek) return;
    // What was asked for before the last seek is over.
    this.#targets = this.#targets.filter(({ order }) => order >= move.order);
  }

  /** A call was rejected: it may have taken effect all the same. */
  failed(move: Move): void {
    this.#moves.delete(move);
  }

  /** All above `index` is about to be taken away. */
  lower(index: number): void {
    this.#floor = Math.min(this.#floor, index);
    for (const move of this.#moves) move.least = Math.min(move.least, index);
  }

  /** It is about to be taken away. */
  remove(): void {
    this.#present = new Set([false, true]);
  }

  /** It is gone. */
  removed(): void {
    this.#present = new Set([false]);
  }

  /** What holds now. */
  bounds(): Bounds {
    return {
      present: new Set(this.#present),
      floor: this.#floor,
      most: Math.max(0, ...this.#targets.map(({ index }) => index)),
      given: new Set(this.#given),
    };
  }
}

/** A consumer as it was found, in a log as it was found. */
export interface Standing {
  readonly position: number | undefined;
  readonly firstIndex: number;
  readonly texts: readonly string[];
  readonly nextIndex: number;
}

/** What is wrong with where a consumer stands, if anything. */
export function objection(
  { present, floor, most, given }: Bounds,
  { position, firstIndex, texts, nextIndex }: Standing,
): string | undefined {
  if (!present.has(position !== undefined)) {
    return position === undefined ? "it is gone" : "it is there";
  }
  if (position === undefined) return undefined;
  // What was removed from the front is given to nobody any more.
  if (Math.max(position, firstIndex - 1) < floor) {
    return `at ${position}, promised was ${floor}`;
  }
  if (position > most) return `at ${position}, asked was for ${most} at most`;
  if (position >= nextIndex) {
    return `at ${position}, the log ends at ${nextIndex - 1}`;
  }
  for (const [nth, text] of texts.entries()) {
    const index = firstIndex + nth;
    if (index <= position && !given.has(text)) {
      return `at ${position}, entry ${index} "${text}" was never given to it`;
    }
  }
  return undefined;
}
