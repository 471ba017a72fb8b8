/**
 * Forced interleavings: at every call that one side makes of the storage, the
 * other side acts. What no load finds by itself is met here for sure.
 *
 * @module
 */

import type { WalReader } from "../mod.ts";
import { IndexOutOfRangeError } from "../mod.ts";
import type { Entry } from "../mod.ts";
import { assert, assertEquals } from "./_assert.ts";
import { checkNext, readTold, showTold, type Told } from "./_readers_entry.ts";
import {
  type Holding,
  keyOf,
  type Operation,
  operation,
  type Plan,
  type Scene,
  type Setup,
  setUp,
  viewOf,
} from "./_readers_scene.ts";
import { Death, Tap } from "./_readers_tap.ts";

/** A page that says nothing is looked for again after so long. */
const RETRY_MS = 60;
/** No call of a reader needs more of the storage in so short a log. */
const READER_CALLS_MAX = 5_000;

/** What was done. */
export interface PointCounts {
  cases: number;
  points: number;
  views: number;
  deliveries: number;
  truncated: number;
  removed: number;
  deaths: number;
}

/** Nothing done yet. */
export function pointCounts(): PointCounts {
  return {
    cases: 0,
    points: 0,
    views: 0,
    deliveries: 0,
    truncated: 0,
    removed: 0,
    deaths: 0,
  };
}

async function hops(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await null;
}

/** A follower that is led by hand. */
class Follower {
  readonly #reader: WalReader;
  readonly #counts: PointCounts;
  #entries: AsyncGenerator<Entry, void, undefined>;
  #ending = new AbortController();
  #last: Told | undefined;
  #next: number;
  #pending = false;
  /** It must fail: what it was given is cut off. */
  #lost = false;
  /** It may fail: a cut came that it cannot place. */
  #doubt = false;
  #mayBeRemoved = false;
  #failure: unknown;

  constructor(reader: WalReader, counts: PointCounts) {
    this.#reader = reader;
    this.#counts = counts;
    this.#next = reader.firstIndex === 0 ? reader.nextIndex : reader.firstIndex;
    this.#entries = this.#begin();
  }

  #begin(): AsyncGenerator<Entry, void, undefined> {
    const { signal } = this.#ending;
    return this.#reader.follow({ signal });
  }

  /** Asks for the next entry; it is given now or later. */
  pump(): void {
    if (this.#pending || this.#failure !== undefined) return;
    this.#pending = true;
    this.#entries.next().then(
      ({ value }) => this.#take(value as Entry | undefined),
      (error) => this.#failure = error,
    ).finally(() => this.#pending = false);
  }

  #take(entry: Entry | undefined): void {
    this.#counts.deliveries++;
    try {
      assert(entry !== undefined, "a follower ended by itself");
      const told = readTold(entry);
      if (this.#last !== undefined) checkNext(this.#last, told);
      this.#last = told;
      this.#next = told.index + 1;
    } catch (error) {
      this.#failure = error;
    }
  }

  /** The writer is about to do this. */
  expect(plan: Plan): void {
    const { cutAbove, states } = plan;
    const given = this.#last?.index ?? 0;
    if (states.some((one) => this.#next < one.first)) {
      this.#mayBeRemoved = true;
    }
    if (cutAbove === undefined) return;
    if (given > cutAbove) this.#lost = true;
    else if (given > 0) this.#doubt = true;
  }

  /** The writer has died in it: it may not have happened. */
  doubt(): void {
    if (!this.#lost) return;
    this.#lost = false;
    this.#doubt = true;
  }

  /** All is quiet: it has everything, or was told why not. */
  async settle(holding: Holding, advance: (ms: number) => void): Promise<void> {
    const next = holding.first + holding.entries.length;
    const isDone = () =>
      this.#failure !== undefined ||
      (this.#next === next && !this.#lost && this.#pending);
    for (let i = 0; i < 300 && !isDone(); i++) {
      this.pump();
      await hops(4);
      advance(20);
      await hops(4);
    }
    if (this.#failure !== undefined) this.#judge(holding);
    else {
      const where = `a follower stands at ${this.#next} of ` +
        `${keyOf(holding)}, last given ${
          this.#last && showTold(this.#last)
        }, and hears nothing`;
      assert(isDone(), `${where}; its history was cut: ${this.#lost}`);
      const last = this.#last;
      const now = holding.entries.find((one) => one.index === last?.index);
      if (now !== undefined) assertEquals(now.serial, last?.serial);
    }
    this.#mayBeRemoved = this.#doubt = false;
  }

  #judge(holding: Holding): void {
    const error = this.#failure;
    if (!(error instanceof IndexOutOfRangeError)) throw error;
    const { reason } = error;
    if (reason === "truncated") {
      this.#counts.truncated++;
      const last = this.#last;
      assert(last !== undefined, "nothing was given, nothing can be cut off");
      const there = holding.entries.some((one) => one.serial === last.serial);
      assert(
        (this.#lost || this.#doubt) && !there,
        `a false alarm: ${showTold(last)} is there: ${error.message}`,
      );
    } else if (reason === "removed") {
      this.#counts.removed++;
      const removed = this.#mayBeRemoved || this.#next < holding.first;
      assert(removed, `a false alarm: ${error.message}`);
    } else throw error;
    this.#again();
  }

  #again(): void {
    const reader = this.#reader;
    this.#failure = this.#last = undefined;
    this.#lost = this.#doubt = false;
    this.#next = reader.firstIndex === 0 ? reader.nextIndex : reader.firstIndex;
    this.#entries = this.#begin();
  }

  async end(): Promise<void> {
    this.#ending.abort(new Death("the test is over"));
    await hops(20);
  }
}

/** A reader may find out only while it reads that entries were cut off. */
function viewLate(reader: WalReader): string {
  try {
    return viewOf(reader);
  } catch (error) {
    if (!(error instanceof IndexOutOfRangeError)) throw error;
    return viewOf(reader);
  }
}

/** Everybody who looks at one log. */
class Watch {
  readonly #scene: Scene;
  readonly #counts: PointCounts;
  readonly #old: WalReader;
  /** Opened before; each looks once, later. */
  readonly #stale: WalReader[] = [];
  readonly #followed: WalReader;
  readonly #follower: Follower;
  /** Which state each looker has seen last. */
  readonly #seen = new Map<string, number>();
  #keys: readonly string[] = [];
  /** What the log held at some time: who looks first may see it. */
  readonly #held: string[] = [];
  #point = 0;
  #stride: number;
  #wrong: string | undefined;

  constructor(
    scene: Scene,
    counts: PointCounts,
    stale: number,
    old: WalReader,
  ) {
    this.#scene = scene;
    this.#counts = counts;
    this.#stride = 1 + stale % 3;
    this.#old = old;
    for (let i = 0; i < 8; i++) this.#stale.push(scene.openReader());
    this.#followed = scene.openReader();
    this.#follower = new Follower(this.#followed, counts);
  }

  /** What is about to be done. */
  expect(plan: Plan): void {
    this.allow(plan.states);
    this.#follower.expect(plan);
  }

  /** What may be seen, in this order. */
  allow(states: readonly Holding[]): void {
    this.#held.push(...this.#keys);
    this.#keys = states.map(keyOf);
    this.#seen.clear();
  }

  doubt(): void {
    this.#follower.doubt();
  }

  /** Some who have read nothing yet, and look once at some later point. */
  gatherStale(nth: number): void {
    while (this.#stale.length < 8) this.#stale.push(this.#scene.openReader());
    this.#stride = 5;
    this.#point = nth;
  }

  /** Everybody looks. */
  look(where: string): void {
    this.#counts.points++;
    const point = this.#point++;
    this.#check("the old reader", where, () => viewOf(this.#old));
    this.#check("a new reader", where, () => {
      using reader = this.#scene.openReader();
      return viewOf(reader);
    });
    if (point % this.#stride === 0) {
      const stale = this.#stale.shift();
      if (stale !== undefined) {
        this.#check("a stale reader", where, () => viewLate(stale));
        stale.closeSync();
      }
    }
    this.#follower.pump();
    // A look of somebody else must not let the follower sleep.
    if (point % 2 === 0) {
      this.#check("the followed", where, () => viewOf(this.#followed));
    }
  }

  #check(who: string, where: string, view: () => string): void {
    if (this.#wrong !== undefined) return;
    this.#counts.views++;
    try {
      const key = view();
      // A page that is being changed shows nothing new.
      if (who === "a stale reader" && this.#held.includes(key)) return;
      const least = this.#seen.get(who) ?? 0;
      const state = this.#keys.indexOf(key, least);
      this.#seen.set(who, state);
      assert(
        state >= 0,
        `saw ${key}\nexpected ${this.#keys.slice(least).join("\n      or ")}`,
      );
    } catch (error) {
      // The hook must not throw into the program that it looks at.
      this.#wrong = `${who}, ${where}: ${(error as Error).stack}`;
    }
  }

  /** It was done: now everybody must see it. */
  async settle(looksStale = true): Promise<void> {
    const { holding, base } = this.#scene;
    if (this.#wrong !== undefined) throw new Error(this.#wrong);
    base.clock.advance(RETRY_MS);
    await hops(4);
    this.#keys = [keyOf(holding)];
    this.#seen.clear();
    this.look("afterwards");
    const stale = looksStale ? this.#stale.pop() : undefined;
    if (stale !== undefined) {
      this.#check("a reader", "afterwards", () => viewOf(stale));
      stale.closeSync();
    }
    if (this.#wrong !== undefined) throw new Error(this.#wrong);
    await this.#follower.settle(holding, (ms) => base.clock.advance(ms));
  }

  async end(): Promise<void> {
    await this.#follower.end();
    this.#followed.closeSync();
    this.#old.closeSync();
    for (const stale of this.#stale) stale.closeSync();
  }
}

/** One writer's operation with readers at each of its calls. */
export interface WriterCase {
  readonly setup: Setup;
  readonly operations: readonly Operation[];
  readonly mapped: boolean;
  readonly soon: boolean;
  /** The call at which the writer dies; none: it lives. */
  readonly deathAt?: number;
  readonly nth: number;
}

/** Its name, for messages. */
export function showCase(one: WriterCase): string {
  const { setup, operations, mapped, soon, deathAt } = one;
  const names = operations.map(({ name }) => name).join(", ");
  return `${setup.name}: ${names} [${mapped ? "mapped" : "files"}, ` +
    `${soon ? "async" : "sync"}${
      deathAt === undefined ? "" : `, killed at call ${deathAt}`
    }]`;
}

/** Runs it; how many calls the last operation made. */
export async function runWriterCase(
  one: WriterCase,
  counts: PointCounts,
): Promise<number> {
  counts.cases++;
  let old: WalReader | undefined;
  const scene = setUp(one.setup, one.mapped, (scene) => {
    old = scene.openReader();
  });
  const watch = new Watch(scene, counts, one.nth, old!);
  await watch.settle();
  const [...before] = one.operations;
  const last = before.pop()!;
  for (const operation of before) {
    const plan = operation.plan(scene, false);
    watch.expect(plan);
    plan.run();
    scene.become(plan.states.at(-1)!);
  }
  const calls = await runWatched(scene, watch, last, one, counts);
  await watch.end();
  return calls;
}

/** Runs an operation with everybody looking at each of its calls. */
async function runWatched(
  scene: Scene,
  watch: Watch,
  operation: Operation,
  { soon, deathAt, nth }: WriterCase,
  counts: PointCounts,
): Promise<number> {
  const plan = operation.plan(scene, soon);
  watch.expect(plan);
  const { writer } = scene;
  const before = writer.calls;
  let dies = false;
  writer.hook = ({ operation, name, count, bytes }) => {
    watch.look(`before ${operation} of "${name}", call ${count - before}`);
    if (count - before !== deathAt) return undefined;
    dies = true;
    return { dieAfterBytes: (bytes?.length ?? 0) >> nth % 3 };
  };
  try {
    await plan.run();
  } catch (error) {
    if (!dies) throw error;
  }
  writer.hook = undefined;
  if (dies) {
    counts.deaths++;
    watch.look("after the death");
    watch.gatherStale(nth);
    restart(scene, plan, watch);
  } else scene.become(plan.states.at(-1)!);
  await watch.settle();
  return writer.calls - before;
}

/** The next writer finds what the last one left, with readers looking. */
function restart(scene: Scene, plan: Plan, watch: Watch): void {
  scene.writer = new Tap(scene.base);
  // A removal from the front that was not durable may come back.
  watch.allow([...plan.states, ...plan.states]);
  scene.writer.hook = ({ operation, name }) => {
    watch.look(`reopening, before ${operation} of "${name}"`);
    return undefined;
  };
  const again = scene.openWriter();
  scene.writer.hook = undefined;
  scene.wal = again;
  const key = viewOf(again);
  const found = plan.states.find((one) => keyOf(one) === key);
  assert(found !== undefined, `recovered ${key}`);
  if (found === plan.states[0]) watch.doubt();
  scene.become(found);
}

/** A call of a reader, beside which a writer acts. */
export interface ReaderCall {
  readonly name: string;
  /** Whether the reader is opened by the call itself. */
  readonly opens: boolean;
  run(
    scene: Scene,
    tap: Tap,
    reader: WalReader,
  ): Outcome | Promise<Outcome>;
}

/** What a call of a reader gave. */
export interface Outcome {
  /** Entries that must be of one history. */
  readonly row?: readonly Told[];
  /** The reader that was opened. */
  readonly opened?: WalReader;
}

const MAX = Number.MAX_SAFE_INTEGER;

/** What is called. */
export const READER_CALLS: readonly ReaderCall[] = [
  {
    name: "open",
    opens: true,
    run: (scene, tap) => ({ opened: scene.openReader(tap) }),
  },
  {
    name: "lastIndex",
    opens: false,
    run(_scene, _tap, reader) {
      const { firstIndex, lastIndex, durableIndex } = reader;
      assert(firstIndex >= 0 && lastIndex >= 0 && durableIndex >= 0);
      return {};
    },
  },
  {
    name: "getRange",
    opens: false,
    run: (_scene, _tap, reader) => ({
      row: reader.getRange(1, MAX).map(readTold),
    }),
  },
  {
    name: "get the first",
    opens: false,
    run(_scene, _tap, reader) {
      const { firstIndex } = reader;
      if (firstIndex > 0) readTold(reader.get(firstIndex));
      return {};
    },
  },
  {
    name: "entries",
    opens: false,
    run(_scene, _tap, reader) {
      let index = 0;
      for (const entry of reader.entries()) {
        readTold(entry);
        assert(index === 0 || entry.index === index + 1, `behind ${index}`);
        index = entry.index;
      }
      return {};
    },
  },
  {
    name: "find",
    opens: false,
    run(_scene, _tap, reader) {
      reader.findByTime(0n);
      reader.findByTerm(0);
      return {};
    },
  },
  {
    name: "follow",
    opens: false,
    run: (_scene, _tap, reader) => followAll(reader),
  },
];

/** All that there is, one after the other. */
async function followAll(reader: WalReader): Promise<Outcome> {
  const ending = new AbortController();
  const entries = reader.follow({ signal: ending.signal });
  let last: Told | undefined;
  let quiet = false;
  const run = (async () => {
    for await (const entry of entries) {
      quiet = false;
      const told = readTold(entry);
      if (last !== undefined) checkNext(last, told);
      last = told;
    }
  })();
  run.catch(() => quiet = true);
  while (!quiet) {
    quiet = true;
    await hops(20);
  }
  const over = new Error("it has all that there is");
  ending.abort(over);
  await run.catch((error) => {
    if (error !== over) throw error;
  });
  return {};
}

/** A reader's call with an operation of the writer at its `at`th call. */
export interface ReaderCase {
  readonly setup: Setup;
  readonly call: ReaderCall;
  readonly operations: readonly string[];
  readonly at: number;
  readonly mapped: boolean;
}

/** In words. */
export function showReaderCase(one: ReaderCase): string {
  const { setup, call, operations, at, mapped } = one;
  return `${setup.name}: ${operations.join(", ")} before call ${at} of ` +
    `"${call.name}" [${mapped ? "mapped" : "files"}]`;
}

/** Runs it; false when the reader made fewer calls. */
export async function runReaderCase(
  one: ReaderCase,
  counts: PointCounts,
): Promise<boolean> {
  counts.cases++;
  const { call } = one;
  let tap: Tap | undefined;
  let reader: WalReader | undefined;
  const scene = setUp(one.setup, one.mapped, (scene) => {
    tap = new Tap(scene.base);
    if (!call.opens) reader = scene.openReader(tap);
  });
  const before = keyOf(scene.holding);
  const keys = [before];
  let acted = false;
  const start = tap!.calls;
  tap!.hook = ({ count }) => {
    const made = count - start;
    assert(made < READER_CALLS_MAX, "a reader spins");
    if (made !== one.at) return undefined;
    acted = true;
    counts.points++;
    for (const name of one.operations) {
      scene.perform(operation(name));
      keys.push(keyOf(scene.holding));
    }
    return undefined;
  };
  let outcome: Outcome = {};
  try {
    outcome = await call.run(scene, tap!, reader as WalReader);
  } catch (error) {
    // Taken away while it was read: that is said so.
    const told = acted && !call.opens &&
      error instanceof IndexOutOfRangeError &&
      // A follower waits for what is not there.
      (call.name !== "follow" || error.reason !== "absent");
    if (!told) throw error;
  }
  tap!.hook = undefined;
  const { row } = outcome;
  row?.forEach((told, i) => i > 0 && checkNext(row[i - 1]!, told));
  counts.views++;
  scene.base.clock.advance(RETRY_MS);
  await hops(2);
  const used = outcome.opened ?? reader!;
  assertEquals(viewOf(used), keyOf(scene.holding));
  used.closeSync();
  return acted;
}
