/**
 * The figures of one runtime on one storage, as one line of JSON. Run all of
 * them with `npm run figures`; every figure that depends on the machine comes
 * with the floor measured beside it in the same process.
 *
 * @module
 */

import {
  closeSync,
  existsSync,
  fdatasyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { crc32 } from "node:zlib";
import {
  filesStorage,
  mappedStorage,
  memoryStorage,
  openWal,
  openWalSync,
  type WalOptions,
} from "../mod.ts";
import type { StoragePort } from "../src/storage.ts";

const ENTRY_BYTES = 256;
const FRAME_BYTES = 296;
const data = new Uint8Array(ENTRY_BYTES).map((_, i) => i);

const { values } = parseArgs({
  options: {
    storage: { type: "string", default: "mapped" },
    folder: { type: "string", default: tmpdir() },
    bytes: { type: "string", default: String(2 ** 30) },
    kill: { type: "string" },
  },
});
const storage: WalOptions = {
  storage: values.storage === "files" ? filesStorage() : mappedStorage(),
};

/** The median time of one call, in nanoseconds, over several rounds. */
function medianNs(rounds: number, count: number, round: () => void): number {
  const times: number[] = [];
  for (let i = 0; i < rounds; i++) {
    const start = performance.now();
    round();
    times.push((performance.now() - start) * 1e6 / count);
  }
  return Math.round(times.sort((a, b) => a - b)[rounds >> 1]!);
}

/** A checksum and a copy in memory: what no log of entries can go below. */
function floorNs(): number {
  const target = new Uint8Array(64 * 1024 * 1024);
  const count = 100_000;
  return medianNs(7, count, () => {
    for (let i = 0; i < count; i++) {
      crc32(data, i);
      target.set(data, i * FRAME_BYTES);
    }
  });
}

/** writeSync and fdatasyncSync, one at a time, in a preallocated file. */
function syncFloorNs(folder: string): number {
  const fd = openSync(join(folder, "floor"), "w");
  for (let i = 0; i < 256; i++) writeSync(fd, new Uint8Array(4096));
  fdatasyncSync(fd);
  let offset = 0;
  const frame = new Uint8Array(FRAME_BYTES);
  const ns = medianNs(9, 100, () => {
    for (let i = 0; i < 100; i++) {
      writeSync(fd, frame, 0, FRAME_BYTES, offset);
      fdatasyncSync(fd);
      offset += FRAME_BYTES;
    }
  });
  closeSync(fd);
  return ns;
}

/** Memory storage whose files have all their pages before they are used. */
function warmStorage(): StoragePort {
  const storage = memoryStorage() as StoragePort;
  const openDirectory = storage.openDirectory.bind(storage);
  storage.openDirectory = (path, options) => {
    const directory = openDirectory(path, options);
    if (directory === undefined) return undefined;
    const create = directory.create.bind(directory);
    directory.create = (name, bytes) => {
      const file = create(name, bytes);
      const zeros = new Uint8Array(4096);
      for (let at = 0; at < bytes; at += 4096) {
        file.writeAt(zeros.subarray(0, Math.min(4096, bytes - at)), at);
      }
      return file;
    };
    return directory;
  };
  return storage;
}

/** Appends into pages that are there already: the library's own share. */
function appendWarmNs(): number {
  const count = 20_000;
  const segmentBytes = 64 * 1024 * 1024;
  const storage = warmStorage();
  const wal = openWalSync("/log", { storage, sync: "never", segmentBytes });
  const ns = medianNs(9, count, () => {
    for (let i = 0; i < count; i++) wal.appendSync(data);
  });
  wal.closeSync();
  return ns;
}

function appendAndRead(folder: string): Record<string, number> {
  const count = 200_000;
  const wal = openWalSync(join(folder, "log"), { ...storage, sync: "never" });
  const appendNs = medianNs(7, count, () => {
    for (let i = 0; i < count; i++) wal.appendSync(data);
  });
  const reads = 200_000;
  let x = 12345;
  let sum = 0;
  const getNs = medianNs(7, reads, () => {
    for (let i = 0; i < reads; i++) {
      x = (x * 1103515245 + 12345) & 0x7fffffff;
      // One segment of 64 MiB, warm.
      sum += wal.get(1 + x % 200_000).data[0]!;
    }
  });
  const scanNs = medianNs(3, wal.length, () => {
    for (const entry of wal) sum += entry.data[0]!;
  });
  if (sum < 0) throw new Error("The reads were not done");
  wal.closeSync();
  return { appendNs, getNs, scanNs };
}

async function durable(folder: string): Promise<Record<string, number>> {
  const wal = await openWal(join(folder, "durable"), storage);
  const floor = syncFloorNs(folder);
  const appendSyncNs = medianNs(9, 100, () => {
    for (let i = 0; i < 100; i++) wal.appendSync(data);
  });
  const aloneNs: number[] = [];
  const sharedNs: number[] = [];
  for (let round = 0; round < 5; round++) {
    let start = performance.now();
    for (let i = 0; i < 200; i++) await wal.append(data);
    aloneNs.push((performance.now() - start) * 1e6 / 200);
    start = performance.now();
    const caller = async () => {
      for (let i = 0; i < 200; i++) await wal.append(data);
    };
    await Promise.all(Array.from({ length: 64 }, caller));
    sharedNs.push((performance.now() - start) * 1e6 / (64 * 200));
  }
  const middle = (list: number[]) => list.sort((a, b) => a - b)[2]!;
  const bytes = await deviceBytes(folder, async () => {
    for (let i = 0; i < 200; i++) await wal.append(data);
  });
  await wal.close();
  return {
    syncFloorNs: floor,
    appendSyncNs,
    appendAloneNs: Math.round(middle(aloneNs)),
    append64Ns: Math.round(middle(sharedNs)),
    deviceBytesPerCommit: Math.round(bytes / 200),
  };
}

/** What the folder's device was written meanwhile; NaN where untold. */
async function deviceBytes(
  folder: string,
  work: () => Promise<void>,
): Promise<number> {
  const sectors = () => {
    if (!existsSync("/proc/diskstats")) return NaN;
    const { dev } = statSync(folder);
    const major = (dev >> 8) & 0xfff;
    const minor = (dev & 0xff) | ((dev >> 12) & 0xfff00);
    const line = readFileSync("/proc/diskstats", "utf8").split("\n")
      .map((one) => one.trim().split(/\s+/))
      .find((one) => Number(one[0]) === major && Number(one[1]) === minor);
    return line === undefined ? NaN : Number(line[9]);
  };
  const before = sectors();
  await work();
  return (sectors() - before) * 512;
}

/** Opening a log of about a gigabyte: closed, and killed while writing. */
function opening(folder: string, bytes: number): Record<string, number> {
  const path = join(folder, "large");
  const wal = openWalSync(path, { ...storage, sync: "never" });
  const batch = Array.from({ length: 1000 }, () => data);
  while (wal.length * FRAME_BYTES < bytes) wal.appendBatchSync(batch);
  wal.closeSync();
  const open = () => {
    const start = performance.now();
    const again = openWalSync(path, storage);
    const ms = performance.now() - start;
    again.closeSync();
    return ms;
  };
  const clean = [open(), open(), open()].sort((a, b) => a - b)[1]!;
  const before = "Deno" in globalThis ? ["run", "-A"] : [];
  const script = process.argv[1]!;
  const args = [...before, script, "--kill", path];
  const killed: number[] = [];
  for (let i = 0; i < 3; i++) {
    args.push("--storage", values.storage);
    spawnSync(process.execPath, args, { stdio: "ignore" });
    killed.push(open());
  }
  const round = (ms: number) => Math.round(ms * 10) / 10;
  return {
    openCleanMs: round(clean),
    openKilledMs: round(killed.sort((a, b) => a - b)[1]!),
  };
}

/** Appends with the mark within the last MiB, and dies. */
function writeAndDie(path: string): void {
  const wal = openWalSync(path, { ...storage, sync: "never" });
  for (let i = 0; i < 2000; i++) wal.appendSync(data);
  wal.flushSync();
  for (let i = 0; i < 2000; i++) wal.appendSync(data);
  process.kill(process.pid, "SIGKILL");
}

async function main(): Promise<void> {
  if (values.kill !== undefined) return writeAndDie(values.kill);
  const folder = mkdtempSync(join(values.folder, "walrus-figures-"));
  try {
    const figures = {
      storage: values.storage,
      floorNs: floorNs(),
      appendWarmNs: appendWarmNs(),
      ...appendAndRead(folder),
      ...await durable(folder),
      ...opening(folder, Number(values.bytes)),
    };
    console.log(JSON.stringify(figures));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

await main();
