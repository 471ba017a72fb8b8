import { describe, it } from "node:test";
import {
  EmptyDataError,
  type EntryInput,
  IndexConflictError,
  InvalidEntryError,
  StorageError,
  WalClosedError,
  WalError,
  WalFailedError,
} from "../mod.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertGreater,
  assertInstanceOf,
  assertLessOrEqual,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import {
  block,
  entries,
  isSettled,
  listFiles,
  onEach,
  onEachTwin,
  SEGMENT_BYTES,
  settled,
  simulatedPlace,
  texts,
  turn,
} from "./_wal.ts";

const MAX_NS = 2n ** 63n - 1n;
const MIN_NS = -(2n ** 63n);

describe("Wal.append(): what is stored", () => {
  onEachTwin(
    "append() gives indexes from 1 without gaps",
    async (place, twin) => {
      await using wal = await twin.open(place);
      assertEquals([wal.firstIndex, wal.lastIndex, wal.nextIndex], [0, 0, 1]);
      for (let i = 1; i <= 200; i++) {
        assertStrictEquals(await twin.append(wal, `entry ${i}`), i);
      }
      assertEquals([wal.firstIndex, wal.lastIndex, wal.nextIndex], [
        1,
        200,
        201,
      ]);
      assertEquals(wal.length, 200);
      assertEquals(texts(wal), entries(200));
    },
  );

  onEachTwin(
    "append() keeps text, bytes and none at all",
    async (place, twin) => {
      const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
      const wal = await twin.open(place);
      await twin.append(wal, "šÉ🦭\ufeff\0");
      await twin.append(wal, bytes);
      await twin.append(wal, "");
      await twin.append(wal, new Uint8Array(0));
      await twin.append(wal, { data: "" });
      await twin.append(wal, { data: bytes.subarray(7, 9) });
      const check = (log: typeof wal) => {
        assertEquals(log.get(1).text(), "šÉ🦭\ufeff\0");
        assertEquals(log.get(2).data, bytes);
        for (const index of [3, 4, 5]) {
          assertEquals(log.get(index).data, new Uint8Array(0));
          assertEquals(log.get(index).text(), "");
        }
        assertEquals(log.get(6).data, new Uint8Array([7, 8]));
      };
      check(wal);
      await twin.close(wal);
      using again = await twin.open(place);
      check(again);
    },
  );

  onEachTwin(
    "append() copies the data before it returns",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const data = new Uint8Array([1, 2, 3]);
      const first = twin.append(wal, data);
      data.fill(9);
      const second = twin.append(wal, { data });
      data.fill(8);
      const large = block(40_000, 5);
      const third = twin.append(wal, large);
      large.fill(6);
      await Promise.all([first, second, third]);
      assertEquals(wal.get(1).data, new Uint8Array([1, 2, 3]));
      assertEquals(wal.get(2).data, new Uint8Array([9, 9, 9]));
      assertEquals(wal.get(3).data, block(40_000, 5));
    },
  );

  onEach(
    "a length that is a program of its own is not asked",
    async (place) => {
      await using wal = await place.open();
      let asked = 0;
      class Sly extends Uint8Array<ArrayBuffer> {
        override get length(): number {
          if (asked++ === 0) wal.appendSync("from within");
          return super.length;
        }
      }
      assertStrictEquals(
        wal.appendSync(new Sly(new Uint8Array([65, 66]).buffer)),
        1,
      );
      assertStrictEquals(
        wal.appendBatchSync([new Sly(new Uint8Array([67]).buffer)])[0],
        2,
      );
      assertEquals([asked, texts(wal)], [0, ["AB", "C"]]);
    },
  );

  onEach(
    "a length that lies neither adds bytes nor takes any",
    async (place) => {
      await using wal = await place.open();
      wal.appendSync("a secret of somebody else, long enough");
      for (const told of [0, 3, 1000]) {
        class Liar extends Uint8Array<ArrayBuffer> {
          override get length(): number {
            return told;
          }
        }
        const index = wal.appendSync(new Liar(new Uint8Array([88, 89]).buffer));
        assertStrictEquals(wal.get(index).text(), "XY");
        const buffer = new ArrayBuffer(20, { maxByteLength: 64 });
        const shrunk = new Liar(buffer);
        const batch: EntryInput[] = [{ data: shrunk }, {
          get data() {
            buffer.resize(2);
            return "x";
          },
        }];
        assertThrows(
          () => wal.appendBatchSync(batch),
          InvalidEntryError,
          "size",
        );
      }
      assertEquals(texts(wal).slice(1), ["XY", "XY", "XY"]);
    },
  );

  onEachTwin(
    "append() takes shared memory and odd views",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const shared = new Uint8Array(new SharedArrayBuffer(4));
      shared.set([1, 2, 3, 4]);
      await twin.append(wal, shared as Uint8Array);
      await twin.append(wal, { data: shared.subarray(1, 3) as Uint8Array });
      await twin.append(wal, Buffer.from("node"));
      const resizable = new ArrayBuffer(3, { maxByteLength: 8 });
      new Uint8Array(resizable).set([7, 8, 9]);
      await twin.append(wal, new Uint8Array(resizable));
      assertEquals(wal.get(1).data, new Uint8Array([1, 2, 3, 4]));
      assertEquals(wal.get(2).data, new Uint8Array([2, 3]));
      assertEquals(wal.get(3).text(), "node");
      assertEquals(wal.get(4).data, new Uint8Array([7, 8, 9]));
      for (const entry of wal) {
        assertStrictEquals(entry.data.constructor, Uint8Array);
        assertInstanceOf(entry.data.buffer, ArrayBuffer);
      }
    },
  );

  onEachTwin(
    "append() stores lone surrogates as U+FFFD",
    async (place, twin) => {
      await using wal = await twin.open(place);
      await twin.append(wal, "a\ud83e");
      await twin.append(wal, { data: "\udd2db" });
      assertEquals(wal.get(1).text(), "a\ufffd");
      assertEquals(wal.get(2).text(), "\ufffdb");
    },
  );

  onEachTwin(
    "append() stores up to maxEntryBytes and no byte more",
    async (place, twin) => {
      await using wal = await twin.open(place, { maxEntryBytes: 100 });
      await twin.append(wal, block(100, 1));
      await twin.append(wal, "x".repeat(100));
      await twin.append(wal, "é".repeat(50));
      const inputs: EntryInput[] = [
        block(101, 1),
        "x".repeat(101),
        // 51 characters, 102 bytes.
        "é".repeat(51),
        { data: block(101, 1) },
      ];
      for (const input of inputs) {
        const error = await assertRejects(
          () => twin.append(wal, input),
          InvalidEntryError,
          "maxEntryBytes",
        );
        assertStrictEquals(error.code, "INVALID_ENTRY");
        assertStringIncludes(error.message, "100");
        assertStringIncludes(error.message, "Cannot append");
      }
      assertEquals(wal.lastIndex, 3);
      assertEquals(wal.get(3).text(), "é".repeat(50));
    },
  );

  onEachTwin(
    "append() of one entry larger than a segment",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.append(wal, "before");
      await twin.append(wal, block(5 * SEGMENT_BYTES, 3));
      await twin.append(wal, "after");
      assertEquals(wal.get(2).data, block(5 * SEGMENT_BYTES, 3));
      await twin.close(wal);
      using again = await twin.open(place);
      assertEquals(again.length, 3);
      assertEquals(again.get(2).data, block(5 * SEGMENT_BYTES, 3));
      assertEquals(again.get(3).text(), "after");
    },
  );

  onEach("append() of exactly the default maxEntryBytes", async (place) => {
    const most = 16 * 1024 * 1024;
    await using wal = await place.open({ sync: "never" });
    const data = block(most + 1, 7);
    await wal.append(data.subarray(1));
    await assertRejects(() => wal.append(data), InvalidEntryError, `${most}`);
    assertEquals(wal.get(1).data.length, most);
    assertEquals(wal.get(1).data[most - 1], 7);
    assertEquals(wal.lastIndex, 1);
  });
});

describe("Wal.append(): terms and times", () => {
  onEachTwin("terms default to the last entry's, or 0", async (place, twin) => {
    const wal = await twin.open(place);
    await twin.append(wal, "a");
    await twin.append(wal, { data: "b", term: 7 });
    await twin.append(wal, "c");
    await twin.append(wal, { data: "d", term: 3 });
    await twin.append(wal, { data: "e", term: undefined });
    await twin.append(wal, { data: "f", term: Number.MAX_SAFE_INTEGER });
    const terms = (log: typeof wal) => Array.from(log, ({ term }) => term);
    const max = Number.MAX_SAFE_INTEGER;
    assertEquals(terms(wal), [0, 7, 7, 3, 3, max]);
    await twin.truncateAfter(wal, 5);
    await twin.close(wal);
    using again = await twin.open(place);
    await twin.append(again, "g");
    assertEquals(terms(again), [0, 7, 7, 3, 3, 3]);
    await twin.truncateAfter(again, 2);
    await twin.append(again, "h");
    assertEquals(terms(again), [0, 7, 7]);
    await twin.truncateAfter(again, 0);
    await twin.append(again, "i");
    assertEquals(terms(again), [0]);
  });

  onEachTwin(
    "wrong terms are refused and nothing is written",
    async (place, twin) => {
      await using wal = await twin.open(place);
      for (const term of [-1, 0.5, NaN, Infinity, 2 ** 53]) {
        const error = await assertRejects(
          () => twin.append(wal, { data: "x", term }),
          RangeError,
          `term is ${term}`,
        );
        assertStringIncludes(error.message, "expected");
      }
      for (const term of ["1", 1n, {}, true, null]) {
        await assertRejects(
          () => twin.append(wal, { data: "x", term: term as number }),
          TypeError,
          "term is",
        );
      }
      assertEquals([wal.lastIndex, wal.stats().bytesWritten], [0, 0]);
    },
  );

  onEachTwin(
    "times are kept to the nanosecond, extremes too",
    async (place, twin) => {
      const wal = await twin.open(place);
      const times = [
        0n,
        -1n,
        1n,
        1_700_000_000_123_456_789n,
        -1_700_000_000_123_456_789n,
        2n ** 32n,
        -(2n ** 32n),
        MAX_NS,
        MIN_NS,
      ];
      for (const timestamp of times) {
        await twin.append(wal, { data: "x", timestamp });
      }
      for (const timestampNs of times) {
        const timestamp = new Date(5);
        await twin.append(wal, { data: "x", timestampNs, timestamp });
      }
      await twin.close(wal);
      using again = await twin.open(place);
      const found = Array.from(again, ({ timestampNs }) => timestampNs);
      assertEquals(found, [...times, ...times]);
      assertEquals(again.get(2).timestamp.getTime(), -1);
      assertEquals(again.get(3).timestamp.getTime(), 0);
      assertEquals(again.get(5).timestamp.getTime(), -1_700_000_000_124);
    },
  );

  onEachTwin(
    "a Date is kept to the millisecond, before 1970 too",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const dates = ["2026-11-22T17:00:00.123Z", "1969-12-31T23:59:59.999Z"]
        .map((text) => new Date(text));
      dates.push(new Date(0), new Date(9_223_372_036_854));
      dates.push(new Date(-9_223_372_036_854));
      for (const timestamp of dates) {
        await twin.append(wal, { data: "x", timestamp });
      }
      const found = Array.from(wal, ({ timestamp }) => timestamp);
      assertEquals(found, dates);
      const ns = Array.from(wal, ({ timestampNs }) => timestampNs);
      assertEquals(
        ns,
        dates.map((date) => BigInt(date.getTime()) * 1_000_000n),
      );
    },
  );

  onEachTwin(
    "wrong times are refused and nothing is written",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const outside: unknown[] = [
        MAX_NS + 1n,
        MIN_NS - 1n,
        new Date(NaN),
        new Date(9_223_372_036_855),
        new Date(-9_223_372_036_855),
        new Date(8.64e15),
      ];
      for (const timestamp of outside) {
        const error = await assertRejects(
          () => twin.append(wal, { data: "x", timestamp: timestamp as Date }),
          RangeError,
          "timestamp is",
        );
        assertStringIncludes(error.message, "expected");
      }
      for (const timestamp of [1, "2026", {}, true, null]) {
        const fields = { data: "x", timestamp: timestamp as unknown as Date };
        await assertRejects(
          () => twin.append(wal, fields),
          TypeError,
          "timestamp is",
        );
      }
      for (const timestampNs of [1, new Date(), "1", null]) {
        const fields = {
          data: "x",
          timestampNs: timestampNs as unknown as bigint,
        };
        await assertRejects(
          () => twin.append(wal, fields),
          TypeError,
          "timestampNs is",
        );
      }
      await assertRejects(
        () => twin.append(wal, { data: "x", timestampNs: MAX_NS + 1n }),
        RangeError,
        "timestampNs is",
      );
      assertEquals(wal.lastIndex, 0);
    },
  );

  onEachTwin(
    "without a time an entry gets that of the call",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const before = place.storage.clock.nowMs();
      await twin.append(wal, "x");
      await twin.append(wal, {
        data: "y",
        timestamp: undefined,
        timestampNs: undefined,
      });
      const after = place.storage.clock.nowMs();
      for (const { timestamp, timestampNs } of wal) {
        assertLessOrEqual(before, timestamp.getTime());
        assertLessOrEqual(timestamp.getTime(), after);
        assertEquals(timestampNs, BigInt(timestamp.getTime()) * 1_000_000n);
      }
    },
  );

  onEachTwin(
    "an Entry passed on keeps data, term and exact time",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const timestampNs = 1_700_000_000_123_456_789n;
      await twin.append(wal, { data: "one", term: 5, timestampNs });
      await twin.append(wal, { data: "two", term: 9 });
      await twin.append(wal, wal.get(1));
      await twin.appendBatch(wal, [wal.get(1), wal.get(2)]);
      const fields = (index: number) => {
        const { data, term, timestampNs } = wal.get(index);
        return { data: [...data], term, timestampNs };
      };
      assertEquals(fields(3), fields(1));
      assertEquals(fields(4), fields(1));
      assertEquals(fields(5), fields(2));
      assertEquals(wal.get(3).index, 3);
    },
  );
});

describe("Wal.append(): what is refused", () => {
  onEachTwin("no data is EmptyDataError", async (place, twin) => {
    await using wal = await twin.open(place);
    const inputs: unknown[] = [
      undefined,
      null,
      {},
      { data: undefined },
      { data: null },
      { term: 1 },
    ];
    for (const input of inputs) {
      const error = await assertRejects(
        () => twin.append(wal, input as string),
        EmptyDataError,
      );
      assertInstanceOf(error, WalError);
      assertStrictEquals(error.code, "EMPTY_DATA");
      assertStrictEquals(error.name, "EmptyDataError");
      assertStringIncludes(error.message, "Cannot append");
      assertStringIncludes(error.message, "expected");
      await assertRejects(
        () => twin.appendBatch(wal, ["good", input as string]),
        EmptyDataError,
      );
    }
    assertEquals(wal.lastIndex, 0);
  });

  onEachTwin("data of a wrong type is TypeError", async (place, twin) => {
    await using wal = await twin.open(place);
    const values: unknown[] = [
      5,
      5n,
      true,
      Symbol("s"),
      () => "x",
      ["x"],
      new ArrayBuffer(4),
      new DataView(new ArrayBuffer(4)),
      new Uint16Array(2),
      new Uint8ClampedArray(2),
      new Int8Array(2),
    ];
    for (const value of values) {
      const tries = [
        () => twin.append(wal, value as string),
        () => twin.append(wal, { data: value as string }),
        () => twin.appendBatch(wal, ["good", value as string]),
        () => twin.appendBatch(wal, ["good", { data: value as string }]),
      ];
      for (const attempt of tries) {
        const error = await assertRejects(attempt, TypeError, "Cannot append");
        assertStringIncludes(error.message, "expected");
      }
    }
    assertEquals(wal.lastIndex, 0);
  });

  onEach("append() never throws", async (place) => {
    const wal = await place.open();
    const bad = [
      () => wal.append(undefined as unknown as string),
      () => wal.append(5 as unknown as string),
      () => wal.append("x", { expectedIndex: 9 }),
      () => wal.append("x", { signal: AbortSignal.abort() }),
      () => wal.append("x", { unknown: 1 } as object),
      () => wal.append("x", null as unknown as object),
      () => wal.append("x", { signal: null as unknown as AbortSignal }),
      () =>
        wal.append({
          get data(): string {
            throw new Error("getter");
          },
        }),
      () => wal.appendBatch(undefined as unknown as []),
      () => wal.appendBatch("text"),
      () => wal.flush(9),
      () => wal.flush("1" as unknown as number),
      () => wal.truncateAfter(9),
      () => wal.truncateAfter("1" as unknown as number),
    ];
    for (const call of bad) {
      const promise = call();
      assertInstanceOf(promise, Promise);
      await assertRejects(() => promise);
    }
    await wal.close();
    for (const call of [...bad, () => wal.append("x"), () => wal.rotate()]) {
      await assertRejects(call, WalClosedError);
    }
  });

  onEachTwin(
    "append options: wrong types and unknown names",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const wrong: [unknown, string][] = [
        [{ expectedindex: 1 }, '"expectedindex"'],
        [{ durable: 1 }, "durable is 1"],
        [{ durable: null }, "durable is null"],
        [{ durable: "yes" }, 'durable is "yes"'],
        [{ expectedIndex: "1" }, 'expectedIndex is "1"'],
        [{ expectedIndex: 1n }, "expectedIndex is 1n"],
        [{ expectedIndex: null }, "expectedIndex is null"],
        [{ signal: 1 }, "signal is 1"],
        [{ signal: {} }, "signal is"],
        [{ signal: null }, "signal is null"],
        [null, "null"],
        [5, "5"],
        ["always", "always"],
      ];
      for (const [options, found] of wrong) {
        for (
          const call of [
            () => twin.append(wal, "x", options as object),
            () => twin.appendBatch(wal, ["x"], options as object),
          ]
        ) {
          const error = await assertRejects(call, TypeError, found);
          assertStringIncludes(error.message, "expected");
        }
      }
      for (const expectedIndex of [NaN, 1.5, Infinity, 2 ** 53]) {
        await assertRejects(
          () => twin.append(wal, "x", { expectedIndex }),
          RangeError,
          `${expectedIndex}`,
        );
      }
      assertEquals(wal.lastIndex, 0);
      const all = {
        signal: undefined,
        expectedIndex: undefined,
        durable: undefined,
      };
      assertEquals(await twin.append(wal, "x", all), 1);
    },
  );

  onEachTwin("expectedIndex admits that index only", async (place, twin) => {
    await using wal = await twin.open(place);
    assertEquals(await twin.append(wal, "a", { expectedIndex: 1 }), 1);
    const indexes = await twin.appendBatch(wal, ["b", "c"], {
      expectedIndex: 2,
    });
    assertEquals(indexes, [2, 3]);
    for (const expectedIndex of [0, 1, 3, 5, -4, Number.MAX_SAFE_INTEGER]) {
      for (
        const call of [
          () => twin.append(wal, "x", { expectedIndex }),
          () => twin.appendBatch(wal, ["x", "y"], { expectedIndex }),
          () => twin.appendBatch(wal, [], { expectedIndex }),
        ]
      ) {
        const error = await assertRejects(call, IndexConflictError);
        assertStrictEquals(error.code, "INDEX_CONFLICT");
        assertEquals([error.expectedIndex, error.nextIndex], [
          expectedIndex,
          4,
        ]);
        assertStringIncludes(error.message, `${expectedIndex}`);
        assertStringIncludes(error.message, "4");
      }
    }
    assertEquals(texts(wal), ["a", "b", "c"]);
  });

  onEachTwin(
    "an aborted signal rejects with its reason",
    async (place, twin) => {
      await using wal = await twin.open(place);
      for (const reason of [new Error("mine"), "text", 0, undefined]) {
        const signal = AbortSignal.abort(reason);
        for (
          const call of [
            () => twin.append(wal, "x", { signal }),
            () => twin.appendBatch(wal, ["x"], { signal }),
          ]
        ) {
          const thrown = await call().then(
            () => ({ none: true }),
            (error: unknown) => ({ error }),
          );
          assertEquals(thrown, { error: signal.reason });
        }
      }
      assertEquals(wal.lastIndex, 0);
    },
  );

  it("a signal that aborts after the call changes nothing", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const controller = new AbortController();
    const pending = wal.append("x", { signal: controller.signal });
    controller.abort();
    assertFalse(await isSettled(pending));
    assertEquals(await settled(disk, pending), 1);
    assertEquals(wal.get(1).text(), "x");
    await settled(disk, wal.close());
  });
});

describe("Wal.append(): order and durability", () => {
  onEach("append() has written when it returns", async (place) => {
    await using wal = await place.open();
    const pending: Promise<number>[] = [];
    for (let i = 1; i <= 300; i++) {
      pending.push(wal.append(`entry ${i}`));
      assertEquals(wal.lastIndex, i);
      assertEquals(wal.get(i).text(), `entry ${i}`);
    }
    const batch = wal.appendBatch(["a", "b"]);
    assertEquals(wal.lastIndex, 302);
    assertEquals(wal.get(301).text(), "a");
    wal.appendSync("c");
    assertEquals(await Promise.all(pending), pending.map((_, i) => i + 1));
    assertEquals(await batch, [301, 302]);
    assertEquals(texts(wal), [...entries(300), "a", "b", "c"]);
  });

  it("always: append() settles after a sync, and durableIndex follows", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const first = wal.append("one");
    assertFalse(await isSettled(first));
    assertEquals([wal.lastIndex, wal.durableIndex], [1, 0]);
    assertEquals(wal.stats().unsyncedCount, 1);
    assertEquals(await settled(disk, first), 1);
    assertEquals(wal.durableIndex, 1);
    assertEquals(wal.stats().unsyncedCount, 0);
    await settled(disk, wal.close());
  });

  it("always: an entry written during a sync waits for the next", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const first = wal.append("one");
    await turn();
    const second = wal.append("two");
    await turn();
    assertEquals(disk.pendingSyncs, 1);
    disk.settle(1);
    assertEquals(await first, 1);
    assertFalse(await isSettled(second));
    assertEquals(wal.durableIndex, 1);
    assertEquals(await settled(disk, second), 2);
    await settled(disk, wal.close());
  });

  it("always: what append() resolved for outlives a power cut", async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const { disk, ...place } = simulatedPlace(seed);
      const wal = await settled(disk, place.open());
      await settled(disk, wal.append("one"));
      await settled(disk, wal.appendBatch(["two", "three"]));
      void wal.append("not acknowledged").catch(() => {});
      await turn();
      const found = disk.crash({ seed });
      using again = await settled(
        found,
        simulatedAgain(place.path, found),
      );
      assertEquals(texts(again).slice(0, 3), ["one", "two", "three"]);
      assertLessOrEqual(again.lastIndex, 4);
    }
  });

  it("interval, never: append() settles at once without a sync", async () => {
    for (const sync of ["interval", "never"] as const) {
      const { disk, ...place } = simulatedPlace();
      const wal = await settled(disk, place.open({ sync }));
      const before = wal.stats().syncCount;
      assertEquals(await wal.append("one"), 1);
      assertEquals(await wal.appendBatch(["two", "three"]), [2, 3]);
      assertEquals(wal.appendSync("four"), 4);
      assertEquals(wal.appendBatchSync(["five"]), [5]);
      assertEquals(disk.pendingSyncs, 0);
      assertEquals(wal.stats().syncCount, before);
      assertEquals(wal.durableIndex, 0);
      assertEquals(wal.stats().unsyncedCount, 5);
      await settled(disk, wal.close());
    }
  });

  it("durable: true waits and durable: false does not, whatever the mode", async () => {
    for (const sync of ["always", "interval", "never"] as const) {
      const { disk, ...place } = simulatedPlace();
      const wal = await settled(disk, place.open({ sync }));
      assertEquals(await wal.append("one", { durable: false }), 1);
      const batch = await wal.appendBatch(["two"], { durable: false });
      assertEquals(batch, [2]);
      assertEquals(disk.pendingSyncs, 0);
      const waits = [
        wal.append("three", { durable: true }),
        wal.appendBatch(["four"], { durable: true }),
      ];
      assertFalse(await isSettled(Promise.race(waits)), sync);
      assertEquals(await settled(disk, Promise.all(waits)), [3, [4]]);
      assertEquals(wal.durableIndex, 4);
      wal.appendSync("five", { durable: false });
      assertEquals(wal.durableIndex, 4);
      wal.appendSync("six", { durable: true });
      assertEquals(wal.durableIndex, 6);
      wal.appendBatchSync(["seven"], { durable: false });
      assertEquals(wal.durableIndex, 6);
      wal.appendBatchSync(["eight"], { durable: true });
      assertEquals(wal.durableIndex, 8);
      await settled(disk, wal.close());
    }
  });

  it("64 concurrent callers share one sync", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    await settled(disk, wal.append("first: the names are durable after it"));
    let syncs = 0;
    disk.onCall(({ operation }) => {
      if (operation === "syncSoon" || operation === "sync") syncs++;
      if (operation === "directorySync") syncs++;
    });
    const before = wal.stats().syncCount;
    const pending = Array.from({ length: 64 }, (_, i) => wal.append(`${i}`));
    assertEquals((await settled(disk, Promise.all(pending))).length, 64);
    assertEquals(syncs, 1);
    assertEquals(wal.stats().syncCount - before, 1);
    disk.onCall(undefined);
    await settled(disk, wal.close());
  });

  onEach("64 callers in loops need few syncs", async (place) => {
    await using wal = await place.open();
    await wal.append("first");
    const before = wal.stats().syncCount;
    const caller = async () => {
      for (let i = 0; i < 10; i++) await wal.append("x");
    };
    await Promise.all(Array.from({ length: 64 }, caller));
    assertEquals(wal.lastIndex, 641);
    const syncs = wal.stats().syncCount - before;
    // 640 appends: one round per turn of all callers, and a few to spare.
    assertLessOrEqual(syncs, 30, `${syncs} syncs for 640 appends`);
    assertGreater(syncs, 0);
  });

  it("asynchronous calls never sync on the event loop", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    disk.onCall(({ operation, name }) => {
      assert(operation !== "sync", `append() blocked in a sync of ${name}`);
    });
    const pending: Promise<unknown>[] = [];
    for (let i = 0; i < 40; i++) pending.push(wal.append(block(10_000, i)));
    pending.push(wal.rotate(), wal.flush(), wal.truncateAfter(40));
    await settled(disk, Promise.all(pending));
    const shorter = wal.truncateAfter(9);
    await settled(disk, shorter);
    await settled(disk, wal.close());
    disk.onCall(undefined);
  });
});

describe("Wal.append(): the caller's program runs inside", () => {
  onEachTwin(
    "a getter that appends: both entries stand, in order",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.append(wal, {
        get data(): string {
          wal.appendSync({ data: "inner", term: 7, timestampNs: 5n });
          return "outer";
        },
      });
      await twin.appendBatch(wal, [{
        get data(): string {
          wal.appendSync("inner of batch");
          return "outer of batch";
        },
        term: 1,
      }, "last"]);
      const expected = [
        "inner",
        "outer",
        "inner of batch",
        "outer of batch",
        "last",
      ];
      assertEquals(texts(wal), expected);
      // The inner entry's time is not the outer's.
      assertEquals(wal.get(1).timestampNs, 5n);
      assertGreater(wal.get(2).timestampNs, 5n);
      await twin.close(wal);
      using again = await twin.open(place);
      assertEquals(again.recovery.outcome, "clean");
      assertEquals(texts(again), expected);
    },
  );

  onEachTwin(
    "a getter in a batch that appends a batch: each has its own entries",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const inner = {
        get data(): string {
          wal.appendBatchSync(["inner 1", { data: "inner 2", term: 3 }]);
          return "outer 2";
        },
      };
      const wrong = {
        data: "not written",
        timestampNs: 1 as unknown as bigint,
      };
      for (let turn = 0; turn < 2; turn++) {
        const outer = [{ data: "outer 1", timestampNs: 5n }, inner, "outer 3"];
        await twin.appendBatch(wal, outer);
        // What it has staged is not seen by the next one.
        await assertRejects(
          () => twin.appendBatch(wal, [{ data: "no", term: 9 }, wrong]),
          TypeError,
        );
      }
      const once = ["inner 1", "inner 2", "outer 1", "outer 2", "outer 3"];
      assertEquals(texts(wal), [...once, ...once]);
      assertEquals(Array.from(wal, (entry) => entry.term).slice(5), [
        ...[3, 3, 3, 3, 3],
      ]);
      for (const index of [3, 8]) assertEquals(wal.get(index).timestampNs, 5n);
      for (const index of [1, 2, 4, 5, 6, 7, 9, 10]) {
        assertGreater(wal.get(index).timestampNs, 5n);
      }
    },
  );

  onEachTwin(
    "a getter that appends cannot pass by expectedIndex",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const entry = {
        get data(): string {
          wal.appendSync("inner");
          return "outer";
        },
      };
      await assertRejects(
        () => twin.append(wal, entry, { expectedIndex: 1 }),
        IndexConflictError,
      );
      await assertRejects(
        () => twin.appendBatch(wal, [entry], { expectedIndex: 2 }),
        IndexConflictError,
      );
      assertEquals(texts(wal), ["inner", "inner"]);
    },
  );

  onEachTwin(
    "a getter that closes the log: WalClosedError",
    async (place, twin) => {
      const wal = await twin.open(place);
      const entry = {
        get data(): string {
          wal.closeSync();
          return "outer";
        },
      };
      await assertRejects(() => twin.append(wal, entry), WalClosedError);
      const second = await twin.open(place);
      const other = {
        get data(): string {
          second.closeSync();
          return "outer";
        },
      };
      await assertRejects(
        () => twin.appendBatch(second, ["a", other]),
        WalClosedError,
      );
      using again = await twin.open(place);
      assertEquals(again.length, 0);
    },
  );

  onEachTwin(
    "a getter that truncates or rotates: the entry comes after",
    async (place, twin) => {
      const wal = await twin.open(place);
      const after = (act: () => void) => ({
        get data(): string {
          act();
          return "outer";
        },
      });
      await twin.appendBatch(wal, entries(3));
      const cut = after(() => wal.truncateAfterSync(1));
      assertEquals(await twin.append(wal, cut), 2);
      const emptied = after(() => wal.truncateAfterSync(0));
      assertEquals(await twin.appendBatch(wal, ["a", emptied, "b"]), [1, 2, 3]);
      const rotated = after(() => wal.rotateSync());
      assertEquals(await twin.append(wal, rotated), 4);
      const filled = after(() => void wal.appendSync(block(60_000, 1)));
      assertEquals(await twin.appendBatch(wal, ["c", filled]), [6, 7]);
      assertEquals(Array.from(wal).length, 7);
      await twin.close(wal);
      using again = await twin.open(place);
      assertEquals(again.recovery.outcome, "clean");
      const expected = ["a", "outer", "b", "outer"];
      assertEquals(texts(again).slice(0, 4), expected);
      assertEquals(again.get(5).data, block(60_000, 1));
      assertEquals([again.get(6).text(), again.get(7).text()], ["c", "outer"]);
    },
  );
});

describe("Wal.append(): a failed sync", () => {
  it("rejects what waits, refuses writes, reads on", async () => {
    const { disk, ...place } = simulatedPlace();
    const told: string[] = [];
    const logger = {
      debug: () => {},
      info: () => {},
      warn: () => {},
      error: (message: string) => void told.push(message),
    };
    const wal = await settled(disk, place.open({ logger }));
    await settled(disk, wal.append("good"));
    assertEquals(wal.state, "open");
    disk.failNext("syncSoon", "EIO");
    const waits = [wal.append("lost?"), wal.appendBatch(["a", "b"])];
    const ends = waits.map((one) => assertRejects(() => one, WalFailedError));
    const [error] = await settled(disk, Promise.all(ends));
    assertStrictEquals(error!.code, "FAILED");
    assertStringIncludes(error!.message, "Cannot write");
    assertInstanceOf(error!.cause, WalError);
    assertEquals(wal.state, "failed");
    assertEquals(told.length, 1);
    await assertRejects(() => wal.append("x"), WalFailedError);
    await assertRejects(() => wal.appendBatch(["x"]), WalFailedError);
    await assertRejects(() => wal.flush(), WalFailedError);
    await assertRejects(() => wal.rotate(), WalFailedError);
    await assertRejects(() => wal.truncateAfter(0), WalFailedError);
    assertThrows(() => wal.appendSync("x", { durable: false }), WalFailedError);
    assertThrows(() => wal.appendBatchSync(["x"]), WalFailedError);
    assertThrows(() => wal.flushSync(), WalFailedError);
    assertThrows(() => wal.rotateSync(), WalFailedError);
    assertThrows(() => wal.truncateAfterSync(0), WalFailedError);
    assertEquals(wal.get(1).text(), "good");
    assertEquals(wal.durableIndex, 1);
    await assertRejects(() => settled(disk, wal.close()), WalFailedError);
    assertEquals(wal.state, "closed");
    const again = await settled(disk, place.open());
    assertEquals(again.get(1).text(), "good");
    await settled(disk, again.append("more"));
    await settled(disk, again.close());
  });

  it("appendSync(): a blocking sync that fails, too", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = place.openSync();
    wal.appendSync("good");
    disk.failNext("sync", "EIO");
    const error = assertThrows(() => wal.appendSync("lost?"), WalFailedError);
    assertStringIncludes(error.message, "EIO");
    assertEquals(wal.state, "failed");
    assertThrows(() => wal.closeSync(), WalFailedError);
    assertThrows(() => wal.closeSync(), WalFailedError);
    await assertRejects(() => wal.close(), WalFailedError);
    const again = place.openSync();
    assertEquals(again.get(1).text(), "good");
    again.closeSync();
  });
});

describe("Wal.append(): a failed write", () => {
  it("a segment that cannot be made: as before the call", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    disk.failNext("create", "ENOSPC"); // So that there is no spare.
    await settled(disk, wal.append(block(50_000, 1)));
    const names = listFiles(place);
    for (const operation of ["create", "write", "rename"] as const) {
      disk.failNext(operation, "ENOSPC");
      const error = await assertRejects(
        () => settled(disk, wal.append(block(50_000, 2))),
        StorageError,
        "ENOSPC",
      );
      assertStrictEquals(error.code, "STORAGE");
      assertStrictEquals(error.systemCode, "ENOSPC");
      assertEquals(wal.state, "open");
      assertEquals([wal.lastIndex, wal.segments().length], [1, 1]);
      assertEquals(listFiles(place), names, `after a failed ${operation}`);
    }
    assertEquals(await settled(disk, wal.append(block(50_000, 2))), 2);
    await settled(disk, wal.close());
    const again = await settled(disk, place.open());
    assertEquals(again.recovery.outcome, "clean");
    assertEquals(again.get(2).data, block(50_000, 2));
    await settled(disk, again.close());
  });
});

function simulatedAgain(path: string, storage: unknown) {
  const place = simulatedPlace();
  assertEquals(place.path, path);
  return place.open({ storage: storage as typeof place.storage });
}
