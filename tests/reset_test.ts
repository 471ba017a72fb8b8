import { describe, it } from "node:test";
import {
  type Entry,
  IndexOutOfRangeError,
  StorageError,
  type Wal,
  WalClosedError,
  WalFailedError,
  type WalOptions,
} from "../mod.ts";
import {
  checkEveryCrash,
  type PortCall,
  type SimulatedStorage,
} from "../testing/mod.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertGreater,
  assertInstanceOf,
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
  listFiles,
  makePlace,
  onEach,
  onEachTwin,
  segmentNames,
  settled,
  simulatedPlace,
  texts,
  turn,
  TWINS,
} from "./_wal.ts";

const FILE = "tests/reset_test.ts";
const MAX = Number.MAX_SAFE_INTEGER;

function openAt(storage: SimulatedStorage, options?: WalOptions): Wal {
  const simulated = { kind: "simulated", real: false } as const;
  return makePlace(storage, simulated, "log").openSync(options);
}

const numbers = (wal: Wal) => [
  wal.firstIndex,
  wal.lastIndex,
  wal.nextIndex,
  wal.length,
];

describe("Wal.reset()", () => {
  onEachTwin(
    "drops all and goes on at the index, also after reopening",
    async (place, twin) => {
      // Lower, the same, right behind, and far beyond the end.
      for (const next of [3, 10, 11, 2 ** 32, 1]) {
        const wal = await twin.open(place);
        await twin.appendBatch(wal, entries(10));
        assertStrictEquals(await twin.reset(wal, next), undefined);
        assertEquals(numbers(wal), [0, 0, next, 0]);
        assertEquals([...wal], []);
        assertEquals(wal.durableIndex, 0);
        assertEquals(segmentNames(place).length, 1);
        const stats = wal.stats();
        assertEquals([stats.entryCount, stats.segmentCount], [0, 1]);
        assertEquals([stats.unsyncedBytes, stats.unsyncedCount], [0, 0]);
        await twin.close(wal);
        assertVerified(place);
        const empty = await twin.open(place);
        assertEquals(empty.recovery.outcome, "clean");
        assertEquals(empty.recovery.entryCount, 0);
        assertEquals(numbers(empty), [0, 0, next, 0]);
        assertEquals(await twin.append(empty, "first"), next);
        assertEquals(await twin.append(empty, "second"), next + 1);
        assertEquals(numbers(empty), [next, next + 1, next + 2, 2]);
        assertEquals(empty.durableIndex, next + 1);
        await twin.close(empty);
        assertVerified(place);
        const again = await twin.open(place);
        assertEquals(numbers(again), [next, next + 1, next + 2, 2]);
        assertEquals(texts(again), ["first", "second"]);
        await twin.reset(again, 1);
        await twin.close(again);
      }
    },
  );

  onEachTwin("of a new log", async (place, twin) => {
    let wal = await twin.open(place);
    for (const next of [1, 1, 40, 7, 7]) {
      await twin.reset(wal, next);
      assertEquals(numbers(wal), [0, 0, next, 0]);
    }
    await twin.close(wal);
    assertVerified(place);
    wal = await twin.open(place);
    assertEquals(numbers(wal), [0, 0, 7, 0]);
    assertEquals(await twin.append(wal, "seven"), 7);
    await twin.close(wal);
  });

  onEachTwin("the bounds", async (place, twin) => {
    await using wal = await twin.open(place);
    await twin.appendBatch(wal, entries(3));
    const before = fingerprint(place);
    for (const next of [0, -1, -MAX]) {
      const error = await assertRejects(
        () => twin.reset(wal, next),
        IndexOutOfRangeError,
        `${next}`,
      );
      assertStrictEquals(error.code, "INDEX_OUT_OF_RANGE");
      assertEquals([error.index, error.reason], [next, "absent"]);
      assertEquals([error.firstIndex, error.lastIndex], [1, 3]);
      assertStringIncludes(error.message, "Cannot reset");
    }
    for (const next of [1.5, NaN, Infinity, -Infinity, 2 ** 53]) {
      await assertRejects(
        () => twin.reset(wal, next),
        RangeError,
        "Cannot reset",
      );
    }
    const odd: unknown[] = ["3", 3n, null, undefined, {}, [3], true];
    for (const next of odd) {
      const error = await assertRejects(
        () => twin.reset(wal, next as number),
        TypeError,
        "Cannot reset",
      );
      assertStringIncludes(error.message, "expected");
    }
    assertEquals(fingerprint(place), before);
    assertEquals(texts(wal), entries(3));
  });

  onEachTwin("to the last index that there is", async (place, twin) => {
    const wal = await twin.open(place);
    await twin.append(wal, "before");
    await twin.reset(wal, MAX);
    assertEquals(numbers(wal), [0, 0, MAX, 0]);
    const tooMany = twin.appendBatch(wal, ["a", "b"]);
    await assertRejects(() => tooMany, RangeError, "2^53");
    assertEquals(numbers(wal), [0, 0, MAX, 0]);
    assertEquals(await twin.append(wal, "last"), MAX);
    assertEquals(numbers(wal), [MAX, MAX, 2 ** 53, 1]);
    assertEquals(wal.durableIndex, MAX);
    await assertRejects(() => twin.append(wal, "more"), RangeError, "2^53");
    assertEquals(wal.get(MAX).text(), "last");
    assertThrows(() => wal.get(MAX - 1), IndexOutOfRangeError);
    await twin.flush(wal);
    await twin.close(wal);
    assertVerified(place);
    const again = await twin.open(place);
    assertEquals(again.recovery.outcome, "clean");
    assertEquals(numbers(again), [MAX, MAX, 2 ** 53, 1]);
    assertEquals(texts(again), ["last"]);
    await assertRejects(() => twin.append(again, "more"), RangeError);
    await twin.truncateBefore(again, again.nextIndex);
    assertEquals(numbers(again), [0, 0, 2 ** 53, 0]);
    await twin.close(again);
    assertVerified(place);
    const full = await twin.open(place);
    assertEquals(numbers(full), [0, 0, 2 ** 53, 0]);
    await assertRejects(() => twin.append(full, "more"), RangeError);
    await twin.reset(full, 1);
    assertEquals(await twin.append(full, "first"), 1);
    await twin.close(full);
    assertVerified(place);
  });

  onEachTwin("the last one can be cut from the end", async (place, twin) => {
    const wal = await twin.open(place);
    await twin.reset(wal, MAX);
    await twin.append(wal, "last");
    await twin.truncateAfter(wal, MAX - 1);
    assertEquals(numbers(wal), [0, 0, MAX, 0]);
    assertEquals(await twin.append(wal, "again"), MAX);
    await twin.rotate(wal);
    await twin.close(wal);
    assertVerified(place);
    using last = await twin.open(place);
    assertEquals(texts(last), ["again"]);
  });

  onEachTwin(
    "what was there: removed below, absent above",
    async (place, twin) => {
      await using wal = await twin.open(place);
      await twin.appendBatch(wal, entries(10));
      await twin.reset(wal, 5);
      await twin.appendBatch(wal, ["new 5", "new 6"]);
      for (
        const [index, reason] of [
          [4, "removed"],
          [1, "removed"],
          [0, "absent"],
          [7, "absent"],
          [10, "absent"],
        ] as const
      ) {
        const error = assertThrows(
          () => wal.get(index),
          IndexOutOfRangeError,
          `${index}`,
        );
        assertEquals(
          [error.reason, error.firstIndex, error.lastIndex],
          [reason, 5, 6],
        );
        assertStrictEquals(wal.at(index), undefined);
      }
      assertEquals(texts(wal), ["new 5", "new 6"]);
      assertEquals(wal.getRange(1, 5).map((one) => one.text()), ["new 5"]);
      await twin.truncateAfter(wal, 4);
      assertEquals(numbers(wal), [0, 0, 5, 0]);
      await assertRejects(
        () => twin.truncateAfter(wal, 3),
        IndexOutOfRangeError,
      );
    },
  );

  onEachTwin("terms begin anew", async (place, twin) => {
    await using wal = await twin.open(place);
    await twin.append(wal, { data: "a", term: 7 });
    await twin.reset(wal, 10);
    await twin.append(wal, "b");
    assertEquals(wal.get(10).term, 0);
    await twin.append(wal, { data: "c", term: 3 });
    await twin.append(wal, "d");
    assertEquals(wal.get(12).term, 3);
  });

  onEachTwin(
    "over many segments: their files go, and their numbers stay used",
    async (place, twin) => {
      const wal = await twin.open(place);
      const used = new Set<string>();
      for (let round = 1; round <= 4; round++) {
        const next = round * 1000;
        for (let i = 0; i < 6; i++) {
          await twin.append(wal, block(30_000, round));
          for (const name of segmentNames(place)) used.add(name);
        }
        const before = segmentNames(place);
        assertGreater(before.length, 2);
        await twin.reset(wal, next);
        const [name, ...more] = segmentNames(place);
        assertEquals(more, []);
        assertFalse(used.has(name!), `${name} was used before`);
        const [segment] = wal.segments();
        assertEquals(
          [segment!.firstIndex, segment!.lastIndex, segment!.sealed],
          [0, 0, false],
        );
        assertEquals(await twin.append(wal, "first"), next);
        assertEquals(wal.segments()[0]!.firstIndex, next);
      }
      await twin.close(wal);
      assertVerified(place);
      using again = await twin.open(place);
      assertEquals(numbers(again), [4000, 4000, 4001, 1]);
    },
  );

  onEachTwin(
    "over and over, small and large: no file stays",
    async (place, twin) => {
      const wal = await twin.open(place, { sync: "never" });
      for (let i = 1; i <= 25; i++) {
        await twin.append(wal, i % 5 === 0 ? block(200_000, i) : "small");
        await twin.reset(wal, (i * 7919) % 1000 + 1);
        assertEquals(segmentNames(place).length, 1);
      }
      await twin.close(wal);
      assertVerified(place);
      const [segment] = segmentNames(place);
      const own = (name: string) => /^(LOCK|live$|wake$)/.test(name);
      const left = listFiles(place)!.filter((name) => !own(name));
      assertEquals(left, ["manifest", segment]);
    },
  );

  onEachTwin(
    "an iterator in progress says what happened",
    async (place, twin) => {
      await using wal = await twin.open(place);
      for (let i = 1; i <= 8; i++) await twin.append(wal, block(30_000, i));
      const lower = wal.entries();
      const higher = wal.entries({ reverse: true });
      const read = [lower.next().value, higher.next().value] as Entry[];
      await twin.reset(wal, 100);
      for (const one of [lower, higher]) {
        const error = assertThrows(() => one.next(), IndexOutOfRangeError);
        assert(["removed", "truncated"].includes(error.reason), error.reason);
      }
      assertEquals(read[0]!.data, block(30_000, 1));
      assertEquals(read[1]!.data, block(30_000, 8));
      assertEquals(Array.from(wal.entries()), []);
      await twin.appendBatch(wal, ["a", "b"]);
      const late = wal.entries();
      assertEquals(late.next().value?.index, 100);
      await twin.reset(wal, 1);
      assertThrows(() => late.next(), IndexOutOfRangeError);
    },
  );
});

describe("Wal.reset(): order and durability", () => {
  onEach("takes effect at the call", async (place) => {
    await using wal = await place.open();
    await wal.appendBatch(entries(5));
    const done = wal.reset(100);
    assertEquals(numbers(wal), [0, 0, 100, 0]);
    const appended = wal.append("new");
    assertEquals(wal.get(100).text(), "new");
    const again = wal.reset(3);
    assertEquals(numbers(wal), [0, 0, 3, 0]);
    const error = await assertRejects(() => appended, IndexOutOfRangeError);
    assertEquals([error.reason, error.index], ["truncated", 100]);
    assertEquals(await wal.append("newer"), 3);
    await Promise.all([done, again]);
    assertEquals(texts(wal), ["newer"]);
  });

  onEach("never throws: errors reject", async (place) => {
    const wal = await place.open();
    const bad = [0, 1.5, "1" as unknown as number];
    for (const next of bad) {
      const promise = wal.reset(next);
      assertInstanceOf(promise, Promise);
      await assertRejects(() => promise);
    }
    await wal.close();
    for (const next of [1, ...bad]) {
      await assertRejects(() => wal.reset(next), WalClosedError);
      assertThrows(() => wal.resetSync(next), WalClosedError);
    }
  });

  it("settles when no crash can undo it, and the same again too", {
    timeout: 60_000,
  }, async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const { disk, ...place } = simulatedPlace(seed);
      const wal = await settled(disk, place.open());
      await settled(disk, wal.appendBatch(entries(5)));
      const next = [1, 3, 6, 9][seed % 4]!;
      const first = wal.reset(next);
      assertFalse(await isSettled(first), "settled without a sync");
      const second = wal.reset(next);
      assertFalse(await isSettled(second), "the log may still come back");
      await settled(disk, seed % 2 === 0 ? first : second);
      const found = disk.crash({ seed });
      const again = await settled(found, place.open({ storage: found }));
      assertEquals(numbers(again), [0, 0, next, 0], `seed ${seed}`);
      await settled(found, again.close());
      assertVerified({ ...place, storage: found });
    }
  });

  it("the event loop waits for no sync", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    await settled(disk, wal.appendBatch(entries(5)));
    disk.onCall(({ operation, name }) => {
      assert(operation !== "sync", `blocked in a sync of ${name}`);
    });
    await settled(disk, Promise.all([wal.reset(9), wal.append("x")]));
    disk.onCall(undefined);
    await settled(disk, wal.close());
  });

  it("pending appends reject, whatever index they had", async () => {
    for (const begun of [false, true]) {
      for (const next of [1, 3, 4, 100]) {
        const { disk, ...place } = simulatedPlace();
        const wal = await settled(disk, place.open());
        const tx = wal.beginTransaction();
        tx.add("entry 4");
        const pending = [
          wal.append("entry 1"),
          wal.appendBatch(entries(2, 2)),
          tx.commit(),
          wal.flush(2),
        ];
        const flush = wal.flush();
        if (begun) await turn();
        const reset = wal.reset(next);
        const later = wal.append("new");
        const errors = await Promise.all(
          pending.map((one) => assertRejects(() => one, IndexOutOfRangeError)),
        );
        assertEquals(errors.map(({ index }) => index), [1, 3, 4, 2]);
        for (const { reason, firstIndex, lastIndex } of errors) {
          assertEquals([reason, firstIndex, lastIndex], ["truncated", 0, 0]);
        }
        assertEquals(tx.state, "committed");
        assertEquals(await settled(disk, later), next);
        await settled(disk, Promise.all([reset, flush]));
        assertEquals([wal.durableIndex, texts(wal)], [next, ["new"]]);
        await settled(disk, wal.close());
        assertVerified(place);
      }
    }
  });

  it("a pending transaction is none of the log's entries: it stays", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const tx = wal.beginTransaction();
    tx.add("a");
    await settled(disk, wal.reset(50));
    assertEquals([tx.state, tx.size], ["pending", 1]);
    assertEquals(await settled(disk, tx.commit()), [50]);
    await settled(disk, wal.close());
  });

  it("no file goes before the manifest is durable", async () => {
    for (const twin of TWINS) {
      const { disk, ...place } = simulatedPlace();
      const done = <T>(promise: Promise<T>) => settled(disk, promise);
      const wal = await done(twin.open(place));
      for (let i = 0; i < 4; i++) {
        await done(twin.append(wal, block(40_000, i)));
      }
      const calls: PortCall[] = [];
      disk.onCall((call) => void calls.push(call));
      await done(twin.reset(wal, 77));
      disk.onCall(undefined);
      const sync = twin.name === "sync" ? "sync" : "syncSoon";
      const at = (operation: string, part: string, from = 0) =>
        calls.findIndex((call, nth) =>
          nth >= from && call.operation === operation &&
          call.name.includes(part)
        );
      // Its file was made ahead.
      const begun = at("rename", "0005.wal.tmp");
      const synced = at(sync, "0005.wal", begun);
      const named = at("directorySync", "", begun);
      const manifest = at(sync, "manifest.", Math.max(synced, named));
      const renamed = at("rename", "manifest.", manifest);
      const durable = at("directorySync", "", renamed);
      const isGone = ({ operation, name }: PortCall) =>
        operation === "remove" && name.endsWith(".wal");
      const removed = calls.findIndex(isGone);
      const order = [begun, manifest, renamed, durable, removed];
      assertFalse([...order, synced, named].includes(-1), `${order}`);
      assertEquals([...order].sort((a, b) => a - b), order);
      assertEquals(calls.filter(isGone).length, 4);
      await done(twin.close(wal));
      assertVerified(place);
    }
  });

  for (const mapped of [true, false]) {
    for (const twin of TWINS) {
      const kind = mapped ? "mapped" : "written";
      it(`a crash at any call: all, or what it left [${kind}, ${twin.name}]`, {
        timeout: 600_000,
      }, async () => {
        /** What the log is to be after each call, noted before the call. */
        const versions: { next: number; list: string[] }[] = [];
        let certain = 0;
        const tally = await checkEveryCrash({
          seed: seedOf(),
          disk: { mapped },
          powerCuts: budgetOf({ smoke: 1, long: 20 }),
          async workload(storage): Promise<void> {
            let now = { next: 1, list: [] as string[] };
            const note = (version: typeof now) => {
              now = version;
              return versions.push(version) - 1;
            };
            note(now);
            const wal = openAt(storage, { sync: "never" });
            const append = (text: string) => {
              const data = text.padEnd(20_000, ".");
              const { next, list } = now;
              note({ next: next + 1, list: [...list, data] });
              wal.appendSync(data);
            };
            const reset = async (next: number) => {
              const version = note({ next, list: [] });
              await twin.reset(wal, next);
              certain = Math.max(certain, version);
            };
            for (const text of entries(5)) append(text);
            wal.flushSync();
            certain = versions.length - 1;
            await reset(3);
            append("new 3");
            append("new 4");
            const both = [reset(100), reset(2)];
            append("newer 2");
            await Promise.all(both);
            await reset(2);
            append("last 2");
            await twin.close(wal);
            certain = versions.length - 1;
          },
          promised: () => versions.slice(certain),
          verify(storage, promised): void {
            const wal = openAt(storage);
            const found = { next: wal.nextIndex, list: texts(wal) };
            const text = JSON.stringify(found);
            assert(
              promised.some((one) => JSON.stringify(one) === text),
              `${found.list.length} entries before ${found.next}: the log ` +
                `was never that`,
            );
            wal.closeSync();
            assertVerified({ storage, path: "log" });
          },
        });
        console.log(
          `seed ${tally.seed}: ${tally.crashes} crashes at ` +
            `${tally.calls} calls; ${replay(FILE)}`,
        );
      });
    }
  }
});

describe("Wal.reset(): what fails", () => {
  for (const twin of TWINS) {
    for (const mapped of [true, false]) {
      const how = `[${mapped ? "mapped" : "written"}, ${twin.name}]`;
      it(`a full disk: nothing has changed, and it can be tried again ${how}`, async () => {
        const { disk, ...place } = simulatedPlace(1, { mapped });
        const done = <T>(promise: Promise<T>) => settled(disk, promise);
        const wal = await done(twin.open(place));
        await done(twin.appendBatch(wal, entries(5)));
        const before = fingerprint(place);
        const segments = wal.segments();
        for (const operation of ["create", "write", "rename"] as const) {
          disk.failNext(operation, "ENOSPC");
          const error = await assertRejects(
            () => done(twin.reset(wal, 77)),
            StorageError,
            "ENOSPC",
          );
          assertStrictEquals(error.systemCode, "ENOSPC");
          assertEquals([wal.state, texts(wal)], ["open", entries(5)]);
          assertEquals(numbers(wal), [1, 5, 6, 5]);
          assertEquals(wal.segments(), segments);
          assertEquals(fingerprint(place), before, operation);
        }
        await done(twin.append(wal, "entry 6"));
        await done(twin.reset(wal, 77));
        assertEquals(numbers(wal), [0, 0, 77, 0]);
        await done(twin.close(wal));
        assertVerified(place);
      });

      for (const operation of ["sync", "directorySync"] as const) {
        it(`a ${operation} that fails: the log is failed ${how}`, async () => {
          const { disk, ...place } = simulatedPlace(1, { mapped });
          const done = <T>(promise: Promise<T>) => settled(disk, promise);
          const wal = await done(twin.open(place));
          await done(twin.appendBatch(wal, entries(5)));
          const soon = operation === "sync" && twin.name === "async";
          disk.failNext(soon ? "syncSoon" : operation, "EIO");
          await assertRejects(() => done(twin.reset(wal, 77)), WalFailedError);
          assertEquals([wal.state, wal.nextIndex], ["failed", 77]);
          await assertRejects(() => twin.append(wal, "x"), WalFailedError);
          await assertRejects(() => twin.reset(wal, 1), WalFailedError);
          await assertRejects(() => done(twin.close(wal)), WalFailedError);
          for (const found of [disk.fork(), disk.crash()]) {
            const again = await settled(found, place.open({ storage: found }));
            if (again.nextIndex !== 77) assertEquals(texts(again), entries(5));
            else assertEquals(again.length, 0);
            await settled(found, again.close());
            assertVerified({ ...place, storage: found });
          }
        });
      }

      it(`only the tidying up fails: reset all the same ${how}`, async () => {
        const { disk, ...place } = simulatedPlace(1, { mapped });
        const done = <T>(promise: Promise<T>) => settled(disk, promise);
        const wal = await done(twin.open(place));
        await done(twin.appendBatch(wal, entries(5)));
        disk.failNext("rename", "EIO", { after: 1 });
        await done(twin.reset(wal, 77));
        assertEquals([wal.state, wal.nextIndex], ["open", 77]);
        await done(twin.append(wal, "on"));
        const found = disk.crash();
        const again = await settled(found, place.open({ storage: found }));
        assertEquals(numbers(again), [77, 77, 78, 1]);
        await settled(found, again.close());
        assertVerified({ ...place, storage: found });
        assertEquals(segmentNames({ ...place, storage: found }).length, 1);
      });
    }
  }
});
