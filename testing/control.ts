/**
 * What all objects of one simulated disk share: faults, syncs under way, death.
 *
 * @module
 */

import type { StorageError } from "../src/errors.ts";
import { SimulatedClock } from "./clock.ts";
import type { Disk } from "./disk.ts";
import {
  CrashNow,
  type Operation,
  type PortCall,
  type Rule,
} from "./faults.ts";
import { plan, STYLES } from "./fates.ts";
import { type Inode, PAGE_BYTES } from "./inode.ts";
import type { SimulatedOptions } from "./options.ts";
import { Random } from "./random.ts";

/** At most so many continuations run before a sync ends by itself. */
const SETTLE_TURNS_MAX = 16;

/** A call of write that has not returned. */
interface Writing {
  readonly inode: Inode;
  readonly source: Uint8Array<ArrayBuffer>;
  readonly offset: number;
}

/** What all objects of one storage share: faults, syncs under way, death. */
export class Control {
  readonly options: SimulatedOptions;
  readonly random: Random;
  readonly writeback: number;
  readonly clock: SimulatedClock;
  disk: Disk;
  /** Open files and mappings keep the space of an unlinked file. */
  readonly held: Map<Inode, number> = new Map<Inode, number>();
  calls = 0;
  stopped = false;
  hook: ((call: PortCall) => void) | undefined;
  readonly rules: Rule[] = [];
  pending: (() => void)[] = [];
  /** While a hook looks at a write. */
  writing: Writing | undefined;
  readonly #late: Random;

  constructor(
    options: SimulatedOptions,
    seed: number,
    disk: Disk,
    nowMs: number,
  ) {
    this.options = options;
    this.disk = disk;
    this.clock = new SimulatedClock(nowMs, () => !this.stopped);
    this.random = new Random(seed, 1);
    this.#late = new Random(seed, 6);
    const chances = [0, 0.02, 0.1, 0.5];
    this.writeback = options.writeback ?? this.random.pick(chances);
  }

  /** Every call comes by here; what it returns is the fault to report. */
  enter(operation: Operation, name: string): StorageError | undefined {
    this.#assertAlive(operation, name);
    this.calls++;
    try {
      this.hook?.({ operation, name, count: this.calls });
    } catch (reason) {
      this.stop();
      throw reason;
    }
    this.#assertAlive(operation, name);
    if (this.random.chance(this.writeback)) this.#writeSome();
    for (const rule of this.rules) {
      const fault = rule.meet(operation, name);
      if (fault !== undefined) return fault;
    }
    return undefined;
  }

  /** `enter` for calls that a fault simply ends. */
  check(operation: Operation, name: string): void {
    const fault = this.enter(operation, name);
    if (fault !== undefined) throw fault;
  }

  /**
   * `enter` for what is told later: who dies meanwhile is told nothing, and
   * no throw reaches a program that has nobody to catch it.
   */
  enterSoon(
    operation: Operation,
    name: string,
  ): { fault: StorageError | undefined } | undefined {
    try {
      return { fault: this.enter(operation, name) };
    } catch (reason) {
      if (reason instanceof CrashNow) return undefined;
      throw reason;
    }
  }

  /** `enter` for a write: whoever dies in it may have done a part of it. */
  enterWrite(name: string, writing: Writing): StorageError | undefined {
    this.writing = writing;
    const fault = this.enter("write", name);
    this.writing = undefined;
    return fault;
  }

  /** The disk, and of a write that has not returned as much as chance has it. */
  snapshot(random: Random): Disk {
    const { writing } = this;
    if (writing === undefined) return this.disk.copy((inode) => inode.clone());
    const { source, offset } = writing;
    const lead = PAGE_BYTES - offset % PAGE_BYTES;
    const pages = Math.max(0, Math.ceil((source.length - lead) / PAGE_BYTES));
    const done = random.int(pages + 2);
    const bytes = done === 0 ? 0 : lead + (done - 1) * PAGE_BYTES;
    return this.disk.copy((inode) => {
      const copy = inode.clone();
      if (inode === writing.inode) {
        copy.write(source.subarray(0, bytes), offset);
      }
      return copy;
    });
  }

  later(complete: () => void): void {
    this.pending.push(complete);
    if (!(this.options.autoSettle ?? false)) return;
    let turns = this.random.between(1, SETTLE_TURNS_MAX);
    const turn = (): void => {
      if (--turns > 0) queueMicrotask(turn);
      else this.settle(1);
    };
    queueMicrotask(turn);
  }

  settle(limit: number): number {
    let settled = 0;
    for (let left = Math.min(limit, this.pending.length); left > 0; left--) {
      const nth = this.random.int(this.pending.length);
      const [complete] = this.pending.splice(nth, 1);
      if (complete === undefined) break;
      complete();
      settled++;
    }
    return settled;
  }

  hold(inode: Inode, change: 1 | -1): void {
    const holders = (this.held.get(inode) ?? 0) + change;
    if (holders === 0) this.held.delete(inode);
    else this.held.set(inode, holders);
  }

  /** Bytes that can still be taken. */
  freeBytes(): number {
    const { capacityBytes = Infinity } = this.options;
    if (capacityBytes === Infinity) return Infinity;
    return capacityBytes - this.disk.space(this.held.keys());
  }

  /** Nothing the dead program stores into its mappings counts any more. */
  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    this.pending = [];
    const { writing } = this;
    this.disk = this.disk.copy((inode) => {
      const copy = inode.clone();
      if (inode === writing?.inode) {
        this.writing = {
          ...writing,
          inode: copy,
          source: writing.source.slice(),
        };
      }
      return copy;
    });
  }

  /** Faults and the like are for a disk that still works. */
  assertRunning(doing: string): void {
    if (!this.stopped) return;
    throw new CrashNow(`Cannot ${doing}: this disk has crashed`);
  }

  #assertAlive(operation: Operation, name: string): void {
    if (!this.stopped) return;
    throw new CrashNow(
      `Cannot ${operation} "${name}": this disk has crashed, expected a call ` +
        "on the one that crash() or processDeath() returned",
    );
  }

  /** The kernel writes back what it likes, and commits names in order. */
  #writeSome(): void {
    const { disk, random } = this;
    for (const [inode, { pages }] of disk.dirty()) {
      const fates = plan(random, random.pick(STYLES), pages.length);
      for (const [at, page] of pages.entries()) {
        if (fates[at] === "new") inode.writeBack(page);
      }
    }
    for (const inode of disk.unsized().keys()) {
      if (this.#late.chance(0.3)) inode.bytesDurable = inode.bytes;
    }
    if (disk.changes.length === 0 || random.chance(0.7)) return;
    const kept = random.int(disk.changes.length + 1);
    for (const change of disk.changes.slice(0, kept)) disk.apply(change, false);
    disk.changes.splice(0, kept);
  }
}
