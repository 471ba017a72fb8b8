/**
 * A folder of forged files, in memory: as quick as can be, for a million
 * logs, and it tells of every access that leaves a file.
 *
 * @module
 */

import { assert } from "../src/assert.ts";
import { StorageError, WalLockedError } from "../src/errors.ts";
import type {
  Clock,
  DirectoryEntry,
  DirectoryOptions,
  MappedRegion,
  StorageDirectory,
  StorageFile,
  StorageLock,
  StoragePort,
  SyncDone,
} from "../src/storage.ts";
import type { Random } from "../testing/mod.ts";
import type { Bytes, Files } from "./_log_bytes.ts";

const HEADER_BYTES = 4096;

/** The log reached beyond a file, which no error of its own may hide. */
export class AccessOutside extends Error {
  override readonly name = "AccessOutside";
}

/** Time that goes on by itself, a little at each look. */
class StepClock implements Clock {
  #ms = 1_700_000_000_000;
  #ns = 0;

  nowMs(): number {
    return ++this.#ms;
  }

  monotonicNs(): number {
    return this.#ns += 1000;
  }

  every(): () => void {
    return () => {};
  }

  keepAlive(): () => void {
    return () => {};
  }
}

/** The boot that a forged live page names. */
export const BOOT = "00112233445566778899aabbccddeeff";

/** One folder of files; it takes them over and changes them. */
export class ForgedStorage implements StoragePort {
  readonly kind = "simulated";
  readonly volatile = false;
  readonly clock: Clock = new StepClock();
  readonly files: Files;
  readonly folders: Set<string> = new Set();
  readonly mapped: boolean;
  readonly #random: Random;
  /** The first access that left its file. */
  outside: AccessOutside | undefined;
  /** Files and folders that are open now. */
  readonly open: Set<object> = new Set();
  readonly locks: Set<string> = new Set();

  constructor(files: Files, random: Random, mapped: boolean) {
    this.files = files;
    this.#random = random;
    this.mapped = mapped;
  }

  sharedMemory(): undefined {
    return undefined;
  }

  bootId(): string {
    return BOOT;
  }

  fillRandom(target: Bytes): void {
    this.#random.fill(target);
  }

  openDirectory(
    path: string,
    { create }: DirectoryOptions,
  ): StorageDirectory | undefined {
    const at = path.indexOf("/") + 1;
    const inside = at === 0 ? "" : path.slice(at);
    if (inside !== "" && !this.#isFolder(inside)) {
      if (!create) return undefined;
      this.folders.add(inside);
    }
    const prefix = inside === "" ? "" : `${inside}/`;
    const directory = new ForgedDirectory(this, path, prefix);
    this.open.add(directory);
    return directory;
  }

  #isFolder(path: string): boolean {
    return this.folders.has(path) ||
      [...this.files.keys()].some((name) => name.startsWith(`${path}/`));
  }

  /** A system's refusal. */
  refuse(operation: string, path: string, code: string): StorageError {
    const detail = { operation, path, systemCode: code };
    return new StorageError(`Cannot ${operation} "${path}": ${code}`, detail);
  }

  /** Checks what was asked of a file; what is wrong is remembered. */
  inside(sound: boolean, what: string): void {
    if (sound) return;
    const error = new AccessOutside(what);
    this.outside ??= error;
    throw error;
  }
}

class ForgedDirectory implements StorageDirectory {
  readonly path: string;
  readonly #storage: ForgedStorage;
  /** What the names of its files begin with. */
  readonly #prefix: string;

  constructor(storage: ForgedStorage, path: string, prefix: string) {
    this.#storage = storage;
    this.path = path;
    this.#prefix = prefix;
  }

  list(folder?: string): DirectoryEntry[] {
    const prefix = this.#prefix + (folder === undefined ? "" : `${folder}/`);
    const entries = new Map<string, DirectoryEntry>();
    const add = (path: string, kind: "file" | "directory") => {
      if (!path.startsWith(prefix)) return;
      const [name, ...rest] = path.slice(prefix.length).split("/");
      const found = rest.length > 0 ? "directory" : kind;
      entries.set(name!, { name: name!, kind: found });
    };
    for (const path of this.#storage.files.keys()) add(path, "file");
    for (const path of this.#storage.folders) add(path, "directory");
    return [...entries.values()];
  }

  create(bare: string, bytes: number): StorageFile {
    const storage = this.#storage;
    const name = this.#prefix + bare;
    const sound = Number.isSafeInteger(bytes) && bytes >= 0 && bytes <= 2 ** 27;
    storage.inside(sound, `create ${name} of ${bytes} bytes`);
    if (storage.files.has(name)) {
      throw storage.refuse("create", name, "EEXIST");
    }
    storage.files.set(name, new Uint8Array(bytes));
    return new ForgedFile(storage, name, storage.files.get(name)!);
  }

  open(bare: string): StorageFile | undefined {
    const name = this.#prefix + bare;
    const bytes = this.#storage.files.get(name);
    if (bytes === undefined) return undefined;
    return new ForgedFile(this.#storage, name, bytes);
  }

  rename(source: string, target: string): void {
    const { files } = this.#storage;
    files.set(this.#prefix + target, this.#take("rename", source));
    files.delete(this.#prefix + source);
  }

  remove(name: string): void {
    this.#take("remove", name);
    this.#storage.files.delete(this.#prefix + name);
  }

  #take(operation: string, bare: string): Bytes {
    const name = this.#prefix + bare;
    const bytes = this.#storage.files.get(name);
    if (bytes !== undefined) return bytes;
    throw this.#storage.refuse(operation, name, "ENOENT");
  }

  makeFolder(name: string): void {
    this.#storage.folders.add(this.#prefix + name);
  }

  syncFolder(): void {}

  sync(): void {}

  syncSoon(done: SyncDone): void {
    queueMicrotask(done);
  }

  lock(name = "LOCK"): StorageLock {
    const { locks } = this.#storage;
    const path = this.#prefix + name;
    if (locks.has(path)) {
      throw new WalLockedError("It is locked", { pid: undefined });
    }
    locks.add(path);
    return {
      verify(): void {},
      release(): void {
        locks.delete(path);
      },
    };
  }

  watch(): undefined {}

  close(): void {
    this.#storage.open.delete(this);
  }
}

class ForgedFile implements StorageFile {
  readonly name: string;
  readonly bytes: number;
  readonly #storage: ForgedStorage;
  readonly #content: Bytes;

  constructor(storage: ForgedStorage, name: string, content: Bytes) {
    this.#storage = storage;
    this.name = name;
    this.#content = content;
    this.bytes = content.length;
    storage.open.add(this);
  }

  readAt(target: Bytes, offset: number): number {
    // A file may be shorter than a header: what is behind reads as nothing.
    const most = Math.max(this.bytes, HEADER_BYTES);
    const sound = Number.isSafeInteger(offset) && offset >= 0 &&
      offset <= most;
    this.#storage.inside(sound, `read ${this.name} at ${offset}`);
    const count = Math.min(target.length, Math.max(0, this.bytes - offset));
    target.set(this.#content.subarray(offset, offset + count));
    return count;
  }

  writeAt(source: Bytes, offset: number): void {
    const sound = Number.isSafeInteger(offset) && offset >= 0 &&
      offset + source.length <= this.bytes;
    const what = `write ${source.length} bytes to ${this.name} at ${offset}`;
    this.#storage.inside(sound, what);
    this.#content.set(source, offset);
  }

  map(): MappedRegion | undefined {
    if (!this.#storage.mapped) return undefined;
    return { bytes: this.#content, release(): void {} };
  }

  mapForGood(): undefined {}

  punchHole(offset: number, bytes: number): void {
    const sound = offset >= 0 && bytes >= 0 && offset + bytes <= this.bytes;
    this.#storage.inside(sound, `punch ${this.name} at ${offset}, ${bytes}`);
    this.#content.fill(0, offset, offset + bytes);
  }

  dropCache(): void {}

  sync(): void {}

  syncSoon(done: SyncDone): void {
    queueMicrotask(done);
  }

  close(): void {
    const open = this.#storage.open.delete(this);
    assert(open, `${this.name} is closed twice`);
  }
}
