/**
 * Verifies a whole log: every frame, batch, link, index and footer of every
 * segment against each other, and the manifest against them. Read-only, by
 * `readAt`, in bounded memory; it needs no lock and makes no repair.
 *
 * It says in words what is wrong and tells apart: damage (a durable mark
 * vouches for it), a torn tail (a crash explains it) and a wrong index,
 * footer or spare header, without which all entries can still be read.
 *
 * @module
 */

import {
  beginsAnew,
  type Chain,
  type ChainSegment,
  clampToChain,
  readChain,
} from "./chain.ts";
import { SegmentNotFoundError, WalCorruptedError } from "./errors.ts";
import {
  alignFrame,
  BLOCK_ENTRIES,
  blockOffset,
  CAUSE,
  FLAG,
  FOOTER_BYTES,
  HEADER_BYTES,
} from "./format.ts";
import {
  damageOfError,
  damageOfHole,
  type Finding,
  type Hole,
  lossless,
} from "./finding.ts";
import { findFrame, type FoundFrame, whyNoFrame } from "./frame_search.ts";
import {
  checkFooter,
  checkSpareHeader,
  IndexCheck,
  type IndexFault,
} from "./index_check.ts";
import { comparePositions, laterOf, NOWHERE, type Position } from "./mark.ts";
import { FrameScanner } from "./scan.ts";
import { lookAtLog } from "./still_log.ts";
import type { StorageDirectory, StorageFile } from "./storage.ts";

/** Progress is told every so many bytes. */
const STEP_BYTES = 4 * 1024 * 1024;

/** How far a verification is. */
export interface VerifyProgress {
  /** The segment that is being read. */
  readonly segment: string;
  /** Bytes of frames read so far. */
  readonly bytesDone: number;
  /** Bytes of frames in all segments, at most. */
  readonly bytesTotal: number;
}

/** What a verification found. */
export interface VerifyReport {
  /** Everything that is wrong, in order; empty for a sound log. */
  readonly findings: readonly Finding[];
  /** Sound entries. */
  readonly entryCount: number;
  /** Segments of the log. */
  readonly segmentCount: number;
  /** Bytes of frames read. */
  readonly bytes: number;
}

/** Reads the whole log in `directory`; yields how far it is. */
export function* verifyLog(
  directory: StorageDirectory,
): Generator<VerifyProgress, VerifyReport> {
  let chain: Chain | undefined;
  try {
    chain = readChain(directory);
  } catch (error) {
    if (!(error instanceof WalCorruptedError)) throw error;
    const findings = [damageOfError(error)];
    return { findings, entryCount: 0, segmentCount: 0, bytes: 0 };
  }
  if (chain === undefined) {
    const { path } = directory;
    throw new SegmentNotFoundError(
      `Cannot verify log "${path}": there is no manifest, expected a log's ` +
        `folder`,
      { path },
    );
  }
  return yield* new Verifier(directory, chain).run();
}

/** One segment while it is read. */
interface Scan {
  readonly file: StorageFile;
  readonly path: string;
  readonly member: ChainSegment;
  /** Its frames end here at most … */
  readonly limit: number;
  /** … with the entry before this one; undefined when nobody knows. */
  readonly nextIndex: number | undefined;
  /** Whether a truncation may have cut its last batch. */
  readonly cut: boolean;
  readonly index: IndexCheck;
}

class Verifier {
  readonly #directory: StorageDirectory;
  readonly #chain: Chain;
  readonly #firstIndex: number;
  readonly #holes: Hole[] = [];
  readonly #indexFaults: (IndexFault & { number: number; segment: string })[] =
    [];
  #durable: Position = NOWHERE;
  #closed = false;
  #bytesDone = 0;
  #bytesTotal = 0;
  #lost = 0;
  #scannedNext = 0;

  constructor(directory: StorageDirectory, chain: Chain) {
    this.#directory = directory;
    this.#chain = chain;
    const { baseIndex } = chain.segments[0]!.link;
    this.#firstIndex = beginsAnew(chain)
      ? baseIndex
      : Math.max(chain.manifest.firstIndex, baseIndex);
  }

  *run(): Generator<VerifyProgress, VerifyReport> {
    const { manifest, segments, leftovers } = this.#chain;
    const marks = [manifest, ...segments.map(({ link }) => link), ...leftovers];
    for (const { mark } of marks) this.#raise(mark);
    this.#closed = this.#isClosed();
    for (let i = 0; i < segments.length; i++) {
      this.#bytesTotal += this.#limitOf(i) - HEADER_BYTES;
    }
    for (let i = 0; i < segments.length; i++) yield* this.#verifySegment(i);
    const findings = this.#judge();
    const damaged = findings.length > 0;
    // A writer at work may have gone on since; that was not verified.
    const nextIndex = this.#judgeEnd(findings);
    const end = damaged ? nextIndex : Math.min(nextIndex, this.#scannedNext);
    return {
      findings,
      entryCount: Math.max(0, end - this.#firstIndex - this.#lost),
      segmentCount: segments.length,
      bytes: this.#bytesDone,
    };
  }

  /** Whether the manifest's mark is the log's exact end. */
  #isClosed(): boolean {
    const { manifest } = this.#chain;
    try {
      return manifest.closed && lookAtLog(this.#directory).verdict.closed;
    } catch (error) {
      // Then the end is not to be had but from the manifest.
      if (error instanceof WalCorruptedError) return manifest.closed;
      throw error;
    }
  }

  #raise(mark: Position): void {
    const place = clampToChain(mark, this.#chain.segments);
    if (place !== undefined) this.#durable = laterOf(this.#durable, place);
  }

  /** Where the frames of segment `i` end at most. */
  #limitOf(i: number): number {
    const { manifest, segments } = this.#chain;
    const next = segments[i + 1];
    if (next !== undefined) return next.link.previousEnd;
    const { number, segmentBytes } = segments[i]!.identity;
    const { mark } = manifest;
    if (this.#closed && mark.number === number) return mark.offset;
    return segmentBytes - FOOTER_BYTES;
  }

  *#verifySegment(i: number): Generator<VerifyProgress, void> {
    const { manifest, segments } = this.#chain;
    const member = segments[i]!;
    const next = segments[i + 1];
    const { number, salt } = member.identity;
    const path = `${this.#directory.path}/${member.name}`;
    const closed = this.#closed && manifest.mark.number === number;
    const file = this.#directory.open(member.name, "read");
    if (file === undefined) return this.#missing(member, path);
    try {
      const index = new IndexCheck(file, salt);
      const limit = this.#limitOf(i);
      const nextIndex = next?.link.baseIndex ??
        (closed ? manifest.nextIndex : undefined);
      const cut = next !== undefined && next.link.cause === CAUSE.truncated;
      const scan = { file, path, member, limit, nextIndex, cut, index };
      const end = yield* this.#scan(scan);
      this.#scannedNext = end;
      const { baseIndex } = member.link;
      const fault = (found: IndexFault | undefined) => {
        if (found === undefined) return;
        this.#indexFaults.push({ ...found, number, segment: path });
      };
      checkSpareHeader(file).forEach(fault);
      // The index of a log that is not closed is made again at opening.
      if (next !== undefined || closed) fault(index.finish(end - baseIndex));
      if (next === undefined) return;
      const footer = { firstIndex: baseIndex, lastIndex: end - 1, end: limit };
      fault(checkFooter(file, salt, footer));
    } finally {
      file.dropCache();
      file.close();
    }
  }

  #missing(member: ChainSegment, path: string): void {
    this.#holes.push({
      number: member.identity.number,
      segment: path,
      offset: 0,
      vouchedFrom: 0,
      firstLostIndex: member.link.baseIndex,
      lastLostIndex: member.link.baseIndex,
      message: "the file is gone, expected it to stay where it is",
    });
  }

  /** Reads all frames; returns the index after the segment's last entry. */
  *#scan(scan: Scan): Generator<VerifyProgress, number> {
    const { file, path, member, limit, index } = scan;
    let start = { offset: HEADER_BYTES, nextIndex: member.link.baseIndex };
    let told = start.offset;
    const tell = (offset: number): VerifyProgress => {
      this.#bytesDone += Math.max(0, offset - told);
      told = Math.max(told, offset);
      const bytesTotal = this.#bytesTotal;
      return { segment: path, bytesDone: this.#bytesDone, bytesTotal };
    };
    for (;;) {
      const scanner = new FrameScanner(file, member.identity, start, limit);
      while (scanner.next()) {
        this.#raise(scanner.mark);
        if ((scanner.flags & FLAG.entry) !== 0) {
          index.add(scanner.frameOffset, scanner.term, scanner.timestamp);
        }
        if (scanner.offset - told >= STEP_BYTES) yield tell(scanner.offset);
      }
      const resumed = this.#goOn(scan, scanner);
      if (resumed !== undefined) {
        start = resumed;
        continue;
      }
      yield tell(scanner.offset);
      return scan.nextIndex ?? scanner.completeNextIndex;
    }
  }

  /** Where scanning goes on behind a hole; undefined at the end. */
  #goOn(scan: Scan, scanner: FrameScanner): Start | undefined {
    const { limit, nextIndex, index } = scan;
    const { offset } = scanner;
    const whole = scanner.completeEnd === offset || scan.cut;
    const counted = nextIndex ?? scanner.nextIndex;
    if (offset === limit && whole && counted === scanner.nextIndex) return;
    const found = findFrame(scan.file, scan.member.identity, {
      from: offset,
      to: this.#searchEnd(scan, scanner),
      indexMin: scanner.nextIndex,
      indexMax: scanner.nextIndex + Math.ceil((limit - offset) / 8),
    });
    index.lose();
    // A writer at work may have filled the hole since.
    const healed = healedStart(scan, scanner);
    if (healed !== undefined) return healed;
    this.#addHole(scan, scanner, found);
    return found === undefined ? undefined : startAt(found, scanner);
  }

  /** Behind the last frames lies the index, which grows towards them. */
  #searchEnd(scan: Scan, scanner: FrameScanner): number {
    if (scan.nextIndex !== undefined) return scan.limit;
    const entryCount = scanner.completeNextIndex - scan.member.link.baseIndex;
    const ordinal = Math.floor(entryCount / BLOCK_ENTRIES);
    return Math.max(scanner.offset, blockOffset(scan.file.bytes, ordinal));
  }

  #addHole(
    scan: Scan,
    scanner: FrameScanner,
    found: FoundFrame | undefined,
  ): void {
    const { file, path, member, limit } = scan;
    const { offset, nextIndex } = scanner;
    const known = this.#chain.manifest.nextIndex - 1;
    const last = found?.index ?? scan.nextIndex;
    const was = offset === limit
      ? "the end of the frames"
      : whyNoFrame(file, member.identity, { offset, limit, index: nextIndex });
    const batch = scanner.completeEnd === offset
      ? ""
      : ` in the batch that begins with entry ${scanner.completeNextIndex}`;
    const message = last !== undefined && last < nextIndex
      ? `found entry ${nextIndex - 1}, expected ${last - 1} as the last one`
      : `found ${was}, expected a sound frame of entry ${nextIndex}${batch}`;
    this.#holes.push({
      number: member.identity.number,
      segment: path,
      offset,
      // Frames that end early are wrong whatever offset a mark names.
      vouchedFrom: offset === limit ? 0 : offset,
      firstLostIndex: nextIndex,
      lastLostIndex: last === undefined ? Math.max(nextIndex, known) : last - 1,
      message,
    });
  }

  /** What the holes and faults mean, now that the durable mark is known. */
  #judge(): Finding[] {
    const findings: Finding[] = [];
    for (const hole of this.#holes) {
      const place = { number: hole.number, offset: hole.vouchedFrom };
      if (comparePositions(this.#durable, place) <= 0) continue;
      const damage = damageOfHole(hole, this.#firstIndex);
      if (damage === undefined) continue;
      findings.push(damage);
      const { firstLostIndex, lastLostIndex } = damage;
      if (firstLostIndex > 0) this.#lost += lastLostIndex - firstLostIndex + 1;
    }
    for (const fault of this.#indexFaults) {
      // Opening makes the index again behind the durable mark.
      const remade = !this.#closed && fault.number >= this.#durable.number;
      if (!remade) findings.push(lossless("index", fault));
    }
    return findings;
  }

  /** Adds how the log ends; returns the index that the next entry gets. */
  #judgeEnd(findings: Finding[]): number {
    const { manifest, segments } = this.#chain;
    const damaged = findings.some(({ kind }) => kind === "damage");
    try {
      const { verdict, chain } = lookAtLog(this.#directory);
      const { outcome, end, nextIndex, tornBytes } = verdict;
      if (outcome === "torn") {
        const { name } = chain.segments[verdict.endSegment]!;
        findings.push(lossless("torn", {
          segment: `${this.#directory.path}/${name}`,
          offset: end.offset,
          message: `${tornBytes} bytes behind entry ${nextIndex - 1} are an ` +
            `unfinished write that nobody was promised, as a crash leaves ` +
            `it; the next opening cuts them and keeps them in "cut"`,
        }));
      }
      return nextIndex;
    } catch (error) {
      if (!(error instanceof WalCorruptedError)) throw error;
      if (!damaged) findings.push(damageOfError(error));
      return Math.max(manifest.nextIndex, segments.at(-1)!.link.baseIndex);
    }
  }
}

interface Start {
  readonly offset: number;
  readonly nextIndex: number;
}

/** Where to read on when a hole is none any more. */
function healedStart(scan: Scan, scanner: FrameScanner): Start | undefined {
  const { file, member, limit } = scan;
  const { completeEnd, completeNextIndex } = scanner;
  const start = { offset: completeEnd, nextIndex: completeNextIndex };
  const again = new FrameScanner(file, member.identity, start, limit);
  while (again.next()) if (again.offset > scanner.offset) return start;
  return undefined;
}

/** Where to read on behind a hole. */
function startAt(found: FoundFrame, scanner: FrameScanner): Start {
  const { offset, index, length, flags } = found;
  // The end of a batch whose beginning is lost, or a frame that the scanner
  // refuses for what it says: it is counted here, and stepped over.
  const refused = offset === scanner.offset && index === scanner.nextIndex;
  if (!refused && (flags & FLAG.batchEnds) === 0) {
    return { offset, nextIndex: index };
  }
  const entries = (flags & FLAG.entry) === 0 ? 0 : 1;
  return { offset: offset + alignFrame(length), nextIndex: index + entries };
}
