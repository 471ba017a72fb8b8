import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import {
  BinaryEncoder,
  type Encoder,
  type Entry,
  IndexOutOfRangeError,
  type ReadOptions,
  type Wal,
  WalClosedError,
} from "../mod.ts";
import {
  assertEquals,
  assertInstanceOf,
  assertLessOrEqual,
  assertNotStrictEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import {
  block,
  entries,
  onEach,
  onEachTwin,
  settled,
  simulatedPlace,
  texts,
} from "./_wal.ts";

const indexes = (found: Iterable<Entry>) =>
  Array.from(found, ({ index }) => index);

/** Ten entries in several segments. */
function fillTen(wal: Wal): void {
  for (let i = 1; i <= 10; i++) wal.appendSync(block(14_000, i));
}

describe("Wal.get() and at()", () => {
  onEach(
    "get() and at() give the entry, at() undefined for none",
    async (place) => {
      await using wal = await place.open({ sync: "never" });
      for (const none of [-5, 0, 1, 2]) {
        assertStrictEquals(wal.at(none), undefined);
        assertThrows(() => wal.get(none), IndexOutOfRangeError);
      }
      await wal.append("one");
      assertEquals(wal.get(1).text(), "one");
      assertEquals(wal.at(1)!.text(), "one");
      assertEquals([wal.at(0), wal.at(2), wal.at(-1)], [
        undefined,
        undefined,
        undefined,
      ]);
    },
  );

  onEach("get() beyond either end: IndexOutOfRangeError", async (place) => {
    await using wal = await place.open({ sync: "never" });
    await wal.appendBatch(["a", "b", "c"]);
    for (const index of [-1, 0, 4, 5, Number.MAX_SAFE_INTEGER]) {
      const error = assertThrows(() => wal.get(index), IndexOutOfRangeError);
      assertStrictEquals(error.code, "INDEX_OUT_OF_RANGE");
      assertEquals(error.index, index);
      assertEquals([error.firstIndex, error.lastIndex], [1, 3]);
      assertEquals(error.reason, "absent");
      assertStringIncludes(error.message, `Cannot read entry ${index}`);
      assertStringIncludes(error.message, "1 to 3");
    }
    await wal.truncateAfter(0);
    const error = assertThrows(() => wal.get(1), IndexOutOfRangeError);
    assertEquals([error.firstIndex, error.lastIndex], [0, 0]);
    assertStringIncludes(error.message, "empty");
  });

  onEach("wrong indexes: TypeError, or RangeError", async (place) => {
    await using wal = await place.open({ sync: "never" });
    await wal.append("a");
    const calls: ((index: number) => unknown)[] = [
      (index) => wal.get(index),
      (index) => wal.at(index),
      (index) => wal.getRange(index, 1),
      (index) => wal.getRange(1, index),
    ];
    for (const call of calls) {
      for (const wrong of ["1", 1n, undefined, null, {}, true]) {
        const error = assertThrows(
          () => call(wrong as number),
          TypeError,
          "Cannot read",
        );
        assertStringIncludes(error.message, "expected");
      }
      for (const wrong of [1.5, NaN, Infinity, -Infinity, 2 ** 53]) {
        const error = assertThrows(() => call(wrong), RangeError, `${wrong}`);
        assertStringIncludes(error.message, "expected");
      }
    }
  });

  onEach("get() copies: the caller may write into the data", async (place) => {
    await using wal = await place.open({ sync: "never" });
    await wal.append(block(10, 1));
    await wal.append(block(5000, 2));
    for (const [index, size] of [[1, 10], [2, 5000]] as const) {
      const entry = wal.get(index);
      const other = wal.get(index);
      entry.data.fill(99);
      assertEquals(other.data, block(size, index));
      assertEquals(wal.get(index).data, block(size, index));
      assertNotStrictEquals(entry, other);
    }
    const kept = wal.get(2);
    await wal.truncateAfter(0);
    await wal.append(block(5000, 7));
    assertEquals(kept.data, block(5000, 2));
    await wal.close();
    assertEquals(kept.data, block(5000, 2));
    assertEquals(kept.index, 2);
  });
});

describe("Wal.getRange()", () => {
  onEach("getRange() gives both ends and clamps", async (place) => {
    await using wal = await place.open({ sync: "never" });
    assertEquals(wal.getRange(1, 5), []);
    assertEquals(wal.getRange(-3, 0), []);
    fillTen(wal);
    assertEquals(indexes(wal.getRange(3, 6)), [3, 4, 5, 6]);
    assertEquals(indexes(wal.getRange(7, 7)), [7]);
    assertEquals(indexes(wal.getRange(-5, 2)), [1, 2]);
    assertEquals(indexes(wal.getRange(9, 99)), [9, 10]);
    assertEquals(indexes(wal.getRange(0, Number.MAX_SAFE_INTEGER)).length, 10);
    assertEquals(wal.getRange(11, 99), []);
    assertEquals(wal.getRange(-9, 0), []);
    assertEquals(wal.getRange(4, 4)[0]!.data, block(14_000, 4));
  });

  onEach(
    "getRange() from above to below: IndexOutOfRangeError",
    async (place) => {
      await using wal = await place.open({ sync: "never" });
      fillTen(wal);
      for (const [first, last] of [[2, 1], [20, 11], [0, -1]] as const) {
        const error = assertThrows(
          () => wal.getRange(first, last),
          IndexOutOfRangeError,
          `${first}`,
        );
        assertStringIncludes(error.message, `${last}`);
        assertStringIncludes(error.message, "expected");
        assertEquals([error.firstIndex, error.lastIndex], [1, 10]);
      }
    },
  );
});

describe("Wal.entries()", () => {
  onEach("entries(): from, to, reverse and limit", async (place) => {
    await using wal = await place.open({ sync: "never" });
    fillTen(wal);
    const cases: [ReadOptions | undefined, number[]][] = [
      [undefined, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
      [{}, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
      [
        {
          from: undefined,
          to: undefined,
          reverse: undefined,
          limit: undefined,
        },
        [
          1,
          2,
          3,
          4,
          5,
          6,
          7,
          8,
          9,
          10,
        ],
      ],
      [{ from: 8 }, [8, 9, 10]],
      [{ to: 3 }, [1, 2, 3]],
      [{ from: 4, to: 6 }, [4, 5, 6]],
      [{ from: 4, to: 4 }, [4]],
      [{ from: -3, to: 2 }, [1, 2]],
      [{ from: 9, to: 99 }, [9, 10]],
      [{ from: 11 }, []],
      [{ to: 0 }, []],
      [{ limit: 0 }, []],
      [{ limit: 2 }, [1, 2]],
      [{ from: 5, limit: 2 }, [5, 6]],
      [{ from: 9, limit: 5 }, [9, 10]],
      [{ reverse: true, limit: 3 }, [10, 9, 8]],
      [{ reverse: true, to: 4 }, [4, 3, 2, 1]],
      [{ reverse: true, from: 8 }, [10, 9, 8]],
      [{ reverse: true, from: 4, to: 6 }, [6, 5, 4]],
      [{ reverse: true, from: 4, to: 6, limit: 2 }, [6, 5]],
      [{ reverse: true, from: -2, to: 99, limit: 1 }, [10]],
      [{ reverse: false, from: 10 }, [10]],
    ];
    for (const [options, expected] of cases) {
      assertEquals(indexes(wal.entries(options)), expected);
    }
    for (const entry of wal.entries({ reverse: true })) {
      assertEquals(entry.data, block(14_000, entry.index));
    }
    assertEquals(indexes(wal), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assertEquals(indexes(wal[Symbol.iterator]()), indexes(wal.entries()));
  });

  onEach("entries() of an empty log has none", async (place) => {
    await using wal = await place.open({ sync: "never" });
    assertEquals([...wal.entries()], []);
    assertEquals([...wal.entries({ reverse: true, from: 1, to: 5 })], []);
    assertEquals([...wal], []);
  });

  onEach("entries() checks its options at the call", async (place) => {
    await using wal = await place.open({ sync: "never" });
    await wal.append("a");
    const wrongTypes: unknown[] = [
      { from: "1" },
      { to: 1n },
      { limit: "2" },
      { from: null },
      { reverse: 1 },
      { reverse: null },
      { form: 1 },
      { zerocopy: true },
      null,
      5,
      "reverse",
    ];
    for (const options of wrongTypes) {
      assertThrows(
        () => wal.entries(options as ReadOptions),
        TypeError,
        "Cannot",
      );
    }
    for (
      const options of [
        { from: 1.5 },
        { to: NaN },
        { limit: -1 },
        { limit: 0.5 },
      ]
    ) {
      const error = assertThrows(
        () => wal.entries(options),
        RangeError,
        "Cannot",
      );
      assertStringIncludes(error.message, "expected");
    }
  });

  onEach("the end of entries() is fixed at the first step", async (place) => {
    await using wal = await place.open({ sync: "never" });
    await wal.appendBatch(["a", "b"]);
    const iterator = wal.entries();
    await wal.append("before the first step");
    assertEquals(iterator.next().value!.index, 1);
    await wal.append("after the first step");
    assertEquals(indexes(iterator), [2, 3]);
    let count = 0;
    for (const entry of wal) {
      if (++count > 100) break;
      await wal.append(`echo of ${entry.index}`);
    }
    assertEquals([count, wal.lastIndex], [4, 8]);
    const reversed = wal.entries({ reverse: true });
    assertEquals(reversed.next().value!.index, 8);
    await wal.append("later");
    assertEquals(reversed.next().value!.index, 7);
  });

  onEach("entries() of entries truncated meanwhile throws", async (place) => {
    await using wal = await place.open({ sync: "never" });
    fillTen(wal);
    const forward = wal.entries();
    assertEquals(forward.next().value!.index, 1);
    await wal.truncateAfter(2);
    assertEquals(forward.next().value!.index, 2);
    const error = assertThrows(() => forward.next(), IndexOutOfRangeError);
    assertEquals([error.index, error.firstIndex, error.lastIndex], [3, 1, 2]);
    assertEquals(forward.next().done, true);
    const backward = wal.entries({ reverse: true });
    assertEquals(backward.next().value!.index, 2);
    await wal.truncateAfter(0);
    assertThrows(() => backward.next(), IndexOutOfRangeError);
  });

  onEach("break and return end an iteration", async (place) => {
    await using wal = await place.open({ sync: "never" });
    fillTen(wal);
    const iterator = wal.entries();
    for (const entry of iterator) {
      if (entry.index === 3) break;
    }
    assertEquals(iterator.next().done, true);
    assertEquals(indexes(wal.entries().take(2)), [1, 2]);
  });

  onEach("reading a closed log: WalClosedError", async (place) => {
    const wal = await place.open();
    await wal.appendBatch(["a", "b"]);
    const iterator = wal.entries();
    assertEquals(iterator.next().value!.index, 1);
    await wal.close();
    const calls = [
      () => wal.get(1),
      () => wal.at(1),
      () => wal.at(9),
      () => wal.getRange(1, 2),
      () => wal.entries(),
      () => wal[Symbol.iterator](),
      () => iterator.next(),
      () => wal.segments(),
      () => wal.stats(),
    ];
    for (const call of calls) {
      const error = assertThrows(call, WalClosedError, wal.directory);
      assertStrictEquals(error.code, "CLOSED");
      assertStringIncludes(error.message, "expected");
    }
  });
});

describe("WalReader: what it tells", () => {
  onEachTwin(
    "firstIndex, lastIndex, length and durableIndex",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const numbers = () => [
        wal.firstIndex,
        wal.lastIndex,
        wal.nextIndex,
        wal.length,
        wal.durableIndex,
      ];
      assertEquals(numbers(), [0, 0, 1, 0, 0]);
      await twin.append(wal, "a");
      assertEquals(numbers(), [1, 1, 2, 1, 1]);
      await twin.appendBatch(wal, ["b", "c"]);
      assertEquals(numbers(), [1, 3, 4, 3, 3]);
      await twin.truncateAfter(wal, 1);
      assertEquals(numbers(), [1, 1, 2, 1, 1]);
      await twin.truncateAfter(wal, 0);
      assertEquals(numbers(), [0, 0, 1, 0, 0]);
      assertEquals(wal.state, "open");
      assertStrictEquals(wal.directory, place.path);
    },
  );

  it("flush() waits for a sync, flush(index) for one that covers it", async () => {
    for (const sync of ["always", "interval", "never"] as const) {
      const { disk, ...place } = simulatedPlace();
      const wal = await settled(disk, place.open({ sync }));
      await wal.append("a", { durable: false });
      const first = wal.flush();
      await Promise.resolve();
      await wal.append("b", { durable: false });
      assertEquals(await settled(disk, first), undefined);
      assertEquals(wal.durableIndex >= 1, true);
      await settled(disk, wal.flush(2));
      assertEquals(wal.durableIndex, 2);
      // Nothing is left to wait for.
      await wal.flush();
      await wal.flush(1);
      await wal.flush(2);
      wal.appendSync("c", { durable: false });
      assertEquals(wal.durableIndex, 2);
      await wal.flush(2);
      assertEquals(wal.durableIndex, 2);
      wal.flushSync();
      assertEquals(wal.durableIndex, 3);
      const found = disk.crash();
      const again = await settled(found, place.open({ storage: found }));
      assertEquals(texts(again), ["a", "b", "c"]);
      await settled(found, again.close());
    }
  });

  onEach("flush(): wrong indexes, and above the last", async (place) => {
    await using wal = await place.open({ sync: "never" });
    await wal.appendBatch(entries(3));
    for (const wrong of ["1", 1n, null, {}]) {
      await assertRejects(
        () => wal.flush(wrong as number),
        TypeError,
        "Cannot flush",
      );
    }
    for (const wrong of [1.5, NaN, Infinity]) {
      await assertRejects(() => wal.flush(wrong), RangeError, "Cannot flush");
    }
    for (const above of [4, 99]) {
      const error = await assertRejects(
        () => wal.flush(above),
        IndexOutOfRangeError,
        `Cannot flush`,
      );
      assertEquals([error.index, error.firstIndex, error.lastIndex], [
        above,
        1,
        3,
      ]);
      assertEquals(error.reason, "absent");
    }
    await wal.flush(3);
    assertEquals(wal.durableIndex, 3);
  });

  onEachTwin("flush() of an empty log", async (place, twin) => {
    await using wal = await twin.open(place);
    await twin.flush(wal);
    assertEquals(wal.durableIndex, 0);
  });
});

describe("Wal.entries() and what a program does meanwhile", () => {
  onEach("what it stores past its data changes no other entry", (place) => {
    const wal = place.openSync();
    for (let i = 1; i <= 40; i++) wal.appendSync(`entry-${i}`);
    let count = 0;
    for (const entry of wal.entries()) {
      assertEquals(entry.text(), `entry-${++count}`);
      assertEquals(entry.index, count);
      const { buffer, byteOffset, length } = entry.data;
      const from = byteOffset + length;
      const bytes = Math.min(400, buffer.byteLength - from);
      new Uint8Array(buffer, from, bytes).fill(88);
    }
    assertEquals(count, 40);
    wal.closeSync();
  });

  it("a decoder that holds the iterator may not call it", () => {
    let inside = () => {};
    const binary = new BinaryEncoder();
    const format: Encoder = {
      name: "spy",
      byteLength: (record) => binary.byteLength(record),
      encode: (record) => binary.encode(record),
      encodeInto: (record, target) => binary.encodeInto(record, target),
      decode(bytes) {
        inside();
        return binary.decode(bytes);
      },
      decodeView: (bytes) => binary.decodeView(bytes),
    };
    const wal = simulatedPlace().openSync({ format });
    for (let i = 1; i <= 3; i++) wal.appendSync("x");
    for (const call of ["next", "return"] as const) {
      const all = wal.entries();
      const errors: unknown[] = [];
      inside = () => {
        try {
          all[call](undefined as never);
        } catch (error) {
          errors.push(error);
        }
      };
      assertEquals(all.next().done, false);
      assertEquals(errors.length, 1);
      assertInstanceOf(errors[0], TypeError);
      inside = () => {};
      assertEquals([...all].length, 2);
    }
    wal.closeSync();
  });
});

describe("reading here and there in a long log", () => {
  onEach("keeps few segments mapped, though the loop never runs", (place) => {
    const segments = 30;
    const wal = place.openSync({ sync: "never" });
    for (let i = 1; i <= segments; i++) {
      wal.appendSync(block(40_000, i));
      if (i < segments) wal.rotateSync();
    }
    wal.closeSync();
    const again = place.openSync();
    let most = 0;
    for (let i = 0; i < 4 * segments; i++) {
      const index = 1 + (i * 7) % segments;
      assertEquals(again.get(index).data[0], index);
      if (!place.real) continue;
      const maps = readFileSync("/proc/self/maps", "utf8");
      most = Math.max(most, maps.split(`${place.path}/segment_`).length - 1);
    }
    // Eight to read, one to write, and one that is on its way out.
    assertLessOrEqual(most, 10);
    again.closeSync();
  });
});
