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
import { type Inode, PAGE_BYTES } from "./inode.ts";

/** Where real disks begin to be written with a call: both ways are crashed. */
const WRITES_FROM = 4096;

/** A descriptor, in truth two: one blocks in a sync, one does not. */
export class SimulatedFile implements StorageFile {
  name: string;
  readonly bytes: number;
  readonly writesFrom: number = WRITES_FROM;
  #path: string;
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
    // The file has two descriptors, and each is told of an error once; of one
    // that nobody was told, those who come later are told as well.
    const seen = inode.errors - (inode.errorUnseen ? 1 : 0);
    this.#blockingSeen = seen;
    this.#soonSeen = seen;
    control.hold(inode, 1);
  }

  renamed(name: string): void {
    const folder = this.#path.slice(0, this.#path.length - this.name.length);
    this.name = name;
    this.#path = folder + name;
  }

  readAt(target: Uint8Array<ArrayBuffer>, offset: number): number {
    this.#check("read", offset);
    return this.#inode.read(target, offset);
  }

  writeAt(source: Uint8Array<ArrayBuffer>, offset: number): void {
    assert(this.#writable, `${this.#path} is open for reading`);
    this.#assertUsable(offset);
    assert(offset + source.length <= this.bytes, "files are never resized");
    const inode = this.#inode;
    const writing = { inode, source, offset };
    const fault = this.#control.enterWrite(this.#path, writing);
    const room = this.#room(source.length, offset);
    const kept = fault === undefined
      ? room
      : this.#control.random.int(room + 1);
    inode.write(source.subarray(0, kept), offset);
    if (fault !== undefined) throw fault;
    if (room < source.length) throw failure("write", this.#path, "ENOSPC");
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
    inode.mapped = true;
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
      this.#blockingSeen = inode.forget(dirty, codeOf(fault));
      inode.errorUnseen = false;
      throw fault;
    }
    this.#store(dirty);
    const { errors } = inode;
    if (this.#blockingSeen === errors) return;
    this.#blockingSeen = errors;
    throw this.#reported();
  }

  syncSoon(done: SyncDone): void {
    assert(!this.#syncing, `two asynchronous syncs of ${this.#path}`);
    this.#assertUsable(0);
    const entered = this.#control.enterSoon("syncSoon", this.#path);
    if (entered === undefined) return;
    let { fault } = entered;
    const { random } = this.#control;
    const inode = this.#inode;
    const owed = new Set(inode.dirtyPages());
    const fail = (reason: StorageError): void => {
      this.#soonSeen = inode.forget(owed, codeOf(reason));
      inode.errorUnseen = false;
    };
    this.#syncing = true;
    inode.owed.add(owed);
    // The disk works before anybody is told: some pages, or the error.
    const early = random.chance(0.5);
    if (fault !== undefined && early) fail(fault);
    if (fault === undefined) {
      const fates = plan(random, random.pick(STYLES), owed.size);
      this.#write([...owed].filter((_, nth) => fates[nth] === "new"));
    }
    this.#control.later(() => {
      this.#syncing = false;
      inode.owed.delete(owed);
      if (fault === undefined) {
        this.#store(owed);
        fault = this.#unreported();
      } else if (!early) fail(fault);
      done(fault);
    });
  }

  mapForGood(): undefined {}

  punchHole(offset: number, bytes: number): void {
    assert(this.#writable, `${this.#path} is open for reading`);
    this.#check("punchHole", offset);
    const end = Math.min(this.bytes, offset + bytes);
    if (end > offset) this.#inode.punch(offset, end);
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

  /** Pages and the size reach the platter, if the disk is an honest one. */
  #store(pages: Iterable<number>): void {
    this.#write(pages);
    if (this.#honest) this.#inode.bytesDurable = this.bytes;
  }

  #write(pages: Iterable<number>): void {
    if (!this.#honest) return;
    for (const page of pages) this.#inode.writeBack(page);
  }

  get #honest(): boolean {
    return this.#control.options.honestSyncs ?? true;
  }

  /** Another descriptor saw a sync fail; this one says so once as well. */
  #unreported(): StorageError | undefined {
    if (this.#soonSeen === this.#inode.errors) return undefined;
    this.#soonSeen = this.#inode.errors;
    return this.#reported();
  }

  #reported(): StorageError {
    this.#inode.errorUnseen = false;
    return failure("sync", this.#path, this.#inode.errorCode);
  }

  /** How much of a write the disk has space for. */
  #room(bytes: number, offset: number): number {
    const inode = this.#inode;
    if (inode.spaceFor(bytes, offset) === 0) return bytes;
    const free = this.#control.freeBytes();
    let room = bytes;
    while (inode.spaceFor(room, offset) > free) {
      const end = offset + room;
      room = Math.max(0, Math.ceil(end / PAGE_BYTES - 1) * PAGE_BYTES - offset);
    }
    return room;
  }

  #enter(operation: Operation, offset = 0): StorageError | undefined {
    this.#assertUsable(offset);
    return this.#control.enter(operation, this.#path);
  }

  #assertUsable(offset: number): void {
    assert(!this.#closed || this.#control.stopped, `${this.#path} is closed`);
    assert(offset >= 0 && Number.isInteger(offset), `offset is ${offset}`);
  }

  #check(operation: Operation, offset = 0): void {
    const fault = this.#enter(operation, offset);
    if (fault !== undefined) throw fault;
  }
}

function codeOf(fault: StorageError): string {
  return fault.systemCode ?? "EIO";
}
