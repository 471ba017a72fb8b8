/**
 * Ends a damaged log before its first damage, as recovery ends one before a
 * torn tail: a new segment whose link says where the last sound one ends.
 * Nothing is rewritten in place; the bytes behind the cut are copied to `cut`
 * before it, and later segments moved there after it. A crash anywhere in
 * here leaves the damaged log or the cut one.
 *
 * @module
 */

import type { Kept, Reading } from "./damage.ts";
import {
  CAUSE,
  HEADER_BYTES,
  MANIFEST_NAME,
  SEGMENT_BYTES_MIN,
  segmentNumberOf,
} from "./format.ts";
import type { Piece } from "./frame_walk.ts";
import type { Link } from "./header.ts";
import { makeSegment } from "./make_segment.ts";
import type { Manifest } from "./manifest.ts";
import { earlierOf, NOWHERE, type Position } from "./mark.ts";
import { nextSegmentNumber } from "./rebuild_manifest.ts";
import type { Remains } from "./remains.ts";
import type { SavedFolder } from "./saved_folder.ts";
import { FrameScanner, searchFrames } from "./scan.ts";
import type { Steps } from "./steps.ts";
import type { StorageDirectory, StoragePort } from "./storage.ts";
import type { Survey } from "./survey.ts";

/** What a cut would do. */
export interface CutPlan {
  /** The segment that the log would end in; undefined: nothing is kept. */
  readonly holder: Reading | undefined;
  /** Where its frames would end. */
  readonly end: number;
  /** The index that the next entry would get. */
  readonly nextIndex: number;
  /** Entries that stay. */
  readonly keptCount: number;
  /** Entries that can be read now and would be cut. */
  readonly cutCount: number;
  /** Files that would be moved to `cut`. */
  readonly moved: readonly string[];
  /** Bytes behind the end that would be copied to `cut`. */
  readonly copiedBytes: number;
}

/** What cutting the log before its first damage would do, if it has any. */
export function planCut(
  directory: StorageDirectory,
  remains: Remains,
  survey: Survey,
): CutPlan | undefined {
  const { beforeDamage, damaged, firstIndex, entryCount } = survey;
  const names = directory.list()
    .map(({ name }) => name)
    .filter((name) => segmentNumberOf(name) !== undefined)
    .sort();
  if (!damaged) {
    // The log itself is sound: only files that do not belong to it go.
    const moved = remains.strangers.map(({ name }) => name);
    if (moved.length === 0) return undefined;
    return {
      holder: undefined,
      end: 0,
      nextIndex: survey.nextIndex,
      keptCount: entryCount,
      cutCount: 0,
      moved,
      copiedBytes: 0,
    };
  }
  const holder = beforeDamage?.reading;
  const kept = new Set<string>();
  for (const { name, number } of remains.members) {
    if (holder !== undefined && number <= holder.member.number) kept.add(name);
  }
  const { end, nextIndex } = holder === undefined
    ? { end: 0, nextIndex: firstIndex }
    : endOfKept(directory, beforeDamage!);
  const least = remains.members[0]!.number;
  const strangers = new Set(remains.strangers.map(({ name }) => name));
  const moved = names.filter((name) =>
    strangers.has(name) || (!kept.has(name) &&
      (holder === undefined || segmentNumberOf(name)! > least))
  );
  const keptCount = Math.max(0, nextIndex - firstIndex);
  return {
    holder,
    end,
    nextIndex: Math.max(nextIndex, firstIndex),
    keptCount,
    cutCount: entryCount - keptCount,
    moved,
    copiedBytes: holder === undefined ? 0 : bytesBehind(directory, holder, end),
  };
}

/** Where the last whole batch before the damage ends. */
function endOfKept(
  directory: StorageDirectory,
  { reading, nextIndex, end }: Kept,
): { end: number; nextIndex: number } {
  const { member, parts } = reading;
  const piece = parts.findLast((part): part is Piece =>
    part.kind === "piece" && part.firstIndex <= nextIndex
  );
  const file = directory.open(member.name, "read");
  if (piece === undefined || file === undefined) return { end, nextIndex };
  try {
    const { offset, firstIndex } = piece;
    const start = { offset, nextIndex: firstIndex };
    const scanner = new FrameScanner(file, member.identity, start, piece.end);
    // A clipped piece has frames behind its last entry.
    while (scanner.nextIndex < nextIndex && scanner.next());
    const { completeEnd, completeNextIndex } = scanner;
    return { end: completeEnd, nextIndex: completeNextIndex };
  } finally {
    file.close();
  }
}

/** Bytes from `end` to the last one among the frames that is not zero. */
function bytesBehind(
  directory: StorageDirectory,
  { member, bounds }: Reading,
  end: number,
): number {
  const file = directory.open(member.name, "read");
  if (file === undefined || bounds === undefined) return 0;
  try {
    const to = Math.min(file.bytes, Math.max(end, bounds.limit));
    const range = { from: end, to, indexMin: 1, indexMax: 0 };
    return searchFrames(file, member.identity, range).dirtyEnd - end;
  } finally {
    file.close();
  }
}

/** What a cut is carried out with. */
export interface CutTools {
  /** The storage. */
  readonly storage: StoragePort;
  /** The log's folder, locked. */
  readonly directory: StorageDirectory;
  /** Where what is cut is kept. */
  readonly saved: SavedFolder;
}

/** Carries a cut out; returns the manifest that the log then needs. */
export function* cutLog(
  tools: CutTools,
  remains: Remains,
  survey: Survey,
  plan: CutPlan,
): Steps<Manifest | undefined> {
  const { directory, saved } = tools;
  const { holder, end, copiedBytes, moved } = plan;
  if (!survey.damaged) {
    yield* moveAway(tools, moved);
    return undefined;
  }
  if (holder !== undefined && copiedBytes > 0) {
    const { name } = holder.member;
    const to = end + copiedBytes;
    yield* saved.copy(name, `${name}.from-${end}`, end, to);
  }
  if (directory.list().some(({ name }) => name === MANIFEST_NAME)) {
    const manifest = directory.open(MANIFEST_NAME, "read")!;
    const { bytes } = manifest;
    manifest.close();
    yield* saved.copy(MANIFEST_NAME, MANIFEST_NAME, 0, bytes);
  }
  yield* saved.settle();
  const made = yield* endLog(tools, remains, survey, plan);
  yield* moveAway(tools, moved);
  return made;
}

/** Begins the segment behind the cut: once it is on the disk, that is made. */
function* endLog(
  { storage, directory }: CutTools,
  remains: Remains,
  { durable, firstIndex }: Survey,
  { holder, end, nextIndex }: CutPlan,
): Steps<Manifest> {
  const { manifest, members, logId, formatName } = remains;
  let generation = manifest?.generation ?? 0;
  for (const { link } of members) {
    generation = Math.max(generation, link?.generation ?? 0);
  }
  generation++;
  const number = Math.max(
    nextSegmentNumber(directory),
    manifest?.nextSegment ?? 1,
  );
  const before = holder?.member.identity;
  const cut = before && { number: before.number, offset: end };
  const mark: Position = cut === undefined ? NOWHERE : earlierOf(durable, cut);
  const link: Link = {
    baseIndex: nextIndex,
    previousNumber: before?.number ?? 0,
    previousSalt: before?.salt ?? 0,
    previousEnd: before === undefined ? 0 : end,
    previousLastIndex: nextIndex - 1,
    generation,
    mark,
    cause: CAUSE.recovered,
  };
  const size = SEGMENT_BYTES_MIN;
  const log = { logId, formatName };
  const made = makeSegment(storage, directory, log, number, size, link);
  try {
    yield [made.file];
    yield [directory];
  } finally {
    made.file.close();
  }
  return {
    ...log,
    firstIndex,
    firstSegment: before === undefined ? number : members[0]!.number,
    lastSegment: number,
    nextSegment: number + 1,
    nextIndex,
    generation,
    mark: cut === undefined ? { number, offset: HEADER_BYTES } : mark,
    closed: false,
  };
}

/** Moves whole files out of the log, the highest first. */
function* moveAway(
  { saved }: CutTools,
  names: readonly string[],
): Steps<void> {
  if (names.length === 0) return;
  yield* saved.prepare();
  for (const name of [...names].sort().reverse()) saved.move(name);
  yield* saved.settle();
}
