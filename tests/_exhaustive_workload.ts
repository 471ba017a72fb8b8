/**
 * Short workloads, all of them: what a log is asked to do, how it is asked,
 * and what it may hold whenever the power goes.
 *
 * @module
 */

import {
  type Consumer,
  openWal,
  openWalSync,
  type Wal,
  type WalOptions,
} from "../mod.ts";
import { IndexOutOfRangeError, WalClosedError } from "../src/errors.ts";
import { Disk } from "../testing/disk.ts";
import {
  blame,
  checkConsumers,
  type Contents,
  explain,
  extend,
  History,
  NOTHING,
  type Version,
} from "./_crash_history.ts";
import { LOG, type PortCall, SteadyStorage } from "./_exhaustive_disk.ts";
import {
  entryOf,
  type Judge,
  type Look,
  namesOf,
  type Only,
  type Outcome,
  tell,
  Violation,
} from "./_exhaustive_judge.ts";

/** Data of an entry that takes one page with its header. */
const PAGE_DATA_BYTES = 4096 - 40;
const CONSUMER = "worker";

/** How the calls of a workload meet. */
export const WAYS = [
  /** Each call blocks until it is done. */
  "blocking",
  /** Each promise is awaited, and what goes on in the background. */
  "awaited",
  /** All calls are made at once, and share the syncs. */
  "together",
  /** The syncs of a call have begun when the next one is made. */
  "overlapping",
  /** One of them has ended. */
  "staggered",
  /** The last call blocks, beside the syncs of the others. */
  "crossed",
] as const;

/** How a workload is run. */
export interface Variant {
  /** An empty disk, or a closed log of three entries in two segments. */
  readonly base: "new" | "filled";
  readonly storage: "mapped" | "files";
  readonly way: typeof WAYS[number];
  readonly sync: "always" | "never";
}

/** What a log can be asked to do. */
export const OPERATIONS: Readonly<
  Record<string, (life: Life) => Promise<void> | void>
> = {
  append1: (life) => life.append(PAGE_DATA_BYTES),
  append3: (life) => life.append(PAGE_DATA_BYTES + 2 * 4096),
  batch: (life) => life.append(50, 4000, 50),
  rotate: (life) => life.rotate(),
  truncateAfter: (life) => life.truncateAfter(life.contents.nextIndex - 2),
  truncateAll: (life) => life.truncateAfter(0),
  truncateBefore: (life) => life.truncateBefore(life.contents.nextIndex - 1),
  reset: (life) => life.reset(life.contents.nextIndex + 5),
  ack: (life) => life.ack(),
  flush: (life) => life.flush(),
  idle: (life) => life.idle(),
  reopen: (life) => life.reopen(),
};

/** A call, and what it does to the history. */
interface Call {
  readonly blocking: () => unknown;
  readonly soon: () => Promise<unknown>;
  /** The version that it makes; none when it changes no entry. */
  readonly version?: Version;
  /** What is promised when it has returned, or its promise has resolved. */
  readonly done: () => void;
}

/** What a workload begins with. */
export class Base {
  /** The serial number of its last entry. */
  readonly serial: number;
  readonly #disk: Disk;
  readonly #contents: Contents;
  readonly #consumers: ReadonlyMap<string, number>;
  readonly #seed: number;

  private constructor(
    seed: number,
    disk: Disk,
    contents: Contents,
    consumers: ReadonlyMap<string, number>,
  ) {
    this.#seed = seed;
    this.#disk = disk;
    this.#contents = contents;
    this.#consumers = consumers;
    this.serial = contents.nextIndex - 1;
  }

  /** An empty disk. */
  static empty(seed: number): Base {
    return new Base(seed, new Disk(), NOTHING, new Map());
  }

  /** A log of three entries in two segments, and a consumer behind them. */
  static async filled(seed: number): Promise<Base> {
    const disk = new Disk();
    const boot = { mapped: false, number: 0, seed };
    const storage = new SteadyStorage(disk, boot);
    const wal = openWalSync(LOG, { storage, segmentBytes: 65536 });
    const entries = [entryOf(1, 100), entryOf(2, 200), entryOf(3, 300)];
    wal.appendBatchSync(entries.slice(0, 2));
    wal.rotateSync();
    wal.appendSync(entries[2]!);
    let settled = false;
    const making = wal.consumer(CONSUMER, { from: "end" })
      .then(() => settled = true);
    while (!settled) {
      storage.settle();
      await hop();
    }
    await making;
    wal.closeSync();
    const consumers = new Map([[CONSUMER, 3]]);
    return new Base(seed, disk, extend(NOTHING, entries), consumers);
  }

  /** Another disk of the same. */
  boot(mapped: boolean): SteadyStorage {
    const disk = this.#disk.copy((inode) => inode.clone());
    return new SteadyStorage(disk, { mapped, number: 1, seed: this.#seed });
  }

  /** Another history of it. */
  history(): History {
    return new History(this.#contents, this.#consumers);
  }
}

/** One open log and what is known of it. */
export class Life {
  readonly #variant: Variant;
  readonly #options: WalOptions;
  readonly #look: Look;
  readonly #storage: SteadyStorage;
  readonly #pending = new Set<Promise<unknown>>();
  #wal!: Wal;
  #consumer: Consumer | undefined;
  readonly #history: History;
  #serial: number;
  /** Whether instants are judged: shorter workloads have judged the others. */
  #armed = false;
  /** Whether the calls are the blocking twins. */
  #blocking: boolean;
  /** Closed, and not opened again yet. */
  #closed = false;
  #failure: unknown;
  #allowed = {
    revision: -1,
    power: new Set<string>(),
    death: new Set<string>(),
  };

  constructor(variant: Variant, base: Base, judge: Judge, only?: Only) {
    const { sync } = variant;
    const mapped = variant.storage === "mapped";
    this.#variant = variant;
    this.#blocking = variant.way === "blocking";
    this.#look = judge.looker({ mapped, depth: 0 }, only);
    this.#storage = base.boot(mapped);
    this.#history = base.history();
    this.#serial = base.serial;
    const storage = this.#storage;
    this.#options = { storage, sync, segmentBytes: 65536 };
    storage.watch = (when, call) => this.#crash(when, call);
  }

  /** Runs a workload; throws what was found wrong. */
  async run(operations: readonly string[]): Promise<void> {
    this.#armed = operations.length === 0;
    await this.#open();
    const { way } = this.#variant;
    for (const [nth, operation] of operations.entries()) {
      this.#armed = nth === operations.length - 1;
      if (way === "crossed") this.#blocking = this.#armed;
      await (OPERATIONS[operation] as typeof OPERATIONS[string])(this);
      this.#crash(`after ${operation}`);
      if (way === "awaited") await this.#settle();
      else if (way !== "blocking" && way !== "together") await hop();
      if (way === "staggered") this.#storage.settle();
      if (this.#failure !== undefined) throw this.#failure;
    }
    await this.#settle();
    this.#crash("at the end");
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** What the log holds. */
  get contents(): Contents {
    return this.#history.current;
  }

  // ---- operations

  /** Appends entries of these sizes, several as a batch. */
  append(...sizes: number[]): void {
    const wal = this.#wal;
    const history = this.#history;
    const entries = sizes.map((bytes) => entryOf(++this.#serial, bytes));
    const first = entries[0]!;
    const one = entries.length === 1;
    const version = history.propose("append", extend(history.current, entries));
    this.#call({
      blocking: () =>
        one ? wal.appendSync(first) : wal.appendBatchSync(entries),
      soon: () => one ? wal.append(first) : wal.appendBatch(entries),
      version,
      done: () => {
        if (this.#variant.sync === "always") history.acknowledge(version);
      },
    });
  }

  truncateAfter(asked: number): void {
    const wal = this.#wal;
    const history = this.#history;
    const { firstIndex, nextIndex } = history.current;
    const index = Math.max(firstIndex - 1, asked);
    const nothing = index === nextIndex - 1;
    // Then what an earlier one took away is promised to be gone.
    const version = nothing
      ? history.versions.findLast(({ what }) => what === "truncate")
      : history.proposeCut("truncate", index);
    this.#call({
      blocking: () => wal.truncateAfterSync(index),
      soon: () => wal.truncateAfter(index),
      ...nothing ? {} : { version: version! },
      done: () => version && history.acknowledge(version),
    });
  }

  truncateBefore(asked: number): void {
    const wal = this.#wal;
    const index = Math.max(this.contents.firstIndex, asked);
    this.#call({
      blocking: () => wal.truncateBeforeSync(index),
      soon: () => wal.truncateBefore(index),
      done: this.#history.raiseFront(index),
    });
  }

  reset(nextIndex: number): void {
    const wal = this.#wal;
    const history = this.#history;
    const version = history.proposeReset("reset", nextIndex);
    this.#call({
      blocking: () => wal.resetSync(nextIndex),
      soon: () => wal.reset(nextIndex),
      version,
      done: () => history.acknowledge(version),
    });
  }

  rotate(): void {
    const wal = this.#wal;
    this.#call({
      blocking: () => wal.rotateSync(),
      soon: () => wal.rotate(),
      done: () => {},
    });
  }

  flush(): void {
    const wal = this.#wal;
    const history = this.#history;
    const { current } = history;
    this.#call({
      blocking: () => wal.flushSync(),
      soon: () => wal.flush(),
      done: () => history.acknowledge(current),
    });
  }

  /** A consumer acknowledges all that is there; it has no blocking twin. */
  async ack(): Promise<void> {
    const history = this.#history;
    const { firstIndex, nextIndex } = history.current;
    if (this.#consumer === undefined) {
      const there = this.#wal.consumers().length > 0;
      const made = there
        ? () => {}
        : history.moveConsumer(CONSUMER, firstIndex - 1);
      this.#consumer = await this.#await(this.#wal.consumer(CONSUMER));
      made();
    }
    const consumer = this.#consumer;
    const done = history.moveUp(CONSUMER, nextIndex - 1);
    const entry = history.versionOf(nextIndex - 1);
    this.#start(consumer.ack(nextIndex - 1), () => {
      // The entry is made durable first.
      if (entry !== undefined) history.acknowledge(entry);
      done();
    });
    if (this.#variant.way === "blocking") await this.#settle();
  }

  /** Nobody writes for a while: a watermark may be written. */
  idle(): void {
    this.#storage.clock.advance(3000);
  }

  async reopen(): Promise<void> {
    const history = this.#history;
    const { current } = history;
    if (this.#blocking) this.#wal.closeSync();
    else await this.#await(this.#wal.close());
    this.#consumer = undefined;
    await this.#settle();
    history.acknowledge(current);
    history.raiseFront(current.firstIndex)();
    this.#closed = true;
    this.#crash("after close");
    this.#closed = false;
    await this.#open();
    this.#compare(current);
  }

  // ---- calls

  async #open(): Promise<void> {
    this.#wal = this.#blocking
      ? openWalSync(LOG, this.#options)
      : await this.#await(openWal(LOG, this.#options));
  }

  #call({ blocking, soon, version, done }: Call): void {
    if (this.#blocking) blocking();
    else this.#start(soon(), done);
    if (version !== undefined) this.#history.accept(version);
    this.#compare(this.#history.current);
    if (this.#blocking) done();
  }

  /** What the log says of itself is what it should hold. */
  #compare({ firstIndex, nextIndex }: Contents): void {
    const wal = this.#wal;
    const first = firstIndex === nextIndex ? 0 : firstIndex;
    if (wal.nextIndex === nextIndex && wal.firstIndex === first) return;
    this.#fail(
      new Violation(
        `the log says ${wal.firstIndex} and next ${wal.nextIndex}, expected ` +
          `${first} and ${nextIndex}`,
      ),
    );
  }

  #start(promise: Promise<unknown>, done: () => void): void {
    this.#pending.add(promise);
    promise.then(done, (error) => this.#rejected(error))
      .finally(() => this.#pending.delete(promise));
  }

  /** Only what waits for an entry that was taken away may be. */
  #rejected(error: unknown): void {
    const taken = error instanceof IndexOutOfRangeError &&
      error.reason !== "absent" && this.#meet;
    // A blocking close overtakes calls that have promised nothing yet.
    const overtaken = error instanceof WalClosedError &&
      this.#variant.way === "crossed";
    if (!taken && !overtaken) this.#fail(error);
  }

  /** Whether calls are made before the ones before have settled. */
  get #meet(): boolean {
    const { way } = this.#variant;
    return way !== "blocking" && way !== "awaited";
  }

  /** Lets syncs end, one at a time, until a promise settles. */
  async #await<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const ended = () => void (settled = true);
    promise.then(ended, ended);
    for (;;) {
      await hop();
      if (settled) return await promise;
      this.#crash("while a call waits");
      if (!this.#storage.settle()) throw new Error("A promise never settles");
    }
  }

  /** Lets all syncs end, those of the background, too. */
  async #settle(): Promise<void> {
    for (;;) {
      await hop();
      this.#crash("while syncs end");
      if (this.#storage.settle()) continue;
      if (this.#pending.size > 0) throw new Error("A promise never settles");
      return;
    }
  }

  // ---- crashes

  #fail(error: unknown): void {
    this.#failure ??= error;
  }

  /** All that a crash at this instant could leave is judged. */
  #crash(when: string, call?: PortCall): void {
    if (!this.#armed || this.#failure !== undefined) return;
    const { power, death } = this.#expect();
    const closed = this.#closed;
    try {
      this.#look(this.#storage, {
        what: call === undefined ? when : `${when} ${tell(call)}`,
        revision: this.#history.revision + (closed ? 0.5 : 0),
        power: (outcome) => {
          if (!power.has(outcome.name)) return this.#explain(outcome);
          return closed && !outcome.clean ? "expected it closed" : undefined;
        },
        death: (outcome) =>
          death.has(outcome.name) ? undefined : this.#explain(outcome),
      });
    } catch (error) {
      this.#fail(error);
    }
  }

  #expect(): { power: Set<string>; death: Set<string> } {
    const { revision } = this.#history;
    if (this.#allowed.revision === revision) return this.#allowed;
    const expected = this.#history.expected();
    const power = namesOf(expected, expected.afterPowerLoss);
    const death = namesOf(expected, expected.afterDeath);
    this.#allowed = { revision, power, death };
    return this.#allowed;
  }

  #explain({ found }: Outcome): string {
    const expected = this.#history.expected();
    const { ever, front, afterPowerLoss } = expected;
    const wrong = checkConsumers(expected, ever, found);
    return `${blame(ever, afterPowerLoss, found, front)}; ` +
      `${wrong ?? ""}\n${explain(afterPowerLoss, found)}`;
  }
}

/** Lets continuations run. */
async function hop(): Promise<void> {
  for (let hops = 0; hops < 16; hops++) await undefined;
}
