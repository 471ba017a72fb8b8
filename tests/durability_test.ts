/**
 * When an entry is durable, and who is told so: rounds over several segments,
 * group commit, flush, durableIndex, cuts of what a round has under way; and
 * what becomes of the log when a sync, a write or a read fails.
 */
import { describe, it } from "node:test";
import {
  type Durability,
  IndexOutOfRangeError,
  openWal,
  openWalSync,
  StorageError,
  type Wal,
  WalError,
  WalFailedError,
} from "../mod.ts";
import type { Operation, SimulatedStorage } from "../testing/mod.ts";
import { Random } from "../testing/mod.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLess,
  assertLessOrEqual,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import {
  assertVerified,
  block,
  entries,
  fingerprint,
  isSettled,
  makePlace,
  onEach,
  onEachTwin,
  type Place,
  SEGMENT_BYTES,
  segmentNames,
  settled,
  simulatedPlace,
  texts,
  turn,
  type Twin,
  TWINS,
} from "./_wal.ts";

/** With each change Deno lets every other call fail, the others fewer. */
const STEP = "Deno" in globalThis ? 2 : 6;

const FILE = "tests/durability_test.ts";
const MODES: readonly Durability[] = ["always", "interval", "never"];
const SYNCS: readonly Operation[] = ["sync", "syncSoon", "directorySync"];

/** Lets continuations run, without any timer. */
async function hops(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await null;
}

/** What the harshest power cut at this instant leaves, opened. */
function openHarsh(disk: SimulatedStorage): Wal {
  const found = disk.image({ pages: () => "old", names: () => false });
  return openWalSync("/log", { storage: found, segmentBytes: SEGMENT_BYTES });
}

/** Counts the calls of some operations from now on. */
function counting(
  disk: SimulatedStorage,
  operations: readonly Operation[],
): { names: string[] } {
  const seen = { names: [] as string[] };
  disk.onCall(({ operation, name }) => {
    if (operations.includes(operation)) seen.names.push(name);
  });
  return seen;
}

describe("a round of syncs", () => {
  it("covers every segment with new bytes, and the folder once", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open({ sync: "never" }));
    for (let i = 1; i <= 9; i++) await wal.append(block(20_000, i));
    // Rounds in the background have ended; three new segments are begun, and
    // the third one is sealed.
    await settled(disk, wal.flush());
    for (let i = 10; i <= 16; i++) await wal.append(block(20_000, i));
    const seen = counting(disk, SYNCS);
    const flush = wal.flush();
    await turn();
    const files = () => seen.names.filter((name) => name.includes(".wal"));
    const folders = () => seen.names.filter((name) => name === "/log");
    // One after another: they would take the processors from the program.
    assertEquals([files().length, folders().length], [1, 1]);
    for (let calls = 0; !await isSettled(flush); calls++) {
      assertLess(calls, 10, "it never ends");
      assertEquals(wal.durableIndex, 9);
      assertEquals(disk.settle(1), 1);
    }
    assertEquals([files().length, folders().length], [4, 1]);
    assertEquals(new Set(files()).size, 4);
    disk.onCall(undefined);
    assertEquals([wal.durableIndex, wal.stats().unsyncedBytes], [16, 0]);
    await settled(disk, wal.close());
  });

  it("does not settle before the last of them, whichever that is", {
    timeout: 60_000,
  }, async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const { disk, ...place } = simulatedPlace(seed);
      const wal = await settled(disk, place.open());
      const pending = Array.from(
        { length: 8 },
        (_, i) => wal.append(block(20_000, i + 1)),
      );
      const done = pending.map(() => false);
      pending.forEach((one, i) => void one.then(() => done[i] = true));
      while (done.includes(false)) {
        await turn();
        const acknowledged = done.lastIndexOf(true) + 1;
        const again = openHarsh(disk);
        assertGreaterOrEqual(again.lastIndex, acknowledged, `seed ${seed}`);
        assertGreaterOrEqual(again.lastIndex, wal.durableIndex);
        for (const { index, data } of again) {
          assertEquals(data, block(20_000, index));
        }
        again.closeSync();
        disk.settle(1);
      }
      assertEquals(wal.durableIndex, 8);
      await settled(disk, wal.close());
    }
  });

  it("a blocking one covers them, too", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = place.openSync({ sync: "never" });
    for (let i = 1; i <= 8; i++) wal.appendSync(block(20_000, i));
    wal.flushSync();
    assertEquals(wal.durableIndex, 8);
    using again = openHarsh(disk);
    assertEquals(again.lastIndex, 8);
    wal.closeSync();
    await turn();
  });

  it("a blocking one beside one in flight: each entry as safe as told", {
    timeout: 60_000,
  }, async () => {
    for (let seed = 1; seed <= 10; seed++) {
      const { disk, ...place } = simulatedPlace(seed);
      const wal = await settled(disk, place.open());
      const first = wal.append(block(40_000, 1));
      const second = wal.append(block(40_000, 2));
      await turn();
      assertGreater(disk.pendingSyncs, 0);
      const third = wal.append("three");
      assertEquals(wal.appendSync("four"), 4);
      using blocked = openHarsh(disk);
      assertEquals(blocked.lastIndex, 4, "the blocking call returned");
      disk.settle(1);
      await turn();
      assertEquals(
        await settled(disk, Promise.all([first, second, third])),
        [1, 2, 3],
      );
      await settled(disk, wal.flush());
      assertEquals(wal.durableIndex, 4);
      await settled(disk, wal.close());
    }
  });

  it("starts without a timer, and collects while one runs", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    await settled(disk, wal.append("the names are durable"));
    const saved = { setTimeout, setInterval };
    const refuse = () => {
      throw new Error("a timer was started");
    };
    Object.assign(globalThis, { setTimeout: refuse, setInterval: refuse });
    try {
      const seen = counting(disk, SYNCS);
      let appended = 0;
      const callers = Array.from({ length: 16 }, async () => {
        for (let i = 0; i < 10; i++) {
          await wal.append("x");
          appended++;
        }
      });
      for (let round = 1; round <= 10; round++) {
        await hops();
        assertEquals(seen.names.length, round, "one sync for all callers");
        assertEquals(appended, 16 * (round - 1));
        disk.settle();
      }
      await Promise.all(callers);
      assertEquals([appended, seen.names.length], [160, 10]);
    } finally {
      Object.assign(globalThis, saved);
    }
    disk.onCall(undefined);
    await settled(disk, wal.close());
  });

  it("an entry written while one runs is none of its entries", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const first = wal.append("one");
    await turn();
    const second = wal.append("two");
    const third = wal.append("three", { durable: false });
    disk.settle();
    assertEquals(await first, 1);
    assertEquals(wal.durableIndex, 1);
    assertFalse(await isSettled(second));
    assertEquals(await third, 3);
    assertEquals(await settled(disk, second), 2);
    assertEquals(wal.durableIndex, 3);
    await settled(disk, wal.close());
  });

  it("an idle log asks for no sync", async () => {
    for (const sync of MODES) {
      const { disk, ...place } = simulatedPlace();
      const wal = await settled(disk, place.open({ sync }));
      await settled(disk, wal.append("x", { durable: true }));
      await settled(disk, wal.flush());
      const seen = counting(disk, SYNCS);
      for (let i = 0; i < 5; i++) {
        await wal.flush();
        await wal.flush(1);
        wal.flushSync();
        await turn();
      }
      assertEquals(seen.names, []);
      disk.onCall(undefined);
      await settled(disk, wal.close());
    }
  });
});

describe("durable on a call", () => {
  it("true makes all before it durable, false asks for nothing", async () => {
    for (const sync of MODES) {
      const { disk, ...place } = simulatedPlace();
      const wal = await settled(disk, place.open({ sync }));
      for (let i = 1; i <= 5; i++) {
        await wal.append(block(30_000, i), { durable: false });
      }
      assertEquals(wal.durableIndex, 0);
      const done = wal.append("six", { durable: true });
      await wal.append("seven", { durable: false });
      assertEquals(await settled(disk, done), 6);
      assertGreaterOrEqual(wal.durableIndex, 6);
      using again = openHarsh(disk);
      assertGreaterOrEqual(again.lastIndex, 6);
      wal.appendSync("eight", { durable: false });
      const before = wal.durableIndex;
      assertEquals(wal.appendBatchSync(["nine"], { durable: true }), [9]);
      assertEquals([before, wal.durableIndex], [7, 9]);
      await settled(disk, wal.close());
    }
  });

  onEachTwin(
    "false: written, readable, and kept by the death of the process",
    async (place, twin) => {
      if (place.kind !== "simulated") return;
      const disk = place.storage as SimulatedStorage;
      const wal = await twin.open(place);
      for (const text of entries(5)) {
        await twin.append(wal, text, { durable: false });
      }
      assertEquals([wal.durableIndex, wal.length], [0, 5]);
      const found = disk.fork();
      const again = await twin.open(place, { storage: found });
      assertEquals(texts(again), entries(5));
      await twin.close(again);
      await twin.close(wal);
    },
  );
});

describe("Wal.flush()", () => {
  onEach("flush() and flush(index) on real disks", async (place) => {
    await using wal = await place.open({ sync: "never" });
    await wal.flush();
    wal.appendBatchSync(entries(10));
    assertStrictEquals(await wal.flush(4), undefined);
    assertGreaterOrEqual(wal.durableIndex, 4);
    wal.appendSync("eleven");
    await wal.flush();
    assertEquals(wal.durableIndex, 11);
    wal.appendSync("twelve");
    assertStrictEquals(wal.flushSync(), undefined);
    assertEquals(wal.durableIndex, 12);
    assertEquals(wal.stats().unsyncedCount, 0);
  });

  it("flush(index) waits for that entry, and not for later ones", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open({ sync: "never" }));
    await wal.append("one");
    const one = wal.flush(1);
    await turn();
    await wal.append("two");
    const both = [wal.flush(1), wal.flush(2), wal.flush()];
    disk.settle();
    await one;
    assertEquals(wal.durableIndex, 1);
    // What is durable by now needs no sync any more.
    assert(await isSettled(wal.flush(1)));
    assert(await isSettled(wal.flush(0)));
    assertFalse(await isSettled(both[1]!));
    await settled(disk, Promise.all(both));
    assertEquals(wal.durableIndex, 2);
    assert(await isSettled(wal.flush(2)));
    await settled(disk, wal.close());
  });

  it("flushes at once share one sync", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open({ sync: "never" }));
    await wal.append("the names");
    await settled(disk, wal.flush());
    for (const text of entries(50)) await wal.append(text);
    const seen = counting(disk, SYNCS);
    const flushes = Array.from({ length: 51 }, (_, i) => wal.flush(i + 1));
    await settled(disk, Promise.all([...flushes, wal.flush()]));
    assertEquals(seen.names.length, 1);
    disk.onCall(undefined);
    await settled(disk, wal.close());
  });

  onEach("wrong indexes", async (place) => {
    await using wal = await place.open();
    await assertRejects(() => wal.flush(1), IndexOutOfRangeError, "empty");
    await wal.appendBatch(entries(5));
    for (const index of [6, Number.MAX_SAFE_INTEGER, -1]) {
      const error = await assertRejects(
        () => wal.flush(index),
        IndexOutOfRangeError,
        `${index}`,
      );
      assertEquals([error.index, error.reason], [index, "absent"]);
      assertStringIncludes(error.message, "Cannot flush");
    }
    for (const index of [1.5, NaN, Infinity, 2 ** 53]) {
      await assertRejects(() => wal.flush(index), RangeError, "Cannot flush");
    }
    for (const index of ["1", 1n, null, {}, true]) {
      const promise = wal.flush(index as number);
      assertInstanceOf(promise, Promise);
      await assertRejects(() => promise, TypeError, "Cannot flush");
    }
    await wal.flush(undefined);
    // Whoever waits for what was removed waits for nothing.
    await wal.truncateBefore(4);
    await wal.flush(2);
    await wal.truncateBefore(6);
    await wal.flush(5);
    await wal.flush();
    await assertRejects(() => wal.flush(6), IndexOutOfRangeError);
  });
});

describe("Wal.durableIndex", () => {
  onEachTwin("after opening and after close", async (place, twin) => {
    for (const sync of MODES) {
      const wal = await twin.open(place, { sync });
      const before = wal.lastIndex;
      assertEquals(wal.durableIndex, before, "what was opened is durable");
      await twin.appendBatch(wal, entries(3));
      if (sync === "always") assertEquals(wal.durableIndex, before + 3);
      else assertEquals(wal.durableIndex, before);
      assertEquals(
        wal.stats().unsyncedCount,
        wal.lastIndex - wal.durableIndex,
      );
      await twin.close(wal);
    }
    using again = await twin.open(place);
    assertEquals([again.durableIndex, again.length], [9, 9]);
  });

  const rounds = budgetOf({ smoke: 12, long: 2000 });
  for (const mapped of [true, false]) {
    for (const sync of MODES) {
      const kind = mapped ? "mapped" : "written";
      it(`never says more than a power cut leaves [${kind}, ${sync}]`, {
        timeout: 300_000 + rounds * 1000,
      }, async () => {
        let cuts = 0;
        for (let round = 0; round < rounds; round++) {
          cuts += await tryDurable(seedOf() + round, mapped, sync);
        }
        console.log(`${rounds} rounds, ${cuts} power cuts; ${replay(FILE)}`);
        assertGreater(cuts, rounds);
      });
    }
  }
});

/** Random calls; after each the harshest power cut is looked at. */
async function tryDurable(
  seed: number,
  mapped: boolean,
  sync: Durability,
): Promise<number> {
  const random = new Random(seed, 77);
  const { disk, ...place } = simulatedPlace(seed, { mapped });
  const wal = await settled(disk, place.open({ sync }));
  const pending: Promise<unknown>[] = [];
  const quiet = (promise: Promise<unknown>) => {
    pending.push(promise.catch((error) => {
      assertInstanceOf(error, IndexOutOfRangeError);
    }));
  };
  let count = 0;
  /** What each index holds; a cut may leave what it wanted to drop. */
  const written = new Map<number, Set<number>>();
  const data = () => {
    const fill = ++count % 256;
    const { nextIndex } = wal;
    const all = written.get(nextIndex) ?? new Set();
    written.set(nextIndex, all.add(fill));
    return block(random.pick([10, 4000, 30_000]), fill);
  };
  const calls: (() => void)[] = [
    () => quiet(wal.append(data())),
    () => quiet(wal.append(data(), { durable: random.chance(0.5) })),
    () => void wal.appendSync(data(), { durable: random.chance(0.5) }),
    () => quiet(wal.flush()),
    () => quiet(wal.rotate()),
    () => wal.flushSync(),
    () => disk.clock.advance(1000),
    () => {
      const from = wal.firstIndex === 0 ? wal.nextIndex : wal.firstIndex;
      quiet(wal.truncateAfter(random.between(from - 1, wal.nextIndex - 1)));
    },
    () => quiet(wal.truncateBefore(random.between(0, wal.nextIndex))),
  ];
  for (let step = 0; step < 25; step++) {
    random.pick(calls)();
    if (random.chance(0.5)) await hops();
    disk.settle(random.pick([0, 1, 1, 5]));
    await hops();
    const { durableIndex, lastIndex } = wal;
    assertLessOrEqual(durableIndex, lastIndex);
    using again = openHarsh(disk);
    const told = `seed ${seed}, step ${step}: durable ${durableIndex}, ` +
      `found ${again.firstIndex} to ${again.lastIndex}`;
    if (durableIndex > 0) {
      assertGreaterOrEqual(again.lastIndex, durableIndex, told);
    }
    for (const { index, data } of again) {
      assert(written.get(index)!.has(data[0]!), told);
      // What is durable is what the log shows, and no earlier entry.
      if (index > durableIndex || index < wal.firstIndex) continue;
      assertEquals(data, wal.get(index).data, told);
    }
  }
  await settled(disk, Promise.all(pending));
  await settled(disk, wal.close());
  assertVerified(place);
  return 25;
}

describe("a cut beside a round in flight", () => {
  it("truncateAfter(): the round vouches for nothing behind the cut", {
    timeout: 60_000,
  }, async () => {
    for (const seed of [1, 2, 3, 4, 5]) {
      const { disk, ...place } = simulatedPlace(seed);
      const wal = await settled(disk, place.open());
      const kept = wal.appendBatch(entries(2));
      const lost = wal.appendBatch(entries(3, 3));
      await turn();
      assertGreater(disk.pendingSyncs, 0);
      const cut = wal.truncateAfter(2);
      await wal.append("new 3", { durable: false });
      const error = await assertRejects(() => lost, IndexOutOfRangeError);
      assertEquals(error.reason, "truncated");
      disk.settle();
      await hops();
      assertLessOrEqual(wal.durableIndex, 2);
      assertEquals(await settled(disk, kept), [1, 2]);
      using again = openHarsh(disk);
      assertGreaterOrEqual(again.lastIndex, wal.durableIndex);
      await settled(disk, cut);
      await settled(disk, wal.flush());
      assertEquals(wal.durableIndex, 3);
      using after = openHarsh(disk);
      assertEquals(texts(after), [...entries(2), "new 3"]);
      await settled(disk, wal.close());
      assertVerified(place);
    }
  });

  it("over a segment's end: what it has dropped is not synced", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const pending = Array.from(
      { length: 8 },
      (_, i) => wal.append(block(30_000, i + 1)),
    );
    await turn();
    const cut = wal.truncateAfter(1);
    const lost = pending.slice(1).map((one) =>
      assertRejects(() => one, IndexOutOfRangeError, "truncated")
    );
    await Promise.all(lost);
    assertEquals(await settled(disk, pending[0]!), 1);
    await settled(disk, cut);
    assertEquals([wal.durableIndex, wal.state], [1, "open"]);
    await settled(disk, wal.append("two"));
    assertEquals(wal.durableIndex, 2);
    await settled(disk, wal.close());
    assertVerified(place);
  });

  it("reset(): nothing of before is durable any more", async () => {
    for (const next of [1, 2, 3, 50]) {
      const { disk, ...place } = simulatedPlace();
      const wal = await settled(disk, place.open());
      const lost = wal.appendBatch(entries(5));
      await turn();
      const reset = wal.reset(next);
      await wal.append("new", { durable: false });
      await assertRejects(() => lost, IndexOutOfRangeError, "truncated");
      disk.settle();
      await hops();
      assertEquals(wal.durableIndex, 0, `reset to ${next}`);
      await settled(disk, reset);
      await settled(disk, wal.flush());
      assertEquals(wal.durableIndex, next);
      using again = openHarsh(disk);
      assertEquals([again.firstIndex, texts(again)], [next, ["new"]]);
      await settled(disk, wal.close());
      assertVerified(place);
    }
  });

  it("truncateBefore(): the round goes on for what is left", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const pending = [wal.append("one"), wal.append("two"), wal.append("three")];
    await turn();
    const cut = wal.truncateBefore(3);
    for (const one of pending.slice(0, 2)) {
      await assertRejects(() => one, IndexOutOfRangeError, "removed");
    }
    assertEquals(await settled(disk, pending[2]!), 3);
    await settled(disk, cut);
    assertEquals(wal.durableIndex, 3);
    await settled(disk, wal.close());
    assertVerified(place);
  });
});

describe("a sync that fails", () => {
  /** Eight blocks over three segments, none of them synced. */
  async function openUnsynced(
    mapped = true,
  ): Promise<Place & { disk: SimulatedStorage; wal: Wal }> {
    const place = simulatedPlace(1, { mapped });
    const wal = await settled(place.disk, place.open({ sync: "never" }));
    wal.appendSync("acknowledged", { durable: true });
    for (let i = 2; i <= 8; i++) wal.appendSync(block(20_000, i));
    return { ...place, wal };
  }

  for (const twin of TWINS) {
    it(`whichever of a round it is: the log is failed [${twin.name}]`, {
      timeout: 60_000,
    }, async () => {
      let nth = 0;
      for (; nth < 20; nth++) {
        const { disk, wal, ...place } = await openUnsynced();
        let seen = 0;
        disk.onCall(({ operation }) => {
          if (!SYNCS.includes(operation)) return;
          if (seen++ === nth) disk.failNext(operation, "EIO");
        });
        const flush = settled(disk, twin.flush(wal));
        const failed = await flush.then(() => false, () => true);
        if (!failed) break;
        const error = await assertRejects(() => flush, WalFailedError, "EIO");
        assertStrictEquals(error.code, "FAILED");
        assertInstanceOf(error.cause, StorageError);
        assertEquals([wal.state, wal.durableIndex], ["failed", 1]);
        const calls = counting(disk, [...SYNCS, "write", "create", "rename"]);
        await refuseWrites(wal);
        checkReads(wal);
        // What failed is not tried again: not by close either.
        const first = await assertRejects(
          () => settled(disk, twin.close(wal)),
          WalFailedError,
        );
        assertStrictEquals(first, error);
        assertEquals(calls.names, [], "nothing is written or synced");
        assertEquals(wal.state, "closed");
        for (const found of [disk.fork(), disk.crash()]) {
          const again = await settled(found, place.open({ storage: found }));
          assertGreaterOrEqual(again.lastIndex, 1);
          assertEquals(again.get(1).text(), "acknowledged");
          assertEquals(
            await settled(found, again.append("on")),
            again.lastIndex,
          );
          await settled(found, again.close());
          assertVerified({ ...place, storage: found });
        }
      }
      assertGreaterOrEqual(nth, 4, "three segments and the folder");
    });
  }

  /** Every call that writes is refused; each says why. */
  async function refuseWrites(wal: Wal): Promise<void> {
    const { lastIndex, nextIndex } = wal;
    const rejecting = [
      () => wal.append("x"),
      () => wal.append("x", { durable: false }),
      () => wal.appendBatch(["x"]),
      () => wal.flush(),
      () => wal.flush(1),
      () => wal.rotate(),
      () => wal.truncateAfter(1),
      () => wal.truncateBefore(2),
      () => wal.reset(1),
      () => wal.transaction((tx) => tx.add("x")),
    ];
    const throwing = [
      () => wal.appendSync("x"),
      () => wal.appendBatchSync(["x"]),
      () => wal.flushSync(),
      () => wal.rotateSync(),
      () => wal.truncateAfterSync(1),
      () => wal.truncateBeforeSync(2),
      () => wal.resetSync(1),
      () => wal.beginTransaction(),
    ];
    for (const call of rejecting) await assertRejects(call, WalFailedError);
    for (const call of throwing) assertThrows(call, WalFailedError);
    assertEquals([wal.lastIndex, wal.nextIndex], [lastIndex, nextIndex]);
  }

  function checkReads(wal: Wal): void {
    assertEquals([wal.firstIndex, wal.lastIndex], [1, 8]);
    assertEquals(wal.get(1).text(), "acknowledged");
    for (const { index, data } of wal.entries({ from: 2 })) {
      assertEquals(data, block(20_000, index));
    }
    assertEquals(wal.stats().entryCount, 8);
    assertEquals(wal.segments().length, 3);
  }

  it("all who wait are told at once, by one error", async () => {
    const { disk, wal } = await openUnsynced();
    const tx = wal.beginTransaction();
    tx.add("tx");
    const rejected: Promise<unknown>[] = [];
    const waits = (...promises: Promise<unknown>[]) => {
      for (const one of promises) {
        rejected.push(assertRejects(() => one, WalFailedError));
      }
    };
    disk.failNext("syncSoon", "EIO");
    waits(
      wal.append("a", { durable: true }),
      wal.appendBatch(["b", "c"], { durable: true }),
      tx.commit({ durable: true }),
      wal.flush(),
      wal.flush(5),
      wal.rotate(),
      wal.truncateAfter(12),
      wal.truncateBefore(3),
    );
    await turn();
    // These wait for the next round, which never comes.
    waits(wal.append("d", { durable: true }), wal.flush());
    const durable = wal.flush(0);
    const errors = await settled(disk, Promise.all(rejected));
    for (const error of errors) assertStrictEquals(error, errors[0]);
    await durable;
    assertEquals(wal.state, "failed");
    await assertRejects(() => settled(disk, wal.close()), WalFailedError);
  });

  for (const twin of TWINS) {
    it(`a page that the kernel failed to write by itself [${twin.name}]`, {
      timeout: 60_000,
    }, async () => {
      for (const name of ["0001.wal", "0002.wal", "0003.wal"]) {
        const { disk, wal, ...place } = await openUnsynced();
        assertGreater(disk.failWriteback({ name }), 0);
        checkReads(wal);
        await assertRejects(
          () => settled(disk, twin.flush(wal)),
          WalFailedError,
          "EIO",
        );
        assertEquals([wal.state, wal.durableIndex], ["failed", 1]);
        await assertRejects(
          () => settled(disk, twin.close(wal)),
          WalFailedError,
        );
        const found = disk.crash();
        const again = await settled(found, place.open({ storage: found }));
        assertEquals(again.get(1).text(), "acknowledged");
        await settled(found, again.close());
        assertVerified({ ...place, storage: found });
      }
    });
  }

  it("of one that the other way of syncing has hidden", async () => {
    // A blocking sync fails while an asynchronous one is under way, and the
    // other way round: neither's success may settle what the other lost.
    for (const blockingFails of [true, false]) {
      const { disk, wal } = await openUnsynced();
      const pending = wal.append("a", { durable: true });
      await turn();
      if (blockingFails) {
        disk.failNext("sync", "EIO");
        assertThrows(() => wal.flushSync(), WalFailedError);
      } else {
        disk.failWriteback();
        assertThrows(() => wal.flushSync(), WalFailedError);
      }
      await assertRejects(() => settled(disk, pending), WalFailedError);
      assertEquals([wal.durableIndex, wal.state], [1, "failed"]);
      await assertRejects(() => settled(disk, wal.close()), WalFailedError);
    }
  });

  it("of close(): it rejects, and what was acknowledged is there", {
    timeout: 60_000,
  }, async () => {
    for (const twin of TWINS) {
      for (let nth = 0;; nth++) {
        const { disk, wal, ...place } = await openUnsynced();
        let seen = 0;
        disk.onCall(({ operation }) => {
          if (!SYNCS.includes(operation)) return;
          if (seen++ === nth) disk.failNext(operation, "EIO");
        });
        const closing = settled(disk, twin.close(wal));
        const failed = await closing.then(() => false, () => true);
        if (!failed) break;
        assert(nth < 20, "it never succeeds");
        const error = await assertRejects(() => closing);
        assert(
          error instanceof WalFailedError || error instanceof StorageError,
          String(error),
        );
        const second = await assertRejects(() => wal.close());
        assertStrictEquals(second, error);
        assertStrictEquals(assertThrows(() => wal.closeSync()), error);
        // The lock is free in this very process.
        disk.onCall(undefined);
        const again = await settled(disk, place.open());
        assertEquals(again.get(1).text(), "acknowledged");
        await settled(disk, again.close());
        assertVerified(place);
      }
    }
  });
});

describe("closeSync() that fails beside a call under way", () => {
  const calls: Record<string, (wal: Wal) => Promise<unknown>> = {
    append: (wal) => wal.append("new"),
    "a commit": (wal) => {
      const tx = wal.beginTransaction();
      tx.add("new");
      tx.add("newer");
      return tx.commit();
    },
    flush: (wal) => wal.flush(),
    rotate: (wal) => wal.rotate(),
    truncateAfter: (wal) => wal.truncateAfter(2),
    truncateBefore: (wal) => wal.truncateBefore(4),
    reset: (wal) => wal.reset(77),
  };
  for (const [name, call] of Object.entries(calls)) {
    it(`${name} settles for nothing that a power cut takes back`, {
      timeout: 60_000,
    }, async () => {
      const outcomes = new Set<string>();
      for (const begun of [false, true]) {
        for (let after = 0;; after += STEP) {
          const { disk, ...place } = simulatedPlace();
          const wal = await settled(disk, place.open());
          wal.appendBatchSync(entries(5));
          wal.appendSync("6", { durable: false });
          const pending = call(wal);
          const list = texts(wal);
          const { nextIndex } = wal;
          if (begun) await hops();
          let made = 0;
          disk.onCall(() => void made++);
          disk.failNext("any", "EIO", { after });
          const closed = tryClose(wal);
          disk.onCall(undefined);
          const outcome = await settled(disk, pending).then(
            () => "resolved",
            (error: unknown) => {
              assertInstanceOf(error, WalError, String(error));
              return "rejected";
            },
          );
          outcomes.add(`${outcome}, close ${closed}`);
          const found = disk.crash({ pages: () => "old", names: () => false });
          const again = await settled(found, place.open({ storage: found }));
          // What close() promised, too.
          if (outcome === "resolved" || closed === "resolved") {
            const told = `${name}, call ${after}: ${outcome}, ${closed}`;
            // A flush and a rotation take nothing away and add nothing.
            assertEquals(texts(again), list, told);
            assertEquals(again.nextIndex, nextIndex, told);
          }
          await settled(found, again.close());
          assertVerified({ ...place, storage: found });
          if (made <= after) break;
          assert(after < 200, "closing never succeeds");
        }
      }
      assert(outcomes.has("resolved, close resolved"), [...outcomes].join());
      assertGreater(outcomes.size, 1);
    });
  }

  function tryClose(wal: Wal): "resolved" | "rejected" {
    try {
      wal.closeSync();
      return "resolved";
    } catch (error) {
      assertInstanceOf(error, WalError, String(error));
      return "rejected";
    } finally {
      assertEquals(wal.state, "closed");
    }
  }
});

function pairs<A, B>(all: readonly A[], each: readonly B[]): [A, B][] {
  return all.flatMap((a) => each.map((b): [A, B] => [a, b]));
}

describe("a full disk", () => {
  for (const mapped of [true, false]) {
    for (const twin of TWINS) {
      const how = `[${mapped ? "mapped" : "written"}, ${twin.name}]`;
      it(`refuses, leaves all as it was, and recovers ${how}`, async () => {
        const capacityBytes = 5 * SEGMENT_BYTES + 3 * 4096;
        const { disk, ...place } = simulatedPlace(1, {
          mapped,
          capacityBytes,
        });
        const done = <T>(promise: Promise<T>) => settled(disk, promise);
        const wal = await done(twin.open(place));
        // What somebody else will delete.
        disk.plant("/log/ballast", block(2 * 4096, 1));
        const append = () => {
          const data = block(20_000, wal.nextIndex);
          return done(twin.append(wal, data));
        };
        const fill = async () => {
          for (let i = 0; i < 100; i++) {
            const { nextIndex } = wal;
            const ended = await append().then(
              () => undefined,
              (error) => error,
            );
            if (ended === undefined) continue;
            assertInstanceOf(ended, StorageError);
            assertStrictEquals(ended.systemCode, "ENOSPC");
            assertEquals([wal.state, wal.nextIndex], ["open", nextIndex]);
            for (const { index, data } of wal) {
              assertEquals(data, block(20_000, index));
            }
            return;
          }
          throw new Error("the disk is never full");
        };
        await fill();
        const full = wal.lastIndex;
        assertGreaterOrEqual(full, 9);
        assertEquals(wal.durableIndex, full);
        // What a batch or a transaction holds is refused as a whole.
        const batch = Array.from({ length: 4 }, () => block(20_000, 0));
        await assertRejects(
          () => done(twin.appendBatch(wal, batch)),
          StorageError,
        );
        await assertRejects(
          () => done(twin.truncateAfter(wal, 2)),
          StorageError,
        );
        await assertRejects(() => done(twin.reset(wal, 2)), StorageError);
        assertEquals([wal.lastIndex, wal.state], [full, "open"]);
        // Small ones still go where there is room, and reads go on.
        for (const { index, data } of wal) {
          assertEquals(data, block(20_000, index));
        }
        // Space comes back from the front, for which a little is needed.
        disk.plant("/log/ballast", undefined);
        await done(twin.truncateBefore(wal, full - 1));
        disk.plant("/log/more", block(2 * 4096, 1));
        await fill();
        assertGreater(wal.lastIndex, full);
        const { firstIndex, lastIndex } = wal;
        disk.plant("/log/more", undefined);
        await done(twin.truncateBefore(wal, lastIndex));
        await done(twin.close(wal));
        assertVerified(place);
        assertGreater(lastIndex, firstIndex);
        const again = await done(twin.open(place));
        assertEquals([again.firstIndex, again.lastIndex], [
          lastIndex,
          lastIndex,
        ]);
        assertEquals(again.get(lastIndex).data, block(20_000, lastIndex));
        await done(twin.close(again));
      });
    }
  }

  for (const [twin, mapped] of pairs(TWINS, [false, true])) {
    const how = `[${mapped ? "mapped" : "written"}, ${twin.name}]`;
    it(`in the middle of a write: zeroed, or the log is failed ${how}`, async () => {
      for (let nth = 0; nth < 3; nth++) {
        const { disk, ...place } = simulatedPlace(1, { mapped });
        const done = <T>(promise: Promise<T>) => settled(disk, promise);
        const wal = await done(twin.open(place));
        await done(twin.append(wal, "acknowledged"));
        // The write, and then the taking back of what it left.
        disk.failNext("write", "ENOSPC", { count: nth + 1 });
        const failed = await done(
          twin.appendBatch(wal, [block(9000, 255), block(9000, 255)])
            .then(() => undefined, (error) => error),
        );
        assertInstanceOf(failed, Error);
        assertEquals(texts(wal), ["acknowledged"]);
        assertEquals(wal.nextIndex, 2);
        const { state } = wal;
        if (state === "failed") {
          await assertRejects(() => twin.append(wal, "x"), WalFailedError);
          await assertRejects(() => done(twin.close(wal)), WalFailedError);
        } else {
          // A fault that was not met yet hits this one.
          const append = () => done(twin.append(wal, "two"));
          const index = await append().catch(append).catch(append);
          assertEquals(index, 2);
        }
        const found = disk.fork();
        const again = await settled(found, place.open({ storage: found }));
        // A failed log may show what was never acknowledged, as a whole.
        if (state === "failed") assert([1, 3].includes(again.lastIndex));
        else assertEquals(texts(again), ["acknowledged", "two"]);
        assertEquals(again.get(1).text(), "acknowledged");
        await settled(found, again.close());
        assertVerified({ ...place, storage: found });
      }
    });
  }
});

describe("a read that fails", () => {
  for (const twin of TWINS) {
    for (const closed of [true, false]) {
      const how = `[${closed ? "closed" : "killed"}, ${twin.name}]`;
      it(`while opening is no torn tail: refused, nothing is changed ${how}`, {
        timeout: 60_000,
      }, async () => {
        let refused = 0;
        for (const code of ["EIO", "EACCES"]) {
          for (let after = 0;; after += STEP) {
            const place = await leftLog(twin, closed);
            const { disk } = place;
            const before = fingerprint(place);
            const seen = counting(disk, ["read"]);
            disk.failNext("read", code, { after });
            const opened = await settled(disk, twin.open(place)).then(
              (wal) => ({ wal, error: undefined }),
              (error: unknown) => ({ wal: undefined, error }),
            );
            const met = seen.names.length > after;
            disk.onCall(undefined);
            if (opened.wal === undefined) {
              const { error } = opened;
              assertInstanceOf(error, StorageError, String(error));
              assertStrictEquals(error.systemCode, code);
              assertEquals(fingerprint(place), before, `read ${after}`);
              refused++;
            }
            if (!met) break;
            if (opened.wal !== undefined) await checkAll(place, opened.wal);
            await checkAll(place, await settled(disk, twin.open(place)));
            assertVerified(place);
            assert(after < 500, "it never opens");
          }
        }
        assertGreater(refused, 10 / STEP);
      });
    }
  }

  /** A log of three segments, closed or left by a dead process. */
  async function leftLog(
    twin: Twin,
    closed: boolean,
  ): Promise<Place & { disk: SimulatedStorage }> {
    const place = simulatedPlace(1, { mapped: false });
    const wal = await settled(place.disk, twin.open(place));
    for (let i = 1; i <= 8; i++) {
      await settled(place.disk, twin.append(wal, block(20_000, i)));
    }
    if (closed) {
      await settled(place.disk, twin.close(wal));
      return place;
    }
    const disk = place.disk.processDeath();
    const simulated = { kind: "simulated", real: false } as const;
    return { ...makePlace(disk, simulated, place.path), disk };
  }

  async function checkAll(
    { disk }: { disk: SimulatedStorage },
    wal: Wal,
  ): Promise<void> {
    assertEquals([wal.firstIndex, wal.lastIndex], [1, 8]);
    assertEquals([wal.recovery.outcome, wal.recovery.tornBytes], ["clean", 0]);
    for (const { index, data } of wal) assertEquals(data, block(20_000, index));
    await settled(disk, wal.close());
  }

  it("while reading an entry: StorageError, and it can be read again", {
    timeout: 60_000,
  }, async () => {
    const { disk, ...place } = simulatedPlace(1, { mapped: false });
    const wal = await settled(disk, place.open());
    for (let i = 1; i <= 8; i++) wal.appendSync(block(20_000, i));
    wal.closeSync();
    const reads: ((log: Wal) => unknown)[] = [
      (log) => log.get(1),
      (log) => log.at(2),
      (log) => log.getRange(1, 8),
      (log) => [...log],
      (log) => [...log.entries({ reverse: true })],
    ];
    for (const read of reads) {
      let refused = 0;
      for (let after = 0;; after++) {
        // Opened anew, so that no window holds anything.
        const found = disk.fork();
        const { path } = place;
        const log = openWalSync(path, { storage: found });
        const seen = counting(found, ["read"]);
        found.failNext("read", "EIO", { after });
        try {
          read(log);
          assertLessOrEqual(seen.names.length, after, "a fault was ignored");
          break;
        } catch (error) {
          assertInstanceOf(error, StorageError, String(error));
          assertStrictEquals(error.systemCode, "EIO");
          refused++;
        }
        read(log);
        assertEquals(log.state, "open");
        for (const { index, data } of log) {
          assertEquals(data, block(20_000, index));
        }
        assertEquals(log.appendSync("on"), 9);
        log.closeSync();
        assertVerified({ path, storage: found });
      }
      assertGreater(refused, 0, String(read));
    }
    await turn();
  });
});

describe("without a sync", () => {
  onEachTwin(
    "never: entries outlive the process, close() makes them durable",
    async (place, twin) => {
      const wal = await twin.open(place, { sync: "never" });
      for (let i = 1; i <= 12; i++) await twin.append(wal, block(20_000, i));
      assertGreater(segmentNames(place).length, 3);
      await twin.close(wal);
      const { storage, path } = place;
      if (place.kind === "simulated") {
        using harsh = openHarsh(storage as SimulatedStorage);
        assertEquals([harsh.length, harsh.recovery.outcome], [12, "clean"]);
      }
      await using again = await openWal(path, { storage });
      assertEquals(again.durableIndex, 12);
      for (const { index, data } of again) {
        assertEquals(data, block(20_000, index));
      }
    },
  );
});
