/**
 * The options of reads that give several entries.
 *
 * @module
 */

import { type Bounds, checkWhole } from "./calls.ts";
import { IndexOutOfRangeError } from "./errors.ts";
import { checkNames, checkZeroCopy, isObject, show } from "./checks.ts";

/** Which entries to iterate over. */
export interface ReadOptions {
  /** The lowest index; the log's first. */
  from?: number | undefined;
  /** The highest index; the log's last. */
  to?: number | undefined;
  /** Begin at `to` and go down. @default {false} */
  reverse?: boolean | undefined;
  /** At most so many entries. */
  limit?: number | undefined;
  /** Views instead of copies; as the log was opened. */
  zeroCopy?: boolean | undefined;
}

const READ_OPTIONS = ["from", "to", "reverse", "limit", "zeroCopy"];

/** The same, checked and filled in. */
export interface AskedRange {
  readonly from: number;
  readonly to: number;
  readonly reverse: boolean;
  readonly limit: number;
  readonly zeroCopy: boolean;
}

/** Reads and checks the options of an iteration. */
export function readRange(
  options: ReadOptions | undefined,
  usual: boolean,
): AskedRange {
  if (
    options !== undefined && (typeof options !== "object" || options === null)
  ) {
    throw new TypeError(
      `Cannot read entries: options is ${show(options)}, expected an object`,
    );
  }
  const given = options ?? {};
  checkNames("read options", given, READ_OPTIONS);
  const { from, to, reverse, limit, zeroCopy } = given;
  if (from !== undefined) checkWhole("read", "from", from);
  if (to !== undefined) checkWhole("read", "to", to);
  if (limit !== undefined) checkWhole("read", "limit", limit);
  if (limit !== undefined && limit < 0) {
    throw new RangeError(
      `Cannot read entries: limit is ${limit}, expected 0 or more`,
    );
  }
  if (reverse !== undefined && typeof reverse !== "boolean") {
    throw new TypeError(
      `Cannot read entries: reverse is ${show(reverse)}, expected a boolean`,
    );
  }
  return {
    from: from ?? 1,
    to: to ?? Infinity,
    reverse: reverse ?? false,
    limit: limit ?? Infinity,
    zeroCopy: checkZeroCopy(zeroCopy) ?? usual,
  };
}

/** Reads and checks the options of a range. */
export function readZeroCopy(
  options: { zeroCopy?: boolean | undefined } | undefined,
  usual: boolean,
): boolean {
  if (options === undefined) return usual;
  if (!isObject(options)) {
    throw new TypeError(
      `Cannot read entries: options is ${show(options)}, expected an object`,
    );
  }
  checkNames("read options", options, ["zeroCopy"]);
  return checkZeroCopy(options.zeroCopy) ?? usual;
}

/** Checks the ends of a range; throws when the first is above the last. */
export function checkOrder(log: Bounds, first: number, last: number): void {
  checkWhole("read", "first", first);
  checkWhole("read", "last", last);
  if (first <= last) return;
  const { firstIndex, lastIndex } = log;
  throw new IndexOutOfRangeError(
    `Cannot read entries ${first} to ${last}: the first is above the last, ` +
      `expected first <= last`,
    { index: first, firstIndex, lastIndex, reason: "absent" },
  );
}
