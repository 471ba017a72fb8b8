/**
 * A log over a long life: emptied, begun anew, cut a thousand times, tidied up
 * by retention, opened again and again; and a crash at any point of that.
 *
 * @module
 */
import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { type Entry, IndexOutOfRangeError, type Wal } from "../mod.ts";
import { checkEveryCrash, Random } from "../testing/mod.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertLessOrEqual,
  assertRejects,
  assertThrows,
} from "./_assert.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import {
  assertVerified,
  block,
  listFiles,
  makePlace,
  onEach,
  onEachTwin,
  type Place,
  REAL,
  SEGMENT_BYTES,
  segmentNames,
  turn,
  type Twin,
} from "./_wal.ts";

const FILE = "tests/life_cycle_test.ts";
const BLOCK_BYTES = 18_000;
const SIMULATED = { kind: "simulated", real: false } as const;

/** An entry that says which one it is, in which life of its index. */
function lifeBlock(index: number, life: number): Uint8Array<ArrayBuffer> {
  const bytes = block(BLOCK_BYTES, index % 256);
  bytes[0] = life;
  return bytes;
}

/** The first index that there is, or that comes. */
const firstOf = (wal: Wal) =>
  wal.firstIndex === 0 ? wal.nextIndex : wal.firstIndex;

describe("an emptied log keeps its next index across reopening", () => {
  const ways: [string, (wal: Wal, twin: Twin) => Promise<void>, number][] = [
    ["truncateBefore", (wal, twin) => twin.truncateBefore(wal, 8), 8],
    ["truncateAfter", (wal, twin) => twin.truncateAfter(wal, 2), 3],
    ["reset beyond the end", (wal, twin) => twin.reset(wal, 1000), 1000],
    ["reset to the beginning", (wal, twin) => twin.reset(wal, 1), 1],
  ];
  for (const [title, empty, next] of ways) {
    onEachTwin(title, async (place, twin) => {
      const wal = await twin.open(place);
      for (let n = 1; n <= 7; n++) await twin.append(wal, lifeBlock(n, 0));
      await twin.truncateBefore(wal, 3);
      await empty(wal, twin);
      await twin.close(wal);
      // Also without a single entry in between.
      for (let i = 0; i < 3; i++) {
        const again = await twin.open(place);
        assertEquals(again.recovery.outcome, "clean");
        assertEquals([again.length, again.nextIndex], [0, next]);
        assertEquals([again.firstIndex, again.lastIndex], [0, 0]);
        await twin.close(again);
      }
      const last = await twin.open(place);
      assertEquals(await twin.append(last, "first of all"), next);
      assertEquals([last.firstIndex, last.lastIndex], [next, next]);
      await twin.close(last);
      assertVerified(place);
    });
  }
});

/** Bytes that the system has really given to the files of a folder. */
function allocatedBytes(folder: string): number {
  let sum = 0;
  for (const name of readdirSync(folder, { recursive: true })) {
    sum += lstatSync(join(folder, String(name))).blocks * 512;
  }
  return sum;
}

/** One small truncation, the nth. */
type Step = (wal: Wal, nth: number) => Promise<void>;

const KEEPS: Step = (wal) => {
  const end = wal.lastIndex;
  wal.appendSync("tail", { durable: false });
  return wal.truncateAfter(end);
};
const GROWS: Step = (wal) => {
  const end = wal.lastIndex;
  wal.appendBatchSync(["kept", "cut", "cut"], { durable: false });
  return wal.truncateAfter(end + 1);
};
const MOVES: Step = (wal) => {
  wal.appendSync("next", { durable: false });
  return wal.truncateBefore(wal.lastIndex);
};
const RESETS: Step = (wal, nth) => {
  wal.appendSync("one", { durable: false });
  return wal.reset(10 * nth + 1);
};

/** So many truncations are under way together: they share their syncs. */
const TOGETHER = 10;

/** Truncates `count` times; what that takes of the disk is bounded. */
async function truncateOften(
  place: Place,
  count: number,
  step: Step,
): Promise<void> {
  // The usual size: a cut must not cost one.
  const firstBytes = 2 ** 26;
  const wal = await place.open({ segmentBytes: firstBytes, sync: "never" });
  wal.appendSync("the first");
  let most = 0;
  for (let i = 0; i < count; i += TOGETHER) {
    const steps = Array.from({ length: TOGETHER }, (_, k) => i + k);
    await Promise.all(steps.map((nth) => step(wal, nth)));
    const measured = (i / TOGETHER) % 10 === 0;
    if (measured) most = Math.max(most, allocatedBytes(place.path));
  }
  const { length, nextIndex, lastIndex } = wal;
  // A segment of 64 KiB for each cut, twice over, beside the first.
  const bound = 2 * SEGMENT_BYTES * count + firstBytes;
  assertLess(most, bound);
  const onDisk = () => segmentNames(place).length;
  assertEquals(onDisk(), wal.segments().length, "removed files are gone");
  await wal.close();
  using again = place.openSync();
  const { recovery } = again;
  assertEquals(
    [again.length, again.nextIndex, again.lastIndex, recovery.outcome],
    [length, nextIndex, lastIndex, "clean"],
  );
  assertEquals(onDisk(), again.segments().length);
  again.closeSync();
  assertLess(allocatedBytes(place.path), bound);
}

describe("small truncations do not fill the disk", () => {
  const count = budgetOf({ smoke: 50, long: 1000 });
  onEach("truncateAfter, a log that keeps its length", async (place) => {
    await truncateOften(place, count, KEEPS);
    // Nothing is left of what was cut off: the first segment and the last.
    assertLessOrEqual(segmentNames(place).length, 2);
  }, REAL);

  onEach("truncateAfter, a log that grows by one", async (place) => {
    await truncateOften(place, count, GROWS);
    // Each cut ends a segment early; what is behind its end is given back.
    assertLess(allocatedBytes(place.path), 4 * 4096 * (count + 20));
  }, REAL);

  onEach("truncateBefore, a log that moves", async (place) => {
    await truncateOften(place, count, MOVES);
    assertEquals(segmentNames(place).length, 1);
  }, REAL);

  onEach("reset", async (place) => {
    await truncateOften(place, count, RESETS);
    assertEquals(segmentNames(place).length, 1);
    assertLess(allocatedBytes(place.path), 4 * SEGMENT_BYTES);
  }, REAL);

  onEach("a thousand of them, one way after the other", async (place) => {
    const ways = [GROWS, KEEPS, GROWS, MOVES];
    await truncateOften(place, 1000, (wal, nth) => {
      return ways[Math.floor(nth / 250)]!(wal, nth);
    });
  }, REAL.slice(0, 1));
});

describe("a long life", () => {
  onEach("retention and reopening keep few files", async (place) => {
    const random = new Random(seedOf(), 1);
    const retention = { maxSegments: 3 };
    let next = 1;
    let highest = 0;
    for (let life = 0; life < 12; life++) {
      const wal = await place.open({ sync: "never", retention });
      assertEquals(wal.nextIndex, next);
      const count = 6 + random.int(12);
      for (let i = 0; i < count; i++) {
        wal.appendSync(lifeBlock(next++, 0), { durable: false });
        if (random.chance(0.2)) await turn();
      }
      await wal.flush();
      await turn();
      // Numbers of segments are never used twice.
      const { number } = wal.segments().at(-1)!;
      assertGreater(number, highest);
      highest = number;
      for (const entry of wal) {
        assertEquals(entry.data, lifeBlock(entry.index, 0));
      }
      if (random.chance(0.5)) await wal.close();
      else wal.closeSync();
    }
    // Three segments, manifest, lock and what else is no segment.
    assertLessOrEqual(segmentNames(place).length, 6);
    assertLess(listFiles(place)!.length, 12);
    assertVerified(place);
  });

  onEachTwin(
    "views outlive whatever takes entries away",
    async (place, twin) => {
      const wal = await twin.open(place);
      const held = new Map<Entry, Uint8Array>();
      const hold = (index: number, life: number) => {
        held.set(wal.view(index), lifeBlock(index, life));
      };
      const fill = async (count: number, life: number) => {
        for (let i = 0; i < count; i++) {
          await twin.append(wal, lifeBlock(wal.nextIndex, life));
        }
        for (const { index } of wal) hold(index, wal.get(index).data[0]!);
      };
      await fill(7, 1);
      await twin.truncateBefore(wal, 5);
      await fill(3, 2);
      // In the middle of a segment: what is behind it is seen on.
      await twin.truncateAfter(wal, 7);
      await fill(4, 3);
      await twin.reset(wal, 3);
      await fill(6, 4);
      assertGreater(held.size, 20);
      const check = () => {
        for (const [entry, data] of held) assertEquals(entry.data, data);
      };
      check();
      await twin.close(wal);
      check();
    },
  );

  onEach(
    "followers are told, and never given another history",
    async (place) => {
      await using wal = await place.open({ sync: "never" });
      for (let n = 1; n <= 9; n++) wal.appendSync(lifeBlock(n, 1));
      const start = async (from: number, count: number) => {
        const follower = wal.follow({ from });
        for (let i = 0; i < count; i++) {
          const { value } = await follower.next();
          assertEquals(value?.data, lifeBlock(from + i, 1));
        }
        return follower;
      };
      const unhurt = await start(4, 2);
      const behind = await start(1, 1);
      const ahead = await start(7, 2);
      await wal.truncateBefore(4);
      await wal.truncateAfter(6);
      wal.appendSync(lifeBlock(7, 2));
      assertEquals((await unhurt.next()).value?.data, lifeBlock(6, 1));
      assertEquals((await unhurt.next()).value?.data, lifeBlock(7, 2));
      const reasons = async (follower: typeof unhurt) =>
        (await assertRejects(() => follower.next(), IndexOutOfRangeError))
          .reason;
      assertEquals(await reasons(behind), "removed");
      assertEquals(await reasons(ahead), "truncated");
      await wal.reset(5);
      wal.appendSync(lifeBlock(5, 3));
      assertEquals(await reasons(unhurt), "truncated");
      const fresh = wal.follow();
      assertEquals((await fresh.next()).value?.data, lifeBlock(5, 3));
      await fresh.return();
      assertThrows(() => wal.get(4), IndexOutOfRangeError);
    },
  );
});

/** What a crash may not take back. */
interface Promised {
  /** Which history the log is in; it may be in the next one already. */
  life: number;
  /** Entries below this are gone in it, those from there to `most` there. */
  least: number;
  most: number;
}

/** The steps of a life: each is promised when it has returned. */
async function live(place: Place, promised: Promised): Promise<void> {
  const wal = place.openSync({ sync: "never", retention: { maxSegments: 3 } });
  const fill = (count: number) => {
    for (let i = 0; i < count; i++) {
      wal.appendSync(lifeBlock(wal.nextIndex, promised.life));
    }
    wal.flushSync();
    promised.most = wal.lastIndex;
  };
  fill(4);
  wal.truncateBeforeSync(3);
  promised.least = 3;
  // What retention is about to remove is promised to nobody.
  promised.least = 1;
  fill(8);
  await turn();
  const begin = async (
    least: number,
    most: number,
    act: () => Promise<void> | void,
  ) => {
    // While it works either history is right; neither promises entries.
    promised.most = 0;
    promised.least = 0;
    await act();
    promised.life++;
    promised.least = least;
    promised.most = most;
  };
  await begin(20, 19, () => wal.reset(20));
  fill(4);
  await begin(1, 0, () => wal.resetSync(1));
  fill(2);
  await wal.truncateBefore(3);
  promised.least = 3;
  await wal.close();
}

describe("a crash at any point of a life", () => {
  for (const mapped of [true, false]) {
    it(mapped ? "mapped" : "files", async () => {
      const now: Promised = { life: 1, least: 0, most: 0 };
      const tally = await checkEveryCrash({
        seed: seedOf(),
        disk: { mapped },
        powerCuts: budgetOf({ smoke: 1, long: 20 }),
        everyNthCall: budgetOf({ smoke: 3, long: 1 }),
        workload: (storage) => live(makePlace(storage, SIMULATED, "log"), now),
        promised: () => now,
        verify(storage, promised): void {
          const place = makePlace(storage, SIMULATED, "log");
          const wal = place.openSync();
          const first = firstOf(wal);
          assert(first >= promised.least, `the first is ${first}`);
          assert(wal.nextIndex > promised.most, `next is ${wal.nextIndex}`);
          const lives = new Set<number>();
          let index = first;
          for (const entry of wal) {
            const life = entry.data[0]!;
            lives.add(life);
            assertEquals([entry.index, entry.data], [
              index,
              lifeBlock(index, life),
            ]);
            index++;
          }
          assertEquals(index, wal.nextIndex);
          assertLessOrEqual(lives.size, 1, "two histories are mixed");
          for (const life of lives) {
            assert(life >= promised.life, `life ${life} has come back`);
            assertLessOrEqual(life, promised.life + 1);
          }
          wal.closeSync();
          assertVerified(place);
        },
      });
      assertGreater(tally.crashes, 100, replay(FILE));
      console.log(`life cycle: ${tally.crashes} crashes, ${replay(FILE)}`);
    });
  }
});
