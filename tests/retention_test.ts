/**
 * Retention: what it removes and when, what holds it back, what it says, and
 * that neither readers nor crashes notice more than that.
 *
 * @module
 */
import { describe, it } from "node:test";
import {
  type Entry,
  IndexOutOfRangeError,
  openWal,
  openWalSync,
  type RetentionOptions,
  type Wal,
  type WalOptions,
} from "../mod.ts";
import { checkEveryCrash, type SimulatedStorage } from "../testing/mod.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertLessOrEqual,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import { STORAGES } from "./_storages.ts";
import {
  assertVerified,
  block,
  inFolder,
  isSettled,
  listFiles,
  makePlace,
  onEach,
  type Place,
  SEGMENT_BYTES,
  segmentNames,
  settled,
  simulatedPlace,
  turn,
} from "./_wal.ts";

const FILE = "tests/retention_test.ts";
const SIMULATED = STORAGES.filter((one) => one.kind === "simulated");
const BLOCK_BYTES = 18_000;
/** So many blocks fill a segment. */
const FILLED = 3;
const MINUTE_MS = 60_000;

/** What a log was told to say. */
class Said {
  readonly lines: string[] = [];
  readonly logger: NonNullable<WalOptions["logger"]>;

  constructor() {
    const say = (level: string) => (message: string) =>
      void this.lines.push(`${level}: ${message}`);
    this.logger = {
      debug: say("debug"),
      info: say("info"),
      warn: say("warn"),
      error: say("error"),
    };
  }

  /** The lines of one level. */
  of(level: string): string[] {
    return this.lines.filter((line) => line.startsWith(`${level}: `));
  }
}

/** Opens with these rules; appends wait for no sync. */
function openKeeping(
  place: Place,
  retention: RetentionOptions,
  more: WalOptions = {},
): Promise<Wal> {
  return place.open({ sync: "never", ...more, retention });
}

/** Fills whole segments; the last one is full, too. */
function fill(wal: Wal, segments: number): void {
  for (let i = 0; i < FILLED * segments; i++) {
    wal.appendSync(block(BLOCK_BYTES, wal.nextIndex), { durable: false });
  }
}

/** Lets the log work until it holds, or until it surely never will. */
async function until(holds: () => boolean, what: string): Promise<void> {
  for (let i = 0; !holds(); i++) {
    assertLess(i, 500, what);
    await new Promise((resolve) => setTimeout(resolve, i < 20 ? 0 : 10));
  }
}

/** Fills a segment and lets retention have its way with what is there. */
async function grow(wal: Wal, segments: number): Promise<void> {
  for (let i = 0; i < segments; i++) {
    fill(wal, 1);
    await wal.flush();
    await turn();
  }
}

/** The entries that there are bear their index; gives the log's first. */
function firstOf(wal: Wal): number {
  const first = wal.firstIndex === 0 ? wal.nextIndex : wal.firstIndex;
  let index = first;
  for (const entry of wal) {
    assertEquals(entry.index, index);
    assertEquals(entry.data, block(BLOCK_BYTES, index % 256));
    index++;
  }
  assertEquals(index, wal.nextIndex);
  return first;
}

const clockOf = (place: Place) => (place.storage as SimulatedStorage).clock;

describe("retention: options", () => {
  const wrong: [unknown, typeof TypeError | typeof RangeError, string][] = [
    [null, TypeError, "retention is null, expected an object"],
    [5, TypeError, "retention is 5, expected an object"],
    ["1 GiB", TypeError, 'retention is "1 GiB", expected an object'],
    [{ maxSegment: 1 }, TypeError, '"maxSegment" is not an option'],
    [{ maxSegments: "3" }, TypeError, 'retention.maxSegments is "3"'],
    [{ maxBytes: 1n }, TypeError, "retention.maxBytes is 1n"],
    [{ maxAgeMs: null }, TypeError, "retention.maxAgeMs is null"],
    [{ maxAgeMs: new Date(0) }, TypeError, "retention.maxAgeMs is an object"],
    [{ maxSegments: 0 }, RangeError, "retention.maxSegments is 0"],
    [{ maxSegments: -1 }, RangeError, "retention.maxSegments is -1"],
    [{ maxSegments: 1.5 }, RangeError, "retention.maxSegments is 1.5"],
    [{ maxBytes: NaN }, RangeError, "retention.maxBytes is NaN"],
    [{ maxBytes: Infinity }, RangeError, "retention.maxBytes is Infinity"],
    [{ maxAgeMs: 2 ** 53 }, RangeError, "retention.maxAgeMs is 9007199254740"],
    [{ maxSegments: 5, maxAgeMs: 0 }, RangeError, "maxAgeMs is 0, expected a"],
  ];
  for (const [given, kind, message] of wrong) {
    onEach(`${message}: ${kind.name}, nothing is made`, async (place) => {
      const retention = given as RetentionOptions;
      const { storage, path } = place;
      assertThrows(
        () => openWalSync(path, { storage, retention }),
        kind,
        message,
      );
      await assertRejects(
        () => openWal(path, { storage, retention }),
        kind,
        message,
      );
      assertEquals(listFiles(place), undefined);
    }, SIMULATED);
  }

  onEach("nothing is asked for: nothing is removed", async (place) => {
    for (const retention of [undefined, {}, { maxBytes: undefined }]) {
      await using wal = await place.open({ sync: "never", retention });
      await grow(wal, 5);
      clockOf(place).advance(100 * MINUTE_MS);
      await turn();
      assertEquals(firstOf(wal), 1);
    }
    assertGreater(segmentNames(place).length, 14);
  }, SIMULATED);
});

describe("retention: by count and bytes", () => {
  onEach("keeps so many segments, the growing one included", async (place) => {
    {
      await using wal = await openKeeping(place, { maxSegments: 3 });
      fill(wal, 3);
      await turn();
      assertEquals(wal.firstIndex, 1);
      fill(wal, 1);
      await until(() => wal.firstIndex === 1 + FILLED, "one is removed");
      for (let n = 2; n < 5; n++) {
        fill(wal, 1);
        await until(() => wal.firstIndex === 1 + n * FILLED, `${n} are gone`);
      }
      await until(() => segmentNames(place).length === 3, "three files stay");
      assertEquals(wal.segments().length, 3);
      assertEquals(firstOf(wal), 13);
    }
    using wal = place.openSync();
    assertEquals([firstOf(wal), wal.lastIndex], [13, 21]);
  });

  onEach("maxSegments 1 keeps the growing one", async (place) => {
    await using wal = await openKeeping(place, { maxSegments: 1 });
    fill(wal, 2);
    await until(() => wal.firstIndex === 1 + FILLED, "the first is gone");
    assertEquals(wal.segments().length, 1);
    assertEquals(firstOf(wal), 1 + FILLED);
  });

  onEach("keeps so many bytes of segment files", async (place) => {
    const maxBytes = 3 * SEGMENT_BYTES + 1;
    await using wal = await openKeeping(place, { maxBytes });
    fill(wal, 3);
    await turn();
    assertEquals(wal.firstIndex, 1);
    fill(wal, 1);
    await until(() => wal.firstIndex === 1 + FILLED, "the first is gone");
    assertLessOrEqual(wal.stats().bytes, maxBytes);
    // One entry as large as all that is allowed: the others have to go.
    wal.appendSync(new Uint8Array(maxBytes));
    await until(() => wal.firstIndex === 13, "only the large one stays");
    assertEquals(wal.segments().length, 1);
  });

  onEach("the strictest rule counts", async (place) => {
    const rules = { maxSegments: 4, maxBytes: 2 * SEGMENT_BYTES };
    await using wal = await openKeeping(place, rules);
    fill(wal, 4);
    await until(() => wal.segments().length === 2, "by bytes");
    assertEquals(firstOf(wal), 7);
    await using other = await makePlace(
      place.storage,
      place,
      `${place.path}/../other`,
    ).open({ retention: { maxSegments: 2, maxBytes: 10 * SEGMENT_BYTES } });
    fill(other, 4);
    await until(() => other.segments().length === 2, "by count");
  });

  onEach(
    "a log that was too large is tidied up when it grows",
    async (place) => {
      {
        await using wal = await place.open({ sync: "never" });
        fill(wal, 6);
      }
      await using wal = await openKeeping(place, { maxSegments: 2 });
      assertEquals(wal.firstIndex, 1);
      fill(wal, 1);
      await until(() => wal.segments().length === 2, "all at once");
      assertEquals(firstOf(wal), 16);
    },
  );

  onEach("what a burst has rotated goes as well", async (place) => {
    await using wal = await openKeeping(place, { maxSegments: 2 });
    for (let i = 0; i < 40; i++) {
      fill(wal, 1);
      await Promise.resolve();
    }
    await until(() => wal.segments().length === 2, "without another rotation");
    assertEquals(firstOf(wal), 1 + 38 * FILLED);
  });
});

describe("retention: by age", () => {
  const HOUR_MS = 60 * MINUTE_MS;

  onEach("counts from when a segment was ended", async (place) => {
    const clock = clockOf(place);
    const wal = await openKeeping(place, { maxAgeMs: 10 * HOUR_MS });
    fill(wal, 1);
    // Young when it is ended, though it was begun long ago.
    clock.advance(100 * HOUR_MS);
    await turn();
    wal.rotateSync();
    fill(wal, 1);
    clock.advance(9 * HOUR_MS);
    await turn();
    assertEquals(firstOf(wal), 1);
    wal.rotateSync();
    fill(wal, 1);
    clock.advance(HOUR_MS + 2 * MINUTE_MS);
    await turn();
    assertEquals(firstOf(wal), 1 + FILLED);
    clock.advance(9 * HOUR_MS);
    await turn();
    assertEquals(firstOf(wal), 1 + 2 * FILLED);
    // The growing one stays, however old.
    clock.advance(1000 * HOUR_MS);
    await turn();
    assertEquals(firstOf(wal), 1 + 2 * FILLED);
    await wal.close();
  }, SIMULATED);

  onEach("also across a reopening", async (place) => {
    const clock = clockOf(place);
    const rules = { maxAgeMs: HOUR_MS };
    {
      await using wal = await openKeeping(place, rules);
      fill(wal, 2);
    }
    clock.advance(2 * HOUR_MS);
    await using wal = await openKeeping(place, rules);
    clock.advance(MINUTE_MS + 1);
    await turn();
    assertEquals(firstOf(wal), 1 + FILLED);
  }, SIMULATED);

  onEach("looks as often as the age asks for", async (place) => {
    const clock = clockOf(place);
    const wal = await openKeeping(place, { maxAgeMs: 5000 });
    fill(wal, 2);
    await turn();
    clock.advance(4000);
    await turn();
    assertEquals(wal.firstIndex, 1);
    clock.advance(6001);
    await turn();
    assertEquals(wal.firstIndex, 1 + FILLED);
    await wal.close();
    // A closed log looks no more.
    clock.advance(HOUR_MS);
    await turn();
  }, SIMULATED);

  onEach("a clock that was put back removes nothing", async (place) => {
    const clock = clockOf(place);
    await using wal = await openKeeping(place, { maxAgeMs: HOUR_MS });
    fill(wal, 2);
    const nowMs = clock.nowMs();
    clock.nowMs = () => nowMs - 1000 * HOUR_MS;
    clock.advance(MINUTE_MS + 1);
    await turn();
    assertEquals(firstOf(wal), 1);
  }, SIMULATED);
});

describe("retention: consumers", () => {
  const rules = { maxSegments: 1 };

  onEach("never passes an open one, up to where it stands", async (place) => {
    await using wal = await openKeeping(place, rules);
    await using slow = await wal.consumer("slow");
    await using quick = await wal.consumer("quick", { from: "end" });
    await grow(wal, 4);
    await quick.ack(12);
    assertEquals(firstOf(wal), 1);
    // In the middle of a segment: all of it stays.
    await slow.ack(5);
    await grow(wal, 1);
    await until(() => wal.firstIndex === 4, "what was acknowledged goes");
    await grow(wal, 1);
    assertEquals(firstOf(wal), 4);
    await slow.ack(wal.lastIndex);
    await grow(wal, 1);
    // By now "quick" is the slowest.
    assertEquals(firstOf(wal), 13);
  });

  onEach("never passes one that rests, also after reopening", async (place) => {
    {
      await using wal = await openKeeping(place, rules);
      await grow(wal, 1);
      await using resting = await wal.consumer("resting");
      await resting.ack(2);
    }
    await using wal = await openKeeping(place, rules);
    await grow(wal, 3);
    assertEquals(firstOf(wal), 1);
    const resting = await wal.consumer("resting");
    await resting.remove();
    await grow(wal, 1);
    await until(() => wal.segments().length === 1, "nobody holds it back");
  });

  onEach("never passes a damaged one", async (place) => {
    {
      await using wal = await openKeeping(place, {});
      await using broken = await wal.consumer("broken");
      await broken.ack(0);
    }
    inFolder(place, (folder) => {
      folder.remove("consumers/broken");
      folder.create("consumers/broken", 100).close();
    });
    const said = new Said();
    const { logger } = said;
    await using wal = await openKeeping(place, rules, { logger });
    await grow(wal, 4);
    assertEquals(firstOf(wal), 1);
    assertStringIncludes(said.of("warn").join("\n"), 'consumer "broken"');
  });

  it("never passes one that is being made", async () => {
    const { disk, ...place } = simulatedPlace(seedOf());
    const wal = await settled(disk, openKeeping(place, rules));
    fill(wal, 1);
    const making = wal.consumer("new");
    fill(wal, 1);
    await turn();
    const consumer = await settled(disk, making);
    await settled(disk, wal.flush());
    await turn();
    assertEquals([consumer.position, wal.firstIndex], [0, 1]);
    await settled(disk, wal.close());
  });

  it("a position that is not on the disk yet frees nothing", async () => {
    const { disk, ...place } = simulatedPlace(seedOf());
    const wal = await settled(disk, openKeeping(place, rules));
    const consumer = await settled(disk, wal.consumer("worker"));
    fill(wal, 2);
    await settled(disk, wal.flush());
    const acking = consumer.ack(6);
    assert(!await isSettled(acking), "its sync has not ended");
    clockOf(place).advance(MINUTE_MS + 1);
    // A power cut before or after the next syncs takes the position back.
    for (let i = 0; i < 5; i++) {
      await turn();
      if (!await isSettled(acking)) assertEquals(wal.firstIndex, 1);
      disk.settle(1);
    }
    await settled(disk, acking);
    clockOf(place).advance(MINUTE_MS + 1);
    await settled(disk, wal.close());
    assertEquals(wal.firstIndex, 1 + FILLED);
  });

  it("a seek back that is not on the disk yet holds it back", async () => {
    const { disk, ...place } = simulatedPlace(seedOf());
    const wal = await settled(disk, openKeeping(place, rules));
    const consumer = await settled(disk, wal.consumer("worker"));
    fill(wal, 1);
    await settled(disk, consumer.ack(3));
    const seeking = consumer.seek(0);
    assert(!await isSettled(seeking), "its sync has not ended");
    assertEquals(consumer.position, 3);
    fill(wal, 1);
    await turn();
    await settled(disk, seeking);
    assertEquals([consumer.position, wal.firstIndex], [0, 1]);
    await settled(disk, wal.close());
  });
});

describe("retention: what it says", () => {
  onEach("tells what it removed", async (place) => {
    const said = new Said();
    const { logger } = said;
    await using wal = await openKeeping(place, { maxSegments: 2 }, { logger });
    fill(wal, 4);
    await until(() => said.of("info").length > 0, "it is told");
    assertStringIncludes(said.lines[0]!, "Retention removed 2 segments");
    assertStringIncludes(said.lines[0]!, "up to entry 6");
    assertEquals(wal.firstIndex, 7);
    assertEquals(said.of("warn"), []);
  });

  onEach("tells once what held it back, not at every look", async (place) => {
    const clock = clockOf(place);
    const said = new Said();
    const { logger } = said;
    await using wal = await openKeeping(place, { maxSegments: 1 }, { logger });
    await using slow = await wal.consumer("slow");
    await slow.ack(0);
    for (let i = 0; i < 10; i++) {
      await grow(wal, 1);
      clock.advance(5 * MINUTE_MS);
      await turn();
    }
    assertEquals(said.of("warn").length, 1, said.lines.join("\n"));
    assertStringIncludes(said.lines[0]!, 'consumer "slow" at 0');
    await slow.ack(4);
    await grow(wal, 1);
    // It stands elsewhere: that is news.
    assertEquals(said.of("warn").length, 2, said.lines.join("\n"));
    assertStringIncludes(said.of("warn")[1]!, 'consumer "slow" at 4');
    assertEquals(said.of("info").length, 1);
  }, SIMULATED);

  onEach("says nothing of removals that removed nothing", async (place) => {
    const said = new Said();
    const { logger } = said;
    await using wal = await openKeeping(place, { maxSegments: 1 }, { logger });
    // Too large for the empty first segment, which is ended without entries.
    wal.appendSync(new Uint8Array(2 * SEGMENT_BYTES));
    for (let i = 0; i < 5; i++) {
      clockOf(place).advance(5 * MINUTE_MS);
      await turn();
    }
    assertEquals(wal.firstIndex, 1);
    assertLessOrEqual(said.of("info").length, 1, said.lines.join("\n"));
    fill(wal, 1);
    await until(() => wal.segments().length === 1, "the empty one goes, too");
  }, SIMULATED);

  onEach("a logger that throws is not its business", async (place) => {
    const fail = () => {
      throw new Error("no room to log");
    };
    const logger = { debug: fail, info: fail, warn: fail, error: fail };
    await using wal = await openKeeping(place, { maxSegments: 1 }, { logger });
    fill(wal, 2);
    await until(() => wal.segments().length === 1, "the first goes");
    fill(wal, 1);
    await until(() => wal.segments().length === 1, "and the next");
  });

  it("tells what it could not remove, and tries again", async () => {
    const { disk, ...place } = simulatedPlace(seedOf(), { autoSettle: true });
    const said = new Said();
    const { logger } = said;
    const wal = await openKeeping(place, { maxSegments: 1 }, { logger });
    fill(wal, 1);
    await wal.flush();
    // The next file that is made is the segment, then the manifest.
    fill(wal, 1);
    disk.failNext("create", "ENOSPC");
    await turn();
    assertEquals([wal.firstIndex, wal.state], [1, "open"]);
    assertEquals(said.of("warn").length, 1, said.lines.join("\n"));
    assertStringIncludes(said.of("warn")[0]!, "Retention could not remove");
    disk.clock.advance(MINUTE_MS + 1);
    await turn();
    assertEquals(firstOf(wal), 1 + FILLED);
    await wal.close();
    assertVerified(place);
  });
});

describe("retention: readers", () => {
  onEach("views and entries stay as they were", async (place) => {
    await using wal = await openKeeping(place, { maxSegments: 1 });
    fill(wal, 1);
    const held: Entry[] = [wal.view(1), wal.get(2), wal.view(3)];
    await grow(wal, 4);
    await until(() => wal.segments().length === 1, "all others are gone");
    assertGreater(wal.firstIndex, 3);
    for (const [i, entry] of held.entries()) {
      assertEquals(entry.data, block(BLOCK_BYTES, i + 1));
      const error = assertThrows(
        () => wal.get(i + 1),
        IndexOutOfRangeError,
      );
      assertEquals(error.reason, "removed");
    }
  });

  onEach("followers go on, and one too far behind is told", async (place) => {
    await using wal = await openKeeping(place, { maxSegments: 2 });
    const given: number[] = [];
    const ahead = (async () => {
      for await (const entry of wal.follow()) {
        assertEquals(entry.data, block(BLOCK_BYTES, entry.index));
        given.push(entry.index);
        if (entry.index === 60) return;
      }
    })();
    const behind = wal.follow({ from: 1 });
    fill(wal, 1);
    assertEquals((await behind.next()).value?.index, 1);
    for (let i = 1; i < 20; i++) {
      fill(wal, 1);
      await until(() => given.length === wal.lastIndex, "it keeps up");
    }
    await ahead;
    assertEquals(given, Array.from({ length: 60 }, (_, i) => i + 1));
    await until(() => wal.segments().length === 2, "the others are gone");
    const error = await assertRejects(
      () => behind.next(),
      IndexOutOfRangeError,
    );
    assertEquals(error.reason, "removed");
  });
});

describe("retention: endings and crashes", () => {
  for (const kind of ["close", "closeSync"] as const) {
    onEach(`${kind}() while it works leaves a sound log`, async (place) => {
      for (let turns = 0; turns < 6; turns++) {
        const wal = await openKeeping(place, { maxSegments: 1 });
        fill(wal, 3);
        for (let i = 0; i < turns; i++) await Promise.resolve();
        const last = wal.lastIndex;
        if (kind === "close") await wal.close();
        else wal.closeSync();
        await turn();
        using again = place.openSync();
        assertEquals([again.lastIndex, again.recovery.outcome], [
          last,
          "clean",
        ]);
        firstOf(again);
      }
      assertVerified(place);
    });
  }

  it("a failed log removes nothing more", async () => {
    const { disk, ...place } = simulatedPlace(seedOf(), { autoSettle: true });
    const wal = await openKeeping(place, { maxSegments: 2, maxAgeMs: 1000 });
    fill(wal, 2);
    disk.failNext("sync", "EIO");
    assertThrows(() => wal.flushSync());
    disk.clock.advance(100 * MINUTE_MS);
    await turn();
    assertEquals([wal.state, firstOf(wal)], ["failed", 1]);
    await wal.close().catch(() => {});
  });

  for (const mapped of [true, false]) {
    it(`a crash at any point, ${mapped ? "mapped" : "files"}`, async () => {
      let least = 1;
      let most = 0;
      let position = 0;
      const tally = await checkEveryCrash({
        seed: seedOf(),
        disk: { mapped },
        powerCuts: budgetOf({ smoke: 1, long: 20 }),
        everyNthCall: budgetOf({ smoke: 3, long: 1 }),
        async workload(storage): Promise<void> {
          const place = makePlace(
            storage,
            { kind: "simulated", real: false },
            "log",
          );
          const wal = await openKeeping(place, { maxSegments: 2 });
          const worker = await wal.consumer("worker");
          for (let i = 0; i < 5; i++) {
            fill(wal, 1);
            // What is removed before this has a manifest that says so.
            const first = wal.firstIndex;
            await wal.flush();
            most = wal.durableIndex;
            if (i % 2 === 0) continue;
            await worker.ack(most - 1);
            position = most - 1;
            storage.clock.advance(2 * MINUTE_MS);
            await turn();
            least = Math.max(least, first);
          }
          await wal.close();
        },
        promised: () => ({ least, most, position }),
        verify(storage, promised): void {
          const place = makePlace(
            storage,
            { kind: "simulated", real: false },
            "log",
          );
          const wal = place.openSync();
          const first = firstOf(wal);
          assert(first >= promised.least, `the first is ${first}`);
          assert(wal.nextIndex > promised.most, `next is ${wal.nextIndex}`);
          const [worker] = wal.consumers();
          const at = worker?.position ?? 0;
          assert(at >= promised.position, `it stands at ${at}`);
          // What it has not acknowledged was never taken away.
          assert(worker === undefined || first <= at + 1, `${first} > ${at}`);
          wal.closeSync();
          assertVerified(place);
        },
      });
      assertGreater(tally.crashes, 100, replay(FILE));
      console.log(`retention: ${tally.crashes} crashes, ${replay(FILE)}`);
    });
  }
});
