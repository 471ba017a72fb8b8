/**
 * random operations against a plain array, on memory and on a simulated
 * disk with and without mapping.
 *
 * The budget counts operations on each log; a new log begins after every
 * 2 000. WALRUS_MODEL_ROUND plays one of these logs only.
 *
 * @module
 */

import { test } from "node:test";
import process from "node:process";
import {
  type Entry,
  IndexConflictError,
  IndexOutOfRangeError,
  memoryStorage,
  openWal,
  openWalSync,
  type Wal,
  type WalOptions,
  type WalStorage,
} from "../mod.ts";
import { assert, assertEquals, assertThrows } from "./_assert.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import { sameBytes } from "./_crash_history.ts";
import { pump } from "./_crash_verdict.ts";
import { Model, type ModelEntry, type ModelRange } from "./_model.ts";
import { Random, SimulatedStorage } from "../testing/mod.ts";

const FILE = "tests/model_test.ts";
const OPERATIONS = budgetOf({ smoke: 2000, long: 1_000_000 });
const SEED = seedOf();
/** A log lives for so long: what goes wrong is found near its beginning. */
const ROUND_OPERATIONS = 2000;
const ONLY = process.env.WALRUS_MODEL_ROUND;
/** Bytes to cut entries from: making each anew took most of the time. */
const PAYLOAD = new Random(20_261_122).bytes(256 * 1024);

/** A simulated disk whose syncs end when the test lets them. */
function disk(mapped: boolean): SimulatedStorage {
  return new SimulatedStorage({ seed: SEED, mapped, writeback: 0 });
}

const STORAGES: readonly [string, () => WalStorage][] = [
  ["memory", memoryStorage],
  ["simulated, mapped", () => disk(true)],
  ["simulated, files", () => disk(false)],
];

function checkEntry(found: Entry | undefined, expected: ModelEntry): void {
  assert(found !== undefined, `entry ${expected.index} is missing`);
  const { index, term, timestampNs } = found;
  assertEquals(
    { index, term, timestampNs },
    {
      index: expected.index,
      term: expected.term,
      timestampNs: expected.timestampNs,
    },
  );
  assert(sameBytes(found.data, expected.data), `entry ${index} has other data`);
}

function checkEntries(found: Entry[], expected: ModelEntry[]): void {
  assertEquals(
    found.map(({ index }) => index),
    expected.map(({ index }) => index),
  );
  for (const [nth, entry] of expected.entries()) checkEntry(found[nth], entry);
}

/** Drives one log and the model side by side. */
class Pair {
  readonly model = new Model();
  readonly counts = new Map<string, number>();
  readonly #random: Random;
  readonly #storage: WalStorage;
  readonly #format: "binary" | "json";
  #wal: Wal;
  #pending: Promise<unknown>[] = [];

  constructor(random: Random, storage: WalStorage, format: "binary" | "json") {
    this.#random = random;
    this.#storage = storage;
    this.#format = format;
    this.#wal = openWalSync("model", this.#options());
  }

  #options(): WalOptions {
    return {
      storage: this.#storage,
      format: this.#format,
      segmentBytes: this.#random.pick([65536, 131072]),
      sync: this.#random.pick(["always", "interval", "never"] as const),
    };
  }

  async operate(): Promise<void> {
    const random = this.#random;
    const operation = random.pick(
      [
        "append",
        "append",
        "append",
        "append",
        "get",
        "get",
        "at",
        "range",
        "range",
        "iterate",
        "iterate",
        "truncate",
        "rotate",
        "reopen",
        "conflict",
        "settle",
      ] as const,
    );
    this.counts.set(operation, (this.counts.get(operation) ?? 0) + 1);
    switch (operation) {
      case "append":
        this.#append();
        break;
      case "get":
        this.#get();
        break;
      case "at":
        this.#at();
        break;
      case "range":
        this.#range();
        break;
      case "iterate":
        this.#iterate();
        break;
      case "truncate":
        this.#truncate();
        break;
      case "rotate":
        if (random.chance(0.5)) this.#wal.rotateSync();
        else this.#later(this.#wal.rotate());
        break;
      case "reopen":
        await this.#reopen();
        break;
      case "conflict":
        this.#conflict();
        break;
      case "settle":
        await this.settle();
    }
    const storage = this.#storage;
    if (storage instanceof SimulatedStorage && random.chance(0.3)) {
      storage.settle(random.int(4));
    }
    this.#checkBounds();
  }

  #later(promise: Promise<unknown>): void {
    this.#pending.push(promise.catch((error: unknown) => {
      // What a later truncation removed is told so.
      const truncated = error instanceof IndexOutOfRangeError &&
        error.reason === "truncated";
      if (!truncated) throw error;
    }));
  }

  /** Waits for a promise, and lets syncs of a simulated disk end. */
  async #wait<T>(promise: Promise<T>): Promise<T> {
    const storage = this.#storage;
    if (!(storage instanceof SimulatedStorage)) return await promise;
    return await pump(storage, promise);
  }

  /** Every promise so far has settled as it should. */
  async settle(): Promise<void> {
    await this.#wait(Promise.all(this.#pending.splice(0)));
  }

  #append(): void {
    const random = this.#random;
    const count = random.pick([1, 1, 1, 2, 5, 40, 300]);
    const most = count > 5 ? 40 : random.pick([0, 30, 1500, 9000, 30_000]);
    const inputs = Array.from({ length: count }, () => ({
      data: this.#data(random.int(most + 1)),
      term: random.chance(0.5) ? random.int(1000) : undefined,
      timestampNs: BigInt(random.uint32()) * 2_000_000_001n - 2n ** 62n,
    }));
    const expected = this.model.append(inputs);
    const wal = this.#wal;
    const only = inputs[0]!;
    if (random.chance(0.5)) {
      const indexes = count === 1
        ? [wal.appendSync(only)]
        : wal.appendBatchSync(inputs);
      assertEquals(indexes, expected);
      return;
    }
    const written = count === 1
      ? wal.append(only).then((index) => [index])
      : wal.appendBatch(inputs);
    this.#later(written.then((indexes) => assertEquals(indexes, expected)));
    // The data was copied before the call returned.
    for (const { data } of inputs) data.fill(0xee);
  }

  #data(bytes: number): Uint8Array {
    const from = this.#random.int(PAYLOAD.length - bytes);
    return PAYLOAD.slice(from, from + bytes);
  }

  /** Mostly an index that exists. */
  #index(): number {
    const random = this.#random;
    const { length } = this.model;
    return random.chance(0.9) && length > 0
      ? random.between(1, length)
      : random.pick([0, -1, length, length + 1, length + 2, 2 ** 40]);
  }

  #get(): void {
    const index = this.#index();
    const expected = this.model.at(index);
    if (expected !== undefined) checkEntry(this.#wal.get(index), expected);
    else assertThrows(() => this.#wal.get(index), IndexOutOfRangeError);
  }

  #at(): void {
    const index = this.#index();
    const expected = this.model.at(index);
    const found = this.#wal.at(index);
    if (expected === undefined) assertEquals(found, undefined);
    else checkEntry(found, expected);
  }

  #range(): void {
    const first = this.#index();
    const last = this.#random.chance(0.8)
      ? first + this.#random.int(50)
      : this.#index();
    if (first > last) {
      const range = () => this.#wal.getRange(first, last);
      assertThrows(range, IndexOutOfRangeError);
      return;
    }
    const expected = this.model.range({ from: first, to: last });
    checkEntries(this.#wal.getRange(first, last), expected);
  }

  #iterate(): void {
    const random = this.#random;
    const range: { -readonly [key in keyof ModelRange]: ModelRange[key] } = {};
    if (random.chance(0.6)) range.from = this.#index();
    if (random.chance(0.4)) range.to = this.#index();
    if (random.chance(0.5)) range.reverse = random.chance(0.8);
    // Long walks are rare: they cost most of the time.
    if (random.chance(0.9)) range.limit = random.pick([0, 1, 7, 60]);
    const expected = this.model.range(range);
    checkEntries([...this.#wal.entries(range)], expected);
  }

  #truncate(): void {
    const random = this.#random;
    const { length } = this.model;
    const back = random.pick([0, 1, 2, 10, 100, length, length + 1, -1]);
    const index = length - back;
    const wal = this.#wal;
    if (index < 0 || index > length) {
      const truncate = () => wal.truncateAfterSync(index);
      assertThrows(truncate, IndexOutOfRangeError);
      return;
    }
    this.model.truncateAfter(index);
    if (random.chance(0.5)) wal.truncateAfterSync(index);
    else this.#later(wal.truncateAfter(index));
  }

  #conflict(): void {
    const { nextIndex } = this.model;
    const expectedIndex = nextIndex + this.#random.pick([-1, 1, 7]);
    assertThrows(
      () => this.#wal.appendSync("no", { expectedIndex }),
      IndexConflictError,
    );
  }

  async #reopen(): Promise<void> {
    const blocking = this.#random.chance(0.5);
    if (blocking) this.#wal.closeSync();
    else await this.#wait(this.#wal.close());
    await this.settle();
    this.#wal = this.#random.chance(0.5)
      ? openWalSync("model", this.#options())
      : await this.#wait(openWal("model", this.#options()));
    assertEquals(this.#wal.recovery.outcome, "clean");
    assertEquals(this.#wal.recovery.segmentsScanned, 0);
  }

  #checkBounds(): void {
    const { firstIndex, lastIndex, nextIndex, length } = this.#wal;
    const { model } = this;
    assertEquals(
      { firstIndex, lastIndex, nextIndex, length },
      {
        firstIndex: model.firstIndex,
        lastIndex: model.lastIndex,
        nextIndex: model.nextIndex,
        length: model.length,
      },
    );
  }

  /** Compares everything, and closes. */
  async end(): Promise<void> {
    await this.settle();
    checkEntries([...this.#wal], this.model.range({}));
    await this.#wait(this.#wal.close());
  }
}

/** Plays one log; the operations that it saw. */
async function play(
  make: () => WalStorage,
  format: "binary" | "json",
  round: number,
  random: Random,
  count: number,
): Promise<Pair> {
  const pair = new Pair(random, make(), format);
  let nth = 0;
  try {
    for (; nth < count; nth++) await pair.operate();
    await pair.end();
  } catch (error) {
    const { message } = error as Error;
    const again = replay(FILE, 1, `WALRUS_MODEL_ROUND=${round}`);
    throw new Error(`A-5 operation ${nth + 1}: ${message}\n${again}`, {
      cause: error,
    });
  }
  return pair;
}

for (const [nth, [name, make]] of STORAGES.entries()) {
  for (const format of ["binary", "json"] as const) {
    const title = `A-5 a log answers as an array does: ${name}, ${format}`;
    test(title, { timeout: 86_400_000 }, async () => {
      const wanted = format === "binary"
        ? OPERATIONS
        : Math.ceil(OPERATIONS / 4);
      const rounds = Math.ceil(wanted / ROUND_OPERATIONS);
      const counts = new Map<string, number>();
      let entries = 0;
      for (let round = 0; round < rounds; round++) {
        if (ONLY !== undefined && round !== Number(ONLY)) continue;
        const left = wanted - round * ROUND_OPERATIONS;
        const count = Math.min(ROUND_OPERATIONS, left);
        const stream = 10 * nth + (format === "json" ? 1 : 0);
        const random = new Random(SEED, stream, round);
        const pair = await play(make, format, round, random, count);
        for (const [operation, times] of pair.counts) {
          counts.set(operation, (counts.get(operation) ?? 0) + times);
        }
        entries += pair.model.length;
      }
      const shown = [...counts].map((one) => one.join(" ")).join(", ");
      console.log(
        `A-5 ${name}, ${format}: seed ${SEED}, ${rounds} logs, ${wanted} ` +
          `operations (${shown}), ${entries} entries at the ends`,
      );
    });
  }
}
