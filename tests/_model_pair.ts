/**
 * One log and the array that it is compared with, driven side by side by a
 * seeded generator.
 *
 * @module
 */

import {
  type Consumer,
  type Entry,
  IndexConflictError,
  IndexOutOfRangeError,
  openWal,
  openWalSync,
  TransactionNotPendingError,
  type Wal,
  type WalOptions,
  type WalStorage,
} from "../mod.ts";
import {
  assert,
  assertEquals,
  assertRejects,
  assertThrows,
} from "./_assert.ts";
import { sameBytes } from "./_crash_history.ts";
import { pump } from "./_crash_verdict.ts";
import { Model, type ModelEntry, type ModelRange } from "./_model.ts";
import { Random, SimulatedStorage } from "../testing/mod.ts";

/** Bytes to cut entries from: making each anew took most of the time. */
const PAYLOAD = new Random(20_261_122).bytes(256 * 1024);

/** What a log is asked for; what is named more often comes more often. */
const OPERATIONS = [
  ...["append", "append", "append", "append", "transact"] as const,
  ...["get", "get", "at", "range", "range", "iterate", "iterate"] as const,
  ...["truncateAfter", "truncateBefore", "reset", "rotate"] as const,
  ...["consume", "consume", "reopen", "conflict", "settle"] as const,
];

function checkEntry(found: Entry | undefined, expected: ModelEntry): void {
  assert(found !== undefined, `entry ${expected.index} is missing`);
  const { index, term, timestampNs, transactionId } = found;
  const { data: _, ...fields } = expected;
  assertEquals({ index, term, timestampNs, transactionId }, fields);
  assert(sameBytes(found.data, expected.data), `entry ${index} has other data`);
}

function checkEntries(found: Entry[], expected: ModelEntry[]): void {
  assertEquals(
    found.map(({ index }) => index),
    expected.map(({ index }) => index),
  );
  for (const [nth, entry] of expected.entries()) checkEntry(found[nth], entry);
}

interface Input {
  readonly data: Uint8Array;
  readonly term: number | undefined;
  readonly timestampNs: bigint;
}

/** Drives one log and the model side by side. */
export class Pair {
  readonly model: Model = new Model();
  readonly counts: Map<string, number> = new Map();
  readonly #random: Random;
  readonly #storage: WalStorage;
  readonly #format: "binary" | "json";
  #wal: Wal;
  #pending: Promise<unknown>[] = [];
  readonly #consumers = new Map<string, Consumer>();

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

  /** One random operation; then the log must say what the model says. */
  async operate(): Promise<void> {
    const random = this.#random;
    const operation = random.pick(OPERATIONS);
    this.counts.set(operation, (this.counts.get(operation) ?? 0) + 1);
    await this.#operate(operation);
    const storage = this.#storage;
    if (storage instanceof SimulatedStorage && random.chance(0.3)) {
      storage.settle(random.int(4));
    }
    this.#checkBounds();
  }

  #operate(operation: typeof OPERATIONS[number]): void | Promise<void> {
    switch (operation) {
      case "append":
        return this.#append();
      case "transact":
        return this.#transact();
      case "get":
        return this.#get();
      case "at":
        return this.#at();
      case "range":
        return this.#range();
      case "iterate":
        return this.#iterate();
      case "truncateAfter":
        return this.#truncateAfter();
      case "truncateBefore":
        return this.#truncateBefore();
      case "reset":
        return this.#reset();
      case "rotate":
        if (this.#random.chance(0.5)) return this.#wal.rotateSync();
        return this.#later(this.#wal.rotate());
      case "consume":
        return this.#consume();
      case "reopen":
        return this.#reopen();
      case "conflict":
        return this.#conflict();
      case "settle":
        return this.settle();
    }
  }

  #later(promise: Promise<unknown>): void {
    this.#pending.push(promise.catch((error: unknown) => {
      // What was taken away meanwhile is told so.
      const takenAway = error instanceof IndexOutOfRangeError &&
        error.reason !== "absent";
      if (!takenAway) throw error;
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

  #inputs(count: number): Input[] {
    const random = this.#random;
    const most = count > 5 ? 40 : random.pick([0, 30, 1500, 9000, 30_000]);
    return Array.from({ length: count }, () => ({
      data: this.#data(random.int(most + 1)),
      term: random.chance(0.5) ? random.int(1000) : undefined,
      timestampNs: BigInt(random.uint32()) * 2_000_000_001n - 2n ** 62n,
    }));
  }

  #append(): void {
    const random = this.#random;
    const count = random.pick([1, 1, 1, 2, 5, 40, 300]);
    const inputs = this.#inputs(count);
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

  #transact(): void {
    const random = this.#random;
    const wal = this.#wal;
    const inputs = this.#inputs(random.pick([0, 1, 2, 5, 40]));
    const transaction = wal.beginTransaction();
    for (const input of inputs) {
      const data = input.data.slice();
      transaction.add({ ...input, data });
      // It was copied before the call returned.
      data.fill(0xee);
    }
    assertEquals(wal.nextIndex, this.model.nextIndex);
    if (random.chance(0.2)) {
      transaction.rollback();
      assertEquals(wal.getTransactionState(transaction.id), "aborted");
      return;
    }
    const expected = this.model.append(inputs, transaction.id);
    if (random.chance(0.5)) {
      assertEquals(transaction.commitSync(), expected);
    } else {
      const written = transaction.commit();
      this.#later(written.then((indexes) => assertEquals(indexes, expected)));
    }
    assertEquals(wal.getTransactionState(transaction.id), "committed");
    assertThrows(() => transaction.commitSync(), TransactionNotPendingError);
    assertEquals(wal.activeTransactionCount, 0);
  }

  #data(bytes: number): Uint8Array {
    const from = this.#random.int(PAYLOAD.length - bytes);
    return PAYLOAD.slice(from, from + bytes);
  }

  /** Mostly an index that exists. */
  #index(): number {
    const random = this.#random;
    const { length, base, nextIndex } = this.model;
    return random.chance(0.9) && length > 0
      ? random.between(base, nextIndex - 1)
      : base - 1 +
        random.pick([0, -1, length, length + 1, length + 2, 2 ** 40]);
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

  #truncateAfter(): void {
    const random = this.#random;
    const { length, base, nextIndex } = this.model;
    const back = random.pick([0, 1, 2, 10, 100, length, length + 1, -1]);
    const index = nextIndex - 1 - back;
    const wal = this.#wal;
    if (index < base - 1 || index >= nextIndex) {
      const truncate = () => wal.truncateAfterSync(index);
      assertThrows(truncate, IndexOutOfRangeError);
      return;
    }
    this.model.truncateAfter(index);
    if (random.chance(0.5)) wal.truncateAfterSync(index);
    else this.#later(wal.truncateAfter(index));
  }

  #truncateBefore(): void {
    const random = this.#random;
    const { length, base, nextIndex } = this.model;
    const ahead = random.pick([-1, 0, 1, 2, 10, 100, length, length + 1]);
    const index = base + ahead;
    const wal = this.#wal;
    if (index > nextIndex) {
      const truncate = () => wal.truncateBeforeSync(index);
      assertThrows(truncate, IndexOutOfRangeError);
      return;
    }
    this.model.truncateBefore(index);
    if (random.chance(0.5)) wal.truncateBeforeSync(index);
    else this.#later(wal.truncateBefore(index));
  }

  #reset(): void {
    const random = this.#random;
    const wal = this.#wal;
    // Most logs shall grow meanwhile.
    if (random.chance(0.6)) return;
    const { nextIndex } = this.model;
    const next = random.pick([1, nextIndex, nextIndex + 100, 0, 17]);
    if (next < 1) {
      assertThrows(() => wal.resetSync(next), IndexOutOfRangeError);
      return;
    }
    this.model.reset(next);
    if (random.chance(0.5)) wal.resetSync(next);
    else this.#later(wal.reset(next));
  }

  /** Opens a consumer, or goes on with it, and moves it. */
  async #consume(): Promise<void> {
    const random = this.#random;
    const name = random.pick(["a", "b", "c.d"]);
    const { positions, base, nextIndex } = this.model;
    let consumer = this.#consumers.get(name);
    if (consumer === undefined) {
      const from = random.pick(["start", "end", nextIndex, base] as const);
      const begins = from === "start"
        ? base
        : from === "end"
        ? nextIndex
        : from;
      if (!positions.has(name)) positions.set(name, begins - 1);
      consumer = await this.#wait(this.#wal.consumer(name, { from }));
      this.#consumers.set(name, consumer);
    }
    const what = random.pick(["ack", "ack", "ack", "seek", "let go", "remove"]);
    const index = random.between(base - 2, nextIndex);
    const position = positions.get(name)!;
    if (what === "ack" && index >= nextIndex) {
      await this.#refused(consumer.ack(index));
    } else if (what === "ack") {
      positions.set(name, Math.max(position, index));
      await this.#wait(consumer.ack(index));
    } else if (what === "seek" && (index < base - 1 || index >= nextIndex)) {
      await this.#refused(consumer.seek(index));
    } else if (what === "seek") {
      positions.set(name, index);
      await this.#wait(consumer.seek(index));
    } else {
      this.#consumers.delete(name);
      if (what === "remove") {
        positions.delete(name);
        await this.#wait(consumer.remove());
      } else await this.#wait(consumer[Symbol.asyncDispose]());
    }
  }

  async #refused(promise: Promise<void>): Promise<void> {
    await assertRejects(() => this.#wait(promise), IndexOutOfRangeError);
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
    this.#consumers.clear();
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
    assertEquals(this.#wal.consumers(), model.consumers());
    const { durableIndex } = this.#wal;
    assert(durableIndex <= lastIndex, `${durableIndex} is durable`);
  }

  /** Compares everything, and closes. */
  async end(): Promise<void> {
    await this.settle();
    checkEntries([...this.#wal], this.model.range({}));
    await this.#wait(this.#wal.close());
  }
}
