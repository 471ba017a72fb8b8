/**
 * The options of a reader: the check of every field before any I/O.
 *
 * @module
 */

import { checkNames, isObject, show } from "./checks.ts";
import type { Encoder } from "./encoder.ts";
import type { Logger } from "./logger.ts";
import {
  checkBoolean,
  checkFormat,
  checkLogger,
  checkStorage,
  type ReaderOptions,
} from "./options.ts";
import type { StoragePort } from "./storage.ts";

/** A reader's options with every default filled in. */
export interface CheckedReaderOptions {
  /** The name of the caller's encoder; undefined leaves it to the log. */
  readonly format: string | undefined;
  /** The caller's encoder, if it is a custom one. */
  readonly encoder: Encoder | undefined;
  /** Whether reads give views. */
  readonly zeroCopy: boolean;
  /** Whether reads check. */
  readonly verifyReads: boolean;
  /** Told what the reader finds unasked. */
  readonly logger: Logger | undefined;
  /** The storage asked for. */
  readonly storage: StoragePort | undefined;
  /** Whether a damaged log is opened as far as it is readable. */
  readonly salvage: boolean;
}

const KNOWN = [
  "format",
  "zeroCopy",
  "verifyReads",
  "logger",
  "storage",
  "recovery",
];

/** Checks all options; throws `TypeError` or `RangeError`, before any I/O. */
export function checkReaderOptions(
  options: ReaderOptions | undefined,
): CheckedReaderOptions {
  if (options !== undefined && !isObject(options)) {
    throw new TypeError(
      `Cannot open log: options is ${show(options)}, expected an object`,
    );
  }
  const given: ReaderOptions = options ?? {};
  checkNames("options", given, KNOWN);
  const named: unknown = given.format;
  if (typeof named === "string") {
    throw new TypeError(
      `Cannot open log: format is ${show(named)}, expected an encoder; a ` +
        `reader finds "binary" and "json" by itself`,
    );
  }
  return {
    ...checkFormat(given.format),
    zeroCopy: checkBoolean("zeroCopy", given.zeroCopy),
    verifyReads: checkBoolean("verifyReads", given.verifyReads),
    logger: checkLogger(given.logger),
    storage: checkStorage(given.storage),
    salvage: checkRecovery(given.recovery),
  };
}

function checkRecovery(recovery: unknown): boolean {
  if (recovery === undefined) return false;
  const message = `Cannot open log: recovery is ${show(recovery)}, expected ` +
    `"salvage" or none`;
  if (typeof recovery !== "string") throw new TypeError(message);
  if (recovery !== "salvage") throw new RangeError(message);
  return true;
}
