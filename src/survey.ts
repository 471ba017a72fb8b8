/**
 * Reads all of a log, past whatever is damaged: every segment's frames, and
 * with `checkIndex` its index, footer and spare header. Then says what can be
 * read, what is lost, and what is wrong, in words. Read-only, by `readAt`, in
 * bounded memory. `verify`, salvage and repairs are built on it.
 *
 * @module
 */

import { beginsAnew } from "./chain.ts";
import { type Gap, judgeHoles, type Kept, type Reading } from "./damage.ts";
import { WalCorruptedError } from "./errors.ts";
import { dropCutOff } from "./doubt.ts";
import { damageOfError, type Finding, lossless } from "./finding.ts";
import { CAUSE, FLAG, FOOTER_BYTES, HEADER_BYTES } from "./format.ts";
import { FrameWalk, type WalkBounds } from "./frame_walk.ts";
import {
  checkFooter,
  checkSpareHeader,
  IndexCheck,
  type IndexFault,
} from "./index_check.ts";
import { chainFindings, tornFinding } from "./log_findings.ts";
import { lookAtLog } from "./look.ts";
import { comparePositions, laterOf, NOWHERE, type Position } from "./mark.ts";
import { isUntouched } from "./recovery.ts";
import type { Member, Remains } from "./remains.ts";
import type { StorageDirectory, StorageFile } from "./storage.ts";
import { readFooter } from "./trusted_end.ts";

/** Progress is told every so many bytes. */
const STEP_BYTES = 4 * 1024 * 1024;

/** Where the frames of a segment end at most. */
interface Limit {
  readonly offset: number;
  /** The index after its last entry; undefined when nobody says. */
  readonly nextIndex: number | undefined;
  /** Whether a truncation may have cut its last batch. */
  readonly cut: boolean;
  /** Whether this is exactly where they end. */
  readonly known: boolean;
}

/** How far a survey is. */
export interface SurveyProgress {
  /** The segment that is being read. */
  readonly segment: string;
  /** Bytes of frames read so far. */
  readonly bytesDone: number;
  /** Bytes of frames in all segments, at most. */
  readonly bytesTotal: number;
}

/** What a survey found. */
export interface Survey {
  /** Everything that is wrong, in order; empty for a sound log. */
  readonly findings: readonly Finding[];
  /** Of it, the indexes, footers and spare headers. */
  readonly indexFaults: readonly SegmentFault[];
  /** What cannot be read, in order. */
  readonly gaps: readonly Gap[];
  /** Segments with something that can be read. */
  readonly kept: readonly Kept[];
  /** Whether segments are damaged or missing. */
  readonly damaged: boolean;
  /** The last thing that can be read before the first damage. */
  readonly beforeDamage: Kept | undefined;
  /** The first entry that was not removed. */
  readonly firstIndex: number;
  /** The index that the next entry gets. */
  readonly nextIndex: number;
  /** Entries that can be read. */
  readonly entryCount: number;
  /** The highest durable mark. */
  readonly durable: Position;
  /** Bytes of frames read. */
  readonly bytes: number;
  /** Bytes of an unfinished write behind the log's end. */
  readonly tornBytes: number;
  /** Whether the log was closed, and ends where its manifest says. */
  readonly closed: boolean;
}

/** Reads what is left of the log in `directory`; yields how far it is. */
export function surveyLog(
  directory: StorageDirectory,
  remains: Remains,
  options: { checkIndex: boolean },
): Generator<SurveyProgress, Survey> {
  return new Surveyor(directory, remains, options.checkIndex).run();
}

/** An index, footer or spare header that is wrong. */
export interface SegmentFault extends IndexFault {
  /** The segment's number. */
  readonly number: number;
  /** Its path. */
  readonly segment: string;
}

class Surveyor {
  readonly #directory: StorageDirectory;
  readonly #remains: Remains;
  readonly #members: readonly Member[];
  readonly #checkIndex: boolean;
  readonly #limits: Limit[] = [];
  readonly #readings: Reading[] = [];
  readonly #indexFaults: SegmentFault[] = [];
  #durable: Position = NOWHERE;
  #closed = false;
  #bytesDone = 0;
  #bytesTotal = 0;

  constructor(
    directory: StorageDirectory,
    remains: Remains,
    checkIndex: boolean,
  ) {
    this.#directory = directory;
    this.#remains = remains;
    this.#members = remains.members;
    this.#checkIndex = checkIndex;
  }

  *run(): Generator<SurveyProgress, Survey> {
    this.#closed = this.#isClosed();
    for (let i = 0; i < this.#members.length; i++) {
      const limit = this.#limitOf(i);
      this.#limits.push(limit);
      this.#bytesTotal += Math.max(0, limit.offset - HEADER_BYTES);
    }
    const { manifest, marks } = this.#remains;
    if (manifest !== undefined) this.#raise(manifest.mark);
    for (const { link } of this.#members) if (link) this.#raise(link.mark);
    for (const mark of marks) this.#raise(mark);
    for (let i = 0; i < this.#members.length; i++) yield* this.#read(i);
    dropCutOff(this.#directory, this.#readings, this.#remains);
    return this.#conclude();
  }

  /** Whether the manifest's mark is the log's exact end. */
  #isClosed(): boolean {
    const { manifest } = this.#remains;
    const last = this.#members.at(-1)!;
    if (manifest === undefined) return false;
    if (last.readable) return isUntouched(this.#directory, manifest, last);
    // Nothing can follow where the last segment is gone.
    return manifest.closed && manifest.mark.number === last.number;
  }

  #raise(mark: Position): void {
    this.#durable = laterOf(this.#durable, this.#clamp(mark));
  }

  /** Where a mark stands on this chain, as `clampToChain` says. */
  #clamp(mark: Position): Position {
    const last = this.#members.length - 1;
    const beyond = { number: Infinity, offset: 0 };
    if (mark.number > this.#members[last]!.number) return beyond;
    for (let i = last; i >= 0; i--) {
      const { number } = this.#members[i]!;
      if (number > mark.number) continue;
      const end = i === last ? Infinity : this.#limits[i]!.offset;
      const offset = number < mark.number ? end : Math.min(end, mark.offset);
      return { number, offset };
    }
    return NOWHERE;
  }

  /** Where the frames of segment `i` end at most. */
  #limitOf(i: number): Limit {
    const { manifest } = this.#remains;
    const member = this.#members[i]!;
    const next = this.#members[i + 1];
    if (next?.link?.previousNumber === member.number) {
      const { previousEnd, baseIndex, cause } = next.link;
      const cut = cause === CAUSE.truncated;
      return { offset: previousEnd, nextIndex: baseIndex, cut, known: true };
    }
    if (next === undefined && this.#closed) {
      const { mark, nextIndex } = manifest!;
      return { offset: mark.offset, nextIndex, cut: false, known: true };
    }
    const footer = next === undefined
      ? undefined
      : readFooter(this.#directory, member);
    const most = member.identity.segmentBytes - FOOTER_BYTES;
    const offset = Math.min(footer?.end ?? most, most);
    return { offset, nextIndex: undefined, cut: true, known: false };
  }

  *#read(i: number): Generator<SurveyProgress, void> {
    const member = this.#members[i]!;
    const path = `${this.#directory.path}/${member.name}`;
    const endKnown = this.#limits[i]!.known;
    const reading = { member, path, parts: [], endKnown, bounds: undefined };
    const file = member.readable
      ? this.#directory.open(member.name, "read")
      : undefined;
    if (file === undefined) {
      const fault = member.fault ??
        "the file is gone, expected it to stay where it is";
      const lost = { ...member, readable: false, fault };
      this.#readings.push({ ...reading, member: lost });
      return;
    }
    try {
      const bounds = this.#boundsOf(i);
      const walk = new FrameWalk(file, member.identity, bounds);
      const index = new IndexCheck(file, member.identity.salt);
      yield* this.#follow(walk, index, path);
      this.#readings.push({ ...reading, parts: walk.parts, bounds });
      if (this.#checkIndex) this.#checkRest(i, file, path, index);
    } finally {
      file.dropCache();
      file.close();
    }
  }

  #boundsOf(i: number): WalkBounds {
    const { offset, nextIndex, cut } = this.#limits[i]!;
    return {
      firstIndex: this.#members[i]!.link?.baseIndex,
      limit: offset,
      nextIndex,
      cut,
      growing: i === this.#members.length - 1 && !this.#closed,
    };
  }

  *#follow(
    walk: FrameWalk,
    index: IndexCheck,
    path: string,
  ): Generator<SurveyProgress, void> {
    const { frame } = walk;
    let told = HEADER_BYTES;
    const tell = (): SurveyProgress => {
      this.#bytesDone += Math.max(0, frame.offset - told);
      told = Math.max(told, frame.offset);
      const bytesTotal = this.#bytesTotal;
      return { segment: path, bytesDone: this.#bytesDone, bytesTotal };
    };
    while (walk.next()) {
      if (comparePositions(frame.mark, this.#durable) > 0) {
        this.#raise(frame.mark);
      }
      // Behind a hole the blocks are checked by themselves.
      if (walk.damaged) index.lose();
      else if ((frame.flags & FLAG.entry) !== 0) {
        index.add(frame.frameOffset, frame.term, frame.timestamp);
      }
      if (frame.offset - told >= STEP_BYTES) yield tell();
    }
    if (walk.damaged) index.lose();
    yield tell();
  }

  /** Index, footer and spare header, where neighbours say what they must be. */
  #checkRest(
    i: number,
    file: StorageFile,
    segment: string,
    index: IndexCheck,
  ): void {
    const { number, link, fault, identity } = this.#members[i]!;
    const { offset, nextIndex, known } = this.#limits[i]!;
    if (fault !== undefined || link === undefined) return;
    const add = (found: IndexFault | undefined) => {
      if (found !== undefined) {
        this.#indexFaults.push({ ...found, number, segment });
      }
    };
    checkSpareHeader(file).forEach(add);
    // The index of a log that is not closed is made again at opening.
    if (!known || nextIndex === undefined) return;
    const { baseIndex } = link;
    add(index.finish(nextIndex - baseIndex));
    if (i === this.#members.length - 1) return;
    const footer = { firstIndex: baseIndex, lastIndex: nextIndex - 1 };
    add(checkFooter(file, identity.salt, { ...footer, end: offset }));
  }

  #conclude(): Survey {
    const { manifest } = this.#remains;
    const firstIndex = this.#firstIndex();
    const { link } = this.#members.at(-1)!;
    const sameEnd = link === undefined ||
      link.generation === manifest?.generation;
    const judged = judgeHoles({
      readings: this.#readings,
      durable: manifest === undefined ? undefined : this.#durable,
      firstIndex,
      nextIndexMin: sameEnd ? manifest?.nextIndex ?? 0 : 0,
      closed: this.#closed,
      lostSuccessor: this.#lostSuccessor(),
    });
    let lost = 0;
    for (const { firstLostIndex, lastLostIndex } of judged.gaps) {
      lost += lastLostIndex - firstLostIndex + 1;
    }
    const indexFaults = this.#faults();
    const findings = [
      ...chainFindings(this.#directory, this.#remains),
      ...judged.findings,
      ...indexFaults.map((fault) => lossless("index", fault)),
    ];
    return {
      ...judged,
      findings,
      indexFaults,
      firstIndex,
      entryCount: judged.nextIndex - firstIndex - lost,
      durable: this.#durable,
      bytes: this.#bytesDone,
      tornBytes: this.#addEnd(findings),
      closed: this.#closed,
    };
  }

  /** Only a segment with a successor is sealed. */
  #lostSuccessor(): string | undefined {
    const last = this.#members.at(-1)!;
    const unnoticed = this.#remains.manifest === undefined &&
      readFooter(this.#directory, last) !== undefined;
    return unnoticed
      ? "the segment is sealed and nothing follows it, expected a later one"
      : undefined;
  }

  /** The first entry that was not removed, as far as anything tells. */
  #firstIndex(): number {
    const { manifest, chain } = this.#remains;
    const first = this.#members[0]!;
    const begun = first.link?.baseIndex;
    if (chain !== undefined && beginsAnew(chain)) return begun!;
    if (manifest !== undefined) {
      const anew = first.link?.previousNumber === 0 &&
        first.link.generation > manifest.generation;
      return anew ? begun! : manifest.firstIndex;
    }
    const pieces = this.#readings.flatMap(({ parts }) => parts);
    const piece = pieces.find((part) => part.kind === "piece");
    return begun ?? piece?.firstIndex ?? 1;
  }

  /** Opening makes the index again behind the durable mark. */
  #faults(): SegmentFault[] {
    return this.#indexFaults
      .filter(({ number }) => this.#closed || number < this.#durable.number);
  }

  /** Adds how opening would find the log's end; returns the torn bytes. */
  #addEnd(findings: Finding[]): number {
    const damaged = findings.some(({ kind }) => kind === "damage");
    try {
      const look = lookAtLog(this.#directory);
      const { outcome, tornBytes } = look.verdict;
      if (outcome === "torn") findings.push(tornFinding(this.#directory, look));
      return tornBytes;
    } catch (error) {
      if (!(error instanceof WalCorruptedError)) throw error;
      if (!damaged) findings.push(damageOfError(error));
      return 0;
    }
  }
}
