/**
 * Orders of calls that no load finds by itself. Each was a defect once: its
 * story stands above its test.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import {
  filesStorage,
  openWal,
  openWalSync,
  type Wal,
  WalFailedError,
  WalLockedError,
} from "../mod.ts";
import {
  assert,
  assertEquals,
  assertLess,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "./_assert.ts";
import { CrashNow, SimulatedStorage } from "../testing/mod.ts";
import { HAS_FFI, temporaryFolder } from "./_storages.ts";

const HAS_PROC = existsSync("/proc/self/fd");

function quietDisk(mapped = true): SimulatedStorage {
  return new SimulatedStorage({
    seed: 1,
    mapped,
    writeback: 0,
    garbage: "none",
  });
}

function tick(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

const runtime = globalThis as {
  gc?: () => void;
  Bun?: { gc(force: boolean): void };
};
const collect = runtime.Bun === undefined
  ? runtime.gc
  : () => runtime.Bun?.gc(true);

function addressSpaceBytes(): number {
  const status = readFileSync("/proc/self/status", "utf8");
  return Number(/VmSize:\s+(\d+)/.exec(status)?.[1]) * 1024;
}

async function hops(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await null;
}

describe("interleavings", () => {
  // The first truncation's last step read where the segment ends then: the
  // second one had shortened it, and was not durable when the power went.
  it("a truncation gives back no bytes that only a later one freed", async () => {
    let cases = 0;
    for (const mapped of [true, false]) {
      for (let steps = 1; steps < 14; steps++) {
        const storage = quietDisk(mapped);
        const wal = openWalSync("log", { storage, segmentBytes: 65536 });
        const data = new Uint8Array(4000).fill(7);
        for (let i = 0; i < 12; i++) wal.appendSync(data);
        let done = false;
        const first = wal.truncateAfter(10).then(() => done = true);
        for (let i = 0; i < steps && !done; i++) {
          await tick();
          storage.settle(1);
        }
        await tick();
        if (done) continue;
        wal.truncateAfter(2).catch(() => {});
        while (!done) {
          storage.settle(1);
          await hops(3);
        }
        await first;
        cases++;
        const found = storage.crash({
          pages: ({ path }) => path.endsWith("1.wal") ? "new" : "old",
          names: () => false,
        });
        const again = openWalSync("log", { storage: found });
        for (let i = 1; i <= again.lastIndex; i++) {
          assertEquals(again.get(i).data, data);
        }
      }
    }
    assert(cases > 0, "no truncation was caught on its way");
  });

  // The blocking sync took over the segments of the round in flight, of
  // which a truncation had closed some: the log was failed for good.
  it("a blocking append beside a round over truncated segments", async () => {
    const storage = quietDisk();
    const wal = openWalSync("log", { storage, segmentBytes: 65536 });
    wal.appendSync("a");
    wal.appendSync("b");
    wal.rotateSync();
    wal.append("c").catch(() => {});
    wal.rotate().catch(() => {});
    await hops(6);
    const pending = storage.pendingSyncs;
    assert(pending > 1, "the round did not start");
    wal.truncateAfter(1).catch(() => {});
    storage.settle(pending - 1);
    assertStrictEquals(wal.appendSync("d"), 2);
    assertStrictEquals(wal.state, "open");
  });

  // Both names became durable by one sync: the manifest's survived alone.
  it("a new log's manifest never outlives its first segment's name", () => {
    const storage = quietDisk();
    let syncs = 0;
    for (let stop = 1; stop < 8; stop++) {
      const disk = quietDisk();
      let count = 0;
      disk.onCall(({ operation }) => {
        if (operation === "directorySync" && ++count === stop) {
          throw new CrashNow();
        }
      });
      try {
        openWalSync("log", { storage: disk, segmentBytes: 65536 });
        break;
      } catch {
        syncs++;
      }
      const found = disk.crash({
        names: (text) => text.includes("manifest"),
        pages: () => "new",
      });
      openWalSync("log", { storage: found, segmentBytes: 65536 }).closeSync();
    }
    assert(syncs >= 2, "making a log syncs its folder twice");
    openWalSync("log", { storage }).closeSync();
  });

  // The options were read again after the entry was staged: their getters
  // appended, and the outer call stored the inner one's bytes.
  it("getters of append options run before the entry is staged", () => {
    const storage = quietDisk();
    const wal: Wal = openWalSync("log", { storage });
    let reads = 0;
    const options = {
      get expectedIndex(): undefined {
        if (reads++ === 0) wal.appendSync("other");
        return undefined;
      },
    };
    const index = wal.appendSync({ data: "mine" }, options);
    assertStrictEquals(reads, 1);
    assertStrictEquals(wal.get(index).text(), "mine");
    assertEquals([...wal].map((entry) => entry.text()), ["other", "mine"]);
  });

  // Thrown inside a callback of the system it ended the process.
  it("a logger that throws hurts nobody but itself", async () => {
    const storage = quietDisk();
    const fail = () => {
      throw new Error("the logger's own");
    };
    const logger = { debug: fail, info: fail, warn: fail, error: fail };
    const wal = openWalSync("log", { storage, logger });
    storage.failNext("syncSoon", "EIO");
    const appended = wal.append("a");
    await hops(6);
    storage.settle();
    await assertRejects(() => appended, WalFailedError);
    assertStrictEquals(wal.state, "failed");
    assertThrows(() => wal.closeSync(), WalFailedError);
  });

  // closeSync() found the log closed already and returned at once.
  it("closeSync() finishes what close() has begun", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "log");
    const wal = openWalSync(path, { storage: filesStorage() });
    wal.append("a");
    const closing = wal.close();
    wal.closeSync();
    openWalSync(path, { storage: filesStorage() }).closeSync();
    await closing;
  });
});

describe("what long runs keep open", () => {
  const skip = HAS_PROC && HAS_FFI ? false : "needs /proc and mapped storage";
  const count = () => readdirSync("/proc/self/fd").length;

  // The segments of a blocking round beside one in flight were forgotten.
  it(
    "segments sealed beside a sync in flight are closed",
    { skip },
    async () => {
      using folder = temporaryFolder();
      const wal = openWalSync(join(folder.path, "log"), {
        segmentBytes: 65536,
      });
      const before = count();
      const pending = wal.append("first");
      await hops(6);
      const data = new Uint8Array(30_000);
      for (let i = 0; i < 120; i++) wal.appendSync(data);
      assertLess(count(), before + 40);
      await pending;
      await wal.close();
    },
  );

  // `target` kept the mapping that `window` had let go: the address space
  // grew by a segment with each rotation.
  it("mappings of written segments are let go", {
    skip: skip || (collect === undefined && "needs --expose-gc"),
  }, async () => {
    using folder = temporaryFolder();
    const segmentBytes = 16 * 1024 * 1024;
    const wal = openWalSync(join(folder.path, "log"), { segmentBytes });
    const rotate = async (count: number) => {
      for (let i = 0; i < count; i++) {
        wal.appendSync("a");
        await wal.rotate();
      }
      for (let i = 0; i < 5; i++) {
        collect?.();
        await tick();
      }
    };
    await rotate(12);
    const before = addressSpaceBytes();
    await rotate(60);
    assertLess(addressSpaceBytes() - before, 30 * segmentBytes);
    await wal.close();
  });

  // Awaiting settled promises never lets the system's callbacks in.
  it("a loop of awaits lets rounds end", { skip }, async () => {
    using folder = temporaryFolder();
    const wal = await openWal(join(folder.path, "log"), {
      segmentBytes: 65536,
      sync: "never",
    });
    const before = count();
    const data = new Uint8Array(30_000);
    let most = 0;
    for (let i = 0; i < 400; i++) {
      await wal.append(data);
      if (i % 20 === 0) most = Math.max(most, count());
    }
    assertLess(most, before + 260);
    await wal.close();
  });

  // Its file lock was on another inode than the new LOCK's.
  it("LOCK removed by hand lets no second writer in", { skip }, () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "log");
    using wal = openWalSync(path);
    wal.appendSync("a");
    rmSync(join(path, "LOCK"));
    assertThrows(() => openWalSync(path), WalLockedError);
  });
});
