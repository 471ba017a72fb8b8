/**
 * A damaged log opened as far as it is readable: every entry whose frame and
 * batch are sound is served, all others throw. It is read through once at
 * opening; memory holds what is lost, and the offsets of entries only for
 * segments whose own index cannot be used.
 *
 * @module
 */

import type { Gap, Kept, Reading } from "./damage.ts";
import { SegmentNotFoundError, WalCorruptedError } from "./errors.ts";
import { FLAG, FRAME_HEADER_BYTES, HEADER_BYTES } from "./format.ts";
import type { FoundLog } from "./found_log.ts";
import { warnOfIndex } from "./found_log.ts";
import { FrameWalk, type Piece } from "./frame_walk.ts";
import type { Link } from "./header.ts";
import { LogState } from "./log_state.ts";
import type { Logger } from "./logger.ts";
import { NOWHERE } from "./mark.ts";
import { type Member, readRemains, type Remains } from "./remains.ts";
import { FrameScanner } from "./scan.ts";
import { Segment } from "./segment.ts";
import type { StorageDirectory, StorageFile } from "./storage.ts";
import { type Survey, surveyLog, type SurveyProgress } from "./survey.ts";

/** So many findings are told to the logger one by one. */
const WARNINGS_MAX = 20;

/** Opens what can be read of the log in `directory`; yields how far it is. */
export function* salvageLog(
  directory: StorageDirectory,
  logger: Logger | undefined,
): Generator<SurveyProgress, FoundLog> {
  const remains = readRemains(directory);
  if (remains === undefined) {
    const { path } = directory;
    throw new SegmentNotFoundError(
      `Cannot read log "${path}": there is no manifest, expected a log's ` +
        `folder`,
      { path },
    );
  }
  const options = { checkIndex: false };
  const survey = yield* surveyLog(directory, remains, options);
  return foundLog(directory, remains, survey, logger);
}

/** The log that a survey found. */
export function foundLog(
  directory: StorageDirectory,
  remains: Remains,
  survey: Survey,
  logger: Logger | undefined,
): FoundLog {
  const { findings, gaps, entryCount, tornBytes, closed } = survey;
  const damages = findings.filter(({ kind }) => kind === "damage");
  for (const { segment, offset, message } of damages.slice(0, WARNINGS_MAX)) {
    logger?.warn(`Damage in "${segment}" at offset ${offset}: ${message}`);
  }
  const { logId, formatName, members } = remains;
  const torn = findings.some(({ kind }) => kind === "torn");
  return {
    state: new SalvagedState(directory, remains, survey, logger),
    facts: {
      logId,
      formatName,
      closed: closed && damages.length === 0,
      durableIndex: () => durableIndexOf(directory, survey),
    },
    report: {
      outcome: damages.length > 0 ? "salvaged" : torn ? "torn" : "clean",
      entryCount,
      segmentsScanned: members.length,
      tornBytes,
      gaps,
    },
  };
}

/** The segments of a log with gaps. */
class SalvagedState extends LogState {
  readonly #gaps: readonly Gap[];
  readonly #nextIndex: number;
  readonly #entryCount: number;

  constructor(
    directory: StorageDirectory,
    remains: Remains,
    survey: Survey,
    logger: Logger | undefined,
  ) {
    const { kept, firstIndex, nextIndex, entryCount, gaps } = survey;
    const first = remains.members[0]!;
    super({
      // A log of which nothing can be read has one segment without entries.
      segments: kept.length === 0
        ? [emptySegment(directory, first, firstIndex)]
        : kept.map((one) => segmentOf(directory, one)),
      firstIndex,
      generation: 0,
      nextSegment: remains.members.at(-1)!.number + 1,
      damaged: warnOfIndex(logger),
    });
    this.#gaps = gaps;
    this.#nextIndex = nextIndex;
    this.#entryCount = entryCount;
  }

  /** The index that the next entry would get. */
  override get nextIndex(): number {
    return this.#nextIndex;
  }

  /** How many entries can be read. */
  override get entryCount(): number {
    return this.#entryCount;
  }

  /** The segment that holds entry `index`; throws when that is lost. */
  override holding(index: number): Segment {
    const gap = gapAt(this.#gaps, index);
    if (gap === undefined) return super.holding(index);
    const { segment, offset, firstLostIndex, lastLostIndex } = gap;
    const range = firstLostIndex === lastLostIndex
      ? "it is lost"
      : `entries ${firstLostIndex} to ${lastLostIndex} are lost`;
    throw new WalCorruptedError(
      `Cannot read entry ${index}: ${range}, "${segment}" is damaged at ` +
        `offset ${offset}, expected sound frames; go on from entry ` +
        `${lastLostIndex + 1}`,
      gap,
    );
  }
}

/** The gap that holds `index`; gaps are in order. */
function gapAt(gaps: readonly Gap[], index: number): Gap | undefined {
  let low = 0;
  let high = gaps.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (gaps[middle]!.lastLostIndex < index) low = middle + 1;
    else high = middle;
  }
  const gap = gaps[low];
  return gap !== undefined && gap.firstLostIndex <= index ? gap : undefined;
}

function segmentOf(directory: StorageDirectory, kept: Kept): Segment {
  const { reading, nextIndex, end } = kept;
  const { name, identity, link } = reading.member;
  const baseIndex = link?.baseIndex ?? baseOf(reading) ?? kept.firstIndex;
  const member = { name, identity, link: link ?? madeLink(baseIndex) };
  const segment = new Segment(directory, member, end, nextIndex - 1);
  const whole = link !== undefined &&
    reading.parts.every(({ kind }) => kind === "piece");
  if (!whole) {
    segment.offsetsOf = (file) => offsetsOf(file, reading, baseIndex);
  }
  return segment;
}

/** The first index of a segment whose link is lost, told by its first frame. */
function baseOf({ parts }: Reading): number | undefined {
  const first = parts[0];
  const told = first?.kind === "piece" && first.offset === HEADER_BYTES;
  return told ? first.firstIndex : undefined;
}

function emptySegment(
  directory: StorageDirectory,
  { name, identity }: Member,
  firstIndex: number,
): Segment {
  const member = { name, identity, link: madeLink(firstIndex) };
  return new Segment(directory, member, HEADER_BYTES, firstIndex - 1);
}

/** A link that says no more than where the entries begin. */
function madeLink(baseIndex: number): Link {
  return {
    baseIndex,
    previousNumber: 0,
    previousSalt: 0,
    previousEnd: 0,
    previousLastIndex: baseIndex - 1,
    generation: 0,
    mark: NOWHERE,
    cause: 0,
  };
}

/** Where each entry of a damaged segment begins; 0 for those that are lost. */
function offsetsOf(
  file: StorageFile,
  { member, bounds }: Reading,
  baseIndex: number,
): Uint32Array<ArrayBuffer> {
  const walk = new FrameWalk(file, member.identity, bounds!);
  let offsets = new Uint32Array(1024);
  let count = 0;
  while (walk.next()) {
    const { flags, nextIndex, frameOffset } = walk.frame;
    const ordinal = nextIndex - 1 - baseIndex;
    if ((flags & FLAG.entry) === 0 || ordinal < 0) continue;
    // What a file says must not make it larger than the file can hold.
    if (ordinal > member.identity.segmentBytes / FRAME_HEADER_BYTES) break;
    if (ordinal >= offsets.length) {
      const grown = new Uint32Array(2 * (ordinal + 1));
      grown.set(offsets);
      offsets = grown;
    }
    offsets[ordinal] = frameOffset;
    count = Math.max(count, ordinal + 1);
  }
  return offsets.slice(0, count);
}

/** The last entry that a durable mark vouches for. */
function durableIndexOf(
  directory: StorageDirectory,
  { kept, durable, nextIndex }: Survey,
): number {
  if (durable.number === Infinity) return nextIndex - 1;
  const before = kept.filter(({ reading }) =>
    reading.member.number <= durable.number
  );
  const last = before.at(-1);
  if (last === undefined) return 0;
  const { member, parts } = last.reading;
  if (member.number < durable.number) return last.nextIndex - 1;
  const pieces = parts.filter((part): part is Piece => part.kind === "piece");
  const piece = pieces.findLast((one) => one.offset <= durable.offset);
  if (piece === undefined) return last.firstIndex - 1;
  const file = directory.open(member.name, "read");
  if (file === undefined) return 0;
  try {
    const { offset, firstIndex } = piece;
    const start = { offset, nextIndex: firstIndex };
    const limit = Math.min(durable.offset, piece.end);
    const scanner = new FrameScanner(file, member.identity, start, limit);
    while (scanner.next());
    return Math.min(scanner.nextIndex, piece.nextIndex) - 1;
  } finally {
    file.close();
  }
}
