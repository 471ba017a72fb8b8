/**
 * What a verification says is wrong, in words: made from errors, and from
 * holes that a durable mark vouches for.
 *
 * @module
 */

import type { WalCorruptedError } from "./errors.ts";

/** Something that is not as it should be. */
export interface Finding {
  /**
   * "damage": entries or proofs that were made durable are wrong. "torn": an
   * unfinished write, which the next opening cuts. "index": an index, footer
   * or spare header is wrong, all entries can be read.
   */
  readonly kind: "damage" | "torn" | "index";
  /** The file's path. */
  readonly segment: string;
  /** Where in the file. */
  readonly offset: number;
  /** The first entry that is lost; 0 when none is, or it is not known. */
  readonly firstLostIndex: number;
  /** The last entry that is lost; 0 when none is, or it is not known. */
  readonly lastLostIndex: number;
  /** What was found and what was expected. */
  readonly message: string;
}

/** Bytes that are no frame where one must be, if a mark vouches for them. */
export interface Hole {
  /** The segment's number. */
  readonly number: number;
  /** The segment's path. */
  readonly segment: string;
  /** Where it begins. */
  readonly offset: number;
  /** A mark behind this offset vouches for what is missing. */
  readonly vouchedFrom: number;
  /** The first entry that is missing. */
  readonly firstLostIndex: number;
  /** Below `firstLostIndex` when no entry is missing. */
  readonly lastLostIndex: number;
  /** What was found and what was expected. */
  readonly message: string;
}

/** A finding that loses no entry. */
export function lossless(
  kind: Finding["kind"],
  fault: { segment: string; offset: number; message: string },
): Finding {
  const { segment, offset, message } = fault;
  const none = { firstLostIndex: 0, lastLostIndex: 0 };
  return { kind, segment, offset, ...none, message };
}

/** The damage that kept a log from being opened. */
export function damageOfError(error: WalCorruptedError): Finding {
  const { segment, offset, firstLostIndex, lastLostIndex } = error;
  const message = error.message.replace(/^Cannot open log: /, "");
  const kind = "damage";
  return { kind, segment, offset, firstLostIndex, lastLostIndex, message };
}

/** The damage of a hole; undefined when it took only what was removed. */
export function damageOfHole(
  hole: Hole,
  firstIndex: number,
): Finding | undefined {
  const { segment, offset, lastLostIndex } = hole;
  if (lastLostIndex < hole.firstLostIndex) {
    const message = `no entry is lost: ${hole.message}`;
    return lossless("damage", { segment, offset, message });
  }
  if (lastLostIndex < firstIndex) return undefined;
  const firstLostIndex = Math.max(hole.firstLostIndex, firstIndex);
  const what = firstLostIndex === lastLostIndex
    ? `entry ${firstLostIndex} is lost`
    : `entries ${firstLostIndex} to ${lastLostIndex} are lost`;
  const message = `${what}: ${hole.message}`;
  const kind = "damage";
  return { kind, segment, offset, firstLostIndex, lastLostIndex, message };
}
