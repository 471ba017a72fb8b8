/**
 * What all objects of one simulated disk share: faults, syncs under way, death.
 *
 * @module
 */

import type { StorageError } from "../src/errors.ts";
import { SimulatedClock } from "./clock.ts";
import type { Disk } from "./disk.ts";
import { CrashNow, failure, type Operation, type PortCall } from "./faults.ts";
import { plan, STYLES } from "./fates.ts";
import type { Inode } from "./inode.ts";
import type { SimulatedOptions } from "./options.ts";
import { Random } from "./random.ts";

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
  rules: {
    operation: Operation | "any";
    code: string;
    count: number;
    after: number;
    name: string;
  }[] = [];
  pending: (() => void)[] = [];

  constructor(options: SimulatedOptions, disk: Disk, nowMs: number) {
    this.options = options;
    this.disk = disk;
    this.clock = new SimulatedClock(nowMs);
    this.random = new Random(options.seed, 1);
    const chances = [0, 0.02, 0.1, 0.5];
    this.writeback = options.writeback ?? this.random.pick(chances);
  }

  /** Every call comes by here; what it returns is the fault to report. */
  enter(operation: Operation, name: string): StorageError | undefined {
    if (this.stopped) throw new CrashNow(`Cannot ${operation}: crashed`);
    this.calls++;
    try {
      this.hook?.({ operation, name, count: this.calls });
    } catch (reason) {
      this.stop();
      throw reason;
    }
    if (this.random.chance(this.writeback)) this.writeSome();
    for (const rule of this.rules) {
      if (rule.operation !== "any" && rule.operation !== operation) continue;
      if (!name.endsWith(rule.name) || rule.count === 0) continue;
      if (rule.after-- > 0) continue;
      rule.count--;
      return failure(operation, name, rule.code);
    }
    return undefined;
  }

  /** `enter` for calls that a fault simply ends. */
  check(operation: Operation, name: string): void {
    const fault = this.enter(operation, name);
    if (fault !== undefined) throw fault;
  }

  /** The kernel writes back what it likes, and commits names in order. */
  writeSome(): void {
    const { disk, random } = this;
    for (const [inode, { pages }] of disk.dirty()) {
      const fates = plan(random, random.pick(STYLES), pages.length);
      for (const [at, page] of pages.entries()) {
        if (fates[at] === "new") inode.writeBack(page);
      }
    }
    if (disk.changes.length === 0 || random.chance(0.7)) return;
    const kept = random.int(disk.changes.length + 1);
    for (const change of disk.changes.slice(0, kept)) disk.apply(change, false);
    disk.changes.splice(0, kept);
  }

  later(complete: () => void): void {
    this.pending.push(complete);
    if (this.options.autoSettle) setTimeout(() => this.settle(1), 0);
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

  /** Nothing the dead program stores into its mappings counts any more. */
  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    this.pending = [];
    this.clock.stop();
    this.disk = this.disk.copy((inode) => inode.clone());
  }
}
