import { statSync } from "node:fs";
import { describe, it } from "node:test";
import type { Percentiles } from "../mod.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLessOrEqual,
  assertStrictEquals,
} from "./_assert.ts";
import {
  block,
  entries,
  onEach,
  onEachTwin,
  SEGMENT_BYTES,
  settled,
  simulatedPlace,
} from "./_wal.ts";

describe("Wal.stats()", () => {
  onEachTwin("of a new log", async (place, twin) => {
    await using wal = await twin.open(place);
    const none: Percentiles = { count: 0, p50: 0, p99: 0, p999: 0, max: 0 };
    assertEquals(wal.stats(), {
      storage: place.kind,
      entryCount: 0,
      segmentCount: 1,
      bytes: SEGMENT_BYTES,
      appendCount: 0,
      syncCount: 0,
      bytesWritten: 0,
      unsyncedBytes: 0,
      unsyncedCount: 0,
      appendNs: none,
      syncNs: none,
      consumers: [],
    });
  });

  onEachTwin("counts entries, segments and bytes", async (place, twin) => {
    await using wal = await twin.open(place);
    await twin.append(wal, "one");
    const one = wal.stats();
    assertEquals([one.entryCount, one.appendCount], [1, 1]);
    // A frame: at most 48 bytes with alignment, and its data.
    assertGreaterOrEqual(one.bytesWritten, 3 + 24);
    assertLessOrEqual(one.bytesWritten, 3 + 48);
    assertEquals([one.unsyncedBytes, one.unsyncedCount], [0, 0]);
    await twin.appendBatch(wal, entries(9));
    assertEquals(wal.stats().entryCount, 10);
    assertEquals(wal.stats().appendCount, 10);
    await twin.rotate(wal);
    assertEquals(wal.stats().segmentCount, 2);
    assertEquals(wal.stats().bytes, 2 * SEGMENT_BYTES);
    await twin.truncateAfter(wal, 4);
    const cut = wal.stats();
    assertEquals([cut.entryCount, cut.appendCount], [4, 10]);
    assertEquals(cut.segmentCount, wal.segments().length);
    const bytes = wal.segments().map((one) => one.bytes);
    assertEquals(cut.bytes, bytes.reduce((sum, size) => sum + size, 0));
    assertEquals([cut.unsyncedBytes, cut.unsyncedCount], [0, 0]);
  });

  onEachTwin("counts since opening, not before", async (place, twin) => {
    const wal = await twin.open(place);
    await twin.appendBatch(wal, entries(5));
    await twin.close(wal);
    using again = await twin.open(place);
    const { entryCount, appendCount, bytesWritten } = again.stats();
    assertEquals([entryCount, appendCount, bytesWritten], [5, 0, 0]);
    assertEquals(again.stats().unsyncedCount, 0);
  });

  onEachTwin(
    "unsynced: what a power cut could take, in frames",
    async (place, twin) => {
      await using wal = await twin.open(place, { sync: "never" });
      await twin.appendBatch(wal, entries(3));
      const { bytesWritten, unsyncedBytes } = wal.stats();
      assertEquals(unsyncedBytes, bytesWritten);
      assertEquals(wal.stats().unsyncedCount, 3);
      await twin.flush(wal);
      const { unsyncedBytes: none, unsyncedCount } = wal.stats();
      assertEquals([none, unsyncedCount], [0, 0]);
      const before = wal.stats().bytesWritten;
      // Into later segments: their headers are not frames.
      // From five unsynced ones on a round starts by itself.
      for (let i = 0; i < 4; i++) await twin.append(wal, block(40_000, i));
      assertEquals(wal.segments().length, 4);
      const after = wal.stats();
      assertEquals(after.unsyncedBytes, after.bytesWritten - before);
      assertEquals(after.unsyncedCount, 4);
      await twin.flush(wal);
      // A blocking flush counts once the sync in flight has returned, too.
      await wal.flush();
      assertEquals(wal.stats().unsyncedBytes, 0);
      await twin.append(wal, "x");
      await twin.truncateAfter(wal, 0);
      assertEquals(wal.stats().unsyncedBytes, 0);
      assertEquals(wal.stats().unsyncedCount, 0);
    },
  );

  onEachTwin("latencies are counted and in order", async (place, twin) => {
    await using wal = await twin.open(place);
    for (let i = 0; i < 640; i++) {
      await twin.append(wal, "x", { durable: i % 64 === 0 });
    }
    const { appendNs, syncNs, syncCount } = wal.stats();
    assertEquals(appendNs.count, 10);
    assertGreater(syncNs.count, 0);
    assertGreaterOrEqual(syncCount, syncNs.count);
    for (const { p50, p99, p999, max } of [appendNs, syncNs]) {
      assertGreater(p50, 0);
      assertLessOrEqual(p50, p99);
      assertLessOrEqual(p99, p999);
      assertLessOrEqual(p999, max);
    }
  });

  it("syncCount is what the system was asked for", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    let syncs = 0;
    disk.onCall(({ operation, name }) => {
      const isSync = ["sync", "syncSoon", "directorySync"].includes(operation);
      if (isSync && !name.includes("manifest")) syncs++;
    });
    for (let i = 0; i < 5; i++) await settled(disk, wal.append("x"));
    for (let i = 0; i < 5; i++) wal.appendSync("x");
    assertStrictEquals(wal.stats().syncCount, syncs);
    assertEquals(syncs, 10);
    disk.onCall(undefined);
    await settled(disk, wal.close());
  });
});

describe("Wal.segments()", () => {
  onEachTwin(
    "tells number, path, entries, size, state and birth",
    async (place, twin) => {
      const before = place.storage.clock.nowMs();
      const wal = await twin.open(place);
      const [only] = wal.segments();
      assertEquals([only!.firstIndex, only!.lastIndex], [0, 0]);
      assertEquals([only!.number, only!.sealed], [1, false]);
      await twin.append(wal, block(50_000, 1));
      await twin.append(wal, block(50_000, 2));
      await twin.append(wal, block(200_000, 3));
      const segments = wal.segments();
      const after = place.storage.clock.nowMs();
      const spans = segments.map((
        { number, firstIndex, lastIndex, sealed },
      ) => [
        number,
        firstIndex,
        lastIndex,
        sealed,
      ]);
      assertEquals(spans, [[1, 1, 1, true], [2, 2, 2, true], [3, 3, 3, false]]);
      for (const { number, path, bytes, createdAt } of segments) {
        const name = `segment_${String(number).padStart(20, "0")}.wal`;
        assertEquals(path, `${place.path}/${name}`);
        assertInstanceOf(createdAt, Date);
        assertLessOrEqual(before, createdAt.getTime());
        assertLessOrEqual(createdAt.getTime(), after);
        if (place.real) assertEquals(statSync(path).size, bytes);
        assertEquals(bytes % 4096, 0);
      }
      assertEquals(segments[0]!.bytes, SEGMENT_BYTES);
      assertGreater(segments[2]!.bytes, 200_000);
      await twin.close(wal);
      using again = await twin.open(place);
      assertEquals(again.segments(), segments);
    },
  );

  onEach("the list is the caller's", async (place) => {
    await using wal = await place.open();
    wal.segments().length = 0;
    assertEquals(wal.segments().length, 1);
    await wal.append("x");
    assertEquals(wal.segments()[0]!.lastIndex, 1);
  });
});

describe("Wal.recovery", () => {
  onEachTwin("created, then clean", async (place, twin) => {
    const wal = await twin.open(place);
    const { ms, ...created } = wal.recovery;
    assertEquals(created, {
      outcome: "created",
      entryCount: 0,
      segmentsScanned: 0,
      tornBytes: 0,
      savedPath: undefined,
      gaps: [],
    });
    assert(ms >= 0 && Number.isFinite(ms));
    await twin.appendBatch(wal, entries(7));
    assertEquals(wal.recovery.entryCount, 0);
    await twin.close(wal);
    using again = await twin.open(place);
    const { ms: _, ...clean } = again.recovery;
    assertEquals(clean, { ...created, outcome: "clean", entryCount: 7 });
  });

  onEachTwin(
    "a log that was made and never used opens clean",
    async (place, twin) => {
      await twin.close(await twin.open(place));
      const wal = await twin.open(place);
      assertEquals(wal.recovery.outcome, "clean");
      assertEquals(wal.nextIndex, 1);
      await twin.close(wal);
    },
  );
});
