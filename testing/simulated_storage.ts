/**
 * A disk that can crash, in memory and from a seed.
 *
 * Every file has two images: the page cache, which programs see, and the
 * platter. Names live apart from files, in a live and a durable table.
 *
 * @module
 */

import type {
  DirectoryOptions,
  StorageDirectory,
  StoragePort,
} from "../src/storage.ts";
import { checkFunction, checkWhole, show } from "./checks.ts";
import type { SimulatedClock } from "./clock.ts";
import { Control } from "./control.ts";
import { crash } from "./crash.ts";
import { SimulatedDirectory } from "./directory.ts";
import { Disk, Folder } from "./disk.ts";
import {
  checkWritebackFailure,
  type FailOptions,
  failure,
  type Operation,
  type PortCall,
  Rule,
  type WritebackFailure,
} from "./faults.ts";
import { Inode } from "./inode.ts";
import {
  checkCrashOptions,
  checkSimulatedOptions,
  type CrashOptions,
  type DirtyPage,
  type PendingSize,
  type SimulatedOptions,
} from "./options.ts";
import { Random } from "./random.ts";

const SEED = 1;
const START_MS = 1_700_000_000_000;
const DOWN_MS = 1000;

/**
 * Makes an empty disk that can crash. It is a storage like the others: give
 * it to `openWal`, work, then `crash()` and see what the next process finds.
 *
 * @param options How it behaves; every field has a default.
 * @returns The disk.
 * @throws {TypeError | RangeError} when an option is wrong
 *
 * @example What was acknowledged survives a power cut
 * ```ts
 * import { openWal } from "@walrus/wal";
 * import { simulatedStorage } from "@walrus/wal/testing";
 *
 * const storage = simulatedStorage({ seed: 7 });
 * const wal = await openWal("log", { storage });
 * await wal.append("promised");
 * void wal.append("on its way").catch(() => {});
 *
 * const found = storage.crash();
 * await using again = await openWal("log", { storage: found });
 * console.log(again.get(1).text()); // promised
 * // What was on its way is there or not, by the seed.
 * console.log(again.lastIndex <= 2); // true
 * ```
 */
export function simulatedStorage(
  options: SimulatedOptions = {},
): SimulatedStorage {
  checkSimulatedOptions(options);
  return new SimulatedStorage({
    ...options,
    autoSettle: options.autoSettle ?? true,
  });
}

/**
 * A storage whose power can fail. One object is one process's world: what
 * `crash` and its siblings return is the world of the next process.
 *
 * @example Decide by hand over each page and name
 * ```ts
 * import { openWalSync } from "@walrus/wal";
 * import { simulatedStorage } from "@walrus/wal/testing";
 *
 * const storage = simulatedStorage({ writeback: 0 });
 * const wal = openWalSync("log", { storage, sync: "never" });
 * wal.appendSync("synced");
 * wal.flushSync();
 * wal.appendSync("not synced");
 *
 * for (const fate of ["old", "new"] as const) {
 *   const found = storage.image({ pages: () => fate, names: () => true });
 *   using again = openWalSync("log", { storage: found });
 *   console.log(fate, again.lastIndex); // old 1, new 2
 * }
 * ```
 */
export class SimulatedStorage implements StoragePort {
  /** As `wal.stats().storage` says. */
  readonly kind = "simulated";
  /** False: what is synced survives. */
  readonly volatile = false;
  /** The seed of this world; that of a found one is drawn from it. */
  readonly seed: number;
  #control: Control;
  #crashReport: readonly string[] = [];
  readonly #salts: Random;
  readonly #seeds: Random;
  #boot: string;

  /**
   * The bare disk: use `simulatedStorage()`. Here syncs end by themselves
   * only with `autoSettle: true`.
   */
  constructor(options: SimulatedOptions) {
    checkSimulatedOptions(options);
    this.seed = options.seed ?? SEED;
    this.#control = new Control(options, this.seed, new Disk(), START_MS);
    this.#salts = new Random(this.seed, 2);
    this.#seeds = new Random(this.seed, 3);
    this.#boot = new Random(this.seed, 11).hex(32);
  }

  /** Time, which passes only when asked. */
  get clock(): SimulatedClock {
    return this.#control.clock;
  }

  /** How many calls were made of this storage so far. */
  get callCount(): number {
    return this.#control.calls;
  }

  /** True after a crash, a death, or a hook that threw. */
  get dead(): boolean {
    return this.#control.stopped;
  }

  /** Asynchronous syncs under way: those that `settle` would end. */
  get pendingSyncs(): number {
    return this.#control.pending.length;
  }

  /**
   * What the power cut that this disk was found after made of each page, size
   * and name that was not durable; empty when there was none.
   */
  get crashReport(): readonly string[] {
    return this.#crashReport;
  }

  /** Nothing is shared: copies have memory of their own. */
  sharedMemory(): undefined {
    return undefined;
  }

  /** Drawn from the seed; a power cut changes it, a death does not. */
  bootId(): string {
    return this.#boot;
  }

  /** Fills `target` from the seed. */
  fillRandom(target: Uint8Array<ArrayBuffer>): void {
    this.#salts.fill(target);
  }

  /** Opens or makes a folder, as the log asks; new ones are durable at once. */
  openDirectory(
    path: string,
    options: DirectoryOptions,
  ): StorageDirectory | undefined {
    this.#control.check("openDirectory", path);
    const folder = this.#control.disk.openFolder(path, options.create);
    if (folder === undefined) return undefined;
    if (folder instanceof Inode) {
      throw failure("openDirectory", path, "ENOTDIR");
    }
    return new SimulatedDirectory(this.#control, path, folder);
  }

  /**
   * Ends up to `limit` asynchronous syncs, in an order drawn from the seed:
   * with `autoSettle: false` nothing else does.
   *
   * @returns how many ended
   */
  settle(limit: number = Infinity): number {
    checkWhole("settle", "limit", limit, 0, Infinity);
    return this.#control.settle(limit);
  }

  /**
   * Calls `hook` before every call; `undefined` takes it away. There is one.
   * What it throws ends this world: throw `CrashNow`. It may call `image`
   * and `fork`, and so look at what a crash at this instant would leave.
   *
   * @example What does one append ask of the disk?
   * ```ts
   * import { openWalSync } from "@walrus/wal";
   * import { simulatedStorage } from "@walrus/wal/testing";
   *
   * const storage = simulatedStorage();
   * const wal = openWalSync("log", { storage });
   * storage.onCall(({ operation }) => console.log(operation)); // sync
   * wal.appendSync("Hello World!");
   * storage.onCall(undefined);
   * ```
   */
  onCall(hook: ((call: PortCall) => void) | undefined): void {
    checkFunction("watch calls", "hook", hook);
    this.#control.hook = hook;
  }

  /**
   * Lets calls fail with a system error. A call that fails has changed
   * nothing, but for two: a failed `write` may have written any part, and a
   * failed `sync` leaves pages that the cache calls clean and the platter
   * has not.
   *
   * @param operation Which calls, or "any".
   * @param code The system's name of the error: "EIO", "ENOSPC", "EMFILE", …
   * @param options The next one by default; with `after` the Nth.
   *
   * @example The second file that is made finds no descriptor
   * ```ts
   * import { openWalSync, StorageError } from "@walrus/wal";
   * import { simulatedStorage } from "@walrus/wal/testing";
   *
   * const storage = simulatedStorage();
   * storage.failNext("create", "EMFILE", { after: 1 });
   * try {
   *   openWalSync("log", { storage });
   * } catch (error) {
   *   console.log(error instanceof StorageError && error.systemCode); // EMFILE
   * }
   * ```
   */
  failNext(
    operation: Operation | "any",
    code: string,
    options: FailOptions = {},
  ): void {
    const rule = new Rule(operation, code, options);
    this.#control.assertRunning("let calls fail");
    this.#control.rules.push(rule);
  }

  /**
   * The kernel writes all dirty pages back by itself, and fails: programs see
   * what they wrote, the platter does not have it, and no page is dirty any
   * more. Each open file is told by its next sync, once; of later ones only
   * the first, if nobody was told before.
   *
   * @returns how many pages the platter does not have
   *
   * @example A flush learns that it came too late
   * ```ts
   * import { openWalSync, WalFailedError } from "@walrus/wal";
   * import { simulatedStorage } from "@walrus/wal/testing";
   *
   * const storage = simulatedStorage({ writeback: 0 });
   * const wal = openWalSync("log", { storage, sync: "never" });
   * wal.appendSync("written, not synced");
   * storage.failWriteback();
   * try {
   *   wal.flushSync();
   * } catch (error) {
   *   console.log(error instanceof WalFailedError); // true
   * }
   * ```
   */
  failWriteback(options: WritebackFailure = {}): number {
    checkWritebackFailure(options);
    this.#control.assertRunning("let writeback fail");
    const { name = "", code = "EIO" } = options;
    let count = 0;
    for (const [inode, { path, pages }] of this.#control.disk.dirty()) {
      if (!path.endsWith(name)) continue;
      inode.forget(pages, code);
      inode.errorUnseen = true;
      count += pages.length;
    }
    return count;
  }

  /** The power fails: gives what the next boot finds. This one is dead. */
  crash(options: CrashOptions = {}): SimulatedStorage {
    const checked = checkCrashOptions(options);
    this.#control.stop();
    return this.image(checked);
  }

  /** What a power cut at this instant would leave; this one lives on. */
  image(options: CrashOptions = {}): SimulatedStorage {
    const { garbage = "unsynced-sectors", shortFiles = false } =
      this.#control.options;
    const checked = checkCrashOptions(options);
    const own = checked.pages === undefined ? garbage : "none";
    const seed = this.#childSeed(checked.seed);
    const { writing, disk: whole } = this.#control;
    const torn = writing && this.#control.snapshot(new Random(seed, 7));
    const habits = { garbage: checked.garbage ?? own, shortFiles };
    const found = crash(torn ?? whole, seed, { ...checked, ...habits });
    const next = this.#next(seed, found.disk);
    next.#crashReport = found.report;
    return next;
  }

  /**
   * `kill -9`: gives what the next process finds. The page cache stays, and
   * stays dirty: a later power cut may still take it. This one is dead.
   */
  processDeath(seed?: number): SimulatedStorage {
    checkWhole("let the process die", "seed", seed, 0);
    this.#control.stop();
    return this.fork(seed);
  }

  /** What the death of the process would leave; this one lives on. */
  fork(seed?: number): SimulatedStorage {
    checkWhole("fork a disk", "seed", seed, 0);
    const child = this.#childSeed(seed);
    const disk = this.#control.snapshot(new Random(child, 7));
    return this.#next(child, disk, this.#boot);
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

  /** Every file that a power cut could leave shorter: it was never synced. */
  pendingSizes(): PendingSize[] {
    return [...this.#control.disk.unsized()].map(
      ([{ bytes }, path]) => ({ path, bytes }),
    );
  }

  /** A file as programs see it now, a copy; it is no call of a log. */
  peek(path: string): Uint8Array<ArrayBuffer> | undefined {
    const node = this.#control.disk.find(path);
    if (!(node instanceof Inode)) return undefined;
    const bytes = new Uint8Array(node.bytes);
    node.read(bytes, 0);
    return bytes;
  }

  /**
   * Puts a file there, name and bytes durable, or takes it away: damage by
   * another hand. Files that are open keep what they had.
   *
   * @throws {RangeError} when there is no such folder
   */
  plant(path: string, bytes: Uint8Array<ArrayBuffer> | undefined): void {
    const name = path.slice(path.lastIndexOf("/") + 1);
    const parent = path.slice(0, path.length - name.length);
    const folder = this.#control.disk.find(parent);
    if (!(folder instanceof Folder) || name === "") {
      throw new RangeError(
        `Cannot plant ${show(path)}: there is no folder "${parent}", ` +
          "expected a file's path",
      );
    }
    this.#control.disk.plant({ folder, name }, bytes);
  }

  /** The disk in words, for messages. */
  describe(): string {
    return [
      `seed ${this.seed}, ${this.callCount} calls`,
      ...this.#control.disk.describe(),
      ...this.#crashReport.map((line) => `the crash: ${line}`),
    ].join("\n");
  }

  #next(seed: number, disk: Disk, boot?: string): SimulatedStorage {
    const options = { ...this.#control.options, seed };
    const next = new SimulatedStorage(options);
    if (boot) next.#boot = boot;
    const ms = this.clock.lastMs + DOWN_MS;
    next.#control = new Control(options, seed, disk, ms);
    return next;
  }

  /** Never a seed of before, or ids and salts would come again. */
  #childSeed(seed = this.#seeds.uint32()): number {
    return new Random(this.seed, seed, 5).uint32();
  }
}
