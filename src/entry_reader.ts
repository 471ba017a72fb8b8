/**
 * Makes entries from frames: finds the frame, checks it, and copies the data
 * or lays a view over it.
 *
 * @module
 */

import { show } from "./checks.ts";
import { Copier } from "./copier.ts";
import type { Encoder } from "./encoder.ts";
import { type Entry, StoredEntry } from "./entry.ts";
import { ChecksumMismatchError, InvalidEntryError } from "./errors.ts";
import {
  FLAG,
  FRAME,
  FRAME_HEADER_BYTES,
  HEADER_BYTES,
  TRANSACTION_ID_BYTES,
} from "./format.ts";
import {
  frameFlags,
  frameLength,
  frameTerm,
  payloadStart,
  type Window,
} from "./frame.ts";
import type { FrameRun } from "./frame_run.ts";
import type { LogState } from "./log_state.ts";
import type { Segment } from "./segment.ts";
import type { StoragePort } from "./storage.ts";

/** What reading entries needs. */
export interface EntryReaderParts {
  /** The storage. */
  readonly port: StoragePort;
  /** The log's segments. */
  readonly state: LogState;
  /** The encoder of a format other than "binary". */
  readonly encoder: Encoder | undefined;
  /** Whether reads check. */
  readonly verifyReads: boolean;
}

/** What gives entries. */
export interface EntrySource {
  /**
   * Entry `index`, which must exist; a view of it where that can be. A scan
   * gives its run, so that the frames behind are checked with this one.
   */
  read(index: number, zeroCopy: boolean, run?: FrameRun): Entry;
}

/** Reads the entries of one open log. */
export class EntryReader implements EntrySource {
  readonly #state: LogState;
  readonly #encoder: Encoder | undefined;
  readonly #verify: boolean;
  readonly #copier: Copier;

  /** For a log that is open. */
  constructor(parts: EntryReaderParts) {
    this.#state = parts.state;
    this.#encoder = parts.encoder;
    this.#verify = parts.verifyReads;
    this.#copier = new Copier((bytes) => parts.port.sharedMemory(bytes));
  }

  /** See `EntrySource`. */
  read(index: number, zeroCopy: boolean, run?: FrameRun): Entry {
    const segment = this.#state.holding(index);
    const { mapped } = segment.file;
    const ahead = mapped && this.#verify ? run : undefined;
    if (zeroCopy && this.#encoder === undefined && mapped) {
      const found = this.#viewAhead(segment, index, ahead) ??
        this.#view(segment, index);
      if (found !== undefined) return found;
    } else if (ahead !== undefined) {
      const found = this.#copyAhead(segment, index, ahead);
      if (found !== undefined) return found;
    }
    const at = segment.locateFrame(index, false);
    const found = this.#copy(segment, at, index);
    // The index may be damaged, or the frame: locating tells which.
    return found ?? this.#copyChecked(segment, index);
  }

  /** The entry out of a run that was copied, if its frames are sound. */
  #copyAhead(
    segment: Segment,
    index: number,
    run: FrameRun,
  ): Entry | undefined {
    let at = run.find(segment, index);
    if (at < 0) {
      if (!this.#readAhead(segment, index, run)) return undefined;
      at = run.find(segment, index);
    }
    const { memory } = run;
    const { bytes, view } = memory;
    const start = at + payloadStart(frameFlags(view, at));
    const end = at + frameLength(view, at);
    const payload = this.#copier.copy(bytes, start, end);
    return this.#entry(segment, memory, at, index, payload);
  }

  /** Copies frames from entry `index` on and checks them as one. */
  #readAhead(segment: Segment, index: number, run: FrameRun): boolean {
    if (!run.mayBegin(segment, index)) return false;
    const { window } = segment.file;
    const offset = segment.offsetOf(index);
    const end = Math.min(segment.end, window.bytes.length);
    if (!(offset >= HEADER_BYTES && offset % 8 === 0)) return false;
    const bytes = Math.min(run.nextBytes(), end - offset);
    if (bytes < FRAME_HEADER_BYTES) return false;
    // Memory that no program has, so that what was checked stays what it is.
    const memory = run.ownMemory(bytes);
    memory.bytes.set(window.bytes.subarray(offset, offset + bytes));
    return run.take(segment, index, memory, 0, bytes, offset);
  }

  /**
   * A view out of a run that was checked where it lies, if no view of it was
   * handed out since it lies there: only then the program cannot have written
   * into it behind the check.
   */
  #viewAhead(
    segment: Segment,
    index: number,
    run: FrameRun | undefined,
  ): Entry | undefined {
    if (run === undefined) return undefined;
    const { file } = segment;
    const memory = file.viewMemory(false);
    if (memory === undefined) return undefined;
    let at = run.find(segment, index);
    if (at < 0 || memory !== run.memory) {
      if (!run.mayBegin(segment, index)) return undefined;
      at = segment.offsetOf(index);
      if (!(at >= HEADER_BYTES && at % 8 === 0)) return undefined;
      if (at < file.viewedEnd) {
        run.putOff(index);
        return undefined;
      }
      const end = Math.min(segment.end, memory.bytes.length);
      const limit = Math.min(end, at + run.nextBytes());
      if (!run.take(segment, index, memory, at, limit, at)) return undefined;
    }
    if (at < file.viewedEnd) return undefined;
    const payload = viewPayload(memory, at);
    file.viewedEnd = at + frameLength(memory.view, at);
    return this.#entry(segment, memory, at, index, payload);
  }

  /** The frame at `at` with a copy of its data, if its checksum is right. */
  #copy(
    segment: Segment,
    at: number,
    index: number,
  ): Entry | undefined {
    const { window, windowOffset } = segment.file;
    const { bytes, view } = window;
    const start = at + payloadStart(frameFlags(view, at));
    const end = at + frameLength(view, at);
    const payload = this.#copier.copy(bytes, start, end);
    const offset = windowOffset + at;
    if (this.#verify && !segment.isSound(window, at, offset, payload)) {
      return undefined;
    }
    return this.#entry(segment, window, at, index, payload);
  }

  #copyChecked(segment: Segment, index: number): Entry {
    const at = segment.locateFrame(index, true);
    const { window } = segment.file;
    const { bytes, view } = window;
    const start = at + payloadStart(frameFlags(view, at));
    const payload = bytes.slice(start, at + frameLength(view, at));
    return this.#entry(segment, window, at, index, payload);
  }

  /** A view of it; undefined where there is no memory for views. */
  #view(segment: Segment, index: number): Entry | undefined {
    const memory = segment.file.viewMemory(false);
    if (memory === undefined) return undefined;
    if (this.#verify) {
      const at = segment.placeIn(memory, index);
      if (at >= 0) {
        const payload = viewPayload(memory, at);
        if (segment.isSound(memory, at, at, payload)) {
          segment.file.noteView(at + frameLength(memory.view, at));
          return this.#entry(segment, memory, at, index, payload);
        }
      }
    }
    // The program has written into its memory, or there is damage.
    const at = segment.locateFrame(index, this.#verify);
    const same = !this.#verify && segment.placeIn(memory, index) === at;
    const sound = same ? memory : segment.freshMemory(index, at);
    if (sound === undefined) return undefined;
    const payload = viewPayload(sound, at);
    segment.file.noteView(at + frameLength(sound.view, at));
    return this.#entry(segment, sound, at, index, payload);
  }

  #entry(
    segment: Segment,
    { bytes, view }: Window,
    at: number,
    index: number,
    payload: Uint8Array<ArrayBuffer>,
  ): Entry {
    const body = at + FRAME_HEADER_BYTES;
    const transaction = (frameFlags(view, at) & FLAG.transaction) === 0
      ? undefined
      : bytes.slice(body, body + TRANSACTION_ID_BYTES);
    const low = view.getUint32(at + FRAME.timestamp, true);
    const high = view.getInt32(at + FRAME.timestamp + 4, true);
    const term = frameTerm(view, at);
    // The encoder is the caller's program, and may read: another frame may
    // lie in the window after it.
    const data = this.#encoder === undefined
      ? payload
      : this.#decode(this.#encoder, segment, index, payload);
    return new StoredEntry(index, term, data, low, high, transaction);
  }

  #decode(
    encoder: Encoder,
    segment: Segment,
    index: number,
    payload: Uint8Array<ArrayBuffer>,
  ): Uint8Array<ArrayBuffer> {
    let data: unknown;
    try {
      data = encoder.decode(payload)?.data;
    } catch (error) {
      // With the checksum off, damage shows here first.
      if (!this.#verify && error instanceof InvalidEntryError) {
        const offset = segment.offsetOf(index);
        throw new ChecksumMismatchError(
          `Cannot read entry ${index}: ${error.message}`,
          { index, segment: segment.path, offset },
        );
      }
      throw error;
    }
    if (data instanceof Uint8Array) return data as Uint8Array<ArrayBuffer>;
    throw new InvalidEntryError(
      `Cannot read entry ${index}: encoder "${encoder.name}" gave ` +
        `${show(data)} as data, expected a Uint8Array`,
    );
  }
}

function viewPayload({ bytes, view }: Window, at: number): Uint8Array<
  ArrayBuffer
> {
  const start = payloadStart(frameFlags(view, at));
  const length = frameLength(view, at) - start;
  return new Uint8Array(bytes.buffer, bytes.byteOffset + at + start, length);
}
