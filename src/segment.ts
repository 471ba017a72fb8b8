/**
 * One segment of an open log: finds entries by index, takes new frames, seals.
 *
 * It keeps no entry and no offset in memory but those of the block that is
 * not full yet: sealed and growing segments are read through the index in
 * the file. docs/format.md §4 and §5.
 *
 * @module
 */

import { assert } from "./assert.ts";
import type { ChainSegment } from "./chain.ts";
import { ChecksumMismatchError, StorageError } from "./errors.ts";
import { viewOf } from "./fields.ts";
import {
  BLOCK,
  BLOCK_BYTES,
  BLOCK_ENTRIES,
  blockOffset,
  FLAG,
  FOOTER_BYTES,
  FRAME_HEADER_BYTES,
  HEADER_BYTES,
} from "./format.ts";
import {
  frameFlags,
  frameIndex,
  frameLength,
  FrameWriter,
  isFrameSound,
  isPayloadSound,
  isPlausibleFrame,
  type Wide,
  type Window,
} from "./frame.ts";
import type { Identity, Link } from "./header.ts";
import { rebuildIndex } from "./index_rebuild.ts";
import { SegmentFile } from "./segment_file.ts";
import {
  blockMaxima,
  type IndexBuilder,
  isBlockValid,
  type Maxima,
} from "./segment_index.ts";
import type { StorageDirectory, StorageFile } from "./storage.ts";

/** Entries by blocks: ordinals fit 32 bits, a segment 2^30 bytes. */
const BLOCK_SHIFT = Math.log2(BLOCK_ENTRIES);

/** One segment of an open log. */
export class Segment {
  /** Its file's name. */
  readonly name: string;
  /** Its file's path. */
  readonly path: string;
  /** Who it is. */
  readonly identity: Identity;
  /** Where it stands. */
  readonly link: Link;
  /** Its bytes. */
  readonly file: SegmentFile;
  /** Writes its frames. */
  readonly frames: FrameWriter;
  /** Where its frames end; what lies behind does not count. */
  end: number;
  /** Its last entry; `baseIndex - 1` when it has none. */
  lastIndex: number;
  /** How far it may fill before its writer is to look ahead. */
  limit: number;
  /** Whether a successor has ended it. */
  sealed: boolean;
  /** Whether it has bytes that no sync was started for. */
  unsynced = false;
  /** Collects the index while it grows; undefined once it is sealed. */
  builder: IndexBuilder | undefined;
  /** Told when the index in the file is damaged. */
  onDamagedIndex: ((path: string) => void) | undefined;
  /** Finds the offset of each entry past damaged frames, in a salvaged log. */
  offsetsOf:
    | ((file: StorageFile) => Uint32Array<ArrayBuffer>)
    | undefined;
  readonly #directory: StorageDirectory;
  readonly #salt: number;
  readonly #baseIndex: number;
  #verified: Uint32Array<ArrayBuffer> | undefined;
  readonly #unwritten = new Map<number, Uint8Array<ArrayBuffer>>();
  #rebuilt: Uint32Array<ArrayBuffer> | undefined;
  readonly #block = new Uint8Array(BLOCK_BYTES);
  readonly #blockView = viewOf(this.#block);
  #blockOrdinal = -1;

  /** A segment whose frames end at `end` with entry `lastIndex`. */
  constructor(
    directory: StorageDirectory,
    member: ChainSegment,
    end: number,
    lastIndex: number,
  ) {
    this.name = member.name;
    this.path = `${directory.path}/${member.name}`;
    this.identity = member.identity;
    this.link = member.link;
    this.file = new SegmentFile(directory, member.name);
    this.frames = new FrameWriter(member.identity);
    this.end = end;
    this.lastIndex = lastIndex;
    this.limit = member.identity.segmentBytes;
    this.sealed = true;
    this.#directory = directory;
    this.#salt = member.identity.salt;
    this.#baseIndex = member.link.baseIndex;
  }

  /** Its running number. */
  get number(): number {
    return this.identity.number;
  }

  /** Its first entry's index. */
  get baseIndex(): number {
    return this.#baseIndex;
  }

  /** How many entries it holds. */
  get entryCount(): number {
    return this.lastIndex - this.#baseIndex + 1;
  }

  /** Makes it the segment that grows; its file must be attached. */
  grow(builder: IndexBuilder): void {
    assert(builder.entryCount === this.entryCount, "the index counts entries");
    this.builder = builder;
    this.sealed = false;
  }

  /** Whether frames of `bytes` with `entryCount` entries fit below `limit`. */
  fits(bytes: number, entryCount: number): boolean {
    const count = this.lastIndex - this.#baseIndex + 1 + entryCount;
    const blocks = (count + BLOCK_ENTRIES - 1) >>> BLOCK_SHIFT;
    // A watermark must always fit behind the last entry.
    const reserved = blocks * BLOCK_BYTES + FOOTER_BYTES + FRAME_HEADER_BYTES;
    return this.end + bytes + reserved <= this.limit;
  }

  /** Counts an entry whose frame was written, and indexes it. */
  addEntry(offset: number, term: number, timestamp: Wide): void {
    if (this.noteEntry(offset, term, timestamp)) this.writeBlock();
  }

  /** Counts an entry in memory alone; true where a block of the index ends. */
  noteEntry(offset: number, term: number, timestamp: Wide): boolean {
    const { builder } = this;
    assert(builder !== undefined, "only the growing segment takes entries");
    this.lastIndex++;
    return builder.add(offset, term, timestamp);
  }

  /** Somebody else has ended it here, where frames end. */
  endAt(end: number, lastIndex: number): void {
    if (lastIndex > this.lastIndex) {
      // What is known of its index is that of a shorter segment.
      this.#rebuilt = undefined;
      this.#verified = undefined;
      this.#blockOrdinal = -1;
    }
    this.end = end;
    this.lastIndex = lastIndex;
    this.sealed = true;
    this.builder = undefined;
  }

  /**
   * Writes the index block of the last entry to its place. The entry counts
   * already, so a full disk must not undo it: such a block waits in memory.
   */
  writeBlock(): void {
    const { builder } = this;
    if (builder === undefined || builder.entryCount === 0) return;
    const { segmentBytes, salt } = this.identity;
    const ordinal = builder.blockOrdinal;
    const at = blockOffset(segmentBytes, ordinal);
    const block = builder.encodeBlock(salt, at);
    if (this.#blockOrdinal === ordinal) this.#blockOrdinal = -1;
    if (this.#unwritten.size > 0) this.#unwritten.set(ordinal, block.slice());
    try {
      for (const [waiting, bytes] of this.#unwritten) {
        this.file.writeAt(bytes, blockOffset(segmentBytes, waiting));
        this.#unwritten.delete(waiting);
      }
      this.file.writeAt(block, at);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      this.#unwritten.set(ordinal, block.slice());
    }
  }

  /** Ends it: last block and footer; `nowMs` is the time of sealing. */
  seal(nowMs: number): void {
    const { builder } = this;
    if (builder === undefined) return;
    if (builder.pendingCount > 0) this.writeBlock();
    const footer = builder.encodeFooter({
      firstIndex: this.#baseIndex,
      lastIndex: this.lastIndex,
      end: this.end,
      blockCount: builder.blockOrdinal + 1,
      sealedAtMs: nowMs,
    }, this.#salt);
    try {
      this.file.writeAt(footer, this.identity.segmentBytes - FOOTER_BYTES);
    } catch (error) {
      // A footer repeats what the successor's link says: it may be missing.
      if (!(error instanceof StorageError)) throw error;
    }
    this.sealed = true;
    this.builder = undefined;
  }

  /**
   * Makes the frame of entry `index` readable in `file.window`; returns where
   * it begins there. Throws `ChecksumMismatchError` when its bytes are wrong.
   */
  locateFrame(index: number, verify: boolean): number {
    let offset = this.offsetOf(index);
    let at = this.#locateAt(offset, index, verify);
    if (at < 0 && this.#rebuilt === undefined && this.sealed) {
      // The index may be what is wrong: ask the frames themselves.
      this.#rebuild();
      const rebuilt = this.#rebuilt?.[index - this.#baseIndex];
      if (rebuilt !== undefined && rebuilt !== offset) {
        offset = rebuilt;
        at = this.#locateAt(offset, index, verify);
      }
    }
    if (at < 0) throw this.#mismatch(index, offset);
    return at;
  }

  #locateAt(offset: number, index: number, verify: boolean): number {
    const { end, file } = this;
    if (!(offset >= HEADER_BYTES && offset % 8 === 0)) return -1;
    if (offset + FRAME_HEADER_BYTES > end) return -1;
    let at = file.locate(offset, FRAME_HEADER_BYTES, end);
    if (at < 0) return -1;
    if (!this.isFrameOf(file.window.view, at, offset, index)) return -1;
    at = file.locate(offset, frameLength(file.window.view, at), end);
    if (at < 0) return -1;
    if (!verify) return at;
    return isFrameSound(file.window, at, offset, this.#salt) ? at : -1;
  }

  /** Whether what lies at `at` looks like the frame of entry `index`. */
  isFrameOf(
    view: DataView,
    at: number,
    offset: number,
    index: number,
  ): boolean {
    return isPlausibleFrame(view, at, offset, this.end, this.identity.number) &&
      frameIndex(view, at) === index &&
      (frameFlags(view, at) & FLAG.entry) !== 0;
  }

  /** Where the frame of entry `index` lies in `memory`, unchecked; or -1. */
  placeIn(memory: Window, index: number): number {
    const offset = this.offsetOf(index);
    if (!(offset >= HEADER_BYTES && offset % 8 === 0)) return -1;
    const last = Math.min(this.end, memory.bytes.length);
    if (offset + FRAME_HEADER_BYTES > last) return -1;
    if (!this.isFrameOf(memory.view, offset, offset, index)) return -1;
    return offset + frameLength(memory.view, offset) <= last ? offset : -1;
  }

  /**
   * Whether the checksum of the frame at `at` of `memory`, which begins at
   * `offset`, is right with a payload that may be a copy of what lies there.
   */
  isSound(
    memory: Window,
    at: number,
    offset: number,
    payload: Uint8Array<ArrayBuffer>,
  ): boolean {
    return isPayloadSound(memory, at, offset, this.#salt, payload);
  }

  /**
   * New memory of the program's own in which the frame at `at` of the file
   * lies at the same place; undefined where there is none.
   */
  freshMemory(index: number, at: number): Window | undefined {
    const fresh = this.file.viewMemory(true);
    if (fresh === undefined || this.#isSame(fresh, at)) return fresh;
    throw this.#mismatch(index, at);
  }

  #isSame(memory: Window, at: number): boolean {
    const length = frameLength(this.file.window.view, at);
    return frameLength(memory.view, at) === length &&
      isFrameSound(memory, at, at, this.#salt);
  }

  #mismatch(index: number, offset: number): ChecksumMismatchError {
    return new ChecksumMismatchError(
      `Cannot read entry ${index}: its frame at offset ${offset} of ` +
        `"${this.path}" is damaged, expected sound bytes; run walrus verify`,
      { index, segment: this.path, offset },
    );
  }

  /** Where the frame of entry `index` begins. */
  offsetOf(index: number): number {
    const ordinal = index - this.#baseIndex;
    // Rebuilt offsets end where the frames did: the index knows the rest.
    const rebuilt = this.#rebuilt?.[ordinal];
    if (rebuilt !== undefined) return rebuilt;
    const block = ordinal >>> BLOCK_SHIFT;
    const slot = ordinal & (BLOCK_ENTRIES - 1);
    const { builder } = this;
    if (builder !== undefined) {
      const full = builder.entryCount - builder.entryCount % BLOCK_ENTRIES;
      if (ordinal >= full) return builder.offsets[slot]!;
    }
    if (this.file.mapped && this.#isVerified(block)) {
      const at = blockOffset(this.identity.segmentBytes, block);
      const place = at + BLOCK.offsets + 4 * slot;
      return this.file.window.view.getUint32(place, true);
    }
    if (!this.#loadBlock(block)) {
      if (ordinal >= (this.#rebuilt?.length ?? 0)) this.#rebuild();
      return this.#rebuilt?.[ordinal] ?? -1;
    }
    return this.#blockView.getUint32(BLOCK.offsets + 4 * slot, true);
  }

  /**
   * The highest time and term of its entries up to the end of index block
   * `ordinal`; undefined when that is damaged.
   */
  maximaThrough(ordinal: number): Maxima | undefined {
    const { builder } = this;
    if (builder !== undefined && ordinal >= builder.blockOrdinal) {
      return builder.maxima;
    }
    return this.#loadBlock(ordinal) ? blockMaxima(this.#blockView) : undefined;
  }

  #loadBlock(ordinal: number): boolean {
    if (this.#blockOrdinal === ordinal) return true;
    this.#blockOrdinal = -1;
    const at = blockOffset(this.identity.segmentBytes, ordinal);
    if (at < HEADER_BYTES) return false;
    const unwritten = this.#unwritten.get(ordinal);
    if (unwritten !== undefined) {
      this.#block.set(unwritten);
      this.#blockOrdinal = ordinal;
      return true;
    }
    if (!this.file.readAt(this.#block, at)) return false;
    const first = ordinal * BLOCK_ENTRIES;
    const need = Math.min(BLOCK_ENTRIES, this.entryCount - first);
    if (!this.#isVerified(ordinal)) {
      if (!isBlockValid(this.#block, this.#salt, at, need)) return false;
      this.#setVerified(ordinal);
    }
    this.#blockOrdinal = ordinal;
    return true;
  }

  #isVerified(ordinal: number): boolean {
    const word = this.#verified?.[ordinal >>> 5] ?? 0;
    return (word & (1 << (ordinal & 31))) !== 0;
  }

  #setVerified(ordinal: number): void {
    const words = (ordinal >>> 5) + 1;
    if (this.#verified === undefined || this.#verified.length < words) {
      const grown = new Uint32Array(Math.max(words, 8) * 2);
      if (this.#verified !== undefined) grown.set(this.#verified);
      this.#verified = grown;
    }
    this.#verified[ordinal >>> 5]! |= 1 << (ordinal & 31);
  }

  /** Makes the offsets again from the frames, in memory. */
  #rebuild(): void {
    const file = this.#directory.open(this.name, "read");
    // A writer elsewhere may have removed it meanwhile.
    if (file === undefined) return;
    this.onDamagedIndex?.(this.path);
    try {
      const { identity, end } = this;
      this.#rebuilt = this.offsetsOf?.(file) ??
        rebuildIndex(file, identity, this.#baseIndex, end).offsets;
    } finally {
      file.close();
    }
  }
}
