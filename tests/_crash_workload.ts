/**
 * Random workloads over a simulated disk: lives of a log, one after the
 * other, each ended by a crash, a death or a close, with images of what a
 * crash would have left taken at random calls of the storage.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Consumer, Wal, WalOptions } from "../mod.ts";
import { StorageError, WalError } from "../src/errors.ts";
import {
  contentsOf,
  type Expected,
  extend,
  History,
  NOTHING,
  sameBytes,
  shorten,
  type Version,
  type Written,
} from "./_crash_history.ts";
import {
  close,
  count,
  type Crash,
  Judge,
  open,
  optionsFor,
  pump,
  type Run,
  step,
} from "./_crash_verdict.ts";
import { FRAME_HEADER_BYTES } from "../src/format.ts";
import { Random, SimulatedStorage } from "../testing/mod.ts";

/** Bytes to cut entries from: filling each anew would take most of the time. */
const PAYLOAD = new Random(20_261_122).bytes(256 * 1024);

const CONSUMER = "worker";

const ZERO_SECTOR = new Uint8Array(512);

/** What a run is made of; the same for the same seed and number. */
export interface RunOptions {
  readonly seed: number;
  readonly number: number;
}

const OPERATIONS = [
  "append",
  "append",
  "append",
  "append",
  "append",
  "append",
  "batch",
  "batch",
  "batch",
  "truncate",
  "truncateBatch",
  "commit",
  "commit",
  "truncateBefore",
  "reset",
  "ack",
  "ack",
  "flush",
  "rotate",
  "settle",
  "settle",
  "tick",
  "reopen",
  "full",
  "fail",
] as const;

type Operation = typeof OPERATIONS[number];

interface Image {
  readonly disk: SimulatedStorage;
  readonly crash: Crash;
  readonly expected: Expected;
  readonly at: string;
}

/** One open log and what is known of it. */
class Life {
  readonly history: History;
  readonly images: Image[] = [];
  readonly #run: Run;
  readonly #disk: SimulatedStorage;
  readonly #random: Random;
  /** The twin that this life prefers. */
  readonly #blocking: number;
  readonly #imageChance: number;
  readonly #sizes: readonly number[];
  #wal: Wal;
  #options: WalOptions;
  #batchStart = 0;
  /** What segments held before a truncation took entries away. */
  readonly #ghosts: Uint8Array[] = [];
  readonly #pending = new Set<Promise<unknown>>();
  #consumer: Consumer | undefined;
  #opening = false;
  #serial: number;

  constructor(
    run: Run,
    disk: SimulatedStorage,
    wal: Wal,
    options: WalOptions,
    history: History,
  ) {
    this.#run = run;
    this.#disk = disk;
    this.#wal = wal;
    this.#options = options;
    this.history = history;
    this.#random = run.random;
    const random = this.#random;
    this.#blocking = random.pick([0, 0.5, 1]);
    this.#imageChance = random.pick([0, 0.02, 0.1, 0.3]);
    this.#sizes = random.pick([[0, 8, 100], [8, 300, 3000], [
      0,
      100,
      5000,
      20_000,
    ], [10, 2000, 70_000]]);
    this.#serial = random.uint32();
    disk.onCall(({ operation, name, count: nth }) => {
      if (this.images.length >= 3 || !random.chance(this.#imageChance)) return;
      this.photograph(`${operation} ${name} (call ${nth})`);
    });
  }

  /** Takes what a crash at this instant would leave. */
  photograph(at: string): void {
    const expected = this.history.expected();
    if (this.#random.chance(0.15)) {
      const disk = this.#disk.fork().processDeath();
      this.images.push({ disk, crash: "death", expected, at });
      return;
    }
    const disk = this.#disk.image();
    if (this.#ghosts.length > 0 && this.#random.chance(0.3)) this.#haunt(disk);
    this.images.push({ disk, crash: "power", expected, at });
  }

  /**
   * Sectors of the last segment that were never written hold what another
   * segment had there: blocks of the disk are used again. A frame without
   * data ends in zeros, and may reach into a sector that looks unwritten.
   */
  #haunt(disk: SimulatedStorage): void {
    const path = this.#wal.state === "open"
      ? this.#wal.segments().at(-1)?.path
      : undefined;
    const bytes = path === undefined ? undefined : disk.peek(path);
    if (path === undefined || bytes === undefined) return;
    const ghost = this.#random.pick(this.#ghosts);
    const end = Math.min(bytes.length, ghost.length) - 4096;
    const before = bytes.slice();
    for (let at = 4096; at < end; at += 512) {
      const reach = before.subarray(at - FRAME_HEADER_BYTES, at);
      const sector = before.subarray(at, at + 512);
      if (!sameBytes(sector, ZERO_SECTOR)) continue;
      if (!reach.every((byte) => byte === 0)) continue;
      bytes.set(ghost.subarray(at, at + 512), at);
    }
    disk.plant(path, bytes);
  }

  get open(): boolean {
    return this.#wal.state === "open";
  }

  get wal(): Wal {
    return this.#wal;
  }

  /** One random operation. */
  async operate(): Promise<void> {
    const random = this.#random;
    const operation = this.#wal.state === "open"
      ? random.pick(OPERATIONS)
      : "reopen";
    const blocking = random.chance(this.#blocking);
    count(this.#run.counts.operations, operation);
    await this.#operate(operation, blocking);
    if (this.#wal.state === "failed") this.history.poisoned = true;
  }

  async #operate(operation: Operation, blocking: boolean): Promise<void> {
    const random = this.#random;
    switch (operation) {
      case "append":
        return this.#append(1, blocking);
      case "batch":
        return this.#append(random.pick([2, 2, 3, 5, 12]), blocking);
      case "truncate":
        return this.#truncate(this.#anywhere(), blocking);
      case "truncateBatch":
        return this.#truncate(
          Math.min(this.#batchStart + random.int(3), this.#next - 1),
          blocking,
        );
      case "commit":
        return this.#append(random.pick([1, 2, 3, 9]), blocking, true);
      case "truncateBefore":
        return this.#truncateBefore(blocking);
      case "reset":
        return this.#reset(blocking);
      case "ack":
        return this.#ack();
      case "flush":
        return this.#flush(blocking);
      case "rotate":
        return this.#rotate(blocking);
      case "settle":
        this.#note("settle");
        return await step(this.#disk, random.pick([1, 2, 100]));
      case "tick":
        this.#note("tick");
        return this.#disk.clock.advance(random.pick([10, 2000]));
      case "reopen":
        return await this.#reopen(blocking);
      case "full":
        return this.#fault(random.pick(["create", "write"]), "ENOSPC");
      case "fail":
        return this.#fault(
          random.pick(["sync", "syncSoon", "directorySync", "rename"]),
          "EIO",
        );
    }
  }

  get #next(): number {
    return this.history.current.nextIndex;
  }

  #note(text: string): void {
    this.#run.history.push(`${text} [${this.history.current.number}]`);
  }

  #anywhere(): number {
    const { firstIndex, nextIndex } = this.history.current;
    const length = nextIndex - firstIndex;
    const back = this.#random.pick([1, 1, 2, 3, length, this.#random.int(99)]);
    return Math.max(firstIndex, nextIndex - back) - 1;
  }

  #entry(): Written & { timestampNs: bigint } {
    const random = this.#random;
    const least = random.pick(this.#sizes);
    const bytes = least === 0 ? 0 : random.between(least, least + least / 3);
    const from = random.int(PAYLOAD.length - bytes);
    const data = PAYLOAD.slice(from, from + bytes);
    const timestampNs = BigInt(++this.#serial) * 1_000_003n;
    return { data, term: random.int(4), timestampNs };
  }

  #append(length: number, blocking: boolean, commits = false): void {
    const random = this.#random;
    const wal = this.#wal;
    const { history } = this;
    const entries = Array.from({ length }, () => this.#entry());
    const chosen = random.pick([undefined, undefined, undefined, true, false]);
    const durable = chosen ?? this.#options.sync === "always";
    const sizes = entries.map(({ data }) => data.length).join("+");
    const verb = commits ? "commit" : "append";
    const what = `${verb} ${sizes} as ${this.#next}` +
      `${blocking ? " blocking" : ""}${durable ? " durable" : ""}`;
    this.#note(what);
    const options = chosen === undefined ? {} : { durable: chosen };
    const before = wal.nextIndex;
    const contents = extend(history.current, entries);
    const version = history.propose(what, contents);
    this.#batchStart = length > 1 ? before : this.#batchStart;
    const done = () => {
      if (durable) history.acknowledge(version);
    };
    const transaction = commits && wal.state === "open"
      ? wal.beginTransaction()
      : undefined;
    for (const entry of entries) {
      transaction?.add(entry as Written & { timestampNs: bigint });
    }
    this.#call(version, before, () => {
      if (transaction !== undefined) {
        if (!blocking) return transaction.commit(options);
        transaction.commitSync(options);
        return undefined;
      }
      const only = entries[0] as Written & { timestampNs: bigint };
      if (blocking) {
        if (length === 1) wal.appendSync(only, options);
        else wal.appendBatchSync(entries, options);
        return undefined;
      }
      return length === 1
        ? wal.append(only, options)
        : wal.appendBatch(entries, options);
    }, done);
  }

  /** Calls; then the version is what the log says that has happened. */
  #call(
    version: Version,
    before: number,
    call: () => Promise<unknown> | undefined,
    done: () => void,
  ): void {
    const wal = this.#wal;
    const { history } = this;
    let promise: Promise<unknown> | undefined;
    let failure: unknown;
    try {
      promise = call();
    } catch (error) {
      failure = error;
      this.#checkFailure(error);
    }
    const after = wal.nextIndex;
    // Of a refused append bytes may remain, of a refused cut nothing does.
    const grows = !version.what.startsWith("reset") &&
      version.nextIndex > history.current.nextIndex;
    if (after === version.nextIndex) history.accept(version);
    else if (after === before) history.refuse(version, grows);
    else {
      throw new Error(
        `"${version.what}": the next index was ${before} and is ${after}`,
      );
    }
    if (failure !== undefined && version.state === "written") {
      // It took effect and failed: only a failed sync may do so.
      if (wal.state !== "failed") {
        throw new Error(
          `"${version.what}" took effect, threw and left the log ${wal.state}`,
          { cause: failure },
        );
      }
    }
    if (wal.state === "failed") history.poisoned = true;
    if (promise === undefined) {
      if (failure === undefined) done();
      return;
    }
    this.#follow(promise);
    const state = version.state;
    promise.then(() => {
      if (state !== "written") {
        this.#run.history.push(`WRONG: "${version.what}" resolved, refused`);
      }
      done();
    }, (error) => {
      this.#run.history.push(`rejected: "${version.what}": ${error}`);
      if (wal.state === "failed") history.poisoned = true;
    });
  }

  #follow(promise: Promise<unknown>): void {
    this.#pending.add(promise);
    const ended = () => void this.#pending.delete(promise);
    promise.then(ended, ended);
  }

  /** After close every promise settles, and nothing goes on. */
  async #settleAll(): Promise<void> {
    await pump(this.#disk, Promise.allSettled([...this.#pending]));
    while (this.#disk.settle() > 0) await step(this.#disk, 0);
  }

  #checkFailure(error: unknown): void {
    this.#run.history.push(`threw: ${error}`);
    if (error instanceof WalError) return;
    throw error;
  }

  #truncate(last: number, blocking: boolean): void {
    const wal = this.#wal;
    const { history } = this;
    const what = `truncateAfter ${last}${blocking ? " blocking" : ""}`;
    this.#note(what);
    const before = wal.nextIndex;
    if (this.#ghosts.length < 4) {
      for (const { path } of wal.segments()) {
        const bytes = this.#disk.peek(path);
        if (bytes !== undefined) this.#ghosts.push(bytes);
      }
    }
    // With nothing to take away, what was taken away before still counts.
    const version = last === this.#next - 1
      ? history.versions.findLast(({ what, state }) =>
        /^(truncateAfter|reset)/.test(what) && state === "written"
      ) ?? history.versions[0] as Version
      : history.proposeCut(what, last);
    const call = () => {
      if (!blocking) return wal.truncateAfter(last);
      wal.truncateAfterSync(last);
      return undefined;
    };
    const done = () => history.acknowledge(version);
    if (version.state === "pending") this.#call(version, before, call, done);
    else this.#quiet(call, done);
  }

  #truncateBefore(blocking: boolean): void {
    const wal = this.#wal;
    const { history } = this;
    const { firstIndex, nextIndex } = history.current;
    const reach = nextIndex - firstIndex;
    const index = firstIndex + this.#random.pick([
      0,
      reach,
      this.#random.int(reach + 1),
      this.#random.int(reach + 1),
    ]);
    const what = `truncateBefore ${index}${blocking ? " blocking" : ""}`;
    this.#note(what);
    const { current } = history;
    const settled = history.raiseFront(index);
    this.#quiet(() => {
      if (!blocking) return wal.truncateBefore(index);
      wal.truncateBeforeSync(index);
      return undefined;
    }, settled);
    // Without space for its manifest it has changed nothing.
    const first = wal.firstIndex === 0 ? wal.nextIndex : wal.firstIndex;
    if (first !== current.firstIndex) {
      if (first !== firstIndex) throw new Error(`"${what}" left ${first}`);
      current.firstIndex = firstIndex;
    }
  }

  #reset(blocking: boolean): void {
    const wal = this.#wal;
    const { history } = this;
    const before = wal.nextIndex;
    const nextIndex = this.#random.pick([1, before + 1, before + 100, 5000]);
    if (nextIndex === before) return;
    const what = `reset ${nextIndex}${blocking ? " blocking" : ""}`;
    this.#note(what);
    const version = history.proposeReset(what, nextIndex);
    this.#call(version, before, () => {
      if (!blocking) return wal.reset(nextIndex);
      wal.resetSync(nextIndex);
      return undefined;
    }, () => history.acknowledge(version));
  }

  /** A consumer is opened, or acknowledges; both have no blocking twin. */
  #ack(): void {
    const wal = this.#wal;
    const { history } = this;
    const consumer = this.#consumer;
    if (consumer === undefined) {
      if (this.#opening) return;
      this.#note("consumer");
      const { firstIndex } = history.current;
      const made = wal.consumers().length > 0
        ? () => {}
        : history.moveConsumer(CONSUMER, firstIndex - 1);
      this.#opening = true;
      this.#quiet(() =>
        wal.consumer(CONSUMER).then((opened) => {
          if (this.#wal === wal) this.#consumer = opened;
        }).finally(() => {
          this.#opening = false;
        }), made);
      return;
    }
    const { nextIndex } = history.current;
    const ahead = nextIndex - 1 - consumer.position;
    if (ahead <= 0) return;
    const index = nextIndex - 1 - this.#random.pick([0, 0, ahead >> 1]);
    this.#note(`ack ${index}`);
    const done = history.moveUp(CONSUMER, index);
    const entry = history.versionOf(index);
    this.#quiet(() => consumer.ack(index), () => {
      // The entry is made durable first.
      if (entry !== undefined) history.acknowledge(entry);
      done();
    });
  }

  /** A call that changes no entry. */
  #quiet(call: () => Promise<unknown> | undefined, done: () => void): void {
    const wal = this.#wal;
    const { history } = this;
    const before = wal.nextIndex;
    let promise: Promise<unknown> | undefined;
    try {
      promise = call();
      if (promise === undefined) done();
    } catch (error) {
      this.#checkFailure(error);
    }
    if (wal.nextIndex !== before) throw new Error("entries came or went");
    if (wal.state === "failed") history.poisoned = true;
    if (promise !== undefined) this.#follow(promise);
    promise?.then(done, (error) => {
      this.#run.history.push(`rejected: ${error}`);
      if (wal.state === "failed") history.poisoned = true;
    });
  }

  #flush(blocking: boolean): void {
    const wal = this.#wal;
    const { history } = this;
    this.#note(`flush${blocking ? " blocking" : ""}`);
    const { current } = history;
    this.#quiet(() => {
      if (!blocking) return wal.flush();
      wal.flushSync();
      return undefined;
    }, () => history.acknowledge(current));
  }

  #rotate(blocking: boolean): void {
    const wal = this.#wal;
    this.#note(`rotate${blocking ? " blocking" : ""}`);
    this.#quiet(() => {
      if (!blocking) return wal.rotate();
      wal.rotateSync();
      return undefined;
    }, () => {});
  }

  #fault(operation: string, code: string): void {
    const after = this.#random.pick([0, 0, 1, 3]);
    this.#note(`${operation} fails with ${code} after ${after}`);
    this.#disk.failNext(operation as "any", code, { after });
    const syncs = operation === "syncSoon" || operation === "sync";
    if (syncs) this.history.poisoned = true;
  }

  async #reopen(blocking: boolean): Promise<void> {
    const disk = this.#disk;
    const { history } = this;
    const failed = this.#wal.state === "failed";
    this.#note(`close${blocking ? " blocking" : ""} and open`);
    const { current } = history;
    try {
      await close(disk, this.#wal, blocking);
      history.acknowledge(current);
      if (failed) throw new Error("a failed log closed without an error");
    } catch (error) {
      this.#checkFailure(error);
    }
    await this.#settleAll();
    this.#options = optionsFor(this.#run, disk);
    for (let attempt = 0;; attempt++) {
      try {
        this.#wal = await open(disk, this.#options, blocking);
        break;
      } catch (error) {
        // What the last life had ordered to fail may hit this opening.
        const mayFail = error instanceof StorageError && attempt < 6;
        if (!mayFail) throw error;
        this.#checkFailure(error);
        history.poisoned = true;
      }
    }
    const { nextIndex } = this.#wal;
    if (nextIndex !== this.#next) {
      if (!history.poisoned || nextIndex > this.#next) {
        throw new Error(
          `the next index is ${nextIndex} after reopening, was ${this.#next}`,
        );
      }
      // A sync had failed; what the cache lost was promised to nobody.
      const version = history.propose(
        `reopened before ${nextIndex}`,
        shorten(current, nextIndex - 1),
      );
      history.accept(version);
    }
    history.acknowledge(history.current);
    const first = this.#wal.firstIndex || this.#wal.nextIndex;
    // A removal that failed, or that a failed close overtook, may be undone.
    const allowed = history.expected().front.allowed(history.current.number);
    if (!allowed.has(first) && !history.poisoned) {
      const was = [...allowed].join(" or ");
      throw new Error(
        `the first index is ${first} after reopening, was ${was}`,
      );
    }
    history.settleFront(first);
    this.#consumer = undefined;
    this.#opening = false;
    for (const { name, position } of this.#wal.consumers()) {
      // Opening has written it again.
      history.moveConsumer(name, position)();
    }
    history.poisoned = false;
  }

  /** Compares what the open log reads with what was written. */
  check(): void {
    const { firstIndex, last } = this.history.current;
    let at = last;
    for (const entry of this.#wal.entries({ reverse: true })) {
      const same = at !== undefined && at.index === entry.index &&
        at.entry.term === entry.term &&
        at.entry.timestampNs === entry.timestampNs &&
        Buffer.compare(at.entry.data, entry.data) === 0;
      if (!same) {
        throw new Error(`the open log reads entry ${entry.index} wrong`);
      }
      at = at?.previous;
    }
    if (at !== undefined && at.index >= firstIndex) {
      throw new Error(`the open log misses ${at.index}`);
    }
  }

  /** Ends it; the disk of the next one, and how this one ended. */
  async end(): Promise<Image> {
    const random = this.#random;
    const disk = this.#disk;
    disk.onCall(undefined);
    // No continuation may meet the dead disk: nobody would catch that.
    await step(disk, 0);
    const expected = this.history.expected();
    const how = random.pick(["crash", "crash", "death", "close"]);
    this.#note(how);
    if (how === "close" && this.open) {
      try {
        await close(disk, this.#wal, random.chance(0.5));
      } catch (error) {
        this.#checkFailure(error);
        await this.#settleAll();
        const poisoned = { ...this.history.expected(), poisoned: true };
        const { afterPowerLoss } = poisoned;
        return {
          disk: disk.processDeath(),
          crash: "death",
          expected: { ...poisoned, afterDeath: afterPowerLoss },
          at: "failed close",
        };
      }
      this.history.acknowledge(this.history.current);
      await this.#settleAll();
      const next = random.chance(0.5) ? disk.crash() : disk.processDeath();
      const after = this.history.expected();
      const afterDeath = after.afterPowerLoss;
      const closed = { ...after, afterDeath, poisoned: false };
      return { disk: next, crash: "closed", expected: closed, at: "close" };
    }
    if (how === "death") {
      return { disk: disk.processDeath(), crash: "death", expected, at: "end" };
    }
    return { disk: disk.crash(), crash: "power", expected, at: "end" };
  }
}

/** Runs one workload with all its crashes; throws a `Verdict`. */
export async function simulate(
  run: Run,
  { seed, number }: RunOptions,
): Promise<void> {
  const { random } = run;
  let disk = new SimulatedStorage({
    seed: new Random(seed, number, 7).uint32(),
    mapped: random.chance(0.5),
    garbage: run.hostile
      ? "anywhere"
      : random.pick(["none", "unsynced-sectors"]),
  });
  const lives = random.between(1, 4);
  let history = new History(NOTHING);
  let path: readonly string[] = [];
  for (let nth = 0; nth < lives; nth++) {
    run.history.push(`-- life ${nth + 1}`);
    const options = optionsFor(run, disk);
    const wal = await open(disk, options, random.chance(0.5));
    const life = new Life(run, disk, wal, options, history);
    const operations = random.pick([3, 8, 20]);
    for (let left = operations; left > 0; left--) {
      await life.operate();
      if (random.chance(0.15)) life.photograph("rest");
      if (random.chance(0.05)) life.check();
      for (const { at, ...found } of life.images.splice(0)) {
        const road = [...path, `${found.crash} at ${at}`];
        await new Judge(run, { ...found, path: road }).judge();
      }
    }
    life.check();
    const { at, ...found } = await life.end();
    path = [...path, `${found.crash} at ${at}`];
    const next = found.disk.fork();
    const judged = await new Judge(run, { ...found, path }).judge();
    if (judged === undefined) return;
    disk = next;
    history = new History(contentsOf(judged), judged.consumers);
  }
}
