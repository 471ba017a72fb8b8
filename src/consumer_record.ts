/**
 * A consumer's position as bytes: a file has two such records, and the newer
 * sound one counts. Pure: bytes in, values out. docs/format.md §9.
 *
 * @module
 */

import { assert } from "./assert.ts";
import { crc32 } from "./crc32.ts";
import {
  getNumber,
  hasMagic,
  hex,
  isZero,
  setHex,
  setSafe,
  viewOf,
} from "./fields.ts";
import {
  CONSUMER,
  CONSUMER_FILE_BYTES,
  CONSUMER_MAGIC,
  CONSUMER_RECORD_BYTES,
  CONSUMER_RECORD_OFFSETS,
  FORMAT_VERSION,
  LOG_ID_BYTES,
  NUMBER_MAX,
} from "./format.ts";

/** Where a consumer stands. */
export interface PositionRecord {
  /** Rises with each record: the highest sound one counts. */
  readonly sequence: number;
  /** The last entry that was acknowledged. */
  readonly position: number;
  /** How often the log's end had been cut back then. */
  readonly generation: number;
}

/** What a consumer's file turned out to be. */
export type PositionVerdict =
  | {
    readonly kind: "valid";
    readonly record: PositionRecord;
    /** Which of the two records it is. */
    readonly slot: number;
  }
  | { readonly kind: "version"; readonly version: number }
  | { readonly kind: "invalid" };

/** Whose position it is: records of other consumers and logs never validate. */
export interface PositionOwner {
  /** The log's id, hex. */
  readonly logId: string;
  /** The consumer's name. */
  readonly name: string;
}

/** Whether a consumer may have this name. */
export function isConsumerName(name: string): boolean {
  return /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/.test(name);
}

/** One record's bytes. */
export function encodePosition(
  record: PositionRecord,
  owner: PositionOwner,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(CONSUMER_RECORD_BYTES);
  const view = viewOf(bytes);
  bytes.set(CONSUMER_MAGIC, CONSUMER.magic);
  view.setUint32(CONSUMER.version, FORMAT_VERSION, true);
  view.setUint32(CONSUMER.bytes, CONSUMER_RECORD_BYTES, true);
  setHex(bytes, CONSUMER.logId, owner.logId);
  setSafe(view, CONSUMER.sequence, record.sequence);
  setSafe(view, CONSUMER.position, record.position);
  setSafe(view, CONSUMER.generation, record.generation);
  view.setUint32(CONSUMER.crc, recordCrc(bytes, owner), true);
  const back = decodeRecord(bytes, owner);
  const same = typeof back === "object" && back.position === record.position &&
    back.sequence === record.sequence && back.generation === record.generation;
  assert(same, "a position must read back as written");
  return bytes;
}

/** Reads a consumer's file. */
export function decodePosition(
  bytes: Uint8Array<ArrayBuffer>,
  owner: PositionOwner,
): PositionVerdict {
  if (bytes.length !== CONSUMER_FILE_BYTES) return { kind: "invalid" };
  let best: PositionVerdict = { kind: "invalid" };
  for (const [slot, offset] of CONSUMER_RECORD_OFFSETS.entries()) {
    const end = offset + CONSUMER_RECORD_BYTES;
    const found = decodeRecord(bytes.subarray(offset, end), owner);
    if (found === undefined) continue;
    if (typeof found === "number") return { kind: "version", version: found };
    // What is read leaves room to count on from.
    const { sequence, generation } = found;
    if (Math.max(sequence, generation) > NUMBER_MAX) continue;
    const newer = best.kind !== "valid" ||
      sequence > best.record.sequence;
    if (newer) best = { kind: "valid", record: found, slot };
  }
  return best;
}

/** The record, or the version of a newer one. */
function decodeRecord(
  bytes: Uint8Array<ArrayBuffer>,
  owner: PositionOwner,
): PositionRecord | number | undefined {
  if (!hasMagic(bytes, CONSUMER.magic, CONSUMER_MAGIC)) return undefined;
  const view = viewOf(bytes);
  const crc = view.getUint32(CONSUMER.crc, true);
  if (crc !== recordCrc(bytes, owner)) return undefined;
  const version = view.getUint32(CONSUMER.version, true);
  if (version > FORMAT_VERSION) return version;
  const logIdEnd = CONSUMER.logId + LOG_ID_BYTES;
  const record = {
    sequence: getNumber(view, CONSUMER.sequence),
    position: getNumber(view, CONSUMER.position),
    generation: getNumber(view, CONSUMER.generation),
  };
  const wellFormed = version === FORMAT_VERSION &&
    view.getUint32(CONSUMER.bytes, true) === CONSUMER_RECORD_BYTES &&
    isZero(bytes, CONSUMER.reserved, CONSUMER.crc) &&
    hex(bytes.subarray(CONSUMER.logId, logIdEnd)) === owner.logId &&
    record.sequence >= 1 && record.position >= 0 && record.generation >= 0;
  return wellFormed ? record : undefined;
}

/** Seeded with the name, so that a file under another name never validates. */
function recordCrc(
  bytes: Uint8Array<ArrayBuffer>,
  owner: PositionOwner,
): number {
  const name = new TextEncoder().encode(owner.name);
  return crc32(bytes.subarray(0, CONSUMER.crc), crc32(name));
}
