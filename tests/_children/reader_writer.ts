/**
 * A writer that is watched and killed: reads one line of JSON, what to write
 * and where, and goes on until it is dead or told to "rest". It says before
 * each append what it writes: `A SERIAL PREVIOUS INDEX COUNT`.
 *
 * @module
 */
import * as fs from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import {
  filesStorage,
  IndexOutOfRangeError,
  mappedStorage,
  openWal,
  type Wal,
} from "../../mod.ts";
import { Random } from "../../testing/mod.ts";
import {
  checkNext,
  checkNextOfBatch,
  endsBatch,
  readTold,
  tellingData,
  type Told,
} from "../_readers_entry.ts";

/** What one life of a writer is to do. */
export interface WriterOrder {
  readonly path: string;
  readonly kind: "mapped" | "files";
  readonly seed: number;
  /** From 1; serials and histories of later lives are larger. */
  readonly life: number;
}

/** Written to the pipe at once: a killed process has said it. */
function say(line: string): void {
  fs.writeSync(1, line + "\n");
}

/** One life. */
class Writer {
  readonly #wal: Wal;
  readonly #random: Random;
  /** The log's entries, those above its first index at least. */
  #told: Told[];
  #serial: number;
  #history: number;
  readonly #cuts: number;
  readonly #sizes: readonly number[];

  constructor(wal: Wal, { seed, life }: WriterOrder) {
    this.#wal = wal;
    this.#random = new Random(seed, life);
    this.#serial = life * 1_000_000;
    this.#history = life * 1_000_000;
    this.#cuts = this.#random.pick([0, 0.001, 0.01, 0.05]);
    this.#sizes = this.#random.pick([
      [0, 60, 200],
      [0, 200, 3000],
      [3000, 20_000],
    ]);
    this.#told = [...wal].map(readTold);
    for (let i = 1; i < this.#told.length; i++) {
      checkNext(this.#told[i - 1]!, this.#told[i]!);
      checkNextOfBatch(this.#told[i - 1]!, this.#told[i]!);
    }
  }

  /** One call. */
  step(): Promise<unknown> | undefined {
    const random = this.#random;
    if (this.#told.length > 6000) this.#told = this.#told.slice(-3000);
    if (random.chance(this.#cuts)) return this.#cut();
    const roll = random.int(100);
    if (roll < 60) return this.#append(1);
    if (roll < 95) return this.#append(random.between(2, 12));
    if (roll === 95) return this.#remove();
    if (roll === 96) {
      say("X rotations");
      return random.chance(0.5)
        ? this.#wal.rotate()
        : void this.#wal.rotateSync();
    }
    return roll === 97 ? this.#wal.flush() : undefined;
  }

  /** An entry, whatever there is. */
  begin(): Promise<unknown> | undefined {
    return this.#append(1);
  }

  #append(count: number): Promise<unknown> | undefined {
    const wal = this.#wal;
    const random = this.#random;
    const { nextIndex } = wal;
    const before = this.#told.at(-1)?.serial ?? 0;
    const history = this.#history;
    const batch: Told[] = [];
    for (let position = 0; position < count; position++) {
      const serial = ++this.#serial;
      const previous = position === 0 ? before : serial - 1;
      const index = nextIndex + position;
      batch.push({ serial, previous, index, history, position, count });
    }
    say(`A ${batch[0]!.serial} ${before} ${nextIndex} ${count}`);
    this.#told.push(...batch);
    const data = batch.map((told) =>
      tellingData(told, random.pick(this.#sizes))
    );
    if (random.chance(0.6)) {
      if (count === 1) wal.appendSync(data[0]!, { durable: false });
      else wal.appendBatchSync(data, { durable: false });
      return undefined;
    }
    return count === 1 ? wal.append(data[0]!) : wal.appendBatch(data);
  }

  #cut(): Promise<unknown> | undefined {
    const wal = this.#wal;
    const random = this.#random;
    this.#history++;
    if (random.chance(0.1)) {
      const { nextIndex } = wal;
      this.#told = [];
      say("X resets");
      return wal.reset(random.pick([nextIndex, nextIndex + 10, 1]));
    }
    const least = Math.max(wal.firstIndex, wal.lastIndex - 40);
    const ends = this.#told.filter((one) =>
      one.index >= least && endsBatch(one)
    );
    if (ends.length === 0) return undefined;
    const end = random.pick(ends);
    say("X truncations");
    this.#told.length = this.#told.indexOf(end) + 1;
    if (random.chance(0.5)) return wal.truncateAfter(end.index);
    wal.truncateAfterSync(end.index);
    return undefined;
  }

  #remove(): Promise<unknown> | undefined {
    const { firstIndex, lastIndex, length } = this.#wal;
    if (length < 20) return undefined;
    say("X removals");
    const random = this.#random;
    const few = firstIndex + random.int(10);
    const index = random.chance(0.5) ? few : random.between(few, lastIndex);
    // One entry stays: the next one tells what came before it.
    return this.#wal.truncateBefore(Math.min(index, lastIndex));
  }

  /** Comes to rest with an entry at the end; says what there is. */
  async rest(): Promise<void> {
    await this.#append(1);
    await this.#wal.flush();
    const told = [...this.#wal].map(readTold);
    const { index, serial } = told.at(-1)!;
    say(`R ${index} ${serial} ${told.map((one) => one.serial).join()}`);
  }

  async close(): Promise<void> {
    await this.#wal.close();
    say("closed");
  }
}

let resting = false;
let writer: Writer | undefined;

async function run(order: WriterOrder): Promise<void> {
  const { path, kind, seed, life } = order;
  const random = new Random(seed, life, 1);
  const storage = kind === "mapped" ? mappedStorage() : filesStorage();
  const wal = await openWal(path, {
    storage,
    segmentBytes: 65_536,
    sync: random.pick(["always", "interval", "never"] as const),
    retention: { maxSegments: random.pick([3, 12]) },
  });
  say(`O ${wal.firstIndex} ${wal.nextIndex}`);
  writer = new Writer(wal, order);
  if (wal.length === 0) await writer.begin();
  const pace = random.pick([0.02, 0.2, 1]);
  const pending = new Set<Promise<unknown>>();
  while (!resting) {
    const call = writer.step();
    if (call !== undefined) {
      const ended = call.catch((error) => {
        // What a later cut took away is told so.
        if (!(error instanceof IndexOutOfRangeError)) say(`E ${error.stack}`);
      });
      pending.add(ended);
      ended.finally(() => pending.delete(ended));
    }
    if (pending.size > 50) await Promise.all(pending);
    if (!random.chance(pace)) continue;
    await new Promise((resolve) => setTimeout(resolve, random.int(3)));
  }
  await Promise.all(pending);
  await writer.rest();
}

// Without this a promise that nobody waits for could end the process.
const alive = setInterval(() => {}, 60_000);
const input = createInterface({ input: process.stdin });
input.on("line", async (line) => {
  try {
    if (line === "rest") resting = true;
    else if (line === "close") await writer!.close();
    else await run(JSON.parse(line) as WriterOrder);
  } catch (error) {
    say(`E ${(error as Error).stack?.replaceAll("\n", " | ")}`);
    clearInterval(alive);
    process.exit(1);
  }
});
input.once("close", () => process.exit());
