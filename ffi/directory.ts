/**
 * The log's folder on a real disk, for the mapped and the files storage.
 *
 * @module
 */

import * as fs from "node:fs";
import { constants } from "node:fs";
import { dirname } from "node:path";
import { assert } from "../src/assert.ts";
import type {
  DirectoryEntry,
  DirectoryOptions,
  StorageDirectory,
  StorageFile,
  StorageLock,
  SyncDone,
} from "../src/storage.ts";
import {
  closeQuietly,
  openNew,
  openRegular,
  removeQuietly,
  SyncPair,
} from "./descriptors.ts";
import { makeAhead } from "./ahead.ts";
import { DiskFile } from "./file.ts";
import { isSame, type Seen } from "./looks.ts";
import { FolderLock, LOCK_NAME } from "./lock.ts";
import {
  type Attempt,
  storageError,
  systemCode,
  systemError,
} from "./system_error.ts";
import type { Backend, DiskCalls } from "./types.ts";

/** From this size on, files are worth making ahead. */
const AHEAD_BYTES_MIN = 4 * 1024 * 1024;
/**
 * Bytes from which a call costs less than the faults of new pages; it takes as
 * long each time from fewer on already.
 */
const WRITES_FROM = 32 * 1024;
const QUICK_WRITES_FROM = 4096;
const FOLDER_FLAGS = constants.O_RDONLY | constants.O_DIRECTORY;

/** A folder over its descriptors. */
export class DiskDirectory implements StorageDirectory {
  /** The folder's absolute path. */
  readonly path: string;
  readonly #options: DirectoryOptions;
  readonly #backend: Backend;
  readonly #calls: DiskCalls;
  readonly #syncs: SyncPair;
  #locked = false;
  #usesBackground = false;

  private constructor(
    path: string,
    options: DirectoryOptions,
    backend: Backend,
    calls: DiskCalls,
  ) {
    this.path = path;
    this.#options = options;
    this.#backend = backend;
    this.#calls = calls;
    const attempt = { operation: "open", object: "folder", path };
    const blocking = fs.openSync(path, FOLDER_FLAGS);
    try {
      const soon = fs.openSync(path, FOLDER_FLAGS);
      this.#syncs = new SyncPair(attempt, blocking, soon);
    } catch (error) {
      closeQuietly(blocking);
      throw error;
    }
  }

  /** See `StoragePort.openDirectory`; `path` is absolute. */
  static open(
    path: string,
    options: DirectoryOptions,
    backend: Backend,
    calls: DiskCalls,
  ): DiskDirectory | undefined {
    try {
      if (options.create) makeFolders(path, options.directoryMode, backend);
      const directory = new DiskDirectory(path, options, backend, calls);
      try {
        // Opening asked for the right to list, any look at a name in it asks
        // for the right to enter. (Deno's `accessSync` asks the user things.)
        fs.lstatSync(`${path}/LOCK`, { throwIfNoEntry: false });
        return directory;
      } catch (error) {
        directory.close();
        throw error;
      }
    } catch (error) {
      if (systemCode(error) === "ENOENT" && !options.create) return undefined;
      const attempt = { operation: "open", object: "folder", path };
      throw systemError(attempt, error);
    }
  }

  /** See the port. */
  list(folder?: string): DirectoryEntry[] {
    const path = folder === undefined ? this.path : this.#path(folder);
    return attempted({ operation: "list", object: "folder", path }, () => {
      const entries = this.#calls.looks.list(path);
      if (folder === undefined) this.#checkListing(entries);
      return entries;
    });
  }

  /**
   * Deno ends a listing in silence where the system refuses to go on. What is
   * surely there must then be in it, or the log would look like an empty one.
   */
  #checkListing(entries: readonly DirectoryEntry[]): void {
    if (!this.#locked) return;
    if (entries.some(({ name }) => name === LOCK_NAME)) return;
    const { path } = this;
    const attempt = { operation: "list", object: "folder", path };
    const found = `it was listed without "${LOCK_NAME}", which is in it`;
    throw storageError(attempt, found, "a whole listing", "EIO", undefined);
  }

  /** See the port. */
  create(name: string, bytes: number): StorageFile {
    assert(Number.isSafeInteger(bytes) && bytes >= 0, "odd file size");
    const path = this.#path(name);
    return attempted({ operation: "create", object: "file", path }, () => {
      const fd = openNew(path, this.#options.fileMode);
      try {
        if (bytes > 0) this.#calls.allocate(fd, bytes);
        return this.#file(name, fd, this.#calls.looks.into(fd), "write");
      } catch (error) {
        closeQuietly(fd);
        // It may hold all that was free before the disk was full.
        removeQuietly(path);
        throw error;
      }
    });
  }

  /** See the port. */
  createSoon(
    name: string,
    bytes: number,
    written: boolean,
    done: (file?: StorageFile) => void,
  ): (() => void) | undefined {
    const { background } = this.#calls;
    // A small file is made in less time than another thread takes to hear.
    if (background === undefined || background.broken) return undefined;
    if (bytes < AHEAD_BYTES_MIN) return undefined;
    const path = this.#path(name);
    if (!this.#usesBackground) background.use();
    this.#usesBackground = true;
    return attempted({ operation: "create", object: "file", path }, () => {
      const fd = openNew(path, this.#options.fileMode);
      const { looks } = this.#calls;
      const open = () => this.#file(name, fd, looks.into(fd), "write");
      const smallSyncs = this.#options.smallSyncs ?? true;
      const begun = { path, fd, bytes, smallSyncs, written, open };
      return makeAhead(background, begun, done);
    });
  }

  /** See the port. */
  open(name: string, access: "read" | "write"): StorageFile | undefined {
    const path = this.#path(name);
    const attempt = { operation: "open", object: "file", path };
    const { looks } = this.#calls;
    const opened = openRegular(attempt, path, access, looks);
    if (opened === undefined) return undefined;
    return attempted(attempt, () => {
      try {
        return this.#file(name, opened.fd, opened.seen, access);
      } catch (error) {
        closeQuietly(opened.fd);
        throw error;
      }
    });
  }

  /** See the port. */
  rename(source: string, target: string): void {
    const path = this.#path(source);
    attempted({ operation: "rename", object: "file", path }, () => {
      fs.renameSync(path, this.#path(target));
    });
  }

  /** See the port. */
  remove(name: string): void {
    const path = this.#path(name);
    attempted({ operation: "remove", object: "file", path }, () => {
      fs.unlinkSync(path);
    });
  }

  /** See the port. */
  makeFolder(name: string): void {
    const path = this.#path(name);
    attempted({ operation: "make", object: "folder", path }, () => {
      try {
        fs.mkdirSync(path, { mode: this.#options.directoryMode });
      } catch (error) {
        if (systemCode(error) !== "EEXIST") throw error;
        if (!fs.lstatSync(path).isDirectory()) throw error;
      }
    });
  }

  /** See the port. */
  syncFolder(name: string): void {
    const path = this.#path(name);
    attempted({ operation: "sync", object: "folder", path }, () => {
      syncFolderAt(path, constants.O_NOFOLLOW);
    });
  }

  /** See the port. */
  sync(): void {
    this.#syncs.sync();
  }

  /** See the port. */
  syncSoon(done: SyncDone): void {
    this.#syncs.syncSoon(done);
  }

  /** See the port. */
  lock(name: string = LOCK_NAME): StorageLock {
    const means = {
      fileMode: this.#options.fileMode,
      tryFlock: this.#calls.tryFlock,
      mayInspect: this.#backend.mayInspect(),
      looks: this.#calls.looks,
    };
    const lock = new FolderLock(this.path, means, name);
    this.#locked ||= name === LOCK_NAME;
    return lock;
  }

  /** See the port. */
  watch(name: string, action: () => void): (() => void) | undefined {
    try {
      const watcher = fs.watch(this.#path(name), { persistent: false });
      // Deno keeps the process alive all the same.
      watcher.unref?.();
      watcher.on("change", action);
      // Where it ends by itself, looking now and then has to do.
      watcher.on("error", () => watcher.close());
      return () => watcher.close();
    } catch {
      return undefined;
    }
  }

  /** See the port. */
  close(): void {
    if (this.#usesBackground) this.#calls.background?.leave();
    this.#syncs.close();
  }

  /** Opens the second descriptor and makes the file. */
  #file(
    name: string,
    fd: number,
    seen: Seen,
    access: "read" | "write",
  ): DiskFile {
    const path = this.#path(name);
    const bytes = seen.size;
    let soonFd = fd;
    if (access === "write") {
      const attempt: Attempt = { operation: "open", object: "file", path };
      const { looks } = this.#calls;
      const second = openRegular(attempt, path, access, looks);
      assert(second !== undefined, "one writer only renames its files");
      assert(isSame(second.seen, seen), "one writer only replaces its files");
      soonFd = second.fd;
    }
    const { smallSyncs = true, lowLatency = true } = this.#options;
    return new DiskFile(this.#calls, {
      ...{ name, path, bytes, access, fd, soonFd, smallSyncs },
      writesFrom: lowLatency ? QUICK_WRITES_FROM : WRITES_FROM,
    });
  }

  #path(name: string): string {
    const parts = name.split("/");
    const odd = parts.length > 3 || parts.some((part) => !isBareName(part));
    assert(!odd, `"${name}" is not a name in the log's folder`);
    return `${this.path === "/" ? "" : this.path}/${name}`;
  }
}

/** Runs a call and wraps what it throws. */
function attempted<T>(attempt: Attempt, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw systemError(attempt, error);
  }
}

function isBareName(part: string): boolean {
  return part !== "" && part !== "." && part !== ".." && !part.includes("\0");
}

/** Makes a folder with its missing parents, each name durable. */
function makeFolders(path: string, mode: number, backend: Backend): void {
  try {
    makeFolderSynced(path, mode, backend);
  } catch (error) {
    const parent = dirname(path);
    if (systemCode(error) !== "ENOENT" || parent === path) throw error;
    makeFolders(parent, mode, backend);
    makeFolderSynced(path, mode, backend);
  }
}

function makeFolderSynced(path: string, mode: number, backend: Backend): void {
  try {
    fs.mkdirSync(path, { mode });
  } catch (error) {
    if (systemCode(error) !== "EEXIST") throw error;
    // The death of a process may have come between making it and syncing its
    // name; then nothing is in it yet.
    if (isLogFolder(path) || !isEmptyFolder(path)) return;
  }
  syncName(path, backend);
}

/** Makes a folder's own name durable. */
function syncName(path: string, backend: Backend): void {
  const parent = dirname(path);
  try {
    if (backend.mayRead(parent)) return syncFolderAt(parent);
  } catch (error) {
    if (systemCode(error) !== "EACCES") throw error;
  }
  // The parent may be written but not read (a grant of Deno for this path
  // alone): syncing the new folder itself takes its name along on ext4, xfs
  // and btrfs, which log the making of both as one.
  syncFolderAt(path);
}

/** Whether a log was locked in it, which tells more cheaply than a listing. */
function isLogFolder(path: string): boolean {
  try {
    const lock = `${path}/${LOCK_NAME}`;
    return fs.lstatSync(lock, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}

function isEmptyFolder(path: string): boolean {
  try {
    return fs.readdirSync(path).length === 0;
  } catch {
    // Not a folder, or not for us: opening it says so in better words.
    return false;
  }
}

function syncFolderAt(path: string, flags = 0): void {
  const fd = fs.openSync(path, FOLDER_FLAGS | flags);
  try {
    fs.fsyncSync(fd);
  } finally {
    closeQuietly(fd);
  }
}
