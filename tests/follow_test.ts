import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, it } from "node:test";
import {
  type Entry,
  type FollowOptions,
  IndexOutOfRangeError,
  type Wal,
  WalClosedError,
  WalFailedError,
  type WalOptions,
} from "../mod.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertGreater,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "./_assert.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import { FollowModel, type Tally } from "./_follow_model.ts";
import {
  assertEnded,
  assertOutOfRange,
  got,
  numbered,
  soon,
  type Steps,
  take,
  waiting,
  words,
} from "./_follow_steps.ts";
import { STORAGES, temporaryFolder, THIS } from "./_storages.ts";
import {
  entries,
  isSettled,
  makePlace,
  onEach,
  onEachTwin,
  type Place,
  SEGMENT_BYTES,
  settled,
  simulatedPlace,
  texts,
  turn,
} from "./_wal.ts";

const RARE = { smoke: 3, long: 300 };
const TALLIES = ["entries", "truncated", "removed", "waits"] as const;

/** A log of so many entries. */
async function logOf(
  place: Place,
  count: number,
  options?: WalOptions,
): Promise<Wal> {
  const wal = await place.open(options);
  if (count > 0) await wal.appendBatch(entries(count));
  return wal;
}

/** "3 entry 3", "4 entry 4", … */
function known(first: number, last: number): string[] {
  return numbered(entries(last - first + 1, first), first);
}

describe("Wal.follow()", () => {
  onEach("gives the history, then every entry as it comes", async (place) => {
    await using wal = await logOf(place, 3);
    const follower = wal.follow();
    assertEquals(await take(follower, 3), known(1, 3));
    let next = await waiting(follower);
    await wal.append("four");
    assertEquals(await got(next), "4 four");
    next = await waiting(follower);
    wal.appendBatchSync(["five", "six"]);
    assertEquals(await got(next), "5 five");
    assertEquals(await take(follower, 1), ["6 six"]);
    // Nobody asks while these come.
    for (const text of entries(50, 7)) wal.appendSync(text);
    assertEquals(await take(follower, 50), known(7, 56));
    await waiting(follower);
  });

  onEach("on a log that is empty", async (place) => {
    await using wal = await place.open();
    const follower = wal.follow();
    const next = await waiting(follower);
    await wal.append("one");
    assertEquals(await got(next), "1 one");
    await wal.reset(50);
    const [start, end] = [wal.follow(), wal.follow({ from: "end" })];
    const [first, last] = [await waiting(start), await waiting(end)];
    await wal.append("fifty");
    assertEquals([await got(first), await got(last)], ["50 fifty", "50 fifty"]);
  });

  onEach("in a log for each, `for await` is all it takes", async (place) => {
    await using wal = await logOf(place, 3);
    const seen: string[] = [];
    const loop = (async () => {
      for await (const entry of wal.follow()) seen.push(words(entry));
    })();
    await turn();
    await wal.append("entry 4");
    await turn();
    assertEquals(seen, known(1, 4));
    await wal.close();
    await loop;
  });

  onEach("an entry is whole: term, time and transaction", async (place) => {
    await using wal = await place.open();
    await wal.transaction((tx) => {
      tx.add({ data: "one", term: 7, timestamp: -1234567890123456789n });
    });
    const { value } = await wal.follow().next();
    assertEquals(value, wal.get(1));
  });

  onEach("goes over segments, old and new", async (place) => {
    await using wal = await place.open({ sync: "never" });
    const texts = entries(40).map((text) => text.padEnd(9000, "."));
    for (const text of texts.slice(0, 20)) wal.appendSync(text);
    const follower = wal.follow();
    assertEquals(await take(follower, 20), numbered(texts.slice(0, 20)));
    const next = await waiting(follower);
    await wal.rotate();
    for (const text of texts.slice(20)) wal.appendSync(text);
    assertEquals(await got(next), `21 ${texts[20]}`);
    assertEquals(await take(follower, 19), numbered(texts.slice(21), 22));
    assertGreater(wal.segments().length, 4);
    await wal.rotate();
    await waiting(follower);
  });

  onEach("with another format", async (place) => {
    await using wal = await logOf(place, 3, { format: "json" });
    const follower = wal.follow();
    assertEquals(await take(follower, 3), known(1, 3));
    const next = await waiting(follower);
    await wal.append("entry 4");
    assertEquals(await got(next), "4 entry 4");
  });

  onEach("several do not disturb each other", async (place) => {
    await using wal = await logOf(place, 5);
    const all = wal.follow();
    const late = wal.follow({ from: 4 });
    const end = wal.follow({ from: "end" });
    const leaver = wal.follow();
    const ending = new AbortController();
    const aborted = wal.follow({ from: "end", signal: ending.signal });
    assertEquals(await take(leaver, 2), known(1, 2));
    await leaver.return();
    assertEquals(await take(all, 5), known(1, 5));
    assertEquals(await take(late, 2), known(4, 5));
    const [one, two, three, gone] = [
      await waiting(all),
      await waiting(late),
      await waiting(end),
      await waiting(aborted),
    ];
    ending.abort();
    await assertRejects(() => gone.step);
    await wal.append("entry 6");
    const six = "6 entry 6";
    assertEquals([await got(one), await got(two), await got(three)], [
      six,
      six,
      six,
    ]);
  });

  onEach("a hundred of them get everything", async (place) => {
    await using wal = await logOf(place, 10);
    const steps = Array.from(
      { length: 100 },
      (_, i) => take(wal.follow({ from: 1 + i % 10 }), 30 - i % 10),
    );
    for (const text of entries(20, 11)) await wal.append(text);
    for (const [i, taken] of (await Promise.all(steps)).entries()) {
      assertEquals(taken, known(1 + i % 10, 30));
    }
  });

  onEach("steps asked for at once come in order", async (place) => {
    await using wal = await logOf(place, 2);
    const follower = wal.follow();
    const steps = [1, 2, 3, 4].map(() => follower.next());
    await turn();
    await wal.appendBatch(entries(2, 3));
    const values = (await Promise.all(steps)).map(({ value }) => value);
    assertEquals(values.map((value) => words(value as Entry)), known(1, 4));
  });
});

describe("Wal.follow(): from", () => {
  onEach("where it begins", async (place) => {
    await using wal = await logOf(place, 10);
    await wal.truncateBefore(5);
    const first = async (from: FollowOptions["from"]) =>
      (await take(wal.follow({ from }), 1))[0];
    assertEquals(await first(undefined), "5 entry 5");
    assertEquals(await first("start"), "5 entry 5");
    assertEquals(await first(5), "5 entry 5");
    assertEquals(await first(7), "7 entry 7");
    assertEquals(await first(10), "10 entry 10");
    const end = wal.follow({ from: "end" });
    const next = wal.follow({ from: 11 });
    const later = wal.follow({ from: 13 });
    const steps = [await waiting(end), await waiting(next)];
    const last = await waiting(later);
    await wal.appendBatch(entries(2, 11));
    for (const step of steps) assertEquals(await got(step), "11 entry 11");
    assertFalse(await isSettled(last.step), "13 is not there yet");
    await wal.append("entry 13");
    assertEquals(await got(last), "13 entry 13");
  });

  onEach("below the first index it throws at the first step", async (place) => {
    await using wal = await logOf(place, 10);
    await wal.truncateBefore(5);
    for (const from of [4, 1]) {
      const follower = wal.follow({ from });
      const error = await assertOutOfRange(follower.next(), "removed");
      assertEquals([error.index, error.firstIndex, error.lastIndex], [
        from,
        5,
        10,
      ]);
      await assertEnded(follower);
    }
    for (const from of [0, -3]) {
      const step = () => wal.follow({ from }).next();
      const error = await assertRejects(step, IndexOutOfRangeError);
      assertEquals(error.index, from);
    }
    await wal.truncateBefore(11);
    await assertOutOfRange(wal.follow({ from: 10 }).next(), "removed");
    await waiting(wal.follow({ from: 11 }));
  });

  onEach(
    '"end" is that of the call, "start" of the first step',
    async (place) => {
      await using wal = await logOf(place, 5);
      const [start, end, five] = [
        wal.follow(),
        wal.follow({ from: "end" }),
        wal.follow({ from: 2 }),
      ];
      await wal.appendBatch(entries(3, 6));
      await wal.truncateBefore(4);
      assertEquals(await take(start, 5), known(4, 8));
      assertEquals(await take(end, 3), known(6, 8));
      await assertOutOfRange(five.next(), "removed");
    },
  );

  onEach(
    'what comes after a truncation is not skipped by "end"',
    async (place) => {
      await using wal = await logOf(place, 10);
      const waits = wal.follow({ from: "end" });
      const { step } = await waiting(waits);
      await wal.truncateAfter(5);
      await wal.appendBatch(entries(6, 6).map((text) => `new ${text}`));
      // That it stood behind what is gone may be an error; a gap may not be.
      const outcome = await step.then(
        ({ value }) => words(value as Entry),
        (error) => error.reason,
      );
      assert(["6 new entry 6", "truncated"].includes(outcome), outcome);
    },
  );

  onEach("at the last index that there can be", async (place) => {
    await using wal = await place.open();
    const last = Number.MAX_SAFE_INTEGER;
    await wal.reset(last - 1);
    const follower = wal.follow();
    const next = await waiting(follower);
    await wal.append("last but one");
    assertEquals(await got(next), `${last - 1} last but one`);
    const end = await waiting(follower);
    await wal.append("last");
    assertEquals(await got(end), `${last} last`);
    await waiting(follower);
  });
});

describe("Wal.follow(): durable", () => {
  onEachTwin("gives only what is durable", async (place, twin) => {
    await using wal = await place.open({ sync: "never" });
    const durable = wal.follow({ durable: true });
    const every = wal.follow({ durable: false });
    const step = await waiting(durable);
    for (const text of entries(3)) wal.appendSync(text);
    assertEquals(await take(every, 3), known(1, 3));
    assertFalse(await isSettled(step.step), "nothing is durable yet");
    await twin.flush(wal);
    assertEquals(await got(step), "1 entry 1");
    assertEquals(await take(durable, 2), known(2, 3));
    const next = await waiting(durable);
    await wal.append("entry 4", { durable: true });
    assertEquals(await got(next), "4 entry 4");
    await waiting(durable);
  });

  it("not what came after the sync has begun", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open({ sync: "never" }));
    const follower = wal.follow({ durable: true });
    wal.appendSync("covered");
    const first = await waiting(follower);
    const flushed = wal.flush();
    await turn();
    assertGreater(disk.pendingSyncs, 0);
    wal.appendSync("too late");
    assertFalse(await isSettled(first.step), "the sync has not ended");
    await settled(disk, flushed);
    assertEquals(await got(first), "1 covered");
    const second = await waiting(follower);
    assertEquals(wal.durableIndex, 1);
    await settled(disk, wal.flush());
    assertEquals(await got(second), "2 too late");
    await settled(disk, wal.close());
  });

  it("a power cut takes back nothing that was given", async () => {
    for (let seed = 1; seed <= 5; seed++) await cutPowerAt(seed);
  });

  /** Looks after each entry at what a power cut would leave. */
  async function cutPowerAt(seed: number): Promise<void> {
    const { disk, ...place } = simulatedPlace(seed, { writeback: 0.1 });
    const wal = await settled(disk, place.open({ sync: "never" }));
    const given: string[] = [];
    const loop = (async () => {
      for await (const entry of wal.follow({ durable: true })) {
        given.push(entry.text());
        const storage = disk.image({ pages: () => "old", names: () => false });
        using image = place.openSync({ storage });
        assertEquals(texts(image).slice(0, given.length), given);
      }
    })();
    // It is looked at in the end.
    loop.catch(() => {});
    for (let i = 1; i <= 12; i++) {
      wal.appendSync(`entry ${i}`.padEnd(1000 * (seed % 9), "."));
      if (i % 5 === 0) wal.rotateSync();
      if (i % 3 === 0) void wal.flush();
      if (i === 7) void wal.truncateAfter(7);
      await turn();
      disk.settle(1);
    }
    await settled(disk, wal.flush());
    await turn();
    await settled(disk, wal.close());
    await loop;
    assertEquals(given, texts(await settled(disk, place.open())));
  }
});

describe("Wal.follow(): its end", () => {
  onEach("an aborted signal makes it throw the reason", async (place) => {
    await using wal = await logOf(place, 3);
    const reasons = [new Error("enough"), "a word", 0, { code: 7 }];
    for (const reason of reasons) {
      const before = wal.follow({ signal: AbortSignal.abort(reason) });
      await before.next().then(
        () => assert(false, "the signal was aborted before"),
        (thrown) => assertStrictEquals(thrown, reason),
      );
      await assertEnded(before);
      const ending = new AbortController();
      const follower = wal.follow({ from: "end", signal: ending.signal });
      const { step } = await waiting(follower);
      ending.abort(reason);
      await step.then(
        () => assert(false, "the signal was aborted meanwhile"),
        (thrown) => assertStrictEquals(thrown, reason),
      );
      await assertEnded(follower);
    }
  });

  onEach("without a reason it is an AbortError", async (place) => {
    await using wal = await logOf(place, 3);
    const ending = new AbortController();
    const seen: string[] = [];
    const loop = async () => {
      for await (const entry of wal.follow({ signal: ending.signal })) {
        seen.push(words(entry));
        // What is there already does not count any more.
        if (entry.index === 2) ending.abort();
      }
    };
    const error = await assertRejects(loop);
    assertEquals(error.name, "AbortError");
    assertEquals(seen, known(1, 2));
  });

  onEach("an abort after the end changes nothing", async (place) => {
    await using wal = await logOf(place, 1);
    const ending = new AbortController();
    const follower = wal.follow({ signal: ending.signal });
    assertEquals(await take(follower, 1), known(1, 1));
    await follower.return();
    ending.abort();
    await assertEnded(follower);
    await wal.append("entry 2");
  });

  onEach("nothing is left at a signal that lives on", async (place) => {
    await using wal = await logOf(place, 1);
    const { signal } = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = (...given: unknown[]) => {
      listeners++;
      Reflect.apply(addEventListener, signal, given);
    };
    signal.removeEventListener = (...given: unknown[]) => {
      listeners--;
      Reflect.apply(removeEventListener, signal, given);
    };
    for (let i = 2; i < 12; i++) {
      const follower = wal.follow({ from: i, signal });
      const step = await waiting(follower);
      assertEquals(listeners, 1);
      wal.appendSync(`entry ${i}`);
      assertEquals(await got(step), `${i} entry ${i}`);
      if (i % 2 === 0) await follower.return();
    }
    assertEquals(listeners, 0);
  });

  onEachTwin("close() ends it normally", async (place, twin) => {
    const wal = await logOf(place, 5);
    const [waits, behind, fresh, ahead] = [
      wal.follow({ from: "end" }),
      wal.follow(),
      wal.follow(),
      wal.follow({ from: 99, durable: true }),
    ];
    assertEquals(await take(behind, 2), known(1, 2));
    const steps = [await waiting(waits), await waiting(ahead)];
    await twin.close(wal);
    for (const { step } of steps) {
      assertEquals(await soon(step), { done: true, value: undefined });
    }
    for (const one of [waits, behind, fresh, ahead]) await assertEnded(one);
    assertThrows(() => wal.follow(), WalClosedError);
  });

  onEach("close() while appends wait", async (place) => {
    const wal = await logOf(place, 1);
    const follower = wal.follow({ from: "end" });
    const { step } = await waiting(follower);
    const appended = wal.append("entry 2");
    const closed = wal.close();
    // It was written before the close: given or not, but no error.
    const { value } = await step;
    if (value) assertEquals(words(value), "2 entry 2");
    assertEquals(await appended, 2);
    await closed;
    await assertEnded(follower);
  });

  onEach("break and return end it, others go on", async (place) => {
    await using wal = await logOf(place, 5);
    for await (const entry of wal.follow()) {
      if (entry.index === 3) break;
    }
    const follower = wal.follow();
    assertEquals(await follower.return(), { done: true, value: undefined });
    await assertEnded(follower);
    const thrower = wal.follow();
    await thrower.next();
    await assertRejects(() => thrower.throw(new Error("mine")), Error, "mine");
    await assertEnded(thrower);
    await wal.truncateAfter(2);
    await assertEnded(thrower);
  });
});

describe("Wal.follow(): truncation", () => {
  onEachTwin("of an entry that it was given throws", async (place, twin) => {
    await using wal = await logOf(place, 10);
    const [waits, behind, idle] = [wal.follow(), wal.follow(), wal.follow()];
    await take(waits, 10);
    await take(behind, 7);
    await take(idle, 6);
    const { step } = await waiting(waits);
    await twin.truncateAfter(wal, 6);
    const error = await assertOutOfRange(step, "truncated");
    assertEquals([error.index, error.firstIndex, error.lastIndex], [10, 1, 6]);
    await assertOutOfRange(behind.next(), "truncated");
    await assertEnded(waits);
    await assertEnded(behind);
    // The last that this one was given is still there.
    const next = await waiting(idle);
    await twin.append(wal, "another 7");
    assertEquals(await got(next), "7 another 7");
  });

  onEachTwin("also where new entries took the indexes", async (place, twin) => {
    await using wal = await logOf(place, 10);
    const followers = [5, 6, 8, 10].map((count) => {
      const follower = wal.follow();
      return { count, follower, taken: take(follower, count) };
    });
    for (const { taken } of followers) await taken;
    await twin.truncateAfter(wal, 5);
    const texts = entries(9, 6).map((text) => `new ${text}`);
    await twin.appendBatch(wal, texts);
    const [sound, ...lost] = followers;
    assertEquals(await take(sound!.follower, 9), numbered(texts, 6));
    for (const { follower, count } of lost) {
      const { index } = await assertOutOfRange(follower.next(), "truncated");
      assertEquals(index, count);
    }
    assertEquals(await take(wal.follow({ from: 5 }), 2), [
      "5 entry 5",
      "6 new entry 6",
    ]);
  });

  onEachTwin("of what it was not given goes unnoticed", async (place, twin) => {
    await using wal = await logOf(place, 10);
    const follower = wal.follow();
    assertEquals(await take(follower, 3), known(1, 3));
    await twin.truncateAfter(wal, 5);
    await twin.append(wal, "a");
    await twin.append(wal, "b");
    await twin.truncateAfter(wal, 6);
    await twin.append(wal, "c");
    assertEquals(await take(follower, 4), [
      "4 entry 4",
      "5 entry 5",
      "6 a",
      "7 c",
    ]);
    await twin.truncateAfter(wal, 7);
    await waiting(follower);
  });

  onEachTwin("to nothing, and reset, count as well", async (place, twin) => {
    await using wal = await logOf(place, 4);
    let [given, fresh] = [wal.follow(), wal.follow({ from: 2 })];
    await take(given, 1);
    await twin.truncateAfter(wal, 0);
    await assertOutOfRange(given.next(), "truncated");
    let next = await waiting(fresh);
    await twin.appendBatch(wal, ["one", "two"]);
    assertEquals(await got(next), "2 two");

    given = wal.follow();
    await take(given, 2);
    const { step } = await waiting(given);
    await twin.reset(wal, 3);
    // The next index is the one that it waited for, the history is not.
    await assertOutOfRange(step, "truncated");
    await assertOutOfRange(fresh.next(), "truncated");

    fresh = wal.follow({ from: 4 });
    next = await waiting(fresh);
    await twin.reset(wal, 4);
    await twin.append(wal, "four");
    assertEquals(await got(next), "4 four");
  });

  onEachTwin("reset beyond what it waits for throws", async (place, twin) => {
    await using wal = await logOf(place, 4);
    const [start, waits] = [wal.follow(), wal.follow({ from: 6 })];
    const { step } = await waiting(waits);
    await twin.reset(wal, 100);
    await assertOutOfRange(step, "removed");
    const next = await waiting(start);
    await twin.append(wal, "hundred");
    assertEquals(await got(next), "100 hundred");
  });

  onEachTwin("truncateBefore passes it: removed", async (place, twin) => {
    await using wal = await logOf(place, 10);
    const [behind, reached, waits] = [wal.follow(), wal.follow(), wal.follow()];
    await take(behind, 2);
    await take(reached, 5);
    await take(waits, 10);
    const last = await waiting(waits);
    await twin.truncateBefore(wal, 6);
    const error = await assertOutOfRange(behind.next(), "removed");
    assertEquals([error.index, error.firstIndex, error.lastIndex], [3, 6, 10]);
    await assertEnded(behind);
    assertEquals(await take(reached, 1), known(6, 6));
    await twin.truncateBefore(wal, 11);
    await assertOutOfRange(reached.next(), "removed");
    await twin.append(wal, "entry 11");
    assertEquals(await got(last), "11 entry 11");
  });

  onEach("truncateBefore while it waits for a later entry", async (place) => {
    await using wal = await logOf(place, 4);
    const follower = wal.follow({ from: 9 });
    const next = await waiting(follower);
    await wal.truncateBefore(5);
    assertFalse(await isSettled(next.step));
    await wal.appendBatch(entries(5, 5));
    assertEquals(await got(next), "9 entry 9");
  });

  onEach("with durable: true", async (place) => {
    await using wal = await place.open({ sync: "never" });
    const follower = wal.follow({ durable: true });
    await wal.appendBatch(entries(4));
    await wal.flush();
    assertEquals(await take(follower, 2), known(1, 2));
    await wal.appendBatch(entries(4, 5));
    await wal.truncateAfter(3);
    await wal.append("another 4");
    assertEquals(await take(follower, 1), known(3, 3));
    const next = await waiting(follower);
    await wal.flush();
    assertEquals(await got(next), "4 another 4");
    wal.truncateAfterSync(3);
    wal.appendSync("yet another 4");
    await assertOutOfRange(follower.next(), "truncated");
  });
});

describe("Wal.follow(): what the loop does", () => {
  onEach("appends: they come, too", async (place) => {
    await using wal = await logOf(place, 1);
    const seen: string[] = [];
    for await (const entry of wal.follow()) {
      seen.push(words(entry));
      if (entry.index === 6) break;
      const text = `entry ${entry.index + 1}`;
      if (entry.index % 2 === 0) wal.appendSync(text);
      else await wal.append(text);
    }
    assertEquals(seen, known(1, 6));
  });

  onEach("rotates and takes away in front", async (place) => {
    await using wal = await logOf(place, 9);
    const seen: string[] = [];
    for await (const entry of wal.follow()) {
      seen.push(words(entry));
      await wal.truncateBefore(entry.index + 1);
      if (entry.index === 9) break;
      if (entry.index % 3 === 0) await wal.rotate();
    }
    assertEquals(seen, known(1, 9));
    assertEquals([wal.length, wal.nextIndex], [0, 10]);
  });

  onEachTwin(
    "truncates behind what it has, and before",
    async (place, twin) => {
      await using wal = await logOf(place, 9);
      const seen: string[] = [];
      const loop = async () => {
        for await (const entry of wal.follow()) {
          seen.push(words(entry));
          if (entry.index === 4) {
            await twin.truncateAfter(wal, 4);
            await twin.append(wal, "another 5");
          } else if (entry.index === 5) {
            await twin.truncateAfter(wal, 4);
            await twin.append(wal, "yet another 5");
          }
        }
      };
      await assertOutOfRange(loop(), "truncated");
      assertEquals(seen, [...known(1, 4), "5 another 5"]);
    },
  );

  onEachTwin("closes the log", async (place, twin) => {
    const wal = await logOf(place, 9);
    const seen: string[] = [];
    for await (const entry of wal.follow()) {
      seen.push(words(entry));
      if (entry.index === 4) await twin.close(wal);
    }
    assertEquals(seen, known(1, 4));
    assertEquals(wal.state, "closed");
  });

  onEach("takes its time: nothing is lost or read ahead", async (place) => {
    await using wal = await logOf(place, 3);
    const follower = wal.follow();
    assertEquals(await take(follower, 1), known(1, 1));
    await wal.truncateAfter(1);
    await wal.appendBatch(["two", "three"]);
    assertEquals(await take(follower, 2), ["2 two", "3 three"]);
  });

  it("nothing is read before it is asked for", async () => {
    const storage = STORAGES.find(({ kind }) => kind === "simulated")!;
    const place = simulatedPlace(1, { mapped: false, autoSettle: true });
    assertEquals(storage.kind, place.kind);
    await using wal = await logOf(place, 200);
    const follower = wal.follow({ durable: true });
    let reads = 0;
    place.disk.onCall(({ operation }) => {
      if (operation === "read") reads++;
    });
    await turn();
    assertEquals(reads, 0);
    await take(follower, 1);
    assertGreater(reads, 0);
    const before = reads;
    for (let i = 0; i < 100; i++) {
      await wal.append("x".repeat(3000));
    }
    assertEquals(reads, before);
    place.disk.onCall(undefined);
  });
});

describe("Wal.follow(): against an array", () => {
  const CALLS = 150;

  onEach("random calls, and what each follower gets", async (place) => {
    const quick = place.kind === "memory" || place.kind === "simulated";
    const logs = budgetOf(quick ? { smoke: 25, long: 3000 } : RARE);
    const seed = seedOf();
    const sum: Tally = { entries: 0, truncated: 0, removed: 0, waits: 0 };
    for (let nth = 0; nth < logs; nth++) {
      using folder = temporaryFolder();
      const path = place.real ? join(folder.path, "log") : `/log ${nth}`;
      const { storage } = place;
      const here = makePlace(storage, place, path);
      const model = new FollowModel(
        here.openSync({ sync: "never" }),
        seed + nth,
      );
      try {
        await model.run(CALLS);
      } catch (error) {
        const how = replay(
          "tests/follow_test.ts",
          seed + nth,
          "WALRUS_BUDGET=1",
        );
        throw new Error(`${how}\n${(error as Error).message}`, {
          cause: error,
        });
      }
      for (const name of TALLIES) sum[name] += model.tally[name];
    }
    console.log(`${place.kind}, seed ${seed}, ${logs} logs:`, sum);
    if (logs < 3) return;
    for (const name of TALLIES) assertGreater(sum[name], 0, name);
  });
});

describe("Wal.follow(): transactions", () => {
  onEach("are there whole at their first entry", async (place) => {
    await using wal = await place.open();
    const seen: number[] = [];
    const loop = (async () => {
      for await (const entry of wal.follow({ durable: true })) {
        seen.push(entry.index);
        if (entry.transactionId === undefined) continue;
        const first = seen.findLast((index) =>
          wal.at(index - 1)?.transactionId !== entry.transactionId
        )!;
        const whole = wal.getRange(first, first + 4);
        assertEquals(
          whole.map(({ transactionId }) => transactionId),
          Array(5).fill(entry.transactionId),
        );
        assert(wal.durableIndex >= first + 4);
      }
    })();
    for (let i = 0; i < 4; i++) {
      await wal.append("alone");
      await wal.transaction((tx) => {
        for (const text of entries(5)) tx.add(text);
      });
      const undone = wal.beginTransaction();
      undone.add("never");
      await turn();
      assertEquals(seen.length, 6 * (i + 1));
      undone.rollback();
    }
    await wal.close();
    await loop;
    assertEquals(seen, Array.from({ length: 24 }, (_, i) => i + 1));
  });
});

describe("Wal.follow(): a log that has failed", () => {
  it("gives what is there, and waits", async () => {
    const place = simulatedPlace(1, { autoSettle: true });
    place.sound = false;
    const wal = await logOf(place, 3);
    const [every, durable] = [wal.follow(), wal.follow({ durable: true })];
    await take(every, 3);
    await take(durable, 3);
    const steps = [await waiting(every), await waiting(durable)] as const;
    place.disk.failNext("syncSoon", "EIO");
    await assertRejects(() => wal.append("entry 4"), WalFailedError);
    assertEquals(wal.state, "failed");
    assertEquals(await got(steps[0]), "4 entry 4");
    assertFalse(await isSettled(steps[1].step), "it never was durable");
    assertEquals(await take(wal.follow(), 4), known(1, 4));
    const late = await waiting(every);
    await assertRejects(() => wal.close(), WalFailedError);
    for (const { step } of [steps[1], late]) {
      assertEquals(await soon(step), { done: true, value: undefined });
    }
  });
});

describe("Wal.follow(): wrong options", () => {
  onEach("are refused at the call", async (place) => {
    await using wal = await logOf(place, 3);
    const cases: [unknown, ErrorConstructor, string][] = [
      [null, TypeError, "options is null, expected an object"],
      [5, TypeError, "options is 5, expected an object"],
      ["start", TypeError, 'options is "start", expected an object'],
      [{ form: 1 }, TypeError, '"form" is not an option'],
      [{ live: false }, TypeError, '"live" is not an option'],
      [{ from: "begin" }, RangeError, 'from is "begin", expected an index'],
      [{ from: 1.5 }, RangeError, "from is 1.5"],
      [{ from: NaN }, RangeError, "from is NaN"],
      [{ from: Infinity }, RangeError, "from is Infinity"],
      [{ from: 2 ** 53 }, RangeError, "from is 9007199254740992"],
      [{ from: null }, TypeError, "from is null"],
      [{ from: 1n }, TypeError, "from is 1n"],
      [{ from: true }, TypeError, "from is true"],
      [{ signal: {} }, TypeError, "expected an AbortSignal"],
      [{ signal: null }, TypeError, "signal is null"],
      [{ signal: "abort" }, TypeError, 'signal is "abort"'],
      [{ durable: 1 }, TypeError, "durable is 1, expected true or false"],
      [{ durable: null }, TypeError, "durable is null"],
      [{ zeroCopy: "yes" }, TypeError, 'zeroCopy is "yes"'],
    ];
    for (const [options, errorClass, message] of cases) {
      const call = () => wal.follow(options as FollowOptions);
      const error = assertThrows(call, errorClass, message);
      assertEquals(error.name, errorClass.name);
    }
    const absent = {
      from: undefined,
      signal: undefined,
      durable: undefined,
      zeroCopy: undefined,
    };
    assertEquals(await take(wal.follow(absent), 3), known(1, 3));
  });
});

describe("Wal.follow(): zeroCopy", () => {
  onEach("gives views where there are some", async (place) => {
    // Twice the smallest: small copies share memory of that size.
    const segmentBytes = 2 * SEGMENT_BYTES;
    const isView = async (steps: Steps): Promise<boolean> => {
      const { value } = await steps.next();
      assertEquals(words(value as Entry), "1 entry 1");
      return (value as Entry).data.buffer.byteLength === segmentBytes;
    };
    const mapped = place.kind === "mapped";
    const options = { segmentBytes };
    {
      await using wal = await logOf(place, 3, options);
      assertFalse(await isView(wal.follow()));
      assertEquals(await isView(wal.follow({ zeroCopy: true })), mapped);
    }
    await using wal = await place.open({ ...options, zeroCopy: true });
    assertEquals(await isView(wal.follow()), mapped);
    assertFalse(await isView(wal.follow({ zeroCopy: false })));
  });

  onEach("what it gave stays as it is", async (place) => {
    await using wal = await logOf(place, 5, { zeroCopy: true });
    const views: Entry[] = [];
    for await (const entry of wal.follow()) {
      views.push(entry);
      if (entry.index === 5) break;
    }
    await wal.reset(1);
    await wal.appendBatch(entries(5).map((text) => `new ${text}`));
    assertEquals(views.map(words), known(1, 5));
  });
});

describe("Wal.follow(): the process", () => {
  const KINDS = STORAGES.map(({ kind }) => kind)
    .filter((kind) => kind !== "simulated");

  function run(what: string): string[] {
    using folder = temporaryFolder();
    const script = join(import.meta.dirname!, "_follow_child.ts");
    const args = [...THIS.args, script, what, folder.path, ...KINDS];
    const { status, stdout, stderr } = spawnSync(THIS.path, args, {
      encoding: "utf8",
      // Only a process that never ends takes so long.
      timeout: 60_000,
    });
    assertEquals(status, 0, `${stdout}${stderr}`);
    return stdout.trim().split("\n");
  }

  it("lives while a follower waits", { timeout: 60_000 }, () => {
    const expected = KINDS.map((kind) => `${kind} 1 late`);
    assertEquals(run("wait"), expected);
  });

  it("ends when none does", { timeout: 60_000 }, () => {
    const ended = [
      "break",
      "abort",
      "close",
      "dispose",
      "unused",
      "held",
      "cancel",
    ];
    const expected = KINDS.flatMap((kind) =>
      ended.map((how) => `${kind} ${how}`)
    );
    assertEquals(run("leave"), expected);
  });
});
