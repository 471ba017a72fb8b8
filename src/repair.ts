/**
 * Carries a verdict out: makes what survived durable, cuts what was torn and
 * keeps it aside. Every step leaves a log for which the same verdict holds, so
 * a crash anywhere in here is recovered again to the same log.
 * docs/format.md §7, steps 10 to 16.
 *
 * @module
 */

import { assert } from "./assert.ts";
import type { Chain } from "./chain.ts";
import { CutFolder, type CutParts } from "./cut_folder.ts";
import { StorageError, WalCorruptedError } from "./errors.ts";
import {
  alignPage,
  BLOCK_BYTES,
  BLOCK_ENTRIES,
  blockOffset,
  CAUSE,
  FOOTER_BYTES,
  HEADER_BYTES,
  indexBytes,
  PAGE_BYTES,
  SEGMENT_BYTES_MIN,
} from "./format.ts";
import { encodeHeader } from "./header.ts";
import { checkFooter } from "./index_check.ts";
import {
  joinBlocks,
  rebuildIndex,
  type RebuiltIndex,
} from "./index_rebuild.ts";
import { makeSegment } from "./make_segment.ts";
import type { Position } from "./mark.ts";
import type { Verdict } from "./recovery.ts";
import { Segment } from "./segment.ts";
import { IndexBuilder, isBlockValid } from "./segment_index.ts";
import type { Steps } from "./steps.ts";
import type { StorageDirectory, StorageFile } from "./storage.ts";

/** What a repair made. */
export interface Repaired {
  /** The segments; the last one is open for writing. */
  readonly segments: Segment[];
  /** How often the log's end was cut back. */
  readonly generation: number;
  /** The number of the next segment. */
  readonly nextSegment: number;
  /** Where what was cut is kept. */
  readonly savedPath: string | undefined;
  /** All up to here is on the disk. */
  readonly durable: Position;
}

/** The segments as the verdict ends them, not open yet. */
export function chainSegments(
  directory: StorageDirectory,
  chain: Chain,
  verdict: Verdict,
): Segment[] {
  const kept = chain.segments.slice(0, verdict.endSegment + 1);
  return kept.map((member, i) => {
    const next = kept[i + 1]?.link;
    const end = next?.previousEnd ?? verdict.end.offset;
    const last = next?.previousLastIndex ?? verdict.nextIndex - 1;
    return new Segment(directory, member, end, last);
  });
}

/** Makes the log ready for writing, as the verdict says. */
export function* repair(parts: CutParts): Steps<Repaired> {
  const { directory, chain, verdict } = parts;
  const segments = chainSegments(directory, chain, verdict);
  const { generation } = segments.at(-1)!.link;
  const { nextSegment } = chain;
  const saved = new CutFolder(parts);
  if (verdict.outcome === "torn") saved.copyTorn();
  const index = verdict.closed ? undefined : yield* rewrite(parts, segments);
  let repaired: Repaired = {
    segments,
    generation,
    nextSegment,
    savedPath: saved.path,
    durable: verdict.end,
  };
  const cutHere = verdict.outcome === "torn" &&
    (verdict.tornEnd > verdict.end.offset ||
      verdict.endSegment < chain.segments.length - 1);
  if (cutHere) repaired = yield* cut(parts, repaired);
  else grow(directory, segments.at(-1)!, index);
  // Nothing can refuse the log any more: a refusal changes nothing.
  try {
    saved.removeTemporary();
    yield* saved.moveAway();
  } catch (error) {
    for (const segment of repaired.segments) segment.file.close();
    throw error;
  }
  return { ...repaired, savedPath: saved.path };
}

/** Opens the last segment for writing, with the index of its entries. */
function grow(
  directory: StorageDirectory,
  segment: Segment,
  index: IndexBuilder | undefined,
): void {
  const file = openForWriting(directory, segment.name);
  try {
    const builder = index ?? resumeIndex(file, segment) ??
      remakeIndex(file, segment).builder;
    segment.file.attach(file);
    segment.grow(builder);
  } catch (error) {
    if (segment.file.writable) segment.file.close();
    else file.close();
    throw error;
  }
}

/** The index as close() left it in the file, if it is sound. */
function resumeIndex(
  file: StorageFile,
  segment: Segment,
): IndexBuilder | undefined {
  const { entryCount, identity } = segment;
  const builder = new IndexBuilder();
  if (entryCount === 0) return builder;
  const ordinal = Math.ceil(entryCount / BLOCK_ENTRIES) - 1;
  const at = blockOffset(file.bytes, ordinal);
  const block = new Uint8Array(BLOCK_BYTES);
  if (at < HEADER_BYTES || file.readAt(block, at) < BLOCK_BYTES) {
    return undefined;
  }
  const count = entryCount - ordinal * BLOCK_ENTRIES;
  if (!isBlockValid(block, identity.salt, at, count)) return undefined;
  builder.resume(entryCount, block);
  return builder;
}

/** The index made again from the frames, which must all be there. */
function remakeIndex(file: StorageFile, segment: Segment): RebuiltIndex {
  const { identity, baseIndex, end, entryCount, path } = segment;
  const rebuilt = rebuildIndex(file, identity, baseIndex, end);
  const { builder } = rebuilt;
  if (builder.entryCount === entryCount) return rebuilt;
  const firstLostIndex = baseIndex + builder.entryCount;
  const lastLostIndex = segment.lastIndex;
  throw new WalCorruptedError(
    `Cannot open log: "${path}" is damaged: its index and its frames from ` +
      `entry ${firstLostIndex} on cannot be read, expected sound bytes up to ` +
      `entry ${lastLostIndex}`,
    { segment: path, offset: 0, firstLostIndex, lastLostIndex },
  );
}

function openForWriting(
  directory: StorageDirectory,
  name: string,
): StorageFile {
  const file = directory.open(name, "write");
  assert(file !== undefined, `segment ${name} was there a moment ago`);
  return file;
}

/**
 * Writes every surviving byte behind the durable mark again and syncs it:
 * after a failed sync the page cache holds what the disk does not, and only
 * a new write makes the next sync carry it.
 */
function* rewrite(
  parts: CutParts,
  segments: readonly Segment[],
): Steps<IndexBuilder | undefined> {
  const { directory, verdict } = parts;
  const { durable } = verdict;
  const from = segments.findIndex((one) => one.number === durable.number);
  let index: IndexBuilder | undefined;
  for (let i = Math.max(0, from); i < segments.length; i++) {
    const segment = segments[i]!;
    const file = openForWriting(directory, segment.name);
    try {
      const start = segment.number === durable.number ? durable.offset : 0;
      if (start === 0) {
        // One record of each two may be torn: both are made from the sound one.
        const { identity, link } = segment;
        file.writeAt(encodeHeader(identity, link), 0);
      }
      rewriteRange(file, Math.max(start, HEADER_BYTES), segment.end);
      const last = i === segments.length - 1;
      index = rewriteIndex(file, segment, last);
      yield [file];
      // Only now: before, the cache may have held what the disk did not.
      file.dropCache();
    } finally {
      file.close();
    }
  }
  yield [directory];
  return index;
}

function rewriteRange(file: StorageFile, from: number, to: number): void {
  const page = new Uint8Array(PAGE_BYTES);
  for (let at = from; at < to;) {
    const pageEnd = (Math.floor(at / PAGE_BYTES) + 1) * PAGE_BYTES;
    const piece = page.subarray(0, Math.min(pageEnd, to) - at);
    const count = file.readAt(piece, at);
    assert(count === piece.length, "a segment file does not shrink");
    file.writeAt(piece, at);
    at += count;
  }
}

/** Writes the index again: as it is if it is sound, else from the frames. */
function rewriteIndex(
  file: StorageFile,
  segment: Segment,
  grows: boolean,
): IndexBuilder | undefined {
  const { identity, baseIndex, end, entryCount, lastIndex } = segment;
  if (!grows) {
    // It may be that of a rotation that a crash undid, before more was written.
    const expected = { firstIndex: baseIndex, lastIndex, end };
    const fault = checkFooter(file, identity.salt, expected);
    if (
      fault === undefined && areBlocksSound(file, identity.salt, entryCount)
    ) {
      rewriteRange(file, file.bytes - indexBytes(entryCount), file.bytes);
      return undefined;
    }
  }
  const { blocks, builder } = remakeIndex(file, segment);
  const joined = joinBlocks(blocks, file.bytes);
  for (let at = 0; at < joined.bytes.length; at += PAGE_BYTES) {
    const piece = joined.bytes.subarray(at, at + PAGE_BYTES);
    file.writeAt(piece, joined.offset + at);
  }
  if (grows) return builder;
  const { salt } = identity;
  if (builder.pendingCount > 0) {
    const at = blockOffset(file.bytes, builder.blockOrdinal);
    file.writeAt(builder.encodeBlock(salt, at), at);
  }
  const footer = builder.encodeFooter({
    firstIndex: baseIndex,
    lastIndex: baseIndex + builder.entryCount - 1,
    end,
    blockCount: builder.blockOrdinal + 1,
    sealedAtMs: identity.createdAtMs,
  }, salt);
  file.writeAt(footer, file.bytes - FOOTER_BYTES);
  return undefined;
}

/** A tear may go through the index and leave the footer whole. */
function areBlocksSound(
  file: StorageFile,
  salt: number,
  entryCount: number,
): boolean {
  const block = new Uint8Array(BLOCK_BYTES);
  for (let first = 0; first < entryCount; first += BLOCK_ENTRIES) {
    const at = blockOffset(file.bytes, first / BLOCK_ENTRIES);
    if (at < HEADER_BYTES || file.readAt(block, at) < BLOCK_BYTES) return false;
    const count = Math.min(BLOCK_ENTRIES, entryCount - first);
    if (!isBlockValid(block, salt, at, count)) return false;
  }
  return true;
}

/** Ends the log at the verdict's end with a new segment behind it. */
function* cut(parts: CutParts, before: Repaired): Steps<Repaired> {
  const { storage, directory, chain, verdict } = parts;
  const holder = before.segments.at(-1)!;
  const onlyLast = verdict.endSegment === chain.segments.length - 1 &&
    chain.leftovers.every((one) => one.bytes === 0);
  const { logId, formatName } = chain.manifest;
  const link = {
    baseIndex: holder.lastIndex + 1,
    previousNumber: holder.number,
    previousSalt: holder.identity.salt,
    previousEnd: holder.end,
    previousLastIndex: holder.lastIndex,
    generation: before.generation + 1,
    mark: before.durable,
    cause: CAUSE.recovered,
  };
  let segment: Segment;
  try {
    const log = { logId, formatName };
    const number = before.nextSegment;
    const size = SEGMENT_BYTES_MIN;
    segment = makeSegment(storage, directory, log, number, size, link);
  } catch (error) {
    if (!(error instanceof StorageError) || !onlyLast) throw error;
    yield* zeroTorn(directory, holder, verdict);
    return before;
  }
  try {
    yield [segment.file];
    yield [directory];
    yield* sealCut(parts, holder);
  } catch (error) {
    segment.file.close();
    throw error;
  }
  return {
    ...before,
    segments: [...before.segments, segment],
    generation: before.generation + 1,
    nextSegment: before.nextSegment + 1,
  };
}

/** Without space for a new segment: zeros over the torn bytes, in place. */
function* zeroTorn(
  directory: StorageDirectory,
  segment: Segment,
  verdict: Verdict,
): Steps<void> {
  const file = openForWriting(directory, segment.name);
  try {
    const zeros = new Uint8Array(PAGE_BYTES);
    for (let at = segment.end; at < verdict.tornEnd; at += PAGE_BYTES) {
      const count = Math.min(PAGE_BYTES, verdict.tornEnd - at);
      file.writeAt(zeros.subarray(0, count), at);
    }
    yield [file];
  } finally {
    file.close();
  }
  grow(directory, segment, undefined);
}

/** Gives the shortened segment index, footer, and its torn space back. */
function* sealCut(parts: CutParts, holder: Segment): Steps<void> {
  const file = openForWriting(parts.directory, holder.name);
  try {
    rewriteIndex(file, holder, false);
    const from = alignPage(holder.end);
    const index = indexBytes(holder.entryCount);
    const to = Math.floor((file.bytes - index) / PAGE_BYTES) * PAGE_BYTES;
    if (to > from) file.punchHole(from, to - from);
    yield [file];
  } finally {
    file.close();
  }
}
