/**
 * A segment's bytes, mapped or not: gives windows to read from and memory to
 * write frames into, and keeps the file's two lives apart: open for writing
 * until it is sealed and durable, open for reading while somebody reads.
 *
 * It knows nothing of frames. docs/architecture.md, "Mapped and files".
 *
 * @module
 */

import { assert } from "./assert.ts";
import { SegmentNotFoundError } from "./errors.ts";
import { isZero, viewOf } from "./fields.ts";
import { PAGE_BYTES } from "./format.ts";
import type { Window } from "./frame.ts";
import type {
  MappedRegion,
  StorageDirectory,
  StorageFile,
  Syncable,
  SyncDone,
} from "./storage.ts";

const RANDOM_READ_BYTES = 4096;
const SEQUENTIAL_READ_BYTES = 64 * 1024;
/** A batch goes to the file in pieces of about this size. */
const WRITE_BYTES = 1024 * 1024;
const TARGET_BYTES = 64 * 1024;
const EMPTY: Uint8Array<ArrayBuffer> = new Uint8Array(0);

/**
 * Where frames for mapped files are put together that go by `writeAt`: for all
 * files, since nothing comes between `reserve` and `flushWrites`.
 */
let staging: Window | undefined;

function newTarget(): Window {
  const bytes = new Uint8Array(TARGET_BYTES);
  return { bytes, view: viewOf(bytes) };
}

/** The bytes of one segment file. */
export class SegmentFile implements Syncable {
  /** What reads see; replaced by every call of `locate`. */
  window: Window = { bytes: EMPTY, view: viewOf(EMPTY) };
  /** What frames are written into; replaced by every call of `reserve`. */
  target: Window = this.window;
  /** How far views were handed out of what `viewMemory` gives. */
  viewedEnd = 0;
  readonly #directory: StorageDirectory;
  readonly #name: string;
  #writer: StorageFile | undefined;
  #reader: StorageFile | undefined;
  #region: MappedRegion | undefined;
  #views: Window | undefined;
  #writesFrom = Infinity;
  #windowStart = 0;
  #windowEnd = 0;
  #pendingStart = 0;
  #pendingBytes = 0;
  #syncing = 0;
  #closeWhenIdle = false;

  /** A segment that is read only, so far. */
  constructor(directory: StorageDirectory, name: string) {
    this.#directory = directory;
    this.#name = name;
  }

  /** Whether reading needs no opening first. */
  get loaded(): boolean {
    return this.#region !== undefined || this.#reader !== undefined ||
      this.#writer !== undefined;
  }

  /** Whether `window` is the whole file, for as long as it is loaded. */
  get mapped(): boolean {
    return this.#region !== undefined;
  }

  /** Where in the file `window` begins. */
  get windowOffset(): number {
    return this.#region === undefined ? this.#windowStart : 0;
  }

  /** Whether the writing side is open. */
  get writable(): boolean {
    return this.#writer !== undefined;
  }

  /**
   * The file as memory that programs may have: stores into it stay in this
   * process, and it lives until nobody reaches it. `fresh` gives another one,
   * for when the program has written into the last. Undefined where the
   * storage has none.
   */
  viewMemory(fresh: boolean): Window | undefined {
    if (this.#region === undefined) return undefined;
    // Bun lets a program transfer the memory away: then there is none left.
    const usable = this.#views !== undefined && this.#views.bytes.length > 0;
    if (usable && !fresh) return this.#views;
    this.#views = undefined;
    this.viewedEnd = 0;
    const file = this.#directory.open(this.#name, "read");
    try {
      const bytes = file?.mapForGood();
      this.#views = bytes && { bytes, view: viewOf(bytes) };
    } finally {
      if (this.#views === undefined) file?.close();
    }
    return this.#views;
  }

  /** Bytes up to `end` of what `viewMemory` gives are the program's now. */
  noteView(end: number): void {
    if (end > this.viewedEnd) this.viewedEnd = end;
  }

  /** Takes over a file that is open for writing. */
  attach(writer: StorageFile): void {
    assert(this.#writer === undefined, "a segment has one writing side");
    this.#writer = writer;
    this.#region?.release();
    this.#region = writer.map();
    if (this.#region === undefined) {
      this.target = newTarget();
      return;
    }
    const { bytes } = this.#region;
    this.#writesFrom = writer.writesFrom ?? Infinity;
    this.window = { bytes, view: viewOf(bytes) };
    this.target = this.window;
  }

  /** Opens the reading side, if nothing readable is open yet. */
  load(): void {
    if (this.loaded) return;
    const file = this.#directory.open(this.#name, "read");
    if (file === undefined) {
      const path = `${this.#directory.path}/${this.#name}`;
      throw new SegmentNotFoundError(
        `Cannot read segment "${path}": it is missing, expected it to stay ` +
          `where it is while the log is open`,
        { path },
      );
    }
    try {
      this.#region = file.map();
    } catch (error) {
      file.close();
      throw error;
    }
    if (this.#region === undefined) {
      this.#reader = file;
      return;
    }
    file.close();
    const { bytes } = this.#region;
    this.window = { bytes, view: viewOf(bytes) };
  }

  /**
   * Makes `need` bytes from `offset` readable in `window`; returns where.
   * `end` is where the valid bytes of the file end now. -1 when the file is
   * shorter.
   */
  locate(offset: number, need: number, end: number): number {
    if (this.#region !== undefined) {
      return offset + need <= this.window.bytes.length ? offset : -1;
    }
    if (offset < this.#windowStart || offset + need > this.#windowEnd) {
      if (!this.#refill(offset, need, end)) return -1;
    }
    return offset - this.#windowStart;
  }

  #refill(offset: number, need: number, end: number): boolean {
    const sequential = offset >= this.#windowStart &&
      offset <= this.#windowEnd;
    const want = sequential ? SEQUENTIAL_READ_BYTES : RANDOM_READ_BYTES;
    const count = Math.max(need, Math.min(want, end - offset));
    if (this.window.bytes.length < count) {
      const bytes = new Uint8Array(Math.max(count, SEQUENTIAL_READ_BYTES));
      this.window = { bytes, view: viewOf(bytes) };
    }
    this.#windowStart = offset;
    this.#windowEnd = offset;
    const target = this.window.bytes.subarray(0, count);
    const read = this.#readable().readAt(target, offset);
    // Bytes behind the end will change: they are not kept.
    this.#windowEnd = Math.min(offset + read, Math.max(end, offset + need));
    if (read < need) this.#windowEnd = offset;
    return read >= need;
  }

  #readable(): StorageFile {
    const file = this.#reader ?? this.#writer;
    assert(file !== undefined, "a segment is loaded before it is read");
    return file;
  }

  /** Reads bytes that are no frames (header, index) into `target`. */
  readAt(target: Uint8Array<ArrayBuffer>, offset: number): boolean {
    if (this.#region !== undefined) {
      const { bytes } = this.#region;
      if (offset + target.length > bytes.length) return false;
      target.set(bytes.subarray(offset, offset + target.length));
      return true;
    }
    return this.#readable().readAt(target, offset) === target.length;
  }

  /**
   * Memory in `target` for `bytes` bytes that will stand at `offset`; returns
   * where in it. Consecutive calls must be for consecutive offsets until
   * `flushWrites`, `total` bytes in all.
   */
  reserve(offset: number, bytes: number, total: number): number {
    if (this.#pendingBytes > 0 && this.#pendingBytes + bytes > WRITE_BYTES) {
      this.flushWrites();
    }
    if (this.#region !== undefined) {
      // What is larger than a piece is not copied once more.
      if (total < this.#writesFrom || bytes > WRITE_BYTES) {
        this.target = this.window;
        return offset;
      }
      this.target = staging ??= newTarget();
    }
    if (this.#pendingBytes === 0) this.#pendingStart = offset;
    const at = this.#pendingBytes;
    if (at + bytes > this.target.bytes.length) this.#growTarget(at + bytes);
    this.#pendingBytes += bytes;
    return at;
  }

  #growTarget(bytes: number): void {
    const grown = new Uint8Array(Math.max(bytes, 2 * this.target.bytes.length));
    grown.set(this.target.bytes.subarray(0, this.#pendingBytes));
    this.target = { bytes: grown, view: viewOf(grown) };
    if (this.#region !== undefined) staging = this.target;
  }

  /** Hands what was reserved and filled to the system. */
  flushWrites(): void {
    if (this.#pendingBytes === 0) return;
    const source = this.target.bytes.subarray(0, this.#pendingBytes);
    this.#pendingBytes = 0;
    this.#writable().writeAt(source, this.#pendingStart);
    // Padding between frames must read as zero: the memory is used again.
    source.fill(0);
  }

  /** Writes bytes that are no frames (index, footer). */
  writeAt(source: Uint8Array<ArrayBuffer>, offset: number): void {
    if (this.#region === undefined) this.#writable().writeAt(source, offset);
    else this.#region.bytes.set(source, offset);
  }

  /**
   * Makes a range read as zero again. Pages that a full disk refused were
   * never written: only what is not zero is overwritten.
   */
  zero(from: number, to: number): void {
    this.#pendingBytes = 0;
    if (this.#region !== undefined) {
      staging?.bytes.fill(0);
      this.#region.bytes.fill(0, from, to);
      return;
    }
    this.target.bytes.fill(0);
    const page = new Uint8Array(PAGE_BYTES);
    let at = from;
    while (at < to) {
      const pageEnd = (Math.floor(at / PAGE_BYTES) + 1) * PAGE_BYTES;
      const start = at;
      at = Math.min(to, pageEnd);
      const piece = page.subarray(0, at - start);
      piece.fill(0);
      const count = this.#writable().readAt(piece, start);
      if (isZero(piece, 0, count)) continue;
      piece.fill(0);
      this.#writable().writeAt(piece, start);
    }
  }

  #writable(): StorageFile {
    assert(this.#writer !== undefined, "a segment is opened before writing");
    return this.#writer;
  }

  /** Blocks until all that was written is on the disk. */
  sync(): void {
    this.#writable().sync();
  }

  /** Starts a sync of all that was written. */
  syncSoon(done: SyncDone): void {
    this.#syncing++;
    this.#writable().syncSoon((error) => {
      this.#syncing--;
      done(error);
      if (this.#closeWhenIdle && this.#syncing === 0) this.#closeWriter();
    });
  }

  /** Ends the writing side once no sync of it runs; reading goes on. */
  endWriting(): void {
    if (this.#syncing > 0) this.#closeWhenIdle = true;
    else this.#closeWriter();
  }

  #closeWriter(): void {
    this.#closeWhenIdle = false;
    this.#writer?.close();
    this.#writer = undefined;
    if (this.#region === undefined) this.target = this.window;
  }

  /** Frees what reading holds; the next read opens it again. */
  unload(): void {
    if (this.#writer === undefined) this.#letGo(true);
  }

  /** Frees everything. */
  close(): void {
    this.endWriting();
    this.#letGo();
  }

  #letGo(soon = false): void {
    this.#reader?.close();
    this.#reader = undefined;
    if (soon && this.#region?.releaseSoon !== undefined) {
      this.#region.releaseSoon();
    } else this.#region?.release();
    this.#region = undefined;
    this.#views = undefined;
    this.window = { bytes: EMPTY, view: viewOf(EMPTY) };
    // The mapping goes when nothing reaches it any more.
    this.target = this.window;
    this.#windowStart = 0;
    this.#windowEnd = 0;
  }
}
