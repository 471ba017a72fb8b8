import { describe, it } from "node:test";
import { type Wal, WalFailedError } from "../mod.ts";
import {
  assertEquals,
  assertGreater,
  assertRejects,
  assertThrows,
} from "./_assert.ts";
import { settled, simulatedPlace, texts, turn } from "./_wal.ts";

/** A log with `sync: "interval"` on a disk whose clock the test moves. */
async function openInterval(syncIntervalMs?: number, logger?: Console) {
  const place = simulatedPlace();
  const opened = place.open({ sync: "interval", syncIntervalMs, logger });
  const wal: Wal = await settled(place.disk, opened);
  return { ...place, wal };
}

describe('sync: "interval"', () => {
  it("syncs when the time has come, and not before", async () => {
    const { disk, wal } = await openInterval(1000);
    const before = wal.stats().syncCount;
    assertEquals(await wal.append("one"), 1);
    assertEquals(await wal.append("two"), 2);
    // Every look at the simulated clock takes a millisecond.
    disk.clock.advance(900);
    await turn();
    disk.settle();
    assertEquals(wal.stats().syncCount, before);
    assertEquals([wal.durableIndex, wal.stats().unsyncedCount], [0, 2]);
    disk.clock.advance(101);
    assertGreater(wal.stats().syncCount, before);
    assertEquals(wal.durableIndex, 0);
    disk.settle();
    await turn();
    assertEquals([wal.durableIndex, wal.stats().unsyncedCount], [2, 0]);
    await settled(disk, wal.close());
  });

  it("the default is a second", async () => {
    const { disk, wal } = await openInterval();
    await wal.append("one");
    disk.clock.advance(1000);
    disk.settle();
    await turn();
    assertEquals(wal.durableIndex, 1);
    await settled(disk, wal.close());
  });

  it("an idle log is not synced again", async () => {
    const { disk, wal } = await openInterval(100);
    await wal.append("one");
    disk.clock.advance(100);
    disk.settle();
    await turn();
    const { syncCount } = wal.stats();
    for (let i = 0; i < 20; i++) {
      disk.clock.advance(100);
      disk.settle();
      await turn();
    }
    assertEquals(wal.stats().syncCount, syncCount);
    await settled(disk, wal.close());
  });

  it("a slow sync is not started twice", async () => {
    const { disk, wal } = await openInterval(100);
    await wal.append("first");
    disk.clock.advance(100);
    disk.settle();
    await turn();
    await wal.append("one");
    disk.clock.advance(100);
    const running = disk.pendingSyncs;
    await wal.append("two");
    disk.clock.advance(500);
    assertEquals(disk.pendingSyncs, running);
    disk.settle();
    await turn();
    assertEquals(wal.durableIndex, 2);
    disk.clock.advance(100);
    disk.settle();
    await turn();
    assertEquals(wal.durableIndex, 3);
    await settled(disk, wal.close());
  });

  it("a power cut takes back what was not synced, and no more", async () => {
    const { disk, wal, ...place } = await openInterval(100);
    await wal.append("kept");
    disk.clock.advance(100);
    disk.settle();
    await turn();
    await wal.append("not synced");
    const found = disk.crash({ pages: () => "old", names: () => false });
    const again = await settled(found, place.open({ storage: found }));
    assertEquals(texts(again), ["kept"]);
    await settled(found, again.close());
  });

  it("a failed sync: told, the next write throws, close rejects", async () => {
    const told: string[] = [];
    const quiet = () => {};
    const logger = {
      debug: quiet,
      info: quiet,
      warn: quiet,
      error: (message: string) => void told.push(message),
    } as Console;
    const { disk, wal, ...place } = await openInterval(100, logger);
    await wal.append("one");
    disk.failNext("syncSoon", "EIO");
    disk.clock.advance(100);
    disk.settle();
    await turn();
    assertEquals(wal.state, "failed");
    assertEquals(told.length, 1);
    assertThrows(() => wal.appendSync("two"), WalFailedError, "EIO");
    await assertRejects(() => wal.append("two"), WalFailedError);
    assertEquals(texts(wal), ["one"]);
    // The timer has ended: nothing is tried again.
    const { syncCount } = wal.stats();
    disk.clock.advance(1000);
    assertEquals(wal.stats().syncCount, syncCount);
    await assertRejects(() => wal.close(), WalFailedError);
    const again = await settled(disk, place.open());
    await settled(disk, again.close());
  });

  it("close() syncs the rest and ends the timer", async () => {
    const { disk, wal, ...place } = await openInterval(100);
    await wal.append("one");
    await settled(disk, wal.close());
    const calls = disk.callCount;
    disk.clock.advance(10_000);
    await turn();
    assertEquals(disk.callCount, calls);
    const found = disk.crash({ pages: () => "old", names: () => false });
    const again = await settled(found, place.open({ storage: found }));
    assertEquals(texts(again), ["one"]);
    assertEquals(again.recovery.outcome, "clean");
    await settled(found, again.close());
  });

  it("closeSync() ends the timer, too; never has none", async () => {
    const { disk, wal } = await openInterval(100);
    await wal.append("one");
    wal.closeSync();
    const calls = disk.callCount;
    disk.clock.advance(10_000);
    assertEquals(disk.callCount, calls);
    const { disk: other, ...place } = simulatedPlace(2);
    const never = await settled(other, place.open({ sync: "never" }));
    await never.append("x");
    const before = other.callCount;
    other.clock.advance(100_000);
    await turn();
    assertEquals(other.callCount, before);
    await settled(other, never.close());
  });
});
