/**
 * Where an open log ends after a truncation, as those are told who wait for
 * entries behind it.
 *
 * @module
 */

import { IndexOutOfRangeError } from "./errors.ts";
import type { Position } from "./mark.ts";

/** Where the log ends after a cut. */
export interface Cut {
  /** The end of its last frame; nowhere when none are left. */
  readonly position: Position;
  /** Its last entry; the one before the next index when none are left. */
  readonly index: number;
  /** Its first entry; above `index` when none are left. */
  readonly firstIndex: number;
  /** Entries above this one were taken away. */
  readonly lostAbove: number;
}

/** What an append that waits for an entry is told when it is removed. */
export function removedError(
  index: number,
  log: { readonly firstIndex: number; readonly lastIndex: number },
): IndexOutOfRangeError {
  const { firstIndex, lastIndex } = log;
  return new IndexOutOfRangeError(
    `Cannot make entry ${index} durable: it was removed meanwhile from the ` +
      `front of the log`,
    { index, firstIndex, lastIndex, reason: "removed" },
  );
}

/** What an append that waits for an entry is told when it is cut away. */
export function takenAway(lost: number, cut: Cut): IndexOutOfRangeError {
  const { index, firstIndex } = cut;
  const empty = index < firstIndex;
  const left = empty ? `holds no entries` : `ends with entry ${index}`;
  return new IndexOutOfRangeError(
    `Cannot make entry ${lost} durable: it was truncated meanwhile, the log ` +
      `now ${left}`,
    {
      index: lost,
      firstIndex: empty ? 0 : firstIndex,
      lastIndex: empty ? 0 : index,
      reason: "truncated",
    },
  );
}
