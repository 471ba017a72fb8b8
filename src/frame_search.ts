/**
 * Finds frames behind damage, says why bytes are no frame, and tells what the
 * damaged frames in between were. `verify` and salvage use it; recovery never
 * reads past a hole. Like the scanner it trusts no length before it is
 * checked, and its memory is the scanner's buffer.
 *
 * @module
 */

import { crc32 } from "./crc32.ts";
import { isZero, viewOf } from "./fields.ts";
import { alignFrame, FLAG, FRAME, FRAME_HEADER_BYTES } from "./format.ts";
import {
  frameFlags,
  type FrameHome,
  frameIndex,
  frameLength,
  frameMark,
  headerCrc,
  isPlausibleFrame,
} from "./frame.ts";
import type { Position } from "./mark.ts";
import { provenFlags } from "./proven_flags.ts";
import { type FileWindow, isSound } from "./scan.ts";
import type { StorageFile } from "./storage.ts";

const PIECE_BYTES = 256 * 1024;

/** A sound frame behind a hole. */
export interface FoundFrame {
  /** Where it begins. */
  readonly offset: number;
  /** Its entry's index; that of the next entry for a watermark. */
  readonly index: number;
  /** Its flags. */
  readonly flags: number;
  /** Its durable mark. */
  readonly mark: Position;
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

/** Finds the frames of one segment behind its holes. */
export class FrameSearch {
  /** False once telling would take too many checksums. */
  decided = true;
  /** Whether the last search met anything but zeros. */
  dirty = false;
  readonly #home: FrameHome;
  readonly #window: FileWindow;
  #budget: number;

  /** A search that takes checksums of at most 4 × the file's bytes. */
  constructor(file: StorageFile, home: FrameHome, window: FileWindow) {
    this.#home = home;
    this.#window = window;
    this.#budget = 4 * file.bytes;
  }

  /** The first sound frame in `range`; undefined when there is none. */
  find(range: SearchRange): FoundFrame | undefined {
    const { from, to, indexMin, indexMax } = range;
    const { number } = this.#home;
    const window = this.#window;
    this.dirty = false;
    for (let offset = from; offset + FRAME_HEADER_BYTES <= to;) {
      const at = window.locate(offset, FRAME_HEADER_BYTES);
      if (at < 0) return undefined;
      const { view } = window;
      if (view.getInt32(at, true) === 0 && view.getInt32(at + 4, true) === 0) {
        offset = Math.max(offset + 8, window.skipZeros(offset));
        continue;
      }
      this.dirty = true;
      const index = frameIndex(view, at);
      const possible = index >= indexMin && index <= indexMax &&
        isPlausibleFrame(view, at, offset, to, number);
      if (possible) {
        const flags = frameFlags(view, at);
        const mark = frameMark(view, at, this.#home);
        const sound = this.#isSound(at, offset, frameLength(view, at));
        if (!this.decided) return undefined;
        if (sound) return { offset, index, flags, mark };
      }
      offset += 8;
    }
    return undefined;
  }

  #isSound(at: number, offset: number, length: number): boolean {
    this.#budget -= length;
    this.decided = this.#budget >= 0;
    if (!this.decided) return false;
    return isSound(this.#window, at, offset, length, this.#home.salt);
  }
}

/** Where frames are missing, and the entry that would have to begin there. */
export interface HoleStart {
  /** Where it begins. */
  readonly offset: number;
  /** The entry's index. */
  readonly index: number;
  /** Where frames end at most. */
  readonly limit: number;
}

/**
 * Whether the last damaged frame between `hole` and `found` ended its batch,
 * so that another one begins with `found`. False when it cannot be told.
 */
export function endedBatch(
  file: StorageFile,
  home: FrameHome,
  hole: HoleStart,
  found: FoundFrame,
): boolean {
  if (found.index <= hole.index + 1) {
    const flags = provenFlags(file, home, hole.offset, found.offset);
    if (flags !== undefined) return (flags & FLAG.batchContinues) === 0;
  }
  return leadsToBatch(file, home, hole, found);
}

/**
 * Whether the damaged frames from `hole` on lead by their headers exactly to
 * `found`, and the last of them says that its batch does not go on. Headers
 * of damaged frames prove nothing alone: all of them have to fit each other,
 * and the flags must not be what was damaged.
 */
function leadsToBatch(
  file: StorageFile,
  home: FrameHome,
  hole: HoleStart,
  found: FoundFrame,
): boolean {
  const head = new Uint8Array(FRAME_HEADER_BYTES);
  const view = viewOf(head);
  let { offset, index } = hole;
  let last = -1;
  while (offset < found.offset) {
    if (file.readAt(head, offset) < head.length) return false;
    if (!isPlausibleFrame(view, 0, offset, hole.limit, home.number)) {
      return false;
    }
    if (frameIndex(view, 0) !== index) return false;
    last = offset;
    if ((frameFlags(view, 0) & FLAG.entry) !== 0) index++;
    offset += alignFrame(frameLength(view, 0));
  }
  if (last < 0 || offset !== found.offset || index !== found.index) {
    return false;
  }
  const flags = frameFlags(view, 0);
  if ((flags & FLAG.batchContinues) !== 0) return false;
  // Were the flags all that is damaged, then one of these would be right.
  return [0, FLAG.transaction].every((transaction) => {
    head[FRAME.flags] = FLAG.entry | FLAG.batchContinues | transaction;
    return !isSoundAt(file, home, last, head);
  });
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
  const piece = new Uint8Array(Math.min(PIECE_BYTES, end - offset));
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
