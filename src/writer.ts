/**
 * Writes entries: validate and encode, make room, frames, publish. Nothing is
 * touched before the first two have passed, and what a failed write left is
 * taken back. docs/architecture.md, "Life of an append".
 *
 * @module
 */

import { BatchStage } from "./batch_stage.ts";
import type { Encoder } from "./encoder.ts";
import type { EntryInput } from "./entry.ts";
import {
  IndexConflictError,
  InvalidEntryError,
  StorageError,
  type WalFailedError,
} from "./errors.ts";
import { FLAG, indexBytes } from "./format.ts";
import { frameBytes, frameTerm } from "./frame.ts";
import {
  encodePayload,
  grownOr,
  Staged,
  stageEntry,
  TimeStamp,
} from "./input.ts";
import type { LogState } from "./log_state.ts";
import type { Position } from "./mark.ts";
import { show } from "./checks.ts";
import type { Publisher } from "./publisher.ts";
import type { Rotation } from "./rotation.ts";
import type { Segment } from "./segment.ts";
import type { StoragePort } from "./storage.ts";
import type { SyncedLog, SyncRounds } from "./sync_rounds.ts";
import type { Wakeups } from "./wakeups.ts";

/** What a writer works with. */
export interface WriterParts {
  /** The storage. */
  readonly storage: StoragePort;
  /** Its segments. */
  readonly state: LogState;
  /** Makes room. */
  readonly rotation: Rotation;
  /** Told of what was written and synced. */
  readonly wakeups: Wakeups;
  /** The encoder of a format other than "binary". */
  readonly encoder: Encoder | undefined;
  /** The largest data of one entry. */
  readonly maxEntryBytes: number;
  /** Called when the log was failed by a sync. */
  readonly onFailure: (error: WalFailedError) => void;
  /** Called when the durable mark has moved, with the segment it is in. */
  readonly onMark: (segment: number) => void;
}

/** The writing half of an open log. */
export class LogWriter implements SyncedLog {
  /** The rounds that make its entries durable; set once after making. */
  rounds!: SyncRounds;
  /** Shows them to readers elsewhere; set once after making. */
  publisher!: Publisher;
  /** Entries written since opening. */
  appendCount = 0;
  /** Bytes of frames written since opening. */
  bytesWritten = 0;
  /** Set when the log is closed. */
  ended = false;
  readonly #parts: WriterParts;
  readonly #state: LogState;
  readonly #staged = new Staged();
  readonly #batchStage = new BatchStage();
  readonly #stamp: TimeStamp;
  #lastTerm: number | undefined;

  /** A writer for a log that recovery has made ready. */
  constructor(parts: WriterParts) {
    this.#parts = parts;
    this.#state = parts.state;
    this.#stamp = new TimeStamp(parts.storage.clock);
  }

  end(): Position {
    const { number, end } = this.#state.active;
    return { number, offset: end };
  }

  lastIndex(): number {
    return this.#state.nextIndex - 1;
  }

  markMoved(mark: Position): void {
    this.#state.active.frames.setMark(mark);
    this.publisher.publishDurable();
    this.#parts.wakeups.wake();
    this.#parts.onMark(mark.number);
  }

  retire(segment: Segment): void {
    this.#state.retire(segment);
  }

  failed(error: WalFailedError): void {
    this.#parts.onFailure(error);
  }

  /** Throws unless the next entry gets the index that the caller expects. */
  expect(expectedIndex: number | undefined): void {
    if (this.rounds.failure !== undefined) throw this.rounds.failure;
    if (expectedIndex === undefined) return;
    if (typeof expectedIndex !== "number") {
      throw new TypeError(
        `Cannot append: expectedIndex is ${show(expectedIndex)}, expected a ` +
          `number`,
      );
    }
    const { nextIndex } = this.#state;
    if (expectedIndex === nextIndex) return;
    if (!Number.isSafeInteger(expectedIndex)) {
      throw new RangeError(
        `Cannot append: expectedIndex is ${expectedIndex}, expected a whole ` +
          `number from 1 to 2^53 - 1`,
      );
    }
    throw new IndexConflictError(
      `Cannot append at index ${expectedIndex}: the next index is ` +
        `${nextIndex}, expected ${expectedIndex}`,
      { expectedIndex, nextIndex },
    );
  }

  /**
   * Checks one entry; `appendStaged` must follow before the next. Returns
   * whether the caller's program may have run.
   */
  stage(input: EntryInput): boolean {
    return stageEntry(input, this.#parts.maxEntryBytes, this.#staged);
  }

  /** Writes the staged entry; it is in the log when this returns its index. */
  appendStaged(): number {
    const staged = this.#staged;
    if (!staged.timed) this.#stamp.now(staged);
    const term = staged.term >= 0 ? staged.term : this.#defaultTerm();
    const index = this.#state.nextIndex;
    if (index > Number.MAX_SAFE_INTEGER) throw indexTooLarge(index);
    if (this.#parts.encoder !== undefined) {
      // It may append itself, which uses the staged entry again.
      const own = Object.assign(new Staged(), staged);
      encodePayload(this.#parts.encoder, own, index, term);
      this.#checkUnmoved(index);
      Object.assign(staged, own);
    }
    const bytes = frameBytes(staged.payloadBytes, false);
    const segment = this.#parts.rotation.room(bytes, 1);
    const { file, end } = segment;
    try {
      const at = file.reserve(end, bytes, bytes);
      const { target } = file;
      const flags = FLAG.entry;
      // deno-fmt-ignore
      segment.frames.write(target, at, end, flags, index, term, staged,
        staged.payload, undefined, staged.payloadBytes);
      file.flushWrites();
    } catch (error) {
      this.#takeBack(segment, end + bytes);
      throw grownOr(error);
    }
    segment.end = end + bytes;
    segment.addEntry(end, term, staged);
    this.#lastTerm = term;
    this.#count(segment, 1, bytes);
    return index;
  }

  /** Checks several entries for `appendBatch`. */
  stageBatch(inputs: readonly EntryInput[]): Staged[] {
    return this.#batchStage.stage(inputs, this.#parts.maxEntryBytes);
  }

  /** A batch of `stageBatch` is not used any more. */
  releaseBatch(batch: Staged[]): void {
    this.#batchStage.release(batch);
  }

  /**
   * Writes staged entries as one batch; returns the first one's index. All
   * carry `transactionId`, if there is one.
   */
  appendBatch(
    batch: readonly Staged[],
    transactionId?: Uint8Array<ArrayBuffer>,
  ): number {
    const first = this.#state.nextIndex;
    this.#completeBatch(batch, first, transactionId);
    let bytes = 0;
    // Not by iterators: until it is compiled each step of theirs makes an object.
    for (let i = 0; i < batch.length; i++) {
      bytes += frameBytes(batch[i]!.payloadBytes, transactionId !== undefined);
    }
    const segment = this.#parts.rotation.room(bytes, batch.length);
    const end = segment.end + bytes;
    try {
      this.#writeBatch(segment, batch, first, bytes, transactionId);
    } catch (error) {
      this.#takeBack(segment, end);
      throw grownOr(error);
    }
    segment.end = end;
    for (let i = 0; i < batch.length; i++) {
      const staged = batch[i]!;
      segment.addEntry(staged.offset, staged.term, staged);
    }
    this.#lastTerm = batch[batch.length - 1]!.term;
    this.#count(segment, batch.length, bytes);
    return first;
  }

  #completeBatch(
    batch: readonly Staged[],
    first: number,
    transactionId: Uint8Array<ArrayBuffer> | undefined,
  ): void {
    let term = -1;
    let stamped = false;
    for (let i = 0; i < batch.length; i++) {
      const staged = batch[i]!;
      // The time of the call: asked once, it is as dear as writing an entry.
      if (!staged.timed) {
        if (stamped) this.#stamp.again(staged);
        else this.#stamp.now(staged);
        stamped = true;
      }
      if (first + i > Number.MAX_SAFE_INTEGER) throw indexTooLarge(first + i);
      if (staged.term < 0) staged.term = term < 0 ? this.#defaultTerm() : term;
      term = staged.term;
      const { encoder } = this.#parts;
      if (encoder === undefined) continue;
      encodePayload(encoder, staged, first + i, term, transactionId);
      this.#checkUnmoved(first);
    }
  }

  /** The encoder is the caller's program: it must leave the log alone. */
  #checkUnmoved(nextIndex: number): void {
    if (this.rounds.failure !== undefined) throw this.rounds.failure;
    if (this.#state.nextIndex === nextIndex && !this.ended) return;
    throw new InvalidEntryError(
      `Cannot append entry: encoder "${this.#parts.encoder!.name}" wrote to ` +
        `or closed the log while it encoded, expected it to leave it alone`,
    );
  }

  #writeBatch(
    segment: Segment,
    batch: readonly Staged[],
    first: number,
    total: number,
    transactionId: Uint8Array<ArrayBuffer> | undefined,
  ): void {
    const { file, frames } = segment;
    const kind = transactionId === undefined
      ? FLAG.entry
      : FLAG.entry | FLAG.transaction;
    const last = batch.length - 1;
    let offset = segment.end;
    for (let i = 0; i <= last; i++) {
      const staged = batch[i]!;
      const bytes = frameBytes(
        staged.payloadBytes,
        transactionId !== undefined,
      );
      const at = file.reserve(offset, bytes, total);
      const { payload, payloadBytes, term } = staged;
      const flags = kind | batchFlag(i, last);
      const index = first + i;
      const { target } = file;
      // deno-fmt-ignore
      frames.write(target, at, offset, flags, index, term, staged, payload,
        transactionId, payloadBytes);
      staged.offset = offset;
      offset += bytes;
    }
    file.flushWrites();
  }

  /** Ends the log with a frame that carries the newest durable mark. */
  writeWatermark(): void {
    const segment = this.#state.active;
    const bytes = frameBytes(0, false);
    // A full segment keeps its room for the index; a watermark is a hint.
    const rest = bytes + indexBytes(segment.entryCount);
    if (segment.end + rest > segment.identity.segmentBytes) return;
    const none = new Uint8Array(0);
    const zero = { low: 0, high: 0 };
    const index = segment.lastIndex + 1;
    const flags = FLAG.watermark;
    try {
      const at = segment.file.reserve(segment.end, bytes, bytes);
      const { target } = segment.file;
      // deno-fmt-ignore
      segment.frames.write(target, at, segment.end, flags, index, 0, zero, none,
        undefined);
      segment.file.flushWrites();
    } catch (error) {
      this.#takeBack(segment, segment.end + bytes);
      if (error instanceof StorageError) return;
      throw error;
    }
    segment.end += bytes;
    this.rounds.touch(segment);
    this.publisher.publish();
  }

  /** Zeroes what a failed write left; if that fails, the log is failed. */
  #takeBack(segment: Segment, end: number): void {
    try {
      segment.file.zero(segment.end, end);
      // The zeros must not lose to what they replace on the way to the disk.
      this.rounds.touch(segment);
    } catch (error) {
      this.rounds.fail(error, "taking back a failed write failed");
    }
  }

  #count(segment: Segment, entryCount: number, bytes: number): void {
    this.appendCount += entryCount;
    this.bytesWritten += bytes;
    this.rounds.touch(segment);
    this.publisher.publish();
    this.#parts.wakeups.wake();
  }

  #defaultTerm(): number {
    this.#lastTerm ??= this.#readLastTerm();
    return this.#lastTerm;
  }

  #readLastTerm(): number {
    const segment = this.#state.lastFilled();
    if (segment === undefined) return 0;
    const at = segment.locateFrame(this.#state.nextIndex - 1, true);
    return frameTerm(segment.file.window.view, at);
  }

  /** The last entry is another one now. */
  forgetTerm(): void {
    this.#lastTerm = undefined;
  }
}

function batchFlag(i: number, last: number): number {
  if (last === 0) return 0;
  return i === last ? FLAG.batchEnds : FLAG.batchContinues;
}

function indexTooLarge(index: number): RangeError {
  return new RangeError(
    `Cannot append entry: its index would be ${index}, expected at most 2^53 ` +
      `- 1`,
  );
}
