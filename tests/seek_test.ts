import { join } from "node:path";
import { describe, it } from "node:test";
import {
  openReader,
  openReaderSync,
  type Wal,
  WalClosedError,
  WalFailedError,
  type WalOptions,
  type WalReader,
} from "../mod.ts";
import { BLOCK_BYTES, BLOCK_ENTRIES } from "../src/format.ts";
import { Random } from "../testing/mod.ts";
import {
  assertEquals,
  assertGreater,
  assertLessOrEqual,
  assertRejects,
  assertThrows,
} from "./_assert.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import { countReads } from "./_follow_counted.ts";
import { temporaryFolder } from "./_storages.ts";
import {
  makePlace,
  onEach,
  onEachTwin,
  type Place,
  simulatedPlace,
} from "./_wal.ts";

const MS = 1_000_000n;
const TIME_MIN = -(2n ** 63n);
const TIME_MAX = 2n ** 63n - 1n;

/** A log whose entries have these times, in nanoseconds. */
function withTimes(
  wal: Wal,
  times: readonly (bigint | number)[],
): Wal {
  for (const time of times) {
    wal.appendSync({ data: `${time}`, timestamp: BigInt(time) });
  }
  return wal;
}

/** The same with terms. */
function withTerms(wal: Wal, terms: readonly number[]): Wal {
  for (const term of terms) wal.appendSync({ data: `${term}`, term });
  return wal;
}

function openQuiet(place: Place, options?: WalOptions): Wal {
  return place.openSync({ sync: "never", ...options });
}

describe("WalReader.findByTime()", () => {
  onEach("gives the first entry at or after a time", (place) => {
    using wal = withTimes(openQuiet(place), [10, 20, 20, 30]);
    const found = [-5, 9, 10, 11, 19, 20, 21, 30].map((time) =>
      wal.findByTime(BigInt(time))
    );
    assertEquals(found, [1, 1, 1, 2, 2, 2, 4, 4]);
    assertEquals(wal.findByTime(31n), undefined);
  });

  onEach("the first in the order of the log, when times fall", (place) => {
    using wal = withTimes(openQuiet(place), [50, 10, 40, 60, 20, 60, 5]);
    const found = [0, 5, 10, 41, 50, 51, 60].map((time) =>
      wal.findByTime(BigInt(time))
    );
    assertEquals(found, [1, 1, 1, 1, 1, 4, 4]);
    assertEquals(wal.findByTime(61n), undefined);
  });

  onEach("takes a Date", (place) => {
    const day = Date.UTC(2024, 1, 29);
    using wal = openQuiet(place);
    wal.appendSync({ data: "day", timestamp: new Date(day) });
    wal.appendSync({ data: "later", timestampNs: BigInt(day) * MS + 1n });
    assertEquals(wal.findByTime(new Date(day - 1)), 1);
    assertEquals(wal.findByTime(new Date(day)), 1);
    assertEquals(wal.findByTime(BigInt(day) * MS + 1n), 2);
    assertEquals(wal.findByTime(new Date(day + 1)), undefined);
    class Moment extends Date {}
    assertEquals(wal.findByTime(new Moment(day)), 1);
    assertEquals(wal.findByTime(wal.get(2).timestamp), 1);
    assertEquals(wal.findByTime(wal.get(2).timestampNs), 2);
  });

  onEach("before 1970 and at the ends of time", (place) => {
    const times = [TIME_MIN, -5_000_000_000n, -1n, 0n, 2n ** 32n, TIME_MAX];
    using wal = withTimes(openQuiet(place), times);
    const at = (time: bigint | Date) => wal.findByTime(time);
    times.forEach((time, i) => assertEquals(at(time), i + 1));
    assertEquals(at(TIME_MIN - 1n), 1);
    assertEquals(at(-(2n ** 200n)), 1);
    assertEquals(at(TIME_MIN + 1n), 2);
    assertEquals(at(-4_999_999_999n), 3);
    assertEquals(at(1n), 5);
    assertEquals(at(2n ** 32n + 1n), 6);
    assertEquals(at(TIME_MAX + 1n), undefined);
    assertEquals(at(2n ** 64n), undefined);
    assertEquals(at(new Date(-5000)), 2);
    assertEquals(at(new Date(-4999)), 3);
    // Dates reach further than nanoseconds in 64 bits.
    assertEquals(at(new Date(-8.64e15)), 1);
    assertEquals(at(new Date(8.64e15)), undefined);
  });

  onEach("the words of a time are compared as numbers", (place) => {
    const high = 2n ** 32n;
    const times = [-high, -high + 2n ** 31n, -1n, 2n ** 31n, high - 1n, high];
    using wal = withTimes(openQuiet(place), times);
    for (const [i, time] of times.entries()) {
      assertEquals(wal.findByTime(time), i + 1, `${time}`);
      const next = i + 2 > times.length ? undefined : i + 2;
      assertEquals(wal.findByTime(time + 1n), next, `after ${time}`);
    }
  });

  onEach("in a log that is empty, or was", async (place) => {
    await using wal = openQuiet(place);
    assertEquals(wal.findByTime(0n), undefined);
    assertEquals(wal.findByTime(new Date(0)), undefined);
    withTimes(wal, [1, 2, 3]);
    await wal.reset(50);
    assertEquals(wal.findByTime(0n), undefined);
    withTimes(wal, [7]);
    assertEquals([wal.findByTime(2n), wal.findByTime(8n)], [50, undefined]);
    await wal.truncateBefore(51);
    assertEquals(wal.findByTime(0n), undefined);
  });

  onEach("finds the time of an append without one", async (place) => {
    await using wal = await place.open();
    await wal.append({ data: "old", timestamp: 0n });
    const [, now] = [await wal.append("now"), wal.get(2).timestampNs];
    assertEquals(wal.findByTime(1n), 2);
    assertEquals(wal.findByTime(now), 2);
    assertEquals(wal.findByTime(now + 1n), undefined);
  });

  onEach("wrong times are refused", async (place) => {
    const wal = withTimes(openQuiet(place), [1]);
    const wrong: [unknown, ErrorConstructor, string][] = [
      [undefined, TypeError, "time is undefined, expected a Date or nano"],
      [null, TypeError, "time is null"],
      [5, TypeError, "time is 5"],
      ["2024-01-01", TypeError, 'time is "2024-01-01"'],
      [{}, TypeError, "time is an object of Object"],
      [new Date(NaN), RangeError, "time is an invalid Date"],
    ];
    for (const [time, errorClass, message] of wrong) {
      const call = () => wal.findByTime(time as Date);
      assertThrows(call, errorClass, message);
    }
    await wal.close();
    assertThrows(() => wal.findByTime(0n), WalClosedError);
    assertThrows(() => wal.findByTerm(0), WalClosedError);
  });
});

describe("WalReader.findByTerm()", () => {
  onEach("gives the first entry of a term or a later one", (place) => {
    using wal = withTerms(openQuiet(place), [1, 1, 3, 3, 7]);
    const found = [-1, 0, 1, 2, 3, 4, 7].map((term) => wal.findByTerm(term));
    assertEquals(found, [1, 1, 1, 3, 3, 5, 5]);
    assertEquals(wal.findByTerm(8), undefined);
  });

  onEach("the first in the order of the log, when terms fall", (place) => {
    const last = Number.MAX_SAFE_INTEGER;
    using wal = withTerms(openQuiet(place), [5, 2, 9, 4, last, 0]);
    const found = [0, 5, 6, 9, 10, last].map((term) => wal.findByTerm(term));
    assertEquals(found, [1, 1, 3, 3, 5, 5]);
  });

  onEach("in a log that is empty", (place) => {
    using wal = openQuiet(place);
    assertEquals([wal.findByTerm(0), wal.findByTerm(1)], [
      undefined,
      undefined,
    ]);
    wal.appendSync("of no term");
    assertEquals([wal.findByTerm(0), wal.findByTerm(1)], [1, undefined]);
  });

  onEach("wrong terms are refused", (place) => {
    using wal = withTerms(openQuiet(place), [1]);
    const wrong: [unknown, ErrorConstructor, string][] = [
      [undefined, TypeError, "term is undefined"],
      ["1", TypeError, 'term is "1"'],
      [1n, TypeError, "term is 1n"],
      [1.5, RangeError, "term is 1.5"],
      [NaN, RangeError, "term is NaN"],
      [Infinity, RangeError, "term is Infinity"],
      [2 ** 53, RangeError, "term is 9007199254740992"],
    ];
    for (const [term, errorClass, message] of wrong) {
      const call = () => wal.findByTerm(term as number);
      assertThrows(call, errorClass, message);
    }
  });
});

describe("finding in logs of many segments", () => {
  onEachTwin("after truncations and reopening", async (place, twin) => {
    let wal = openQuiet(place);
    // A peak in the first segment, in the middle of the second, at an end.
    const peaks = new Map([[3, 9_000_000], [450, 8_000_000], [900, 7_000_000]]);
    const times = Array.from({ length: 1000 }, (_, i) => peaks.get(i + 1) ?? i);
    for (let i = 0; i < times.length; i += 250) {
      withTimes(wal, times.slice(i, i + 250));
      await twin.rotate(wal);
    }
    const found = (least: number) => wal.findByTime(BigInt(least));
    const all = () => [found(999), found(7_500_000), found(8_500_000)];
    assertEquals(all(), [3, 3, 3]);
    await twin.truncateBefore(wal, 4);
    assertEquals(all(), [450, 450, undefined]);
    assertEquals(found(100), 101);
    await twin.close(wal);
    wal = await twin.open(place);
    assertEquals(all(), [450, 450, undefined]);
    assertEquals(found(100), 101);
    await twin.truncateAfter(wal, 449);
    assertEquals(all(), [undefined, undefined, undefined]);
    assertEquals([found(448), found(449)], [449, undefined]);
    withTimes(wal, [1, 600, 2, 8_000_001]);
    assertEquals(all(), [453, 453, undefined]);
    assertEquals(found(500), 451);
    await twin.close(wal);
    wal = await twin.open(place);
    assertEquals(all(), [453, 453, undefined]);
    assertEquals(found(500), 451);
    await twin.truncateBefore(wal, 452);
    assertEquals([found(0), found(500)], [452, 453]);
    await twin.close(wal);
  });

  onEach("with other formats, in batches and transactions", async (place) => {
    await using wal = await place.open({ format: "json", sync: "never" });
    const at = (time: number) => ({ data: "x", timestamp: BigInt(time) });
    await wal.appendBatch(Array.from({ length: 200 }, (_, i) => at(i)));
    await wal.transaction((tx) => {
      for (let i = 0; i < 100; i++) tx.add({ ...at(500 - i), term: i });
    });
    assertEquals(wal.findByTime(100n), 101);
    assertEquals(wal.findByTime(450n), 201);
    assertEquals(wal.findByTerm(60), 261);
    assertEquals(wal.findByTime(501n), undefined);
  });

  onEach("in a reader", async (place) => {
    {
      using wal = openQuiet(place);
      for (let i = 0; i < 6; i++) {
        withTimes(wal, Array.from({ length: 130 }, (_, j) => 1000 * i + j));
        wal.rotateSync();
      }
      withTerms(wal, [2, 1, 3]);
      wal.truncateBeforeSync(70);
    }
    const { storage } = place;
    using one = openReaderSync(place.path, { storage });
    const other = await openReader(place.path, {
      storage,
      verifyReads: false,
      zeroCopy: true,
    });
    for (const reader of [one, other] as WalReader[]) {
      assertEquals(reader.findByTime(0n), 70);
      assertEquals(reader.findByTime(2005n), 2 * 130 + 6);
      assertEquals(reader.findByTime(4999n), 5 * 130 + 1);
      assertEquals(reader.findByTime(5130n), 781);
      assertEquals([1, 2, 3, 4].map((term) => reader.findByTerm(term)), [
        781,
        781,
        783,
        undefined,
      ]);
    }
    await other.close();
    assertThrows(() => other.findByTime(0n), WalClosedError);
  });

  it("in a log that has failed", async () => {
    const place = simulatedPlace(1, { autoSettle: true });
    place.sound = false;
    const wal = withTimes(await place.open(), [5, 9]);
    place.disk.failNext("syncSoon", "EIO");
    await assertRejects(() => wal.append("x"), WalFailedError);
    assertEquals([wal.findByTime(6n), wal.findByTerm(0)], [2, 1]);
    await assertRejects(() => wal.close(), WalFailedError);
  });
});

interface Known {
  readonly index: number;
  readonly time: bigint;
  readonly term: number;
}

/** One log, and all that is known of its entries. */
class Track {
  wal: Wal;
  readonly #place: Place;
  readonly #random: Random;
  #entries: Known[] = [];
  found = 0;
  absent = 0;

  constructor(place: Place, seed: number) {
    this.#place = place;
    this.#random = new Random(seed);
    this.wal = openQuiet(place);
  }

  /** Now and then far from all others; else it grows, and falls a bit. */
  #time(): bigint {
    const random = this.#random;
    if (random.chance(0.01)) return random.pick([TIME_MIN, TIME_MAX, 0n, -1n]);
    const last = this.#entries.at(-1)?.time ?? 0n;
    const near = last > 2n ** 62n || last < -(2n ** 62n) ? 0n : last;
    if (random.chance(0.02)) return near - BigInt(random.uint32()) * 7n;
    return near + BigInt(random.between(-3, 40));
  }

  #term(): number {
    const random = this.#random;
    const last = this.#entries.at(-1)?.term ?? 0;
    if (random.chance(0.02)) return random.int(50);
    return random.chance(0.1) ? last + 1 : last;
  }

  append(count: number): void {
    const added: Known[] = [];
    let index = this.wal.nextIndex;
    for (let i = 0; i < count; i++) {
      const one = { index: index++, time: this.#time(), term: this.#term() };
      this.#entries.push(one);
      added.push(one);
    }
    const data = "x".repeat(this.#random.int(150));
    this.wal.appendBatchSync(
      added.map(({ time, term }) => ({ data, timestamp: time, term })),
    );
  }

  change(): void {
    const random = this.#random;
    const changes = ["after", "before", "open", "rotate", "none"] as const;
    const change = random.chance(0.02) ? "reset" : random.pick(changes);
    const { wal } = this;
    if (change === "rotate") return wal.rotateSync();
    if (change === "reset") {
      wal.resetSync(random.int(1000) + 1);
      this.#entries = [];
    }
    if (change === "open") {
      wal.closeSync();
      this.wal = openQuiet(this.#place);
    }
    if (this.wal.length > 0) this.#take(change);
  }

  #take(change: string): void {
    const { wal } = this;
    const { firstIndex, lastIndex } = wal;
    const count = this.#random.int(Math.min(wal.length, 150) + 1);
    if (change === "after") {
      const index = lastIndex - count;
      wal.truncateAfterSync(index);
      this.#entries = this.#entries.filter((one) => one.index <= index);
    }
    if (change === "before") {
      const index = firstIndex + count;
      wal.truncateBeforeSync(index);
      this.#entries = this.#entries.filter((one) => one.index >= index);
    }
  }

  /** Asks for what is there, for what lies beside it, and for anything. */
  ask(): void {
    const random = this.#random;
    const some = this.#entries.length === 0
      ? { time: 0n, term: 0 }
      : random.pick(this.#entries);
    const time = random.chance(0.1)
      ? BigInt(random.uint32()) - 2n ** 31n
      : some.time + BigInt(random.between(-1, 1));
    const term = Math.max(0, some.term + random.between(-1, 2));
    const byTime = this.#entries.find((one) => one.time >= time)?.index;
    const byTerm = this.#entries.find((one) => one.term >= term)?.index;
    assertEquals(this.wal.findByTime(time), byTime, `time ${time}`);
    assertEquals(this.wal.findByTerm(term), byTerm, `term ${term}`);
    for (const one of [byTime, byTerm]) {
      if (one === undefined) this.absent++;
      else this.found++;
    }
  }
}

describe("finding, against an array", () => {
  onEach("gives what a search from the front gives", (place) => {
    const quick = place.kind === "memory" || place.kind === "simulated";
    const budgets = { smoke: quick ? 6 : 2, long: quick ? 1000 : 150 };
    const logs = budgetOf(budgets);
    const seed = seedOf();
    let [found, absent] = [0, 0];
    for (let nth = 0; nth < logs; nth++) {
      using folder = temporaryFolder();
      const path = place.real ? join(folder.path, "log") : `/log ${nth}`;
      const track = new Track(
        makePlace(place.storage, place, path),
        seed + nth,
      );
      try {
        for (let round = 0; round < 30; round++) {
          track.append(1 + (round * 53) % 170);
          track.change();
          for (let i = 0; i < 8; i++) track.ask();
        }
      } catch (error) {
        const how = replay("tests/seek_test.ts", seed + nth, "WALRUS_BUDGET=1");
        const { message } = error as Error;
        throw new Error(`${how}\n${message}`, { cause: error });
      } finally {
        track.wal.closeSync();
      }
      found += track.found;
      absent += track.absent;
    }
    console.log(
      `${place.kind}, seed ${seed}, ${logs} logs: ${found} found, ` +
        `${absent} absent`,
    );
    assertGreater(found, 100 * logs);
    if (logs > 3) assertGreater(absent, 0);
  });
});

describe("finding reads little", () => {
  /** A log that is read through a counter, opened anew: nothing is known. */
  function counted(
    segments: number,
    perSegment: number,
  ): {
    wal: Wal;
    cost(least: number, expected?: number): number;
    opened(): number;
  } {
    const { disk } = simulatedPlace(1, { mapped: false, autoSettle: true });
    const counter = countReads(disk);
    const place = makePlace(
      counter.port,
      { kind: "simulated", real: false },
      "/log",
    );
    const options = { segmentBytes: 4 * 1024 * 1024 };
    {
      using wal = openQuiet(place, options);
      for (let i = 0; i < segments; i++) {
        const base = i * perSegment;
        const batch = Array.from({ length: perSegment }, (_, j) => ({
          data: "x".repeat(24),
          timestamp: BigInt(base + j + 1),
          term: base + j + 1,
        }));
        wal.appendBatchSync(batch);
        wal.rotateSync();
      }
      wal.appendSync({ data: "last", timestamp: 0n, term: 0 });
    }
    const wal = openQuiet(place, options);
    let byTime = false;
    return {
      wal,
      cost(least, expected = least) {
        byTime = !byTime;
        const before = counter.bytesRead;
        const found = byTime
          ? wal.findByTime(BigInt(least))
          : wal.findByTerm(least);
        assertEquals(found, expected === 0 ? undefined : expected);
        return counter.bytesRead - before;
      },
      opened: () => counter.filesOpened,
    };
  }

  /** The frames of one block of the index, and what is read beside them. */
  const FRAMES = 64 * 1024 + 4096;

  it("the bytes grow with the logarithm of the entries", () => {
    const worst = [128, 1024, 8192, 32_768].map((count) => {
      const { wal, cost } = counted(1, count);
      let most = 0;
      for (let least = 1; least <= count; least += Math.ceil(count / 37)) {
        most = Math.max(most, cost(least));
      }
      most = Math.max(most, cost(count));
      wal.closeSync();
      const halvings = Math.ceil(Math.log2(count / BLOCK_ENTRIES));
      assertLessOrEqual(most, FRAMES + (halvings + 2) * BLOCK_BYTES);
      return most;
    });
    // 256 times the entries: 8 more blocks of the index.
    assertLessOrEqual(worst[3]! - worst[0]!, 8 * BLOCK_BYTES + FRAMES / 2);
    console.log(`bytes read of 128 to 32 768 entries: ${worst.join(", ")}`);
  });

  it("of each segment that is left out one block is read, once", () => {
    const first: number[] = [];
    const later: number[] = [];
    for (const segments of [5, 20, 80]) {
      const { wal, cost, opened } = counted(segments, 700);
      const before = opened();
      const last = segments * 700;
      first.push(cost(last - 100));
      assertLessOrEqual(opened() - before, segments);
      assertLessOrEqual(
        first.at(-1)!,
        FRAMES + (segments + Math.ceil(Math.log2(11)) + 2) * BLOCK_BYTES,
      );
      // Now the highest time and term of each are known: no other is opened.
      cost(last - 200);
      const known = opened();
      later.push(Math.max(cost(last - 400), cost(last - 7), cost(last)));
      assertLessOrEqual(opened() - known, 1);
      assertLessOrEqual(later.at(-1)!, FRAMES + 6 * BLOCK_BYTES);
      wal.closeSync();
    }
    assertLessOrEqual(later[2]!, later[0]! + 2 * BLOCK_BYTES);
    console.log(`5, 20, 80 segments, first: ${first}; later: ${later}`);
  });

  it("what is nowhere costs one block of each segment", () => {
    const { wal, cost } = counted(20, 700);
    const bytes = cost(20 * 700 + 1, 0);
    assertGreater(bytes, 0);
    assertLessOrEqual(bytes, 20 * BLOCK_BYTES);
    assertEquals(cost(20 * 700 + 1, 0), 0);
    wal.closeSync();
  });
});
