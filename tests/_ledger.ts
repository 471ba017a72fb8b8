/**
 * Judges what `_children/ledger_child.ts` reports: keeps the versions that
 * the log went through, and what was promised of them.
 *
 * @module
 */
import { assert, assertEquals } from "./_assert.ts";
import {
  type Contents,
  countOf,
  explain,
  extend,
  findVersion,
  type Found,
  History,
  NOTHING,
  shorten,
  type Version,
  type Written,
} from "./_crash_history.ts";
import { entryOf, serialOf } from "./_serial_entries.ts";

/** An error as a child reports it. */
export interface ReportedError {
  /** What the child tried: "append", "open", … */
  readonly verb: string;
  /** Of a WalError, or "BUG" for anything else. */
  readonly code: string;
  /** Of a StorageError, else "-". */
  readonly systemCode: string;
  /** The log's state after it. */
  readonly state: string;
  readonly message: string;
}

interface Try {
  readonly verb: string;
  /** What it makes of the log, if anything. */
  readonly version: Version | undefined;
  /** What was written before it. */
  readonly before: Version;
}

/** What a log opened by the test's own process shows. */
export interface Shown extends Iterable<{ data: Uint8Array }> {
  readonly length: number;
  readonly nextIndex: number;
}

/** The reports of children on one log, from first to last. */
export class Ledger {
  readonly history: History = new History(NOTHING);
  /** Every error that a child met. */
  readonly errors: ReportedError[] = [];
  /** How many promises the log made. */
  acknowledged = 0;
  readonly #tries = new Map<number, Try>();
  /** The last close succeeded, and nothing was opened since. */
  #closed = true;
  /** A sync failed, and the log was not opened again since. */
  #failed = false;
  /** What was removed from the front below it never comes back. */
  #settledFirst = 1;

  /** A new child begins to count its calls. */
  nextChild(): void {
    this.#tries.clear();
    this.#failed = false;
  }

  /** Takes in one line of a report. */
  feed(line: string): void {
    const [word = "", id = "", ...rest] = line.split(" ");
    const number = Number(id);
    if (word === "try") this.#try(number, rest);
    else if (word === "in" || word === "out") this.#settle(number, word);
    else if (word === "ack") this.#acknowledge(number, line);
    else if (word === "found") this.#found(rest.map(Number), line);
    else if (word === "read") this.#read(rest.map(Number));
    else if (word === "err") this.#error(number, rest);
    else assert(["none", "done"].includes(word), `an odd report: ${line}`);
  }

  #try(id: number, [verb = "", ...args]: string[]): void {
    const before = this.history.current;
    const after = changed(before, verb, args.map(Number));
    const version = after &&
      this.history.propose([verb, ...args].join(" "), after);
    this.#tries.set(id, { verb, version, before });
    if (verb === "open") this.#failed = false;
  }

  #settle(id: number, how: "in" | "out"): void {
    const { version, before } = this.#tries.get(id)!;
    assert(version !== undefined, "only a change takes effect");
    if (how === "in") return this.history.accept(version);
    const grows = version.nextIndex > before.nextIndex;
    this.history.refuse(version, grows);
  }

  #acknowledge(id: number, line: string): void {
    const { verb, version, before } = this.#tries.get(id)!;
    assert(!this.#failed, `promised after a failed sync: ${line}, ${verb}`);
    this.acknowledged++;
    if (version !== undefined) {
      assertEquals(version.state, "written", `${verb} was promised`);
      if (verb === "note") return;
      this.history.acknowledge(version);
      this.#settledFirst = version.firstIndex;
      return;
    }
    if (verb === "flush" || verb === "close") this.history.acknowledge(before);
    if (verb === "close") this.#closed = true;
  }

  #found([first = 1, ...serials]: readonly number[], line: string): void {
    const version = this.#match(foundBy(first, serials), "a child found");
    const again = this.history.propose(line, version);
    this.history.accept(again);
    this.history.acknowledge(again);
    this.history.poisoned = false;
    this.#closed = false;
    this.#settledFirst = again.firstIndex;
  }

  #read([first = 1, ...serials]: readonly number[]): void {
    const found = foundBy(first, serials);
    const { current } = this.history;
    const same = findVersion([current], found) !== undefined;
    assert(same, `read while open: ${explain([current], found)}`);
  }

  #error(id: number, rest: readonly string[]): void {
    const { verb, version } = this.#tries.get(id)!;
    const [code = "", systemCode = "", state = "", ...words] = rest;
    const message = words.join(" ");
    this.errors.push({ verb, code, systemCode, state, message });
    if (state === "failed" || code === "FAILED") {
      this.#failed = true;
      this.history.poisoned = true;
      return;
    }
    const third = version?.state === "written";
    assert(
      !third,
      `${verb} took effect, failed, and the log is open: ${message}`,
    );
  }

  /** The version that was found, of those that a new opening may find. */
  #match(found: Found, who: string): Version {
    const expected = this.history.expected();
    const versions = this.#closed || !this.history.poisoned
      ? expected.afterDeath
      : expected.afterPowerLoss;
    // The manifest tells the first index, and was not replaced yet.
    const early = versions
      .filter(({ firstIndex }) => firstIndex > this.#settledFirst)
      .map((version) => ({ ...version, firstIndex: this.#settledFirst }));
    const allowed = [...early, ...versions];
    const version = findVersion(allowed, found);
    assert(version !== undefined, `${who}: ${explain(allowed, found)}`);
    return version;
  }

  /** Compares what the log holds now, opened by somebody else. */
  check(log: Shown): void {
    const serials = Array.from(log, ({ data }) => serialOf(data));
    assertEquals(serials.length, log.length);
    this.#match(foundBy(log.nextIndex - log.length, serials), "reopened");
  }
}

/** What a call makes of a log; `undefined` when that is the same. */
function changed(
  before: Contents,
  verb: string,
  numbers: readonly number[],
): Contents | undefined {
  if (["append", "note", "batch", "commit"].includes(verb)) {
    return extend(before, numbers.map(written));
  }
  const [index = 0] = numbers;
  const { firstIndex, nextIndex, last } = before;
  if (verb === "cut" && index < nextIndex - 1) return shorten(before, index);
  if (verb === "behead" && index > firstIndex) {
    return { firstIndex: index, nextIndex, last };
  }
  if (verb !== "reset") return undefined;
  if (countOf(before) === 0 && nextIndex === index) return undefined;
  return { firstIndex: index, nextIndex: index, last: undefined };
}

function foundBy(firstIndex: number, serials: readonly number[]): Found {
  const entries = serials.map(written);
  return { firstIndex, nextIndex: firstIndex + entries.length, entries };
}

function written(serial: number): Written {
  return { data: entryOf(serial), term: 0, timestampNs: undefined };
}
