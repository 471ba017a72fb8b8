/**
 * Finds out which segments make up a log that somebody else writes: back from
 * the growing one, by the links, to what was known before or to the log's
 * beginning. What a link says of the predecessor's end is where another
 * history may have begun. Read-only. docs/format.md §10.
 *
 * @module
 */

import { type ChainSegment, checkMember } from "./chain.ts";
import { SegmentNotFoundError, WalCorruptedError } from "./errors.ts";
import { readCandidate } from "./folder.ts";
import { HEADER_BYTES, segmentName } from "./format.ts";
import type { LiveChain } from "./live_page.ts";
import type { LiveSnapshot } from "./live_view.ts";
import type { Manifest } from "./manifest.ts";
import { Segment } from "./segment.ts";
import { IndexBuilder } from "./segment_index.ts";
import type { StorageDirectory } from "./storage.ts";

/** What a walk needs. */
export interface WalkParts {
  /** The log's folder. */
  readonly folder: StorageDirectory;
  /** A manifest of the log: whose segments they are. */
  readonly manifest: Manifest;
}

/** The segments of a log now. */
export interface FoundChain {
  /** In order; those that were known are the same objects. */
  readonly segments: Segment[];
  /** Entries above it that were known have been cut off; none: Infinity. */
  readonly cutAfter: number;
}

/**
 * The chain that a snapshot shows. `known` is what was found before, of a log
 * whose end had been cut back `generation` times. Throws when a file is
 * missing or does not fit: then the snapshot is old, or the log is damaged.
 */
export function walkBack(
  parts: WalkParts,
  { chain }: LiveSnapshot,
  known: readonly Segment[],
  generation: number,
): FoundChain {
  const found: ChainSegment[] = [];
  let { number } = chain;
  let met: Segment | undefined;
  for (;;) {
    const salt = found.at(-1)?.link.previousSalt ?? chain.salt;
    met = known.find((one) => isUsable(one, number, salt, found.length > 0));
    if (met !== undefined) break;
    const member = readMember(parts, number, salt, found.at(-1));
    found.push(member);
    const { link } = member;
    // The segment that holds the first entry begins the chain.
    if (link.baseIndex <= chain.firstIndex) break;
    // Numbers rise along a chain, and end at its beginning.
    if (link.previousNumber === 0 || link.previousNumber >= number) break;
    number = link.previousNumber;
  }
  found.reverse();
  const kept = met === undefined ? [] : known.slice(0, known.indexOf(met) + 1);
  const front = broughtBack(parts, kept[0] ?? found[0]!, chain);
  const first = front[0] ?? kept[0] ?? found[0]!;
  if (first.link.baseIndex > chain.firstIndex) throw noBeginning(parts, first);
  // Nothing can be missing any more: now what was known may be changed.
  const cutAfter = cutOf(known, kept, found, generation, chain.generation);
  const segments = [...front, ...kept, ...attach(parts, kept, found)];
  return { segments, cutAfter };
}

function noBeginning(
  { folder }: WalkParts,
  { name, link }: ChainSegment,
): WalCorruptedError {
  const segment = `${folder.path}/${name}`;
  return new WalCorruptedError(
    `Cannot read log: "${segment}" begins the chain with entry ` +
      `${link.baseIndex}, expected one that holds the log's first entry`,
    { segment, offset: 0, firstLostIndex: 0, lastLostIndex: 0 },
  );
}

/**
 * Segments in front of those that were known: a death of the writer undoes a
 * removal that was not promised yet.
 */
function broughtBack(
  parts: WalkParts,
  first: ChainSegment,
  { firstIndex }: LiveChain,
): Segment[] {
  const found: Segment[] = [];
  let next = first;
  while (next.link.baseIndex > firstIndex && next.link.previousNumber > 0) {
    const { link } = next;
    const { previousNumber, previousSalt } = link;
    const member = readMember(parts, previousNumber, previousSalt, next);
    const { previousEnd, previousLastIndex } = link;
    const { folder } = parts;
    found.push(new Segment(folder, member, previousEnd, previousLastIndex));
    next = member;
  }
  return found.reverse();
}

/** A growing segment is known only if its entries are counted one by one. */
function isUsable(
  segment: Segment,
  number: number,
  salt: number,
  sealed: boolean,
): boolean {
  if (segment.number !== number || segment.identity.salt !== salt) return false;
  return sealed || segment.builder !== undefined;
}

function readMember(
  { folder, manifest }: WalkParts,
  number: number,
  salt: number,
  next: ChainSegment | undefined,
): ChainSegment {
  const name = segmentName(number);
  const candidate = readCandidate(folder, name, number, manifest);
  if (candidate.bytes === 0) {
    const path = `${folder.path}/${name}`;
    throw new SegmentNotFoundError(
      `Cannot read log: segment "${path}" is missing, expected it where the ` +
        `log's writer shows it`,
      { path },
    );
  }
  const member = checkMember(folder, candidate, number, next, () => 0);
  if (member instanceof WalCorruptedError) throw member;
  if (member.identity.salt === salt) return member;
  const segment = `${folder.path}/${name}`;
  throw new WalCorruptedError(
    `Cannot read log: "${segment}" is not the segment that the log's writer ` +
      `shows: the salt differs`,
    { segment, offset: 0, firstLostIndex: 0, lastLostIndex: 0 },
  );
}

/** Above which entry what was known is another history now. */
function cutOf(
  known: readonly Segment[],
  kept: readonly Segment[],
  found: readonly ChainSegment[],
  before: number,
  now: number,
): number {
  if (known.length === 0) return Infinity;
  const last = known.at(-1)!.lastIndex;
  // One that was known but not counted is found anew.
  const again = found.findLastIndex(({ identity }) =>
    known.some((one) =>
      one.identity.salt === identity.salt &&
      one.number === identity.number
    )
  );
  // Nothing in common: it was left behind, or cut off and left behind.
  if (again < 0 && kept.length === 0) return before === now ? Infinity : 0;
  const next = found[again + 1];
  const end = next === undefined ? Infinity : next.link.previousLastIndex;
  return end < last ? end : Infinity;
}

/** Segments for the found files; the last known one ends where they begin. */
function attach(
  { folder }: WalkParts,
  kept: readonly Segment[],
  found: readonly ChainSegment[],
): Segment[] {
  const [first] = found;
  const met = kept.at(-1);
  if (met !== undefined && first !== undefined) {
    met.endAt(first.link.previousEnd, first.link.previousLastIndex);
  }
  return found.map((member, i) => {
    const next = found[i + 1]?.link;
    if (next !== undefined) {
      const { previousEnd, previousLastIndex } = next;
      return new Segment(folder, member, previousEnd, previousLastIndex);
    }
    const last = member.link.baseIndex - 1;
    const growing = new Segment(folder, member, HEADER_BYTES, last);
    growing.grow(new IndexBuilder());
    return growing;
  });
}
