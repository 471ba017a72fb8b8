/**
 * A position in the log: a segment's number and an offset in its file. The
 * durable mark is such a position. Segment numbers rise along the chain, so
 * positions are ordered.
 *
 * @module
 */

/** A place between two frames. */
export interface Position {
  /** The segment's number. */
  readonly number: number;
  /** The offset in its file, in bytes. */
  readonly offset: number;
}

/** Before every place of every log. */
export const NOWHERE: Position = { number: 0, offset: 0 };

/** Negative, zero or positive as `a` is before, at or after `b`. */
export function comparePositions(a: Position, b: Position): number {
  return a.number - b.number || a.offset - b.offset;
}

/** The later one. */
export function laterOf(a: Position, b: Position): Position {
  return comparePositions(a, b) >= 0 ? a : b;
}

/** The earlier one. */
export function earlierOf(a: Position, b: Position): Position {
  return comparePositions(a, b) <= 0 ? a : b;
}
