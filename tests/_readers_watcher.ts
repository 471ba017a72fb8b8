/**
 * A reader beside a live writer, in a thread or process of its own: follows,
 * gets, views, opens and opens again, and checks by what entries tell of
 * themselves that each one is right. It says one line for each row of entries
 * that it was given, and for each problem.
 *
 * @module
 */

import {
  type Entry,
  filesStorage,
  IndexOutOfRangeError,
  mappedStorage,
  openReader,
  openReaderSync,
  type WalReader,
} from "../mod.ts";
import { Random } from "../testing/mod.ts";
import { assert } from "./_assert.ts";
import {
  checkNext,
  checkNextOfBatch,
  endsBatch,
  readTold,
  showTold,
  type Told,
} from "./_readers_entry.ts";

/** What a watcher is to watch. */
export interface WatchOrder {
  readonly path: string;
  readonly kind: "mapped" | "files";
  readonly seed: number;
}

/** What it has seen. */
export interface WatchCounts {
  deliveries: number;
  followers: number;
  truncated: number;
  removed: number;
  reads: number;
  ranges: number;
  views: number;
  opened: number;
}

/** No wait is longer: what comes later does not come. */
const WAIT_MS = 30_000;
const MAX = Number.MAX_SAFE_INTEGER;
/** A row that is told at once. */
const ROW = 200;

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Entries that a follower was given one after the other. */
class Row {
  first: Told | undefined;
  last: Told | undefined;
  count = 0;
  readonly #say: (line: string) => void;

  constructor(say: (line: string) => void) {
    this.#say = say;
  }

  take(told: Told): void {
    const { last } = this;
    if (last !== undefined) {
      checkNext(last, told);
      checkNextOfBatch(last, told);
    }
    this.first ??= told;
    this.last = told;
    this.count++;
    if (this.count === ROW) this.tell();
  }

  /** The next row begins with the last entry of this one. */
  tell(): void {
    const { first, last, count } = this;
    if (first === undefined || last === undefined) return;
    this.#say(`D ${first.serial} ${first.index} ${last.serial} ${count}`);
    this.first = last;
    this.count = 1;
  }
}

/** One log, watched. */
export class Watcher {
  readonly counts: WatchCounts = {
    deliveries: 0,
    followers: 0,
    truncated: 0,
    removed: 0,
    reads: 0,
    ranges: 0,
    views: 0,
    opened: 0,
  };
  readonly #order: WatchOrder;
  readonly #say: (line: string) => void;
  readonly #random: Random;
  readonly #reader: WalReader;
  readonly #ending = new AbortController();
  readonly #tasks: Promise<void>[] = [];
  /** Where each follower stands. */
  readonly #rows = new Map<number, Row>();
  readonly #views: { entry: Entry; serial: number }[] = [];

  constructor(order: WatchOrder, say: (line: string) => void) {
    this.#order = order;
    this.#say = say;
    this.#random = new Random(order.seed);
    this.#reader = this.#openSync();
    for (const nth of [0, 1, 2]) this.#start(() => this.#follow(nth));
    this.#start(() => this.#peek());
  }

  get #ended(): boolean {
    return this.#ending.signal.aborted;
  }

  get #storage() {
    return this.#order.kind === "mapped" ? mappedStorage() : filesStorage();
  }

  #openSync(): WalReader {
    this.counts.opened++;
    return openReaderSync(this.#order.path, { storage: this.#storage });
  }

  #start(task: () => Promise<void>): void {
    this.#tasks.push(task().catch((error) => this.#complain(error)));
  }

  #complain(error: unknown): void {
    const { kind } = this.#order;
    const text = String((error as Error).stack ?? error);
    this.#say(`P ${JSON.stringify(`${kind}: ${text}`)}`);
  }

  async #follow(nth: number): Promise<void> {
    const random = new Random(this.#order.seed, nth + 1);
    let from: number | "start" | "end" = "start";
    while (!this.#ended) {
      this.counts.followers++;
      const row = new Row(this.#say);
      this.#rows.set(nth, row);
      try {
        await this.#followRow(row, from, random, nth === 1);
        row.tell();
        from = row.last === undefined ? "start" : row.last.index + 1;
      } catch (error) {
        row.tell();
        if (this.#ended) return;
        from = this.#judge(error, row, from, random);
      }
    }
  }

  /** Until it is tired of it. */
  async #followRow(
    row: Row,
    from: number | "start" | "end",
    random: Random,
    durable: boolean,
  ): Promise<void> {
    const { signal } = this.#ending;
    const pace = random.pick([0, 0, 0.01, 0.2]);
    const options = { from, signal, durable, zeroCopy: random.chance(0.3) };
    for await (const entry of this.#reader.follow(options)) {
      this.counts.deliveries++;
      row.take(readTold(entry));
      if (random.chance(pace)) await sleep(random.int(4));
      if (random.chance(0.001)) return;
    }
    assert(this.#ended, "a follower ended by itself");
  }

  /** Where to begin again. */
  #judge(
    error: unknown,
    row: Row,
    from: number | "start" | "end",
    random: Random,
  ): number | "start" | "end" {
    if (!(error instanceof IndexOutOfRangeError)) throw error;
    const { last } = row;
    if (error.reason === "removed") {
      this.counts.removed++;
      return "start";
    }
    if (error.reason !== "truncated") throw error;
    this.counts.truncated++;
    // Who began at the end stood behind entries that he was not given.
    if (last === undefined && from === "end") return "start";
    if (last === undefined) throw error;
    const there = this.#tryRead(() => readTold(this.#reader.get(last.index)));
    assert(
      there?.serial !== last.serial,
      `a false alarm, ${showTold(last)} is there: ${error.message}`,
    );
    return random.pick(["start", "end", Math.max(1, last.index - 5)]);
  }

  /** What is taken away while it is read is no problem. */
  #tryRead<T>(read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      if (error instanceof IndexOutOfRangeError) return undefined;
      throw error;
    }
  }

  async #peek(): Promise<void> {
    const random = this.#random;
    const looks = [
      () => this.#range(this.#reader, random.int(30)),
      () => this.#range(this.#reader, MAX),
      () => this.#getOne(random),
      () => this.#getOne(random),
      () => this.#viewOne(random),
      () => this.#iterate(random),
      () => this.#ask(),
      () => this.#openAnew(random),
    ];
    while (!this.#ended) {
      for (let i = random.int(6); i >= 0; i--) await random.pick(looks)();
      await sleep(random.pick([0, 0, 1, 3]));
    }
  }

  /** All from somewhere to the end, as it is at one moment. */
  #range(reader: WalReader, back: number): void {
    this.counts.ranges++;
    const first = Math.max(1, reader.lastIndex - back);
    const row = this.#tryRead(() => reader.getRange(first, MAX));
    const told = row?.map(readTold) ?? [];
    for (let i = 1; i < told.length; i++) {
      checkNext(told[i - 1]!, told[i]!);
      checkNextOfBatch(told[i - 1]!, told[i]!);
    }
    const last = told.at(-1);
    if (last === undefined) return;
    assert(
      endsBatch(last),
      `the log ends inside of a batch: ${showTold(last)}`,
    );
  }

  #somewhere(random: Random): number {
    const { firstIndex, lastIndex } = this.#reader;
    return random.between(Math.max(1, firstIndex - 2), lastIndex + 2);
  }

  #getOne(random: Random): void {
    this.counts.reads++;
    const index = this.#somewhere(random);
    const entry = this.#tryRead(() =>
      random.chance(0.5) ? this.#reader.get(index) : this.#reader.at(index)
    );
    if (entry === undefined) return;
    assert(entry.index === index, `asked for ${index}, got ${entry.index}`);
    readTold(entry);
  }

  /** Views stay good whatever becomes of the log. */
  #viewOne(random: Random): void {
    this.counts.views++;
    const index = this.#somewhere(random);
    const entry = this.#tryRead(() => this.#reader.view(index));
    if (entry !== undefined) {
      this.#views.push({ entry, serial: readTold(entry).serial });
    }
    if (this.#views.length <= 20) return;
    const [held] = this.#views.splice(random.int(20), 1);
    assert(readTold(held!.entry).serial === held!.serial, "a view changed");
  }

  #iterate(random: Random): void {
    let last: Told | undefined;
    const { firstIndex, lastIndex } = this.#reader;
    const from = random.between(Math.max(1, firstIndex), lastIndex + 1);
    const reverse = random.chance(0.3);
    const options = { from, limit: 60, reverse };
    this.#tryRead(() => {
      for (const entry of this.#reader.entries(options)) {
        const told = readTold(entry);
        const step = told.index - (last?.index ?? told.index);
        assert(
          last === undefined || step === (reverse ? -1 : 1),
          `iterating: ${showTold(told)} came behind entry ${last?.index}`,
        );
        last = told;
      }
    });
  }

  #ask(): void {
    const reader = this.#reader;
    const { lastIndex, durableIndex } = reader;
    assert(lastIndex >= 0 && durableIndex >= 0);
    reader.segments();
    reader.stats();
    reader.findByTerm(1);
    reader.findByTime(0n);
  }

  async #openAnew(random: Random): Promise<void> {
    this.counts.opened++;
    const storage = this.#storage;
    const options = { storage };
    const { path } = this.#order;
    const reader = random.chance(0.5)
      ? openReaderSync(path, options)
      : await openReader(path, options);
    try {
      this.#range(reader, MAX);
      await sleep(random.int(3));
      this.#range(reader, 20);
    } finally {
      await reader.close();
    }
  }

  /** The writer rests: everybody must come to this last entry. */
  async settle(lastIndex: number, serial: number): Promise<string> {
    const endMs = performance.now() + WAIT_MS;
    const where = () => {
      const { last } = this.#rows.get(0)!;
      return `the reader stands at ${this.#reader.lastIndex}, its followers ` +
        `at ${[...this.#rows.values()].map((row) => row.last?.index)}, ` +
        `expected ${lastIndex}; ${last && showTold(last)}`;
    };
    while (!this.#isAt(lastIndex, serial)) {
      assert(performance.now() < endMs, `nothing comes any more: ${where()}`);
      await sleep(5);
    }
    const all = this.#reader.getRange(1, MAX).map(readTold);
    return all.map((told) => told.serial).join();
  }

  #isAt(lastIndex: number, serial: number): boolean {
    const reader = this.#reader;
    if (reader.lastIndex !== lastIndex) return false;
    if (readTold(reader.get(lastIndex)).serial !== serial) return false;
    return [...this.#rows.values()].every(({ last }) =>
      // One that began at the end has nothing to be given.
      last === undefined || last.serial === serial
    );
  }

  async end(): Promise<void> {
    this.#ending.abort(new Error("the watch is over"));
    await Promise.all(this.#tasks);
    await this.#reader.close();
  }
}

/** Does what lines say, and says lines; for a thread or a process. */
export function watchByLines(
  say: (line: string) => void,
): (line: string) => Promise<void> {
  let watcher: Watcher | undefined;
  return async (line) => {
    const [command, ...rest] = line.split(" ");
    try {
      switch (command) {
        case "watch":
          watcher = new Watcher(JSON.parse(rest.join(" ")), say);
          return say("watching");
        case "settle": {
          const [index, serial] = rest.map(Number) as [number, number];
          return say(`settled ${await watcher!.settle(index, serial)}`);
        }
        case "end":
          await watcher!.end();
          return say(`ended ${JSON.stringify(watcher!.counts)}`);
      }
    } catch (error) {
      say(`P ${JSON.stringify(String((error as Error).stack ?? error))}`);
      say("failed");
    }
  };
}
