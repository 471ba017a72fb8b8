/**
 * A log with consumers on a disk that may crash at any call: random calls that
 * overlap, and images of the disk with what must hold in them.
 *
 * @module
 */

import {
  type Consumer,
  IndexOutOfRangeError,
  openWalSync,
  StorageError,
  type Wal,
  WalClosedError,
  WalFailedError,
  type WalOptions,
} from "../mod.ts";
import {
  type Bounds,
  type Move,
  objection,
  type Standing,
  Track,
} from "./_consumer_track.ts";
import type { PortCall, Random, SimulatedStorage } from "../testing/mod.ts";

/** The folder of every log here. */
export const LOG = "wal";
const NAMES = ["a", "b"] as const;
type Name = typeof NAMES[number];

/** What a process does. */
export type Operation =
  | "append"
  | "open"
  | "ack"
  | "seek"
  | "remove"
  | "release"
  | "truncateAfter"
  | "truncateBefore"
  | "reset"
  | "rotate"
  | "flush"
  | "flushSync"
  | "idle"
  | "turn";

const OPERATIONS: readonly Operation[] = [
  ...Array<"append">(6).fill("append"),
  ...Array<"open">(5).fill("open"),
  ...Array<"ack">(9).fill("ack"),
  ...Array<"seek">(3).fill("seek"),
  ...Array<"truncateAfter">(3).fill("truncateAfter"),
  ...Array<"turn">(6).fill("turn"),
  "remove",
  "release",
  "truncateBefore",
  "reset",
  "rotate",
  "flush",
  "flushSync",
  "idle",
];

/** A disk as a crash has left it, and what must hold in it. */
export interface Image {
  readonly disk: SimulatedStorage;
  readonly how: string;
  readonly bounds: ReadonlyMap<Name, Bounds>;
}

/** How a run goes. */
export interface Run {
  readonly random: Random;
  /** Every call so far, for messages. */
  readonly history: string[];
  /** Chance that a call of the disk is looked at. */
  readonly share: number;
  /** Syncs fail in it: calls may be rejected, and the log may be failed. */
  readonly faulty?: boolean;
  /** Told of every call of the disk. */
  readonly watch?: (call: PortCall) => void;
}

/** One process, from opening to its end. */
export class Life {
  readonly images: Image[] = [];
  readonly #run: Run;
  readonly #disk: SimulatedStorage;
  readonly #wal: Wal;
  readonly #entries = new Map<number, string>();
  readonly #tracks = new Map<Name, Track>();
  readonly #open = new Map<Name, Consumer>();
  readonly #busy = new Set<Name>();
  readonly #pending = new Set<Promise<unknown>>();
  #serial = 0;
  #failure: unknown;

  constructor(run: Run, disk: SimulatedStorage) {
    this.#run = run;
    this.#disk = disk;
    this.#wal = openWalSync(LOG, optionsOf(disk));
    for (const entry of this.#wal) {
      this.#entries.set(entry.index, idOf(entry.text()));
    }
    for (const name of NAMES) {
      const { position } = standingOf(this.#wal, name);
      const track = position === undefined
        ? new Track()
        : Track.found(position, this.#textsUpTo(position));
      this.#tracks.set(name, track);
    }
    disk.onCall((call) => {
      run.watch?.(call);
      if (!run.random.chance(run.share)) return;
      const { count, operation, name } = call;
      this.#photograph(`call ${count}, ${operation} ${name}`);
    });
  }

  /** What a crash at this instant would leave, in several ways. */
  #photograph(when: string): void {
    const disk = this.#disk;
    const { random } = this.#run;
    const bounds = new Map(
      NAMES.map((name) => [name, this.#tracks.get(name)!.bounds()] as const),
    );
    const add = (how: string, image: SimulatedStorage) => {
      this.images.push({ disk: image, how: `${how} at ${when}`, bounds });
    };
    const way = random.pick(["power", "power", "old", "torn", "torn", "death"]);
    if (way === "power") add("power cut", disk.image());
    if (way === "death") add("process death", disk.fork());
    if (way === "old" || way === "torn") {
      const old = disk.image({ pages: () => "old" });
      if (way === "torn") this.#tear(old);
      add(`power cut, ${way} pages`, old);
    }
  }

  /** A position that was being written is found in two halves. */
  #tear(image: SimulatedStorage): void {
    const { random } = this.#run;
    for (const name of NAMES) {
      const path = `${LOG}/consumers/${name}`;
      const [before, after] = [image.peek(path), this.#disk.peek(path)];
      if (before === undefined || after === undefined) continue;
      for (const at of [0, 4096]) {
        const cut = at + random.int(64);
        const [from, to] = random.chance(0.5) ? [at, cut] : [cut, at + 64];
        before.set(after.subarray(from, to), from);
      }
      image.plant(path, before);
    }
  }

  /** One call, a random one if none is asked for; most are not waited for. */
  async operate(
    operation: Operation = this.#run.random.pick(OPERATIONS),
    name: Name = this.#run.random.pick(NAMES),
  ): Promise<void> {
    const { random } = this.#run;
    const wal = this.#wal;
    switch (operation) {
      case "append":
        return this.#append(random.pick([1, 1, 2, 5]));
      case "open":
        return this.#openOne(name);
      case "ack":
        return this.#move(name, "ack");
      case "seek":
        return this.#move(name, "seek");
      case "remove":
        return this.#remove(name);
      case "release":
        return this.#release(name);
      case "truncateAfter":
        return this.#cut();
      case "reset":
        return this.#reset();
      case "truncateBefore":
        return this.#truncateBefore();
      case "rotate":
        return this.#follow("rotate", wal.rotate());
      case "flush":
        return this.#follow("flush", wal.flush());
      case "flushSync":
        this.#note("flushSync");
        return wal.flushSync();
      case "idle":
        this.#note("idle");
        return this.#disk.clock.advance(3000);
      case "turn":
        return await turn(random.pick([1, 4, 20, 100]));
    }
  }

  #note(text: string): void {
    this.#run.history.push(text);
  }

  #follow(what: string, promise: Promise<unknown>): void {
    this.#note(what);
    const ended = () => void this.#pending.delete(promise);
    this.#pending.add(promise);
    promise.then(ended, ended);
    promise.catch((error) => {
      this.#note(`rejected: ${what}: ${error}`);
      if (error instanceof IndexOutOfRangeError) return;
      // Removing a consumer ends the calls on it.
      const removed = error instanceof WalClosedError &&
        error.message.startsWith("Cannot use consumer");
      if (removed || this.#mayFail(error)) return;
      this.#failure ??= error;
    });
  }

  #mayFail(error: unknown): boolean {
    if (this.#run.faulty !== true) return false;
    return error instanceof WalFailedError || error instanceof StorageError;
  }

  #textsUpTo(index: number): string[] {
    return [...this.#entries]
      .filter(([at]) => at <= index)
      .map(([, text]) => text);
  }

  #append(count: number): void {
    const { random } = this.#run;
    const wal = this.#wal;
    const texts = Array.from({ length: count }, () => {
      const size = random.pick([10, 10, 300, 5000, 20_000]);
      return `${this.#disk.seed} ${++this.#serial} .`.padEnd(size, ".");
    });
    const durable = random.chance(0.5);
    const next = wal.nextIndex;
    for (const [nth, text] of texts.entries()) {
      this.#entries.set(next + nth, idOf(text));
    }
    const what = `append ${count} at ${next}${durable ? " durable" : ""}`;
    if (random.chance(0.3)) {
      this.#note(`${what}, blocking`);
      wal.appendBatchSync(texts, { durable });
    } else this.#follow(what, wal.appendBatch(texts, { durable }));
  }

  #openOne(name: Name): void {
    if (this.#open.has(name) || this.#busy.has(name)) return;
    const { random } = this.#run;
    const wal = this.#wal;
    const track = this.#tracks.get(name)!;
    const { position } = standingOf(wal, name);
    const from = random.pick(["start", "end"] as const);
    let move: Move | undefined;
    if (position === undefined) {
      const begins = from === "end" ? wal.nextIndex - 1 : firstOf(wal) - 1;
      move = track.begin(begins, this.#textsUpTo(begins));
    }
    this.#busy.add(name);
    const promise = wal.consumer(name, { from }).then((consumer) => {
      this.#busy.delete(name);
      this.#open.set(name, consumer);
      if (move !== undefined) track.begun(move);
      this.#checkLive(name, consumer);
    });
    this.#follow(`consumer ${name} from ${from}`, promise);
  }

  #move(name: Name, call: "ack" | "seek"): void {
    const consumer = this.#open.get(name);
    if (consumer === undefined) return;
    const { random } = this.#run;
    const wal = this.#wal;
    const last = wal.nextIndex - 1;
    const least = call === "ack" ? consumer.position : firstOf(wal) - 1;
    const index = random.chance(0.3)
      ? last
      : random.between(Math.min(least, last), last);
    const track = this.#tracks.get(name)!;
    const move = track[call](index, this.#textsUpTo(index));
    const promise = consumer[call](index);
    this.#follow(`${call} ${name} ${index}`, promise);
    promise.then(() => {
      track.done(move);
      this.#checkLive(name, consumer);
    }, () => track.failed(move));
  }

  /** What the open log says keeps to the same bounds. */
  #checkLive(name: Name, consumer: Consumer): void {
    const wal = this.#wal;
    if (this.#open.get(name) !== consumer || wal.state !== "open") return;
    const bounds = this.#tracks.get(name)!.bounds();
    const wrong = objection(bounds, standingOf(wal, name));
    if (wrong === undefined) return;
    this.#failure ??= new Error(`open: consumer "${name}" stands ${wrong}`);
  }

  #remove(name: Name): void {
    const consumer = this.#open.get(name);
    if (consumer === undefined) return;
    const track = this.#tracks.get(name)!;
    this.#open.delete(name);
    this.#busy.add(name);
    track.remove();
    const removed = consumer.remove().then(() => {
      this.#busy.delete(name);
      track.removed();
    });
    this.#follow(`remove ${name}`, removed);
  }

  #release(name: Name): void {
    const consumer = this.#open.get(name);
    if (consumer === undefined) return;
    this.#open.delete(name);
    this.#busy.add(name);
    const released = consumer[Symbol.asyncDispose]()
      .then(() => void this.#busy.delete(name));
    this.#follow(`release ${name}`, released);
  }

  #lower(most: number): void {
    for (const track of this.#tracks.values()) track.lower(most);
    for (const index of this.#entries.keys()) {
      if (index > most) this.#entries.delete(index);
    }
  }

  #cut(): void {
    const { random } = this.#run;
    const wal = this.#wal;
    const last = wal.nextIndex - 1;
    const least = Math.max(firstOf(wal) - 1, last - random.pick([1, 3, 9, 99]));
    const index = random.between(Math.min(least, last), last);
    this.#lower(index);
    if (random.chance(0.4)) {
      this.#note(`truncateAfter ${index}, blocking`);
      wal.truncateAfterSync(index);
    } else this.#follow(`truncateAfter ${index}`, wal.truncateAfter(index));
  }

  #reset(): void {
    const { random } = this.#run;
    const wal = this.#wal;
    const around = Math.max(1, wal.nextIndex - random.int(9));
    const next = random.pick([around, around, wal.nextIndex + 5, 1]);
    // What lay below may come back in a crash, as after truncateBefore.
    this.#lower(next - 1);
    if (random.chance(0.4)) {
      this.#note(`reset ${next}, blocking`);
      wal.resetSync(next);
    } else this.#follow(`reset ${next}`, wal.reset(next));
  }

  #truncateBefore(): void {
    const { random } = this.#run;
    const wal = this.#wal;
    const index = random.between(firstOf(wal), wal.nextIndex);
    // They may come back in a crash: whoever begins behind them passed them.
    if (random.chance(0.4)) {
      this.#note(`truncateBefore ${index}, blocking`);
      wal.truncateBeforeSync(index);
    } else this.#follow(`truncateBefore ${index}`, wal.truncateBefore(index));
  }

  /** Waits for all calls. */
  async settle(): Promise<void> {
    await this.#settleAll();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Whether a sync has failed; then nothing may be written any more. */
  get failed(): boolean {
    return this.#wal.state === "failed";
  }

  /** Ends it; the disk of the next life. */
  async end(): Promise<SimulatedStorage> {
    const { random } = this.#run;
    const { faulty = false } = this.#run;
    if (faulty) await this.#settleAll();
    else if (random.chance(0.3)) {
      this.#note("close");
      if (random.chance(0.5)) await this.#wal.close();
      else {
        await this.#settleAll();
        this.#wal.closeSync();
      }
    } else await this.#settleAll();
    this.#disk.onCall(undefined);
    this.#photograph("the end");
    if (this.#failure !== undefined) throw this.#failure;
    const next = random.chance(0.5) ? this.#disk.image() : this.#disk.fork();
    if (!faulty) this.#wal.closeSync();
    return next;
  }

  async #settleAll(): Promise<void> {
    while (this.#pending.size > 0) await Promise.allSettled([...this.#pending]);
  }
}

/** What tells an entry from all others: its text without the padding. */
function idOf(text: string): string {
  return text.slice(0, text.indexOf(".") >>> 0).trim();
}

/** The log's first index; an empty one's next index. */
function firstOf(wal: Wal): number {
  return wal.length === 0 ? wal.nextIndex : wal.firstIndex;
}

async function turn(hops: number): Promise<void> {
  for (let hop = 0; hop < hops; hop++) await Promise.resolve();
}

/** How every log here is opened. */
export function optionsOf(storage: SimulatedStorage): WalOptions {
  return { storage, segmentBytes: 65536 };
}

/** Where a consumer stands in an open log. */
export function standingOf(wal: Wal, name: string): Standing {
  const info = wal.consumers().find((one) => one.name === name);
  return {
    position: info?.position,
    firstIndex: firstOf(wal),
    nextIndex: wal.nextIndex,
    texts: Array.from(wal, (entry) => idOf(entry.text())),
  };
}

/** What was seen, for the report of a suite. */
export interface Counts {
  crashes: number;
  /** Consumers that were found, and those that had moved. */
  standing: number;
  moved: number;
}

/** Opens what a crash has left; throws if a consumer stands wrong. */
export function judge(
  image: Image,
  random: Random,
  counts: Counts,
  deep: number,
): void {
  const { disk, how, bounds } = image;
  const inside: SimulatedStorage[] = [];
  disk.onCall(() => {
    if (!random.chance(deep)) return;
    inside.push(random.chance(0.7) ? disk.image() : disk.fork());
  });
  const wal = openWalSync(LOG, optionsOf(disk));
  disk.onCall(undefined);
  const found = check(wal, image, counts);
  if (random.chance(0.2)) {
    // Opening has made durable what it says.
    const lost = disk.image({ pages: () => "old", names: () => false });
    const again = openWalSync(LOG, optionsOf(lost));
    const now = check(again, image, counts);
    again.closeSync();
    if (now !== found) {
      throw new Error(`${how}, opened: ${found}; power cut: ${now}`);
    }
  }
  wal.closeSync();
  for (const one of inside) {
    const next = { disk: one, how: `${how}, and while opening`, bounds };
    judge(next, random, counts, 0);
  }
}

/** Where all stand, in words. */
function check(wal: Wal, { how, bounds }: Image, counts: Counts): string {
  const words: string[] = [];
  counts.crashes++;
  for (const [name, one] of bounds) {
    const standing = standingOf(wal, name);
    const wrong = objection(one, standing);
    if (wrong !== undefined) {
      throw new Error(`${how}: consumer "${name}": ${wrong}`);
    }
    const { position } = standing;
    if (position !== undefined) counts.standing++;
    if (position !== undefined && position > 0) counts.moved++;
    words.push(`${name} ${position}`);
  }
  return words.join(", ");
}
