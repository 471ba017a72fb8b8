/**
 * The check of what callers pass to the methods of an open log.
 *
 * @module
 */

import { IndexOutOfRangeError, WalClosedError } from "./errors.ts";
import { checkNames, show } from "./checks.ts";

/** How one append differs from the log's options. */
export interface AppendOptions {
  /** Already aborted: nothing is written. Later aborts change nothing. */
  signal?: AbortSignal | undefined;
  /** The index that the first entry must get. */
  expectedIndex?: number | undefined;
  /** Wait for a sync, or not, whatever `sync` says. */
  durable?: boolean | undefined;
}

/** The names of append options. */
export const APPEND_OPTIONS: readonly string[] = [
  "signal",
  "expectedIndex",
  "durable",
];

/** Append options, read once: their getters are the caller's program. */
export interface AskedAppend {
  /** The index that the first entry must get. */
  readonly expectedIndex: number | undefined;
  /** Whether to wait for a sync. */
  readonly durable: boolean | undefined;
}

/** Reads append options; throws the signal's reason if it is aborted. */
export function readAppendOptions(
  options: AppendOptions | undefined,
): AskedAppend | undefined {
  if (options === undefined) return undefined;
  if (typeof options !== "object" || options === null) {
    throw new TypeError(
      `Cannot append: options is ${show(options)}, expected an object`,
    );
  }
  checkNames("append options", options, APPEND_OPTIONS);
  const { signal, expectedIndex, durable } = options;
  if (signal !== undefined) {
    if (typeof signal?.throwIfAborted !== "function") {
      throw new TypeError(
        `Cannot append: signal is ${show(signal)}, expected an AbortSignal`,
      );
    }
    signal.throwIfAborted();
  }
  if (durable !== undefined && typeof durable !== "boolean") {
    throw new TypeError(
      `Cannot append: durable is ${show(durable)}, expected a boolean`,
    );
  }
  return { expectedIndex, durable };
}

/** Checks that a batch is something to iterate over, and not one entry. */
export function checkIterable(entries: unknown): void {
  const iterable = entries as Iterable<unknown> | null | undefined;
  const single = typeof entries === "string" || entries instanceof Uint8Array;
  if (!single && typeof iterable?.[Symbol.iterator] === "function") return;
  throw new TypeError(
    `Cannot append batch: entries is ${show(entries)}, expected an iterable ` +
      `of entries${single ? "; use append for one" : ""}`,
  );
}

/** Checks that `value` is a whole number. */
export function checkWhole(what: string, name: string, value: unknown): void {
  if (Number.isSafeInteger(value)) return;
  const expected = "expected a whole number";
  const message = `Cannot ${what}: ${name} is ${show(value)}, ${expected}`;
  throw typeof value === "number"
    ? new RangeError(message)
    : new TypeError(message);
}

/** What a log's error messages say of it. */
export interface Bounds {
  /** The first entry's index; 0 while the log is empty. */
  readonly firstIndex: number;
  /** The last entry's index; 0 while the log is empty. */
  readonly lastIndex: number;
  /** The index that the next entry gets. */
  readonly nextIndex: number;
}

/** Throws `IndexOutOfRangeError` unless `index` lies within `allowed`. */
export function checkBounds(
  log: Bounds,
  what: string,
  index: number,
  allowed: { least: number; most: number },
): void {
  if (index >= allowed.least && index <= allowed.most) return;
  throw outOfRange(log, what, index);
}

/** The error for an index that no entry has. */
export function outOfRange(
  log: Bounds,
  what: string,
  index: number,
): IndexOutOfRangeError {
  const { firstIndex, lastIndex, nextIndex } = log;
  const first = firstIndex === 0 ? nextIndex : firstIndex;
  const removed = index >= 1 && index < first;
  const holds = firstIndex === 0
    ? `the log is empty, its next index is ${nextIndex}`
    : `the log holds ${firstIndex} to ${lastIndex}`;
  const why = removed ? "it was removed, " : "";
  return new IndexOutOfRangeError(`Cannot ${what}: ${why}${holds}`, {
    index,
    firstIndex,
    lastIndex,
    reason: removed ? "removed" : "absent",
  });
}

/** The error for a call after close. */
export function closedError(directory: string): WalClosedError {
  return new WalClosedError(
    `Cannot use log "${directory}": it is closed, expected an open one`,
  );
}
