/**
 * Where a position stands in a log: how far behind, and what cuts have left
 * of it. docs/format.md §9.
 *
 * @module
 */

import { CAUSE } from "./format.ts";
import type { LogState } from "./log_state.ts";
import type { Segment } from "./segment.ts";

/** How many of the log's entries are behind a position. */
export function lagOf(position: number, log: LogState): number {
  const from = Math.max(position, log.firstIndex - 1);
  return Math.max(0, log.nextIndex - 1 - from);
}

/** What cuts later than a position's generation have left of it. */
export function keptOf(
  position: number,
  generation: number,
  segments: readonly Segment[],
): number {
  let kept = position;
  const first = segments[0]!;
  // A cut that it has not met may be gone from the chain's front: then it
  // stood behind the cut, and what follows the front was not given to it.
  if (first.link.generation > generation) {
    kept = Math.min(kept, first.baseIndex - 1);
  }
  for (const { link } of segments) {
    const later = link.generation > generation;
    if (!later || link.cause === CAUSE.filled) continue;
    kept = Math.min(kept, link.baseIndex - 1);
  }
  return kept;
}
