import { describe, it } from "node:test";
import { IndexOutOfRangeError, type Wal } from "../mod.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertLess,
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
  segmentNames,
  settled,
  simulatedPlace,
  texts,
  turn,
} from "./_wal.ts";

const numbers = (wal: Wal) => [
  wal.firstIndex,
  wal.lastIndex,
  wal.nextIndex,
  wal.length,
];

describe("Wal.truncateAfter()", () => {
  onEachTwin(
    "truncateAfter() drops what is above, also after reopening",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.appendBatch(wal, entries(10));
      await twin.truncateAfter(wal, 7);
      assertEquals(numbers(wal), [1, 7, 8, 7]);
      assertEquals(texts(wal), entries(7));
      assertStrictEquals(wal.at(8), undefined);
      assertEquals(await twin.append(wal, "new"), 8);
      assertEquals(wal.get(8).text(), "new");
      await twin.close(wal);
      using again = await twin.open(place);
      assertEquals(again.recovery.outcome, "clean");
      assertEquals(texts(again), [...entries(7), "new"]);
    },
  );

  onEachTwin(
    "truncateAfter() of the last index changes nothing",
    async (place, twin) => {
      await using wal = await twin.open(place);
      await twin.appendBatch(wal, entries(3));
      const before = segmentNames(place);
      await twin.truncateAfter(wal, 3);
      assertEquals(numbers(wal), [1, 3, 4, 3]);
      assertEquals(segmentNames(place), before);
    },
  );

  onEachTwin("truncateAfter() on an empty log", async (place, twin) => {
    await using wal = await twin.open(place);
    await twin.truncateAfter(wal, 0);
    assertEquals(numbers(wal), [0, 0, 1, 0]);
    for (const index of [-1, 1, 2]) {
      const error = await assertRejects(
        () => twin.truncateAfter(wal, index),
        IndexOutOfRangeError,
        "Cannot truncate",
      );
      assertEquals([error.firstIndex, error.lastIndex], [0, 0]);
    }
  });

  onEachTwin(
    "truncateAfter() out of bounds changes nothing",
    async (place, twin) => {
      await using wal = await twin.open(place);
      await twin.appendBatch(wal, entries(5));
      for (const index of [-1, -100, 6, 7, Number.MAX_SAFE_INTEGER]) {
        const error = await assertRejects(
          () => twin.truncateAfter(wal, index),
          IndexOutOfRangeError,
          `${index}`,
        );
        assertStrictEquals(error.code, "INDEX_OUT_OF_RANGE");
        assertEquals([error.index, error.firstIndex, error.lastIndex], [
          index,
          1,
          5,
        ]);
        assertEquals(error.reason, "absent");
        assertStringIncludes(error.message, "Cannot truncate");
        assertStringIncludes(error.message, "1 to 5");
      }
      for (const index of ["1", 1n, null, undefined, {}]) {
        const error = await assertRejects(
          () => twin.truncateAfter(wal, index as number),
          TypeError,
          "Cannot truncate",
        );
        assertStringIncludes(error.message, "expected");
      }
      for (const index of [1.5, NaN, Infinity, -Infinity]) {
        await assertRejects(
          () => twin.truncateAfter(wal, index),
          RangeError,
          "Cannot truncate",
        );
      }
      assertEquals(texts(wal), entries(5));
      assertEquals(segmentNames(place).length, 1);
    },
  );

  onEachTwin(
    "after truncation to empty the next index is kept",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.appendBatch(wal, entries(4));
      await twin.truncateAfter(wal, 0);
      assertEquals(numbers(wal), [0, 0, 1, 0]);
      assertEquals(wal.durableIndex, 0);
      assertEquals([...wal], []);
      await twin.close(wal);
      const empty = await twin.open(place);
      assertEquals(empty.recovery.outcome, "clean");
      assertEquals(empty.recovery.entryCount, 0);
      assertEquals(numbers(empty), [0, 0, 1, 0]);
      assertEquals(await twin.append(empty, "first again"), 1);
      await twin.close(empty);
      using last = await twin.open(place);
      assertEquals(texts(last), ["first again"]);
    },
  );

  onEachTwin(
    "truncateAfter() inside a batch, then reopening",
    async (place, twin) => {
      for (const [left, size] of [[1, 10], [2, 10], [2, 9000]] as const) {
        const wal = await twin.open(place);
        await twin.truncateAfter(wal, 0);
        const data = [1, 2, 3, 4].map((fill) => block(size, fill));
        await twin.appendBatch(wal, data);
        await twin.truncateAfter(wal, left);
        assertEquals(numbers(wal), [1, left, left + 1, left]);
        await twin.close(wal);
        const again = await twin.open(place);
        assertEquals(again.recovery.outcome, "clean");
        assertEquals(again.length, left);
        assertEquals(again.get(left).data, block(size, left));
        await twin.appendBatch(again, ["x", "y"]);
        await twin.truncateAfter(again, left + 1);
        await twin.close(again);
        const last = await twin.open(place);
        assertEquals(last.get(left + 1).text(), "x");
        assertEquals(last.length, left + 1);
        await twin.close(last);
      }
    },
  );

  onEachTwin(
    "truncateAfter() over several segments gives files back",
    async (place, twin) => {
      const wal = await twin.open(place);
      for (let i = 1; i <= 20; i++) await twin.append(wal, block(20_000, i));
      const before = segmentNames(place).length;
      assert(before >= 7, `${before} segments`);
      await twin.truncateAfter(wal, 2);
      assertEquals(wal.length, 2);
      assertEquals(wal.get(2).data, block(20_000, 2));
      const { length } = segmentNames(place);
      assertEquals(length, wal.segments().length);
      assertLess(length, before);
      await twin.append(wal, block(50_000, 3));
      await twin.close(wal);
      using again = await twin.open(place);
      assertEquals(again.length, 3);
      for (
        const [i, size] of [[1, 20_000], [2, 20_000], [3, 50_000]] as const
      ) {
        assertEquals(again.get(i).data, block(size, i));
      }
    },
  );

  onEachTwin(
    "truncateAfter() at the end of a segment, and in an old one",
    async (place, twin) => {
      const wal = await twin.open(place);
      for (let i = 1; i <= 12; i++) {
        await twin.append(wal, block(14_000, i));
      }
      const boundaries = wal.segments().map((one) => one.lastIndex).reverse();
      for (const boundary of boundaries.filter((last) => last > 0)) {
        await twin.truncateAfter(wal, boundary);
        assertEquals(wal.lastIndex, boundary);
        assertEquals(wal.get(boundary).data, block(14_000, boundary));
        await twin.append(wal, block(14_000, boundary + 1));
        assertEquals(wal.lastIndex, boundary + 1);
        await twin.truncateAfter(wal, boundary);
      }
      await twin.close(wal);
      using again = await twin.open(place);
      assertEquals(again.length, boundaries.at(-1)!);
      for (const entry of again) {
        assertEquals(entry.data, block(14_000, entry.index));
      }
    },
  );

  onEachTwin(
    "truncated over and over: reading and reopening agree",
    async (place, twin) => {
      let model: string[] = [];
      let wal = await twin.open(place, { sync: "never" });
      for (let i = 0; i < 60; i++) {
        const batch = entries(1 + (i % 5), i * 10).map((text) =>
          text.padEnd(i % 7 === 0 ? 9000 : 30, "·")
        );
        await twin.appendBatch(wal, batch);
        model.push(...batch);
        if (i % 3 === 2) {
          const left = Math.max(0, model.length - 1 - (i % 6));
          await twin.truncateAfter(wal, left);
          model = model.slice(0, left);
        }
        if (i % 11 === 10) {
          await twin.truncateAfter(wal, Math.floor(model.length / 2));
          model = model.slice(0, Math.floor(model.length / 2));
        }
        if (i % 10 === 9) {
          await twin.close(wal);
          wal = await twin.open(place, { sync: "never" });
          assertEquals(wal.recovery.outcome, "clean");
        }
        assertEquals(texts(wal), model, `after step ${i}`);
        assertEquals(wal.nextIndex, model.length + 1);
      }
      await twin.close(wal);
    },
  );

  onEach("truncateAfter() takes effect at the call", async (place) => {
    await using wal = await place.open();
    await wal.appendBatch(entries(5));
    const done = wal.truncateAfter(2);
    assertEquals(numbers(wal), [1, 2, 3, 2]);
    const appended = wal.append("new");
    assertEquals(wal.get(3).text(), "new");
    assertEquals(await appended, 3);
    await done;
    assertEquals(texts(wal), ["entry 1", "entry 2", "new"]);
  });

  it("appends pending on removed entries reject, others settle", async () => {
    for (const begun of [false, true]) {
      const { disk, ...place } = simulatedPlace();
      const wal = await settled(disk, place.open());
      await settled(disk, wal.append("entry 1"));
      const kept = wal.append("entry 2");
      const removed = wal.append("entry 3");
      const batch = wal.appendBatch(["entry 4", "entry 5"]);
      const flush = wal.flush();
      const flushed = wal.flush(5);
      if (begun) await turn();
      const truncated = wal.truncateAfter(2);
      const later = wal.append("new 3");
      assertEquals(wal.lastIndex, 3);
      const removedOnes = [removed, batch, flushed];
      const errors = await Promise.all(
        removedOnes.map((one) =>
          assertRejects(() => one, IndexOutOfRangeError, "truncated")
        ),
      );
      assertEquals(errors.map((error) => error.index), [3, 5, 5]);
      for (const error of errors) {
        assertEquals(error.reason, "truncated");
        assertEquals([error.firstIndex, error.lastIndex], [1, 2]);
        assertStringIncludes(error.message, `${error.index}`);
      }
      assertEquals(await settled(disk, kept), 2);
      assertEquals(await settled(disk, later), 3);
      await settled(disk, truncated);
      await settled(disk, flush);
      assertEquals(wal.durableIndex, 3);
      await settled(disk, wal.close());
    }
  });

  it("truncateAfter() settles when no crash can undo it", async () => {
    for (let seed = 1; seed <= 30; seed++) {
      const { disk, ...place } = simulatedPlace(seed);
      const wal = await settled(disk, place.open());
      await settled(disk, wal.appendBatch(entries(5)));
      const truncated = wal.truncateAfter(2);
      assertFalse(await isSettled(truncated), "settled without a sync");
      await settled(disk, truncated);
      const found = disk.crash({ seed });
      const again = await settled(found, place.open({ storage: found }));
      assertEquals(texts(again), entries(2), `seed ${seed}`);
      await settled(found, again.close());
    }
  });

  it("a second truncateAfter() settles when no crash can undo it, too", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    await settled(disk, wal.appendBatch(entries(5)));
    const first = wal.truncateAfter(2);
    const second = wal.truncateAfter(2);
    assertFalse(await isSettled(second), "the log may still come back whole");
    await settled(disk, Promise.all([first, second]));
    wal.appendSync("new 3");
    const third = wal.truncateAfter(1);
    const fourth = wal.truncateAfter(0);
    assertEquals(numbers(wal), [0, 0, 1, 0]);
    await settled(disk, Promise.all([third, fourth]));
    await settled(disk, wal.close());
    const again = await settled(disk, place.open());
    assertEquals(numbers(again), [0, 0, 1, 0]);
    await settled(disk, again.close());
  });

  it("a power cut during truncateAfter(): all, or what it left", async () => {
    const found = new Set<number>();
    for (let seed = 1; seed <= 8; seed++) {
      const { disk, ...place } = simulatedPlace(seed);
      const wal = await settled(disk, place.open());
      await settled(disk, wal.appendBatch(entries(3)));
      await settled(disk, wal.append("entry 4"));
      const truncated = wal.truncateAfter(1);
      for (let done = false; !done;) {
        done = await isSettled(truncated);
        const cut = disk.image();
        const again = await settled(cut, place.open({ storage: cut }));
        const { length } = again;
        assert([1, 4].includes(length), `seed ${seed}: ${length} entries`);
        if (done) assertEquals(length, 1);
        assertEquals(texts(again), entries(length));
        found.add(length);
        await settled(cut, again.close());
        disk.settle(1);
      }
      await settled(disk, wal.close());
    }
    assertEquals([...found].sort(), [1, 4]);
  });
});

describe("Wal.rotate()", () => {
  onEachTwin(
    "rotate() ends the segment and begins the next",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.append(wal, "a");
      await twin.rotate(wal);
      assertEquals(wal.segments().length, 2);
      await twin.appendBatch(wal, ["b", "c"]);
      await twin.rotate(wal);
      const segments = wal.segments();
      const fields = segments.map((
        { number, firstIndex, lastIndex, sealed },
      ) => [
        number,
        firstIndex,
        lastIndex,
        sealed,
      ]);
      assertEquals(fields, [[1, 1, 1, true], [2, 2, 3, true], [
        3,
        0,
        0,
        false,
      ]]);
      assertEquals(texts(wal), ["a", "b", "c"]);
      assertEquals(numbers(wal), [1, 3, 4, 3]);
      assertEquals(wal.durableIndex, 3);
      await twin.close(wal);
      using again = await twin.open(place);
      assertEquals(again.recovery.outcome, "clean");
      assertEquals(texts(again), ["a", "b", "c"]);
      assertEquals(again.segments().length, 3);
      assertEquals(await twin.append(again, "d"), 4);
    },
  );

  onEachTwin(
    "rotate() of an empty segment changes nothing",
    async (place, twin) => {
      await using wal = await twin.open(place);
      await twin.rotate(wal);
      await twin.rotate(wal);
      assertEquals(wal.segments().length, 1);
      await twin.append(wal, "a");
      await twin.rotate(wal);
      const names = listFiles(place);
      await twin.rotate(wal);
      assertEquals(listFiles(place), names);
      assertEquals(wal.segments().length, 2);
      await twin.truncateAfter(wal, 0);
      await twin.rotate(wal);
      assertEquals(numbers(wal), [0, 0, 1, 0]);
    },
  );

  onEach("rotate() has taken effect when it returns", async (place) => {
    await using wal = await place.open();
    const a = wal.append("a");
    const first = wal.rotate();
    assertEquals(wal.segments().length, 2);
    const b = wal.append("b");
    const second = wal.rotate();
    assertEquals(wal.segments().length, 3);
    assertEquals(await Promise.all([a, b]), [1, 2]);
    await Promise.all([first, second]);
    assertEquals(texts(wal), ["a", "b"]);
  });

  onEachTwin(
    "many segments: reads all over, and reopening",
    async (place, twin) => {
      const wal = await twin.open(place, { sync: "never" });
      for (let i = 1; i <= 30; i++) {
        await twin.appendBatch(wal, [`first of ${i}`, `second of ${i}`]);
        await twin.rotate(wal);
      }
      const check = (log: Wal) => {
        for (let k = 0; k < 60; k++) {
          const index = 1 + (k * 37) % 60;
          const segment = Math.ceil(index / 2);
          const which = index % 2 === 1 ? "first" : "second";
          assertEquals(log.get(index).text(), `${which} of ${segment}`);
        }
      };
      check(wal);
      await twin.close(wal);
      using again = await twin.open(place);
      assertEquals(again.recovery.segmentsScanned, 0);
      check(again);
      assertEquals(again.segments().length, 31);
      assertEquals(again.segments()[0]!.bytes, SEGMENT_BYTES);
      assertThrows(() => again.get(61), IndexOutOfRangeError);
    },
  );
});
