/**
 * Cuts the end of an open log, or all of it: a new segment whose link ends the
 * old one, or begins the chain anew. Nothing is rewritten in place.
 * docs/architecture.md, "Life of a truncation"; docs/format.md §8.
 *
 * @module
 */

import { StorageError } from "./errors.ts";
import {
  alignFrame,
  alignPage,
  CAUSE,
  indexBytes,
  PAGE_BYTES,
  SEGMENT_BYTES_MIN,
} from "./format.ts";
import { frameLength } from "./frame.ts";
import { removeQuietly } from "./fresh_file.ts";
import type { LogState } from "./log_state.ts";
import { earlierOf, NOWHERE } from "./mark.ts";
import type { Rotation } from "./rotation.ts";
import type { Segment } from "./segment.ts";
import type { StorageDirectory, StorageFile } from "./storage.ts";

/** What a truncation leaves to be cleaned up once it is durable. */
export interface CutOff {
  /** Segments off the chain. */
  readonly gone: readonly Segment[];
  /** The range that it freed in the segment that it shortened, if any. */
  readonly freed: { name: string; from: number; to: number } | undefined;
}

/** What a cut is made with. */
export interface CutTools {
  /** The log's segments. */
  readonly state: LogState;
  /** Makes the segment behind the cut. */
  readonly rotation: Rotation;
  /** The time of sealing. */
  readonly nowMs: number;
}

/**
 * Drops the entries above `index`, which is at least `firstIndex - 1` and
 * below the last index. Takes effect before it returns.
 */
export function cutAfter(tools: CutTools, index: number): CutOff {
  const { state, rotation } = tools;
  if (index < state.firstIndex) return beginAnew(tools, index + 1, index);
  const { rounds } = rotation;
  const holder = state.holding(index);
  const end = endOfEntry(holder, index);
  const before = state.segments;
  const cut = { number: holder.number, offset: end };
  rotation.begin(SEGMENT_BYTES_MIN, CAUSE.truncated, {
    segment: holder,
    end,
    lastIndex: index,
    // The mark of the new link must not name what is being cut off.
    mark: earlierOf(rounds.durable, cut),
  });
  const gone = before.slice(before.indexOf(holder) + 1, -1);
  holder.seal(tools.nowMs);
  holder.end = end;
  holder.lastIndex = index;
  if (holder.file.writable) rounds.touch(holder);
  state.generation++;
  rounds.clamp({
    position: cut,
    index,
    firstIndex: state.firstIndex,
    lostAbove: index,
  });
  state.cursors.cut(index);
  drop(tools, gone);
  // Fixed now: a later cut shortens it further, but is not durable with us.
  return { gone, freed: freedBy(holder) };
}

/**
 * Drops all entries; the next one gets `nextIndex`. Appends that wait for an
 * entry above `lostAbove` are rejected. Takes effect before it returns.
 */
export function beginAnew(
  tools: CutTools,
  nextIndex: number,
  lostAbove: number,
): CutOff {
  const { state, rotation } = tools;
  const gone = [...state.segments];
  const index = nextIndex - 1;
  rotation.begin(SEGMENT_BYTES_MIN, CAUSE.truncated, {
    segment: undefined,
    end: 0,
    lastIndex: index,
    mark: NOWHERE,
  });
  state.generation++;
  state.beginAt(nextIndex);
  rotation.rounds.clamp({
    position: NOWHERE,
    index,
    firstIndex: nextIndex,
    lostAbove,
  });
  state.cursors.cut(lostAbove);
  drop(tools, gone);
  return { gone, freed: undefined };
}

function drop({ state, rotation }: CutTools, gone: readonly Segment[]): void {
  for (const segment of gone) rotation.rounds.forget(segment);
  state.drop(gone);
}

function freedBy(segment: Segment): CutOff["freed"] {
  const { name, end, entryCount, identity } = segment;
  const index = identity.segmentBytes - indexBytes(entryCount);
  const to = Math.floor(index / PAGE_BYTES) * PAGE_BYTES;
  return { name, from: alignPage(end), to };
}

function endOfEntry(segment: Segment, index: number): number {
  if (index === segment.lastIndex) return segment.end;
  const at = segment.locateFrame(index, false);
  const length = frameLength(segment.file.window.view, at);
  return segment.offsetOf(index) + alignFrame(length);
}

/** Removes what a durable truncation cut off; what fails is left over. */
export function discard(directory: StorageDirectory, cut: CutOff): void {
  const highestFirst = [...cut.gone].sort((a, b) => b.number - a.number);
  for (const { name } of highestFirst) {
    removeQuietly(directory, name);
  }
  if (cut.freed === undefined) return;
  const { name, from, to } = cut.freed;
  if (to <= from) return;
  let file: StorageFile | undefined;
  try {
    file = directory.open(name, "write");
    file?.punchHole(from, to - from);
  } catch (error) {
    // Space that is not given back hurts nobody.
    if (!(error instanceof StorageError)) throw error;
  } finally {
    file?.close();
  }
}
