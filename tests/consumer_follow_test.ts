import { describe, it } from "node:test";
import {
  type Consumer,
  type ConsumerOptions,
  type Entry,
  type Wal,
  WalClosedError,
  WalFailedError,
  type WalOptions,
} from "../mod.ts";
import { Random } from "../testing/mod.ts";
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
import {
  assertEnded,
  assertOutOfRange,
  got,
  numbered,
  soon,
  take,
  waiting,
  words,
} from "./_follow_steps.ts";
import {
  block,
  entries,
  isSettled,
  onEach,
  onEachTwin,
  type Place,
  SEGMENT_BYTES,
  settled,
  simulatedPlace,
  texts,
  turn,
} from "./_wal.ts";

type Batches = AsyncGenerator<Entry[], void, undefined>;

/** A log of so many durable entries, and a new consumer. */
async function withConsumer(
  place: Place,
  count: number,
  options?: WalOptions & ConsumerOptions,
): Promise<{ wal: Wal; consumer: Consumer }> {
  const { from, ...walOptions } = options ?? {};
  const wal = await place.open(walOptions);
  if (count > 0) await wal.appendBatch(entries(count), { durable: true });
  return { wal, consumer: await wal.consumer("worker", { from }) };
}

/** "3 entry 3", "4 entry 4", … */
function known(first: number, last: number): string[] {
  return numbered(entries(last - first + 1, first), first);
}

/** The next `count` batches, each entry in words. */
async function takeBatches(
  batches: Batches,
  count: number,
): Promise<string[][]> {
  const taken: string[][] = [];
  while (taken.length < count) {
    const { done, value } = await soon(batches.next());
    assert(!done, `it ended after ${taken.length} of ${count} batches`);
    taken.push((value as Entry[]).map(words));
  }
  return taken;
}

describe("Consumer.follow()", () => {
  onEach(
    "gives what is behind the position, then what comes",
    async (place) => {
      const { wal, consumer } = await withConsumer(place, 5);
      await using _ = wal;
      await consumer.ack(2);
      const follower = consumer.follow();
      assertEquals(await take(follower, 3), known(3, 5));
      const next = await waiting(follower);
      await wal.append("entry 6");
      assertEquals(await got(next), "6 entry 6");
      // It acknowledges nothing itself.
      assertEquals([consumer.position, consumer.lag], [2, 4]);
      assertEquals(await take(consumer.follow(), 4), known(3, 6));
    },
  );

  onEach("of new consumers, wherever they begin", async (place) => {
    const { wal, consumer } = await withConsumer(place, 5);
    await using _ = wal;
    assertEquals(await take(consumer.follow(), 1), known(1, 1));
    const three = await wal.consumer("three", { from: 3 });
    assertEquals(await take(three.follow(), 1), known(3, 3));
    const end = await wal.consumer("end", { from: "end" });
    const next = await waiting(end.follow());
    await wal.append("entry 6");
    assertEquals(await got(next), "6 entry 6");
  });

  onEachTwin("gives durable entries only", async (place, twin) => {
    const { wal, consumer } = await withConsumer(place, 2, { sync: "never" });
    await using _ = wal;
    const follower = consumer.follow();
    const batches = consumer.batches();
    assertEquals(await take(follower, 2), known(1, 2));
    assertEquals(await takeBatches(batches, 1), [known(1, 2)]);
    wal.appendSync("entry 3");
    const next = await waiting(follower);
    const batch = await waiting(batches);
    wal.appendSync("entry 4");
    assertFalse(await isSettled(next.step), "3 is not durable");
    await twin.flush(wal);
    assertEquals(await got(next), "3 entry 3");
    assertEquals(await take(follower, 1), known(4, 4));
    const { value } = await soon(batch.step);
    assertEquals((value as Entry[]).map(words), known(3, 4));
  });

  it("not what came after the sync has begun", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open({ sync: "never" }));
    const consumer = await settled(disk, wal.consumer("worker"));
    const batch = await waiting(consumer.batches());
    wal.appendSync("covered");
    const flushed = wal.flush();
    await turn();
    wal.appendSync("too late");
    await settled(disk, flushed);
    const { value } = await soon(batch.step);
    assertEquals((value as Entry[]).map(words), ["1 covered"]);
    await settled(disk, wal.close());
  });

  onEach("the position is kept over reopening", async (place) => {
    {
      const { wal, consumer } = await withConsumer(place, 9);
      for await (const entry of consumer.follow()) {
        if (entry.index === 6) break;
        await consumer.ack(entry.index);
      }
      await wal.close();
    }
    await using wal = await place.open();
    const consumer = await wal.consumer("worker", { from: "end" });
    assertEquals(consumer.position, 5);
    assertEquals(await take(consumer.follow(), 4), known(6, 9));
    assertEquals(await takeBatches(consumer.batches(), 1), [known(6, 9)]);
  });

  onEach("several loops and consumers are independent", async (place) => {
    const { wal, consumer } = await withConsumer(place, 6);
    await using _ = wal;
    const other = await wal.consumer("other", { from: 4 });
    const [one, two, three] = [
      consumer.follow(),
      consumer.batches({ maxEntries: 4 }),
      other.follow(),
    ];
    assertEquals(await take(one, 2), known(1, 2));
    await consumer.ack(2);
    assertEquals(await takeBatches(two, 1), [known(1, 4)]);
    assertEquals(await take(three, 3), known(4, 6));
    assertEquals(await take(one, 1), known(3, 3));
    assertEquals(await takeBatches(two, 1), [known(5, 6)]);
    assertEquals([consumer.position, other.position], [2, 3]);
  });

  onEach("zeroCopy gives views where there are some", async (place) => {
    // Twice the smallest: small copies share memory of that size.
    const segmentBytes = 2 * SEGMENT_BYTES;
    const { wal, consumer } = await withConsumer(place, 1, { segmentBytes });
    await using _ = wal;
    const isView = async (zeroCopy?: boolean) => {
      const { value } = await consumer.follow({ zeroCopy }).next();
      return (value as Entry).data.buffer.byteLength === segmentBytes;
    };
    assertEquals(await isView(true), place.kind === "mapped");
    assertEquals([await isView(false), await isView()], [false, false]);
  });
});

describe("Consumer.batches()", () => {
  onEach("gives what is there, at most maxEntries", async (place) => {
    const { wal, consumer } = await withConsumer(place, 10);
    await using _ = wal;
    const batches = consumer.batches({ maxEntries: 4 });
    assertEquals(await takeBatches(batches, 3), [
      known(1, 4),
      known(5, 8),
      known(9, 10),
    ]);
    const batch = await waiting(batches);
    await wal.append("entry 11");
    const { value } = await soon(batch.step);
    assertEquals((value as Entry[]).map(words), known(11, 11));
    await wal.appendBatch(entries(6, 12));
    assertEquals(await takeBatches(batches, 2), [known(12, 15), known(16, 17)]);
    await waiting(batches);
    assertEquals(consumer.position, 0);
  });

  onEach("at most maxBytes; a larger entry is alone", async (place) => {
    const wal = await place.open();
    await using _ = wal;
    const sizes = [40, 60, 1, 99, 101, 5, 500, 500, 100, 0, 0, 100];
    await wal.appendBatch(sizes.map((size) => block(size, 1)));
    const consumer = await wal.consumer("worker");
    const batches = consumer.batches({ maxBytes: 100 });
    const given: number[][] = [];
    while (given.flat().length < sizes.length) {
      const { value } = await soon(batches.next());
      given.push((value as Entry[]).map(({ data }) => data.length));
    }
    assertEquals(given, [
      [40, 60],
      [1, 99],
      [101],
      [5],
      [500],
      [500],
      [100, 0, 0],
      [100],
    ]);
    await waiting(batches);
  });

  onEach("by default 1000 entries", async (place) => {
    const { wal, consumer } = await withConsumer(place, 2100);
    await using _ = wal;
    const counts: number[] = [];
    for await (const batch of consumer.batches()) {
      counts.push(batch.length);
      await consumer.ack(batch.at(-1)!.index);
      if (consumer.lag === 0) break;
    }
    assertEquals(counts, [1000, 1000, 100]);
    assertEquals(consumer.position, 2100);
  });

  it("by default 16 MiB", async () => {
    const place = simulatedPlace(1, { autoSettle: true });
    const wal = await place.open({ segmentBytes: 32 * 1024 * 1024 });
    await using _ = wal;
    const mebibyte = 1024 * 1024;
    const sizes = [8 * mebibyte, 8 * mebibyte, 1];
    await wal.appendBatch(sizes.map((size) => block(size, 1)));
    const consumer = await wal.consumer("worker");
    const batches = consumer.batches();
    for (const expected of [2, 1]) {
      const { value } = await soon(batches.next());
      assertEquals((value as Entry[]).length, expected);
    }
  });

  onEach("any limits cut the log as they cut an array", async (place) => {
    const rounds = budgetOf({ smoke: 12, long: 2000 });
    const seed = seedOf();
    const wal = await place.open({ sync: "never" });
    await using _ = wal;
    const random = new Random(seed);
    const sizes = Array.from(
      { length: 400 },
      () => random.int(random.chance(0.1) ? 3000 : 200),
    );
    await wal.appendBatch(sizes.map((size) => block(size, 1)));
    await wal.flush();
    for (let round = 0; round < rounds; round++) {
      const maxEntries = 1 + random.int(random.chance(0.5) ? 10 : 200);
      const maxBytes = 1 + random.int(random.chance(0.5) ? 400 : 10_000);
      const from = 1 + random.int(400);
      const consumer = await wal.consumer("any", { from });
      const batches = consumer.batches({ maxEntries, maxBytes });
      let at = from - 1;
      while (at < sizes.length) {
        let [end, bytes] = [at + 1, sizes[at]!];
        while (end < sizes.length && end - at < maxEntries) {
          if (bytes + sizes[end]! > maxBytes) break;
          bytes += sizes[end++]!;
        }
        const { value } = await soon(batches.next());
        assertEquals(
          (value as Entry[]).map(({ index }) => index),
          Array.from({ length: end - at }, (_, i) => at + i + 1),
          `${replay("tests/consumer_follow_test.ts")}, round ${round}: ` +
            `maxEntries ${maxEntries}, maxBytes ${maxBytes}, from ${from}`,
        );
        at = end;
      }
      await batches.return();
      await consumer.remove();
    }
  });
});

describe("following consumers: their end", () => {
  onEach("an aborted signal makes them throw the reason", async (place) => {
    const { wal, consumer } = await withConsumer(place, 2);
    await using _ = wal;
    const reason = { why: "enough" };
    const ending = new AbortController();
    const { signal } = ending;
    const [one, two] = [
      consumer.follow({ signal }),
      consumer.batches({ signal }),
    ];
    await take(one, 2);
    await takeBatches(two, 1);
    const [step, batch] = [await waiting(one), await waiting(two)];
    ending.abort(reason);
    const early = [
      consumer.follow({ signal }).next(),
      consumer.batches({ signal }).next(),
    ];
    for (const rejected of [step.step, batch.step, ...early]) {
      await (rejected as Promise<unknown>).then(
        () => assert(false, "the signal was aborted"),
        (thrown) => assertStrictEquals(thrown, reason),
      );
    }
    await consumer.ack(1);
  });

  onEach("dispose, remove and close end them normally", async (place) => {
    const { wal, consumer } = await withConsumer(place, 3);
    const ways: [string, (consumer: Consumer) => Promise<void>][] = [
      ["disposed", (one) => one[Symbol.asyncDispose]()],
      ["removed", (one) => one.remove()],
      ["closed", () => wal.close()],
    ];
    for (const [name, end] of ways) {
      const one = name === "closed" ? consumer : await wal.consumer(name);
      const [waits, idle, fresh, batches, late] = [
        one.follow(),
        one.follow(),
        one.follow(),
        one.batches(),
        one.batches(),
      ];
      await take(waits, 3);
      await take(idle, 1);
      await takeBatches(batches, 1);
      const steps = [await waiting(waits), await waiting(batches)];
      await end(one);
      for (const { step } of steps) {
        assertEquals(await soon<unknown>(step), {
          done: true,
          value: undefined,
        });
      }
      for (const other of [waits, idle, fresh, batches, late]) {
        await assertEnded(other);
      }
      assertThrows(() => one.follow(), WalClosedError);
      assertThrows(() => one.batches(), WalClosedError);
      if (name !== "closed") {
        assertEquals(await take(consumer.follow(), 3), known(1, 3), name);
      }
    }
  });

  it("in a log that has failed they give what is durable", async () => {
    const place = simulatedPlace(1, { autoSettle: true });
    place.sound = false;
    const { wal, consumer } = await withConsumer(place, 3);
    const follower = consumer.follow();
    assertEquals(await take(follower, 1), known(1, 1));
    place.disk.failNext("syncSoon", "EIO");
    await assertRejects(() => wal.append("entry 4"), WalFailedError);
    assertEquals(await take(follower, 2), known(2, 3));
    const { step } = await waiting(follower);
    await assertRejects(() => wal.close(), WalFailedError);
    assertEquals(await soon<unknown>(step), { done: true, value: undefined });
  });
});

describe("following consumers: entries taken away", () => {
  onEachTwin(
    "a truncation of what one was given throws",
    async (place, twin) => {
      const { wal, consumer } = await withConsumer(place, 10);
      await using _ = wal;
      const [follower, batches, behind] = [
        consumer.follow(),
        consumer.batches({ maxEntries: 7 }),
        consumer.follow(),
      ];
      await take(follower, 10);
      await takeBatches(batches, 1);
      await take(behind, 5);
      const { step } = await waiting(follower);
      await consumer.ack(8);
      await twin.truncateAfter(wal, 5);
      assertEquals(consumer.position, 5);
      await twin.appendBatch(wal, ["new 6", "new 7"]);
      await twin.flush(wal);
      assertEquals((await assertOutOfRange(step, "truncated")).index, 10);
      const { index } = await assertOutOfRange(batches.next(), "truncated");
      assertEquals(index, 7);
      assertEquals(await take(behind, 2), ["6 new 6", "7 new 7"]);
      // Asked anew, it goes on where the truncation has put it.
      assertEquals(await take(consumer.follow(), 2), ["6 new 6", "7 new 7"]);
      assertEquals(await takeBatches(consumer.batches(), 1), [
        ["6 new 6", "7 new 7"],
      ]);
    },
  );

  for (const how of ["follow", "batches"] as const) {
    onEach(
      `${how}() skips nothing after a truncation below it`,
      async (place) => {
        const { wal, consumer } = await withConsumer(place, 10);
        await using _ = wal;
        await consumer.ack(10);
        const { step } = await waiting<Entry | Entry[]>(consumer[how]());
        await wal.truncateAfter(5);
        for (const text of entries(8, 6)) await wal.append(`new ${text}`);
        const outcome = await step.then(
          ({ value }) => [value as Entry | Entry[]].flat().map(words)[0],
          (error) => error.reason,
        );
        // It was given all up to 10; a gap would be acknowledged unseen.
        assert(["6 new entry 6", "truncated"].includes(outcome), outcome);
        assertEquals(await take(consumer.follow(), 1), ["6 new entry 6"]);
      },
    );
  }

  onEachTwin("reset", async (place, twin) => {
    const { wal, consumer } = await withConsumer(place, 4);
    await using _ = wal;
    await consumer.ack(3);
    const follower = consumer.follow();
    await take(follower, 1);
    await twin.reset(wal, 100);
    await assertOutOfRange(follower.next(), "truncated");
    await twin.reset(wal, 2);
    assertEquals(consumer.position, 1);
    await twin.appendBatch(wal, ["two", "three"]);
    assertEquals(await take(consumer.follow(), 2), ["2 two", "3 three"]);
  });

  onEachTwin("truncateBefore passes it: removed", async (place, twin) => {
    const { wal, consumer } = await withConsumer(place, 10);
    await using _ = wal;
    await consumer.ack(2);
    const [running, batches] = [consumer.follow(), consumer.batches()];
    await take(running, 1);
    await twin.truncateBefore(wal, 6);
    const errors = [
      await assertOutOfRange(running.next(), "removed"),
      await assertOutOfRange(batches.next(), "removed"),
      await assertOutOfRange(consumer.follow().next(), "removed"),
      await assertOutOfRange(consumer.batches().next(), "removed"),
    ];
    assertEquals(errors.map(({ index }) => index), [4, 3, 3, 3]);
    await consumer.seek(5);
    assertEquals(await take(consumer.follow(), 5), known(6, 10));
    await consumer.ack(10);
    await twin.truncateBefore(wal, 11);
    const next = await waiting(consumer.follow());
    await twin.append(wal, "entry 11");
    await twin.flush(wal);
    assertEquals(await got(next), "11 entry 11");
  });

  onEach("truncateBefore of what is worked off", async (place) => {
    const { wal, consumer } = await withConsumer(place, 20);
    await using _ = wal;
    const given: string[] = [];
    for await (const batch of consumer.batches({ maxEntries: 3 })) {
      given.push(...batch.map(words));
      await consumer.ack(batch.at(-1)!.index);
      await wal.truncateBefore(consumer.position + 1);
      if (consumer.lag === 0) break;
    }
    assertEquals(given, known(1, 20));
    assertEquals(wal.length, 0);
  });
});

describe("following consumers: seek", () => {
  onEach("counts for loops that begin after it", async (place) => {
    const { wal, consumer } = await withConsumer(place, 9);
    await using _ = wal;
    const running = consumer.follow();
    assertEquals(await take(running, 4), known(1, 4));
    await consumer.ack(4);
    await consumer.seek(1);
    assertEquals(await take(consumer.follow(), 2), known(2, 3));
    assertEquals(await takeBatches(consumer.batches(), 1), [known(2, 9)]);
    await consumer.seek(7);
    assertEquals(await take(consumer.follow(), 2), known(8, 9));
    // One that runs neither skips nor repeats.
    assertEquals(await take(running, 5), known(5, 9));
    const next = await waiting(running);
    await consumer.seek(0);
    assertFalse(await isSettled(next.step));
    await wal.append("entry 10");
    assertEquals(await got(next), "10 entry 10");
    assertEquals(consumer.position, 0);
  });
});

describe("following consumers: wrong options", () => {
  onEach("are refused at the call", async (place) => {
    const { wal, consumer } = await withConsumer(place, 1);
    await using _ = wal;
    type Case = [unknown, ErrorConstructor, string];
    const both: Case[] = [
      [null, TypeError, "options is null, expected an object"],
      [5, TypeError, "options is 5, expected an object"],
      ["x", TypeError, 'options is "x", expected an object'],
      [() => {}, TypeError, "options is a function, expected an object"],
      [{ from: 1 }, TypeError, '"from" is not an option'],
      [{ durable: false }, TypeError, '"durable" is not an option'],
      [{ signal: 1 }, TypeError, "signal is 1, expected an AbortSignal"],
      [{ signal: null }, TypeError, "signal is null"],
    ];
    const follow: Case[] = [
      [{ maxEntries: 1 }, TypeError, '"maxEntries" is not an option'],
      [{ zeroCopy: 1 }, TypeError, "zeroCopy is 1"],
    ];
    const batches: Case[] = [
      [{ zeroCopy: true }, TypeError, '"zeroCopy" is not an option'],
      ...["maxEntries", "maxBytes"].flatMap((name): Case[] => [
        [{ [name]: 0 }, RangeError, `${name} is 0, expected a whole number`],
        [{ [name]: -1 }, RangeError, `${name} is -1`],
        [{ [name]: 1.5 }, RangeError, `${name} is 1.5`],
        [{ [name]: NaN }, RangeError, `${name} is NaN`],
        [{ [name]: "1" }, TypeError, `${name} is "1"`],
        [{ [name]: null }, TypeError, `${name} is null`],
        [{ [name]: 1n }, TypeError, `${name} is 1n`],
      ]),
    ];
    for (const [options, errorClass, message] of [...both, ...follow]) {
      const call = () => consumer.follow(options as object);
      assertThrows(call, errorClass, message);
    }
    for (const [options, errorClass, message] of [...both, ...batches]) {
      const call = () => consumer.batches(options as object);
      assertThrows(call, errorClass, message);
    }
    const absent = { signal: undefined, maxEntries: undefined };
    assertEquals(await takeBatches(consumer.batches(absent), 1), [known(1, 1)]);
    const none = { signal: undefined, zeroCopy: undefined };
    assertEquals(await take(consumer.follow(none), 1), known(1, 1));
  });
});

describe("following consumers: power cuts", () => {
  it("each entry is worked off, what was acknowledged once", async () => {
    const seed = seedOf();
    const runs = budgetOf({ smoke: 15, long: 2000 });
    let again = 0;
    for (let nth = 0; nth < runs; nth++) {
      try {
        again += await workOff(seed + nth);
      } catch (error) {
        const file = "tests/consumer_follow_test.ts";
        const how = replay(file, seed + nth, "WALRUS_BUDGET=1");
        const { message } = error as Error;
        throw new Error(`${how}\n${message}`, { cause: error });
      }
    }
    console.log(`seed ${seed}: ${runs} runs, ${again} entries given again`);
    if (runs > 10) assertGreater(again, 0);
  });

  /** Works off a log over power cuts; returns how many entries came twice. */
  async function workOff(seed: number): Promise<number> {
    const random = new Random(seed, 3);
    let { disk, ...place } = simulatedPlace(seed, { autoSettle: true });
    const given: number[] = [];
    let acknowledged = 0;
    for (let life = 0; life < 4; life++) {
      const wal = await place.open({ sync: "never" });
      const consumer = await wal.consumer("worker");
      assert(consumer.position >= acknowledged, "an ack that was promised");
      acknowledged = consumer.position;
      for (let i = 0; i < 3; i++) {
        const count = 1 + random.int(12);
        await wal.appendBatch(entries(count, wal.nextIndex));
        if (random.chance(0.7)) await wal.flush();
      }
      await wal.flush();
      let steps = random.int(12);
      for await (const batch of consumer.batches({ maxEntries: 4 })) {
        for (const entry of batch) {
          assertEquals(entry.text(), `entry ${entry.index}`);
          assert(entry.index > acknowledged, "given after its ack");
          given.push(entry.index);
        }
        const last = batch.at(-1)!.index;
        const ends = --steps <= 0 && life < 3;
        if (ends && random.chance(0.5)) break;
        const acked = consumer.ack(last).then(() => {
          acknowledged = last;
        });
        if (ends) {
          // Its sync has begun when the power fails, and may have ended.
          for (let i = random.between(5, 12); i > 0; i--) await undefined;
          break;
        }
        await acked;
        if (consumer.lag === 0) break;
      }
      if (life === 3) {
        const all = Array.from({ length: wal.lastIndex }, (_, i) => i + 1);
        assertEquals([...new Set(given)].sort((a, b) => a - b), all);
        assertEquals(texts(wal), entries(wal.lastIndex));
        await wal.close();
        break;
      }
      disk = disk.crash();
      place = { ...place, ...placeOn(place, disk) };
    }
    return given.length - new Set(given).size;
  }

  function placeOn(place: Place, storage: Place["storage"]): Partial<Place> {
    return {
      storage,
      open: (options) => place.open({ storage, ...options }),
    };
  }
});
