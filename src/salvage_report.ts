/**
 * What a salvage says in the folder of its new log: first that it began there,
 * so that the same call may go on, and at last what was lost and where the
 * rest is now.
 *
 * @module
 */

import type { Gap } from "./damage.ts";
import { StorageError } from "./errors.ts";
import { TEMPORARY_EXTENSION } from "./format.ts";
import { createFresh } from "./fresh_file.ts";
import { missingLog } from "./look.ts";
import { REPAIR_MODES } from "./repair_log.ts";
import type { Steps } from "./steps.ts";
import type { StorageDirectory, StoragePort } from "./storage.ts";
import type { Survey } from "./survey.ts";

/** The report's name in the new folder. */
export const SALVAGE_REPORT = "salvage.json";

const TEMPORARY_REPORT = SALVAGE_REPORT + TEMPORARY_EXTENSION;

/** Entries that follow each other, and where they are in the new log. */
export interface MovedRange {
  /** The first entry's old index. */
  readonly firstIndex: number;
  /** The last entry's old index. */
  readonly lastIndex: number;
  /** The first entry's new index. */
  readonly newFirstIndex: number;
}

/** What a salvage wrote. */
export interface SalvageCopy {
  /** The new log's folder. */
  readonly directory: string;
  /** Entries in it. */
  readonly entryCount: number;
  /** Of them, those that were there already. */
  readonly foundCount: number;
  /** What could not be read. */
  readonly gaps: readonly Gap[];
  /** Where the entries are now. */
  readonly ranges: readonly MovedRange[];
}

/** Whence the entries came. */
interface Origin {
  readonly from: string;
  readonly logId: string;
}

/**
 * Makes the new log's folder, or takes it over where a salvage of the same
 * log was cut off; throws when anything else is in it.
 */
export function* claimTarget(
  storage: StoragePort,
  target: string,
  from: string,
  logId: string,
): Steps<void> {
  const modes = { ...REPAIR_MODES, create: true };
  const folder = storage.openDirectory(target, modes);
  if (folder === undefined) throw missingLog("salvage into", target);
  try {
    const names = folder.list().map(({ name }) => name)
      .filter((name) => name !== TEMPORARY_REPORT);
    if (names.includes(SALVAGE_REPORT) && begunFor(folder) === logId) return;
    if (names.length > 0) {
      const what = folder.path === from
        ? "it is the damaged log's own folder"
        : `it holds "${names.sort()[0]}"`;
      throw new StorageError(
        `Cannot salvage into "${target}": ${what}, expected a new or empty ` +
          `folder`,
        { operation: "salvage", path: folder.path, systemCode: "ENOTEMPTY" },
      );
    }
    yield* replaceReport(folder, { finished: false, from, logId });
  } finally {
    folder.close();
  }
}

/** The log that a salvage into this folder was begun for. */
function begunFor(folder: StorageDirectory): unknown {
  const file = folder.open(SALVAGE_REPORT, "read");
  if (file === undefined) return undefined;
  try {
    const bytes = new Uint8Array(file.bytes);
    file.readAt(bytes, 0);
    return JSON.parse(new TextDecoder().decode(bytes))?.logId;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  } finally {
    file.close();
  }
}

/** What the report at the end tells. */
export interface ReportParts extends Origin {
  /** The format's name. */
  readonly format: string;
  /** When it ended, ISO 8601. */
  readonly time: string;
  /** What was written. */
  readonly copy: SalvageCopy;
  /** What was found in the damaged log. */
  readonly survey: Survey;
}

/** Says in the new folder what was lost, and where the rest is now. */
export function* writeReport(
  storage: StoragePort,
  target: string,
  { from, logId, format, time, copy, survey }: ReportParts,
): Steps<void> {
  const folder = storage.openDirectory(target, REPAIR_MODES);
  if (folder === undefined) throw missingLog("report on", target);
  const ranges = copy.ranges.map(({ firstIndex, lastIndex, newFirstIndex }) => {
    const newLastIndex = newFirstIndex + lastIndex - firstIndex;
    return {
      oldFirstIndex: firstIndex,
      oldLastIndex: lastIndex,
      newFirstIndex,
      newLastIndex,
    };
  });
  try {
    yield* replaceReport(folder, {
      finished: true,
      from,
      logId,
      format,
      time,
      entryCount: copy.entryCount,
      oldFirstIndex: survey.firstIndex,
      oldNextIndex: survey.nextIndex,
      ranges,
      gaps: copy.gaps,
      findings: survey.findings,
    });
  } finally {
    folder.close();
  }
}

function* replaceReport(
  folder: StorageDirectory,
  report: { readonly finished: boolean } & Origin & Record<string, unknown>,
): Steps<void> {
  const text = `${JSON.stringify(report, undefined, 2)}\n`;
  const bytes = new TextEncoder().encode(text);
  const file = createFresh(folder, TEMPORARY_REPORT, bytes.length);
  try {
    file.writeAt(bytes, 0);
    yield [file];
  } finally {
    file.close();
  }
  folder.rename(TEMPORARY_REPORT, SALVAGE_REPORT);
  yield [folder];
}
