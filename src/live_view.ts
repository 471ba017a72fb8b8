/**
 * The reading side of a live page: sees at small cost whether anything has
 * changed, and reads the page whole or not at all. Readers write nothing into
 * it. docs/format.md §10.
 *
 * @module
 */

import { StorageError } from "./errors.ts";
import { viewOf } from "./fields.ts";
import { LIVE, LIVE_BYTES, LIVE_NAME } from "./format.ts";
import type { Window } from "./frame.ts";
import {
  decodeChain,
  decodeDurable,
  decodeEnd,
  type LiveChain,
} from "./live_page.ts";
import type {
  Clock,
  MappedRegion,
  StorageDirectory,
  StorageFile,
} from "./storage.ts";

/** Where there is no page, one is looked for so often at most. */
const RETRY_MS = 50;
/** So often in a row a page is read while it changes, at most. */
const TORN_MAX = 20;

/** What a writer shows of its log at one moment. */
export interface LiveSnapshot {
  /** Which segments make it up. */
  readonly chain: LiveChain;
  /** Where the published frames of the growing segment end. */
  readonly end: number;
  /** The last durable entry. */
  readonly durableIndex: number;
}

/** A live page that is looked at. */
export class LiveView {
  readonly #folder: StorageDirectory;
  readonly #clock: Clock;
  #file: StorageFile | undefined;
  #region: MappedRegion | undefined;
  #page: Window | undefined;
  #chain: LiveChain | undefined;
  /** The words of the page at the last look. */
  #sequence = -1;
  #end = -1;
  #endCheck = -1;
  #durable = -1;
  #durableCheck = -1;
  #lastEnd = 0;
  #lastDurable = 0;
  #triedMs = -Infinity;

  /** A view of the page in this folder, if there is one or comes to be. */
  constructor(folder: StorageDirectory, clock: Clock) {
    this.#folder = folder;
    this.#clock = clock;
  }

  /** Whether the page differs from what the last look has seen. */
  changed(): boolean {
    const page = this.#usable();
    if (page === undefined) return false;
    this.#fetch();
    const { view } = page;
    return view.getUint32(LIVE.end, true) !== this.#end ||
      view.getUint32(LIVE.endCheck, true) !== this.#endCheck ||
      view.getUint32(LIVE.durable, true) !== this.#durable ||
      view.getUint32(LIVE.durableCheck, true) !== this.#durableCheck ||
      view.getUint32(LIVE.sequence, true) !== this.#sequence;
  }

  /** Whether the page is being changed, or was left so by a death. */
  get changing(): boolean {
    if (this.#page === undefined) return false;
    this.#fetch();
    return this.#page.view.getUint32(LIVE.sequence, true) % 2 === 1;
  }

  /** Looks; undefined where there is no page or it is just being changed. */
  look(): LiveSnapshot | undefined {
    const page = this.#usable();
    if (page === undefined) return undefined;
    this.#fetch();
    let seen = this.#lookOnce(page);
    // What was read with one call while it was written may be parts of two
    // pages that the sequence does not tell apart; the checksum does.
    for (let i = 0; i < TORN_MAX && this.#isTorn(); i++) {
      seen = this.#lookOnce(page);
    }
    return seen;
  }

  #isTorn(): boolean {
    return this.#region === undefined && this.#chain === undefined &&
      this.#sequence !== -1 && this.#sequence % 2 === 0;
  }

  #lookOnce({ bytes, view }: Window): LiveSnapshot | undefined {
    const sequence = view.getUint32(LIVE.sequence, true);
    this.#end = view.getUint32(LIVE.end, true);
    this.#endCheck = view.getUint32(LIVE.endCheck, true);
    this.#durable = view.getUint32(LIVE.durable, true);
    this.#durableCheck = view.getUint32(LIVE.durableCheck, true);
    const same = sequence === this.#sequence && this.#chain !== undefined;
    this.#sequence = sequence;
    if (sequence % 2 === 1) return undefined;
    const chain = same ? this.#chain : decodeChain({ bytes, view });
    const end = decodeEnd(view);
    const durableIndex = decodeDurable(view);
    this.#fetch();
    // What was read while it changed is not believed [I9].
    const moved = view.getUint32(LIVE.sequence, true) !== sequence;
    this.#chain = moved ? undefined : chain;
    if (moved) this.#sequence = -1;
    if (this.#chain === undefined) return undefined;
    // A cell that is being written counts as before, unless all is new.
    if (!same && (end === undefined || durableIndex === undefined)) {
      this.#sequence = -1;
      return undefined;
    }
    this.#lastEnd = end ?? this.#lastEnd;
    this.#lastDurable = durableIndex ?? this.#lastDurable;
    return {
      chain: this.#chain,
      end: this.#lastEnd,
      durableIndex: this.#lastDurable,
    };
  }

  /** The page; one that says nothing, or is not there, is looked for anew. */
  #usable(): Window | undefined {
    if (this.#page !== undefined && this.#chain !== undefined) {
      return this.#page;
    }
    const nowMs = this.#clock.monotonicNs() / 1e6;
    if (nowMs - this.#triedMs >= RETRY_MS) {
      this.#triedMs = nowMs;
      this.close();
      this.#open();
    }
    return this.#page;
  }

  #open(): void {
    try {
      const file = this.#folder.open(LIVE_NAME, "read");
      if (file === undefined) return;
      if (file.bytes !== LIVE_BYTES) return file.close();
      this.#file = file;
      this.#region = file.map();
    } catch (error) {
      // Without it the log is read as it lies on the disk.
      if (!(error instanceof StorageError)) throw error;
      this.close();
      return;
    }
    const bytes = this.#region?.bytes ?? new Uint8Array(LIVE.touched);
    this.#page = { bytes, view: viewOf(bytes) };
    this.#sequence = -1;
  }

  /** Where the page is not mapped, reads it. */
  #fetch(): void {
    if (this.#region !== undefined || this.#page === undefined) return;
    this.#file?.readAt(this.#page.bytes, 0);
  }

  /** Lets go of the file. */
  close(): void {
    this.#region?.release();
    this.#file?.close();
    this.#region =
      this.#file =
      this.#page =
      this.#chain =
        undefined;
  }
}
