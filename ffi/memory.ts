/**
 * A disk in memory: for tests, and for runtimes without a disk.
 *
 * One `MemoryStorage` is one world: what one directory object wrote, another
 * of the same storage finds, until the storage itself is collected.
 *
 * @module
 */

import { randomBytes, randomFillSync } from "node:crypto";
import { resolve } from "node:path";
import process from "node:process";
import { setImmediate } from "node:timers";
import { assert } from "../src/assert.ts";
import { WalLockedError } from "../src/errors.ts";
import type {
  DirectoryEntry,
  DirectoryOptions,
  MappedRegion,
  StorageDirectory,
  StorageFile,
  StorageLock,
  StoragePort,
  SyncDone,
} from "../src/storage.ts";
import { systemClock } from "./clock.ts";
import { type Attempt, storageError, systemError } from "./system_error.ts";
import { sharedMemory } from "./shared_memory.ts";

/** What a file is, under whatever names. */
interface MemoryInode {
  data: Uint8Array<ArrayBuffer>;
  /** Regions that were not released. */
  mappings: number;
}

/** A folder's names. */
interface MemoryFolder {
  readonly entries: Map<string, MemoryInode | MemoryFolder>;
  readonly locks: Map<string, StorageLock>;
}

/** The port over memory. */
export class MemoryStorage implements StoragePort {
  /** Which implementation this is. */
  readonly kind = "memory";
  /** The system's clock. */
  readonly clock: typeof systemClock = systemClock;
  /** Nothing survives the process. */
  readonly volatile = true;
  readonly #root: MemoryFolder = newFolder();
  readonly #boot = randomBytes(16).toString("hex");

  /** See the port. */
  sharedMemory(bytes: number): Uint8Array<ArrayBuffer> | undefined {
    return sharedMemory(bytes);
  }

  /** See the port. */
  bootId(): string {
    return this.#boot;
  }

  /** See the port. */
  fillRandom(target: Uint8Array<ArrayBuffer>): void {
    randomFillSync(target);
  }

  /** See the port. */
  openDirectory(
    path: string,
    options: DirectoryOptions,
  ): StorageDirectory | undefined {
    const absolute = resolve(path);
    const attempt = { operation: "open", object: "folder", path: absolute };
    let folder = this.#root;
    for (const part of absolute.split("/").filter((part) => part !== "")) {
      const found = folder.entries.get(part);
      if (found !== undefined && !isFolder(found)) {
        const text = "a part of the path is not a folder (ENOTDIR)";
        throw storageError(attempt, text, "a folder", "ENOTDIR");
      }
      if (found === undefined && !options.create) return undefined;
      const next = found ?? newFolder();
      folder.entries.set(part, next);
      folder = next;
    }
    return new MemoryDirectory(absolute, folder);
  }
}

class MemoryDirectory implements StorageDirectory {
  readonly path: string;
  readonly #folder: MemoryFolder;

  constructor(path: string, folder: MemoryFolder) {
    this.path = path;
    this.#folder = folder;
  }

  list(folder?: string): DirectoryEntry[] {
    const entries = folder === undefined
      ? this.#folder.entries
      : this.#sub("list", folder).entries;
    return [...entries].map(([name, entry]): DirectoryEntry => {
      return { name, kind: isFolder(entry) ? "directory" : "file" };
    });
  }

  create(name: string, bytes: number): StorageFile {
    assert(Number.isSafeInteger(bytes) && bytes >= 0, "odd file size");
    const { entries, key } = this.#parent("create", name);
    if (entries.has(key)) throw this.#refused("create", name, "EEXIST");
    let data;
    try {
      data = new Uint8Array(bytes);
    } catch {
      throw this.#refused("create", name, "ENOMEM");
    }
    const inode = { data, mappings: 0 };
    entries.set(key, inode);
    return new MemoryFile(name, inode, "write");
  }

  open(name: string, access: "read" | "write"): StorageFile | undefined {
    const { entries, key } = this.#parent("open", name);
    const found = entries.get(key);
    if (found === undefined) return undefined;
    if (isFolder(found)) throw this.#refused("open", name, "EISDIR");
    return new MemoryFile(name, found, access);
  }

  rename(source: string, target: string): void {
    const from = this.#parent("rename", source);
    const to = this.#parent("rename", target);
    const moved = from.entries.get(from.key);
    if (moved === undefined) throw this.#refused("rename", source, "ENOENT");
    const replaced = to.entries.get(to.key);
    if (replaced !== undefined && isFolder(replaced)) {
      throw this.#refused("rename", source, "EISDIR");
    }
    from.entries.delete(from.key);
    to.entries.set(to.key, moved);
  }

  remove(name: string): void {
    const { entries, key } = this.#parent("remove", name);
    const found = entries.get(key);
    if (found === undefined) throw this.#refused("remove", name, "ENOENT");
    if (isFolder(found)) throw this.#refused("remove", name, "EISDIR");
    entries.delete(key);
  }

  makeFolder(name: string): void {
    const { entries, key } = this.#parent("make", name);
    const found = entries.get(key);
    if (found === undefined) entries.set(key, newFolder());
    else if (!isFolder(found)) throw this.#refused("make", name, "EEXIST");
  }

  syncFolder(name: string): void {
    this.#sub("sync", name);
  }

  sync(): void {}

  syncSoon(done: SyncDone): void {
    setImmediate(() => done());
  }

  lock(name = "LOCK"): StorageLock {
    const { locks } = this.#folder;
    if (locks.has(name)) {
      const { pid } = process;
      throw new WalLockedError(
        `Cannot lock folder "${this.path}": process ${pid} has it open to ` +
          "write, expected no other writer",
        { pid },
      );
    }
    const lock: StorageLock = {
      verify(): void {
        assert(locks.get(name) === lock, "verify after release");
      },
      release(): void {
        assert(locks.get(name) === lock, "released twice");
        locks.delete(name);
      },
    };
    locks.set(name, lock);
    return lock;
  }

  watch(): undefined {}

  close(): void {}

  /** The folder of a name and the rest of it. */
  #parent(
    operation: string,
    name: string,
  ): { entries: MemoryFolder["entries"]; key: string } {
    const parts = name.split("/");
    assert(parts.length <= 3 && !parts.includes(""), `odd name "${name}"`);
    const key = parts.pop()!;
    if (parts.length === 0) return { entries: this.#folder.entries, key };
    return { entries: this.#sub(operation, parts.join("/")).entries, key };
  }

  /** A folder inside this one. */
  #sub(operation: string, name: string): MemoryFolder {
    let folder = this.#folder;
    for (const part of name.split("/")) {
      const found = folder.entries.get(part);
      if (found === undefined) throw this.#refused(operation, name, "ENOENT");
      if (!isFolder(found)) throw this.#refused(operation, name, "ENOTDIR");
      folder = found;
    }
    return folder;
  }

  #refused(operation: string, name: string, code: string): Error {
    const path = `${this.path}/${name}`;
    const attempt: Attempt = { operation, object: "file", path };
    return systemError(attempt, Object.assign(new Error(code), { code }));
  }
}

class MemoryFile implements StorageFile {
  readonly name: string;
  readonly bytes: number;
  readonly #inode: MemoryInode;
  readonly #access: "read" | "write";
  #mapped = false;
  #closed = false;

  constructor(name: string, inode: MemoryInode, access: "read" | "write") {
    this.name = name;
    this.bytes = inode.data.length;
    this.#inode = inode;
    this.#access = access;
  }

  readAt(target: Uint8Array<ArrayBuffer>, offset: number): number {
    assert(!this.#closed, "read after close");
    const end = Math.min(offset + target.length, this.bytes);
    if (offset >= end) return 0;
    target.set(this.#inode.data.subarray(offset, end));
    return end - offset;
  }

  writeAt(source: Uint8Array<ArrayBuffer>, offset: number): void {
    this.#assertWritable();
    const { length } = source;
    assert(offset + length <= this.bytes, "files are never resized");
    this.#inode.data.set(source, offset);
  }

  map(): MappedRegion | undefined {
    assert(!this.#closed, "map after close");
    assert(!this.#mapped, "mapped twice");
    // A reader's view must not be able to change the log, and memory has no
    // private mapping: readers read.
    if (this.#access === "read") return undefined;
    this.#mapped = true;
    return new MemoryRegion(this.#inode);
  }

  mapForGood(): undefined {}

  punchHole(offset: number, bytes: number): void {
    this.#assertWritable();
    assert(offset + bytes <= this.bytes, "files are never resized");
    this.#inode.data.fill(0, offset, offset + bytes);
  }

  dropCache(): void {
    assert(!this.#closed, "dropCache after close");
  }

  sync(): void {
    this.#assertWritable();
  }

  syncSoon(done: SyncDone): void {
    this.#assertWritable();
    setImmediate(() => done());
  }

  close(): void {
    assert(!this.#closed, "closed twice");
    this.#closed = true;
  }

  #assertWritable(): void {
    assert(!this.#closed, "use after close");
    assert(this.#access === "write", "write to a file opened to read");
  }
}

class MemoryRegion implements MappedRegion {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #inode: MemoryInode;
  #released = false;

  constructor(inode: MemoryInode) {
    this.bytes = inode.data;
    this.#inode = inode;
    inode.mappings++;
  }

  /** The file moves to other memory, and the region is left with zeros. */
  release(): void {
    assert(!this.#released, "released twice");
    this.#released = true;
    this.#inode.mappings--;
    if (this.#inode.mappings > 0) return;
    this.#inode.data = this.bytes.slice();
    this.bytes.fill(0);
  }
}

function newFolder(): MemoryFolder {
  return { entries: new Map(), locks: new Map() };
}

function isFolder(entry: MemoryInode | MemoryFolder): entry is MemoryFolder {
  return "entries" in entry;
}
