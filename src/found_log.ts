/**
 * What opening a log to look at it has found, sound or damaged.
 *
 * @module
 */

import type { Logger } from "./logger.ts";
import type { LogState } from "./log_state.ts";
import type { RecoveryReport } from "./report.ts";

/** What is known of a log that is only looked at, besides its entries. */
export interface LogFacts {
  /** The log's random id, hex. */
  readonly logId: string;
  /** The log's format name. */
  readonly formatName: string;
  /** Whether it was closed, and nothing was written since. */
  readonly closed: boolean;
  /** The last entry that a durable mark vouches for; asked once. */
  durableIndex(): number;
}

/** A log, and how it was found. */
export interface FoundLog {
  /** Its segments. */
  readonly state: LogState;
  /** What else is known of it. */
  readonly facts: LogFacts;
  /** How it was found. */
  readonly report: Omit<RecoveryReport, "ms" | "savedPath">;
}

/** Tells that an index is damaged: later, for it shows in a read. */
export function warnOfIndex(
  logger: Logger | undefined,
): (path: string) => void {
  return (path) =>
    queueMicrotask(() =>
      logger?.warn(`The index of "${path}" is damaged; its frames are read`)
    );
}
