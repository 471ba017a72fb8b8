/**
 * What mapped storage adds to `node:fs`: mapping, allocating, punching and
 * locking through libc.
 *
 * Owns the lifetime of mappings: a released one is at once replaced by
 * private zero pages, so that no late access can crash or reach the file,
 * and its addresses are given back when the last view of it is collected.
 *
 * @module
 */

import { assert } from "../src/assert.ts";
import type { MappedRegion } from "../src/storage.ts";
import { closeQuietly, readFully, writeFully } from "./descriptors.ts";
import type { Looks } from "./looks.ts";
import * as c from "./symbols.ts";
import { SystemCallError } from "./system_error.ts";
import type { AheadRegion, BackgroundCalls, DiskCalls, Libc } from "./types.ts";

/** Numbers of errno on Linux, where alone this file runs. */
const EINTR = 4;
const EWOULDBLOCK = 11;
const ENOSYS = 38;
const EOPNOTSUPP = 95;

/** Larger writes make large folios, and those make a small sync large. */
const FILL_BYTES = 4096;

/** So much memory is advised on in one call. */
const ADVISED_BYTES = 2 * 1024 * 1024;

/** Mappings of this thread that are being taken down. */
let releasing = 0;

/** Descriptors of files that programs have views of. */
const openWhileViewed = new FinalizationRegistry<number>(closeQuietly);

/** The calls of mapped storage. */
export class PosixCalls implements DiskCalls {
  /** See `DiskCalls`. */
  readonly looks: Looks;
  /** See `DiskCalls`. */
  readonly background: BackgroundCalls | undefined;
  readonly #libc: Libc;

  /** Works through one thread's C library, and perhaps through others. */
  constructor(libc: Libc, background?: BackgroundCalls) {
    this.#libc = libc;
    this.looks = libc.looks;
    this.background = background;
  }

  /** See `DiskCalls`. */
  allocate(fd: number, bytes: number): void {
    const errno = this.#fallocate(fd, 0, 0, bytes);
    if (errno === 0) return;
    if (!isUnsupported(errno)) throw new SystemCallError("fallocate", errno);
    fill(fd, bytes);
  }

  /** See `DiskCalls`. */
  map(
    fd: number,
    bytes: number,
    access: "read" | "write",
    smallSyncs: boolean,
  ): MappedRegion {
    if (access === "read") {
      return this.#map(fd, bytes, c.MAP_PRIVATE | c.MAP_NORESERVE, smallSyncs);
    }
    // A file that another storage made, or that was restored from a copy, may
    // have holes: a store into one on a full disk would kill the process.
    this.allocate(fd, bytes);
    return this.mapAllocated(fd, bytes, smallSyncs);
  }

  /** See `DiskCalls`. */
  mapAllocated(fd: number, bytes: number, smallSyncs: boolean): AheadRegion {
    return this.#map(fd, bytes, c.MAP_SHARED, smallSyncs);
  }

  #map(
    fd: number,
    bytes: number,
    flags: number,
    smallSyncs: boolean,
  ): PosixRegion {
    const { symbols } = this.#libc;
    const length = BigInt(bytes);
    const address = symbols.mmap(0n, length, c.PROT_READ_WRITE, flags, fd, 0n);
    if (address === c.MAP_FAILED) {
      throw new SystemCallError("mmap", this.#libc.errno());
    }
    if (smallSyncs) symbols.madvise(address, length, c.MADV_RANDOM);
    return new PosixRegion(this.#libc, this.background, address, bytes);
  }

  /** See `DiskCalls`. Views share a lock of the file with those elsewhere. */
  mapForGood(fd: number, bytes: number): Uint8Array<ArrayBuffer> | undefined {
    if (!this.#tryLock(fd, c.LOCK_SH)) return undefined;
    const region = this.map(fd, bytes, "read", false);
    // The lock ends with the descriptor.
    openWhileViewed.register(region.bytes.buffer, fd);
    return region.bytes;
  }

  /** See `DiskCalls`. A hole would show through views. */
  punchHole(fd: number, offset: number, bytes: number): void {
    if (!this.#tryLock(fd, c.LOCK_EX)) return;
    const mode = c.FALLOC_FL_PUNCH_HOLE | c.FALLOC_FL_KEEP_SIZE;
    const errno = this.#fallocate(fd, mode, offset, bytes);
    this.#libc.symbols.flock(fd, c.LOCK_UN);
    if (errno === 0 || isUnsupported(errno)) return;
    throw new SystemCallError("fallocate", errno);
  }

  /** See `DiskCalls`. */
  dropCache(fd: number): void {
    // Its result is of no use to anybody: this is a hint.
    this.#libc.symbols.posix_fadvise(fd, 0n, 0n, c.POSIX_FADV_DONTNEED);
  }

  /** See `DiskCalls`. The lock goes when the descriptor is closed. */
  readonly tryFlock = (fd: number): (() => void) | undefined => {
    return this.#tryLock(fd, c.LOCK_EX) ? () => {} : undefined;
  };

  #tryLock(fd: number, kind: number): boolean {
    while (this.#libc.symbols.flock(fd, kind | c.LOCK_NB) === -1) {
      const errno = this.#libc.errno();
      if (errno === EWOULDBLOCK) return false;
      if (errno !== EINTR) throw new SystemCallError("flock", errno);
    }
    return true;
  }

  /** The error number, 0 for success. */
  #fallocate(fd: number, mode: number, offset: number, bytes: number): number {
    const { symbols } = this.#libc;
    const start = BigInt(offset);
    const length = BigInt(bytes);
    while (symbols.fallocate(fd, mode, start, length) === -1) {
      const errno = this.#libc.errno();
      if (errno !== EINTR) return errno;
    }
    return 0;
  }
}

/** One mapping. */
class PosixRegion implements AheadRegion {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #libc: Libc;
  readonly #background: BackgroundCalls | undefined;
  readonly #address: bigint;
  #released = false;

  constructor(
    libc: Libc,
    background: BackgroundCalls | undefined,
    address: bigint,
    bytes: number,
  ) {
    this.#libc = libc;
    this.#background = background;
    this.#address = address;
    this.bytes = new Uint8Array(libc.own(address, bytes));
    assert(this.bytes.length === bytes, "the view is not the mapping");
  }

  /** See `AheadRegion`. */
  async readySoon(
    offset: number,
    bytes: number,
    writes: boolean,
  ): Promise<boolean> {
    if (this.#released) return false;
    const advice = writes ? c.MADV_POPULATE_WRITE : c.MADV_POPULATE_READ;
    await this.#advise(offset, bytes, advice);
    // What reaches the memory to the end keeps it mapped until the end.
    return this.bytes.length > 0 && !this.#released;
  }

  release(): void {
    assert(!this.#released, "released twice");
    this.#released = true;
    this.#replace();
  }

  /** See the port: to take down 64 MiB that were touched takes 2 to 3 ms. */
  releaseSoon(): void {
    // A thread is not started for it. And a program that reads here and there, never lets its loop run, would
    // otherwise have more and more of them mapped.
    if (!this.#background?.ready || releasing > 0) return this.release();
    assert(!this.#released, "released twice");
    this.#released = true;
    releasing++;
    const { length } = this.bytes;
    this.#advise(0, length, c.MADV_DONTNEED).then(() => {
      releasing--;
      this.#replace();
    });
  }

  /** In pieces: nobody may map anything in this process during a call. */
  async #advise(offset: number, bytes: number, advice: number): Promise<void> {
    const end = offset + bytes;
    for (let at = offset; at < end; at += ADVISED_BYTES) {
      const start = this.#address + BigInt(at);
      const piece = BigInt(Math.min(ADVISED_BYTES, end - at));
      await this.#background?.madvise(start, piece, advice);
    }
  }

  /** Puts private zeros in the place of the file. */
  #replace(): void {
    const flags = c.MAP_FIXED | c.MAP_PRIVATE | c.MAP_ANONYMOUS |
      c.MAP_NORESERVE;
    // Should it fail, the file just stays mapped until it is collected.
    this.#libc.symbols.mmap(
      this.#address,
      BigInt(this.bytes.length),
      c.PROT_READ_WRITE,
      flags,
      -1,
      0n,
    );
  }
}

/** The file system, or the kernel, has no such thing. */
function isUnsupported(errno: number): boolean {
  return errno === EOPNOTSUPP || errno === ENOSYS;
}

/**
 * Allocates where the file system cannot: writes zeros wherever it reads
 * zeros, which changes nothing but the holes. Grows the file to `bytes`.
 */
function fill(fd: number, bytes: number): void {
  const block = new Uint8Array(FILL_BYTES);
  const zeros = new Uint8Array(FILL_BYTES);
  for (let offset = 0; offset < bytes; offset += FILL_BYTES) {
    const size = Math.min(FILL_BYTES, bytes - offset);
    const found = readFully(fd, block.subarray(0, size), offset);
    assert(found === 0 || found === size, "the file is not of its size");
    if (found === size && block.some((byte) => byte !== 0)) continue;
    writeFully(fd, zeros.subarray(0, size), offset);
  }
}
