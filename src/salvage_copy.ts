/**
 * Writes what can be read of a damaged log into a new log beside it. The old
 * one is left as it is. In a log indexes have no gaps: entries behind a gap
 * move down, and a report in the new folder says where each went. Cut off by
 * a crash, the same call goes on where it ended.
 *
 * @module
 */

import type { Encoder } from "./encoder.ts";
import type { Entry } from "./entry.ts";
import { StorageError, WalCorruptedError } from "./errors.ts";
import { setHex } from "./fields.ts";
import {
  FLAG,
  SEGMENT_BYTES_MAX,
  SEGMENT_BYTES_MIN,
  TRANSACTION_ID_BYTES,
} from "./format.ts";
import { frameFlags } from "./frame.ts";
import { Staged, stageEntry } from "./input.ts";
import type { LogState } from "./log_state.ts";
import { missingLog } from "./look.ts";
import { openSteps } from "./open.ts";
import { checkOptions, defaultOptions } from "./options.ts";
import { readRemains } from "./remains.ts";
import { examine, REPAIR_MODES, type TellProgress } from "./repair_log.ts";
import { foundLog } from "./salvage.ts";
import {
  claimTarget,
  type MovedRange,
  type SalvageCopy,
  writeReport,
} from "./salvage_report.ts";
import { openFound, type StillLog } from "./still_log.ts";
import type { Steps } from "./steps.ts";
import type {
  StorageDirectory,
  StorageLock,
  StoragePort,
  Syncable,
} from "./storage.ts";
import type { Examination } from "./verify.ts";
import { type Wal, walInternals } from "./wal.ts";

/** So much may be written ahead of a sync. */
const UNSYNCED_BYTES_MAX = 8 * 1024 * 1024;
/** What a log that was written may hold. */
const ENTRY_BYTES_MAX = SEGMENT_BYTES_MAX - 64 * 1024;

/** What is salvaged, and whereto. */
export interface SalvageParts {
  /** The storage of both logs. */
  readonly storage: StoragePort;
  /** The damaged log. */
  readonly source: string;
  /** The new log's folder: missing, empty, or of the same call before. */
  readonly target: string;
  /** The encoder of a format other than "binary" and "json". */
  readonly encoder?: Encoder | undefined;
  /** Told how far the reading is. */
  readonly tell?: TellProgress | undefined;
  /** Told how many entries are written, of how many. */
  readonly tellCopied?: ((done: number, total: number) => void) | undefined;
}

/** Writes what can be read of `source` into a new log in `target`. */
export function* salvageInto(parts: SalvageParts): Steps<SalvageCopy> {
  const { storage, source, tell } = parts;
  const startNs = storage.clock.monotonicNs();
  const directory = storage.openDirectory(source, REPAIR_MODES);
  if (directory === undefined) throw missingLog("salvage", source);
  let lock: StorageLock | undefined;
  let log: StillLog | undefined;
  try {
    if (readRemains(directory) === undefined) {
      throw missingLog("salvage", source);
    }
    lock = lockWhereWritable(directory);
    const examination = examine(directory, tell);
    const { remains, survey } = examination;
    const found = foundLog(directory, remains, survey, undefined);
    if (survey.entryCount === 0) throw nothingLeft(directory.path);
    const { encoder } = parts;
    const format = encoder?.name;
    log = openFound(storage, directory, found, { encoder, format }, startNs);
    yield* claimTarget(storage, parts.target, directory.path, remains.logId);
    const copy = { ...parts, log, state: found.state, examination };
    return yield* writeCopy(copy);
  } finally {
    lock?.release();
    if (log === undefined) directory.close();
    else log.closeSync();
  }
}

function nothingLeft(segment: string): WalCorruptedError {
  const lost = { offset: 0, firstLostIndex: 0, lastLostIndex: 0 };
  return new WalCorruptedError(
    `Cannot salvage log "${segment}": none of its entries can be read, ` +
      `expected at least one`,
    { segment, ...lost },
  );
}

/** Where nobody can write, nobody writes: a read-only disk needs no lock. */
function lockWhereWritable(
  directory: StorageDirectory,
): StorageLock | undefined {
  try {
    return directory.lock();
  } catch (error) {
    const codes = ["EROFS", "EACCES", "EPERM"];
    const refused = error instanceof StorageError &&
      codes.includes(error.systemCode ?? "");
    if (!refused) throw error;
    return undefined;
  }
}

interface CopyParts extends SalvageParts {
  readonly log: StillLog;
  readonly state: LogState;
  readonly examination: Examination;
}

function* writeCopy(parts: CopyParts): Steps<SalvageCopy> {
  const { storage, target, encoder, log, examination } = parts;
  const { remains, survey } = examination;
  const { formatName } = remains;
  const own = formatName === "binary" || formatName === "json";
  const sizes = remains.members.map(({ identity }) => identity.segmentBytes);
  const options = checkOptions({
    sync: "never",
    format: own ? formatName : encoder,
    maxEntryBytes: ENTRY_BYTES_MAX,
    segmentBytes: Math.min(
      defaultOptions.segmentBytes!,
      Math.max(SEGMENT_BYTES_MIN, ...sizes),
    ),
  });
  const ranges = movedRanges(survey);
  const wal = yield* openSteps(storage, target, options);
  let foundCount: number;
  try {
    foundCount = yield* copyEntries(parts, wal, ranges);
  } finally {
    // What was written stays: the same call goes on from there.
    yield [closingOf(wal)];
  }
  const { entryCount, gaps } = survey;
  const copy = {
    directory: wal.directory,
    entryCount,
    foundCount,
    gaps,
    ranges,
  };
  yield* writeReport(storage, target, {
    from: log.directory,
    logId: remains.logId,
    format: formatName,
    time: new Date(storage.clock.nowMs()).toISOString(),
    copy,
    survey,
  });
  return copy;
}

/** Where the entries between the gaps go: they follow each other. */
function movedRanges(
  survey: Pick<Examination["survey"], "firstIndex" | "nextIndex" | "gaps">,
): MovedRange[] {
  const ranges: MovedRange[] = [];
  const { firstIndex, nextIndex, gaps } = survey;
  let from = firstIndex;
  let newFirst: number | undefined;
  const end = { firstLostIndex: nextIndex, lastLostIndex: nextIndex };
  for (const { firstLostIndex, lastLostIndex } of [...gaps, end]) {
    if (firstLostIndex > from) {
      // The first ones keep their indexes.
      const newFirstIndex: number = newFirst ?? from;
      const lastIndex = firstLostIndex - 1;
      ranges.push({ firstIndex: from, lastIndex, newFirstIndex });
      newFirst = newFirstIndex + firstLostIndex - from;
    }
    from = lastLostIndex + 1;
  }
  return ranges;
}

/** Copies what is not there yet; returns how many entries were. */
function* copyEntries(
  { log, state, tellCopied }: CopyParts,
  wal: Wal,
  ranges: readonly MovedRange[],
): Steps<number> {
  const begin = ranges[0]?.newFirstIndex ?? 1;
  if (wal.length === 0 && wal.nextIndex === 1 && begin > 1) {
    wal.resetSync(begin);
  }
  const foundCount = wal.nextIndex - begin;
  if (foundCount < 0 || (wal.firstIndex || begin) !== begin) throw foreign(wal);
  const total = log.length;
  if (foundCount > total) throw foreign(wal);
  const batch = new BatchCopy(log, state);
  let done = 0;
  for (const { firstIndex, lastIndex, newFirstIndex } of ranges) {
    for (let index = firstIndex; index <= lastIndex; index++) {
      const newIndex = newFirstIndex + index - firstIndex;
      done++;
      if (newIndex < begin + foundCount) {
        if (!isSame(wal.get(newIndex), log.get(index))) throw foreign(wal);
        continue;
      }
      if (batch.add(index, index === lastIndex)) {
        batch.writeTo(wal);
        tellCopied?.(done, total);
      }
      if (batch.bytesWritten > UNSYNCED_BYTES_MAX) {
        batch.bytesWritten = 0;
        yield [syncingOf(wal)];
      }
    }
  }
  return foundCount;
}

function foreign(wal: Wal): StorageError {
  return new StorageError(
    `Cannot salvage into "${wal.directory}": its entries are not those of the ` +
      `damaged log, expected a new or empty folder`,
    { operation: "salvage", path: wal.directory, systemCode: "EEXIST" },
  );
}

function isSame(a: Entry, b: Entry): boolean {
  return a.term === b.term && a.timestampNs === b.timestampNs &&
    a.transactionId === b.transactionId &&
    a.data.length === b.data.length && a.checksum === b.checksum;
}

/** Collects the entries of one batch, and writes them as one. */
class BatchCopy {
  /** Bytes written since this was set. */
  bytesWritten = 0;
  readonly #log: StillLog;
  readonly #state: LogState;
  #staged: Staged[] = [];
  #transactionId: Uint8Array<ArrayBuffer> | undefined;

  constructor(log: StillLog, state: LogState) {
    this.#log = log;
    this.#state = state;
  }

  /** Adds an entry; true when its batch is complete. */
  add(index: number, last: boolean): boolean {
    const entry = this.#log.get(index);
    const { data, term, timestampNs, transactionId } = entry;
    const staged = new Staged();
    stageEntry({ data, term, timestampNs }, ENTRY_BYTES_MAX, staged);
    this.#staged.push(staged);
    this.#transactionId = transactionId === undefined
      ? undefined
      : bytesOf(transactionId);
    // A truncation may have ended a batch where its segment ends.
    const segment = this.#state.holding(index);
    const at = segment.locateFrame(index, false);
    const flags = frameFlags(segment.file.window.view, at);
    return (flags & FLAG.batchContinues) === 0 || last ||
      index === segment.lastIndex;
  }

  writeTo(wal: Wal): void {
    const staged = this.#staged;
    this.#staged = [];
    const appends = walInternals().appendsOf(wal);
    const id = this.#transactionId;
    for (const { payloadBytes } of staged) this.bytesWritten += payloadBytes;
    appends.settleSync(appends.writeBatch(staged, undefined, id));
  }
}

/** The bytes that a transaction's id shows. */
function bytesOf(transactionId: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(TRANSACTION_ID_BYTES);
  setHex(bytes, 0, transactionId.slice("tx_".length));
  return bytes;
}

function syncingOf(wal: Wal): Syncable {
  return {
    sync: () => wal.flushSync(),
    syncSoon: (done) => void wal.flush().then(() => done(), done),
  };
}

function closingOf(wal: Wal): Syncable {
  return {
    sync: () => wal.closeSync(),
    syncSoon: (done) => void wal.close().then(() => done(), done),
  };
}
