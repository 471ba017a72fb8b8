/**
 * Opens what a crash left and judges it; crashes again while it is opened,
 * and uses it afterwards as a program would.
 *
 * @module
 */

import { openWal, openWalSync, type Wal, type WalOptions } from "../mod.ts";
import {
  ChecksumMismatchError,
  UnsupportedFormatError,
  WalCorruptedError,
} from "../src/errors.ts";
import {
  blame,
  checkConsumers,
  exactly,
  type Expected,
  explain,
  findVersion,
  type FoundLog,
  type Version,
  type Written,
} from "./_crash_history.ts";
import { Uncertain } from "./_crash_uncertain.ts";
import type { Random, SimulatedStorage } from "../testing/mod.ts";

/** The folder of every simulated log. */
export const LOG = "wal";

/** How a disk came to be. */
export type Crash = "power" | "death" | "closed";

/** A disk to judge. */
export interface Crashed {
  readonly disk: SimulatedStorage;
  readonly crash: Crash;
  readonly expected: Expected;
  /** The crashes that led here, for the report. */
  readonly path: readonly string[];
}

/** What was seen, for the report of the suite. */
export interface Counts {
  states: number;
  entries: number;
  readonly outcomes: Map<string, number>;
  readonly operations: Map<string, number>;
}

/** What one run shares. */
export interface Run {
  readonly random: Random;
  readonly counts: Counts;
  /** Garbage may lie anywhere: then a refusal is right as well. */
  readonly hostile: boolean;
  readonly format: "binary" | "json";
  readonly history: string[];
  /** Describe every disk: slow, for the replay of a failure. */
  readonly verbose: boolean;
}

/** A verdict against the log; the suite adds how to come here again. */
export class Verdict extends Error {
  override readonly name = "Verdict";
  /** The disk and the road to it. */
  readonly detail: string;

  constructor(message: string, detail: string, options?: ErrorOptions) {
    super(message, options);
    this.detail = detail;
  }
}

/** Counts something by name. */
export function count(map: Map<string, number>, name: string): void {
  map.set(name, (map.get(name) ?? 0) + 1);
}

/** Lets continuations run. */
async function hop(): Promise<void> {
  for (let hops = 0; hops < 12; hops++) await undefined;
}

/** Settles syncs of the disk until the promise settles, and gives that. */
export async function pump<T>(
  disk: SimulatedStorage,
  promise: Promise<T>,
): Promise<T> {
  let settled = false;
  const ended = () => void (settled = true);
  promise.then(ended, ended);
  for (let idle = 0; !settled && idle < 100; idle++) {
    await hop();
    if (!settled && disk.settle(1) > 0) idle = 0;
  }
  if (!settled) throw new Error("A promise never settles");
  return await promise;
}

/** Runs continuations and up to `limit` syncs. */
export async function step(
  disk: SimulatedStorage,
  limit: number,
): Promise<void> {
  await hop();
  disk.settle(limit);
  await hop();
}

/** The options of a log in a run. */
export function optionsFor(run: Run, disk: SimulatedStorage): WalOptions {
  const { random } = run;
  return {
    storage: disk,
    format: run.format,
    sync: random.pick(["always", "interval", "never", "never"] as const),
    segmentBytes: random.pick([65536, 65536, 65536, 131072]),
  };
}

/** Opens by one of the twins. */
export async function open(
  disk: SimulatedStorage,
  options: WalOptions,
  blocking: boolean,
): Promise<Wal> {
  if (blocking) return openWalSync(LOG, options);
  return await pump(disk, openWal(LOG, options));
}

/** Closes by one of the twins. */
export async function close(
  disk: SimulatedStorage,
  wal: Wal,
  blocking: boolean,
): Promise<void> {
  if (blocking) wal.closeSync();
  else await pump(disk, wal.close());
}

/** All entries, and that all ways of asking for them agree. */
export function readAll(wal: Wal): FoundLog {
  const entries: Written[] = [];
  const { firstIndex, lastIndex, nextIndex, recovery } = wal;
  const first = firstIndex === 0 ? nextIndex : firstIndex;
  for (const { index, data, term, timestampNs } of wal.entries()) {
    const expected = first + entries.length;
    if (index !== expected) {
      throw new Error(`the log reads entry ${index}, expected ${expected}`);
    }
    entries.push({ data, term, timestampNs });
  }
  const { length } = entries;
  const told = JSON.stringify({
    length: wal.length,
    nextIndex,
    lastIndex,
    firstIndex,
    durableIndex: wal.durableIndex,
    entryCount: recovery.entryCount,
  });
  const empty = length === 0;
  const expected = JSON.stringify({
    length,
    nextIndex: first + length,
    lastIndex: empty ? 0 : first + length - 1,
    firstIndex: empty ? 0 : first,
    durableIndex: empty ? 0 : first + length - 1,
    entryCount: length,
  });
  if (told !== expected) {
    throw new Error(`the log read ${expected} and says ${told}`);
  }
  const consumers = new Map<string, number>();
  for (const { name, position } of wal.consumers()) {
    if (position >= nextIndex) {
      throw new Error(`consumer "${name}" stands at ${position}, ${told}`);
    }
    consumers.set(name, position);
  }
  return { firstIndex: first, nextIndex, entries, consumers };
}

/** Opens what a crash left, crashes meanwhile, judges, and goes on using it. */
export class Judge {
  readonly #run: Run;
  readonly #crashed: Crashed;
  readonly #depth: number;
  #inside: { disk: SimulatedStorage; crash: Crash; at: string }[] = [];

  constructor(run: Run, crashed: Crashed, depth = 0) {
    this.#run = run;
    this.#crashed = crashed;
    this.#depth = depth;
  }

  /**
   * Judges, and returns the entries that were found; undefined where the log
   * was refused, and might be.
   */
  async judge(): Promise<FoundLog | undefined> {
    const { disk } = this.#crashed;
    const { random, counts } = this.#run;
    counts.states++;
    const before = this.#run.verbose ? disk.describe() : "";
    const compared = random.chance(0.15) ? disk.fork() : undefined;
    if (this.#depth < 3) this.#crashInside();
    try {
      return await this.#judge(compared);
    } catch (error) {
      if (error instanceof Verdict) throw error;
      const { name, message, stack } = error as Error;
      const now = disk.describe();
      throw new Verdict(
        `${name}: ${message}`,
        `crashes: ${this.#crashed.path.join(" > ")}\n${stack}\n` +
          `before opening: ${before}\nnow: ${now}`,
        { cause: error },
      );
    }
  }

  async #judge(
    compared: SimulatedStorage | undefined,
  ): Promise<FoundLog | undefined> {
    const { disk, crash, expected } = this.#crashed;
    const { random, counts, hostile } = this.#run;
    const blocking = random.chance(0.7);
    let wal: Wal;
    let found: FoundLog;
    try {
      wal = await open(disk, optionsFor(this.#run, disk), blocking);
      found = readAll(wal);
    } catch (error) {
      if (!hostile || !isRefusal(error)) throw error;
      count(counts.outcomes, "refused");
      return undefined;
    }
    disk.onCall(undefined);
    count(counts.outcomes, wal.recovery.outcome);
    counts.entries += found.entries.length;
    const allowed = crash === "power"
      ? expected.afterPowerLoss
      : expected.afterDeath;
    const { ever, front } = expected;
    const possible = hostile ? ever : allowed;
    // Damage may bring back what was taken away from the front.
    const begin = hostile ? new Uncertain(found.firstIndex) : front;
    const version = findVersion(possible, found, begin);
    if (version === undefined) {
      const { outcome } = wal.recovery;
      const reason = blame(ever, allowed, found, front);
      throw new Error(
        `recovered (${outcome}) what was not allowed after ${crash}: ` +
          `${reason}; ${explain(allowed, found)}`,
      );
    }
    if (!hostile) {
      const wrong = checkConsumers(expected, allowed, found);
      if (wrong !== undefined) throw new Error(wrong);
    }
    checkReport(wal, disk, compared, crash);
    await this.#judgeInside(found, version);
    await step(disk, 0);
    if (random.chance(0.6)) await this.#goOn(wal, found);
    else disk.processDeath();
    return found;
  }

  /** Takes images of the disk while it is being opened. */
  #crashInside(): void {
    const { disk } = this.#crashed;
    const { random } = this.#run;
    if (!random.chance([0.25, 0.3, 0.3][this.#depth] as number)) return;
    const chance = random.pick([0.02, 0.1]);
    disk.onCall(({ operation, name, count: nth }) => {
      if (this.#inside.length >= 4 || !random.chance(chance)) return;
      const at = `${operation} ${name} (call ${nth})`;
      if (random.chance(0.25)) {
        this.#inside.push({ disk: disk.fork(), crash: "death", at });
      } else {
        this.#inside.push({ disk: disk.image(), crash: "power", at });
      }
    });
  }

  async #judgeInside(found: FoundLog, version: Version): Promise<void> {
    const { crash: before, expected, path } = this.#crashed;
    const inside = this.#inside;
    this.#inside = [];
    // What later cuts may have done is told by the version's number.
    const exact = exactly(found, "first recovery", version.number);
    for (const { disk, crash, at } of inside) {
      // Where nothing waited to be written, recovery must always agree with
      // itself. After a death the page cache still could be lost.
      const settled = before !== "death" ||
        (crash === "death" && !expected.poisoned);
      await new Judge(this.#run, {
        disk: crash === "death" ? disk.processDeath() : disk,
        crash,
        expected: settled && !this.#run.hostile
          ? { ...exact, ...later(before, expected) }
          : expected,
        path: [...path, `${crash} inside recovery at ${at}`],
      }, this.#depth + 1).judge();
    }
  }

  /** Uses the recovered log, and opens it once more. */
  async #goOn(wal: Wal, found: FoundLog): Promise<void> {
    const { disk } = this.#crashed;
    const { random, hostile } = this.#run;
    const blocking = random.chance(0.7);
    let same = found;
    const what = random.pick(
      ["close", "crash", "die", "append", "append", "truncate"],
    );
    if (what === "append") {
      const more = random.between(1, 3);
      for (let nth = 0; nth < more; nth++) {
        const data = random.bytes(random.pick([0, 10, 300, 5000]));
        const term = random.int(9);
        const entry = { data, term, timestampNs: BigInt(random.uint32()) };
        if (blocking) wal.appendSync(entry);
        else await pump(disk, wal.append(entry));
        same = {
          ...same,
          nextIndex: same.nextIndex + 1,
          entries: [...same.entries, entry],
        };
      }
      await pump(disk, wal.flush());
    }
    if (what === "truncate" && found.entries.length > 0) {
      const kept = random.int(found.entries.length);
      const last = found.firstIndex - 1 + kept;
      if (blocking) wal.truncateAfterSync(last);
      else await pump(disk, wal.truncateAfter(last));
      same = {
        ...found,
        nextIndex: last + 1,
        entries: found.entries.slice(0, kept),
        consumers: lowered(found.consumers, last),
      };
    }
    await step(disk, 0);
    let next: SimulatedStorage;
    let clean = false;
    if (what === "crash") next = disk.crash();
    else if (what === "die") next = disk.processDeath();
    else if (random.chance(0.3)) next = disk.crash();
    else {
      await close(disk, wal, blocking);
      clean = true;
      next = random.chance(0.5) ? disk.crash() : disk.processDeath();
    }
    const again = await this.#reopen(next, what, clean);
    const exact = exactly(same, what);
    const versions = exact.ever;
    if (again === undefined) return;
    if (findVersion(versions, again) !== undefined) {
      const wrong = checkConsumers(exact, versions, again);
      if (wrong !== undefined && !hostile) throw new Error(wrong);
      return;
    }
    if (hostile && again.entries.length < same.entries.length) return;
    throw new Error(
      `after recovery, "${what}"${clean ? ", close" : ""} and opening again: ` +
        explain(versions, again),
    );
  }

  async #reopen(
    next: SimulatedStorage,
    what: string,
    clean: boolean,
  ): Promise<FoundLog | undefined> {
    const { random, hostile, counts } = this.#run;
    counts.states++;
    try {
      const options = { storage: next };
      const wal = await open(next, options, random.chance(0.8));
      const again = readAll(wal);
      const { outcome, tornBytes, segmentsScanned } = wal.recovery;
      const untouched = outcome === "clean" && tornBytes === 0 &&
        segmentsScanned === 0;
      if (clean && !untouched && !hostile) {
        const report = JSON.stringify(wal.recovery);
        throw new Error(`after "${what}" and a clean close: ${report}`);
      }
      if (random.chance(0.5)) wal.closeSync();
      await step(next, 100);
      next.processDeath();
      return again;
    } catch (error) {
      if (hostile && isRefusal(error)) return undefined;
      throw error;
    }
  }
}

function lowered(
  consumers: FoundLog["consumers"],
  last: number,
): FoundLog["consumers"] {
  return new Map(
    [...consumers].map(([name, position]) => [name, Math.min(position, last)]),
  );
}

function isRefusal(error: unknown): boolean {
  return error instanceof WalCorruptedError ||
    error instanceof ChecksumMismatchError ||
    error instanceof UnsupportedFormatError;
}

/** What a later loss of power may take, although a death does not. */
function later(before: Crash, expected: Expected): Partial<Expected> {
  if (before !== "death") return {};
  const { afterPowerLoss, front, consumers } = expected;
  return { afterPowerLoss, front, consumers };
}

function checkReport(
  wal: Wal,
  disk: SimulatedStorage,
  compared: SimulatedStorage | undefined,
  crash: Crash,
): void {
  const { outcome, tornBytes, savedPath, gaps } = wal.recovery;
  const report = JSON.stringify(wal.recovery);
  if (gaps.length > 0) throw new Error(`gaps without salvage: ${report}`);
  if (tornBytes < 0 || (tornBytes > 0 && outcome !== "torn")) {
    throw new Error(`the report contradicts itself: ${report}`);
  }
  if (crash === "closed" && outcome !== "clean") {
    throw new Error(`not clean after a clean close: ${report}`);
  }
  if (tornBytes > 0 && savedPath === undefined) {
    throw new Error(`torn bytes were not kept: ${report}`);
  }
  if (savedPath === undefined) return;
  const names = namesIn(disk, savedPath);
  if (names.length === 0) throw new Error(`nothing is in ${savedPath}`);
  if (compared === undefined) return;
  let kept = 0;
  for (const name of names) {
    const saved = disk.peek(`${savedPath}/${name}`);
    const [segment, from] = name.split(".from-") as [string, string?];
    const offset = Number(from ?? 0);
    const source = compared.peek(`${LOG}/${segment}`);
    if (saved === undefined || source === undefined) {
      throw new Error(`${savedPath}/${name} comes from nowhere: ${report}`);
    }
    kept += from === undefined ? saved.length - 4096 : saved.length;
    for (let at = 0; at < saved.length; at++) {
      if (saved[at] !== source[offset + at]) {
        throw new Error(`${savedPath}/${name} differs at ${at}: ${report}`);
      }
    }
  }
  if (kept < tornBytes) throw new Error(`only ${kept} bytes kept: ${report}`);
}

function namesIn(disk: SimulatedStorage, path: string): string[] {
  const modes = { create: false, directoryMode: 0o700, fileMode: 0o600 };
  const directory = disk.openDirectory(path, modes);
  const names = directory?.list().map(({ name }) => name) ?? [];
  directory?.close();
  return names;
}
