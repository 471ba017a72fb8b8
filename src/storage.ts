/**
 * The port: all that the log asks of a disk, in the log's own words.
 *
 * The portable core does no I/O but through these interfaces. Each verb says
 * what is true when it returns; an implementation that keeps these sentences
 * can carry a log. Every verb throws `StorageError` when the system refuses,
 * and then has changed nothing that its own doc does not name.
 *
 * Implementations: memory-mapped and plain files in `ffi/`, memory and the
 * simulated disk for tests. One contract suite runs on all of them.
 *
 * @module
 */

import type { WalError } from "./errors.ts";

/** Where a log lives. Opaque: made by `mappedStorage()` and its siblings. */
export interface WalStorage {
  /** Which implementation this is; `wal.stats().storage` shows it. */
  readonly kind: "mapped" | "files" | "memory" | "simulated";
}

/** Called once when an asynchronous sync has ended; no error is success. */
export type SyncDone = (error?: WalError) => void;

/** Something whose written bytes can be forced to the disk. */
export interface Syncable {
  /**
   * Blocks until all that was written before the call is on the disk.
   * A throw is final: what is on the disk is unknown, never call again.
   */
  sync(): void;
  /**
   * Starts a sync of all that was written before the call and returns;
   * `done` is called later, never inside this call. At most one is asked for
   * at a time on one object. It may run beside `sync()`.
   */
  syncSoon(done: SyncDone): void;
}

/** The whole port: a clock, randomness and folders. */
export interface StoragePort extends WalStorage {
  /** Time, and timers that never keep the process alive. */
  readonly clock: Clock;
  /** True when nothing survives the process: the log then says so. */
  readonly volatile: boolean;
  /**
   * Memory that small copies may share, which no program can transfer away;
   * `undefined` where a copy of its own costs no more.
   */
  sharedMemory(bytes: number): Uint8Array<ArrayBuffer> | undefined;
  /**
   * 32 hex digits that change when page caches are lost: two that see the
   * same ones see the same files in memory. Empty where it is not known.
   */
  bootId(): string;
  /** Fills `target` with random bytes (log ids, salts). */
  fillRandom(target: Uint8Array<ArrayBuffer>): void;
  /**
   * Opens a folder. With `create` it is made with its missing parents, each
   * new name synced in its parent; without, `undefined` when nothing is there.
   * A path that is not a folder, or that may not be entered, throws.
   */
  openDirectory(
    path: string,
    options: DirectoryOptions,
  ): StorageDirectory | undefined;
}

/** How `openDirectory` makes what it has to make. */
export interface DirectoryOptions {
  /** Make the folder and its parents when missing. */
  readonly create: boolean;
  /** Permission bits of new folders. */
  readonly directoryMode: number;
  /** Permission bits of new files. */
  readonly fileMode: number;
  /**
   * Whether small writes into mapped files will be synced one by one. Pages
   * are then kept small, which costs a store into a new one 4 times as much
   * but keeps each sync from writing its neighbours again.
   */
  readonly smallSyncs?: boolean | undefined;
  /**
   * Whether a write is to be quick each time, rather than all of them together:
   * a store may have to wait for a page that is being synced.
   */
  readonly lowLatency?: boolean | undefined;
}

/** Wall clock, stop watch and timers. */
export interface Clock {
  /** Milliseconds since 1970, a whole number, may jump. */
  nowMs(): number;
  /** Nanoseconds of a clock that never goes back, for measuring. */
  monotonicNs(): number;
  /** Calls `action` every `ms`; the returned function ends it. */
  every(ms: number, action: () => void): () => void;
  /** Keeps the process alive until the returned function is called. */
  keepAlive(): () => void;
}

/** One name in a folder. */
export interface DirectoryEntry {
  /** The bare name, without the folder. */
  readonly name: string;
  /** What it is; a symbolic link is "other", whatever it points to. */
  readonly kind: "file" | "directory" | "other";
}

/**
 * The log's folder. Names are relative to it; a name may have up to two
 * folders in front (`cut/TIME/…`). `sync` makes the names in the folder itself durable.
 */
export interface StorageDirectory extends Syncable {
  /** The folder's path, as errors name it. */
  readonly path: string;
  /** What is in the folder, or in a sub-folder, in no order. */
  list(folder?: string): DirectoryEntry[];
  /**
   * Makes a new file of exactly `bytes` bytes that read as zero, open for
   * writing. Fails if the name exists. On mapped storage the space is really
   * allocated: no later store can run out of it. On failure nothing is left.
   */
  create(name: string, bytes: number): StorageFile;
  /**
   * Starts to make a file as `create` does and returns; no wait for the disk
   * holds the caller up. `done` is called later, never inside this call, with
   * the file, whose space is on the disk by then, or with nothing where it
   * could not be made: nothing is left then. The returned function gives it
   * up at once, and `done` is not called any more. Fails if the name exists.
   * With `written` zeros are on the disk for all of it: a sync of what is
   * stored over them has nothing to tell the file system.
   * Absent, or returns `undefined`, where making it in time costs nothing.
   */
  createSoon?(
    name: string,
    bytes: number,
    written: boolean,
    done: (file?: StorageFile) => void,
  ): (() => void) | undefined;
  /**
   * Opens an existing regular file; anything else (symbolic link, FIFO,
   * folder, device) throws and is not waited for. `undefined` when missing.
   */
  open(name: string, access: "read" | "write"): StorageFile | undefined;
  /** Replaces `target` by `source` at once; durable after `sync`. */
  rename(source: string, target: string): void;
  /** Unlinks a file; open descriptors and mappings of it stay good. */
  remove(name: string): void;
  /** Makes a sub-folder; nothing happens if it is there. */
  makeFolder(name: string): void;
  /** Makes the names inside a sub-folder durable. Blocks. */
  syncFolder(name: string): void;
  /**
   * Becomes the one holder of a lock in this folder, or throws
   * `WalLockedError`: "LOCK" is the writer's, and files of that name may
   * appear. The death of the process frees it. `verify` below is asked again
   * before the first write.
   */
  lock(name?: string): StorageLock;
  /**
   * Calls `action` soon after anybody has written into a file with `writeAt`
   * (stores into a mapping are not seen), until the returned function is
   * called; keeps no process alive. `undefined` where nothing tells. A hint:
   * calls may come too often, and after a long silence none may come.
   */
  watch(name: string, action: () => void): (() => void) | undefined;
  /** Closes the descriptors of the folder itself. Once; never throws. */
  close(): void;
}

/** The writer's lock. */
export interface StorageLock {
  /** Throws `WalLockedError` if the lock was taken away meanwhile. */
  verify(): void;
  /** Frees it. Once; never throws. */
  release(): void;
  /**
   * As `release`, but later, where that takes long: until then the bytes are
   * the file's. For a file that nobody writes any more.
   */
  releaseSoon?(): void;
}

/** One open file. */
export interface StorageFile extends Syncable {
  /** Its name at opening, or the one that `renamed` told. */
  readonly name: string;
  /** Its size in bytes when opened or made; files are never resized. */
  readonly bytes: number;
  /**
   * When it is mapped, `writeAt` of so many bytes is better than stores into
   * new pages, each of which the system has to hand out by itself. Absent
   * where stores always are better.
   */
  readonly writesFrom?: number | undefined;
  /** Tells it the name that it was renamed to: errors say that one then. */
  renamed?(name: string): void;
  /** Fills `target` from `offset`; fewer bytes only at the file's end. */
  readAt(target: Uint8Array<ArrayBuffer>, offset: number): number;
  /**
   * Hands all of `source` to the system: from then on the death of this
   * process loses nothing of it. After a throw any part may be written.
   */
  writeAt(source: Uint8Array<ArrayBuffer>, offset: number): void;
  /**
   * The whole file as memory, shared with the system's page cache: a store
   * is a write. `undefined` where this storage cannot map. Only the file's
   * owner may call it, and once; the region outlives `close()`.
   */
  map(): MappedRegion | undefined;
  /**
   * The whole file as memory that programs may have: stores into it stay in
   * this process, it lives until nobody reaches it, and so long no hole is
   * punched. Takes the file over: `close` must not be called then. Where this
   * cannot be, `undefined`, and the file is as before.
   */
  mapForGood(): Uint8Array<ArrayBuffer> | undefined;
  /**
   * Gives back the space of a range, which then reads as zero, unless memory
   * of `mapForGood` shows it. A hint.
   */
  punchHole(offset: number, bytes: number): void;
  /** Drops clean pages from the page cache after a big scan. A hint. */
  dropCache(): void;
  /** Closes it once no call on it is outstanding. Once; never throws. */
  close(): void;
}

/** A file as memory. */
export interface MappedRegion {
  /** The file's bytes; becomes zeros after `release`. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Gives the mapping back; late accesses are harmless. Never throws. */
  release(): void;
  /**
   * As `release`, but later, where that takes long: until then the bytes are
   * the file's. For a file that nobody writes any more.
   */
  releaseSoon?(): void;
}
