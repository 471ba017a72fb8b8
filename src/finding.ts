/**
 * What a verification says is wrong, in words.
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

/** Damage in a place, and the entries that it takes; undefined for none. */
export function damage(
  found: { segment: string; offset: number; message: string },
  lost:
    | { firstLostIndex: number; lastLostIndex: number; atLeast: boolean }
    | undefined,
): Finding {
  const { segment, offset } = found;
  if (lost === undefined) {
    const message = `no entry is lost: ${found.message}`;
    return lossless("damage", { segment, offset, message });
  }
  const { firstLostIndex, lastLostIndex, atLeast } = lost;
  const what = firstLostIndex === lastLostIndex
    ? `entry ${firstLostIndex} is lost`
    : `entries ${firstLostIndex} to ${lastLostIndex} are lost`;
  const message = `${atLeast ? "at least " : ""}${what}: ${found.message}`;
  const kind = "damage";
  return { kind, segment, offset, firstLostIndex, lastLostIndex, message };
}
