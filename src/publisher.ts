/**
 * Shows readers in other threads and processes what the log is now: the live
 * page is written after the frames, and its end is the only authority for
 * what may be read. Whoever waits is woken, and only then.
 *
 * The page is a help to readers and no part of the log: what goes wrong with
 * it makes them late, never wrong, and never fails a call of the writer.
 * docs/format.md §10; docs/architecture.md, "Readers beside a writer".
 *
 * @module
 */

import { StorageError } from "./errors.ts";
import { hasMagic, hex, isZero, viewOf } from "./fields.ts";
import {
  LIVE,
  LIVE_BYTES,
  LIVE_MAGIC,
  LIVE_NAME,
  LIVE_STATE,
  SESSION_BYTES,
  WAKE_NAME,
} from "./format.ts";
import type { Window } from "./frame.ts";
import { encodeChain, encodeDurable, endCheck } from "./live_page.ts";
import type { LogState } from "./log_state.ts";
import type { Logger } from "./logger.ts";
import type { Segment } from "./segment.ts";
import type {
  MappedRegion,
  StorageDirectory,
  StorageFile,
  StoragePort,
} from "./storage.ts";

const END = LIVE.end / 4;
const SEQUENCE = LIVE.sequence / 4;

/** What a publisher works with. */
export interface PublisherParts {
  /** The storage. */
  readonly storage: StoragePort;
  /** The log's folder. */
  readonly folder: StorageDirectory;
  /** The log's id, hex. */
  readonly logId: string;
  /** Its segments. */
  readonly state: LogState;
  /** The last durable entry. */
  readonly durableIndex: () => number;
  /** Told when readers cannot be told. */
  readonly logger: Logger | undefined;
}

/** The writing side of one open log's live page. */
export class Publisher {
  readonly #parts: PublisherParts;
  readonly #state: LogState;
  readonly #session: string;
  #file: StorageFile | undefined;
  #region: MappedRegion | undefined;
  #page: Window;
  /** The page as words, where it is mapped: stores into it are the writes. */
  #words: Int32Array<ArrayBuffer> | undefined;
  #wakeRegion: MappedRegion | undefined;
  #waiting: Int32Array<ArrayBuffer> | undefined;
  #segment: Segment | undefined;
  #firstIndex = 0;
  #generation = -1;
  #end = 0;
  #late = false;
  #warned = false;

  /** Shows nothing before `open` and `publish`. */
  constructor(parts: PublisherParts) {
    this.#parts = parts;
    this.#state = parts.state;
    const session = new Uint8Array(SESSION_BYTES);
    parts.storage.fillRandom(session);
    this.#session = hex(session);
    const bytes = new Uint8Array(LIVE_BYTES);
    this.#page = { bytes, view: viewOf(bytes) };
  }

  /** Finds or makes the files. */
  open(): void {
    this.#attempt(() => this.#open());
  }

  #open(): void {
    const { folder } = this.#parts;
    this.#file = openPage(folder, LIVE_NAME, this.#page.bytes);
    // A page that is used again counts on: readers hold it open.
    this.#file.readAt(this.#page.bytes, 0);
    this.#region = this.#file.map();
    if (this.#region === undefined) return;
    const { bytes } = this.#region;
    this.#page = { bytes, view: viewOf(bytes) };
    this.#words = wordsOf(bytes);
    const zeros = new Uint8Array(LIVE_BYTES);
    const wake = openPage(folder, WAKE_NAME, zeros);
    try {
      this.#wakeRegion = wake.map();
    } finally {
      wake.close();
    }
    this.#waiting = this.#wakeRegion && wordsOf(this.#wakeRegion.bytes);
  }

  /** Shows the log as it is now. Cheap when only entries were added. */
  publish(): void {
    if (this.#file === undefined) return;
    const { active, firstIndex, generation } = this.#state;
    const same = active === this.#segment &&
      firstIndex === this.#firstIndex && generation === this.#generation;
    if (same && !this.#late) {
      if (active.end === this.#end) return;
      this.#end = active.end;
      this.#showEnd();
    } else {
      this.#showChain(LIVE_STATE.open);
    }
  }

  /** Shows which entries are durable. */
  publishDurable(): void {
    if (this.#segment === undefined) return;
    encodeDurable(this.#page.view, this.#parts.durableIndex());
    this.#store(LIVE.durable, 12);
    this.#wakeReaders();
  }

  #showEnd(): void {
    const { view } = this.#page;
    view.setUint32(LIVE.endCheck, endCheck(this.#end), true);
    if (this.#words === undefined) view.setUint32(LIVE.end, this.#end, true);
    else Atomics.store(this.#words, END, this.#end);
    this.#store(LIVE.end, 8);
    this.#wakeReaders();
  }

  #showChain(state: number): void {
    const { active, firstIndex, generation } = this.#state;
    this.#segment = active;
    this.#firstIndex = firstIndex;
    this.#generation = generation;
    this.#end = active.end;
    this.#late = false;
    const { view } = this.#page;
    const sequence = view.getUint32(LIVE.sequence, true) & ~1;
    this.#setSequence(sequence + 1);
    encodeChain(this.#page, {
      logId: this.#parts.logId,
      boot: this.#parts.storage.bootId(),
      session: this.#session,
      state,
      firstIndex,
      generation,
      number: active.number,
      salt: active.identity.salt,
    });
    view.setUint32(LIVE.endCheck, endCheck(this.#end), true);
    view.setUint32(LIVE.end, this.#end, true);
    encodeDurable(view, this.#parts.durableIndex());
    this.#store(0, LIVE.sequence);
    this.#store(LIVE.state, LIVE.touched - LIVE.state);
    this.#setSequence(sequence + 2);
    this.#wakeReaders();
  }

  #setSequence(sequence: number): void {
    if (this.#words !== undefined) {
      Atomics.store(this.#words, SEQUENCE, sequence);
      return;
    }
    this.#page.view.setUint32(LIVE.sequence, sequence, true);
    this.#store(LIVE.sequence, 4);
  }

  /** Where the page is not mapped, hands a part of it to the system. */
  #store(offset: number, bytes: number): void {
    if (this.#words !== undefined) return;
    const piece = this.#page.bytes.subarray(offset, offset + bytes);
    this.#attempt(() => this.#file!.writeAt(piece, offset));
  }

  /**
   * A waiting reader has set the flag and then looked at the page again; the
   * page is written first and the flag read after it, so that one of the two
   * sees the other. Stores into a mapping wake nobody: a write does.
   */
  #wakeReaders(): void {
    const waiting = this.#waiting;
    if (waiting === undefined || Atomics.load(waiting, 0) === 0) return;
    Atomics.store(waiting, 0, 0);
    const { bytes } = this.#page;
    const piece = bytes.slice(LIVE.touched, LIVE.touched + 4);
    piece[0] = (piece[0]! + 1) & 0xff;
    this.#attempt(() => this.#file!.writeAt(piece, LIVE.touched));
  }

  /** What the system refuses makes readers late; the next call tries again. */
  #attempt(action: () => void): void {
    try {
      action();
    } catch (error) {
      // Whatever it was: the call that has published is done.
      if (!this.#warned) {
        const { logger } = this.#parts;
        logger?.warn("Readers in other processes cannot be told", error);
      }
      this.#late = this.#warned = true;
    }
  }

  /** The log is closed; what was never shown is not shown now. */
  end(): void {
    if (this.#segment !== undefined) this.#showChain(LIVE_STATE.closed);
    this.#segment = undefined;
    this.#file?.close();
    this.#file = undefined;
    this.#region?.release();
    this.#wakeRegion?.release();
    this.#words = this.#waiting = undefined;
  }
}

/** Opens a page that is there, or makes it with these bytes. */
function openPage(
  folder: StorageDirectory,
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
): StorageFile {
  const found = folder.open(name, "write");
  if (found !== undefined && isOurs(folder, found)) return found;
  const made = folder.create(name, LIVE_BYTES);
  try {
    // All of it takes its space now: no later write can run out of it.
    made.writeAt(bytes, 0);
    return made;
  } catch (error) {
    made.close();
    folder.remove(name);
    throw error;
  }
}

/**
 * Whether a file is a page of this library. One that a power cut has left
 * short is removed; what somebody else put there stays.
 */
function isOurs(folder: StorageDirectory, file: StorageFile): boolean {
  const { name } = file;
  const bytes = new Uint8Array(Math.min(file.bytes, LIVE_BYTES + 1));
  let ours = false;
  try {
    file.readAt(bytes, 0);
    const from = name === WAKE_NAME ? 4 : 0;
    ours = isZero(bytes, Math.min(from, bytes.length), bytes.length) ||
      (name === LIVE_NAME && hasMagic(bytes, 0, LIVE_MAGIC));
    if (ours && bytes.length === LIVE_BYTES) return true;
  } finally {
    if (!ours || bytes.length !== LIVE_BYTES) file.close();
  }
  if (ours && bytes.length < LIVE_BYTES) {
    folder.remove(name);
    return false;
  }
  const path = `${folder.path}/${name}`;
  throw new StorageError(
    `Cannot open file "${path}": it is not of this library, expected ` +
      `${LIVE_BYTES} bytes or no such file; move it away`,
    { operation: "open", path, systemCode: undefined },
  );
}

function wordsOf(bytes: Uint8Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

/**
 * Tells readers, before the log is changed without a publisher, that what the
 * page says counts no more: they go by what lies on the disk.
 */
export function retireLivePage(folder: StorageDirectory): void {
  const file = folder.open(LIVE_NAME, "write");
  if (file === undefined) return;
  try {
    if (file.bytes === LIVE_BYTES) file.writeAt(new Uint8Array(LIVE_BYTES), 0);
  } finally {
    file.close();
  }
}
