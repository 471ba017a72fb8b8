/**
 * Programmer errors: what must hold whatever the input and the disk say.
 * A failure here is a bug of this library; nobody catches it.
 *
 * @module
 */

/** Thrown when an invariant of this library is broken. */
export class AssertionError extends Error {
  /** The class's name. */
  override readonly name = "AssertionError";
}

/** Throws `AssertionError` unless `condition` holds. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(`${message} (a bug in walrus)`);
}
