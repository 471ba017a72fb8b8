/**
 * What recovery makes of a disk: judged once for each disk, by opening it,
 * reading all of it, and crashing at every call on the way.
 *
 * @module
 */

import { openWalSync, type Wal } from "../mod.ts";
import {
  entriesOf,
  type Expected,
  type FoundLog,
  placesOf,
  sameEntry,
  type Version,
  type Written,
} from "./_crash_history.ts";
import { readAll } from "./_crash_verdict.ts";
import { LOG, type PortCall, SteadyStorage } from "./_exhaustive_disk.ts";
import {
  type Choice,
  type ImageCounts,
  Instant,
} from "./_exhaustive_images.ts";
import type { Disk } from "../testing/disk.ts";
import { Random } from "../testing/random.ts";

/** Bytes to cut entries from. */
const PAYLOAD = new Random(20_261_122).bytes(64 * 1024);
/** An entry that is only appended after a recovery. */
const LATER = 1_000_000;
/** Nanoseconds between two entries. */
const STEP_NS = 1_000_003n;

/** An entry by its serial number and its size; the same ones, the same. */
export function entryOf(
  serial: number,
  bytes: number,
): Written & { timestampNs: bigint } {
  const from = (serial * 997) % (PAYLOAD.length - bytes);
  const data = PAYLOAD.subarray(from, from + bytes);
  return { data, term: serial % 5, timestampNs: BigInt(serial) * STEP_NS };
}

/** A log in a word, by which it is compared. */
export function nameOf({ firstIndex, nextIndex, ...found }: FoundLog): string {
  const names = found.entries.map(nameOfEntry);
  const consumers = [...found.consumers].map((one) => ` ${one.join(" at ")}`);
  return `${firstIndex} to ${nextIndex - 1}: ${names.join(" ")}` +
    consumers.sort().join("");
}

function nameOfEntry(entry: Written): string {
  const serial = Number((entry.timestampNs ?? 0n) / STEP_NS);
  const { data } = entry;
  const right = sameEntry(entryOf(serial, data.length), entry);
  return right ? `#${serial}x${data.length}` : "damaged";
}

/** Every log that is allowed, by its name. */
export function namesOf(
  { front, consumers }: Expected,
  versions: readonly Version[],
): Set<string> {
  const names = new Set<string>();
  for (const version of versions) {
    const { number, nextIndex } = version;
    let places: Map<string, number>[] = [new Map()];
    for (const [name, one] of consumers) {
      places = [...placesOf(one, version)].flatMap((position) =>
        places.map((before) =>
          position === undefined ? before : new Map(before).set(name, position)
        )
      );
    }
    for (const firstIndex of front.allowed(number)) {
      if (firstIndex > nextIndex) continue;
      const entries = entriesOf({ ...version, firstIndex });
      if (entries.length !== nextIndex - firstIndex) continue;
      for (const place of places) {
        names.add(nameOf({ firstIndex, nextIndex, entries, consumers: place }));
      }
    }
  }
  return names;
}

/** What recovery made of a disk. */
export interface Outcome {
  readonly name: string;
  readonly found: FoundLog;
  /** As a log that was closed is: nothing torn, and nothing was scanned. */
  readonly clean: boolean;
}

/** What recovery made of the page cache that a dead process left. */
export interface DeathOutcome {
  readonly outcome: Outcome;
  /** After the power went as well, in the middle of that recovery. */
  readonly inside: ReadonlySet<Outcome>;
}

/** What was done, for the report. */
export interface JudgeCounts extends ImageCounts {
  /** Instants at which the power could go, those of recoveries included. */
  points: number;
  /** Disks that it could leave, equal ones counted each time. */
  images: number;
  /** Logs opened. */
  opened: number;
}

/** What was recovered is not what it may be. */
export class Violation extends Error {
  override readonly name = "Violation";
  /** Which crash it was, for a replay; that in a recovery is found again. */
  at: string | undefined;
}

/** The one crash that a replay is about. */
export interface Only {
  readonly point: number;
  readonly at: string;
}

/** How much is judged. */
export interface JudgeOptions {
  readonly seed: number;
  /** How many crashes one within the other, at most. */
  readonly depth: number;
  /**
   * Recoveries are of different kinds also when they differ in offsets, sizes
   * or what they found, not only in what they called and on which files.
   */
  readonly fine: boolean;
}

/** Judges disks, each once. */
export class Judge {
  readonly counts: JudgeCounts = {
    points: 0,
    images: 0,
    opened: 0,
    widePages: 0,
    wideNames: 0,
  };
  readonly #options: JudgeOptions;
  readonly #outcomes = {
    mapped: new Map<number, Outcome>(),
    files: new Map<number, Outcome>(),
  };
  readonly #deaths = {
    mapped: new Map<number, DeathOutcome>(),
    files: new Map<number, DeathOutcome>(),
  };
  /** Equal outcomes are one object. */
  readonly #interned = new Map<string, Outcome>();
  /** Recoveries by what they called and found; one of each is crashed. */
  readonly #kinds = new Set<string>();

  constructor(options: JudgeOptions) {
    this.#options = options;
  }

  /** How many different disks were judged. */
  get distinct(): number {
    const { mapped, files } = this.#outcomes;
    return mapped.size + files.size;
  }

  /** How many kinds of recoveries were crashed at each call. */
  get kinds(): number {
    return this.#kinds.size;
  }

  /** What recovery makes of an image. */
  judge(at: Instant, key: number, choice: Choice, where: Where): Outcome {
    const known = this.#outcomes[where.mapped ? "mapped" : "files"];
    const before = known.get(key);
    if (before !== undefined) return before;
    const build = () => at.build(choice);
    try {
      const { outcome, kind } = this.#recover(build(), where);
      known.set(key, outcome);
      if (where.depth < this.#options.depth && this.#isNew(kind)) {
        this.#crashInside(build(), where, outcome);
        this.#goOn(build(), where, outcome);
      }
      return outcome;
    } catch (error) {
      throw new Violation(
        `${(error as Error).message}\n` +
          `${where.depth === 0 ? "the disk" : "the disk in recovery"}:\n` +
          at.describe(choice),
        { cause: error },
      );
    }
  }

  #isNew(kind: string): boolean {
    if (this.#kinds.has(kind)) return false;
    this.#kinds.add(kind);
    return true;
  }

  #boot(disk: Disk, { mapped, depth }: Where): SteadyStorage {
    const number = depth + 2;
    return new SteadyStorage(disk, {
      mapped,
      number,
      seed: this.#options.seed,
    });
  }

  #recover(
    disk: Disk,
    where: Where,
  ): { outcome: Outcome; kind: string; storage: SteadyStorage } {
    const storage = this.#boot(disk, where);
    let trace = where.mapped ? 1 : 2;
    const add = (word: string | number) => {
      const text = String(word);
      for (let at = 0; at < text.length; at++) {
        trace = Math.imul(trace ^ text.charCodeAt(at), 0x01000193);
      }
    };
    storage.watch = (when, { operation, names, numbers }) => {
      if (when === "after") return;
      add(operation);
      add(names);
      if (this.#options.fine) add(numbers.join(" "));
    };
    const { outcome } = this.#open(storage);
    storage.watch = undefined;
    const kind = `${trace} ${this.#options.fine ? outcome.name : ""}`;
    return { outcome, kind, storage };
  }

  #open(storage: SteadyStorage): { wal: Wal; outcome: Outcome } {
    this.counts.opened++;
    const options = { storage, segmentBytes: 65536, sync: "never" } as const;
    const wal = openWalSync(LOG, options);
    const found = readAll(wal);
    const { outcome, segmentsScanned, tornBytes } = wal.recovery;
    const clean = outcome === "clean" && segmentsScanned + tornBytes === 0;
    const name = nameOf(found);
    const key = `${name} ${clean}`;
    const known = this.#interned.get(key);
    if (known !== undefined) return { wal, outcome: known };
    const made = { name, found, clean };
    this.#interned.set(key, made);
    return { wal, outcome: made };
  }

  /** Recovers once more, and loses the power at every call. */
  #crashInside(disk: Disk, where: Where, expected: Outcome): void {
    const look = this.looker({ ...where, depth: where.depth + 1 });
    const storage = this.#boot(disk, where);
    const power = expectSame(expected);
    storage.watch = (when, call) =>
      look(storage, { what: `${when} ${tell(call)} of recovery`, power });
    const { outcome } = this.#open(storage);
    if (outcome.name !== expected.name) {
      throw new Violation(`recovered ${expected.name}, then ${outcome.name}`);
    }
    look(storage, { what: "after recovery", power });
  }

  /** Appends to the recovered log, loses all that was not synced, closes. */
  #goOn(disk: Disk, where: Where, expected: Outcome): void {
    const look = this.looker({ ...where, depth: this.#options.depth });
    const storage = this.#boot(disk, where);
    const { wal } = this.#open(storage);
    const { found } = expected;
    const entry = entryOf(LATER + where.depth, 300);
    wal.appendSync(entry, { durable: true });
    const more = nameOf({
      ...found,
      nextIndex: found.nextIndex + 1,
      entries: [...found.entries, entry],
    });
    look(storage, {
      what: "after an append to the recovered log",
      power: ({ name }) => name === more ? undefined : `expected ${more}`,
    });
    wal.closeSync();
    look(storage, {
      what: "after closing the recovered log",
      power: ({ name, clean }) =>
        name === more && clean ? undefined : `expected ${more}, closed`,
    });
  }

  /**
   * What recovery makes of the page cache of a process that died: `lost` when
   * a sync had failed as well.
   */
  #judgeDeath(
    at: Instant,
    disk: Disk,
    where: Where,
    lost: boolean,
  ): DeathOutcome {
    const known = this.#deaths[where.mapped ? "mapped" : "files"];
    const key = lost ? -at.signature : at.signature;
    const before = known.get(key);
    if (before !== undefined) return before;
    const leave = () => dieOn(disk, lost);
    const { outcome, kind, ...first } = this.#recover(leave(), where);
    const inside = new Set<Outcome>();
    const power = (found: Outcome) => {
      inside.add(found);
      return undefined;
    };
    const look = this.looker({ ...where, depth: where.depth + 1 });
    let { storage } = first;
    if (this.#isNew(`${lost ? "lost" : "death"} ${kind}`)) {
      storage = this.#boot(leave(), where);
      storage.watch = (when, call) =>
        look(storage, { what: `${when} ${tell(call)} of recovery`, power });
      this.#open(storage);
      storage.watch = undefined;
    }
    look(storage, {
      what: "after recovery",
      power: expectSame(outcome),
      revision: 1,
    });
    const judged = { outcome, inside };
    known.set(key, judged);
    return judged;
  }

  /** Looks at instants of one storage; those that are like the last: not. */
  looker(where: Where, only?: Only): Look {
    let [changes, revised, last, point] = [-1, -1, -1, 0];
    return (storage, asked) => {
      const { revision = 0 } = asked;
      this.counts.points++;
      point++;
      const same = storage.changes === changes && !storage.mapped;
      if (same && revision === revised) return;
      changes = storage.changes;
      const at = new Instant(storage.control, this.counts);
      if (at.signature === last && revision === revised) return;
      last = at.signature;
      revised = revision;
      if (only !== undefined && only.point !== point) return;
      try {
        this.#judgePower(at, where, asked, only?.at);
        if (asked.death === undefined) return;
        this.#judgeDeaths(at, storage.control.disk, where, asked, only?.at);
      } catch (error) {
        if (error instanceof Violation) error.at = `${point}.${error.at}`;
        throw error;
      }
    };
  }

  #judgePower(at: Instant, where: Where, asked: Asked, only?: string): void {
    at.visit((key, choice) => {
      const id = `${choice.table}.${choice.pages}`;
      if (only !== undefined && only !== id) return;
      this.counts.images++;
      try {
        const outcome = this.judge(at, key, choice, where);
        const wrong = asked.power(outcome);
        if (wrong === undefined) return;
        throw new Violation(
          `${asked.what}: recovered ${outcome.name}, ${wrong}\n` +
            `the disk:\n${at.describe(choice)}`,
        );
      } catch (error) {
        if (error instanceof Violation) error.at = id;
        throw error;
      }
    });
  }

  #judgeDeaths(
    at: Instant,
    disk: Disk,
    where: Where,
    asked: Asked,
    only?: string,
  ): void {
    for (const how of ["death", "lost"] as const) {
      if (only !== undefined && only !== how) continue;
      const lost = how === "lost";
      const { what, power, death = power } = asked;
      const after = `${what}, the process dead` +
        (lost ? ", the last sync failed" : "");
      const check = (outcome: Outcome, verdict: Verdict, also: string) => {
        const wrong = verdict(outcome);
        if (wrong === undefined) return;
        const text = `${after}${also}: recovered ${outcome.name}, ${wrong}`;
        throw new Violation(text);
      };
      try {
        const judged = this.#judgeDeath(at, disk, where, lost);
        const { outcome, inside } = judged;
        check(outcome, lost ? power : death, "");
        for (const later of inside) {
          if (later.name === outcome.name) continue;
          check(later, power, ", the power cut in the recovery");
        }
      } catch (error) {
        const violation = error instanceof Violation
          ? error
          : new Violation(`${after}: ${error}`, { cause: error });
        violation.at = how;
        throw violation;
      }
    }
  }
}

/**
 * The process is dead, the page cache stays. Pages may be `lost`: a sync of
 * them failed, so that they count as clean though no disk has them.
 */
function dieOn(disk: Disk, lost: boolean): Disk {
  return disk.copy((inode) => {
    const copy = inode.clone();
    if (lost) copy.forget(copy.dirtyPages(), "EIO");
    return copy;
  });
}

/** Where a disk is judged. */
export interface Where {
  readonly mapped: boolean;
  /** How many recoveries were crashed before. */
  readonly depth: number;
}

/** What is wrong with an outcome, if anything. */
export type Verdict = (outcome: Outcome) => string | undefined;

/** An instant, and what is expected then. */
export interface Asked {
  /** The instant, for messages. */
  readonly what: string;
  /** After a loss of power. */
  readonly power: Verdict;
  /** After the death of the process; not asked when left out. */
  readonly death?: Verdict;
  /** What is expected has changed when this has. */
  readonly revision?: number;
}

/**
 * Judges all that a crash could leave now; not again what the last instant
 * left, unless other things are expected of it.
 */
export type Look = (storage: SteadyStorage, asked: Asked) => void;

/** A call in words. */
export function tell({ operation, names, numbers }: PortCall): string {
  return [operation, names, ...numbers].join(" ").trimEnd();
}

function expectSame(expected: Outcome): Verdict {
  return ({ name }) =>
    name === expected.name
      ? undefined
      : `expected what was recovered before: ${expected.name}`;
}
