/**
 * What the parts of the runtime layer promise each other.
 *
 * A backend is all that differs between Deno, Bun and Node. Addresses are
 * bigints; a pointer object never leaves the backend that made it.
 *
 * @module
 */

import type { MappedRegion } from "../src/storage.ts";
import type { Looks } from "./looks.ts";
import type { LibcSymbols } from "./symbols.ts";

/** What one runtime can do; every backend has the same members in order. */
export interface Backend {
  /** Why there is no FFI here and what would give it; `undefined` if it is. */
  missing(): string | undefined;
  /** Opens the C library. Only when nothing is missing. */
  open(): Libc;
  /** Calls of the C library that hold nobody up. Only when nothing is missing. */
  openBackground(): BackgroundCalls;
  /** The runtime's own file lock, where it has one without FFI. */
  readonly tryFlock: TryFlock | undefined;
  /** How to look at files without FFI. */
  readonly looks: Looks;
  /** Whether a path may be read without asking the user. */
  mayRead(path: string): boolean;
  /** Whether `/proc`, the host's name and signals may be used likewise. */
  mayInspect(): boolean;
}

/** The C library of one thread. */
export interface Libc {
  /** The functions of `symbols.ts`. */
  readonly symbols: LibcSymbols;
  /** How to look at files with it. */
  readonly looks: Looks;
  /** This thread's errno. Read it in the statement after the failed call. */
  errno(): number;
  /** Mapped memory as a buffer, unmapped when the buffer is collected. */
  own(address: bigint, bytes: number): ArrayBuffer;
}

/**
 * C calls that another thread makes. Each settles with the call's result, -1
 * where it could not be made, and never rejects.
 */
export interface BackgroundCalls {
  /** Allocates the first `bytes` bytes of a file. */
  fallocate(fd: number, bytes: bigint): Promise<number>;
  /** Advises on a range of memory, which must stay mapped meanwhile. */
  madvise(address: bigint, bytes: bigint, advice: number): Promise<number>;
  /** Whether calls can be made without starting a thread. */
  readonly ready: boolean;
  /** Whether no call can be made any more. */
  readonly broken: boolean;
  /** One more will call. */
  use(): void;
  /** One of them will call no more; with the last one the thread may go. */
  leave(): void;
}

/** Tries the exclusive lock of an open file; `undefined` if it is taken. */
export type TryFlock = (fd: number, path: string) => (() => void) | undefined;

/** A mapping of a file that is made ahead. */
export interface AheadRegion extends MappedRegion {
  /**
   * Has pages ready to be read, or with `writes` to be stored into, which
   * counts as a store. Settles with whether it is still mapped.
   */
  readySoon(offset: number, bytes: number, writes: boolean): Promise<boolean>;
}

/** What a storage adds to `node:fs`: the difference of mapped and files. */
export interface DiskCalls {
  /** How to look at files. */
  readonly looks: Looks;
  /** Grows a new, empty file to `bytes` zeros. */
  allocate(fd: number, bytes: number): void;
  /** See `StorageFile.map`. */
  map(
    fd: number,
    bytes: number,
    access: "read" | "write",
    smallSyncs: boolean,
  ): MappedRegion | undefined;
  /** As `map`, to write into a file whose space is known to be allocated. */
  mapAllocated(fd: number, bytes: number, smallSyncs: boolean): AheadRegion;
  /** What makes files ahead; `undefined` where they cost nothing. */
  readonly background: BackgroundCalls | undefined;
  /** See `StorageFile.mapForGood`; takes the descriptor over. */
  mapForGood(fd: number, bytes: number): Uint8Array<ArrayBuffer> | undefined;
  /** See `StorageFile.punchHole`. */
  punchHole(fd: number, offset: number, bytes: number): void;
  /** See `StorageFile.dropCache`. */
  dropCache(fd: number): void;
  /** The system's file lock; `undefined` where it cannot be had. */
  readonly tryFlock: TryFlock | undefined;
}
