/**
 * Which files make up the log: reads the manifest and every segment's header
 * page, and builds the chain back from the highest valid link. Read-only.
 * docs/format.md §7, steps 1 to 4.
 *
 * @module
 */

import { WalCorruptedError } from "./errors.ts";
import {
  type Candidate,
  corruptedFile,
  readCandidate,
  readManifest,
  sealedLastIndex,
} from "./folder.ts";
import type { Identity, Link } from "./header.ts";
import {
  CAUSE,
  FOOTER_BYTES,
  FRAME_HEADER_BYTES,
  HEADER_BYTES,
  isTemporaryName,
  MANIFEST_NAME,
  PAGE_BYTES,
  segmentName,
  segmentNumberOf,
} from "./format.ts";
import type { Manifest } from "./manifest.ts";
import { laterOf, NOWHERE, type Position } from "./mark.ts";
import { searchFrames } from "./scan.ts";
import type { StorageDirectory } from "./storage.ts";

/** A segment of the chain. */
export interface ChainSegment {
  /** Its file's name. */
  readonly name: string;
  /** Who it is. */
  readonly identity: Identity;
  /** Where it stands. */
  readonly link: Link;
}

/** A file of the folder that is not part of the log. */
export interface Leftover {
  /** Its name. */
  readonly name: string;
  /** Whether it is kept aside in `cut/` or was taken away on purpose. */
  readonly keep: boolean;
  /** Bytes of it that may have been entries, torn off the log's end. */
  readonly bytes: number;
  /** The highest durable mark in it. */
  readonly mark: Position;
}

/** What the folder holds. */
export interface Chain {
  /** What the manifest says. */
  readonly manifest: Manifest;
  /** The log's segments in order, at least one. */
  readonly segments: readonly ChainSegment[];
  /** Files that an interrupted step left behind. */
  readonly leftovers: readonly Leftover[];
  /** Higher than every number ever seen here. */
  readonly nextSegment: number;
}

/**
 * Reads what makes up the log. `undefined` when there is none yet: no
 * manifest, and nothing but an unused first segment.
 */
export function readChain(directory: StorageDirectory): Chain | undefined {
  const names = directory.list();
  const manifest = readManifest(directory);
  const candidates: Candidate[] = [];
  const leftovers: Leftover[] = [];
  for (const { name, kind } of names) {
    if (isTemporaryName(name) && kind === "file") {
      leftovers.push({ name, keep: false, bytes: 0, mark: NOWHERE });
    }
    const number = segmentNumberOf(name);
    if (number !== undefined) {
      candidates.push(readCandidate(directory, name, number, manifest));
    }
  }
  candidates.sort((a, b) => a.number - b.number);
  if (manifest === undefined) {
    refuseOrphans(directory, candidates);
    return undefined;
  }
  const segments = buildChain(directory, manifest, candidates);
  sortLeftovers(directory, manifest, candidates, segments, leftovers);
  const highest = candidates.at(-1)?.number ?? 0;
  const nextSegment = Math.max(manifest.nextSegment, highest + 1);
  return { manifest, segments, leftovers, nextSegment };
}

/** Without a manifest only an unused first segment may be there. */
function refuseOrphans(
  directory: StorageDirectory,
  candidates: readonly Candidate[],
): void {
  for (const candidate of candidates) {
    const path = `${directory.path}/${MANIFEST_NAME}`;
    const { number, identity, link } = candidate;
    const unused = candidates.length === 1 && number === 1 &&
      identity !== undefined && link !== undefined &&
      !hasFrames(directory, candidate);
    if (!unused) {
      throw corruptedFile(
        path,
        `is missing though there is "${candidate.name}", expected a manifest`,
      );
    }
  }
}

function hasFrames(
  directory: StorageDirectory,
  candidate: Candidate,
): boolean {
  const { identity } = candidate;
  const file = directory.open(candidate.name, "read");
  if (file === undefined || identity === undefined) return false;
  try {
    const behind = searchFrames(file, identity, {
      from: HEADER_BYTES,
      to: file.bytes,
      indexMin: 1,
      indexMax: Number.MAX_SAFE_INTEGER,
    });
    return behind.frameCount > 0 || !behind.decided;
  } finally {
    file.close();
  }
}

/**
 * The chain from the highest link that reads back to its beginning. Segments
 * that no manifest vouches for may have lost their header or name in a power
 * cut: then the chain ends before them.
 */
function buildChain(
  directory: StorageDirectory,
  manifest: Manifest,
  candidates: readonly Candidate[],
): ChainSegment[] {
  const byNumber = new Map<number, Candidate>();
  for (const candidate of candidates) byNumber.set(candidate.number, candidate);
  let firstError: WalCorruptedError | undefined;
  for (let i = candidates.length - 1; i >= 0; i--) {
    const { number, link } = candidates[i]!;
    if (number < manifest.lastSegment) break;
    if (link === undefined || link.generation < manifest.generation) continue;
    const chain = walkBack(directory, manifest, byNumber, number);
    if (Array.isArray(chain)) return chain;
    if (chain.number <= manifest.lastSegment) throw chain.error;
    firstError ??= chain.error;
  }
  if (firstError !== undefined) throw firstError;
  const highest = candidates.findLast((one) => one.link !== undefined);
  const found = highest === undefined ? "none" : `segment ${highest.number}`;
  const named = byNumber.get(manifest.lastSegment);
  const path = `${directory.path}/${named?.name ?? MANIFEST_NAME}`;
  const what = named === undefined
    ? `names segment ${manifest.lastSegment} as one that was there: the last ` +
      `readable one is ${found}, expected it or a later one`
    : `has a damaged header, expected that of the log's last segment`;
  throw new WalCorruptedError(
    `Cannot open log: "${path}" ${what}`,
    {
      segment: path,
      offset: 0,
      firstLostIndex: indexAfter(directory, byNumber, manifest.lastSegment),
      lastLostIndex: manifest.nextIndex - 1,
    },
  );
}

function walkBack(
  directory: StorageDirectory,
  manifest: Manifest,
  byNumber: ReadonlyMap<number, Candidate>,
  tail: number,
): ChainSegment[] | { number: number; error: WalCorruptedError } {
  const segments: ChainSegment[] = [];
  for (let number = tail;;) {
    const candidate = byNumber.get(number);
    const next = segments.at(-1);
    const lostFirst = () =>
      number === manifest.firstSegment
        ? manifest.firstIndex
        : indexAfter(directory, byNumber, number);
    const segment = checkMember(directory, candidate, number, next, lostFirst);
    if (segment instanceof WalCorruptedError) return { number, error: segment };
    segments.push(segment);
    const { link } = segment;
    if (number === manifest.firstSegment) break;
    const renewed = link.generation > manifest.generation;
    if (link.previousNumber === 0 && renewed) break;
    if (link.previousNumber < manifest.firstSegment) {
      const error = corruptedFile(
        `${directory.path}/${MANIFEST_NAME}`,
        `says that the log begins with segment ${manifest.firstSegment}: the ` +
          `chain of segments ends at ${number} without it, expected it there`,
      );
      return { number, error };
    }
    number = link.previousNumber;
  }
  return segments.reverse();
}

/** A file as a member of the chain, before `next`; or why it is none. */
export function checkMember(
  directory: StorageDirectory,
  candidate: Candidate | undefined,
  number: number,
  next: ChainSegment | undefined,
  firstLostIndex: () => number,
): ChainSegment | WalCorruptedError {
  const name = candidate?.name ?? segmentName(number);
  const path = `${directory.path}/${name}`;
  const lost = next === undefined ? 0 : next.link.previousLastIndex;
  const fail = (what: string) =>
    new WalCorruptedError(`Cannot open log: "${path}" ${what}`, {
      segment: path,
      offset: 0,
      firstLostIndex: candidate?.link?.baseIndex ?? firstLostIndex(),
      lastLostIndex: lost,
    });
  if (candidate === undefined) {
    return fail("is missing, expected it between its neighbours");
  }
  const { identity, link } = candidate;
  if (identity === undefined || link === undefined) {
    return fail("has a damaged header, expected a valid identity and link");
  }
  // A size that was never synced may be lost with a file off the chain.
  if (candidate.bytes !== identity.segmentBytes) {
    const expected = `expected ${identity.segmentBytes} bytes`;
    return fail(`has ${candidate.bytes} bytes, ${expected}`);
  }
  if (next === undefined) return { name, identity, link };
  const { previousSalt, previousEnd, previousLastIndex } = next.link;
  if (identity.salt !== previousSalt) {
    return fail("is not the file that its successor names: the salt differs");
  }
  if (
    previousEnd > identity.segmentBytes - FOOTER_BYTES ||
    previousLastIndex < link.baseIndex - 1 ||
    !couldHold(previousEnd, previousLastIndex - link.baseIndex + 1) ||
    link.generation > next.link.generation
  ) {
    return fail("contradicts its successor, expected matching links");
  }
  return { name, identity, link };
}

/** The index after the last sealed segment below `number`; 0 if untold. */
function indexAfter(
  directory: StorageDirectory,
  byNumber: ReadonlyMap<number, Candidate>,
  number: number,
): number {
  const lower = [...byNumber.values()].findLast((one) => one.number < number);
  const lastIndex = lower && sealedLastIndex(directory, lower);
  return lastIndex === undefined ? 0 : lastIndex + 1;
}

/** Whether frames that end at `end` could be those of so many entries. */
export function couldHold(end: number, entryCount: number): boolean {
  return entryCount * FRAME_HEADER_BYTES <= end - HEADER_BYTES;
}

/** Whether the chain begins anew, later than the manifest knows. */
export function beginsAnew(chain: Chain): boolean {
  const { previousNumber, generation } = chain.segments[0]!.link;
  return previousNumber === 0 && generation > chain.manifest.generation;
}

function sortLeftovers(
  directory: StorageDirectory,
  manifest: Manifest,
  candidates: readonly Candidate[],
  segments: readonly ChainSegment[],
  leftovers: Leftover[],
): void {
  const members = new Set(segments.map((segment) => segment.identity.number));
  const tail = segments.at(-1)!.identity.number;
  for (const candidate of candidates) {
    const { name, number } = candidate;
    if (members.has(number)) continue;
    const base = { name, bytes: 0, mark: NOWHERE };
    if (number < manifest.firstSegment) {
      leftovers.push({ ...base, keep: false });
    } else if (number > tail) {
      leftovers.push(inspectBeyond(directory, manifest, candidate));
    } else {
      const over = segments.find((one) => one.identity.number > number)!;
      const truncated = over.link.cause === CAUSE.truncated &&
        candidate.identity !== undefined;
      leftovers.push({ ...base, keep: !truncated });
    }
  }
}

/**
 * A file above the tail: residue of its making, or a segment that a power
 * cut tore off. Whether somebody vouches for it is told by its marks.
 */
function inspectBeyond(
  directory: StorageDirectory,
  manifest: Manifest,
  candidate: Candidate,
): Leftover {
  const { name, number, identity, link } = candidate;
  const path = `${directory.path}/${name}`;
  if (number <= manifest.lastSegment) {
    throw corruptedFile(path, "has a damaged header, expected a valid one");
  }
  const file = directory.open(name, "read");
  const base = { name, keep: true, bytes: 0, mark: link?.mark ?? NOWHERE };
  if (file === undefined) return base;
  try {
    if (file.bytes % PAGE_BYTES !== 0) {
      const is = `has ${file.bytes} bytes and no header of this library`;
      throw corruptedFile(path, `${is}, expected a segment or no such file`);
    }
    if (identity === undefined) return base;
    const behind = searchFrames(file, identity, {
      from: HEADER_BYTES,
      to: file.bytes,
      indexMin: 1,
      indexMax: Number.MAX_SAFE_INTEGER,
    });
    if (!behind.decided) {
      throw corruptedFile(
        path,
        "holds so many frame-like bytes that it " +
          "cannot be decided what they are, expected frames or zeros",
      );
    }
    const mark = laterOf(base.mark, behind.mark);
    return { ...base, bytes: behind.dirtyEnd - HEADER_BYTES, mark };
  } finally {
    file.close();
  }
}

/**
 * Where a mark stands on this chain: marks may name segments, or parts of
 * them, that a later truncation cut off; then the cut is what they vouch for.
 * `undefined` when the mark lies beyond the chain: what it names is lost.
 */
export function clampToChain(
  mark: Position,
  segments: readonly ChainSegment[],
): Position | undefined {
  if (mark.number > segments.at(-1)!.identity.number) return undefined;
  for (let i = segments.length - 1; i >= 0; i--) {
    const { number } = segments[i]!.identity;
    if (number > mark.number) continue;
    const end = segments[i + 1]?.link.previousEnd ?? Infinity;
    const offset = number < mark.number ? end : Math.min(end, mark.offset);
    return { number, offset };
  }
  return NOWHERE;
}
