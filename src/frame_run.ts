/**
 * A run of frames that follow each other, checked with one checksum over all
 * of their bytes: a call into zlib costs more than the checksum of one entry.
 *
 * The checksum of the whole must be what the checksums in the frames add up
 * to. A run in which exactly one frame is damaged is always refused, one with
 * several but for a chance of 2^-32: docs/architecture.md, "Runs". A run that
 * is refused says nothing of its frames; they are then read one by one.
 *
 * @module
 */

import { crc32, crcWord } from "./crc32.ts";
import { crcShift } from "./crc_shift.ts";
import { viewOf } from "./fields.ts";
import { alignFrame, FRAME, FRAME_HEADER_BYTES } from "./format.ts";
import { type FrameHome, frameLength, type Window } from "./frame.ts";

/** What a scan reads ahead at first, and at most. */
const FIRST_BYTES = 2048;
const MOST_BYTES = 16 * 1024;
/** A shorter run saves nothing. */
const FRAMES_MIN = 3;

/** So many entries are read one by one before a run is tried again. */
const PUT_OFF = 64;

const NONE: Window = windowOf(0);

/** The segment that frames are in. */
export interface RunSource {
  /** Who it is. */
  readonly identity: FrameHome;
  /** Its last entry. */
  readonly lastIndex: number;
  /**
   * Whether what lies at `at` of `view`, and at `offset` of the file, looks
   * like the frame of entry `index`.
   */
  isFrameOf(
    view: DataView,
    at: number,
    offset: number,
    index: number,
  ): boolean;
}

/** Frames that one scan has read ahead. */
export class FrameRun {
  /** The memory in which its frames lie. */
  memory: Window = NONE;
  readonly #last: number;
  #segment: RunSource | undefined;
  #firstIndex = 0;
  #count = 0;
  #refused = 0;
  #bytes = FIRST_BYTES;
  #own = NONE;
  readonly #starts: number[] = [];

  /** Nothing so far, for a scan that ends with entry `last`. */
  constructor(last: number) {
    this.#last = last;
  }

  /** Where the frame of entry `index` begins in `memory`; -1 if it is not there. */
  find(segment: RunSource, index: number): number {
    const ordinal = index - this.#firstIndex;
    if (ordinal < 0 || ordinal >= this.#count || segment !== this.#segment) {
      return -1;
    }
    return this.#starts[ordinal]!;
  }

  /**
   * Whether a run may begin with entry `index`: one that was refused is not
   * tried again for each of its frames.
   */
  mayBegin(segment: RunSource, index: number): boolean {
    return index >= this.#refused &&
      Math.min(this.#last, segment.lastIndex) - index >= FRAMES_MIN - 1;
  }

  /** How many bytes are to be read ahead now: more as the scan goes on. */
  nextBytes(): number {
    const bytes = this.#bytes;
    this.#bytes = Math.min(2 * bytes, MOST_BYTES);
    return bytes;
  }

  /**
   * Takes the frames from entry `index` on, which lie at `at` of `memory`, up
   * to `limit` there, and at `offset` of the file; false if they are not sound
   * together, or too few.
   */
  take(
    segment: RunSource,
    index: number,
    memory: Window,
    at: number,
    limit: number,
    offset: number,
  ): boolean {
    this.memory = memory;
    this.#segment = segment;
    this.#firstIndex = index;
    this.#count = 0;
    const last = Math.min(this.#last, segment.lastIndex);
    const most = last - index + 1;
    const { bytes, view } = memory;
    const { salt } = segment.identity;
    let count = 0;
    let state = 0;
    let next = at;
    while (count < most && next + FRAME_HEADER_BYTES <= limit) {
      const place = offset + next - at;
      if (!segment.isFrameOf(view, next, place, index + count)) break;
      const length = frameLength(view, next);
      const taken = alignFrame(length);
      if (next + taken > limit) break;
      state = afterFrame(state, view, next, length, salt ^ place);
      this.#starts[count++] = next;
      next += taken;
    }
    if (count < FRAMES_MIN) return this.#refuse(index + 1);
    const all = new Uint8Array(bytes.buffer, bytes.byteOffset + at, next - at);
    // Begun with a state of 0: what is left is what the bytes add.
    const sound = crc32(all, 0xffffffff) === (~state >>> 0);
    if (!sound) return this.#refuse(index + count);
    this.#count = count;
    return true;
  }

  /** Memory of this scan alone, where copies cannot share any. */
  ownMemory(bytes: number): Window {
    if (this.#own.bytes.length < bytes) this.#own = windowOf(bytes);
    return this.#own;
  }

  /** No run may begin with entry `index`, nor soon behind it. */
  putOff(index: number): void {
    this.#count = 0;
    this.#refused = index + PUT_OFF;
  }

  #refuse(before: number): boolean {
    this.#refused = before;
    this.#bytes = FIRST_BYTES;
    return false;
  }
}

/**
 * The state after the frame at `at`, from the state before it, if the
 * checksum in it is right. That is the checksum of what follows its field,
 * begun with a seed of its own; a state is the XOR of what the seed and the
 * bytes come to, so the seed's share is replaced by the state's.
 */
function afterFrame(
  state: number,
  view: DataView,
  at: number,
  length: number,
  seed: number,
): number {
  const crc = view.getInt32(at + FRAME.crc, true);
  const before = crcWord(state, crc);
  const after = crcShift(before ^ ~seed, length - 4) ^ ~crc;
  return crcShift(after, alignFrame(length) - length);
}

function windowOf(length: number): Window {
  const bytes = new Uint8Array(length);
  return { bytes, view: viewOf(bytes) };
}
