import { statSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import {
  type Entry,
  IndexOutOfRangeError,
  StorageError,
  type Wal,
  WalClosedError,
  WalFailedError,
} from "../mod.ts";
import { checkEveryCrash, type PortCall } from "../testing/mod.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertGreater,
  assertInstanceOf,
  assertLess,
  assertLessOrEqual,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import { temporaryFolder } from "./_storages.ts";
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
  type Place,
  REAL,
  SEGMENT_BYTES,
  segmentNames,
  settled,
  simulatedPlace,
  texts,
  turn,
  type Twin,
  TWINS,
} from "./_wal.ts";

const FILE = "tests/truncate_before_test.ts";

const numbers = (wal: Wal) => [
  wal.firstIndex,
  wal.lastIndex,
  wal.nextIndex,
  wal.length,
];

/** Appends blocks, three to a segment, filled with their index. */
async function fillSegments(
  wal: Wal,
  twin: Twin,
  count: number,
): Promise<void> {
  for (let i = 0; i < count; i++) {
    const index = wal.nextIndex;
    assertEquals(await twin.append(wal, block(18_000, index)), index);
  }
}

/** The entries that there are bear their index. */
function checkBlocks(wal: Wal, first: number, last: number): void {
  assertEquals([wal.firstIndex, wal.lastIndex], [first, last]);
  let index = first;
  for (const entry of wal) {
    assertEquals(entry.index, index);
    assertEquals(entry.data, block(18_000, index % 256));
    index++;
  }
  assertEquals(index, last + 1);
}

describe("Wal.truncateBefore()", () => {
  onEachTwin(
    "drops what is below, also after reopening",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.appendBatch(wal, entries(10));
      assertStrictEquals(await twin.truncateBefore(wal, 4), undefined);
      assertEquals(numbers(wal), [4, 10, 11, 7]);
      assertEquals(texts(wal), entries(7, 4));
      await twin.append(wal, "entry 11");
      await twin.truncateBefore(wal, 6);
      assertEquals(texts(wal), entries(6, 6));
      await twin.close(wal);
      assertVerified(place);
      using again = await twin.open(place);
      assertEquals(again.recovery.outcome, "clean");
      assertEquals(again.recovery.entryCount, 6);
      assertEquals(numbers(again), [6, 11, 12, 6]);
      assertEquals(texts(again), entries(6, 6));
      assertEquals(await twin.append(again, "entry 12"), 12);
      // One that is the last is left alone by nobody else.
      await twin.truncateBefore(again, 12);
      assertEquals(numbers(again), [12, 12, 13, 1]);
    },
  );

  onEachTwin(
    "at or below the first index it does nothing",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const least = -Number.MAX_SAFE_INTEGER;
      for (const index of [1, 0, -1, least]) {
        await twin.truncateBefore(wal, index);
      }
      await twin.appendBatch(wal, entries(5));
      await twin.truncateBefore(wal, 3);
      const before = fingerprint(place);
      const { syncCount } = wal.stats();
      for (const index of [3, 2, 1, 0, -1, least]) {
        await twin.truncateBefore(wal, index);
        assertEquals(numbers(wal), [3, 5, 6, 3]);
      }
      assertEquals(fingerprint(place), before);
      assertEquals(wal.stats().syncCount, syncCount);
    },
  );

  onEachTwin(
    "above lastIndex + 1: IndexOutOfRangeError, nothing changes",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const refused = async (index: number, log: string) => {
        const error = await assertRejects(
          () => twin.truncateBefore(wal, index),
          IndexOutOfRangeError,
          `${index}`,
        );
        assertStrictEquals(error.code, "INDEX_OUT_OF_RANGE");
        assertEquals([error.index, error.reason], [index, "absent"]);
        assertEquals(error.firstIndex, wal.firstIndex);
        assertEquals(error.lastIndex, wal.lastIndex);
        assertStringIncludes(error.message, "Cannot truncate");
        assertStringIncludes(error.message, log);
      };
      for (const index of [2, 3, Number.MAX_SAFE_INTEGER]) {
        await refused(index, "empty");
      }
      await twin.appendBatch(wal, entries(5));
      await twin.truncateBefore(wal, 3);
      const before = fingerprint(place);
      for (const index of [7, 8, Number.MAX_SAFE_INTEGER]) {
        await refused(index, "3 to 5");
      }
      assertEquals(fingerprint(place), before);
      assertEquals(texts(wal), entries(3, 3));
    },
  );

  onEachTwin("wrong types and values are refused", async (place, twin) => {
    await using wal = await twin.open(place);
    await twin.appendBatch(wal, entries(5));
    const before = fingerprint(place);
    const odd: unknown[] = ["3", 3n, null, undefined, {}, [3], true];
    for (const index of odd) {
      const error = await assertRejects(
        () => twin.truncateBefore(wal, index as number),
        TypeError,
        "Cannot truncate",
      );
      assertStringIncludes(error.message, "expected");
    }
    for (const index of [1.5, NaN, Infinity, -Infinity, 2 ** 53]) {
      await assertRejects(
        () => twin.truncateBefore(wal, index),
        RangeError,
        "Cannot truncate",
      );
    }
    assertEquals(fingerprint(place), before);
    assertEquals(numbers(wal), [1, 5, 6, 5]);
  });

  onEachTwin(
    "an emptied log keeps its next index",
    async (place, twin) => {
      let wal = await twin.open(place);
      await twin.appendBatch(wal, [{ data: "a", term: 7 }, "b", "c"]);
      await twin.truncateBefore(wal, 4);
      const empty = async () => {
        assertEquals(numbers(wal), [0, 0, 4, 0]);
        assertEquals([...wal], []);
        assertEquals(wal.getRange(1, 9), []);
        assertEquals(wal.durableIndex, 0);
        assertEquals(wal.stats().entryCount, 0);
        assertStrictEquals(wal.at(3), undefined);
        await twin.flush(wal);
        // From either end there is nothing to take.
        await twin.truncateBefore(wal, 4);
        await twin.truncateAfter(wal, 3);
        await assertRejects(
          () => twin.truncateAfter(wal, 2),
          IndexOutOfRangeError,
        );
        await assertRejects(
          () => twin.truncateBefore(wal, 5),
          IndexOutOfRangeError,
        );
      };
      await empty();
      for (let i = 0; i < 2; i++) {
        await twin.close(wal);
        assertVerified(place);
        wal = await twin.open(place);
        assertEquals(wal.recovery.outcome, "clean");
        assertEquals(wal.recovery.entryCount, 0);
        await empty();
      }
      assertEquals(await twin.append(wal, "d"), 4);
      assertEquals(wal.get(4).term, 0);
      assertEquals(numbers(wal), [4, 4, 5, 1]);
      await twin.close(wal);
      assertVerified(place);
      using again = await twin.open(place);
      assertEquals(texts(again), ["d"]);
    },
  );

  onEachTwin(
    "emptied over and over, with and without reopening",
    async (place, twin) => {
      let wal = await twin.open(place);
      for (let round = 0; round < 12; round++) {
        const { nextIndex } = wal;
        if (round % 2 === 0) await twin.appendBatch(wal, entries(5));
        else await twin.append(wal, block(40_000, round));
        if (round % 4 === 1) await twin.rotate(wal);
        await twin.truncateBefore(wal, wal.nextIndex);
        const next = nextIndex + (round % 2 === 0 ? 5 : 1);
        assertEquals(numbers(wal), [0, 0, next, 0]);
        assertEquals(segmentNames(place).length, 1, `round ${round}`);
        if (round % 3 === 0) {
          await twin.close(wal);
          assertVerified(place);
          wal = await twin.open(place);
          assertEquals(numbers(wal), [0, 0, next, 0]);
        }
      }
      await twin.close(wal);
    },
  );

  onEachTwin(
    "inside of a batch and of a transaction",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.appendBatch(wal, entries(4));
      const tx = wal.beginTransaction();
      for (const text of entries(4, 5)) tx.add(text);
      await twin.commit(tx);
      await twin.truncateBefore(wal, 3);
      assertEquals(texts(wal), entries(6, 3));
      await twin.truncateBefore(wal, 7);
      assertEquals(texts(wal), entries(2, 7));
      await twin.close(wal);
      assertVerified(place);
      const again = await twin.open(place);
      assertEquals(texts(again), entries(2, 7));
      assertEquals(again.get(7).transactionId, tx.id);
      await twin.truncateAfter(again, 7);
      assertEquals(texts(again), ["entry 7"]);
      await twin.truncateAfter(again, 6);
      assertEquals(numbers(again), [0, 0, 7, 0]);
      await twin.close(again);
      assertVerified(place);
    },
  );

  onEachTwin("terms default to the last entry's", async (place, twin) => {
    await using wal = await twin.open(place);
    await twin.appendBatch(wal, ["a", { data: "b", term: 7 }]);
    await twin.truncateBefore(wal, 2);
    await twin.append(wal, "c");
    assertEquals(wal.get(3).term, 7);
    await twin.truncateBefore(wal, 4);
    await twin.append(wal, "d");
    assertEquals(wal.get(4).term, 0);
  });
});

describe("Wal.truncateBefore(): files", () => {
  onEachTwin(
    "removes the segments that hold nothing else, and no other",
    async (place, twin) => {
      const wal = await twin.open(place);
      await fillSegments(wal, twin, 14);
      const names = segmentNames(place);
      const all = wal.segments();
      assertEquals(all.length, 5);
      assertEquals([all[1]!.firstIndex, all[1]!.lastIndex], [4, 6]);
      const cases: [number, number][] = [
        [2, 5],
        [3, 5],
        [4, 4],
        [6, 4],
        [9, 3],
        [10, 2],
        [14, 1],
        [15, 1],
      ];
      for (const [index, left] of cases) {
        await twin.truncateBefore(wal, index);
        assertEquals(segmentNames(place), names.slice(5 - left), `${index}`);
        const segments = wal.segments();
        assertEquals(segments.length, left);
        const [first] = segments;
        // What is removed counts no more, though its bytes are still there.
        const expected = index === 15 ? [0, 0] : [
          index,
          all[5 - left]!
            .lastIndex,
        ];
        assertEquals([first!.firstIndex, first!.lastIndex], expected);
        const { bytes, entryCount, segmentCount } = wal.stats();
        assertEquals([entryCount, segmentCount], [15 - index, left]);
        assertEquals(bytes, left * SEGMENT_BYTES);
        if (index < 15) checkBlocks(wal, index, 14);
      }
      await fillSegments(wal, twin, 5);
      checkBlocks(wal, 15, 19);
      await twin.close(wal);
      assertVerified(place);
      using again = await twin.open(place);
      checkBlocks(again, 15, 19);
      assertEquals(again.segments()[0]!.firstIndex, 15);
    },
  );

  onEachTwin(
    "a log that slides takes no more space",
    async (place, twin) => {
      const wal = await twin.open(place, { sync: "never" });
      for (let i = 1; i <= 40; i++) {
        await fillSegments(wal, twin, 1);
        if (i > 7) await twin.truncateBefore(wal, i - 6);
        assertLessOrEqual(segmentNames(place).length, 4);
        assertLessOrEqual(wal.stats().bytes, 4 * SEGMENT_BYTES);
      }
      checkBlocks(wal, 34, 40);
      await twin.close(wal);
      assertVerified(place);
      using again = await twin.open(place);
      checkBlocks(again, 34, 40);
    },
  );

  it("no file goes before the manifest is durable", async () => {
    for (const twin of TWINS) {
      for (const index of [4, 5, 8, 15]) {
        const { disk, ...place } = simulatedPlace();
        const done = <T>(promise: Promise<T>) => settled(disk, promise);
        const wal = await done(twin.open(place));
        await done(fillSegments(wal, twin, 14));
        const calls: PortCall[] = [];
        disk.onCall((call) => void calls.push(call));
        await done(twin.truncateBefore(wal, index));
        disk.onCall(undefined);
        const find = (operation: string, part: string) =>
          calls.findIndex((call) =>
            call.operation === operation && call.name.includes(part)
          );
        const sync = twin.name === "sync" ? "sync" : "syncSoon";
        const written = find("write", "manifest.");
        const synced = find(sync, "manifest.");
        const renamed = find("rename", "manifest.");
        const named = calls.findIndex(({ operation }, nth) =>
          operation === "directorySync" && nth > renamed
        );
        const removed = find("remove", ".wal");
        const order = [written, synced, renamed, named, removed];
        assertFalse(order.includes(-1), `${order}`);
        assertEquals([...order].sort((a, b) => a - b), order);
        const gone = calls
          .filter(({ operation }) => operation === "remove")
          .map(({ name }) => name);
        assertEquals(gone.length, Math.floor((index - 1) / 3));
        assert(gone.every((name) => name.endsWith(".wal")), gone.join(" "));
        await done(twin.close(wal));
        assertVerified(place);
      }
    }
  });

  onEach("files that can not be removed hurt nobody", async (place) => {
    if (place.kind !== "simulated") return;
    const { disk } = {
      disk: place.storage as ReturnType<
        typeof simulatedPlace
      >["disk"],
    };
    const wal = place.openSync();
    await fillSegments(wal, TWINS[1]!, 14);
    disk.failNext("remove", "EACCES", { count: 3 });
    await wal.truncateBefore(11);
    checkBlocks(wal, 11, 14);
    assertEquals(wal.state, "open");
    assertGreater(segmentNames(place).length, wal.segments().length);
    await wal.close();
    const again = await place.open();
    checkBlocks(again, 11, 14);
    // The next opening tidies up.
    assertEquals(segmentNames(place).length, again.segments().length);
    await again.close();
    assertVerified(place);
  });

  for (const one of REAL) {
    const count = budgetOf({ smoke: 250, long: 1000 });
    it(`${count} small truncations do not fill the disk [${one.kind}]`, {
      timeout: 120_000,
    }, async () => {
      using folder = temporaryFolder();
      const place = makePlace(one.make(), one, join(folder.path, "log"));
      const wal = place.openSync({ sync: "never" });
      for (let i = 1; i <= count; i++) {
        wal.appendSync(`kept ${i}`);
        wal.appendSync("dropped");
        wal.truncateAfterSync(i);
      }
      assertEquals(wal.length, count);
      let bytes = 0;
      for (const name of segmentNames(place)) {
        bytes += statSync(join(place.path, name)).blocks * 512;
      }
      // A page each of header, frames and index, and one to be cut next.
      assertLess(bytes, count * 5 * 4096);
      wal.closeSync();
      assertVerified(place);
      const again = await place.open();
      assertEquals(again.length, count);
      for (const index of [1, 2, 100, count - 1, count]) {
        assertEquals(again.get(index).text(), `kept ${index}`);
      }
      await again.truncateBefore(count);
      assertEquals(texts(again), [`kept ${count}`]);
      assertLessOrEqual(segmentNames(place).length, 2);
      await again.close();
      assertVerified(place);
    });
  }
});

describe("Wal.truncateBefore(): reading", () => {
  onEachTwin(
    "below the first index: IndexOutOfRangeError, removed",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.appendBatch(wal, entries(9));
      await twin.truncateBefore(wal, 5);
      const check = (log: Wal) => {
        for (const index of [1, 4]) {
          const error = assertThrows(
            () => log.get(index),
            IndexOutOfRangeError,
            `${index}`,
          );
          assertEquals(error.reason, "removed");
          assertEquals(
            [error.index, error.firstIndex, error.lastIndex],
            [index, 5, 9],
          );
          assertStringIncludes(error.message, "Cannot read");
          assertStrictEquals(log.at(index), undefined);
        }
        for (const index of [0, -1, 10]) {
          const error = assertThrows(
            () => log.get(index),
            IndexOutOfRangeError,
          );
          assertEquals(error.reason, "absent");
        }
        const range = (list: Iterable<Entry>) =>
          Array.from(list, (entry) => entry.index);
        assertEquals(range(log.getRange(1, 6)), [5, 6]);
        assertEquals(range(log.getRange(1, 4)), []);
        assertEquals(range(log.entries({ from: 1, to: 6 })), [5, 6]);
        const down = log.entries({ reverse: true, to: 7 });
        assertEquals(range(down), [7, 6, 5]);
        assertEquals(range(log.entries({ limit: 2 })), [5, 6]);
      };
      check(wal);
      await twin.close(wal);
      using again = await twin.open(place);
      check(again);
      await twin.truncateBefore(again, 10);
      const error = assertThrows(() => again.get(9), IndexOutOfRangeError);
      assertEquals(
        [error.reason, error.firstIndex, error.lastIndex],
        ["removed", 0, 0],
      );
      assertThrows(() => again.get(10), IndexOutOfRangeError, "next index");
    },
  );

  onEachTwin(
    "an iterator in progress says what happened",
    async (place, twin) => {
      await using wal = await twin.open(place);
      await fillSegments(wal, twin, 12);
      const up = wal.entries();
      const behind = wal.entries({ from: 10 });
      const down = wal.entries({ reverse: true });
      const all = [up, behind, down];
      const read = all.map((one) => one.next().value as Entry);
      const later = wal.entries();
      await twin.truncateBefore(wal, 8);
      const error = assertThrows(() => up.next(), IndexOutOfRangeError);
      assertEquals([error.reason, error.index], ["removed", 2]);
      assertEquals(up.next(), { value: undefined, done: true });
      const rest = Array.from(behind, (entry) => entry.index);
      assertEquals(rest, [11, 12]);
      const seen: number[] = [];
      const end = assertThrows(() => {
        for (const entry of down) seen.push(entry.index);
      }, IndexOutOfRangeError);
      assertEquals([end.reason, end.index], ["removed", 7]);
      assertEquals(seen, [11, 10, 9, 8]);
      // One that has not taken a step begins where the log does.
      assertEquals(Array.from(later, ({ index }) => index), [8, 9, 10, 11, 12]);
      // What was read stays good, though its file is gone.
      assertEquals(read.map(({ index }) => index), [1, 10, 12]);
      for (const { data, index } of read) {
        assertEquals(data, block(18_000, index));
      }
      // An iterator over entries that a removal made unreachable twice.
      const emptied = wal.entries();
      emptied.next();
      await twin.truncateBefore(wal, 13);
      assertThrows(() => emptied.next(), IndexOutOfRangeError, "removed");
    },
  );
});

describe("Wal.truncateBefore(): order and durability", () => {
  onEach("takes effect at the call", async (place) => {
    await using wal = await place.open();
    await wal.appendBatch(entries(5));
    const done = wal.truncateBefore(4);
    assertEquals(numbers(wal), [4, 5, 6, 2]);
    assertThrows(() => wal.get(3), IndexOutOfRangeError);
    const appended = wal.append("entry 6");
    const more = wal.truncateBefore(6);
    assertEquals(texts(wal), ["entry 6"]);
    assertEquals(await appended, 6);
    await Promise.all([done, more]);
    assertEquals(numbers(wal), [6, 6, 7, 1]);
  });

  onEach("never throws: errors reject", async (place) => {
    const wal = await place.open();
    await wal.appendBatch(entries(3));
    const bad = [9, 1.5, "1" as unknown as number];
    for (const index of bad) {
      const promise = wal.truncateBefore(index);
      assertInstanceOf(promise, Promise);
      await assertRejects(() => promise);
    }
    await wal.close();
    for (const index of [1, 2, ...bad]) {
      await assertRejects(() => wal.truncateBefore(index), WalClosedError);
      assertThrows(() => wal.truncateBeforeSync(index), WalClosedError);
    }
  });

  it("settles when no crash can undo it, and the same again too", {
    timeout: 60_000,
  }, async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const { disk, ...place } = simulatedPlace(seed);
      const wal = await settled(disk, place.open());
      await settled(disk, fillSegments(wal, TWINS[0]!, 8));
      const first = wal.truncateBefore(5);
      assertFalse(await isSettled(first), "settled without a sync");
      const second = wal.truncateBefore(5);
      assertFalse(await isSettled(second), "the log may still come back");
      await settled(disk, seed % 2 === 0 ? first : second);
      const found = disk.crash({ seed });
      const again = await settled(found, place.open({ storage: found }));
      checkBlocks(again, 5, 8);
      await settled(found, again.close());
      assertVerified({ ...place, storage: found });
    }
  });

  it("the event loop waits for no sync", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    await settled(disk, fillSegments(wal, TWINS[0]!, 8));
    disk.onCall(({ operation, name }) => {
      assert(operation !== "sync", `blocked in a sync of ${name}`);
    });
    const pending = [wal.append("x"), wal.truncateBefore(5), wal.append("y")];
    await settled(disk, Promise.all(pending));
    disk.onCall(undefined);
    await settled(disk, wal.close());
  });

  it("appends pending on removed entries reject, others settle", async () => {
    for (const begun of [false, true]) {
      const { disk, ...place } = simulatedPlace();
      const wal = await settled(disk, place.open());
      const removed = wal.append("entry 1");
      const batch = wal.appendBatch(entries(2, 2));
      const flushed = wal.flush(2);
      const flush = wal.flush();
      // Its last entry stays, so it is as safe as it was to be.
      const half = wal.appendBatch(entries(2, 4));
      const kept = wal.append("entry 6");
      if (begun) await turn();
      const cut = wal.truncateBefore(5);
      const later = wal.append("entry 7");
      const errors = await Promise.all(
        [removed, batch, flushed].map((one) =>
          assertRejects(() => one, IndexOutOfRangeError, "removed")
        ),
      );
      assertEquals(errors.map(({ index }) => index), [1, 3, 2]);
      for (const error of errors) {
        assertEquals(error.reason, "removed");
        assertEquals([error.firstIndex, error.lastIndex], [5, 6]);
      }
      assertEquals(await settled(disk, half), [4, 5]);
      assertEquals(await settled(disk, kept), 6);
      assertEquals(await settled(disk, later), 7);
      await settled(disk, Promise.all([cut, flush]));
      assertEquals([wal.durableIndex, wal.stats().unsyncedCount], [7, 0]);
      await settled(disk, wal.close());
      assertVerified(place);
    }
  });

  it("what was never synced, removed: the log goes on behind it", {
    timeout: 60_000,
  }, async () => {
    for (const twin of TWINS) {
      for (const seed of [1, 2, 3, 4, 5, 6]) {
        const { disk, ...place } = simulatedPlace(seed);
        const done = <T>(promise: Promise<T>) => settled(disk, promise);
        const wal = await done(twin.open(place, { sync: "never" }));
        await fillSegments(wal, twin, 8);
        await done(twin.truncateBefore(wal, seed < 4 ? 9 : 8));
        await twin.append(wal, "not synced");
        const found = disk.crash({ seed });
        const again = await settled(found, place.open({ storage: found }));
        assert(again.nextIndex >= 9, `the next index is ${again.nextIndex}`);
        assert(again.nextIndex <= 10, `the next index is ${again.nextIndex}`);
        if (seed >= 4) assertEquals(again.firstIndex, 8);
        else assert([0, 9].includes(again.firstIndex));
        await settled(found, again.close());
        assertVerified({ ...place, storage: found });
      }
    }
  });

  it("what it hides is synced with the rest until it is gone", {
    timeout: 60_000,
  }, async () => {
    // Else a mark would vouch for bytes that no sync has covered, in a log
    // that a crash brings back.
    for (let seed = 1; seed <= 6; seed++) {
      const { disk, ...place } = simulatedPlace(seed);
      const wal = await settled(disk, place.open({ sync: "never" }));
      await fillSegments(wal, TWINS[0]!, 8);
      let done = false;
      const cut = wal.truncateBefore(8).then(() => done = true);
      for (let step = 0; !done; step++) {
        assert(step < 100, "it never settles");
        // Each frame bears the newest mark.
        wal.appendSync("x", { durable: false });
        const found = disk.image({
          pages: ({ path }) => /000[12][.]wal$/.test(path) ? "old" : "new",
          names: (text) => !text.includes("manifest"),
        });
        const again = place.openSync({ storage: found });
        assert([0, 1, 8].includes(again.firstIndex));
        again.closeSync();
        assertVerified({ ...place, storage: found });
        disk.settle(1);
        for (let hop = 0; hop < 12; hop++) await null;
      }
      await cut;
      await settled(disk, wal.close());
    }
  });

  for (const mapped of [true, false]) {
    for (const twin of TWINS) {
      const kind = mapped ? "mapped" : "written";
      it(`a crash at any call: all, or what it left [${kind}, ${twin.name}]`, {
        timeout: 600_000,
      }, async () => {
        let least = 1;
        let most = 0;
        const tally = await checkEveryCrash({
          seed: seedOf(),
          disk: { mapped },
          powerCuts: budgetOf({ smoke: 1, long: 20 }),
          async workload(storage): Promise<void> {
            const place = makePlace(
              storage,
              { kind: "simulated", real: false },
              "log",
            );
            const wal = place.openSync({ sync: "never" });
            await fillSegments(wal, twin, 8);
            wal.flushSync();
            most = 8;
            const cut = async (index: number) => {
              await twin.truncateBefore(wal, index);
              least = index;
            };
            for (const index of [2, 4, 8]) await cut(index);
            await fillSegments(wal, twin, 3);
            await Promise.all([cut(9), cut(11)]);
            most = 11;
            await cut(12);
            await twin.close(wal);
          },
          promised: () => ({ least, most }),
          verify(storage, promised): void {
            const place = makePlace(
              storage,
              { kind: "simulated", real: false },
              "log",
            );
            const wal = place.openSync();
            const { firstIndex, nextIndex } = wal;
            assert(nextIndex > promised.most, `the next is ${nextIndex}`);
            // Nothing that was removed comes back.
            const first = firstIndex === 0 ? nextIndex : firstIndex;
            assert(first >= promised.least, `the first is ${first}`);
            if (firstIndex > 0) checkBlocks(wal, firstIndex, nextIndex - 1);
            wal.closeSync();
            assertVerified(place);
          },
        });
        console.log(
          `seed ${tally.seed}: ${tally.crashes} crashes at ` +
            `${tally.calls} calls; ${replay(FILE)}`,
        );
        assertEquals(least, 12);
      });
    }
  }
});

describe("Wal.truncateBefore(): what fails", () => {
  /** A log of eight blocks on a disk that can fail. */
  async function openFilled(twin: Twin, mapped: boolean): Promise<
    Place & {
      disk: ReturnType<typeof simulatedPlace>["disk"];
      wal: Wal;
    }
  > {
    const place = simulatedPlace(1, { mapped });
    const wal = await settled(place.disk, twin.open(place));
    await settled(place.disk, fillSegments(wal, twin, 8));
    return { ...place, wal };
  }

  for (const twin of TWINS) {
    for (const mapped of [true, false]) {
      const how = `[${mapped ? "mapped" : "written"}, ${twin.name}]`;
      it(`a full disk: nothing has changed, and it can be tried again ${how}`, async () => {
        const { disk, wal, ...place } = await openFilled(twin, mapped);
        const before = fingerprint(place);
        const segments = wal.segments();
        for (const operation of ["create", "write"] as const) {
          disk.failNext(operation, "ENOSPC");
          const error = await assertRejects(
            () => settled(disk, twin.truncateBefore(wal, 6)),
            StorageError,
            "ENOSPC",
          );
          assertStrictEquals(error.systemCode, "ENOSPC");
          assertEquals(wal.state, "open");
          checkBlocks(wal, 1, 8);
          assertEquals(wal.segments(), segments);
          assertEquals(fingerprint(place), before, operation);
        }
        await settled(disk, fillSegments(wal, twin, 1));
        await settled(disk, twin.truncateBefore(wal, 6));
        checkBlocks(wal, 6, 9);
        await settled(disk, twin.close(wal));
        assertVerified(place);
      });

      const faults = [
        ["rename", "EIO", 0],
        ["rename", "ENOSPC", 0],
        [twin.name === "sync" ? "sync" : "syncSoon", "EIO", 0],
        ["directorySync", "EIO", 0],
      ] as const;
      for (const [operation, code, after] of faults) {
        it(`a ${operation} that fails with ${code}: the log is failed ${how}`, async () => {
          const { disk, wal, ...place } = await openFilled(twin, mapped);
          disk.failNext(operation, code, { after });
          const error = await assertRejects(
            () => settled(disk, twin.truncateBefore(wal, 6)),
            WalFailedError,
            code,
          );
          assertStrictEquals(error.code, "FAILED");
          assertEquals(wal.state, "failed");
          await assertRejects(
            () => twin.truncateBefore(wal, 7),
            WalFailedError,
          );
          await assertRejects(() => twin.append(wal, "x"), WalFailedError);
          // Reads go on, of what was there or of what is left.
          assertEquals(wal.lastIndex, 8);
          for (const { index, data } of wal) {
            assertEquals(data, block(18_000, index));
          }
          const files = listFiles(place)!.filter((name) =>
            name.endsWith(".wal")
          );
          assertEquals(files.length, 3, "no file goes");
          await assertRejects(
            () => settled(disk, twin.close(wal)),
            WalFailedError,
          );
          for (const found of [disk.fork(), disk.crash()]) {
            const again = await settled(
              found,
              place.open({ storage: found }),
            );
            assert([1, 6].includes(again.firstIndex), `${again.firstIndex}`);
            checkBlocks(again, again.firstIndex, 8);
            await settled(found, again.close());
            assertVerified({ ...place, storage: found });
          }
        });
      }
    }
  }
});
