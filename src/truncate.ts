/**
 * Cuts the end of an open log: a new segment whose link ends the old one.
 * Nothing is rewritten in place. docs/architecture.md, "Life of a
 * truncation"; docs/format.md §8.
 *
 * @module
 */

import { StorageError } from "./errors.ts";
import {
  alignPage,
  CAUSE,
  indexBytes,
  PAGE_BYTES,
  SEGMENT_BYTES_MIN,
} from "./format.ts";
import { removeQuietly } from "./fresh_file.ts";
import type { LogState } from "./log_state.ts";
import { earlierOf, NOWHERE } from "./mark.ts";
import type { Segment } from "./segment.ts";
import type { StorageDirectory, StorageFile } from "./storage.ts";
import type { LogWriter } from "./writer.ts";

/** What a truncation leaves to be cleaned up once it is durable. */
export interface CutOff {
  /** Segments off the chain. */
  readonly gone: readonly Segment[];
  /** The range that it freed in the segment that it shortened, if any. */
  readonly freed: { name: string; from: number; to: number } | undefined;
}

/**
 * Drops the entries above `index`, which is at least `firstIndex - 1` and
 * below the last index. Takes effect before it returns.
 */
export function cutAfter(
  state: LogState,
  writer: LogWriter,
  index: number,
  nowMs: number,
): CutOff {
  const emptied = index < state.firstIndex;
  const holder = emptied ? undefined : state.holding(index);
  const end = holder === undefined ? 0 : endOfEntry(holder, index);
  const before = state.segments;
  const position = holder === undefined ? 0 : before.indexOf(holder) + 1;
  const rounds = writer.rounds;
  // The mark of the new link must not name what is being cut off.
  const cut = holder === undefined
    ? NOWHERE
    : { number: holder.number, offset: end };
  writer.begin(SEGMENT_BYTES_MIN, CAUSE.truncated, {
    segment: holder,
    end,
    lastIndex: index,
    mark: earlierOf(rounds.durable, cut),
  });
  const gone = before.slice(position, -1);
  holder?.seal(nowMs);
  if (holder !== undefined) {
    holder.end = end;
    holder.lastIndex = index;
    if (holder.file.writable) rounds.touch(holder);
  }
  state.generation++;
  rounds.clamp(cut, index, state.firstIndex);
  for (const segment of gone) rounds.forget(segment);
  state.drop(gone);
  writer.forgetTerm();
  // Fixed now: a later cut shortens it further, but is not durable with us.
  return { gone, freed: holder && freedBy(holder) };
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
  return segment.frameEnd(at, segment.offsetOf(index));
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
