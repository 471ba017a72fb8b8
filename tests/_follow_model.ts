/**
 * Followers against an array: random calls of a log, and what each step of
 * each follower must give, by a model that only knows which texts there are.
 *
 * @module
 */

import { type Entry, IndexOutOfRangeError, type Wal } from "../mod.ts";
import { Random } from "../testing/mod.ts";
import { assert, assertEquals } from "./_assert.ts";
import { soon, type Steps, words } from "./_follow_steps.ts";

const OPERATIONS = [
  ...Array<"append">(8).fill("append"),
  ...Array<"batch">(3).fill("batch"),
  ...Array<"step">(30).fill("step"),
  ...Array<"follow">(5).fill("follow"),
  ...Array<"truncateAfter">(3).fill("truncateAfter"),
  ...Array<"flush">(3).fill("flush"),
  "leave",
  "truncateBefore",
  "reset",
  "rotate",
  "large",
] as const;
type Operation = typeof OPERATIONS[number];

/** Followers of one log; more would only dilute what each does. */
const FOLLOWERS = 6;

/** What a step gives: an entry or the way in which it ends. */
type Outcome = string;

interface Follower {
  readonly name: string;
  readonly steps: Steps;
  readonly durable: boolean;
  /** Whether it began at the log's end. */
  readonly atEnd: boolean;
  /** The next index; undefined for the first one at the first step. */
  next: number | undefined;
  readonly given: string[];
  pending: { readonly outcome: Promise<Outcome>; settled: boolean } | undefined;
}

/** What happened, for the sake of counting. */
export interface Tally {
  entries: number;
  truncated: number;
  removed: number;
  waits: number;
}

/** One log with its followers. */
export class FollowModel {
  readonly tally: Tally = { entries: 0, truncated: 0, removed: 0, waits: 0 };
  readonly #wal: Wal;
  readonly #random: Random;
  readonly #history: string[] = [];
  readonly #cut = new Set<string>();
  #texts: string[] = [];
  #first = 1;
  #serial = 0;
  #followers: Follower[] = [];

  /** On an empty log that syncs only when told. */
  constructor(wal: Wal, seed: number) {
    this.#wal = wal;
    this.#random = new Random(seed);
  }

  /** Makes so many calls, then closes the log; throws at what is wrong. */
  async run(count: number): Promise<void> {
    try {
      for (let i = 0; i < count; i++) {
        await this.#do(this.#random.pick(OPERATIONS));
        await this.#checkWaiting();
      }
      this.#wal.closeSync();
      for (const follower of this.#followers) {
        const { pending } = follower;
        const last = await soon(pending?.outcome ?? outcomeOf(follower.steps));
        assertEquals(last, "end", follower.name);
      }
    } catch (error) {
      const history = this.#history.slice(-60).join("\n");
      throw new Error(`${history}\n${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  get #next(): number {
    return this.#first + this.#texts.length;
  }

  /** What a follower must get now. */
  #expected({ next, given, durable }: Follower): Outcome {
    const index = next ?? this.#first;
    if (given.some((text) => this.#cut.has(text))) return "truncated";
    if (index < this.#first) return "removed";
    const last = durable ? this.#wal.durableIndex : this.#next - 1;
    if (index > last) return "waits";
    return `${index} ${this.#texts[index - this.#first]}`;
  }

  async #do(operation: Operation): Promise<void> {
    const wal = this.#wal;
    if (operation === "step") return await this.#step();
    if (operation === "follow") return this.#follow();
    if (operation === "leave") return await this.#leave();
    this.#history.push(`${operation} (${this.#first} to ${this.#next - 1})`);
    if (operation === "flush") return wal.flushSync();
    if (operation === "rotate") return wal.rotateSync();
    if (operation === "append") return void wal.appendSync(this.#text());
    if (operation === "large") return void wal.appendSync(this.#text(40_000));
    if (operation === "batch") {
      const count = this.#random.int(5);
      const texts = Array.from({ length: count }, () => this.#text());
      return void wal.appendBatchSync(texts);
    }
    this.#take(operation);
  }

  #take(operation: "truncateAfter" | "truncateBefore" | "reset"): void {
    this.#takeAway(operation);
    // Whether one that stood behind what is gone, and was given nothing, goes
    // on in front of it or throws is not for this model to say.
    this.#followers = this.#followers.filter(({ atEnd, given, next }) =>
      !atEnd || given.length > 0 || next === this.#next
    );
  }

  #takeAway(operation: "truncateAfter" | "truncateBefore" | "reset"): void {
    // Not far from the end, or nothing would ever be left.
    const back = this.#random.int(Math.min(this.#texts.length, 5) + 1);
    if (operation === "truncateAfter") {
      const gone = this.#texts.splice(this.#texts.length - back);
      for (const text of gone) this.#cut.add(text);
      this.#wal.truncateAfterSync(this.#next - 1);
      return;
    }
    if (operation === "truncateBefore") {
      this.#first = this.#next - back;
      this.#texts = this.#texts.slice(this.#texts.length - back);
      this.#wal.truncateBeforeSync(this.#first);
      return;
    }
    for (const text of this.#texts) this.#cut.add(text);
    // Those given and removed before are gone from the log's history, too.
    for (const { given } of this.#followers) {
      for (const text of given) this.#cut.add(text);
    }
    this.#first = this.#random.int(2 * this.#next) + 1;
    this.#texts = [];
    this.#wal.resetSync(this.#first);
  }

  #text(length = 10): string {
    const text = `text ${++this.#serial} `.padEnd(length, ".");
    this.#texts.push(text);
    return text;
  }

  #follow(): void {
    if (this.#followers.length >= FOLLOWERS) return;
    const near = this.#first - 2 + this.#random.int(this.#texts.length + 6);
    const from = this.#random.pick(
      ["start", "end", Math.max(1, near)] as const,
    );
    const durable = this.#random.int(3) === 0;
    const name = `from ${from}${durable ? ", durable" : ""} (${this.#serial})`;
    this.#history.push(`follow ${name}`);
    this.#followers.push({
      name,
      steps: this.#wal.follow({ from, durable }),
      durable,
      atEnd: from === "end",
      next: from === "start" ? undefined : from === "end" ? this.#next : from,
      given: [],
      pending: undefined,
    });
  }

  async #leave(): Promise<void> {
    const follower = this.#pick();
    if (follower === undefined) return;
    await follower.steps.return();
    this.#forget(follower);
  }

  async #step(): Promise<void> {
    const follower = this.#pick();
    if (follower === undefined) return;
    const expected = this.#expected(follower);
    follower.next ??= this.#first;
    const outcome = outcomeOf(follower.steps);
    if (expected !== "waits") return this.#check(follower, await soon(outcome));
    this.tally.waits++;
    const pending = { outcome, settled: false };
    outcome.then(() => {
      pending.settled = true;
    });
    follower.pending = pending;
    this.#history.push(`${follower.name}: waits for ${follower.next}`);
  }

  /** One that does not wait. */
  #pick(): Follower | undefined {
    const idle = this.#followers.filter(({ pending }) => !pending);
    return idle.length === 0 ? undefined : this.#random.pick(idle);
  }

  async #checkWaiting(): Promise<void> {
    for (let i = 0; i < 20; i++) await undefined;
    for (const follower of [...this.#followers]) {
      const { pending } = follower;
      if (pending === undefined) continue;
      if (this.#expected(follower) === "waits") {
        assert(!pending.settled, `${follower.name} did not wait`);
        continue;
      }
      this.#check(follower, await soon(pending.outcome));
      follower.pending = undefined;
    }
  }

  #check(follower: Follower, outcome: Outcome): void {
    const expected = this.#expected(follower);
    this.#history.push(`${follower.name}: ${expected.trim()}`);
    assertEquals(outcome, expected, follower.name);
    if (outcome === "truncated" || outcome === "removed") {
      this.tally[outcome]++;
      this.#forget(follower);
      return;
    }
    this.tally.entries++;
    follower.given.push(outcome.slice(outcome.indexOf(" ") + 1));
    follower.next!++;
  }

  #forget(follower: Follower): void {
    this.#followers = this.#followers.filter((one) => one !== follower);
  }
}

async function outcomeOf(steps: Steps): Promise<Outcome> {
  try {
    const { done, value } = await steps.next();
    return done ? "end" : words(value as Entry);
  } catch (error) {
    if (error instanceof IndexOutOfRangeError) return error.reason;
    throw error;
  }
}
