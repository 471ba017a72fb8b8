/**
 * One open file of the mapped and the files storage.
 *
 * @module
 */

import { assert } from "../src/assert.ts";
import type { MappedRegion, StorageFile, SyncDone } from "../src/storage.ts";
import { readFully, SyncPair, writeFully } from "./descriptors.ts";
import { type Attempt, systemError } from "./system_error.ts";
import type { AheadRegion, DiskCalls } from "./types.ts";

/** What a `DiskFile` is made of. */
export interface DiskFileParts {
  /** How the caller knows it. */
  readonly name: string;
  /** How errors name it. */
  readonly path: string;
  /** Its size. */
  readonly bytes: number;
  /** What may be done with it. */
  readonly access: "read" | "write";
  /** For reading, writing and the blocking sync. */
  readonly fd: number;
  /** For the sync that does not block; the same as `fd` when only read. */
  readonly soonFd: number;
  /** See `DirectoryOptions`. */
  readonly smallSyncs: boolean;
  /** See the port. */
  readonly writesFrom: number;
}

/** A regular file over its descriptors. */
export class DiskFile implements StorageFile {
  /** See the port. */
  name: string;
  /** Its size in bytes. */
  readonly bytes: number;
  /** See the port. */
  readonly writesFrom: number;
  #path: string;
  readonly #access: "read" | "write";
  readonly #smallSyncs: boolean;
  readonly #calls: DiskCalls;
  readonly #fd: number;
  readonly #syncs: SyncPair;
  /** Made by `mapAhead`, until `map` hands it out. */
  #ahead: MappedRegion | undefined;
  #mapped = false;
  #closed = false;

  /** Takes the descriptors over. */
  constructor(calls: DiskCalls, parts: DiskFileParts) {
    this.name = parts.name;
    this.bytes = parts.bytes;
    this.#path = parts.path;
    this.#access = parts.access;
    this.#smallSyncs = parts.smallSyncs;
    this.writesFrom = parts.writesFrom;
    this.#calls = calls;
    this.#fd = parts.fd;
    this.#syncs = new SyncPair(
      this.#attempt("sync"),
      parts.fd,
      parts.soonFd,
    );
  }

  /** See the port. */
  renamed(name: string): void {
    const folder = this.#path.slice(0, this.#path.length - this.name.length);
    this.name = name;
    this.#path = folder + name;
    this.#syncs.renamed(this.#path);
  }

  /** See the port. */
  readAt(target: Uint8Array<ArrayBuffer>, offset: number): number {
    assert(!this.#closed, "read after close");
    assert(Number.isSafeInteger(offset) && offset >= 0, "odd read offset");
    try {
      return readFully(this.#fd, target, offset);
    } catch (error) {
      throw systemError(this.#attempt("read"), error);
    }
  }

  /** See the port. */
  writeAt(source: Uint8Array<ArrayBuffer>, offset: number): void {
    this.#assertWritable();
    this.#assertRange(offset, source.length);
    try {
      writeFully(this.#fd, source, offset);
    } catch (error) {
      throw systemError(this.#attempt("write"), error);
    }
  }

  /** See the port. */
  map(): MappedRegion | undefined {
    assert(!this.#closed, "map after close");
    assert(!this.#mapped, "mapped twice");
    if (this.#ahead !== undefined) {
      const region = this.#ahead;
      this.#ahead = undefined;
      this.#mapped = true;
      return region;
    }
    try {
      const region = this.#calls.map(
        this.#fd,
        this.bytes,
        this.#access,
        this.#access === "write" && this.#smallSyncs,
      );
      this.#mapped = region !== undefined;
      return region;
    } catch (error) {
      throw systemError(this.#attempt("map"), error);
    }
  }

  /** Maps a file whose space is allocated; `map` then returns at once. */
  mapAhead(): AheadRegion {
    assert(!this.#mapped && this.#ahead === undefined, "mapped twice");
    try {
      const { bytes } = this;
      const small = this.#smallSyncs;
      const region = this.#calls.mapAllocated(this.#fd, bytes, small);
      this.#ahead = region;
      return region;
    } catch (error) {
      throw systemError(this.#attempt("map"), error);
    }
  }

  /** See the port. */
  mapForGood(): Uint8Array<ArrayBuffer> | undefined {
    assert(!this.#closed && this.#access === "read", "a file to read");
    try {
      const bytes = this.#calls.mapForGood(this.#fd, this.bytes);
      if (bytes !== undefined) this.#closed = true;
      return bytes;
    } catch (error) {
      throw systemError(this.#attempt("map"), error);
    }
  }

  /** See the port. */
  punchHole(offset: number, bytes: number): void {
    this.#assertWritable();
    this.#assertRange(offset, bytes);
    if (bytes === 0) return;
    try {
      this.#calls.punchHole(this.#fd, offset, bytes);
    } catch (error) {
      throw systemError(this.#attempt("punch"), error);
    }
  }

  /** See the port. */
  dropCache(): void {
    assert(!this.#closed, "dropCache after close");
    this.#calls.dropCache(this.#fd);
  }

  /** See the port. */
  sync(): void {
    this.#assertWritable();
    this.#syncs.sync();
  }

  /** See the port. */
  syncSoon(done: SyncDone): void {
    this.#assertWritable();
    this.#syncs.syncSoon(done);
  }

  /** See the port. */
  close(): void {
    assert(!this.#closed, "closed twice");
    this.#closed = true;
    this.#ahead?.release();
    this.#syncs.close();
  }

  #attempt(operation: string): Attempt {
    return { operation, object: "file", path: this.#path };
  }

  #assertWritable(): void {
    assert(!this.#closed, "use after close");
    assert(this.#access === "write", "write to a file opened to read");
  }

  #assertRange(offset: number, bytes: number): void {
    assert(Number.isSafeInteger(offset) && offset >= 0, "odd offset");
    assert(Number.isSafeInteger(bytes) && bytes >= 0, "odd size");
    assert(offset + bytes <= this.bytes, "files are never resized");
  }
}
