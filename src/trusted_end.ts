/**
 * How much of a segment surely is of the log when the link that said where it
 * ends is lost, and a cut may have ended it anywhere. A cut leaves one trace:
 * it gives the pages behind it back where it can, and they read as zero.
 *
 * @module
 */

import type { Reading } from "./damage.ts";
import { alignPage, FOOTER_BYTES, HEADER_BYTES, PAGE_BYTES } from "./format.ts";
import type { Piece } from "./frame_walk.ts";
import { FrameScanner, searchFrames } from "./scan.ts";
import { decodeFooter, type Footer } from "./segment_index.ts";
import type { Member } from "./remains.ts";
import type { StorageDirectory, StorageFile } from "./storage.ts";

/** The footer of a segment, if it is sound. */
export function readFooter(
  directory: StorageDirectory,
  { name, identity, readable }: Member,
): Footer | undefined {
  const file = readable ? directory.open(name, "read") : undefined;
  if (file === undefined) return undefined;
  try {
    const bytes = new Uint8Array(FOOTER_BYTES);
    const at = file.bytes - FOOTER_BYTES;
    if (at < HEADER_BYTES) return undefined;
    file.readAt(bytes, at);
    return decodeFooter(bytes, identity.salt);
  } finally {
    file.close();
  }
}

/**
 * The index up to which the entries of a segment surely are of the log;
 * `baseIndex`, its first one, when nothing tells.
 */
export function trustedNextIndex(
  directory: StorageDirectory,
  reading: Reading,
  baseIndex: number,
): number {
  const { member } = reading;
  const footer = readFooter(directory, member);
  if (footer === undefined) return baseIndex;
  const file = directory.open(member.name, "read");
  if (file === undefined) return baseIndex;
  try {
    const end = endOfGiven(file, reading, footer);
    return end === undefined ? baseIndex : nextIndexAt(file, reading, end);
  } finally {
    file.close();
  }
}

/** A place that the cut surely lies behind, if pages were given back. */
function endOfGiven(
  file: StorageFile,
  { member, parts }: Reading,
  footer: Footer,
): number | undefined {
  const last = parts.at(-1);
  if (last?.kind !== "hole" || !last.last) return undefined;
  const { dirtyEnd } = searchFrames(file, member.identity, {
    from: last.offset,
    to: Math.max(last.offset, footer.end),
    indexMin: 1,
    indexMax: 0,
  });
  const zerosFrom = alignPage(dirtyEnd);
  // At least one page that once held frames must read as zero.
  if (zerosFrom + PAGE_BYTES > footer.end) return undefined;
  return zerosFrom - PAGE_BYTES;
}

/** The index after the last whole batch that ends at or before `end`. */
function nextIndexAt(
  file: StorageFile,
  { member, parts, bounds }: Reading,
  end: number,
): number {
  const pieces = parts.filter((part): part is Piece => part.kind === "piece");
  const piece = pieces.findLast((one) => one.offset < end);
  if (piece === undefined) return bounds?.firstIndex ?? 1;
  const { offset, firstIndex } = piece;
  const start = { offset, nextIndex: firstIndex };
  const scanner = new FrameScanner(file, member.identity, start, end);
  while (scanner.next());
  return Math.min(scanner.completeNextIndex, piece.nextIndex);
}
