import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import {
  type Consumer,
  type ConsumerOptions,
  IndexOutOfRangeError,
  openWalSync,
  type Wal,
  WalClosedError,
  WalError,
  WalFailedError,
  WalLockedError,
} from "../mod.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import {
  entries,
  inFolder,
  isSettled,
  listFiles,
  onEach,
  onEachTwin,
  type Place,
  REAL,
  settled,
  simulatedPlace,
  startWriter,
  texts,
  turn,
} from "./_wal.ts";
import { temporaryFolder, THIS } from "./_storages.ts";

/** Where the consumers of a log stand, by name. */
function standings(wal: Wal): Record<string, number> {
  return Object.fromEntries(
    wal.consumers().map(({ name, position }) => [name, position]),
  );
}

/** The names in the folder of the consumers, sorted. */
function consumerFiles(place: Place): string[] {
  if (!listFiles(place)!.includes("consumers")) return [];
  return inFolder(
    place,
    (folder) =>
      folder.list("consumers").map(({ name }) => name)
        .filter((name) => !/^\..*\.lock(\.owner)?$/.test(name)).sort(),
  );
}

/** A log of so many entries, and a new consumer. */
async function withConsumer(
  place: Place,
  count: number,
  options?: ConsumerOptions,
): Promise<{ wal: Wal; consumer: Consumer }> {
  const wal = await place.open();
  if (count > 0) await wal.appendBatch(entries(count));
  return { wal, consumer: await wal.consumer("worker", options) };
}

/** All orders of some things. */
function permutations<T>(things: readonly T[]): T[][] {
  if (things.length < 2) return [[...things]];
  return things.flatMap((thing, nth) =>
    permutations(things.toSpliced(nth, 1)).map((rest) => [thing, ...rest])
  );
}

describe("Wal.consumer()", () => {
  onEach("a new consumer gets every entry there is", async (place) => {
    const { wal, consumer } = await withConsumer(place, 3);
    assertEquals([consumer.name, consumer.position, consumer.lag], [
      "worker",
      0,
      3,
    ]);
    assertEquals(wal.consumers(), [{ name: "worker", position: 0, lag: 3 }]);
    assertEquals(consumerFiles(place), ["worker"]);
    await wal.append("four");
    assertEquals(consumer.lag, 4);
    await wal.close();
    await using again = await place.open();
    assertEquals(standings(again), { worker: 0 });
  });

  onEachTwin("a position is kept", async (place, twin) => {
    const { wal, consumer } = await withConsumer(place, 5);
    await consumer.ack(3);
    assertEquals([consumer.position, consumer.lag], [3, 2]);
    await twin.close(wal);
    const again = await twin.open(place);
    assertEquals(again.recovery.outcome, "clean");
    assertEquals(again.consumers(), [{ name: "worker", position: 3, lag: 2 }]);
    const same = await again.consumer("worker");
    assertEquals([same.position, same.lag], [3, 2]);
    await same.ack(4);
    await twin.close(again);
    await using last = await twin.open(place);
    assertEquals(standings(last), { worker: 4 });
    assertEquals(texts(last), entries(5));
  });

  onEach("`from` says where a new one begins", async (place) => {
    await using wal = await place.open();
    await wal.appendBatch(entries(9));
    await wal.truncateBefore(4);
    const begin = async (from: ConsumerOptions["from"], name: string) =>
      (await wal.consumer(name, { from })).position;
    assertEquals(await begin(undefined, "a"), 3);
    assertEquals(await begin("start", "b"), 3);
    assertEquals(await begin("end", "c"), 9);
    assertEquals(await begin(4, "d"), 3);
    assertEquals(await begin(7, "e"), 6);
    assertEquals(await begin(10, "f"), 9);
    assertEquals((await wal.consumer("g", {})).position, 3);
    for (const from of [3, 0, -1, 11, Number.MAX_SAFE_INTEGER]) {
      const error = await assertRejects(
        () => wal.consumer("h", { from }),
        IndexOutOfRangeError,
        `${from}`,
      );
      assertEquals([error.index, error.firstIndex, error.lastIndex], [
        from,
        4,
        9,
      ]);
      assertEquals(error.reason, from === 3 ? "removed" : "absent");
    }
    assertFalse(consumerFiles(place).includes("h"));
    assertEquals(Object.keys(standings(wal)).length, 7);
  });

  onEach("`from` on an empty log", async (place) => {
    await using wal = await place.open();
    await wal.reset(50);
    for (const [name, from] of [["a", "start"], ["b", "end"], ["c", 50]]) {
      const consumer = await wal.consumer(name as string, {
        from: from as number,
      });
      assertEquals([consumer.position, consumer.lag], [49, 0]);
    }
    await assertRejects(
      () => wal.consumer("d", { from: 51 }),
      IndexOutOfRangeError,
    );
    await assertRejects(
      () => wal.consumer("d", { from: 49 }),
      IndexOutOfRangeError,
    );
  });

  onEach("`from` means nothing to a consumer that is there", async (place) => {
    const { wal, consumer } = await withConsumer(place, 9);
    await consumer.ack(5);
    for (const from of ["start", "end", 2, 9999] as const) {
      await consumer[Symbol.asyncDispose]();
      await using same = await wal.consumer("worker", { from });
      assertEquals(same.position, 5);
    }
    await wal.close();
  });

  it("wrong options change nothing", async () => {
    const place = simulatedPlace(1, { autoSettle: true });
    await using wal = await place.open();
    await wal.append("one");
    for (const options of [null, 1, "start", true, () => {}]) {
      await assertRejects(
        () => wal.consumer("a", options as ConsumerOptions),
        TypeError,
        "Cannot open consumer: options is",
      );
    }
    await assertRejects(
      () => wal.consumer("a", { form: 1 } as ConsumerOptions),
      TypeError,
      "form",
    );
    for (const from of [null, 1n, true, {}, []]) {
      await assertRejects(
        () => wal.consumer("a", { from: from as unknown as number }),
        TypeError,
        "from is",
      );
    }
    for (const from of ["", "START", "middle", 1.5, NaN, Infinity]) {
      await assertRejects(
        () => wal.consumer("a", { from: from as number }),
        RangeError,
        "from is",
      );
    }
    assertEquals(wal.consumers(), []);
    assertFalse(listFiles(place)!.includes("consumers"));
    // Unknown to a consumer that is there, too.
    await (await wal.consumer("a"))[Symbol.asyncDispose]();
    await assertRejects(
      () => wal.consumer("a", { from: "middle" as "end" }),
      RangeError,
    );
    assertEquals((await wal.consumer("a")).position, 0);
  });

  onEach("[F54] names: 1 to 64 characters of a few", async (place) => {
    await using wal = await place.open();
    await wal.append("one");
    const good = ["a", "Z-9_x.y", "a.tmp", "-", "_", "0", "x".repeat(64)];
    for (const name of good) {
      const consumer = await wal.consumer(name);
      await consumer.ack(1);
      assertStrictEquals(consumer.name, name);
    }
    assertEquals(consumerFiles(place), good.toSorted());
    assertEquals(wal.consumers().map(({ name }) => name), good.toSorted());
    const bad = [
      "",
      ".",
      "..",
      ".a",
      "a/b",
      "../a",
      "/a",
      "a\0b",
      "a b",
      "ä",
      "a\n",
      "x".repeat(65),
      "x".repeat(300),
    ];
    for (const name of bad) {
      const error = await assertRejects(
        () => wal.consumer(name),
        RangeError,
        "Cannot open consumer: name is",
      );
      assertStringIncludes(error.message, "expected 1 to 64 of");
    }
    for (const name of [undefined, null, 1, Symbol.iterator, {}, ["a"]]) {
      await assertRejects(
        () => wal.consumer(name as string),
        TypeError,
        "Cannot open consumer: name is",
      );
    }
    assertEquals(consumerFiles(place), good.toSorted());
  });

  onEach("a consumer is open once", async (place) => {
    const { wal, consumer } = await withConsumer(place, 3);
    const error = await assertRejects(
      () => wal.consumer("worker"),
      WalLockedError,
      'Cannot open consumer "worker"',
    );
    assertEquals([error.code, error.pid], ["LOCKED", undefined]);
    await consumer.ack(2);
    await consumer[Symbol.asyncDispose]();
    const again = await wal.consumer("worker");
    assertEquals(again.position, 2);
    await assertRejects(() => wal.consumer("worker"), WalLockedError);
    // The old one cannot be used any more, and frees nothing twice.
    await consumer[Symbol.asyncDispose]();
    await assertRejects(() => wal.consumer("worker"), WalLockedError);
    await assertRejects(() => consumer.ack(3), WalClosedError);
    assertEquals(again.position, 2);
    await wal.close();
  });

  it("a name is taken while its consumer is being made or let go", async () => {
    const place = simulatedPlace();
    const { disk } = place;
    const wal = place.openSync();
    wal.appendBatchSync(entries(3));
    const first = wal.consumer("worker");
    await assertRejects(() => wal.consumer("worker"), WalLockedError);
    const consumer = await settled(disk, first);
    const acked = consumer.ack(2);
    const disposed = consumer[Symbol.asyncDispose]();
    assertFalse(await isSettled(disposed), "an ack is under way");
    await assertRejects(() => wal.consumer("worker"), WalLockedError);
    await settled(disk, disposed);
    await acked;
    const again = await settled(disk, wal.consumer("worker"));
    assertEquals(again.position, 2);
    const removed = again.remove();
    await assertRejects(() => wal.consumer("worker"), WalLockedError);
    await settled(disk, removed);
    const fresh = await settled(disk, wal.consumer("worker"));
    assertEquals(fresh.position, 0);
    wal.closeSync();
  });

  it("a name is free again when making its consumer failed", async () => {
    const place = simulatedPlace(1, { autoSettle: true });
    const { disk } = place;
    const wal = place.openSync();
    wal.appendBatchSync(entries(3));
    const faults = ["makeFolder", "create", "write", "syncSoon", "rename"];
    for (const operation of faults) {
      disk.failNext(operation as "any", "EIO");
      await assertRejects(() => wal.consumer("worker"), WalError, "EIO");
      assertEquals(wal.state, "open", operation);
      assertEquals(consumerFiles(place), [], operation);
      assertEquals(wal.consumers(), [], operation);
    }
    const consumer = await wal.consumer("worker");
    await consumer.ack(1);
    await wal.close();
    using again = place.openSync();
    assertEquals(standings(again), { worker: 1 });
  });

  onEach("after close every call says so", async (place) => {
    const { wal, consumer } = await withConsumer(place, 3);
    await consumer.ack(2);
    await wal.close();
    for (
      const call of [
        () => wal.consumer("worker"),
        () => wal.consumer("other"),
        () => consumer.ack(3),
        () => consumer.ack(1),
        () => consumer.seek(1),
        () => consumer.remove(),
      ]
    ) {
      const error = await assertRejects(call, WalClosedError);
      assertEquals(error.code, "CLOSED");
    }
    assertThrows(() => wal.consumers(), WalClosedError);
    assertEquals([consumer.name, consumer.position], ["worker", 2]);
    assertEquals(consumer.lag, 1);
    await consumer[Symbol.asyncDispose]();
    assertEquals(consumerFiles(place), ["worker"]);
  });

  it("getters of the options that close the log find it closed", async () => {
    const place = simulatedPlace(1, { autoSettle: true });
    const wal = place.openSync();
    const options = {
      get from(): "start" {
        wal.closeSync();
        return "start";
      },
    };
    await assertRejects(() => wal.consumer("worker", options), WalClosedError);
    assertFalse(listFiles(place)!.includes("consumers"));
    place.openSync().closeSync();
  });
});

describe("Consumer: a failed log", () => {
  for (const name of ["consumers/worker", ".wal.tmp"]) {
    it(`a failed sync of ${name} fails the log, once and for all`, async () => {
      const place = simulatedPlace(1, { autoSettle: true });
      const { disk } = place;
      const { wal, consumer } = await withConsumer(place, 3);
      await consumer.ack(1);
      disk.failNext("syncSoon", "EIO", { name });
      const call = name === ".wal.tmp"
        ? [wal.append("four"), consumer.ack(2)]
        : [consumer.ack(2), wal.flush()];
      const error = await assertRejects(() => call[0]!, WalFailedError, "EIO");
      assertEquals(error.code, "FAILED");
      await assertRejects(() => consumer.ack(3), WalFailedError);
      await Promise.allSettled(call);
      await assertRejects(() => consumer.seek(1), WalFailedError);
      await assertRejects(() => consumer.remove(), WalFailedError);
      await assertRejects(() => wal.consumer("other"), WalFailedError);
      // What is known stays readable.
      assertEquals(wal.state, "failed");
      assertEquals(consumer.position, 1);
      assertEquals(standings(wal), { worker: 1 });
      await consumer[Symbol.asyncDispose]();
      await assertRejects(() => wal.close(), WalFailedError);
      using again = place.openSync();
      assertEquals(Object.keys(standings(again)), ["worker"]);
      const { worker = -1 } = standings(again);
      assert(worker === 1 || worker === 2, `stands at ${worker}`);
    });
  }

  it("a failed write of a position takes nothing back", async () => {
    for (let seed = 1; seed <= 10; seed++) {
      const place = simulatedPlace(seed, { autoSettle: true });
      const { disk } = place;
      const { wal, consumer } = await withConsumer(place, 5);
      await consumer.ack(1);
      await consumer.ack(2);
      disk.failNext("write", "EIO", { name: "consumers/worker" });
      const acks = [consumer.ack(3), consumer.ack(4), consumer.ack(5)];
      let least = 2;
      for (
        const [nth, { status }] of (await Promise.allSettled(acks)).entries()
      ) {
        if (status === "fulfilled") least = 3 + nth;
      }
      assertGreaterOrEqual(consumer.position, least);
      const died = disk.fork();
      for (const found of [died, disk.crash()]) {
        using again = openWalSync(place.path, { storage: found });
        const { worker = -1 } = standings(again);
        assertGreaterOrEqual(worker, least, `seed ${seed}`);
      }
      assertEquals(wal.state, "failed");
    }
  });
});

describe("Consumer.ack()", () => {
  onEach("is cumulative and never moves back", async (place) => {
    const { wal, consumer } = await withConsumer(place, 9);
    await consumer.ack(4);
    for (const index of [4, 3, 1, 0, -1, -1000]) {
      await consumer.ack(index);
      assertEquals(consumer.position, 4);
    }
    await consumer.ack(9);
    assertEquals([consumer.position, consumer.lag], [9, 0]);
    await wal.close();
  });

  onEach("above the last index is refused", async (place) => {
    const { wal, consumer } = await withConsumer(place, 3);
    await consumer.ack(1);
    for (const index of [4, 5, Number.MAX_SAFE_INTEGER]) {
      const error = await assertRejects(
        () => consumer.ack(index),
        IndexOutOfRangeError,
        `Cannot acknowledge entry ${index}`,
      );
      assertEquals([error.index, error.firstIndex, error.lastIndex], [
        index,
        1,
        3,
      ]);
      assertEquals(error.reason, "absent");
    }
    assertEquals(consumer.position, 1);
    await consumer.ack(3);
    await wal.truncateAfter(0);
    const error = await assertRejects(
      () => consumer.ack(1),
      IndexOutOfRangeError,
    );
    assertEquals([error.firstIndex, error.lastIndex], [0, 0]);
    assertEquals(consumer.position, 0);
    await wal.close();
  });

  onEach("of what is no index is refused", async (place) => {
    const { wal, consumer } = await withConsumer(place, 3);
    for (const call of ["ack", "seek"] as const) {
      for (const index of ["1", 1n, null, undefined, {}, [1]]) {
        await assertRejects(
          () => consumer[call](index as number),
          TypeError,
          "index is",
        );
      }
      for (const index of [1.5, NaN, Infinity, -Infinity, 2 ** 53]) {
        await assertRejects(() => consumer[call](index), RangeError);
      }
    }
    assertEquals(consumer.position, 0);
    await wal.close();
  });

  onEach("of an entry that was removed from the front", async (place) => {
    const { wal, consumer } = await withConsumer(place, 9);
    await wal.truncateBefore(7);
    assertEquals([consumer.position, consumer.lag], [0, 3]);
    await consumer.ack(4);
    assertEquals([consumer.position, consumer.lag], [4, 3]);
    await consumer.ack(7);
    assertEquals([consumer.position, consumer.lag], [7, 2]);
    await wal.truncateBefore(10);
    assertEquals([consumer.position, consumer.lag], [7, 0]);
    await wal.close();
  });

  it("any order in one tick: the highest counts, with one write", async () => {
    for (const order of permutations([2, 5, 7, 9])) {
      const place = simulatedPlace(1, { autoSettle: true });
      const { wal, consumer } = await withConsumer(place, 9);
      const calls: string[] = [];
      place.disk.onCall(({ operation, name }) => {
        if (name.endsWith("consumers/worker")) calls.push(operation);
      });
      await Promise.all(order.map(async (index) => {
        await consumer.ack(index);
        assertGreaterOrEqual(consumer.position, index, `of ${order}`);
      }));
      assertEquals(consumer.position, 9);
      const syncs = calls.filter((call) => call !== "open");
      assertEquals(syncs, ["write", "syncSoon"], `${order}`);
      place.disk.onCall(undefined);
      using again = openWalSync(place.path, { storage: place.disk.crash() });
      assertEquals(standings(again), { worker: 9 });
      assertEquals(wal.nextIndex, 10);
    }
  });

  for (const durable of [true, false]) {
    const what = durable ? "durable entries" : "entries on their way";
    it(`ack and seek in one tick are as one after the other: ${what}`, async () => {
      const moves = ["ack 3", "ack 8", "seek 2", "seek 6"];
      for (const order of permutations(moves)) {
        const place = simulatedPlace(1, { autoSettle: true });
        const wal = place.openSync();
        wal.appendBatchSync(entries(4));
        const consumer = await wal.consumer("worker");
        await consumer.ack(4);
        wal.appendBatchSync(entries(5, 5), { durable });
        let expected = 4;
        const settling = order.map((move) => {
          const [call, text] = move.split(" ") as ["ack" | "seek", string];
          const index = Number(text);
          expected = call === "seek" ? index : Math.max(expected, index);
          return consumer[call](index);
        });
        await Promise.all(settling);
        assertEquals(consumer.position, expected, `${order}`);
        using again = openWalSync(place.path, { storage: place.disk.crash() });
        assertEquals(standings(again), { worker: expected }, `${order}`);
      }
    });
  }

  it("makes the entry durable before its position is written", async () => {
    const place = simulatedPlace();
    const { disk } = place;
    const wal = place.openSync({ sync: "never" });
    const consumer = await settled(disk, wal.consumer("worker"));
    for (const text of entries(3)) wal.appendSync(text);
    const calls: string[] = [];
    disk.onCall(({ operation, name }) => {
      // Only what can change the disk counts.
      if (operation === "open") return;
      calls.push(`${operation} ${name.replace(/.*\//, "")}`);
    });
    const acked = consumer.ack(3);
    await turn();
    const segment = "segment_00000000000000000001.wal.tmp";
    assertEquals(calls, [`syncSoon ${segment}`]);
    assertEquals(wal.durableIndex, 0);
    disk.settle();
    await turn();
    assertEquals(wal.durableIndex, 3);
    const after = calls.slice(1).filter((call) => !call.startsWith("open"));
    assertEquals(after, ["write worker", "syncSoon worker"]);
    assertFalse(await isSettled(acked), "its sync is under way");
    assertEquals(consumer.position, 0, "no promise before");
    disk.settle();
    await acked;
    assertEquals([consumer.position, wal.durableIndex], [3, 3]);
    wal.closeSync();
  });

  it("of a durable entry syncs the position and nothing else", async () => {
    const place = simulatedPlace(1, { autoSettle: true });
    const { disk } = place;
    const { wal, consumer } = await withConsumer(place, 5);
    await wal.flush();
    await consumer.ack(1);
    const calls: string[] = [];
    disk.onCall(({ operation, name }) => {
      calls.push(`${operation} ${name.replace(/.*\//, "")}`);
    });
    for (const index of [2, 3, 4]) await consumer.ack(index);
    const one = ["write worker", "syncSoon worker"];
    assertEquals(calls, [...one, ...one, ...one]);
    await consumer.ack(4);
    assertEquals(calls.length, 6, "at its position it does nothing");
    await wal.close();
  });

  it("joins the round of appends that wait anyway", async () => {
    const place = simulatedPlace(1, { autoSettle: true });
    const { wal, consumer } = await withConsumer(place, 9);
    await consumer.ack(1);
    const { syncCount } = wal.stats();
    await Promise.all([wal.append("x"), consumer.ack(2), wal.append("y")]);
    assertEquals(wal.stats().syncCount, syncCount + 2, "segment and position");
    await wal.close();
  });

  it("[F56] a record is left alone while a sync of it is under way", async () => {
    const place = simulatedPlace();
    const { disk } = place;
    const wal = place.openSync();
    wal.appendBatchSync(entries(9));
    const consumer = await settled(disk, wal.consumer("worker"));
    const peek = () => disk.peek("/log/consumers/worker")!;
    for (let index = 1; index <= 6; index += 2) {
      const first = consumer.ack(index);
      await turn();
      assertEquals(disk.pendingSyncs, 1);
      const under = peek();
      const second = consumer.ack(index + 1);
      await turn();
      assertEquals(peek(), under, "neither record may change");
      disk.settle();
      await first;
      assertEquals(consumer.position, index);
      // Torn right after the promise: the record that was synced is whole.
      await turn();
      const image = disk.image({ pages: () => "torn", garbage: "none" });
      using again = openWalSync(place.path, { storage: image });
      assertGreaterOrEqual(standings(again).worker!, index);
      disk.settle();
      await second;
    }
    wal.closeSync();
  });

  it("[F56] a blocking sync beside one under way keeps both records", async () => {
    const place = simulatedPlace();
    const { disk } = place;
    const wal = place.openSync();
    wal.appendBatchSync(entries(9));
    const consumer = await settled(disk, wal.consumer("worker"));
    for (let index = 1; index <= 7; index += 3) {
      const first = consumer.ack(index);
      await turn();
      assertEquals(disk.pendingSyncs, 1);
      const second = consumer.ack(index + 1);
      wal.flushSync();
      const third = consumer.ack(index + 2);
      wal.flushSync();
      // All of it is on the disk, though the first sync has not returned.
      const image = disk.image({ pages: () => "old", names: () => true });
      const found = openWalSync(place.path, { storage: image });
      assertEquals(standings(found), { worker: index + 2 });
      found.closeSync();
      await settled(disk, Promise.all([first, second, third]));
      assertEquals(consumer.position, index + 2);
    }
    wal.closeSync();
  });
});

describe("Consumer.seek()", () => {
  onEach("moves back and forth, also after reopening", async (place) => {
    const { wal, consumer } = await withConsumer(place, 9);
    for (const index of [9, 0, 5, 5, 4, 8]) {
      await consumer.seek(index);
      assertEquals([consumer.position, consumer.lag], [index, 9 - index]);
    }
    await consumer.ack(7);
    assertEquals(consumer.position, 8);
    await wal.close();
    await using again = await place.open();
    assertEquals(standings(again), { worker: 8 });
    await using same = await again.consumer("worker");
    await same.seek(2);
    assertEquals(standings(again), { worker: 2 });
  });

  onEach("stays within the log", async (place) => {
    const { wal, consumer } = await withConsumer(place, 9);
    await wal.truncateBefore(4);
    await consumer.seek(3);
    await consumer.seek(9);
    const cases = [[2, "removed"], [0, "absent"], [-1, "absent"], [
      10,
      "absent",
    ]] as const;
    for (const [index, reason] of cases) {
      const error = await assertRejects(
        () => consumer.seek(index),
        IndexOutOfRangeError,
        `Cannot seek entry ${index}`,
      );
      assertEquals([error.index, error.reason], [index, reason]);
    }
    assertEquals(consumer.position, 9);
    await wal.reset(20);
    await consumer.seek(19);
    assertEquals([consumer.position, consumer.lag], [19, 0]);
    await assertRejects(() => consumer.seek(18), IndexOutOfRangeError);
    await assertRejects(() => consumer.seek(20), IndexOutOfRangeError);
    await wal.close();
  });
});

describe("Consumer.remove()", () => {
  onEach("takes the consumer away for good", async (place) => {
    const { wal, consumer } = await withConsumer(place, 5);
    const other = await wal.consumer("other");
    await consumer.ack(3);
    await other.ack(4);
    await consumer.remove();
    assertEquals(standings(wal), { other: 4 });
    assertEquals(consumerFiles(place), ["other"]);
    for (
      const call of [
        () => consumer.ack(4),
        () => consumer.ack(1),
        () => consumer.seek(1),
        () => consumer.remove(),
      ]
    ) await assertRejects(call, WalClosedError, '"worker"');
    await consumer[Symbol.asyncDispose]();
    const fresh = await wal.consumer("worker");
    assertEquals(fresh.position, 0);
    await fresh.ack(1);
    await fresh.remove();
    await wal.close();
    await using again = await place.open();
    assertEquals(standings(again), { other: 4 });
  });

  it("ends the calls that are under way", async () => {
    const place = simulatedPlace();
    const { disk } = place;
    const wal = place.openSync({ sync: "never" });
    const consumer = await settled(disk, wal.consumer("worker"));
    for (const text of entries(3)) wal.appendSync(text);
    const calls = [consumer.ack(2), consumer.seek(1), consumer.ack(3)];
    const removed = consumer.remove();
    const all = Promise.allSettled([...calls, removed]);
    const outcomes = await settled(disk, all);
    for (const outcome of outcomes.slice(0, 3)) {
      if (outcome.status === "rejected") {
        assertInstanceOf(outcome.reason, WalClosedError);
      }
    }
    assertEquals(outcomes[3]!.status, "fulfilled");
    assertEquals(wal.consumers(), []);
    assertEquals(consumerFiles(place), []);
    assertEquals(wal.state, "open");
    wal.closeSync();
  });

  it("a removal that failed can be tried again", async () => {
    const place = simulatedPlace(1, { autoSettle: true });
    const { wal, consumer } = await withConsumer(place, 5);
    await consumer.ack(3);
    place.disk.failNext("remove", "EIO");
    await assertRejects(() => consumer.remove(), WalError, "EIO");
    assertEquals([wal.state, standings(wal).worker], ["open", 3]);
    await consumer[Symbol.asyncDispose]();
    const again = await wal.consumer("worker");
    assertEquals(again.position, 3);
    await again.remove();
    assertEquals(wal.consumers(), []);
    await wal.close();
  });
});

describe("Consumer[Symbol.asyncDispose]()", () => {
  onEach("waits for what was asked, and keeps the position", async (place) => {
    const wal = await place.open();
    await wal.appendBatch(entries(5));
    const acked: Promise<void>[] = [];
    {
      await using consumer = await wal.consumer("worker");
      acked.push(consumer.ack(2), consumer.ack(4));
    }
    assertEquals(standings(wal), { worker: 4 });
    await Promise.all(acked);
    await using again = await wal.consumer("worker");
    assertEquals(again.position, 4);
    await wal.close();
    await again[Symbol.asyncDispose]();
  });

  it("does not throw what the calls reject with", async () => {
    const place = simulatedPlace(1, { autoSettle: true });
    const { wal, consumer } = await withConsumer(place, 5);
    place.disk.failNext("syncSoon", "EIO");
    const acked = consumer.ack(3);
    const disposed = consumer[Symbol.asyncDispose]();
    await assertRejects(() => acked, WalFailedError);
    await disposed;
    await assertRejects(() => wal.close(), WalFailedError);
  });
});

describe("Wal.consumers(), Wal.stats().consumers", () => {
  onEach(
    "tell all, by name, also those that nobody has open",
    async (place) => {
      const { wal, consumer } = await withConsumer(place, 9);
      await consumer.ack(7);
      for (const name of ["b", "A", "a", "10", "9", "_"]) {
        await using one = await wal.consumer(name);
        await one.ack(1);
      }
      const expected = ["10", "9", "A", "_", "a", "b"].map((name) => ({
        name,
        position: 1,
        lag: 8,
      }));
      const worker = { name: "worker", position: 7, lag: 2 };
      assertEquals(wal.consumers(), [...expected, worker]);
      assertEquals(wal.stats().consumers, wal.consumers());
      // What is told is a copy.
      wal.consumers().pop();
      (wal.consumers()[0] as { position: number }).position = 5;
      assertEquals(wal.consumers(), [...expected, worker]);
      await wal.close();
      await using again = await place.open();
      assertEquals(again.consumers(), [...expected, worker]);
      assertEquals(again.stats().consumers, again.consumers());
    },
  );

  onEach("a log without consumers has no folder for them", async (place) => {
    const wal = await place.open();
    await wal.append("one");
    assertEquals(wal.consumers(), []);
    assertEquals(wal.stats().consumers, []);
    await wal.close();
    assertFalse(listFiles(place)!.includes("consumers"));
  });
});

describe("Consumer: cuts", () => {
  onEachTwin(
    "[F58] truncateAfter() lowers who stands above",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.appendBatch(wal, entries(10));
      const consumers = [];
      for (const index of [0, 5, 6, 7, 10]) {
        const consumer = await wal.consumer(`at${index}`);
        await consumer.ack(index);
        consumers.push(consumer);
      }
      const closed = await wal.consumer("closed");
      await closed.ack(9);
      await closed[Symbol.asyncDispose]();
      await twin.truncateAfter(wal, 6);
      const expected = { at0: 0, at10: 6, at5: 5, at6: 6, at7: 6, closed: 6 };
      assertEquals(standings(wal), expected);
      assertEquals(consumers.map(({ lag }) => lag), [6, 1, 0, 0, 0]);
      await twin.appendBatch(wal, ["new", "new", "new", "new"]);
      assertEquals(standings(wal), expected);
      assertEquals(consumers.map(({ lag }) => lag), [10, 5, 4, 4, 4]);
      await consumers[4]!.ack(8);
      await twin.close(wal);
      await using again = await twin.open(place);
      assertEquals(standings(again), { ...expected, at10: 8 });
    },
  );

  onEachTwin(
    "[F58] reset() lowers to before the next index",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.appendBatch(wal, entries(10));
      const consumers = [];
      for (const index of [0, 4, 5, 10]) {
        const consumer = await wal.consumer(`at${index}`);
        await consumer.ack(index);
        consumers.push(consumer);
      }
      await twin.reset(wal, 5);
      const expected = { at0: 0, at10: 4, at4: 4, at5: 4 };
      assertEquals(standings(wal), expected);
      assertEquals(consumers.map(({ lag }) => lag), [0, 0, 0, 0]);
      await twin.appendBatch(wal, ["new 5", "new 6"]);
      assertEquals(consumers.map(({ lag }) => lag), [2, 2, 2, 2]);
      await twin.reset(wal, 100);
      assertEquals(standings(wal), expected);
      await twin.append(wal, "new 100");
      assertEquals(consumers.map(({ lag }) => lag), [1, 1, 1, 1]);
      await twin.reset(wal, 1);
      assertEquals(standings(wal), { at0: 0, at10: 0, at4: 0, at5: 0 });
      await twin.close(wal);
      await using again = await twin.open(place);
      assertEquals(standings(again), { at0: 0, at10: 0, at4: 0, at5: 0 });
    },
  );

  onEachTwin("truncateBefore() moves nobody", async (place, twin) => {
    const wal = await twin.open(place);
    await twin.appendBatch(wal, entries(10));
    for (const index of [0, 4, 10]) {
      await (await wal.consumer(`at${index}`)).ack(index);
    }
    await twin.truncateBefore(wal, 8);
    const expected = [
      { name: "at0", position: 0, lag: 3 },
      { name: "at10", position: 10, lag: 0 },
      { name: "at4", position: 4, lag: 3 },
    ];
    assertEquals(wal.consumers(), expected);
    await twin.truncateBefore(wal, 11);
    const none = expected.map((one) => ({ ...one, lag: 0 }));
    assertEquals(wal.consumers(), none);
    await twin.close(wal);
    await using again = await twin.open(place);
    assertEquals(again.consumers(), none);
  });

  it("[F58] a cut and what it lowers are durable together", async () => {
    const place = simulatedPlace();
    const { disk } = place;
    const wal = place.openSync();
    wal.appendBatchSync(entries(10));
    const consumer = await settled(disk, wal.consumer("worker"));
    await settled(disk, consumer.ack(10));
    const calls: string[] = [];
    disk.onCall(({ operation, name }) => {
      if (/sync/i.test(operation)) calls.push(name.replace(/.*\//, ""));
    });
    // Whoever asks for the next sync: it takes the position along.
    const cut = wal.truncateAfter(4);
    wal.appendSync("five");
    assert(calls.includes("worker"), `${calls}`);
    const image = disk.image({ pages: () => "old", names: () => true });
    const found = openWalSync(place.path, { storage: image });
    assertEquals([found.lastIndex, standings(found).worker], [5, 4]);
    found.closeSync();
    await settled(disk, cut);
    wal.closeSync();
  });

  it("a position that cannot be lowered fails the log", async () => {
    const place = simulatedPlace(1, { autoSettle: true });
    const { disk } = place;
    const { wal, consumer } = await withConsumer(place, 9);
    await consumer.ack(8);
    await wal.flush();
    disk.failNext("write", "EIO", { name: "consumers/worker" });
    await assertRejects(() => wal.truncateAfter(4), WalFailedError);
    assertEquals(wal.state, "failed");
    await assertRejects(() => wal.append("new"), WalFailedError);
    await assertRejects(() => wal.close(), WalFailedError);
    const died = openWalSync(place.path, { storage: disk.processDeath() });
    assertEquals(died.lastIndex, 4);
    assertEquals(standings(died), { worker: 4 });
    died.closeSync();
  });
});

describe("Consumer: crashes", () => {
  it("an acknowledged position outlives power cut and process death", async () => {
    const seen = new Set<number>();
    for (let seed = 1; seed <= 50; seed++) {
      const place = simulatedPlace(seed, { autoSettle: true });
      const { disk } = place;
      const { wal, consumer } = await withConsumer(place, 9);
      await consumer.ack(4);
      await consumer.ack(6);
      const images = [disk.image(), disk.fork()];
      disk.onCall(() => images.push(disk.image(), disk.image(), disk.fork()));
      await consumer.ack(8);
      disk.onCall(undefined);
      const last = disk.image();
      for (const image of [...images, last]) {
        using found = openWalSync(place.path, { storage: image });
        const worker = found.consumers()[0]?.position;
        const allowed = image === last ? [8] : [6, 8];
        assert(allowed.includes(worker ?? -1), `seed ${seed}: ${worker}`);
        seen.add(worker!);
      }
      await wal.close();
    }
    assertEquals([...seen].sort(), [6, 8]);
  });

  for (const { kind, make } of REAL) {
    it(`an acknowledged position outlives kill -9 [${kind}]`, async () => {
      using folder = temporaryFolder();
      const path = join(folder.path, "log");
      using writer = startWriter(THIS, kind as "mapped" | "files", path);
      assertEquals(await writer.ask("consume"), "acknowledged 7");
      await writer.end("SIGKILL");
      assert(existsSync(join(path, "consumers", "worker")));
      using wal = openWalSync(path, { storage: make() });
      assertEquals(wal.consumers(), [{ name: "worker", position: 7, lag: 2 }]);
    });
  }
});
