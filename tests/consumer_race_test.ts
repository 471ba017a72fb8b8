/**
 * Calls of a consumer that meet a cut, a removal from the front or a close on
 * their way to the disk, at every point of that way: a position never names an
 * entry that the consumer was not given.
 */
import { describe, it } from "node:test";
import {
  type Consumer,
  IndexOutOfRangeError,
  openWalSync,
  type Wal,
  WalClosedError,
} from "../mod.ts";
import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLessOrEqual,
} from "./_assert.ts";
import { entries, simulatedPlace, type Twin, TWINS } from "./_wal.ts";
import type { SimulatedStorage } from "../testing/mod.ts";

/** The call goes there, from position 2. */
const TARGET = 8;
const COUNT = 10;

/** What is done to the log meanwhile, and the highest entry that it leaves. */
interface Cut {
  readonly name: string;
  readonly most: number;
  /** What the links on the disk tell of it, if that is more. */
  readonly mostByLinks?: number;
  make(wal: Wal, twin: Twin): Promise<void>;
}

const CUTS: readonly Cut[] = [
  {
    name: "truncateAfter(5)",
    most: 5,
    make: (wal, twin) => twin.truncateAfter(wal, 5),
  },
  {
    name: "truncateAfter(0)",
    most: 0,
    make: (wal, twin) => twin.truncateAfter(wal, 0),
  },
  {
    name: "truncateAfter(7)",
    most: 7,
    make: (wal, twin) => twin.truncateAfter(wal, 7),
  },
  {
    name: "truncateAfter(8)",
    most: 8,
    make: (wal, twin) => twin.truncateAfter(wal, 8),
  },
  { name: "reset(1)", most: 0, make: (wal, twin) => twin.reset(wal, 1) },
  { name: "reset(6)", most: 5, make: (wal, twin) => twin.reset(wal, 6) },
  { name: "reset(8)", most: 7, make: (wal, twin) => twin.reset(wal, 8) },
  { name: "reset(9)", most: 8, make: (wal, twin) => twin.reset(wal, 9) },
  { name: "reset(99)", most: 98, make: (wal, twin) => twin.reset(wal, 99) },
  {
    name: "truncateBefore(9)",
    most: COUNT,
    make: (wal, twin) => twin.truncateBefore(wal, 9),
  },
  {
    name: "truncateBefore(11)",
    most: COUNT,
    make: (wal, twin) => twin.truncateBefore(wal, 11),
  },
  {
    name: "truncateAfter(5), truncateAfter(3)",
    most: 3,
    make: (wal, twin) =>
      both(twin.truncateAfter(wal, 5), twin.truncateAfter(wal, 3)),
  },
  {
    name: "truncateAfter(5), append, reset(7)",
    most: 5,
    mostByLinks: 6,
    make: (wal, twin) =>
      both(
        twin.truncateAfter(wal, 5),
        twin.appendBatch(wal, fresh(2)),
        twin.reset(wal, 7),
      ),
  },
];

/** Entries that no consumer was given yet. */
function fresh(count: number): string[] {
  return Array.from({ length: count }, () => "fresh");
}

async function both(...calls: Promise<unknown>[]): Promise<void> {
  const outcomes = await Promise.allSettled(calls);
  for (const outcome of outcomes) {
    // An append may be taken away by the cut after it.
    if (outcome.status === "fulfilled") continue;
    assertInstanceOf(outcome.reason, IndexOutOfRangeError);
  }
}

/** A log on a disk whose syncs end when asked, and a consumer at entry 2. */
async function start(durable: boolean): Promise<Started> {
  const place = simulatedPlace();
  const { disk, path } = place;
  const wal = place.openSync({ sync: "never" });
  wal.appendBatchSync(entries(3));
  const consumer = await settled(disk, wal.consumer("worker"));
  await settled(disk, consumer.ack(2));
  wal.appendBatchSync(entries(COUNT - 3, 4));
  if (durable) wal.flushSync();
  return { path, disk, wal, consumer };
}

interface Started {
  readonly path: string;
  readonly disk: SimulatedStorage;
  readonly wal: Wal;
  readonly consumer: Consumer;
}

/** Longer than any chain of continuations of the log. */
const HOPS = 64;

/** Lets everything run that is ready; on this disk nothing is a task. */
async function turn(): Promise<void> {
  for (let hop = 0; hop < HOPS; hop++) await Promise.resolve();
}

/** Lets syncs end until the promise has settled. */
async function settled<T>(
  disk: SimulatedStorage,
  promise: Promise<T>,
): Promise<T> {
  let done = false;
  const note = () => void (done = true);
  promise.then(note, note);
  for (let left = 100; left > 0 && !done; left--) {
    await turn();
    if (!done) disk.settle();
  }
  assert(done, "a promise never settles");
  return await promise;
}

/** How far the call has come: so many of its syncs are under way or done. */
const MOMENTS = [
  "at once",
  "in its first round",
  "between its rounds",
  "in its second round",
  "when it is done",
] as const;

async function reach(
  disk: SimulatedStorage,
  moment: typeof MOMENTS[number],
): Promise<void> {
  const steps = MOMENTS.indexOf(moment);
  for (let step = 0; step < steps; step++) {
    if (step === 1 || step === 3) disk.settle();
    if (step !== 1) await turn();
  }
}

/** Where the consumer stands in what a power cut and a death leave now. */
function standingsAfter({ disk, path }: Started): (number | undefined)[] {
  const lost = disk.image({ pages: () => "old", names: () => true });
  return [lost, disk.image(), disk.fork()].map((storage) => {
    using wal = openWalSync(path, { storage });
    const [info] = wal.consumers();
    assertLessOrEqual(info!.position, wal.nextIndex - 1);
    return info?.position;
  });
}

describe("Consumer: cuts meet calls that are under way", () => {
  for (const twin of TWINS) {
    for (const cut of CUTS) {
      it(`[F58] ${cut.name} [${twin.name}]`, async () => {
        for (const call of ["ack", "seek"] as const) {
          for (const durable of [true, false]) {
            for (const moment of MOMENTS) {
              await race(twin, cut, call, durable, moment);
            }
          }
        }
      });
    }
  }
});

async function race(
  twin: Twin,
  cut: Cut,
  call: "ack" | "seek",
  durable: boolean,
  moment: typeof MOMENTS[number],
): Promise<void> {
  const what = `${call}, ${durable ? "" : "not "}durable, ${moment}`;
  const started = await start(durable);
  const { disk, wal, consumer } = started;
  const moved = consumer[call](TARGET);
  moved.catch(() => {});
  await reach(disk, moment);
  const done = consumer.position === TARGET;
  const making = cut.make(wal, twin);
  const lowest = Math.min(2, cut.most);
  const highest = Math.min(TARGET, cut.most);
  // From the call on, in memory as on any disk.
  assertLessOrEqual(consumer.position, highest, what);
  await settled(disk, making);
  const [outcome] = await settled(disk, Promise.allSettled([moved]));
  if (outcome!.status === "rejected") {
    const { reason } = outcome!;
    assertInstanceOf(reason, IndexOutOfRangeError, `${what}: ${reason}`);
    assertEquals([reason.index, reason.reason], [TARGET, "truncated"], what);
    assert(!done && cut.most < TARGET, `${what}: rejected`);
  } else {
    assert(done || cut.most >= TARGET, `${what}: resolved`);
    assertEquals(consumer.position, highest, what);
  }
  assertGreaterOrEqual(consumer.position, lowest, what);
  assertLessOrEqual(consumer.position, highest, what);
  const { position } = consumer;
  wal.appendBatchSync(fresh(20), { durable: true });
  assertEquals(consumer.position, position, `${what}, after appending`);
  for (const standing of standingsAfter(started)) {
    assertEquals(standing, position, `${what}, found`);
  }
  // It goes on from there.
  await settled(disk, consumer.ack(wal.lastIndex));
  assertEquals([consumer.position, consumer.lag], [wal.lastIndex, 0], what);
  wal.closeSync();
}

describe("Consumer: a cut before its sync", () => {
  for (const cut of CUTS) {
    it(`[F57][F58] ${cut.name}, and power is lost at any call`, async () => {
      for (const twin of TWINS) {
        const started = await start(true);
        const { disk, wal, consumer, path } = started;
        await settled(disk, consumer.ack(TARGET));
        const images: SimulatedStorage[] = [];
        disk.onCall(() => {
          images.push(disk.image({ garbage: "none" }), disk.fork());
          const old = disk.image({ pages: () => "old", names: () => true });
          images.push(old);
        });
        const making = cut.make(wal, twin);
        const appended = wal.append("fresh", { durable: true });
        await settled(disk, Promise.all([making, appended]));
        disk.onCall(undefined);
        images.push(disk.image());
        for (const image of images) {
          const found = openWalSync(path, { storage: image });
          checkGiven(found, cut.name);
          found.closeSync();
        }
        const last = openWalSync(path, { storage: disk.fork() });
        assertEquals(last.consumers()[0]?.position, consumer.position);
        last.closeSync();
        wal.closeSync();
      }
    });
  }
});

/** Up to its position the consumer was given all that is there. */
function checkGiven(wal: Wal, what: string): void {
  const [info] = wal.consumers();
  const position = info?.position ?? 0;
  assertLessOrEqual(position, wal.nextIndex - 1, what);
  for (const entry of wal) {
    if (entry.index > position) break;
    assertEquals(entry.text(), `entry ${entry.index}`, `${what}: ${position}`);
  }
}

describe("Consumer: one that is being made", () => {
  for (const twin of TWINS) {
    it(`[F58] stands below every cut meanwhile [${twin.name}]`, async () => {
      for (const cut of CUTS) {
        for (const moment of MOMENTS) {
          const place = simulatedPlace();
          const { disk, path } = place;
          const wal = place.openSync({ sync: "never" });
          wal.appendBatchSync(entries(COUNT));
          const making = wal.consumer("worker", { from: TARGET + 1 });
          await reach(disk, moment);
          const cutting = cut.make(wal, twin);
          const consumer = await settled(disk, making);
          const what = `${cut.name}, ${moment}`;
          const least = Math.min(TARGET, cut.most);
          const most = Math.min(TARGET, cut.mostByLinks ?? cut.most);
          const { position } = consumer;
          assertGreaterOrEqual(position, least, what);
          assertLessOrEqual(position, most, what);
          await settled(disk, cutting);
          assertEquals(consumer.position, position, what);
          for (const found of standingsAfter({ disk, path, wal, consumer })) {
            assertEquals(found, position, what);
          }
          wal.closeSync();
        }
      }
    });
  }

  it("[F58] also when the segment behind the cut is gone already", async () => {
    for (const moment of MOMENTS) {
      const place = simulatedPlace();
      const { disk, path } = place;
      const wal = place.openSync();
      wal.appendBatchSync(entries(COUNT));
      const making = wal.consumer("worker", { from: "end" });
      await reach(disk, moment);
      wal.truncateAfterSync(4);
      wal.appendBatchSync(fresh(3));
      wal.rotateSync();
      wal.appendBatchSync(fresh(5));
      wal.truncateBeforeSync(8);
      const consumer = await settled(disk, making);
      assertLessOrEqual(consumer.position, 4, moment);
      assertEquals(consumer.lag, 5, moment);
      for (const found of standingsAfter({ disk, path, wal, consumer })) {
        assertLessOrEqual(found!, 4, moment);
      }
      wal.closeSync();
    }
  });
});

/** What is asked for while `ack(8)` is under way, and what that leaves of it. */
const OVERTAKERS: readonly {
  readonly name: string;
  readonly least: number;
  ask(wal: Wal, consumer: Consumer): [Promise<void>, number][];
}[] = [
  { name: "ack(5)", least: 8, ask: (_, one) => [[one.ack(5), 5]] },
  { name: "ack(9)", least: 8, ask: (_, one) => [[one.ack(9), 9]] },
  { name: "seek(6)", least: 6, ask: (_, one) => [[one.seek(6), 6]] },
  { name: "seek(9)", least: 8, ask: (_, one) => [[one.seek(9), 9]] },
  {
    name: "seek(9), seek(7)",
    least: 7,
    ask: (_, one) => [[one.seek(9), 7], [one.seek(7), 7]],
  },
  {
    name: "truncateAfter(5), ack(5)",
    least: 5,
    ask: (wal, one) => [[wal.truncateAfter(5), 0], [one.ack(5), 5]],
  },
  {
    name: "truncateAfter(5), ack(4), append, ack(6)",
    least: 5,
    ask: (wal, one) => {
      const cut = wal.truncateAfter(5);
      const below = one.ack(4);
      wal.appendSync("fresh", { durable: false });
      return [[cut, 0], [below, 4], [one.ack(6), 6]];
    },
  },
  {
    name: "reset(6), seek(5)",
    least: 5,
    ask: (wal, one) => [[wal.reset(6), 0], [one.seek(5), 5]],
  },
  {
    name: "seek(6), truncateAfter(4)",
    least: 4,
    ask: (wal, one) => [[one.seek(6), 4], [wal.truncateAfter(4), 0]],
  },
];

describe("Consumer: calls that overtake each other", () => {
  for (const { name, least, ask } of OVERTAKERS) {
    it(`what resolves is durable by then: ack(8), ${name}`, async () => {
      for (const durable of [true, false]) {
        for (const moment of MOMENTS) {
          const started = await start(durable);
          const { disk, wal, consumer } = started;
          const what = `${durable ? "" : "not "}durable, ${moment}`;
          const wrong: string[] = [];
          const follow = (call: Promise<void>, floor: number, nth: number) =>
            call.then(() => {
              const found = Math.min(...standingsAfter(started) as number[]);
              if (found >= floor) return;
              wrong.push(`${what}: call ${nth} resolved, found ${found}`);
            }, (error) => assertInstanceOf(error, IndexOutOfRangeError));
          const first = consumer.ack(8);
          await reach(disk, moment);
          const all = [
            follow(first, least, 1),
            ...ask(wal, consumer).map(([call, floor], nth) =>
              follow(call, floor, 2 + nth)
            ),
          ];
          // One sync after the other, so that none hides behind another.
          for (let left = 60; left > 0; left--) {
            await turn();
            disk.settle(1);
          }
          await settled(disk, Promise.all(all));
          assertEquals(wrong, [], what);
          wal.closeSync();
        }
      }
    });
  }
});

describe("Consumer: close meets calls that are under way", () => {
  for (const twin of TWINS) {
    for (const durable of [true, false]) {
      const what = durable ? "durable entries" : "entries on their way";
      it(`what resolved is there again: ${what} [${twin.name}]`, async () => {
        for (const call of ["ack", "seek"] as const) {
          for (const moment of MOMENTS) {
            const { path, disk, wal, consumer } = await start(durable);
            const moved = consumer[call](TARGET);
            moved.catch(() => {});
            await reach(disk, moment);
            await settled(disk, twin.close(wal));
            const [outcome] = await settled(
              disk,
              Promise.allSettled([moved]),
            );
            const where = `${call}, ${moment}`;
            if (outcome!.status === "rejected") {
              assertInstanceOf(outcome!.reason, WalClosedError, where);
              assertEquals(twin.name, "sync", `${where}: close() waits`);
            } else assertEquals(consumer.position, TARGET, where);
            const found = openWalSync(path, { storage: disk.crash() });
            assertEquals(found.recovery.outcome, "clean", where);
            assertEquals(found.consumers()[0]?.position, consumer.position);
            found.closeSync();
          }
        }
      });
    }

    it(`a consumer that is being made is there or not [${twin.name}]`, async () => {
      for (const moment of MOMENTS) {
        const place = simulatedPlace();
        const { disk, path } = place;
        const wal = place.openSync();
        wal.appendBatchSync(entries(COUNT));
        const making = wal.consumer("worker", { from: "end" });
        making.catch(() => {});
        await reach(disk, moment);
        await settled(disk, twin.close(wal));
        // What was overtaken leaves the folder to the next writer.
        const next = openWalSync(path, { storage: disk });
        const calls: string[] = [];
        disk.onCall(({ operation, name }) =>
          calls.push(`${operation} ${name}`)
        );
        const [outcome] = await settled(disk, Promise.allSettled([making]));
        assertEquals(calls, [], moment);
        disk.onCall(undefined);
        const found = next.consumers().map(({ position }) => position);
        if (outcome!.status === "fulfilled") assertEquals(found, [COUNT]);
        else assertInstanceOf(outcome!.reason, WalClosedError, moment);
        if (twin.name === "async") assertEquals(outcome!.status, "fulfilled");
        next.closeSync();
      }
    });

    it(`a removal holds [${twin.name}]`, async () => {
      for (const moment of MOMENTS) {
        const { path, disk, wal, consumer } = await start(true);
        const removed = consumer.remove();
        await reach(disk, moment);
        await settled(disk, twin.close(wal));
        await settled(disk, removed);
        using found = openWalSync(path, { storage: disk.crash() });
        assertEquals(found.consumers(), [], moment);
      }
    });
  }
});
