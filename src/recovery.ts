/**
 * The verdict: where the log ends, and whether what follows is an unfinished
 * write or damage. Read-only; nothing on the disk changes before or by it.
 * docs/format.md §7, steps 5 to 9.
 *
 * @module
 */

import { assert } from "./assert.ts";
import {
  beginsAnew,
  type Chain,
  type ChainSegment,
  clampToChain,
  couldHold,
} from "./chain.ts";
import { WalCorruptedError } from "./errors.ts";
import { isZero } from "./fields.ts";
import { corruptedFile } from "./folder.ts";
import {
  BLOCK_ENTRIES,
  blockOffset,
  FOOTER_BYTES,
  FRAME_ALIGNMENT,
  HEADER_BYTES,
  MANIFEST_NAME,
} from "./format.ts";
import type { Link } from "./header.ts";
import type { Manifest } from "./manifest.ts";
import { comparePositions, laterOf, type Position } from "./mark.ts";
import { type BehindHole, FrameScanner, searchFrames } from "./scan.ts";
import type { StorageDirectory, StorageFile } from "./storage.ts";

/** Where the log ends and what recovery has to do. */
export interface Verdict {
  /** "clean": nothing to cut. "torn": what follows the end was unfinished. */
  readonly outcome: "clean" | "torn";
  /** Whether the log was closed and nothing was scanned. */
  readonly closed: boolean;
  /** The highest durable mark found. */
  readonly durable: Position;
  /** Where the last complete batch ends. */
  readonly end: Position;
  /** The index after the last complete batch. */
  readonly nextIndex: number;
  /** Where in the chain the end lies. */
  readonly endSegment: number;
  /** The end of the torn bytes in that segment. */
  readonly tornEnd: number;
  /** Torn bytes there and in later segments. */
  readonly tornBytes: number;
  /** Segments that were read through. */
  readonly segmentsScanned: number;
}

/** Decides where the log ends; throws `WalCorruptedError` on damage. */
export function decide(directory: StorageDirectory, chain: Chain): Verdict {
  const verdict = isUntouched(directory, chain.manifest, chain.segments.at(-1)!)
    ? closedVerdict(directory, chain)
    : new TailScan(directory, chain).verdict();
  checkIndexes(directory, chain, verdict);
  return verdict;
}

/**
 * Whether nothing was written since the log was closed. An older manifest
 * may have been put back: then frames follow where it says the log ends.
 */
export function isUntouched(
  directory: StorageDirectory,
  manifest: Manifest,
  tail: Omit<ChainSegment, "link"> & { readonly link: Link | undefined },
): boolean {
  const { mark } = manifest;
  const { identity, link } = tail;
  // A link that is lost contradicts nothing; only verification has such.
  const generation = link?.generation ?? manifest.generation;
  if (
    !manifest.closed || mark.number !== identity.number ||
    manifest.generation !== generation
  ) return false;
  const entryCount = manifest.nextIndex - (link?.baseIndex ?? 1);
  // In a segment that is full to the brim the index begins there.
  if (mark.offset >= blocksBegin(identity.segmentBytes, entryCount)) {
    return true;
  }
  const file = directory.open(tail.name, "read");
  if (file === undefined) return false;
  try {
    const start = new Uint8Array(FRAME_ALIGNMENT);
    const count = file.readAt(start, mark.offset);
    return isZero(start, 0, count);
  } finally {
    file.close();
  }
}

/** Where the index of so many entries can begin, a partial block included. */
function blocksBegin(fileBytes: number, entryCount: number): number {
  const ordinal = Math.max(0, Math.floor(entryCount / BLOCK_ENTRIES));
  return blockOffset(fileBytes, ordinal);
}

/** The manifest's exact first index and its bound of the next one. */
function checkIndexes(
  directory: StorageDirectory,
  chain: Chain,
  verdict: Verdict,
): void {
  const { manifest, segments } = chain;
  if (beginsAnew(chain)) return;
  const { baseIndex } = segments[0]!.link;
  const { firstIndex } = manifest;
  const sameEnd = manifest.generation === segments.at(-1)!.link.generation;
  if (
    firstIndex >= baseIndex && firstIndex <= verdict.nextIndex &&
    !(sameEnd && manifest.nextIndex > verdict.nextIndex)
  ) return;
  throw corruptedFile(
    `${directory.path}/${MANIFEST_NAME}`,
    `says that the log holds ${firstIndex} to at least ` +
      `${manifest.nextIndex - 1}: its segments hold ${baseIndex} to ` +
      `${verdict.nextIndex - 1}, expected the same`,
  );
}

function closedVerdict(directory: StorageDirectory, chain: Chain): Verdict {
  const { manifest, segments } = chain;
  const { mark, nextIndex } = manifest;
  const tail = segments.at(-1)!;
  const possible = mark.offset >= HEADER_BYTES && mark.offset % 8 === 0 &&
    mark.offset <= tail.identity.segmentBytes &&
    nextIndex >= tail.link.baseIndex &&
    couldHold(mark.offset, nextIndex - tail.link.baseIndex);
  if (!possible) {
    const path = `${directory.path}/${tail.name}`;
    throw new WalCorruptedError(
      `Cannot open log: the manifest says that "${path}" ends at offset ` +
        `${mark.offset} before index ${nextIndex}: its header contradicts that`,
      { segment: path, offset: 0, firstLostIndex: 0, lastLostIndex: 0 },
    );
  }
  return {
    outcome: "clean",
    closed: true,
    durable: mark,
    end: mark,
    nextIndex,
    endSegment: segments.length - 1,
    tornEnd: mark.offset,
    tornBytes: 0,
    segmentsScanned: 0,
  };
}

/** Scans from the segment that holds the durable mark to the hole. */
class TailScan {
  readonly #directory: StorageDirectory;
  readonly #chain: Chain;
  readonly #segments: readonly ChainSegment[];
  #durable: Position;
  #scanned = 0;

  constructor(directory: StorageDirectory, chain: Chain) {
    this.#directory = directory;
    this.#chain = chain;
    this.#segments = chain.segments;
    this.#durable = { number: 0, offset: 0 };
    this.#raise(chain.manifest.mark);
    for (const { link } of chain.segments) this.#raise(link.mark);
    for (const { mark } of chain.leftovers) this.#raise(mark);
  }

  verdict(): Verdict {
    const { number } = this.#durable;
    const holder = this.#segments
      .findIndex((segment) => segment.identity.number === number);
    const last = this.#segments.length - 1;
    for (let i = Math.max(0, holder);; i++) {
      const file = this.#open(i);
      try {
        const scanner = this.#scan(file, i);
        const ends = i < last && this.#endsAsLinked(scanner, i);
        if (!ends) return this.#judge(file, scanner, i);
      } finally {
        file.close();
      }
    }
  }

  #scan(file: StorageFile, i: number): FrameScanner {
    const { identity, link } = this.#segments[i]!;
    const start = { offset: HEADER_BYTES, nextIndex: link.baseIndex };
    const scanner = new FrameScanner(file, identity, start, this.#limit(i));
    this.#scanned++;
    while (scanner.next()) {
      if (comparePositions(scanner.mark, this.#durable) > 0) {
        this.#raise(scanner.mark);
      }
    }
    return scanner;
  }

  /** Where the frames of segment `i` can reach at most. */
  #limit(i: number): number {
    const next = this.#segments[i + 1];
    if (next !== undefined) return next.link.previousEnd;
    return this.#segments[i]!.identity.segmentBytes - FOOTER_BYTES;
  }

  #endsAsLinked(scanner: FrameScanner, i: number): boolean {
    const { link } = this.#segments[i + 1]!;
    // A batch that a truncation shortened ends where the link says.
    return scanner.offset === link.previousEnd &&
      scanner.nextIndex === link.baseIndex;
  }

  #judge(file: StorageFile, scanner: FrameScanner, i: number): Verdict {
    const { identity, link } = this.#segments[i]!;
    const last = i === this.#segments.length - 1;
    const end = { number: identity.number, offset: scanner.completeEnd };
    // The unfinished batch before the hole counts as lost with the hole.
    const entryCount = scanner.completeNextIndex - link.baseIndex;
    const to = last
      ? Math.max(end.offset, blocksBegin(file.bytes, entryCount))
      : Math.max(end.offset, this.#limit(i));
    const behind = this.#search(file, i, end.offset, to, scanner);
    let tornBytes = behind.dirtyEnd - end.offset;
    for (let j = i + 1; j < this.#segments.length; j++) {
      const later = this.#open(j);
      try {
        const found = this.#search(later, j, HEADER_BYTES, this.#limit(j));
        tornBytes += found.dirtyEnd - HEADER_BYTES;
      } finally {
        later.close();
      }
    }
    if (comparePositions(this.#durable, end) > 0) {
      throw this.#corrupted(i, scanner, behind);
    }
    let beyondBytes = 0;
    for (const { bytes } of this.#chain.leftovers) beyondBytes += bytes;
    tornBytes += beyondBytes;
    const torn = !last || behind.dirty || beyondBytes > 0;
    return {
      outcome: torn ? "torn" : "clean",
      closed: false,
      durable: this.#durable,
      end,
      nextIndex: scanner.completeNextIndex,
      endSegment: i,
      tornEnd: behind.dirtyEnd,
      tornBytes,
      segmentsScanned: this.#scanned,
    };
  }

  #search(
    file: StorageFile,
    i: number,
    from: number,
    to: number,
    scanner?: FrameScanner,
  ): BehindHole {
    const { identity, link } = this.#segments[i]!;
    const indexMin = scanner?.completeNextIndex ?? link.baseIndex;
    const indexMax = indexMin + Math.ceil((to - from) / 8);
    const range = { from, to, indexMin, indexMax };
    const behind = searchFrames(file, identity, range);
    if (!behind.decided) {
      const path = `${this.#directory.path}/${this.#segments[i]!.name}`;
      throw new WalCorruptedError(
        `Cannot open log: "${path}" holds so many frame-like bytes behind ` +
          `offset ${from} that it cannot be decided what they are, expected ` +
          `frames or zeros`,
        {
          segment: path,
          offset: from,
          firstLostIndex: indexMin,
          lastLostIndex: Math.max(indexMin, this.#chain.manifest.nextIndex - 1),
        },
      );
    }
    this.#raise(behind.mark);
    return behind;
  }

  #raise(mark: Position): void {
    const place = clampToChain(mark, this.#segments);
    if (place === undefined) {
      const path = this.#directory.path;
      throw new WalCorruptedError(
        `Cannot open log: a durable mark in "${path}" names segment ` +
          `${mark.number}, which is missing, expected it in the chain`,
        { segment: path, offset: 0, firstLostIndex: 0, lastLostIndex: 0 },
      );
    }
    this.#durable = laterOf(this.#durable, place);
  }

  #corrupted(
    i: number,
    scanner: FrameScanner,
    behind: BehindHole,
  ): WalCorruptedError {
    const segment = `${this.#directory.path}/${this.#segments[i]!.name}`;
    const { offset } = scanner;
    const first = scanner.completeNextIndex;
    const next = this.#segments[i + 1]?.link.baseIndex ??
      this.#chain.manifest.nextIndex;
    const behindIndex = behind.firstIndex ?? next;
    const resumes = behindIndex > first ? behindIndex : next;
    const last = Math.max(first, resumes - 1);
    const { number, offset: markOffset } = this.#durable;
    return new WalCorruptedError(
      `Cannot open log: "${segment}" is damaged at offset ${offset}: entries ` +
        `${first} to ${last} cannot be read, expected sound frames up to ` +
        `offset ${markOffset} of segment ${number}, which were made durable`,
      { segment, offset, firstLostIndex: first, lastLostIndex: last },
    );
  }

  #open(i: number): StorageFile {
    const { name } = this.#segments[i]!;
    const file = this.#directory.open(name, "read");
    assert(file !== undefined, `segment ${name} was there a moment ago`);
    return file;
  }
}
