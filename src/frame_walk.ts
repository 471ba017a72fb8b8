/**
 * Reads the frames of one segment past its holes: what can be read, batch by
 * batch, and where bytes are no frames. Nothing is decided here: a hole may
 * be damage, a torn tail or the log's end.
 *
 * A batch counts wholly or not at all. Behind a hole a frame begins a batch
 * only when that can be told: else it may be the rest of one whose beginning
 * is lost, and is passed over with it. docs/format.md §4, "Batches".
 *
 * @module
 */

import {
  BLOCK_ENTRIES,
  blockOffset,
  FLAG,
  FRAME_HEADER_BYTES,
  HEADER_BYTES,
} from "./format.ts";
import type { FrameHome } from "./frame.ts";
import {
  endedBatch,
  type FoundFrame,
  FrameSearch,
  whyNoFrame,
} from "./frame_search.ts";
import { comparePositions } from "./mark.ts";
import { FileWindow, FrameScanner } from "./scan.ts";
import type { StorageFile } from "./storage.ts";

/** Whole batches that follow each other without a hole. */
export interface Piece {
  /** Tells it from a hole. */
  readonly kind: "piece";
  /** The first entry's index. */
  readonly firstIndex: number;
  /** The index after the last entry. */
  readonly nextIndex: number;
  /** Where the first frame begins. */
  readonly offset: number;
  /** Where the last one ends. */
  readonly end: number;
}

/** Bytes that are no frame where one would have to be. */
export interface WalkHole {
  /** Tells it from a piece. */
  readonly kind: "hole";
  /** Where it begins. */
  readonly offset: number;
  /** A mark behind this offset vouches for what is missing. */
  readonly vouchedFrom: number;
  /** Whether no frame was found behind it. */
  readonly last: boolean;
  /** Whether nothing but zeros was. */
  readonly blank: boolean;
  /** False when it could not be told whether frames follow. */
  readonly decided: boolean;
  /** What was found and what was expected. */
  readonly message: string;
}

/** What is known of a segment before its frames are read. */
export interface WalkBounds {
  /** The first entry's index; undefined when nobody knows. */
  readonly firstIndex: number | undefined;
  /** Frames end here at most. */
  readonly limit: number;
  /** The index after its last entry; undefined when nobody knows. */
  readonly nextIndex: number | undefined;
  /** Whether a truncation may have cut its last batch. */
  readonly cut: boolean;
  /** Whether a writer may be adding to it. */
  readonly growing: boolean;
}

/** Walks the sound frames of one segment. */
export class FrameWalk {
  /** The frame that `next` went to. */
  readonly frame: FrameScanner;
  /** What can be read and what not, in order; complete at the end. */
  readonly parts: (Piece | WalkHole)[] = [];
  /** Whether it has met a hole. */
  damaged = false;
  readonly #file: StorageFile;
  readonly #home: FrameHome;
  readonly #bounds: WalkBounds;
  readonly #window: FileWindow;
  readonly #search: FrameSearch;
  #begun: { offset: number; index: number } | undefined;
  #sought = false;
  #ended = false;

  /** A walk through `file`, whose frames are `home`'s. */
  constructor(file: StorageFile, home: FrameHome, bounds: WalkBounds) {
    const window = new FileWindow(file);
    const index = bounds.firstIndex ?? 1;
    const start = { offset: HEADER_BYTES, nextIndex: index };
    this.frame = new FrameScanner(file, home, start, bounds.limit, window);
    this.#window = window;
    this.#file = file;
    this.#home = home;
    this.#bounds = bounds;
    this.#search = new FrameSearch(file, home, window);
    const known = bounds.firstIndex !== undefined;
    this.#begun = known ? { offset: HEADER_BYTES, index } : undefined;
  }

  /** The first entry's index, once it is known. */
  get firstIndex(): number | undefined {
    const first = this.parts[0];
    const found = first?.kind === "piece" ? first.firstIndex : undefined;
    return this.#bounds.firstIndex ?? found;
  }

  /** Goes to the next sound frame, past holes; false at the end. */
  next(): boolean {
    if (this.#bounds.firstIndex === undefined && !this.#sought) this.#seek();
    while (!this.#ended) {
      const { frame } = this;
      if (frame.next()) {
        if (this.#begun === undefined && !frame.inBatch) this.#begin();
        return true;
      }
      this.#goOn();
    }
    return false;
  }

  /** Whole batches count from where the scanner stands now. */
  #begin(): void {
    const { offset, nextIndex } = this.frame;
    this.#begun = { offset, index: nextIndex };
  }

  /** Finds the first frame of a segment whose first index is not known. */
  #seek(): void {
    this.#sought = true;
    const found = this.#find(HEADER_BYTES, 1, Number.MAX_SAFE_INTEGER);
    if (found?.offset === HEADER_BYTES) {
      this.#resume(found, true);
      return;
    }
    this.#addHole("no frame", found);
    if (found === undefined) this.#ended = true;
    else this.#resume(found, this.#beginsBatch(found));
  }

  /** At a hole or the end: ends the piece, and goes on behind the hole. */
  #goOn(): void {
    const { frame } = this;
    const { limit, cut } = this.#bounds;
    const { offset } = frame;
    const atLimit = offset === limit;
    const whole = !frame.inBatch || (cut && atLimit);
    const counting = this.#begun !== undefined;
    this.#endPiece(atLimit && cut);
    const counted = this.#bounds.nextIndex ?? frame.nextIndex;
    if (atLimit && whole && counted === frame.nextIndex) {
      this.#ended = true;
      return;
    }
    const found = this.#find(offset, frame.nextIndex, this.#indexMax(offset));
    if (counting && this.#bounds.growing && this.#hasHealed()) return;
    this.#addHole(this.#describe(), found);
    if (found === undefined) this.#ended = true;
    else this.#resume(found, this.#beginsBatch(found));
  }

  #endPiece(cut: boolean): void {
    const begun = this.#begun;
    this.#begun = undefined;
    if (begun === undefined) return;
    const { frame } = this;
    const end = cut ? frame.offset : frame.completeEnd;
    const nextIndex = cut ? frame.nextIndex : frame.completeNextIndex;
    // A piece without entries still tells which index comes next.
    const { offset, index } = begun;
    const kind = "piece";
    this.parts.push({ kind, firstIndex: index, nextIndex, offset, end });
  }

  #indexMax(offset: number): number {
    const { nextIndex, limit } = this.#bounds;
    const room = Math.ceil((limit - offset) / FRAME_HEADER_BYTES);
    return Math.min(nextIndex ?? Infinity, this.frame.nextIndex + room);
  }

  #find(from: number, indexMin: number, indexMax: number) {
    const to = this.#searchEnd(from);
    return this.#search.find({ from, to, indexMin, indexMax });
  }

  /** Behind the last frames lies the index, which grows towards them. */
  #searchEnd(from: number): number {
    const { firstIndex, nextIndex, limit } = this.#bounds;
    if (nextIndex !== undefined || firstIndex === undefined) return limit;
    const entryCount = this.frame.completeNextIndex - firstIndex;
    const ordinal = Math.floor(entryCount / BLOCK_ENTRIES);
    const index = blockOffset(this.#file.bytes, ordinal);
    return Math.min(limit, Math.max(from, index));
  }

  /** Whether a writer at work has filled the hole since. */
  #hasHealed(): boolean {
    const { frame } = this;
    const { completeEnd, completeNextIndex } = frame;
    const start = { offset: completeEnd, nextIndex: completeNextIndex };
    const { limit } = this.#bounds;
    const again = new FrameScanner(this.#file, this.#home, start, limit);
    while (again.next()) {
      if (again.offset <= frame.offset) continue;
      this.#window.forget();
      frame.resume(start, false);
      this.#rejoin(start.offset, start.nextIndex);
      return true;
    }
    return false;
  }

  /** Goes on with the piece that was ended at a hole that is none. */
  #rejoin(offset: number, index: number): void {
    const last = this.parts.at(-1);
    this.#begun = { offset, index };
    if (last?.kind !== "piece" || last.nextIndex !== index) return;
    this.parts.pop();
    this.#begun = { offset: last.offset, index: last.firstIndex };
  }

  #describe(): string {
    const { offset, nextIndex } = this.frame;
    const { limit } = this.#bounds;
    const place = { offset, limit, index: nextIndex };
    return offset === limit
      ? "the end of the frames"
      : whyNoFrame(this.#file, this.#home, place);
  }

  #addHole(was: string, found: FoundFrame | undefined): void {
    const { offset, nextIndex, completeNextIndex } = this.frame;
    const { limit, firstIndex } = this.#bounds;
    const known = this.#bounds.nextIndex;
    const batch = this.frame.inBatch
      ? ` in the batch that begins with entry ${completeNextIndex}`
      : "";
    const entry = firstIndex === undefined && this.parts.length === 0
      ? "an entry"
      : `entry ${nextIndex}`;
    const message = known !== undefined && known < nextIndex
      ? `found entry ${nextIndex - 1}, expected ${known - 1} as the last one`
      : `found ${was}, expected a sound frame of ${entry}${batch}`;
    this.damaged = true;
    this.parts.push({
      kind: "hole",
      offset,
      // Frames that end early are wrong whatever offset a mark names.
      vouchedFrom: offset === limit ? 0 : offset,
      last: found === undefined,
      blank: found === undefined && !this.#search.dirty,
      decided: this.#search.decided,
      message,
    });
  }

  /** Whether a batch begins with the frame that was found behind a hole. */
  #beginsBatch(found: FoundFrame): boolean {
    const { offset, flags, mark } = found;
    if ((flags & FLAG.batchEnds) !== 0) return false;
    if ((flags & FLAG.batchContinues) === 0) return true;
    // Batches never span segments, and a mark is always the end of one.
    const { number } = this.#home;
    if (offset === HEADER_BYTES) return true;
    if (comparePositions(mark, { number, offset }) === 0) return true;
    if (this.#bounds.firstIndex === undefined && this.parts.length === 0) {
      return false;
    }
    const hole = {
      offset: this.frame.offset,
      index: this.frame.nextIndex,
      limit: this.#bounds.limit,
    };
    return endedBatch(this.#file, this.#home, hole, found);
  }

  #resume(found: FoundFrame, beginsBatch: boolean): void {
    const start = { offset: found.offset, nextIndex: found.index };
    this.frame.resume(start, !beginsBatch);
    this.#begun = undefined;
    if (beginsBatch) this.#begin();
  }
}
