/**
 * One open file of a simulated disk.
 *
 * @module
 */

import type { MappedRegion, StorageFile, SyncDone } from "../src/storage.ts";
import { assert } from "../src/assert.ts";
import type { StorageError } from "../src/errors.ts";
import type { Control } from "./control.ts";
import { failure, type Operation } from "./faults.ts";
import { plan, STYLES } from "./fates.ts";
import type { Inode } from "./inode.ts";

/** A descriptor, in truth two: one blocks in a sync, one does not. */
export class SimulatedFile implements StorageFile {
  readonly name: string;
  readonly bytes: number;
  readonly #path: string;
  readonly #inode: Inode;
  readonly #control: Control;
  readonly #writable: boolean;
  /** How many of the file's failed syncs this descriptor has reported. */
  #blockingSeen: number;
  #soonSeen: number;
  #mapped = false;
  #syncing = false;
  #closed = false;

  constructor(
    control: Control,
    place: { name: string; path: string; writable: boolean },
    inode: Inode,
  ) {
    this.name = place.name;
    this.bytes = inode.bytes;
    this.#path = place.path;
    this.#writable = place.writable;
    this.#inode = inode;
    this.#control = control;
    // The file has two descriptors, and each is told of an error once.
    this.#blockingSeen = inode.errors;
    this.#soonSeen = inode.errors;
    control.hold(inode, 1);
  }

  readAt(target: Uint8Array<ArrayBuffer>, offset: number): number {
    this.#check("read", offset);
    return this.#inode.read(target, offset);
  }

  writeAt(source: Uint8Array<ArrayBuffer>, offset: number): void {
    assert(this.#writable, `${this.#path} is open for reading`);
    const fault = this.#enter("write", offset);
    assert(offset + source.length <= this.bytes, "files are never resized");
    const kept = fault === undefined
      ? source.length
      : this.#control.random.int(source.length + 1);
    if (kept > 0) this.#inode.write(source.subarray(0, kept), offset);
    if (fault !== undefined) throw fault;
  }

  map(): MappedRegion | undefined {
    this.#check("map");
    assert(!this.#mapped, `${this.#path} is mapped twice`);
    // Arrays cannot share memory privately: what only reads gets no map.
    if (this.#control.options.mapped === false) return undefined;
    if (!this.#writable) return undefined;
    this.#mapped = true;
    const inode = this.#inode;
    const control = this.#control;
    inode.mappings++;
    control.hold(inode, 1);
    let released = false;
    return {
      bytes: inode.live(),
      release: () => {
        if (released) return;
        released = true;
        inode.unmap();
        control.hold(inode, -1);
      },
    };
  }

  sync(): void {
    const fault = this.#enter("sync");
    const inode = this.#inode;
    const dirty = inode.dirtyPages();
    if (fault !== undefined) {
      this.#blockingSeen = inode.forget(dirty);
      throw fault;
    }
    for (const page of dirty) inode.writeBack(page);
    const { errors } = inode;
    if (this.#blockingSeen === errors) return;
    this.#blockingSeen = errors;
    throw failure("sync", this.#path, "EIO");
  }

  syncSoon(done: SyncDone): void {
    assert(!this.#syncing, `two asynchronous syncs of ${this.#path}`);
    let fault = this.#enter("syncSoon");
    const { random } = this.#control;
    const inode = this.#inode;
    const owed = new Set(inode.dirtyPages());
    const fail = () => void (this.#soonSeen = inode.forget(owed));
    this.#syncing = true;
    inode.owed.add(owed);
    // The disk works before anybody is told: some pages, or the error.
    const early = random.chance(0.5);
    if (fault !== undefined && early) fail();
    if (fault === undefined) {
      const fates = plan(random, random.pick(STYLES), owed.size);
      for (const [nth, page] of [...owed].entries()) {
        if (fates[nth] === "new") inode.writeBack(page);
      }
    }
    this.#control.later(() => {
      this.#syncing = false;
      inode.owed.delete(owed);
      if (fault === undefined) {
        for (const page of owed) inode.writeBack(page);
        fault = this.#unreported();
      } else if (!early) fail();
      done(fault);
    });
  }

  punchHole(offset: number, bytes: number): void {
    assert(this.#writable, `${this.#path} is open for reading`);
    this.#check("punchHole", offset);
    const end = Math.min(this.bytes, offset + bytes);
    if (end > offset) this.#inode.write(new Uint8Array(end - offset), offset);
  }

  dropCache(): void {
    this.#check("dropCache");
    this.#inode.evict();
  }

  close(): void {
    if (this.#control.stopped) return;
    assert(!this.#closed, `${this.#path} is closed twice`);
    this.#closed = true;
    this.#control.hold(this.#inode, -1);
  }

  /** Another descriptor saw a sync fail; this one says so once as well. */
  #unreported(): StorageError | undefined {
    if (this.#soonSeen === this.#inode.errors) return undefined;
    this.#soonSeen = this.#inode.errors;
    return failure("sync", this.#path, "EIO");
  }

  #enter(operation: Operation, offset = 0): StorageError | undefined {
    assert(!this.#closed || this.#control.stopped, `${this.#path} is closed`);
    assert(offset >= 0 && Number.isInteger(offset), `offset is ${offset}`);
    return this.#control.enter(operation, this.#path);
  }

  #check(operation: Operation, offset = 0): void {
    const fault = this.#enter(operation, offset);
    if (fault !== undefined) throw fault;
  }
}
