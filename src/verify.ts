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

import { SegmentNotFoundError, WalCorruptedError } from "./errors.ts";
import { damageOfError, type Finding } from "./finding.ts";
import { lookAtLog } from "./look.ts";
import { readRemains, type Remains } from "./remains.ts";
import type { StorageDirectory } from "./storage.ts";
import { type Survey, surveyLog, type SurveyProgress } from "./survey.ts";

/** What a verification found. */
export interface VerifyReport {
  /** Everything that is wrong, in order; empty for a sound log. */
  readonly findings: readonly Finding[];
  /** Entries that can be read. */
  readonly entryCount: number;
  /** Entries that cannot. */
  readonly lostCount: number;
  /** Segments of the log. */
  readonly segmentCount: number;
  /** Bytes of frames read. */
  readonly bytes: number;
  /** Whether opening for writing takes the log as it is. */
  readonly opens: boolean;
}

/** What is left of a log, and all that was found in it. */
export interface Examination {
  /** The files. */
  readonly remains: Remains;
  /** What is in them. */
  readonly survey: Survey;
}

/** Reads the whole log in `directory`; yields how far it is. */
export function* verifyLog(
  directory: StorageDirectory,
): Generator<SurveyProgress, VerifyReport> {
  try {
    const { remains, survey } = yield* examineLog(directory);
    const { findings, entryCount, bytes, nextIndex, firstIndex } = survey;
    const lostCount = nextIndex - firstIndex - entryCount;
    const segmentCount = remains.members.length;
    const opens = opensAsItIs(directory);
    return { findings, entryCount, lostCount, segmentCount, bytes, opens };
  } catch (error) {
    if (!(error instanceof WalCorruptedError)) throw error;
    const findings = [damageOfError(error)];
    const none = { entryCount: 0, lostCount: 0, segmentCount: 0, bytes: 0 };
    return { findings, ...none, opens: false };
  }
}

/** Reads all that is left of the log in `directory`. */
export function* examineLog(
  directory: StorageDirectory,
): Generator<SurveyProgress, Examination> {
  const remains = readRemains(directory);
  if (remains === undefined) {
    const { path } = directory;
    throw new SegmentNotFoundError(
      `Cannot verify log "${path}": there is no manifest, expected a log's ` +
        `folder`,
      { path },
    );
  }
  const survey = yield* surveyLog(directory, remains, { checkIndex: true });
  return { remains, survey };
}

/** Whether opening for writing takes the log as it is; changes nothing. */
export function opensAsItIs(directory: StorageDirectory): boolean {
  try {
    lookAtLog(directory);
    return true;
  } catch (error) {
    if (error instanceof WalCorruptedError) return false;
    throw error;
  }
}
