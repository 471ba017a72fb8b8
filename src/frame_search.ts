/**
 * Goes on behind damage: says why bytes are no frame, and finds the next one.
 * Only `verify` uses it; recovery never reads past a hole. Like the scanner
 * it trusts no length before it is checked, and its memory is one buffer.
 *
 * @module
 */

import { crc32 } from "./crc32.ts";
import { isZero, viewOf } from "./fields.ts";
import { FRAME_HEADER_BYTES } from "./format.ts";
import {
  frameFlags,
  type FrameHome,
  frameIndex,
  frameLength,
  headerCrc,
  isPlausibleFrame,
} from "./frame.ts";
import type { StorageFile } from "./storage.ts";

const BUFFER_BYTES = 256 * 1024;

/** A sound frame behind a hole. */
export interface FoundFrame {
  /** Where it begins. */
  readonly offset: number;
  /** Its entry's index; that of the next entry for a watermark. */
  readonly index: number;
  /** Its length, without alignment. */
  readonly length: number;
  /** Its flags. */
  readonly flags: number;
}

/** Where to look, and for which entries. */
export interface SearchRange {
  /** The first place looked at. */
  readonly from: number;
  /** Where frames end at most. */
  readonly to: number;
  /** The lowest index that counts. */
  readonly indexMin: number;
  /** The highest index that counts. */
  readonly indexMax: number;
}

/**
 * The first sound frame in `range`; undefined when there is none, or when
 * telling would take more than checksums over four times the file.
 */
export function findFrame(
  file: StorageFile,
  home: FrameHome,
  range: SearchRange,
): FoundFrame | undefined {
  const { from, to, indexMin, indexMax } = range;
  const bytes = new Uint8Array(BUFFER_BYTES);
  const view = viewOf(bytes);
  let budget = 4 * file.bytes;
  let start = from;
  let filled = 0;
  for (let offset = from; offset + FRAME_HEADER_BYTES <= to; offset += 8) {
    if (offset + FRAME_HEADER_BYTES > start + filled) {
      start = offset;
      filled = file.readAt(bytes, offset);
      if (filled < FRAME_HEADER_BYTES) return undefined;
    }
    const at = offset - start;
    const index = frameIndex(view, at);
    if (!(index >= indexMin && index <= indexMax)) continue;
    if (!isPlausibleFrame(view, at, offset, to, home.number)) continue;
    const length = frameLength(view, at);
    budget -= length;
    if (budget < 0) return undefined;
    const head = bytes.slice(at, at + FRAME_HEADER_BYTES);
    if (!isSoundAt(file, home, offset, head)) continue;
    return { offset, index, length, flags: frameFlags(view, at) };
  }
  return undefined;
}

/** Whether the frame at `offset`, whose header is `head`, has its checksum. */
function isSoundAt(
  file: StorageFile,
  home: FrameHome,
  offset: number,
  head: Uint8Array<ArrayBuffer>,
): boolean {
  const view = viewOf(head);
  let crc = headerCrc(view, 0, offset, home.salt);
  const end = offset + frameLength(view, 0);
  const piece = new Uint8Array(Math.min(BUFFER_BYTES, end - offset));
  for (let from = offset + FRAME_HEADER_BYTES; from < end;) {
    const want = Math.min(piece.length, end - from);
    const count = file.readAt(piece.subarray(0, want), from);
    if (count === 0) return false;
    crc = crc32(piece.subarray(0, count), crc);
    from += count;
  }
  return crc === view.getUint32(0, true);
}

/** What stands at `offset` instead of the frame of entry `index`. */
export function whyNoFrame(
  file: StorageFile,
  home: FrameHome,
  place: { offset: number; limit: number; index: number },
): string {
  const { offset, limit, index } = place;
  const room = limit - offset;
  if (room < FRAME_HEADER_BYTES) return `the segment's end ${room} bytes on`;
  const head = new Uint8Array(FRAME_HEADER_BYTES);
  const count = file.readAt(head, offset);
  if (count < FRAME_HEADER_BYTES) return "the file's end";
  if (isZero(head, 0, FRAME_HEADER_BYTES)) return "zeros";
  const view = viewOf(head);
  if (!isPlausibleFrame(view, 0, offset, limit, home.number)) {
    return `no frame header (its length would be ${frameLength(view, 0)})`;
  }
  const found = frameIndex(view, 0);
  if (!isSoundAt(file, home, offset, head)) {
    const named = found === index ? "" : ` and index ${found}`;
    return `a frame with a wrong checksum${named}`;
  }
  if (found !== index) return `a frame with index ${found}`;
  return "a frame that does not go on with its batch";
}
