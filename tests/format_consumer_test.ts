/**
 * Holds docs/format.md §9 against whole folders: what opening does to
 * positions that were put there, and what it leaves alone.
 */
import { spawnSync } from "node:child_process";
import {
  cpSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import {
  openWalSync,
  StorageError,
  UnsupportedFormatError,
  type Wal,
  WalCorruptedError,
  WalError,
  type WalOptions,
} from "../mod.ts";
import { encodePosition } from "../src/consumer_record.ts";
import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertLessOrEqual,
  assertRejects,
  assertStringIncludes,
} from "./_assert.ts";
import {
  type Bytes,
  type Files,
  getU64,
  killedLog,
  LOG,
  makeLog,
  plantFiles,
  sealPosition,
  setU32,
  takeFiles,
} from "./_log_bytes.ts";
import { REAL } from "./_wal.ts";
import { temporaryFolder } from "./_storages.ts";
import type { SimulatedStorage } from "../testing/mod.ts";

const WORKER = "consumers/worker";

function open(storage: SimulatedStorage, options: WalOptions = {}): Wal {
  return openWalSync(LOG, { storage, segmentBytes: 65536, ...options });
}

function append(wal: Wal, count: number): void {
  for (let i = 0; i < count; i++) wal.appendSync(`e${wal.nextIndex}`);
}

/** Entries 1 to 4, a cut, 5 to 8, and 9 to 12 in a segment of their own. */
function cutAndFilled(wal: Wal): void {
  append(wal, 10);
  wal.truncateAfterSync(4);
  append(wal, 4);
  wal.rotateSync();
  append(wal, 4);
}

interface Position {
  readonly position: number;
  readonly generation: number;
  readonly sequence?: number;
}

function logIdOf(files: Files): string {
  const bytes = files.get("manifest")!.subarray(16, 32);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

/** A consumer's file with one record, or two. */
function consumerFile(
  files: Files,
  { position, generation, sequence = 7 }: Position,
  name = "worker",
  slot = 0,
): Bytes {
  const bytes = new Uint8Array(8192);
  const owner = { logId: logIdOf(files), name };
  const record = { sequence, position, generation };
  bytes.set(encodePosition(record, owner), 4096 * slot);
  return bytes;
}

/** Sequence, position and generation of both records. */
function recordsOf(bytes: Bytes): number[][] {
  return [0, 4096].map((at) =>
    [32, 40, 48].map((field) => Number(getU64(bytes, at + field)))
  );
}

function positionsOf(wal: Wal): (number | undefined)[] {
  return wal.consumers().map(({ position }) => position);
}

describe("format: consumers, opening", () => {
  it("[F57] later cuts lower a position, whatever wrote it", () => {
    const cases: [Position, number][] = [
      [{ position: 10, generation: 0 }, 4],
      [{ position: 5, generation: 0 }, 4],
      [{ position: 4, generation: 0 }, 4],
      [{ position: 3, generation: 0 }, 3],
      [{ position: 0, generation: 0 }, 0],
      // It was there when this was written.
      [{ position: 10, generation: 1 }, 10],
      // The segment behind 8 was begun because another was full.
      [{ position: 9, generation: 1 }, 9],
      // The cut after that generation never reached the disk.
      [{ position: 10, generation: 2 }, 10],
      // Beyond the log's end.
      [{ position: 13, generation: 1 }, 12],
      [{ position: 2 ** 53 - 1, generation: 9 }, 12],
    ];
    for (const make of [makeLog, killedLog]) {
      for (const [given, expected] of cases) {
        const files = make(cutAndFilled);
        files.set(WORKER, consumerFile(files, given));
        const disk = plantFiles(files);
        const wal = open(disk);
        const what = JSON.stringify(given);
        assertEquals(
          [wal.lastIndex, ...positionsOf(wal)],
          [12, expected],
          what,
        );
        // It is durable before anything else is done.
        const old = { pages: () => "old" as const, names: () => false };
        const lost = open(disk.image(old));
        assertEquals(positionsOf(lost), [expected], what);
        const kept = recordsOf(disk.peek(`${LOG}/${WORKER}`)!);
        const untouched = make === makeLog && expected === given.position;
        assertEquals(
          kept,
          untouched
            ? [[7, given.position, given.generation], [0, 0, 0]]
            : [[7, given.position, given.generation], [8, expected, 1]],
          what,
        );
        wal.closeSync();
      }
    }
  });

  it("[F57] a log that began anew lowers to before its first index", () => {
    const cases: [Position, number][] = [
      [{ position: 10, generation: 0 }, 10],
      [{ position: 49, generation: 0 }, 49],
      [{ position: 60, generation: 0 }, 49],
      [{ position: 60, generation: 1 }, 51],
    ];
    for (const [given, expected] of cases) {
      const files = killedLog((wal) => {
        append(wal, 10);
        wal.resetSync(50);
        append(wal, 2);
      });
      files.set(WORKER, consumerFile(files, given, "worker", 1));
      const disk = plantFiles(files);
      const wal = open(disk);
      assertEquals(positionsOf(wal), [expected], JSON.stringify(given));
      // Over the record that does not count.
      const kept = recordsOf(disk.peek(`${LOG}/${WORKER}`)!);
      assertEquals(kept[0], [8, expected, 1]);
      wal.closeSync();
    }
  });

  it("[F57] what recovery cuts off lowers, too", () => {
    const files = killedLog((wal) => {
      append(wal, 5);
      for (let i = 6; i <= 8; i++) wal.append(`e${i}`, { durable: false });
    });
    files.set(WORKER, consumerFile(files, { position: 8, generation: 0 }));
    const name = [...files.keys()].find((one) => one.endsWith(".wal"))!;
    const segment = files.get(name)!;
    const text = new TextEncoder().encode("e7");
    const at = segment.findIndex((byte, nth) =>
      byte === text[0] && segment[nth + 1] === text[1]
    );
    segment[at] = 0;
    const wal = open(plantFiles(files));
    const { outcome } = wal.recovery;
    assertEquals([outcome, wal.lastIndex, ...positionsOf(wal)], ["torn", 6, 6]);
    append(wal, 4);
    assertEquals(positionsOf(wal), [6]);
    wal.closeSync();
  });

  it("[F57] a crash at any call of opening gives the same positions", () => {
    const files = killedLog(cutAndFilled);
    for (const [name, position] of [["a", 10], ["b", 3], ["c", 99]] as const) {
      const given = { position, generation: 0 };
      files.set(`consumers/${name}`, consumerFile(files, given, name));
    }
    const disk = plantFiles(files);
    const images: SimulatedStorage[] = [];
    disk.onCall(() => {
      images.push(disk.image(), disk.image(), disk.fork());
      images.push(disk.image({ pages: () => "torn" }));
    });
    const wal = open(disk);
    disk.onCall(undefined);
    assertEquals(positionsOf(wal), [4, 3, 4]);
    wal.closeSync();
    assert(images.length > 100, `${images.length} crashes`);
    for (const image of images) {
      const found = open(image);
      assertEquals([found.lastIndex, ...positionsOf(found)], [12, 4, 3, 4]);
      found.closeSync();
    }
  });

  it("[F56] a new position never goes over the one that counts", async () => {
    for (const slot of [0, 1]) {
      const files = makeLog((wal) => append(wal, 9));
      const given = { position: 2, generation: 0 };
      files.set(WORKER, consumerFile(files, given, "worker", slot));
      const disk = plantFiles(files);
      const wal = open(disk);
      const consumer = await wal.consumer("worker");
      let last = recordsOf(disk.peek(`${LOG}/${WORKER}`)!)[slot]!;
      for (let index = 3; index <= 8; index++) {
        await consumer.ack(index);
        const records = recordsOf(disk.peek(`${LOG}/${WORKER}`)!);
        const newer = records.findIndex(([sequence]) => sequence! > last[0]!);
        assertEquals(records[newer]![1], index);
        assertEquals(records[1 - newer], last, "the one before is whole");
        last = records[newer]!;
      }
      wal.closeSync();
    }
  });
});

describe("format: consumers, what is none", () => {
  it("[F54] other names in the folder are left alone", () => {
    const strange = [
      "consumers/.hidden",
      "consumers/.tmp",
      "consumers/..tmp",
      "consumers/.my notes.tmp",
      "consumers/a b",
      "consumers/ä",
      `consumers/${"x".repeat(65)}`,
      `consumers/.${"x".repeat(65)}.tmp`,
      "consumers/worker~",
    ];
    const own = [
      "consumers/.worker.tmp",
      "consumers/.a.b.tmp",
      "consumers/.a.tmp.tmp",
      `consumers/.${"x".repeat(64)}.tmp`,
    ];
    const bytes = new Uint8Array([1, 2, 3]);
    for (const make of [makeLog, killedLog]) {
      const files = make((wal) => append(wal, 3));
      files.set(WORKER, consumerFile(files, { position: 1, generation: 0 }));
      for (const name of [...strange, ...own]) files.set(name, bytes);
      const disk = plantFiles(files);
      const wal = open(disk);
      assertEquals(wal.consumers().map(({ name }) => name), ["worker"]);
      wal.closeSync();
      const after = takeFiles(disk);
      for (const name of own) assert(!after.has(name), name);
      for (const name of strange) assertEquals(after.get(name), bytes, name);
    }
  });

  it("[F54] a temporary file does not hinder its consumer", async () => {
    const files = makeLog((wal) => append(wal, 3));
    const disk = plantFiles(files);
    const wal = open(disk);
    await wal.consumer("other");
    disk.plant(`${LOG}/consumers/.worker.tmp`, new Uint8Array(9));
    const consumer = await wal.consumer("worker");
    await consumer.ack(2);
    wal.closeSync();
    const names = [...takeFiles(disk).keys()];
    assertEquals(names.filter((name) => name.startsWith("consumers/")), [
      "consumers/other",
      WORKER,
    ]);
  });
});

/** Files that stand under a consumer's name and are none of this log. */
const DAMAGED: Record<string, (sound: Bytes, files: Files) => Bytes> = {
  "an empty file": () => new Uint8Array(0),
  "a file of one record": (sound) => sound.slice(0, 64),
  "a file that is a byte too short": (sound) => sound.slice(0, 8191),
  "a file that is a byte too long": (sound) => {
    const bytes = new Uint8Array(8193);
    bytes.set(sound);
    return bytes;
  },
  "a file of zeros": () => new Uint8Array(8192),
  "two broken records": (sound) => {
    sound.copyWithin(4096, 0, 64);
    sound[41]! ^= 1;
    sound[4096 + 41]! ^= 1;
    return sound;
  },
  "another consumer's file": (_, files) =>
    consumerFile(files, { position: 1, generation: 0 }, "other"),
  "a file of another log": () => {
    const other = makeLog((wal) => append(wal, 9), {}, 77);
    return consumerFile(other, { position: 1, generation: 0 });
  },
};

describe("format: consumers, damaged ones", () => {
  for (const [what, make] of Object.entries(DAMAGED)) {
    it(`[F55] ${what}: refused by name, unchanged, the log opens`, async () => {
      const files = makeLog((wal) => append(wal, 9));
      const sound = consumerFile(files, { position: 5, generation: 0 });
      const damaged = make(sound.slice(), files);
      files.set(WORKER, damaged);
      const other = consumerFile(
        files,
        { position: 4, generation: 0 },
        "other",
      );
      files.set("consumers/other", other);
      const disk = plantFiles(files);
      const warnings: unknown[] = [];
      const ignore = (): void => {};
      const logger = {
        debug: ignore,
        info: ignore,
        warn: (...words: unknown[]) => void warnings.push(...words),
        error: ignore,
      };
      const wal = open(disk, { logger });
      assertEquals(wal.consumers(), [{ name: "other", position: 4, lag: 5 }]);
      for (const from of ["start", "end", 3] as const) {
        const error = await assertRejects(
          () => wal.consumer("worker", { from }),
          WalCorruptedError,
          'Cannot use consumer "worker"',
        );
        assertStringIncludes(error.segment, WORKER);
        assertStringIncludes(error.message, "remove it to begin anew");
      }
      // It holds nobody back, and nobody touches it.
      append(wal, 2);
      await (await wal.consumer("other")).ack(9);
      wal.truncateAfterSync(2);
      wal.resetSync(40);
      assertEquals(positionsOf(wal), [2]);
      wal.closeSync();
      assertEquals(disk.peek(`${LOG}/${WORKER}`), damaged);
      await Promise.resolve();
      assertStringIncludes(String(warnings[0]), "worker");
      const again = open(disk.processDeath());
      await assertRejects(() => again.consumer("worker"), WalCorruptedError);
      again.closeSync();
      // Begun anew once it is gone.
      const gone = disk.fork();
      gone.plant(`${LOG}/${WORKER}`, undefined);
      const last = open(gone);
      assertEquals((await last.consumer("worker")).position, 39);
      last.closeSync();
    });
  }

  it("[F55] one of a newer version is unsupported, not damaged", async () => {
    for (const both of [false, true]) {
      const files = makeLog((wal) => append(wal, 9));
      const newer = consumerFile(files, { position: 5, generation: 0 });
      if (both) newer.copyWithin(4096, 0, 64);
      setU32(newer, 8, 2);
      sealPosition(newer, "worker", 0);
      files.set(WORKER, newer);
      const disk = plantFiles(files);
      const wal = open(disk);
      assertEquals(wal.consumers(), []);
      const error = await assertRejects(
        () => wal.consumer("worker"),
        UnsupportedFormatError,
        "version 2",
      );
      assertEquals(error.code, "UNSUPPORTED_FORMAT");
      assert(!error.message.includes("remove"), error.message);
      wal.truncateAfterSync(2);
      wal.closeSync();
      assertEquals(disk.peek(`${LOG}/${WORKER}`), newer);
    }
  });

  it("a read error is no verdict: the log is not opened", () => {
    const files = makeLog((wal) => append(wal, 9));
    files.set(WORKER, consumerFile(files, { position: 5, generation: 0 }));
    for (const operation of ["open", "read"] as const) {
      for (const code of ["EIO", "EMFILE", "EACCES"]) {
        const disk = plantFiles(files);
        disk.failNext(operation, code, { name: WORKER.slice(10) });
        let refused: unknown;
        try {
          open(disk);
        } catch (error) {
          refused = error;
        }
        assertInstanceOf(refused, StorageError);
        assertEquals(refused.systemCode, code);
        assertEquals(disk.peek(`${LOG}/${WORKER}`), files.get(WORKER));
        const wal = open(disk);
        assertEquals(positionsOf(wal), [5], "at the second attempt");
        wal.closeSync();
      }
    }
  });
});

/** Everything below a folder of the system; nothing is opened but files. */
function snapshot(path: string): string[] {
  return readdirSync(path).sort().flatMap((name) => {
    const inside = join(path, name);
    const status = lstatSync(inside);
    if (name.startsWith("LOCK")) return [];
    if (status.isSymbolicLink()) {
      return [`${inside} -> ${readlinkSync(inside)}`];
    }
    if (status.isDirectory()) return [`${inside}/`, ...snapshot(inside)];
    if (!status.isFile()) return [`${inside} is special ${status.mode}`];
    return [`${inside} ${readFileSync(inside).toString("hex")}`];
  });
}

/** What is put in the place of the folder, or of a consumer's file. */
const THINGS: Record<string, (path: string, sound: string) => void> = {
  "a FIFO": (path) => {
    assertEquals(spawnSync("mkfifo", [path]).status, 0);
  },
  "a symbolic link to a sound one": (path, sound) => symlinkSync(sound, path),
  "a symbolic link to nothing": (path) => symlinkSync("nowhere", path),
  "a folder": (path) => mkdirSync(path),
  "a file": (path) => writeFileSync(path, "somebody's"),
};

describe("F-2 consumers: hostile folders", () => {
  const skip = process.platform === "win32" && "needs FIFOs and links";
  for (const { kind, make } of REAL) {
    for (const place of ["consumers", WORKER]) {
      for (const [what, put] of Object.entries(THINGS)) {
        if (place === "consumers" && what === "a folder") continue;
        it(`${place} is ${what}: the log opens, nothing changes [${kind}]`, {
          skip,
        }, async () => {
          using folder = temporaryFolder();
          const log = join(folder.path, "log");
          const options = { storage: make(), segmentBytes: 65536 };
          {
            using wal = openWalSync(log, options);
            append(wal, 3);
            await (await wal.consumer("worker")).ack(2);
          }
          const sound = join(folder.path, "elsewhere");
          renameSync(join(log, place), sound);
          put(join(log, place), sound);
          const watched = place === "consumers" ? place : "consumers";
          const look = () => [
            ...snapshot(folder.path).filter((line) =>
              line.startsWith(sound) || line.startsWith(join(log, watched))
            ),
          ];
          const before = look();
          const wal = openWalSync(log, options);
          assertEquals([wal.lastIndex, wal.consumers()], [3, []]);
          const error = await assertRejects(
            () => wal.consumer("worker"),
            WalError,
            "Cannot",
          );
          const typed = error instanceof WalCorruptedError ||
            error instanceof StorageError;
          assert(typed, `${error}`);
          assertStringIncludes(error.message, join(log, place));
          assertStringIncludes(error.message, "expected");
          append(wal, 1);
          wal.truncateAfterSync(1);
          assertEquals(wal.consumers(), []);
          wal.closeSync();
          assertEquals(look(), before);
          // Put back, all is as it was, but for what the cut took away.
          rmSync(join(log, place), { recursive: true });
          renameSync(sound, join(log, place));
          using again = openWalSync(log, options);
          assertEquals(again.consumers(), [
            { name: "worker", position: 1, lag: 0 },
          ]);
        });
      }
    }

    it(`a log with many consumers keeps few files open [${kind}]`, {
      skip: process.platform !== "linux" && "needs /proc",
    }, async () => {
      using folder = temporaryFolder();
      const [log, copy] = ["log", "copy"].map((one) => join(folder.path, one));
      const options = { storage: make(), segmentBytes: 65536 };
      const wal = openWalSync(log!, options);
      append(wal, 9);
      for (let i = 1; i <= 60; i++) {
        await using consumer = await wal.consumer(`consumer-${i}`);
        await consumer.ack(i % 10);
      }
      const openIn = (path: string) => filesOpenIn(join(path, "consumers"));
      assertLessOrEqual(openIn(log!), 4, "nobody uses them");
      // As a process that died has left it: all are written again.
      cpSync(log!, copy!, { recursive: true });
      const again = openWalSync(copy!, options);
      assertEquals(again.consumers().length, 60);
      assertLessOrEqual(openIn(copy!), 4, "after recovery");
      again.truncateAfterSync(2);
      again.flushSync();
      assertLessOrEqual(openIn(copy!), 4, "after lowering");
      again.closeSync();
      wal.closeSync();
      assertEquals([openIn(log!), openIn(copy!)], [0, 0]);
    });
  }
});

/** How many descriptors of this process lead below a folder. */
function filesOpenIn(folder: string): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder);
    } catch {
      // The descriptor of the listing itself.
      return false;
    }
  }).length;
}
