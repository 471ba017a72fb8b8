/**
 * A folder of a simulated disk: its names, and who writes in it.
 *
 * @module
 */

import type {
  DirectoryEntry,
  StorageDirectory,
  StorageFile,
  StorageLock,
  SyncDone,
} from "../src/storage.ts";
import { assert } from "../src/assert.ts";
import { StorageError, WalLockedError } from "../src/errors.ts";
import type { Control } from "./control.ts";
import { Folder, type NameChange, type Place } from "./disk.ts";
import { failure, type Operation } from "./faults.ts";
import { SimulatedFile } from "./file.ts";
import { Inode } from "./inode.ts";

/** A file has a size of 31 bits; the largest segment is half of it. */
const BYTES_MAX = 2 ** 31;

/** An open folder. */
export class SimulatedDirectory implements StorageDirectory {
  readonly path: string;
  readonly #folder: Folder;
  readonly #control: Control;
  #syncing = false;
  #closed = false;

  constructor(control: Control, path: string, folder: Folder) {
    this.path = path;
    this.#folder = folder;
    this.#control = control;
  }

  list(folder = ""): DirectoryEntry[] {
    this.#check("list", folder);
    const entries = [...this.#folderAt("list", folder).live].map(
      ([name, node]): DirectoryEntry => ({
        name,
        kind: node instanceof Folder ? "directory" : "file",
      }),
    );
    return this.#control.random.shuffle(entries);
  }

  create(name: string, bytes: number): StorageFile {
    this.#check("create", name);
    const place = this.#place("create", name);
    if (place.folder.live.has(place.name)) {
      throw this.#failure("create", name, "EEXIST");
    }
    if (bytes > BYTES_MAX) throw this.#failure("create", name, "EFBIG");
    const inode = new Inode(bytes);
    // What cannot be mapped is made sparse, and takes space as it is written.
    if (this.#control.options.mapped === false) inode.taken.fill(0);
    const needed = inode.spaceBytes();
    if (needed > 0 && needed > this.#control.freeBytes()) {
      throw this.#failure("create", name, "ENOSPC");
    }
    const text = `create ${this.#full(name)}`;
    this.#control.disk.change(text, inode, place);
    return this.#file(name, inode, true);
  }

  /** Takes the name and the space at once, and hands it out in a moment. */
  createSoon(
    name: string,
    bytes: number,
    _written: boolean,
    done: (file?: StorageFile) => void,
  ): (() => void) | undefined {
    // What cannot be mapped is made sparse: that is no work.
    if (this.#control.options.mapped === false) return undefined;
    const file = this.create(name, bytes);
    let given = false;
    queueMicrotask(() => {
      if (given || this.#control.stopped) return;
      given = true;
      const inode = this.#control.disk.find(name, this.#folder);
      const honest = this.#control.options.honestSyncs ?? true;
      if (inode instanceof Inode && honest) inode.bytesDurable = bytes;
      done(file);
    });
    return () => {
      if (given || this.#control.stopped) return;
      given = true;
      file.close();
      try {
        this.remove(name);
      } catch (error) {
        if (!(error instanceof StorageError)) throw error;
      }
    };
  }

  open(name: string, access: "read" | "write"): StorageFile | undefined {
    this.#check("open", name);
    const node = this.#control.disk.find(name, this.#folder);
    if (node === undefined) return undefined;
    if (node instanceof Folder) throw this.#failure("open", name, "EISDIR");
    return this.#file(name, node, access === "write");
  }

  rename(source: string, target: string): void {
    this.#check("rename", source);
    const from = this.#place("rename", source);
    const to = this.#place("rename", target);
    const node = from.folder.live.get(from.name);
    if (node === undefined) throw this.#failure("rename", source, "ENOENT");
    const there = to.folder.live.get(to.name);
    if (there === node) return;
    if (there instanceof Folder) {
      throw this.#failure("rename", target, "EISDIR");
    }
    const text = `rename ${this.#full(source)} ${this.#full(target)}`;
    this.#control.disk.change(text, node, to, from);
  }

  remove(name: string): void {
    this.#check("remove", name);
    const place = this.#place("remove", name);
    const node = place.folder.live.get(place.name);
    if (node === undefined) throw this.#failure("remove", name, "ENOENT");
    if (node instanceof Folder) throw this.#failure("remove", name, "EISDIR");
    const text = `remove ${this.#full(name)}`;
    this.#control.disk.change(text, node, undefined, place);
  }

  makeFolder(name: string): void {
    this.#check("makeFolder", name);
    const place = this.#place("makeFolder", name);
    const there = place.folder.live.get(place.name);
    if (there instanceof Folder) return;
    if (there !== undefined) throw this.#failure("makeFolder", name, "EEXIST");
    const text = `makeFolder ${this.#full(name)}`;
    this.#control.disk.change(text, new Folder(), place);
  }

  sync(): void {
    this.#syncNames("");
  }

  syncFolder(name: string): void {
    this.#syncNames(name);
  }

  syncSoon(done: SyncDone): void {
    assert(!this.#syncing, `two asynchronous syncs of ${this.path}`);
    this.#assertOpen();
    const entered = this.#control.enterSoon("directorySync", this.path);
    if (entered === undefined) return;
    const { fault } = entered;
    const upTo = [...this.#control.disk.changes];
    this.#syncing = true;
    this.#control.later(() => {
      this.#syncing = false;
      if (fault === undefined) this.#store(this.#folder, upTo);
      done(fault);
    });
  }

  lock(name = "LOCK"): StorageLock {
    this.#check("lock", "");
    const { holders } = this.#folder;
    const control = this.#control;
    const path = this.path;
    const locked = (found: string) =>
      new WalLockedError(`Cannot lock "${path}": ${found}`, {
        pid: undefined,
      });
    if (holders.has(name)) {
      throw locked("another writer has it, expected none");
    }
    const holder = {};
    holders.set(name, holder);
    return {
      verify(): void {
        control.check("lock", path);
        if (holders.get(name) !== holder) throw locked("it was taken away");
      },
      release(): void {
        if (holders.get(name) === holder) holders.delete(name);
      },
    };
  }

  watch(): undefined {}

  close(): void {
    if (this.#control.stopped) return;
    assert(!this.#closed, `${this.path} is closed twice`);
    this.#closed = true;
  }

  #syncNames(name: string): void {
    this.#check("directorySync", name);
    const folder = this.#folderAt("directorySync", name);
    this.#store(folder, this.#control.disk.changes);
  }

  #store(folder: Folder, upTo: readonly NameChange[]): void {
    if (this.#control.options.honestSyncs === false) return;
    this.#control.disk.syncNames(folder, upTo);
  }

  #check(operation: Operation, name: string): void {
    this.#assertOpen();
    this.#control.check(operation, this.#full(name));
  }

  #assertOpen(): void {
    assert(!this.#closed || this.#control.stopped, `${this.path} is closed`);
  }

  #full(name: string): string {
    return name === "" ? this.path : `${this.path}/${name}`;
  }

  #failure(operation: Operation, name: string, code: string): StorageError {
    return failure(operation, this.#full(name), code);
  }

  #folderAt(operation: Operation, name: string): Folder {
    const node = this.#control.disk.find(name, this.#folder);
    if (node instanceof Folder) return node;
    const code = node === undefined ? "ENOENT" : "ENOTDIR";
    throw this.#failure(operation, name, code);
  }

  #place(operation: Operation, path: string): Place {
    const name = path.slice(path.lastIndexOf("/") + 1);
    assert(name !== "" && name !== "." && name !== "..", `name "${path}"`);
    const parent = path.slice(0, path.length - name.length);
    return { folder: this.#folderAt(operation, parent), name };
  }

  #file(name: string, inode: Inode, writable: boolean): StorageFile {
    const place = { name, path: this.#full(name), writable };
    return new SimulatedFile(this.#control, place, inode);
  }
}
