/**
 * Finds entries by time or term through the indexes: a segment whose maximum
 * is too low is left out, and in the first one that is not, blocks are halved
 * until 64 entries are left. Times and terms may fall, so that maxima run.
 *
 * @module
 */

import { show } from "./checks.ts";
import { frameTerm } from "./frame.ts";
import type { LogState } from "./log_state.ts";
import { BLOCK_ENTRIES } from "./format.ts";
import type { Segment } from "./segment.ts";
import type { Maxima } from "./segment_index.ts";

const TIME_MIN = -(2n ** 63n);
const TIME_MAX = 2n ** 63n - 1n;

/** Whether a time or a term is high enough. */
export type Target = (found: Maxima) => boolean;

/** Entries at or after a time. */
export function timeTarget(time: unknown): Target {
  const least = nanosecondsOf(time);
  if (least > TIME_MAX) return () => false;
  if (least < TIME_MIN) return () => true;
  const high = Number(BigInt.asIntN(32, least >> 32n));
  const low = Number(BigInt.asUintN(32, least));
  return ({ time: { low: foundLow, high: foundHigh } }) =>
    (foundHigh | 0) > high ||
    ((foundHigh | 0) === high && (foundLow >>> 0) >= low);
}

function nanosecondsOf(time: unknown): bigint {
  if (typeof time === "bigint") return time;
  const expected = "expected a Date or nanoseconds since 1970 as a bigint";
  if (!(time instanceof Date)) {
    throw new TypeError(
      `Cannot find by time: time is ${show(time)}, ${expected}`,
    );
  }
  const ms = Date.prototype.getTime.call(time);
  if (!Number.isNaN(ms)) return BigInt(ms) * 1_000_000n;
  throw new RangeError(
    `Cannot find by time: time is an invalid Date, ${expected}`,
  );
}

/** Entries of a term or a later one. */
export function termTarget(term: number): Target {
  return (found) => found.term >= term;
}

/** The maxima of whole sealed segments: each is read once. */
const known = new WeakMap<Segment, { lastIndex: number; maxima: Maxima }>();

/** The first entry that reaches the target. */
export function findFirst(
  state: LogState,
  reaches: Target,
): number | undefined {
  for (const segment of [...state.segments]) {
    const first = Math.max(segment.baseIndex, state.firstIndex);
    if (first > segment.lastIndex) continue;
    const maxima = wholeMaxima(state, segment);
    if (maxima !== undefined && !reaches(maxima)) continue;
    const index = findIn(state, segment, first, reaches);
    if (index !== undefined) return index;
  }
  return undefined;
}

function wholeMaxima(state: LogState, segment: Segment): Maxima | undefined {
  const { lastIndex } = segment;
  const before = known.get(segment);
  if (before?.lastIndex === lastIndex && segment.sealed) return before.maxima;
  state.holding(lastIndex);
  const maxima = segment.maximaThrough(blockOf(segment, lastIndex));
  if (maxima !== undefined) known.set(segment, { lastIndex, maxima });
  return maxima;
}

function blockOf(segment: Segment, index: number): number {
  return Math.floor((index - segment.baseIndex) / BLOCK_ENTRIES);
}

/**
 * The first block that reaches it holds the entry, unless that is hidden or
 * was cut off: then those behind it are asked one by one.
 */
function findIn(
  state: LogState,
  segment: Segment,
  first: number,
  reaches: Target,
): number | undefined {
  state.holding(first);
  let low = blockOf(segment, first);
  let high = blockOf(segment, segment.lastIndex);
  while (low < high) {
    const middle = (low + high) >>> 1;
    const maxima = segment.maximaThrough(middle);
    if (maxima === undefined || reaches(maxima)) high = middle;
    else low = middle + 1;
  }
  const from = Math.max(first, segment.baseIndex + low * BLOCK_ENTRIES);
  for (let index = from; index <= segment.lastIndex; index++) {
    const at = segment.locateFrame(index, true);
    const { view } = segment.file.window;
    const time = {
      low: view.getUint32(at + 32, true),
      high: view.getInt32(at + 36, true),
    };
    if (reaches({ time, term: frameTerm(view, at) })) return index;
  }
  return undefined;
}
