/**
 * A disk that can crash, in memory and from a seed.
 *
 * Every file has two images: the page cache, which programs see, and the
 * platter, which a power cut leaves. Names live apart from files, in a live
 * and a durable table. `crash()` and `processDeath()` give the storage that
 * the next process finds; the old one is dead.
 *
 * @module
 */

import type {
  DirectoryOptions,
  StorageDirectory,
  StoragePort,
} from "../src/storage.ts";
import { assert } from "../src/assert.ts";
import type { SimulatedClock } from "./clock.ts";
import { Control } from "./control.ts";
import { crashed, type CrashOptions, type DirtyPage } from "./crash.ts";
import { SimulatedDirectory } from "./directory.ts";
import { Disk, Folder } from "./disk.ts";
import {
  type FailOptions,
  failure,
  type Operation,
  type PortCall,
} from "./faults.ts";
import { Inode } from "./inode.ts";
import type { SimulatedOptions } from "./options.ts";
import { Random } from "./random.ts";

const START_MS = 1_700_000_000_000;

/** A storage whose power can fail. One object is one process's world. */
export class SimulatedStorage implements StoragePort {
  readonly kind = "simulated";
  readonly volatile = false;
  /** Of this storage; a found one has another. */
  readonly seed: number;
  readonly clock: SimulatedClock;
  readonly #control: Control;
  readonly #salts: Random;
  readonly #seeds: Random;

  /** An empty disk; only `crash` and its siblings give what was found. */
  constructor(
    options: SimulatedOptions,
    found?: unknown,
    nowMs: number = START_MS,
  ) {
    const disk = found instanceof Disk ? found : new Disk();
    this.seed = options.seed;
    this.#control = new Control(options, disk, nowMs);
    this.clock = this.#control.clock;
    this.#salts = new Random(options.seed, 2);
    this.#seeds = new Random(options.seed, 3);
  }

  /** The clock by its simulated face. */
  get clockSim(): SimulatedClock {
    return this.clock;
  }

  /** Calls of the port so far. */
  get callCount(): number {
    return this.#control.calls;
  }

  /** True after a crash, a death, or a hook that threw. */
  get dead(): boolean {
    return this.#control.stopped;
  }

  /** Syncs that `settle` would complete. */
  get pendingSyncs(): number {
    return this.#control.pending.length;
  }

  /** Copies of their own: nothing is shared. */
  sharedMemory(): undefined {
    return undefined;
  }

  fillRandom(target: Uint8Array<ArrayBuffer>): void {
    this.#salts.fill(target);
  }

  openDirectory(
    path: string,
    options: DirectoryOptions,
  ): StorageDirectory | undefined {
    this.#control.check("openDirectory", path);
    let folder = this.#control.disk.root;
    for (const name of path.split("/")) {
      if (name === "" || name === ".") continue;
      const node = folder.live.get(name);
      if (node instanceof Inode) {
        throw failure("openDirectory", path, "ENOTDIR");
      }
      if (node === undefined && !options.create) return undefined;
      const next = node ?? new Folder();
      if (options.create) {
        folder.live.set(name, next);
        folder.durable.set(name, next);
      }
      folder = next;
    }
    return new SimulatedDirectory(this.#control, path, folder);
  }

  /** Completes up to `limit` pending syncs in seeded order; says how many. */
  settle(limit: number = Infinity): number {
    return this.#control.settle(limit);
  }

  /** The one hook, called before every call; its throw is the crash. */
  onCall(hook: ((call: PortCall) => void) | undefined): void {
    this.#control.hook = hook;
  }

  /** Lets calls fail that match. */
  failNext(
    operation: Operation | "any",
    code: string,
    { count = 1, after = 0, name = "" }: FailOptions = {},
  ): void {
    this.#control.rules.push({ operation, code, count, after, name });
  }

  /** Power loss: what the next boot finds. This storage is dead. */
  crash(options: CrashOptions = {}): SimulatedStorage {
    this.#control.stop();
    return this.image(options);
  }

  /** What a power loss at this instant would leave; this one lives on. */
  image(options: CrashOptions = {}): SimulatedStorage {
    const seed = this.#childSeed(options.seed);
    const chosen = options.pages === undefined
      ? this.#control.options.garbage ?? "unsynced-sectors"
      : "none";
    const garbage = options.garbage ?? chosen;
    const random = new Random(seed, 4);
    return this.#next(
      seed,
      crashed(this.#control.disk, random, garbage, options),
    );
  }

  /** `kill -9`: the page cache stays, and stays dirty. This one is dead. */
  processDeath(seed?: number): SimulatedStorage {
    this.#control.stop();
    return this.fork(seed);
  }

  /** A copy of cache, platter and names; this one lives on. */
  fork(seed?: number): SimulatedStorage {
    const disk = this.#control.disk.copy((inode) => inode.clone());
    return this.#next(this.#childSeed(seed), disk);
  }

  /** Every page that a power cut could lose, in a fixed order. */
  dirtyPages(): DirtyPage[] {
    return [...this.#control.disk.dirty().values()].flatMap(
      ({ path, pages }) => pages.map((page) => ({ path, page })),
    );
  }

  /** Every change of names that a power cut could lose, oldest first. */
  pendingNames(): string[] {
    return this.#control.disk.changes.map((change) => change.text);
  }

  /** A file as programs see it now, a copy; no call of the port. */
  peek(path: string): Uint8Array<ArrayBuffer> | undefined {
    const node = this.#control.disk.find(path);
    if (!(node instanceof Inode)) return undefined;
    const bytes = new Uint8Array(node.bytes);
    node.read(bytes, 0);
    return bytes;
  }

  /** Puts a file there, name and bytes durable, or takes it away. */
  plant(path: string, bytes: Uint8Array<ArrayBuffer> | undefined): void {
    const name = path.slice(path.lastIndexOf("/") + 1);
    const parent = path.slice(0, path.length - name.length);
    const folder = this.#control.disk.find(parent);
    assert(folder instanceof Folder, `there is no folder "${parent}"`);
    for (const table of [folder.live, folder.durable]) table.delete(name);
    if (bytes === undefined) return;
    const inode = new Inode(bytes.length);
    if (bytes.length > 0) inode.write(bytes, 0);
    for (const page of inode.dirtyPages()) inode.writeBack(page);
    for (const table of [folder.live, folder.durable]) table.set(name, inode);
  }

  /** The disk in words, for failure messages. */
  describe(): string {
    const { disk, options } = this.#control;
    const dirty = disk.dirty();
    const lines = [`seed ${options.seed}, ${this.callCount} calls`];
    for (const [inode, path] of disk.files()) {
      const pages = dirty.get(inode)?.pages ?? [];
      const forgotten = [...inode.forgotten.keys()];
      lines.push(
        `${path}: ${inode.bytes} bytes, dirty [${pages}]` +
          (forgotten.length > 0 ? `, forgotten [${forgotten}]` : ""),
      );
    }
    for (const text of this.pendingNames()) lines.push(`not durable: ${text}`);
    return lines.join("\n");
  }

  #next(seed: number, disk: Disk): SimulatedStorage {
    const options = { ...this.#control.options, seed };
    return new SimulatedStorage(options, disk, this.clock.nowMs() + 1000);
  }

  /** Never a seed of before, or ids and salts would come again. */
  #childSeed(seed = this.#seeds.uint32()): number {
    return new Random(this.seed, seed, 5).uint32();
  }
}
