/**
 * The spare: a new segment's file is made while the old one fills, is used
 * when it is ready, never needed, and never left behind.
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  mappedStorage,
  openReaderSync,
  openWalSync,
  type Wal,
  WalFailedError,
} from "../mod.ts";
import type {
  StorageDirectory,
  StorageFile,
  StoragePort,
} from "../src/storage.ts";
import { SimulatedStorage } from "../testing/mod.ts";
import {
  assert,
  assertEquals,
  assertExists,
  assertFalse,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import { HAS_FFI, temporaryFolder } from "./_storages.ts";
import { assertVerified, block, SEGMENT_BYTES, turn } from "./_wal.ts";

const SPARE = "spare.tmp";
/** Smaller files are not worth another thread. */
const REAL_BYTES = 4 * 1024 * 1024;
const OPTIONS = { create: true, directoryMode: 0o750, fileMode: 0o640 };
const NO_FFI = HAS_FFI ? false : "files storage makes nothing ahead";

function simulated(): { disk: SimulatedStorage; open: () => Wal } {
  const disk = new SimulatedStorage({ seed: 1, writeback: 0 });
  const open = () =>
    openWalSync("/log", {
      storage: disk,
      segmentBytes: SEGMENT_BYTES,
      sync: "never",
    });
  return { disk, open };
}

function names(storage: StoragePort): string[] {
  const directory = storage.openDirectory("/log", OPTIONS)!;
  const found = directory.list().map(({ name }) => name);
  directory.close();
  return found;
}

function hasSpare(storage: StoragePort): boolean {
  return names(storage).includes(SPARE);
}

function segmentNames(storage: StoragePort): string[] {
  return names(storage).filter((name) => name.endsWith(".wal")).sort();
}

/** Fills most of the growing segment, and lets the spare be made. */
async function fillMost(wal: Wal, size = 1000): Promise<void> {
  const { segmentCount } = wal.stats();
  for (let i = 0; i < 50; i++) wal.appendSync(block(size, i));
  await turn();
  assertEquals(wal.stats().segmentCount, segmentCount);
}

function rotateByAppends(wal: Wal, size = 1000): void {
  const { segmentCount } = wal.stats();
  while (wal.stats().segmentCount === segmentCount) {
    wal.appendSync(block(size, wal.lastIndex));
  }
}

describe("the spare of a log", () => {
  it("is asked for by a segment in use, and becomes the next one", async () => {
    const { disk, open } = simulated();
    const wal = open();
    assertFalse(hasSpare(disk), "an empty log needs none");
    await fillMost(wal);
    assert(hasSpare(disk));
    const created: string[] = [];
    disk.onCall(({ operation, name }) => {
      if (operation === "create") created.push(name.split("/").at(-1)!);
    });
    rotateByAppends(wal);
    disk.onCall(undefined);
    assertEquals(created.filter((name) => name.endsWith(".wal.tmp")), []);
    assertEquals(segmentNames(disk).length, 2);
    wal.closeSync();
    assertVerified({ storage: disk, path: "/log" });
  });

  it("that is not ready in time is used the next time", async () => {
    const { disk, open } = simulated();
    const wal = open();
    // No turn of the loop in between: nobody hands it out.
    rotateByAppends(wal);
    assertEquals(segmentNames(disk).length, 2);
    assert(hasSpare(disk));
    await turn();
    const created: string[] = [];
    disk.onCall(({ operation, name }) => {
      if (operation === "create") created.push(name);
    });
    rotateByAppends(wal);
    disk.onCall(undefined);
    assertEquals(segmentNames(disk).length, 3);
    assertEquals(created.filter((name) => name.endsWith(".wal.tmp")), []);
    wal.closeSync();
    assertFalse(hasSpare(disk));
    assertVerified({ storage: disk, path: "/log" });
  });

  it("has zeros written where little is synced at a time", async () => {
    const asked = async (sync: "always" | "never", bytes: number) => {
      const disk = new SimulatedStorage({ seed: 1, autoSettle: true });
      const written: boolean[] = [];
      const open = disk.openDirectory.bind(disk);
      disk.openDirectory = (path, options) => {
        const directory = open(path, options);
        if (directory === undefined) return undefined;
        const { createSoon } = directory;
        directory.createSoon = (name, size, zeros, done) => {
          written.push(zeros);
          return createSoon!.call(directory, name, size, zeros, done);
        };
        return directory;
      };
      const segmentBytes = 16 * SEGMENT_BYTES;
      const wal = openWalSync("/log", { storage: disk, segmentBytes, sync });
      while (written.length < 3) await wal.append(block(bytes, 1));
      wal.closeSync();
      return written;
    };
    assertEquals(await asked("always", 1000), [true, true, true]);
    assertEquals(await asked("always", 100_000), [false, false, false]);
    assertEquals(await asked("never", 1000), [false, false, false]);
  });

  it("that somebody took away is done without", async () => {
    const { disk, open } = simulated();
    const wal = open();
    await fillMost(wal);
    const folder = disk.openDirectory("/log", OPTIONS)!;
    folder.remove(SPARE);
    folder.close();
    rotateByAppends(wal);
    assertEquals(segmentNames(disk).length, 2);
    wal.closeSync();
    assertVerified({ storage: disk, path: "/log" });
  });

  it("gives its space to a close on a full disk", async () => {
    const disk = new SimulatedStorage({
      seed: 1,
      writeback: 0,
      capacityBytes: 3 * SEGMENT_BYTES,
    });
    const options = { storage: disk, segmentBytes: SEGMENT_BYTES };
    const wal = openWalSync("/log", { ...options, sync: "never" });
    await fillMost(wal);
    assert(hasSpare(disk));
    const folder = disk.openDirectory("/log", OPTIONS)!;
    for (let bytes = SEGMENT_BYTES, n = 0; bytes >= 4096; bytes /= 2) {
      try {
        folder.create(`filler${n++}`, bytes).close();
      } catch {
        // It is full of pieces of this size.
      }
    }
    folder.close();
    wal.closeSync();
    const again = openWalSync("/log", options);
    assertEquals([again.recovery.outcome, again.lastIndex], ["clean", 50]);
    again.closeSync();
  });

  it("is called by its new name in errors", async () => {
    const { disk, open } = simulated();
    const wal = open();
    await fillMost(wal);
    rotateByAppends(wal);
    disk.failNext("sync", "EIO", { name: "0002.wal" });
    const error = assertThrows(() => wal.flushSync(), WalFailedError);
    assertStringIncludes(error.message, "segment_00000000000000000002.wal");
    assertThrows(() => wal.closeSync());
  });

  it("is removed by close, also one in the making", async () => {
    for (const made of [true, false]) {
      const { disk, open } = simulated();
      const wal = open();
      if (made) await fillMost(wal);
      else for (let i = 0; i < 50; i++) wal.appendSync(block(1000, i));
      assert(hasSpare(disk));
      wal.closeSync();
      assertFalse(hasSpare(disk));
      await turn();
      assertFalse(hasSpare(disk));
      assertVerified({ storage: disk, path: "/log" });
    }
  });

  it("that a dead process left is removed by the next writer", async () => {
    for (const power of [true, false]) {
      const { disk, open } = simulated();
      const wal = open();
      await fillMost(wal);
      wal.flushSync();
      const found = power ? disk.crash() : disk.processDeath();
      const again = openWalSync("/log", { storage: found });
      assertEquals(again.lastIndex, 50);
      assertFalse(hasSpare(found));
      again.closeSync();
      assertVerified({ storage: found, path: "/log" });
    }
  });

  it("that cannot be made is done without, and tried for again", async () => {
    const { disk, open } = simulated();
    const wal = open();
    disk.failNext("create", "ENOSPC");
    await fillMost(wal);
    assertFalse(hasSpare(disk));
    rotateByAppends(wal);
    await fillMost(wal);
    assert(hasSpare(disk));
    wal.closeSync();
    assertVerified({ storage: disk, path: "/log" });
  });

  it("of another size is not used where a batch needs a larger one", async () => {
    const { disk, open } = simulated();
    const wal = open();
    await fillMost(wal);
    const batch = Array.from({ length: 100 }, (_, i) => block(1000, i));
    wal.appendBatchSync(batch);
    assert(hasSpare(disk), "it stays for the one after");
    assertEquals(wal.lastIndex, 150);
    assertEquals(segmentNames(disk).length, 2);
    wal.closeSync();
    assertVerified({ storage: disk, path: "/log" });
  });

  it("stays what it is through truncation and reset", async () => {
    const { disk, open } = simulated();
    const wal = open();
    await fillMost(wal);
    wal.truncateAfterSync(10);
    rotateByAppends(wal);
    await fillMost(wal);
    wal.resetSync(1000);
    wal.appendSync(block(10, 1));
    wal.closeSync();
    assertFalse(hasSpare(disk));
    assertVerified({ storage: disk, path: "/log" });
  });

  it("is nothing to a reader", async () => {
    const { disk, open } = simulated();
    const wal = open();
    await fillMost(wal);
    const reader = openReaderSync("/log", { storage: disk });
    assertEquals(reader.lastIndex, 50);
    rotateByAppends(wal);
    assertEquals(reader.lastIndex, wal.lastIndex);
    reader.closeSync();
    wal.closeSync();
  });
});

/** Asks for a file ahead and waits until it is there, or given up. */
function made(
  directory: StorageDirectory,
  bytes: number,
): Promise<StorageFile | undefined> {
  return new Promise((resolve) => {
    const giveUp = directory.createSoon!(SPARE, bytes, false, resolve);
    assertExists(giveUp);
  });
}

describe("createSoon() on a real disk", { skip: NO_FFI }, () => {
  it("makes what create() makes, its space really allocated", async () => {
    using temporary = temporaryFolder();
    const { path } = temporary;
    const directory = mappedStorage() as StoragePort;
    const folder = directory.openDirectory(path, OPTIONS)!;
    const file = await made(folder, REAL_BYTES);
    assertExists(file);
    assertEquals([file.name, file.bytes], [SPARE, REAL_BYTES]);
    const stat = fs.statSync(join(path, SPARE));
    assertEquals(stat.size, REAL_BYTES);
    assert(stat.blocks * 512 >= REAL_BYTES, `${stat.blocks} blocks`);
    assertEquals(stat.mode & 0o777, 0o640);
    const region = file.map();
    assertExists(region);
    assert(region.bytes.every((byte) => byte === 0));
    region.bytes[REAL_BYTES - 1] = 7;
    file.writeAt(block(3, 5), 100);
    assertEquals([...region.bytes.subarray(99, 104)], [0, 5, 5, 5, 0]);
    file.sync();
    assertEquals(fs.readFileSync(join(path, SPARE))[REAL_BYTES - 1], 7);
    region.release();
    file.close();
    folder.close();
  });

  it("with zeros written is the same, and takes no journal later", async () => {
    using temporary = temporaryFolder();
    const { path } = temporary;
    const storage = mappedStorage() as StoragePort;
    const folder = storage.openDirectory(path, OPTIONS)!;
    const file = await new Promise<StorageFile | undefined>((resolve) => {
      folder.createSoon!(SPARE, REAL_BYTES, true, resolve);
    });
    assertExists(file);
    const { length } = fs.readFileSync(join(path, SPARE));
    assertEquals(length, REAL_BYTES);
    const region = file.map();
    assertExists(region);
    assert(region.bytes.every((byte) => byte === 0));
    // An extent that was never written is one that a sync has to convert.
    const shown = spawnSync("filefrag", ["-v", join(path, SPARE)], {
      encoding: "utf8",
    });
    if (shown.status === 0 && /ext4|ef53/i.test(shown.stdout)) {
      assertFalse(shown.stdout.includes("unwritten"), shown.stdout);
    }
    region.release();
    file.close();
    folder.close();
  });

  it("leaves nothing of what is given up, at once and later", async () => {
    using temporary = temporaryFolder();
    const { path } = temporary;
    const storage = mappedStorage() as StoragePort;
    const folder = storage.openDirectory(path, OPTIONS)!;
    let told = 0;
    const giveUp = folder.createSoon!(SPARE, REAL_BYTES, false, () => told++);
    assertEquals(fs.readdirSync(path), [SPARE]);
    giveUp!();
    assertEquals(fs.readdirSync(path), []);
    // The name is free at once; the old file goes its way without it.
    const file = await made(folder, REAL_BYTES);
    assertExists(file);
    await sleep(50);
    assertEquals([told, fs.readdirSync(path).join()], [0, SPARE]);
    giveUp!();
    assertEquals(fs.readdirSync(path), [SPARE]);
    file.close();
    folder.close();
    const open = fs.readdirSync("/proc/self/fd").flatMap((fd) => {
      try {
        return [fs.readlinkSync(`/proc/self/fd/${fd}`)];
      } catch {
        return [];
      }
    });
    assertEquals(open.filter((name) => name.startsWith(path)), []);
    const maps = fs.readFileSync("/proc/self/maps", "utf8");
    assertFalse(maps.includes(path), "nothing of it is mapped any more");
  });

  it("refuses a name that is taken, and small files", () => {
    using temporary = temporaryFolder();
    const { path } = temporary;
    const storage = mappedStorage() as StoragePort;
    const folder = storage.openDirectory(path, OPTIONS)!;
    assertEquals(folder.createSoon!(SPARE, 4096, false, () => {}), undefined);
    fs.writeFileSync(join(path, SPARE), "somebody's");
    assertThrows(() => folder.createSoon!(SPARE, REAL_BYTES, false, () => {}));
    assertEquals(fs.readFileSync(join(path, SPARE), "utf8"), "somebody's");
    folder.close();
  });

  it("gives the next segment its file while the old one fills", async () => {
    using temporary = temporaryFolder();
    const path = join(temporary.path, "log");
    const segmentBytes = REAL_BYTES;
    for (const sync of ["always", "never"] as const) {
      const wal = openWalSync(path, { sync, segmentBytes });
      const before = wal.stats().segmentCount;
      const inodes = new Set<number>();
      const entry = block(60_000, 1);
      while (wal.stats().segmentCount < before + 3) {
        await wal.append(entry);
        for (const name of fs.readdirSync(path)) {
          if (name !== SPARE) continue;
          inodes.add(fs.statSync(join(path, name)).ino);
        }
        await sleep(1);
      }
      const used = wal.segments().slice(before).filter((one) =>
        inodes.has(fs.statSync(one.path).ino)
      );
      assertEquals(used.length, 3);
      await wal.close();
      assertEquals(fs.readdirSync(path).filter((n) => n.endsWith(".tmp")), []);
      assertVerified({ storage: mappedStorage() as StoragePort, path });
    }
  });
});
