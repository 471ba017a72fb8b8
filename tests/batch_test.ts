import { Buffer } from "node:buffer";
import { describe, it } from "node:test";
import {
  Batch,
  EmptyDataError,
  type EntryInput,
  InvalidEntryError,
  SegmentFullError,
  StorageError,
  type Wal,
} from "../mod.ts";
import {
  assertEquals,
  assertFalse,
  assertGreater,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import { frameOffsets, getU32 } from "./_log_bytes.ts";
import {
  assertVerified,
  block,
  entries,
  fingerprint,
  isSettled,
  onEach,
  onEachTwin,
  readBytes,
  SEGMENT_BYTES,
  segmentNames,
  settled,
  simulatedPlace,
  texts,
} from "./_wal.ts";

describe("Wal.appendBatch()", () => {
  onEachTwin("appendBatch() gives the indexes of all", async (place, twin) => {
    const wal = await twin.open(place);
    assertEquals(await twin.appendBatch(wal, ["a", "b", "c"]), [1, 2, 3]);
    assertEquals(await twin.appendBatch(wal, ["d"]), [4]);
    assertEquals(await twin.append(wal, "e"), 5);
    const many = entries(500);
    const indexes = await twin.appendBatch(wal, many);
    assertEquals(indexes, many.map((_, i) => i + 6));
    await twin.close(wal);
    using again = await twin.open(place);
    assertEquals(texts(again), ["a", "b", "c", "d", "e", ...many]);
  });

  onEachTwin(
    "appendBatch() takes any iterable, read once",
    async (place, twin) => {
      await using wal = await twin.open(place);
      let steps = 0;
      function* lines(): Generator<EntryInput> {
        for (const text of ["a", "b"]) {
          steps++;
          yield text;
        }
      }
      assertEquals(await twin.appendBatch(wal, lines()), [1, 2]);
      assertEquals(steps, 2);
      assertEquals(await twin.appendBatch(wal, new Set(["c", "d"])), [3, 4]);
      const map = new Map([[1, "e"]]);
      assertEquals(await twin.appendBatch(wal, map.values()), [5]);
      assertEquals(await twin.appendBatch(wal, wal), [6, 7, 8, 9, 10]);
      assertEquals(texts(wal).join(""), "abcdeabcde");
    },
  );

  onEachTwin("an empty batch is [] and writes nothing", async (place, twin) => {
    await using wal = await twin.open(place);
    assertEquals(await twin.appendBatch(wal, []), []);
    assertEquals(await twin.appendBatch(wal, new Batch()), []);
    assertEquals(await twin.appendBatch(wal, [], { durable: true }), []);
    const { appendCount, bytesWritten, syncCount } = wal.stats();
    assertEquals([appendCount, bytesWritten, syncCount], [0, 0, 0]);
    assertEquals(wal.nextIndex, 1);
  });

  onEachTwin("an iterable that throws writes nothing", async (place, twin) => {
    await using wal = await twin.open(place);
    await twin.append(wal, "before");
    const { bytesWritten } = wal.stats();
    const mine = new Error("mine");
    function* failing(): Generator<EntryInput> {
      yield "a";
      yield "b";
      throw mine;
    }
    const error = await assertRejects(() => twin.appendBatch(wal, failing()));
    assertStrictEquals(error, mine);
    const broken = {
      [Symbol.iterator](): Iterator<string> {
        throw mine;
      },
    };
    assertStrictEquals(
      await assertRejects(() => twin.appendBatch(wal, broken)),
      mine,
    );
    assertEquals([wal.lastIndex, wal.stats().bytesWritten], [1, bytesWritten]);
    assertEquals(await twin.appendBatch(wal, ["after"]), [2]);
  });

  onEachTwin("one bad entry refuses the whole batch", async (place, twin) => {
    await using wal = await twin.open(place, { maxEntryBytes: 100 });
    await twin.append(wal, "before");
    const bad: [unknown, new (message: string) => Error][] = [
      [undefined, EmptyDataError],
      [7, TypeError],
      [{ data: "x", term: -1 }, RangeError],
      [{ data: "x", timestamp: 5 }, TypeError],
      [block(101, 0), InvalidEntryError],
    ];
    for (const [entry, errorClass] of bad) {
      const batch = ["a", "b", entry as string, "c"];
      await assertRejects(() => twin.appendBatch(wal, batch), errorClass);
      assertEquals(wal.lastIndex, 1);
    }
    await twin.append(wal, "after");
    assertEquals(texts(wal), ["before", "after"]);
  });

  onEachTwin(
    "an iterable that appends: its entries come first",
    async (place, twin) => {
      const wal = await twin.open(place);
      function* appending(): Generator<EntryInput> {
        yield `batch, yielded at ${wal.nextIndex}`;
        wal.appendSync("inner");
        yield `batch, yielded at ${wal.nextIndex}`;
      }
      assertEquals(await twin.appendBatch(wal, appending()), [2, 3]);
      const expected = [
        "inner",
        "batch, yielded at 1",
        "batch, yielded at 2",
      ];
      assertEquals(texts(wal), expected);
      await twin.close(wal);
      using again = await twin.open(place);
      assertEquals(texts(again), expected);
    },
  );

  onEachTwin("not an iterable of entries: TypeError", async (place, twin) => {
    await using wal = await twin.open(place);
    for (
      const wrong of [undefined, null, 5, {}, "text", block(2, 1), () => []]
    ) {
      const error = await assertRejects(
        () => twin.appendBatch(wal, wrong as string[]),
        TypeError,
        "Cannot append",
      );
      assertStringIncludes(error.message, "expected");
    }
    assertEquals(wal.lastIndex, 0);
  });

  onEachTwin(
    "terms in a batch go on from entry to entry",
    async (place, twin) => {
      await using wal = await twin.open(place);
      await twin.append(wal, { data: "0", term: 4 });
      await twin.appendBatch(wal, ["a", { data: "b", term: 6 }, "c", {
        data: "d",
        term: 1,
      }, "e"]);
      await twin.append(wal, "f");
      assertEquals(Array.from(wal, ({ term }) => term), [4, 4, 6, 6, 1, 1, 1]);
    },
  );

  onEachTwin(
    "a batch copies its data before it returns",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const one = block(10, 1);
      const two = block(30_000, 2);
      const done = twin.appendBatch(wal, [one, { data: two }, one]);
      one.fill(8);
      two.fill(9);
      await done;
      assertEquals(wal.get(1).data, block(10, 1));
      assertEquals(wal.get(2).data, block(30_000, 2));
      assertEquals(wal.get(3).data, block(10, 1));
    },
  );

  onEachTwin("a batch never spans segments", async (place, twin) => {
    const wal = await twin.open(place);
    await twin.append(wal, block(40_000, 1));
    await twin.appendBatch(wal, [block(20_000, 2), block(20_000, 3)]);
    const [first, second, ...rest] = wal.segments();
    assertEquals(rest.length, 0);
    assertEquals([first!.firstIndex, first!.lastIndex], [1, 1]);
    assertEquals([second!.firstIndex, second!.lastIndex], [2, 3]);
    await twin.close(wal);
  });

  onEachTwin(
    "a batch larger than a segment gets one of its size",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.append(wal, "before");
      const batch = Array.from({ length: 20 }, (_, i) => block(20_000, i));
      const indexes = await twin.appendBatch(wal, batch);
      assertEquals(indexes.length, 20);
      await twin.append(wal, "after");
      const check = (log: typeof wal) => {
        assertEquals(log.length, 22);
        for (const [i, data] of batch.entries()) {
          assertEquals(log.get(i + 2).data, data);
        }
        assertEquals(log.get(22).text(), "after");
      };
      check(wal);
      const holder = wal.segments().find((one) => one.firstIndex === 2)!;
      assertGreater(holder.bytes, 400_000);
      assertGreater(holder.lastIndex, 20);
      assertEquals(wal.segments()[0]!.bytes, SEGMENT_BYTES);
      await twin.close(wal);
      using again = await twin.open(place);
      check(again);
    },
  );

  onEachTwin("a batch of many thousand entries", async (place, twin) => {
    const wal = await twin.open(place);
    const count = 5000;
    await twin.appendBatch(wal, entries(count));
    await twin.close(wal);
    using again = await twin.open(place);
    assertEquals(again.length, count);
    assertEquals(again.get(count).text(), `entry ${count}`);
    assertEquals(texts(again), entries(count));
  });

  onEachTwin(
    "a batch above the largest segment: SegmentFullError",
    async (place, twin) => {
      await using wal = await twin.open(place);
      await twin.append(wal, "before");
      const before = place.real ? fingerprint(place) : {};
      const { bytes, segmentCount } = wal.stats();
      // 64 references to the same 16 MiB: a GiB, and the headers on top.
      const large = new Uint8Array(16 * 1024 * 1024);
      const batch = new Array<Uint8Array>(64).fill(large);
      const error = await assertRejects(
        () => twin.appendBatch(wal, batch),
        SegmentFullError,
      );
      assertStrictEquals(error.code, "SEGMENT_FULL");
      assertGreater(error.bytes, 2 ** 30);
      assertGreater(2 ** 30, error.bytesMax);
      assertGreater(error.bytesMax, 2 ** 30 - 2 ** 20);
      assertStringIncludes(error.message, `${error.bytes}`);
      assertStringIncludes(error.message, `${error.bytesMax}`);
      const after = wal.stats();
      assertEquals([after.bytes, after.segmentCount], [bytes, segmentCount]);
      if (place.real) assertEquals(fingerprint(place), before);
      assertEquals(await twin.append(wal, "after"), 2);
      assertEquals(texts(wal), ["before", "after"]);
    },
  );

  onEach(
    "a batch of which a page is not backed by anything yet",
    async (place) => {
      await using wal = await place.open({ sync: "never" });
      // Lengths around pages and alignment, none of which may leave a trace.
      const sizes = [
        4047,
        4048,
        4049,
        4055,
        4056,
        4057,
        8191,
        8192,
        8193,
        1,
        0,
      ];
      const batch = sizes.map((size, i) => block(size, i + 1));
      await wal.appendBatch(batch);
      await wal.appendBatch(batch.toReversed());
      const found = Array.from(wal, ({ data }) => data.length);
      assertEquals(found, [...sizes, ...sizes.toReversed()]);
      for (const { data } of wal) {
        assertEquals(data, block(data.length, data[0] ?? 0));
      }
    },
  );

  it("always: a batch settles after the sync of its last entry", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const batch = wal.appendBatch(["a", "b", "c"]);
    assertEquals(wal.lastIndex, 3);
    assertFalse(await isSettled(batch));
    assertEquals(wal.durableIndex, 0);
    assertEquals(await settled(disk, batch), [1, 2, 3]);
    assertEquals(wal.durableIndex, 3);
    await settled(disk, wal.close());
  });

  it("a power cut takes all of a batch or nothing", async () => {
    let whole = 0;
    let none = 0;
    for (let seed = 1; seed <= 60; seed++) {
      const { disk, ...place } = simulatedPlace(seed);
      const wal = await settled(disk, place.open({ sync: "never" }));
      await settled(disk, wal.append("kept", { durable: true }));
      // Some pages each, so that they come and go one by one.
      for (let i = 0; i < 3; i++) {
        wal.appendBatchSync([block(3000, i), block(3000, i), block(3000, i)]);
      }
      const found = disk.crash({ seed });
      const again = await settled(found, place.open({ storage: found }));
      const { length } = again;
      assertEquals((length - 1) % 3, 0, `seed ${seed}: ${length} entries`);
      if (length === 10) whole++;
      if (length === 1) none++;
      await settled(found, again.close());
    }
    // The seeds reach both ends, or this test shows nothing.
    assertGreater(whole, 0);
    assertGreater(none, 0);
  });
});

function sum(bytes: Uint8Array): number {
  return bytes.reduce((total, byte) => total + byte, 0);
}

describe("Wal.appendBatch(): many bytes at once", () => {
  const MIB = 1024 * 1024;
  const SIZES = [10, 5000, 1.2 * MIB, 21, MIB - 40, 7, 600_000, 500_003, 0, 1]
    .map(Math.floor);

  onEachTwin("small and large frames in one batch", async (place, twin) => {
    const options = { segmentBytes: 8 * MIB };
    const wal = await twin.open(place, options);
    const data = SIZES.map((bytes, i) => block(bytes, i + 1));
    await twin.appendBatch(wal, data);
    await twin.append(wal, block(200_001, 77));
    await twin.append(wal, "small");
    await twin.appendBatch(wal, data.toReversed());
    const all = [...data, block(200_001, 77), "small", ...data.toReversed()];
    const check = (log: Wal) => {
      for (const [i, expected] of all.entries()) {
        const entry = log.get(i + 1);
        if (typeof expected === "string") assertEquals(entry.text(), expected);
        else assertEquals(Buffer.compare(entry.data, expected), 0, `${i}`);
      }
    };
    check(wal);
    await twin.close(wal);
    using again = await twin.open(place, options);
    assertEquals(again.recovery.outcome, "clean");
    check(again);
  });

  for (const mapped of [true, false]) {
    it(`what a write could not write leaves no trace [${mapped ? "mapped" : "written"}]`, () => {
      const { disk, ...place } = simulatedPlace(3, { mapped });
      const options = { segmentBytes: 8 * MIB, sync: "never" } as const;
      const wal = place.openSync(options);
      wal.appendSync("before");
      // The second piece of it fails, in the middle.
      let writes = 0;
      disk.onCall(({ operation }) => {
        if (operation !== "write" || ++writes !== 2) return;
        disk.failNext("write", "ENOSPC");
      });
      const large = [block(900_000, 255), block(900_003, 255), "x"];
      assertThrows(() => wal.appendBatchSync(large), StorageError, "ENOSPC");
      disk.onCall(undefined);
      assertGreater(writes, 1);
      assertEquals(texts(wal), ["before"]);
      // The same memory is used again, and its gaps must read as zeros.
      const odd = Array.from({ length: 700 }, (_, i) => block(i % 13, 7));
      wal.appendBatchSync(odd);
      const [name] = segmentNames(place);
      const bytes = readBytes(place, name!);
      const offsets = frameOffsets(bytes);
      assertEquals(offsets.length, 701);
      let end = 0;
      for (const offset of offsets) {
        assertEquals(offset % 8, 0);
        if (end > 0) assertEquals(sum(bytes.subarray(end, offset)), 0);
        end = offset + getU32(bytes, offset + 4);
      }
      assertEquals(sum(bytes.subarray(end, end + 2 * MIB)), 0);
      wal.closeSync();
      const again = place.openSync();
      assertEquals(again.length, 701);
      for (const [i, data] of odd.entries()) {
        assertEquals(again.get(i + 2).data, data);
      }
      again.closeSync();
      assertVerified(place);
    });
  }
});

describe("Batch", () => {
  it("collects, copies when added, and is emptied", () => {
    const batch = new Batch();
    assertEquals(batch.length, 0);
    assertEquals([...batch], []);
    const data = new Uint8Array([1, 2]);
    assertStrictEquals(batch.add(data).add("two"), batch);
    batch.add({ data, term: 3, timestampNs: 5n });
    data.fill(9);
    assertEquals(batch.length, 3);
    const [one, two, three] = [...batch];
    assertEquals(one!.data, new Uint8Array([1, 2]));
    assertEquals(two!.data, "two");
    assertEquals(three!.data, new Uint8Array([1, 2]));
    assertEquals([three!.term, three!.timestampNs], [3, 5n]);
    assertEquals([...batch].length, 3);
    batch.clear();
    assertEquals([batch.length, [...batch].length], [0, 0]);
    batch.add("again");
    assertEquals([...batch].map((entry) => entry.data), ["again"]);
  });

  it("add() refuses what append refuses", () => {
    const batch = new Batch();
    for (
      const none of [undefined, null, {}, { data: undefined }, { data: null }]
    ) {
      const error = assertThrows(
        () => batch.add(none as string),
        EmptyDataError,
        "Cannot add",
      );
      assertStringIncludes(error.message, "expected");
    }
    const wrong: unknown[] = [
      5,
      true,
      5n,
      () => "x",
      ["x"],
      new ArrayBuffer(2),
      new Uint16Array(2),
      { data: 5 },
      { data: ["x"] },
      { data: new Uint16Array(2) },
    ];
    for (const entry of wrong) {
      const error = assertThrows(
        () => batch.add(entry as string),
        TypeError,
        "Cannot add",
      );
      assertStringIncludes(error.message, "expected");
    }
    assertEquals(batch.length, 0);
  });

  onEachTwin(
    "a Batch is appended, again, and with entries of a log",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const batch = new Batch().add("a").add({ data: "b", term: 2 });
      assertEquals(await twin.appendBatch(wal, batch), [1, 2]);
      assertEquals(await twin.appendBatch(wal, batch), [3, 4]);
      assertEquals(batch.length, 2);
      const timestampNs = -123_456_789n;
      await twin.append(wal, { data: "c", term: 1, timestampNs });
      batch.clear();
      batch.add(wal.get(5));
      assertEquals(await twin.appendBatch(wal, batch), [6]);
      const { term, timestampNs: found } = wal.get(6);
      assertEquals([wal.get(6).text(), term, found], ["c", 1, timestampNs]);
      assertEquals(texts(wal).join(""), "ababcc");
    },
  );

  onEachTwin(
    "a Batch with wrong fields is refused when appended",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const batch = new Batch().add("a").add({ data: "b", term: -1 });
      await assertRejects(
        () => twin.appendBatch(wal, batch),
        RangeError,
        "term",
      );
      const time = { data: "b", timestamp: new Date(NaN) };
      await assertRejects(
        () => twin.appendBatch(wal, new Batch().add(time)),
        RangeError,
        "timestamp",
      );
      assertEquals(wal.lastIndex, 0);
    },
  );

  it("is exported as a class whose iterator is a generator", () => {
    const iterator = new Batch().add("x")[Symbol.iterator]();
    assertInstanceOf(iterator.next, Function);
    assertEquals(iterator.next().done, false);
    assertEquals(iterator.next().done, true);
  });
});
