/**
 * The watermark of an idle log: the last sync gets a frame that vouches for it
 * although nobody appends any more, so damage of the last entry is told from
 * an unfinished write. Time is the simulated disk's.
 */
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import {
  openWalSync,
  type Wal,
  WalCorruptedError,
  WalFailedError,
  type WalOptions,
} from "../mod.ts";
import {
  assertEquals,
  assertGreater,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "./_assert.ts";
import {
  frameOffsets,
  getU32,
  getU64,
  LOG,
  segmentFile,
} from "./_log_bytes.ts";
import { temporaryFolder, THIS } from "./_storages.ts";
import { assertVerified, block, entries, REAL, texts, turn } from "./_wal.ts";
import { SimulatedStorage } from "../testing/mod.ts";

/** After so long without a write a log is idle for sure. */
const LONG_MS = 3000;
const WATERMARK = 8;
const SEGMENT_BYTES = 65536;
const CHILD = join(import.meta.dirname!, "_children", "idle_mark_child.ts");

function open(storage: SimulatedStorage, options: WalOptions = {}): Wal {
  return openWalSync(LOG, { storage, segmentBytes: SEGMENT_BYTES, ...options });
}

interface Watermark {
  readonly segment: number;
  readonly offset: number;
  readonly index: number;
  readonly markBack: number;
  readonly markOffset: number;
}

/** The watermarks of a segment's bytes, in order. */
function watermarksIn(bytes: Uint8Array, segment: number): Watermark[] {
  return frameOffsets(bytes)
    .filter((at) => (getU32(bytes, at + 16) & 0xffff) === WATERMARK)
    .map((offset) => ({
      segment,
      offset,
      index: Number(getU64(bytes, offset + 8)),
      markBack: getU32(bytes, offset + 16) >>> 16,
      markOffset: getU32(bytes, offset + 20),
    }));
}

/** Every watermark of the log as programs see it. */
function watermarks(disk: SimulatedStorage): Watermark[] {
  const found: Watermark[] = [];
  for (let number = 1; number < 100; number++) {
    const bytes = disk.peek(`${LOG}/${segmentFile(number)}`);
    if (bytes !== undefined) found.push(...watermarksIn(bytes, number));
  }
  return found;
}

for (const mapped of [true, false]) {
  const newDisk = (seed = 1) =>
    new SimulatedStorage({ seed, mapped, autoSettle: true, writeback: 0 });

  describe(`idle mark [${mapped ? "mapped" : "files"}]`, () => {
    it("[F22] one watermark follows an idle second, and no other", async () => {
      const disk = newDisk();
      const wal = open(disk);
      disk.clock.advance(10_000);
      assertEquals(watermarks(disk), [], "nobody appended");
      await wal.append("one");
      await wal.append("two");
      const offset = 4096 + 2 * 48;
      disk.clock.advance(900);
      assertEquals(watermarks(disk), [], "not idle yet");
      disk.clock.advance(1200);
      const expected = {
        segment: 1,
        offset,
        index: 3,
        markBack: 0,
        markOffset: offset,
      };
      assertEquals(watermarks(disk), [expected]);
      disk.clock.advance(3_600_000);
      assertEquals(watermarks(disk), [expected]);
      assertEquals(await wal.append("three"), 3);
      disk.clock.advance(3_600_000);
      assertEquals(watermarks(disk).length, 2, "a second time of idling");
      assertEquals(texts(wal), ["one", "two", "three"]);
      await wal.close();
    });

    it("[F22] blocking appends get their watermark as well", () => {
      const disk = newDisk();
      const wal = open(disk);
      wal.appendBatchSync(entries(3));
      disk.clock.advance(LONG_MS);
      assertEquals(watermarks(disk).map(({ index }) => index), [4]);
      wal.closeSync();
    });

    it("no watermark is written while appends go on", async () => {
      const disk = newDisk();
      const wal = open(disk);
      for (let i = 0; i < 30; i++) {
        if (i % 2 === 0) wal.appendSync("blocking");
        else await wal.append("not blocking");
        disk.clock.advance(900);
      }
      assertEquals(watermarks(disk), []);
      await wal.close();
    });

    it("no watermark vouches for what no sync has covered", async () => {
      const disk = newDisk();
      const wal = open(disk, { sync: "never" });
      wal.appendSync("one");
      disk.clock.advance(LONG_MS);
      assertEquals(watermarks(disk), []);
      await wal.flush();
      wal.appendSync("two");
      disk.clock.advance(LONG_MS);
      assertEquals(watermarks(disk), [], "entry 2 is not durable");
      await wal.flush();
      disk.clock.advance(LONG_MS);
      assertEquals(watermarks(disk).map(({ index }) => index), [3]);
      await wal.close();
    });

    it("no watermark is written while a sync is under way", async () => {
      const disk = new SimulatedStorage({ seed: 1, mapped, writeback: 0 });
      const wal = open(disk);
      wal.appendSync("one");
      const pending = wal.append("two");
      await turn();
      assertEquals(disk.pendingSyncs, 1);
      disk.clock.advance(60_000);
      assertEquals(watermarks(disk), []);
      disk.settle();
      await pending;
      disk.clock.advance(LONG_MS);
      assertEquals(watermarks(disk).map(({ index }) => index), [3]);
      wal.closeSync();
    });

    it('with "interval" the last sync gets its watermark, and one sync more', async () => {
      const disk = newDisk();
      const wal = open(disk, { sync: "interval", syncIntervalMs: 500 });
      await wal.append("one");
      for (let i = 0; i < 40; i++) {
        disk.clock.advance(500);
        await turn();
      }
      assertEquals(watermarks(disk).map(({ index }) => index), [2]);
      assertEquals(wal.stats().unsyncedBytes, 0);
      const { syncCount } = wal.stats();
      for (let i = 0; i < 40; i++) {
        disk.clock.advance(500);
        await turn();
      }
      assertEquals(wal.stats().syncCount, syncCount, "then it rests");
      assertEquals(watermarks(disk).length, 1);
      await wal.close();
    });

    it("a failed log gets no watermark", async () => {
      const disk = newDisk();
      const wal = open(disk);
      await wal.append("one");
      disk.failNext("syncSoon", "EIO");
      await assertRejects(() => wal.append("two"), WalFailedError);
      disk.clock.advance(60_000);
      assertEquals(watermarks(disk), []);
      await assertRejects(() => wal.close(), WalFailedError);
    });

    it("a closed log is left alone, whatever the time", async () => {
      const disk = newDisk();
      const wal = open(disk);
      await wal.append("one");
      await wal.close();
      const calls = disk.callCount;
      const before = disk.peek(`${LOG}/${segmentFile(1)}`);
      disk.clock.advance(60_000);
      assertEquals(disk.callCount, calls);
      assertEquals(disk.peek(`${LOG}/${segmentFile(1)}`), before);
      assertEquals(watermarks(disk).length, 1, "that of close");
    });

    it("calls after it are as before", async () => {
      const disk = newDisk();
      const wal = open(disk);
      await wal.append("one");
      const { consumers: _, ...before } = wal.stats();
      disk.clock.advance(LONG_MS);
      assertEquals(watermarks(disk).length, 1);
      const after = wal.stats();
      assertEquals(
        [after.appendCount, after.bytesWritten, after.unsyncedCount],
        [before.appendCount, before.bytesWritten, 0],
      );
      assertEquals(after.syncCount, before.syncCount, "it asks for no sync");
      assertEquals([wal.durableIndex, wal.lastIndex, wal.nextIndex], [1, 1, 2]);
      assertEquals(wal.state, "open");
      await wal.flush(1);
      assertEquals(wal.stats().syncCount, before.syncCount, "1 is durable");
      await wal.flush();
      wal.flushSync();
      assertEquals(wal.stats().unsyncedBytes, 0);
      assertStrictEquals(await wal.append("two"), 2);
      wal.appendBatchSync(["three", "four"]);
      disk.clock.advance(LONG_MS);
      await wal.truncateAfter(3);
      disk.clock.advance(LONG_MS);
      await wal.rotate();
      disk.clock.advance(LONG_MS);
      await wal.truncateBefore(2);
      disk.clock.advance(LONG_MS);
      assertEquals(texts(wal), ["two", "three"]);
      await wal.close();
      const again = open(disk.crash());
      assertEquals(again.recovery.outcome, "clean");
      assertEquals(again.recovery.segmentsScanned, 0);
      assertEquals(texts(again), ["two", "three"]);
      again.closeSync();
    });

    it("a log that is emptied has its watermark, too", async () => {
      const disk = newDisk();
      const wal = open(disk);
      await wal.append("one");
      await wal.reset(77);
      disk.clock.advance(LONG_MS);
      assertEquals(watermarks(disk).map(({ index }) => index), [77]);
      const again = open(disk.processDeath());
      assertEquals([again.length, again.nextIndex], [0, 77]);
      again.closeSync();
    });

    it("[F22] a full segment keeps the place of its index", async () => {
      const disk = newDisk();
      let wal = open(disk);
      // Header, one block, footer, a watermark, and the frame's own header.
      await wal.append(block(SEGMENT_BYTES - 4096 - 280 - 64 - 40 - 40, 7));
      assertEquals(wal.segments().length, 1, "it fits exactly");
      disk.clock.advance(LONG_MS);
      assertEquals(watermarks(disk).length, 1, "there is always room for one");
      const next = disk.processDeath();
      wal = open(next);
      const consumer = await wal.consumer("worker");
      await consumer.ack(1);
      next.clock.advance(LONG_MS);
      assertEquals(watermarks(next).length, 1, "there is no room for two");
      await wal.close();
      assertVerified({ storage: next, path: LOG });
      const again = open(next);
      assertEquals(again.recovery.outcome, "clean");
      assertEquals(again.get(1).data[0], 7);
      again.closeSync();
    });

    it("positions that move in an idle log bring no further one", async () => {
      const disk = newDisk();
      const wal = open(disk);
      await wal.appendBatch(entries(9));
      const consumer = await wal.consumer("worker");
      disk.clock.advance(LONG_MS);
      assertEquals(watermarks(disk).length, 1);
      for (let index = 1; index < 9; index++) {
        await consumer.ack(index);
        disk.clock.advance(LONG_MS);
      }
      assertEquals(watermarks(disk).length, 1);
      await wal.close();
    });

    // A store into a mapping cannot fail here.
    const stores = mapped ? "a store is no call that can fail" : false;
    it("a failed write of it is taken back", { skip: stores }, async () => {
      for (const code of ["ENOSPC", "EIO"]) {
        const disk = newDisk();
        const wal = open(disk);
        await wal.append("one");
        disk.failNext("write", code);
        disk.clock.advance(60_000);
        assertEquals(watermarks(disk), []);
        assertEquals(wal.state, "open");
        await wal.append("two");
        assertEquals(texts(wal), ["one", "two"]);
        await wal.close();
        const again = open(disk.crash());
        assertEquals(texts(again), ["one", "two"]);
        again.closeSync();
      }
    });

    for (const idle of [true, false]) {
      const what = idle
        ? "after an idle second damage of the last entry is refused"
        : "without one it looks like an unfinished write";
      it(`[F22][F37] process death: ${what}`, async () => {
        const disk = newDisk();
        const wal = open(disk);
        for (const text of entries(3)) await wal.append(text);
        if (idle) disk.clock.advance(LONG_MS);
        const found = disk.processDeath();
        const name = `${LOG}/${segmentFile(1)}`;
        const bytes = found.peek(name)!;
        const last = frameOffsets(bytes)[2]!;
        assertEquals(getU64(bytes, last + 8), 3n);
        bytes[last + 41]! ^= 1;
        found.plant(name, bytes);
        if (idle) {
          const error = assertThrows(() => open(found), WalCorruptedError);
          assertEquals([error.offset, error.firstLostIndex], [last, 3]);
          assertEquals(found.peek(name), bytes, "nothing was changed");
          return;
        }
        const again = open(found);
        assertEquals(again.recovery.outcome, "torn");
        assertEquals(texts(again), entries(2));
        again.closeSync();
      });
    }

    it("a death after an idle second is recovered cleanly", async () => {
      const disk = newDisk();
      const wal = open(disk);
      for (const text of entries(3)) await wal.append(text);
      disk.clock.advance(LONG_MS);
      const again = open(disk.processDeath());
      assertEquals(again.recovery.outcome, "clean");
      assertEquals(texts(again), entries(3));
      again.closeSync();
    });

    it("[F20] no power cut makes a lost watermark look like damage", async () => {
      // Each of these makes something durable beside the watermark; a mark
      // behind it may be in that, and must not outlive it.
      const steps: Record<string, (wal: Wal) => Promise<unknown>> = {
        ack: async (wal) => await (await wal.consumer("worker")).ack(2),
        consumer: (wal) => wal.consumer("new"),
        truncateBefore: (wal) => wal.truncateBefore(2),
        truncateAfter: (wal) => wal.truncateAfter(2),
        reset: (wal) => wal.reset(9),
        rotate: (wal) => wal.rotate(),
        flush: (wal) => wal.flush(),
        append: (wal) => wal.append(block(5000, 1)),
      };
      let count = 0;
      for (const [name, step] of Object.entries(steps)) {
        for (let seed = 1; seed <= 8; seed++) {
          const disk = newDisk(seed);
          const wal = open(disk);
          // The watermark ends a page: what follows lies in another one.
          await wal.appendBatch(["one", "two"]);
          await wal.append(block(4096 - 2 * 48 - 40 - 40, 3));
          disk.clock.advance(LONG_MS);
          const [{ offset } = { offset: 0 }] = watermarks(disk);
          assertEquals(offset, 8192 - 40);
          await step(wal);
          // On its way: the pages of it may be all that survives.
          wal.append(block(100, 4)).catch(() => {});
          const images = [
            disk.image({ pages: () => "old", names: () => true }),
            disk.image({
              pages: ({ page }) => page === 1 ? "old" : "new",
              names: () => true,
            }),
            disk.image(),
            disk.image(),
          ];
          for (const image of images) {
            const again = open(image);
            const least = { truncateAfter: 2, reset: 0 }[name] ?? 3;
            const what = `${name}, seed ${seed}: ${image.describe()}`;
            assertGreater(again.lastIndex + 1, least, what);
            assertEquals([...again].length, again.length);
            again.closeSync();
            count++;
          }
          await turn();
          disk.processDeath();
        }
      }
      assertEquals(count, 8 * 8 * 4);
    });
  });
}

describe("idle mark: a process", () => {
  for (const { kind, make } of REAL) {
    it(`ends while one is due, and what was written holds [${kind}]`, {
      timeout: 120_000,
    }, async () => {
      using folder = temporaryFolder();
      const path = join(folder.path, "log");
      const child = spawn(
        THIS.path,
        [...THIS.args, CHILD, kind, path],
        { stdio: ["ignore", "pipe", "inherit"] },
      );
      let said = "";
      child.stdout!.on("data", (piece) => said += piece);
      const code = await new Promise((resolve) => child.once("close", resolve));
      // It idles until it sees its watermark, appends again, and just ends.
      assertEquals([code, said.trim()], [0, "watermark\nended"]);
      const file = join(path, segmentFile(1));
      const bytes = new Uint8Array(readFileSync(file));
      assertEquals(watermarksIn(bytes, 1).map(({ index }) => index), [4]);
      const last = frameOffsets(bytes)[2]!;
      bytes[last + 41]! ^= 1;
      writeFileSync(file, bytes);
      const error = assertThrows(
        () => openWalSync(path, { storage: make() }),
        WalCorruptedError,
      );
      assertEquals(error.firstLostIndex, 3);
    });
  }
});
