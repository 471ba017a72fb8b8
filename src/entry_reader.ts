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
import { FLAG, FRAME_HEADER_BYTES } from "./format.ts";
import { frameFlags, frameLength, frameTerm, payloadStart } from "./frame.ts";
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
  /** Entry `index`, which must exist; a view of it where that can be. */
  read(index: number, zeroCopy: boolean): Entry;
}

/** Reads the entries of one open log. */
export class EntryReader implements EntrySource {
  readonly #parts: EntryReaderParts;
  readonly #state: LogState;
  readonly #copier: Copier;

  /** For a log that is open. */
  constructor(parts: EntryReaderParts) {
    this.#parts = parts;
    this.#state = parts.state;
    this.#copier = new Copier((bytes) => parts.port.sharedMemory(bytes));
  }

  /** Entry `index`, which must exist; a view of it where that can be. */
  read(index: number, zeroCopy: boolean): Entry {
    const { encoder, verifyReads } = this.#parts;
    const segment = this.#state.holding(index);
    const views = zeroCopy && encoder === undefined && segment.file.mapped;
    const at = segment.locateFrame(index, verifyReads && !views);
    const memory = views
      ? segment.viewFrame(index, at, verifyReads)
      : undefined;
    // Where there is no such memory after all, nothing was checked yet.
    if (views && memory === undefined) segment.locateFrame(index, verifyReads);
    const { bytes, view } = memory ?? segment.file.window;
    const flags = frameFlags(view, at);
    const term = frameTerm(view, at);
    const start = at + payloadStart(flags);
    const end = at + frameLength(view, at);
    const payload = memory === undefined
      ? this.#copier.copy(bytes, start, end)
      : new Uint8Array(bytes.buffer, start, end - start);
    const transaction = (flags & FLAG.transaction) === 0
      ? undefined
      : bytes.slice(at + FRAME_HEADER_BYTES, start);
    const low = view.getUint32(at + 32, true);
    const high = view.getInt32(at + 36, true);
    const data = encoder === undefined
      ? payload
      : this.#decode(encoder, segment, index, payload);
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
      if (!this.#parts.verifyReads && error instanceof InvalidEntryError) {
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
