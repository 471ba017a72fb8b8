/**
 * Where a segment's link is lost, nobody says where its predecessor ends: a
 * truncation may have cut entries off there whose frames still stand. This
 * takes out what may have been truncated away: it must not come back.
 *
 * @module
 */

import type { Reading } from "./damage.ts";
import { FRAME_HEADER_BYTES, HEADER_BYTES } from "./format.ts";
import type { Piece } from "./frame_walk.ts";
import { generationBefore, type Member, type Remains } from "./remains.ts";
import type { StorageDirectory } from "./storage.ts";
import { trustedNextIndex } from "./trusted_end.ts";

/** Drops from the readings what later segments cut off, or may have. */
export function dropCutOff(
  directory: StorageDirectory,
  readings: readonly Reading[],
  remains: Remains,
): void {
  for (let i = 1; i < readings.length; i++) {
    const { member } = readings[i]!;
    const baseIndex = firstIndexOf(readings[i]!);
    if (baseIndex !== undefined) dropFrom(readings, i, baseIndex);
    const before = lastReadable(readings, i);
    if (before === undefined || member.link !== undefined) continue;
    // Nothing can have been between neighbours, so nothing else cut there.
    const neighbours = before.member.number === member.number - 1;
    if (neighbours && baseIndex !== undefined) continue;
    // Generations rise along the chain: in one nothing was cut.
    const generation = generationOf(readings, i, remains);
    if (leastGeneration(readings, i) === generation) continue;
    const least = neighbours
      ? leastFirstIndex(readings[i]!, readings[i + 1]?.member)
      : 1;
    const own = firstIndexOf(before) ?? 1;
    const left = trustedNextIndex(directory, before, own);
    dropFrom(readings, i, Math.max(least, left));
  }
}

/** The last segment before the one at `end` that can be read. */
function lastReadable(
  readings: readonly Reading[],
  end: number,
): Reading | undefined {
  for (let i = end - 1; i >= 0; i--) {
    if (readings[i]!.member.readable) return readings[i];
  }
  return undefined;
}

/** A segment's first index, if its link or its first frame tells it. */
function firstIndexOf({ member, parts }: Reading): number | undefined {
  const first = parts[0];
  const told = first?.kind === "piece" && first.offset === HEADER_BYTES
    ? first.firstIndex
    : undefined;
  return member.link?.baseIndex ?? told;
}

/** The generation of a segment, told by its successor or the manifest. */
function generationOf(
  readings: readonly Reading[],
  i: number,
  { manifest }: Remains,
): number | undefined {
  const { number } = readings[i]!.member;
  const next = readings[i + 1]?.member.link;
  if (next !== undefined) return generationBefore(next);
  const named = manifest !== undefined && manifest.lastSegment === number;
  return named ? manifest.generation : undefined;
}

/** The lowest generation that the segments before the one at `end` can have. */
function leastGeneration(readings: readonly Reading[], end: number): number {
  for (let i = end - 1; i >= 0; i--) {
    const { link } = readings[i]!.member;
    if (link !== undefined) return link.generation;
  }
  return 0;
}

/** The lowest index that a segment can begin with, by the room it has. */
function leastFirstIndex(
  { member, parts }: Reading,
  next: Member | undefined,
): number {
  const room = (offset: number) =>
    Math.floor((offset - HEADER_BYTES) / FRAME_HEADER_BYTES);
  const found = parts.find((part): part is Piece => part.kind === "piece");
  const byFrame = found === undefined
    ? 1
    : found.firstIndex - room(found.offset);
  const link = next?.link;
  const byLink = link?.previousNumber === member.number
    ? link.baseIndex - room(link.previousEnd)
    : 1;
  return Math.max(byFrame, byLink);
}

/** Takes the entries from `index` on out of the readings before `end`. */
function dropFrom(
  readings: readonly Reading[],
  end: number,
  index: number,
): void {
  for (let i = end - 1; i >= 0; i--) {
    const { parts } = readings[i]!;
    const last = parts.findLastIndex((part) =>
      part.kind === "piece" && part.firstIndex < index
    );
    const piece = parts[last];
    const reached = parts.some((part) =>
      part.kind === "piece" && part.nextIndex > index
    );
    if (reached) {
      parts.length = last + 1;
      if (piece?.kind === "piece" && piece.nextIndex > index) {
        parts[last] = { ...piece, nextIndex: index };
      }
    }
    if (piece !== undefined) return;
  }
}
