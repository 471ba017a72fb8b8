/**
 * The simulated disk without its dice: nothing reaches the platter but what a
 * sync takes there, time stands still, and every call of the port is watched.
 * What a power cut leaves is not drawn but enumerated, in
 * `_exhaustive_images.ts`.
 *
 * @module
 */

import type {
  DirectoryOptions,
  StorageDirectory,
  StoragePort,
} from "../src/storage.ts";
import { SimulatedClock } from "../testing/clock.ts";
import { Control } from "../testing/control.ts";
import { SimulatedDirectory } from "../testing/directory.ts";
import { type Disk, Folder } from "../testing/disk.ts";
import type { Inode, Words } from "../testing/inode.ts";
import { assert } from "../src/assert.ts";
import { StorageError } from "../src/errors.ts";
import { LIVE_NAME, WAKE_NAME } from "../src/format.ts";
import { Random } from "../testing/random.ts";

/** The folder of every log here. */
export const LOG = "wal";

const START_MS = 1_700_000_000_000;

/** Calls that change nothing that a crash could show. */
const TOLD: ReadonlySet<unknown> = new Set([LIVE_NAME, WAKE_NAME]);
const READING: ReadonlySet<string | symbol> = new Set([
  "list",
  "lock",
  "open",
  "readAt",
]);

/** A call of the port. */
export interface PortCall {
  readonly operation: string;
  /** The names that it is about. */
  readonly names: string;
  /** Offsets and sizes. */
  readonly numbers: readonly unknown[];
}

/** Called before and after every call of the port. */
export type Watch = (when: "before" | "after", call: PortCall) => void;

/** How a disk is started. */
export interface Boot {
  /** False: files are not mapped. */
  readonly mapped: boolean;
  /** How many boots came before: salts and times never come again. */
  readonly number: number;
  /** Of salts and ids. */
  readonly seed: number;
}

/** What the dice would say if they always fell on the same side. */
class Steady extends Random {
  override uint32(): number {
    return 0;
  }
}

/** Time is that of the boot: equal steps then leave equal bytes. */
class StoppedClock extends SimulatedClock {
  readonly #nowMs: number;

  constructor(nowMs: number) {
    super(nowMs, () => true);
    this.#nowMs = nowMs;
  }

  override nowMs(): number {
    return this.#nowMs;
  }
}

/** A sync under way, with the pages as they were when it began. */
interface Flight {
  readonly inode: Inode;
  readonly owed: Set<number>;
  readonly pages: ReadonlyMap<number, Words>;
}

/** A sync that ends takes to the platter what there was when it began. */
export class SteadyControl extends Control {
  override readonly random: Random = new Steady(0);
  override readonly clock: SimulatedClock;
  /** Oldest first. */
  readonly flights: Flight[] = [];

  constructor(disk: Disk, boot: Boot) {
    const { seed, mapped } = boot;
    super({ mapped, writeback: 0 }, seed, disk, 0);
    this.clock = new StoppedClock(START_MS + boot.number * 1000);
  }

  override later(complete: () => void): void {
    const flight = this.#begin();
    super.later(() => {
      if (flight !== undefined) this.#end(flight);
      complete();
    });
  }

  #begin(): Flight | undefined {
    const known = new Set(this.flights.map(({ owed }) => owed));
    for (const inode of this.held.keys()) {
      for (const owed of inode.owed) {
        if (known.has(owed)) continue;
        const pages = new Map<number, Words>();
        for (const page of owed) pages.set(page, inode.cached(page));
        const flight = { inode, owed, pages };
        this.flights.push(flight);
        return flight;
      }
    }
    return undefined;
  }

  /** A page that a later sync took there already stays as that left it. */
  #end(flight: Flight): void {
    const { inode, owed, pages } = flight;
    const nth = this.flights.indexOf(flight);
    for (const page of owed) {
      inode.pages[page] = pages.get(page) as Words;
      for (const older of this.flights.slice(0, nth)) {
        if (older.inode === inode) older.owed.delete(page);
      }
    }
    owed.clear();
    this.flights.splice(nth, 1);
  }
}

/** One process's world on such a disk. */
export class SteadyStorage implements StoragePort {
  readonly kind = "simulated";
  readonly volatile = false;
  readonly control: SteadyControl;
  readonly #salts: Random;
  /** Called before and after every call; undefined: nobody looks. */
  watch: Watch | undefined;
  /** Calls and ends of syncs that may have changed the disk. */
  changes = 0;

  constructor(disk: Disk, boot: Boot) {
    this.control = new SteadyControl(disk, boot);
    this.#salts = new Random(boot.seed, boot.number, 2);
  }

  get clock(): SimulatedClock {
    return this.control.clock;
  }

  /** Copies of their own: nothing is shared. */
  sharedMemory(): undefined {
    return undefined;
  }

  bootId(): string {
    return "";
  }

  fillRandom(target: Uint8Array<ArrayBuffer>): void {
    this.#salts.fill(target);
  }

  openDirectory(path: string, _options: DirectoryOptions): StorageDirectory {
    let folder = logFolder(this.control.disk);
    for (const name of path.split("/").slice(1)) {
      const next = folder.live.get(name) ?? new Folder();
      assert(next instanceof Folder, `${path} is a folder`);
      for (const table of [folder.live, folder.durable]) table.set(name, next);
      folder = next;
    }
    return this.#watched(new SimulatedDirectory(this.control, path, folder));
  }

  /** Ends the oldest sync under way, or the newest; false: there is none. */
  settle(newest = false): boolean {
    const { pending } = this.control;
    const complete = newest ? pending.pop() : pending.shift();
    this.changes++;
    complete?.();
    return complete !== undefined;
  }

  /** Whether the program can change files without a call. */
  get mapped(): boolean {
    for (const inode of this.control.held.keys()) {
      if (inode.mappings > 0) return true;
    }
    return false;
  }

  /** The same object, but every call of it is told. */
  #watched<T extends object>(target: T): T {
    return new Proxy(target, {
      get: (_, key) => {
        const value = target[key as keyof T] as unknown;
        if (typeof value !== "function") return value;
        return (...given: unknown[]) => {
          // What readers are told is no part of the log: such files cannot
          // be had here, and leave no images of their own.
          if (TOLD.has(given[0]) && key === "create") throw refused(given[0]);
          // Closing changes nothing that a crash could show.
          if (key === "close") return value.apply(target, given);
          const call = this.watch && describe(target, String(key), given);
          if (call !== undefined) this.watch?.("before", call);
          const result = value.apply(target, given);
          if (!READING.has(key)) this.changes++;
          if (call !== undefined) this.watch?.("after", call);
          const file = key === "create" || key === "open";
          return file && result !== undefined ? this.#watched(result) : result;
        };
      },
    });
  }
}

function refused(name: unknown): StorageError {
  const what = { operation: "create", path: `${name}`, systemCode: "EACCES" };
  return new StorageError(`Cannot create "${name}": EACCES`, what);
}

/** The log's folder, made and durable. */
export function logFolder(disk: Disk): Folder {
  const { live, durable } = disk.root;
  const found = live.get(LOG);
  if (found instanceof Folder) return found;
  const folder = new Folder();
  for (const table of [live, durable]) table.set(LOG, folder);
  return folder;
}

function describe(
  target: object,
  operation: string,
  given: readonly unknown[],
): PortCall {
  const names = given.filter((one) => typeof one === "string");
  if ("name" in target) names.unshift(String(target.name));
  const numbers = given.filter((one) => typeof one === "number");
  return { operation, names: names.join(" "), numbers };
}
