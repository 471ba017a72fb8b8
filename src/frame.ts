/**
 * A frame's bytes: one entry, or a watermark. docs/format.md §4.
 *
 * Writes frames into any memory and decides whether bytes are a valid frame.
 * Never allocates per frame and never trusts a length before it is checked.
 *
 * @module
 */

import { assert } from "./assert.ts";
import { crc32, crc32Range, crcBegin, crcEnd, crcWord } from "./crc32.ts";
import { getSafe, lengthOf } from "./fields.ts";
import {
  alignFrame,
  FLAG,
  FRAME,
  FRAME_HEADER_BYTES,
  HEADER_BYTES,
  MARK_BACK_NONE,
  TRANSACTION_ID_BYTES,
} from "./format.ts";
import type { Position } from "./mark.ts";

const TWO_32 = 4294967296;

/**
 * Frames up to this size are put together in memory of the writer's own, which
 * has a view of each size ready: two copies and one checksum are faster than
 * one copy, a new view and a checksum of two parts (docs/performance.md).
 */
const SMALL_FRAME_BYTES = 1024;
const smallFrame: Window = windowOf(new Uint8Array(SMALL_FRAME_BYTES));

/** A small frame's bytes. */
interface SmallFrame {
  /** All of it. */
  readonly frame: Uint8Array<ArrayBuffer>;
  /** What its checksum is taken of. */
  readonly checked: Uint8Array<ArrayBuffer>;
  /** Its payload, in a frame without a transaction. */
  readonly payload: Uint8Array<ArrayBuffer>;
}

const smallFrames: (SmallFrame | undefined)[] = Array.from({
  length: SMALL_FRAME_BYTES + 1,
});

/** A 64-bit value as two u32, so that the hot path makes no bigint. */
export interface Wide {
  /** Bits 0 to 31. */
  low: number;
  /** Bits 32 to 63. */
  high: number;
}

/** Memory that holds a part of a segment file. */
export interface Window {
  /** The bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same bytes as a view. */
  readonly view: DataView<ArrayBuffer>;
}

/** Which segment a frame belongs to: its checksums depend on it. */
export interface FrameHome {
  /** The segment's number. */
  readonly number: number;
  /** The segment's salt. */
  readonly salt: number;
}

/** Bytes that a frame takes in the file, alignment included. */
export function frameBytes(payloadBytes: number, transaction: boolean): number {
  const id = transaction ? TRANSACTION_ID_BYTES : 0;
  return alignFrame(FRAME_HEADER_BYTES + id + payloadBytes);
}

/** Writes the frames of one segment; all carry the current durable mark. */
export class FrameWriter {
  readonly #salt: number;
  readonly #number: number;
  #markBack = MARK_BACK_NONE;
  #markOffset = 0;

  /** A writer for the segment `home`. */
  constructor(home: FrameHome) {
    this.#salt = home.salt;
    this.#number = home.number;
  }

  /** The durable mark that the frames from now on carry. */
  setMark(mark: Position): void {
    const back = this.#number - mark.number;
    assert(back >= 0, "a mark cannot lie in a later segment");
    const tooFar = mark.number === 0 || back >= MARK_BACK_NONE;
    this.#markBack = tooFar ? MARK_BACK_NONE : back;
    this.#markOffset = tooFar ? 0 : mark.offset;
  }

  /**
   * Writes one frame at `at` of `target`, which will lie at `offset` of the
   * segment file. Returns the bytes it takes.
   */
  write(
    target: Window,
    at: number,
    offset: number,
    flags: number,
    index: number,
    term: number,
    timestamp: Wide,
    payload: Uint8Array,
    transactionId: Uint8Array | undefined,
    payloadBytes: number = payload.length,
  ): number {
    const idBytes = transactionId === undefined ? 0 : TRANSACTION_ID_BYTES;
    const length = FRAME_HEADER_BYTES + idBytes + payloadBytes;
    const small = length <= SMALL_FRAME_BYTES;
    const { bytes, view } = small ? smallFrame : target;
    const start = small ? 0 : at;
    const indexHigh = index < TWO_32 ? 0 : Math.floor(index / TWO_32);
    const termHigh = term < TWO_32 ? 0 : Math.floor(term / TWO_32);
    view.setUint32(start + 4, length, true);
    view.setUint32(start + 8, index, true);
    view.setUint32(start + 12, indexHigh, true);
    view.setUint32(start + 16, flags | (this.#markBack << 16), true);
    view.setUint32(start + 20, this.#markOffset, true);
    view.setUint32(start + 24, term, true);
    view.setUint32(start + 28, termHigh, true);
    view.setUint32(start + 32, timestamp.low, true);
    view.setUint32(start + 36, timestamp.high, true);
    const body = start + FRAME_HEADER_BYTES;
    if (transactionId !== undefined) bytes.set(transactionId, body);
    // The caller's bytes may be shared memory that another thread changes or
    // grows meanwhile: no more than was made room for can be copied, and the
    // checksum is taken of what the log will hold.
    const found = lengthOf(payload);
    if (found < payloadBytes) throw shrunk(found, payloadBytes);
    const seed = (this.#salt ^ offset) >>> 0;
    if (small) {
      const parts = smallParts(length);
      const place = idBytes === 0
        ? parts.payload
        : partOf(bytes, body + idBytes, payloadBytes);
      place.set(payload);
      view.setUint32(0, crc32(parts.checked, seed), true);
      target.bytes.set(parts.frame, at);
    } else {
      const from = body + idBytes;
      const place = partOf(bytes, from, payloadBytes);
      place.set(payload);
      const crc = crc32Range(bytes, at + 4, from, seed);
      view.setUint32(at, crc32(place, crc), true);
    }
    return alignFrame(length);
  }
}

/** The parts of a small frame of this length, made once. */
function smallParts(length: number): SmallFrame {
  return smallFrames[length] ??= {
    frame: partOf(smallFrame.bytes, 0, length),
    checked: partOf(smallFrame.bytes, 4, length - 4),
    payload: partOf(
      smallFrame.bytes,
      FRAME_HEADER_BYTES,
      length - FRAME_HEADER_BYTES,
    ),
  };
}

function shrunk(found: number, payloadBytes: number): RangeError {
  return new RangeError(
    `Cannot write frame: payload is ${found} bytes, expected ${payloadBytes}`,
  );
}

function partOf(
  bytes: Uint8Array<ArrayBuffer>,
  start: number,
  length: number,
): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes.buffer, bytes.byteOffset + start, length);
}

function windowOf(bytes: Uint8Array<ArrayBuffer>): Window {
  return { bytes, view: new DataView(bytes.buffer) };
}

/** The mark of the frame at `at`; NOWHERE-like number 0 when it has none. */
export function frameMark(
  view: DataView,
  at: number,
  home: FrameHome,
): Position {
  const back = view.getUint16(at + FRAME.markBack, true);
  if (back === MARK_BACK_NONE) return { number: 0, offset: 0 };
  const offset = view.getUint32(at + FRAME.markOffset, true);
  return { number: home.number - back, offset };
}

/** The index of the frame at `at`; NaN above 2^53. */
export function frameIndex(view: DataView, at: number): number {
  return getSafe(view, at + FRAME.index);
}

/** The term of the frame at `at`; NaN above 2^53. */
export function frameTerm(view: DataView, at: number): number {
  return getSafe(view, at + FRAME.term);
}

/** The length field of the frame at `at`. */
export function frameLength(view: DataView, at: number): number {
  return view.getUint32(at + FRAME.length, true);
}

/** The flags of the frame at `at`. */
export function frameFlags(view: DataView, at: number): number {
  return view.getUint8(at + FRAME.flags);
}

/** Where the payload of the frame at `at` begins, relative to `at`. */
export function payloadStart(flags: number): number {
  return (flags & FLAG.transaction) === 0
    ? FRAME_HEADER_BYTES
    : FRAME_HEADER_BYTES + TRANSACTION_ID_BYTES;
}

/**
 * Whether the header at `at` could be a frame at `offset` of a segment whose
 * frames end at `limit`: all but the expected index and the checksum. Needs
 * FRAME_HEADER_BYTES readable bytes.
 */
export function isPlausibleFrame(
  view: DataView,
  at: number,
  offset: number,
  limit: number,
  number: number,
): boolean {
  const length = view.getUint32(at + FRAME.length, true);
  if (length < FRAME_HEADER_BYTES || length > limit - offset) return false;
  const word = view.getUint32(at + FRAME.flags, true);
  const flags = word & 0xff;
  if ((word & 0xff00) !== 0 || !areFlagsValid(flags, length)) return false;
  if (!hasNumbers(view, at, flags)) return false;
  const back = word >>> 16;
  const markOffset = view.getUint32(at + FRAME.markOffset, true);
  if (back === MARK_BACK_NONE) return markOffset === 0;
  if (back >= number || markOffset % 8 !== 0) return false;
  return markOffset >= HEADER_BYTES && (back > 0 || markOffset <= offset);
}

/** Whether JavaScript can hold the index and the term exactly. */
function hasNumbers(view: DataView, at: number, flags: number): boolean {
  if (view.getUint32(at + FRAME.term + 4, true) > 0x1fffff) return false;
  const high = view.getUint32(at + FRAME.index + 4, true);
  // After the last possible entry only a watermark may follow.
  return high <= 0x1fffff || flags === FLAG.watermark;
}

function areFlagsValid(flags: number, length: number): boolean {
  if (flags === FLAG.watermark) return length === FRAME_HEADER_BYTES;
  if ((flags & FLAG.entry) === 0 || flags > 31) return false;
  if ((flags & FLAG.watermark) !== 0) return false;
  const both = FLAG.batchContinues | FLAG.batchEnds;
  if ((flags & both) === both) return false;
  return length >= payloadStart(flags);
}

/** Whether the checksum of the whole frame at `at` is right. */
export function isFrameSound(
  source: Window,
  at: number,
  offset: number,
  salt: number,
): boolean {
  const view = source.view;
  const length = frameLength(view, at);
  const stored = view.getUint32(at, true);
  const crc = headerCrc(view, at, offset, salt);
  const body = at + FRAME_HEADER_BYTES;
  return crc32Range(source.bytes, body, at + length, crc) === stored;
}

/**
 * The same for a frame whose payload is in other memory already: what is
 * handed out is what was checked.
 */
export function isPayloadSound(
  source: Window,
  at: number,
  offset: number,
  salt: number,
  payload: Uint8Array<ArrayBuffer>,
): boolean {
  const view = source.view;
  let crc = headerCrc(view, at, offset, salt);
  const end = at + frameLength(view, at) - payload.length;
  const body = at + FRAME_HEADER_BYTES;
  if (end > body) crc = crc32Range(source.bytes, body, end, crc);
  return crc32(payload, crc) === view.getUint32(at, true);
}

/** The checksum of a frame's header fields, the seed for what follows. */
export function headerCrc(
  view: DataView,
  at: number,
  offset: number,
  salt: number,
): number {
  let state = crcBegin(salt ^ offset);
  for (let i = at + 4; i < at + FRAME_HEADER_BYTES; i += 4) {
    state = crcWord(state, view.getInt32(i, true));
  }
  return crcEnd(state);
}
