/**
 * Reads a segment's frames in order by `readAt`, and looks for valid frames
 * behind a hole. Nothing read from the file is trusted before it is checked;
 * memory is one buffer, whatever the lengths in the file say.
 *
 * Recovery and `verify` are built on it. docs/format.md §4 and §7.
 *
 * @module
 */

import { crc32 } from "./crc32.ts";
import { viewOf } from "./fields.ts";
import {
  alignFrame,
  FLAG,
  FRAME_ALIGNMENT,
  FRAME_HEADER_BYTES,
} from "./format.ts";
import type { FrameHome, Wide } from "./frame.ts";
import {
  frameFlags,
  frameIndex,
  frameLength,
  frameMark,
  frameTerm,
  headerCrc,
  isPlausibleFrame,
} from "./frame.ts";
import { NOWHERE, type Position } from "./mark.ts";
import type { StorageFile } from "./storage.ts";

const BUFFER_BYTES = 256 * 1024;

/** A sliding window over a file. */
export class FileWindow {
  readonly #file: StorageFile;
  /** What was read last. */
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(BUFFER_BYTES);
  /** The same bytes as a view. */
  readonly view: DataView<ArrayBuffer> = viewOf(this.bytes);
  readonly #words = new Int32Array(this.bytes.buffer);
  #start = 0;
  #filled = 0;

  /** A window over `file`, empty so far. */
  constructor(file: StorageFile) {
    this.#file = file;
  }

  /** Reads anew at the next call: the file may have changed. */
  forget(): void {
    this.#filled = 0;
  }

  /** Where `offset` lies in the buffer; -1 when `need` bytes are not there. */
  locate(offset: number, need: number): number {
    if (offset < this.#start || offset + need > this.#start + this.#filled) {
      this.#start = offset;
      this.#filled = this.#file.readAt(this.bytes, offset);
      if (this.#filled < need) return -1;
    }
    return offset - this.#start;
  }

  /** The next frame boundary in the buffer, or its end, that is not zero. */
  skipZeros(offset: number): number {
    const words = this.#words;
    const count = this.#filled >>> 2;
    let i = (offset - this.#start) >>> 2;
    while (i < count && words[i] === 0) i++;
    return this.#start + 4 * (i & -2);
  }

  /** Readable bytes in the buffer from `offset` on. */
  available(offset: number): number {
    return this.#start + this.#filled - offset;
  }
}

/** Walks the valid frames of one segment, from one batch boundary on. */
export class FrameScanner {
  /** Where the next frame is looked for: the hole, once `next` is false. */
  offset: number;
  /** The index that the next entry must have. */
  nextIndex: number;
  /** The end of the last complete batch. */
  completeEnd: number;
  /** The index after the last complete batch. */
  completeNextIndex: number;
  /** The last frame's offset. */
  frameOffset = 0;
  /** The last frame's flags. */
  flags = 0;
  /** The last frame's term. */
  term = 0;
  /** The last frame's timestamp. */
  readonly timestamp: Wide = { low: 0, high: 0 };
  /** The last frame's durable mark. */
  mark: Position = NOWHERE;
  readonly #window: FileWindow;
  readonly #home: FrameHome;
  readonly #limit: number;
  #inBatch = false;

  /** Scans `file` from `offset` to `limit`, expecting `nextIndex` first. */
  constructor(
    file: StorageFile,
    home: FrameHome,
    start: { offset: number; nextIndex: number },
    limit: number,
    window: FileWindow = new FileWindow(file),
  ) {
    this.#window = window;
    this.#home = home;
    this.#limit = limit;
    this.offset = start.offset;
    this.nextIndex = start.nextIndex;
    this.completeEnd = start.offset;
    this.completeNextIndex = start.nextIndex;
  }

  /** Goes on elsewhere; `inBatch`: in a batch whose beginning is lost. */
  resume(start: { offset: number; nextIndex: number }, inBatch: boolean): void {
    this.offset = this.completeEnd = start.offset;
    this.nextIndex = this.completeNextIndex = start.nextIndex;
    this.#inBatch = inBatch;
  }

  /** Whether the last frame's batch goes on. */
  get inBatch(): boolean {
    return this.#inBatch;
  }

  /** Goes to the next frame; false at the hole or the limit. */
  next(): boolean {
    const { offset } = this;
    if (this.#limit - offset < FRAME_HEADER_BYTES) return false;
    const at = this.#window.locate(offset, FRAME_HEADER_BYTES);
    if (at < 0) return false;
    const view = this.#window.view;
    const { number } = this.#home;
    if (!isPlausibleFrame(view, at, offset, this.#limit, number)) return false;
    if (frameIndex(view, at) !== this.nextIndex) return false;
    const flags = frameFlags(view, at);
    // Inside a batch only its own frames may follow, and its end needs it.
    const belongs = (flags & (FLAG.batchContinues | FLAG.batchEnds)) !== 0;
    if (this.#inBatch && !belongs) return false;
    if (!this.#inBatch && (flags & FLAG.batchEnds) !== 0) return false;
    this.#take(view, at, flags);
    const length = frameLength(view, at);
    if (!isSound(this.#window, at, offset, length, this.#home.salt)) {
      return false;
    }
    this.offset = offset + alignFrame(length);
    if ((flags & FLAG.entry) !== 0) this.nextIndex++;
    this.#inBatch = (flags & FLAG.batchContinues) !== 0;
    if (!this.#inBatch) {
      this.completeEnd = this.offset;
      this.completeNextIndex = this.nextIndex;
    }
    return true;
  }

  #take(view: DataView, at: number, flags: number): void {
    this.frameOffset = this.offset;
    this.flags = flags;
    this.term = frameTerm(view, at);
    this.timestamp.low = view.getUint32(at + 32, true);
    this.timestamp.high = view.getInt32(at + 36, true);
    this.mark = frameMark(view, at, this.#home);
  }
}

/** Whether the frame at `offset`, at `at` of the window, has its checksum. */
export function isSound(
  window: FileWindow,
  at: number,
  offset: number,
  length: number,
  salt: number,
): boolean {
  const stored = window.view.getUint32(at, true);
  let crc = headerCrc(window.view, at, offset, salt);
  let from = offset + FRAME_HEADER_BYTES;
  const end = offset + length;
  while (from < end) {
    const place = window.locate(from, 1);
    if (place < 0) return false;
    const count = Math.min(end - from, window.available(from));
    crc = crc32(window.bytes.subarray(place, place + count), crc);
    from += count;
  }
  return crc === stored;
}

/** What lies behind a hole. */
export interface BehindHole {
  /** Whether any byte of the range is not zero. */
  readonly dirty: boolean;
  /** The end of the last byte that is not zero. */
  readonly dirtyEnd: number;
  /** The index of the first valid frame; undefined when there is none. */
  readonly firstIndex: number | undefined;
  /** How many valid frames there are. */
  readonly frameCount: number;
  /** The highest mark among them. */
  readonly mark: Position;
  /** False when the checksum budget ran out before the range's end. */
  readonly decided: boolean;
}

/**
 * Looks at every frame boundary of `from`…`to` for a valid frame whose index
 * lies in `indexMin`…`indexMax`. Checksums at most 4 × the file's bytes.
 */
export function searchFrames(
  file: StorageFile,
  home: FrameHome,
  range: { from: number; to: number; indexMin: number; indexMax: number },
): BehindHole {
  const window = new FileWindow(file);
  const { from, to, indexMin, indexMax } = range;
  let budget = 4 * file.bytes;
  let mark = NOWHERE;
  let firstIndex: number | undefined;
  let frameCount = 0;
  let dirtyEnd = from;
  let offset = from;
  while (offset < to) {
    const at = window.locate(offset, Math.min(FRAME_HEADER_BYTES, to - offset));
    if (at < 0) break;
    const view = window.view;
    const here = dirtyBytes(view, at, Math.min(8, to - offset));
    if (here === 0) {
      offset = Math.max(offset + FRAME_ALIGNMENT, window.skipZeros(offset));
      continue;
    }
    dirtyEnd = offset + here;
    let step = FRAME_ALIGNMENT;
    if (to - offset >= FRAME_HEADER_BYTES) {
      const index = frameIndex(view, at);
      if (
        index >= indexMin && index <= indexMax &&
        isPlausibleFrame(view, at, offset, to, home.number)
      ) {
        const length = frameLength(view, at);
        const found = frameMark(view, at, home);
        budget -= length;
        if (budget < 0) {
          const dirty = true;
          const decided = false;
          return { dirty, dirtyEnd, firstIndex, frameCount, mark, decided };
        }
        if (isSound(window, at, offset, length, home.salt)) {
          firstIndex ??= index;
          frameCount++;
          if (
            found.number > mark.number ||
            (found.number === mark.number && found.offset > mark.offset)
          ) mark = found;
          step = alignFrame(length);
          dirtyEnd = offset + length;
        }
      }
    }
    offset += step;
  }
  const dirty = dirtyEnd > from;
  return { dirty, dirtyEnd, firstIndex, frameCount, mark, decided: true };
}

function dirtyBytes(view: DataView, at: number, count: number): number {
  if (count === 8 && view.getInt32(at, true) === 0) {
    if (view.getInt32(at + 4, true) === 0) return 0;
  }
  for (let i = count; i > 0; i--) if (view.getUint8(at + i - 1) !== 0) return i;
  return 0;
}
