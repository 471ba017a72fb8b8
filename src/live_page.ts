/**
 * The page that a writer shows to readers while it lives, as bytes: which
 * segments make up the log, behind a sequence number that is odd while they
 * change, and two cells that change alone: where the frames of published
 * batches end, and the last durable entry. Pure. docs/format.md §10.
 *
 * @module
 */

import { crc32 } from "./crc32.ts";
import {
  getNumber,
  getSafe,
  hasMagic,
  hex,
  setHex,
  setSafe,
} from "./fields.ts";
import {
  FORMAT_VERSION,
  HEADER_BYTES,
  LIVE,
  LIVE_BYTES,
  LIVE_MAGIC,
  LIVE_STATE,
  LOG_ID_BYTES,
  SEGMENT_BYTES_MAX,
  SESSION_BYTES,
} from "./format.ts";
import type { Window } from "./frame.ts";

/** Which segments make up a log now. */
export interface LiveChain {
  /** The log's id, hex. */
  readonly logId: string;
  /** The boot of the machine, hex; zeros where it is not known. */
  readonly boot: string;
  /** The writer's random name, hex. */
  readonly session: string;
  /** One of `LIVE_STATE`. */
  readonly state: number;
  /** The first entry that is not removed. */
  readonly firstIndex: number;
  /** How often the log's end was cut back. */
  readonly generation: number;
  /** The growing segment's number. */
  readonly number: number;
  /** Its salt. */
  readonly salt: number;
}

/** Writes all but the sequence and the cells. */
export function encodeChain({ bytes, view }: Window, chain: LiveChain): void {
  bytes.set(LIVE_MAGIC, LIVE.magic);
  view.setUint32(LIVE.version, FORMAT_VERSION, true);
  view.setUint32(LIVE.bytes, LIVE_BYTES, true);
  setHex(bytes, LIVE.logId, chain.logId);
  bytes.fill(0, LIVE.boot, LIVE.session);
  setHex(bytes, LIVE.boot, chain.boot);
  setHex(bytes, LIVE.session, chain.session);
  view.setUint32(LIVE.state, chain.state, true);
  setSafe(view, LIVE.firstIndex, chain.firstIndex);
  setSafe(view, LIVE.generation, chain.generation);
  setSafe(view, LIVE.number, chain.number);
  view.setUint32(LIVE.salt, chain.salt, true);
  view.setUint32(LIVE.crc, chainCrc(bytes), true);
}

/** What the page says of the chain, if it is sound and of this version. */
export function decodeChain({ bytes, view }: Window): LiveChain | undefined {
  if (!hasMagic(bytes, LIVE.magic, LIVE_MAGIC)) return undefined;
  if (view.getUint32(LIVE.crc, true) !== chainCrc(bytes)) return undefined;
  const idAt = (at: number) => hex(bytes.subarray(at, at + SESSION_BYTES));
  const chain: LiveChain = {
    logId: hex(bytes.subarray(LIVE.logId, LIVE.logId + LOG_ID_BYTES)),
    boot: idAt(LIVE.boot),
    session: idAt(LIVE.session),
    state: view.getUint32(LIVE.state, true),
    firstIndex: getSafe(view, LIVE.firstIndex),
    generation: getNumber(view, LIVE.generation),
    number: getNumber(view, LIVE.number),
    salt: view.getUint32(LIVE.salt, true),
  };
  const wellFormed = view.getUint32(LIVE.version, true) === FORMAT_VERSION &&
    view.getUint32(LIVE.bytes, true) === LIVE_BYTES &&
    chain.state <= LIVE_STATE.open && chain.firstIndex >= 1 &&
    chain.generation >= 0 && chain.number >= 1;
  return wellFormed ? chain : undefined;
}

/** The sequence is not covered: it tells that the rest is changing. */
function chainCrc(bytes: Uint8Array<ArrayBuffer>): number {
  const before = crc32(bytes.subarray(0, LIVE.sequence));
  return crc32(bytes.subarray(LIVE.state, LIVE.crc), before);
}

/** The value beside an end: both together are never half of two ends. */
export function endCheck(end: number): number {
  return ~end >>> 0;
}

/** The end in the page; undefined while it is being written. */
export function decodeEnd(view: DataView): number | undefined {
  const end = view.getUint32(LIVE.end, true);
  if (view.getUint32(LIVE.endCheck, true) !== endCheck(end)) return undefined;
  const possible = end >= HEADER_BYTES && end <= SEGMENT_BYTES_MAX &&
    end % 8 === 0;
  return possible ? end : undefined;
}

/** Writes the last durable entry's index. */
export function encodeDurable(view: DataView, index: number): void {
  setSafe(view, LIVE.durable, index);
  view.setUint32(LIVE.durableCheck, durableCheck(view), true);
}

/** The last durable entry; undefined while it is being written. */
export function decodeDurable(view: DataView): number | undefined {
  if (view.getUint32(LIVE.durableCheck, true) !== durableCheck(view)) {
    return undefined;
  }
  const index = getSafe(view, LIVE.durable);
  return index >= 0 ? index : undefined;
}

function durableCheck(view: DataView): number {
  const low = view.getUint32(LIVE.durable, true);
  const high = view.getUint32(LIVE.durable + 4, true);
  return ~(low ^ Math.imul(high, 0x9e3779b1)) >>> 0;
}
