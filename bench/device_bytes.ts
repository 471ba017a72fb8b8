/**
 * What one small durable append makes the device write, as one line of JSON:
 * in the middle of a log, and first after opening, after recovery from a kill
 * and after a rotation. Counted twice: by the system for this process
 * (`/proc/self/io`), which counts a page when it becomes dirty and so misses
 * those that opening left dirty; and for the whole disk (`/proc/diskstats`),
 * the file system's journal and other programs with it.
 *
 *     node bench/device_bytes.ts --folder DIR
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { openWalSync, type Wal } from "../mod.ts";

const ENTRY_BYTES = 256;
const { values } = parseArgs({
  options: {
    folder: { type: "string", default: tmpdir() },
    rounds: { type: "string", default: "9" },
    die: { type: "string" },
  },
});
const data = new Uint8Array(ENTRY_BYTES).map((_, i) => i);
const rounds = Number(values.rounds);

interface Written {
  /** Bytes of pages that this process made dirty. */
  process: number;
  /** Bytes that went to the disk, whoever wrote them. */
  disk: number;
}

/** What was written so far; NaN where the system does not tell. */
function written(folder: string): Written {
  const io = readFileSync("/proc/self/io", "utf8");
  const { dev } = statSync(folder);
  const major = (dev >> 8) & 0xfff;
  const minor = (dev & 0xff) | ((dev >> 12) & 0xfff00);
  const line = readFileSync("/proc/diskstats", "utf8").split("\n")
    .map((one) => one.trim().split(/\s+/))
    .find((one) => Number(one[0]) === major && Number(one[1]) === minor);
  return {
    process: Number(/^write_bytes: (\d+)/m.exec(io)?.[1]),
    disk: Number(line?.[9]) * 512,
  };
}

/** What one durable append writes. */
function oneCommit(wal: Wal, folder: string): Written {
  const before = written(folder);
  wal.appendSync(data);
  const after = written(folder);
  return {
    process: after.process - before.process,
    disk: after.disk - before.disk,
  };
}

/** The median of each; the process's worst as well. */
function summary(all: Written[]): Written & { worst: number } {
  const sorted = (name: keyof Written) =>
    all.map((one) => one[name]).sort((a, b) => a - b);
  return {
    process: sorted("process")[all.length >> 1]!,
    disk: sorted("disk")[all.length >> 1]!,
    worst: sorted("process").at(-1)!,
  };
}

/** Runs `one` with a new log for each round. */
function each(
  folder: string,
  one: (path: string) => Written,
): Written & { worst: number } {
  const all = Array.from({ length: rounds }, (_, i) => {
    const path = join(folder, `log${i}`);
    const found = one(path);
    rmSync(path, { recursive: true });
    return found;
  });
  return summary(all);
}

/** A log with entries, closed. */
function fill(path: string): void {
  const wal = openWalSync(path);
  wal.appendBatchSync(Array.from({ length: 1000 }, () => data));
  wal.closeSync();
}

function afterOpen(path: string): Written {
  fill(path);
  const wal = openWalSync(path);
  const found = oneCommit(wal, path);
  wal.closeSync();
  return found;
}

function afterKill(path: string): Written {
  fill(path);
  const before = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
  const script = process.argv[1]!;
  spawnSync(process.execPath, [...before, script, "--die", path], {
    stdio: "ignore",
  });
  const wal = openWalSync(path);
  if (wal.length < 1020) throw new Error("The killed child wrote nothing");
  const found = oneCommit(wal, path);
  wal.closeSync();
  return found;
}

function afterRotation(path: string): Written {
  fill(path);
  const wal = openWalSync(path);
  wal.appendSync(data);
  wal.rotateSync();
  const found = oneCommit(wal, path);
  wal.closeSync();
  return found;
}

/** How many entries the first segment takes. */
function capacityOf(path: string): number {
  const wal = openWalSync(path, { sync: "never" });
  const { segmentCount } = wal.stats();
  while (wal.stats().segmentCount === segmentCount) wal.appendSync(data);
  const capacity = wal.length - 1;
  wal.closeSync();
  rmSync(path, { recursive: true });
  return capacity;
}

/** The append that fills a segment: it makes the next and seals the last. */
function thatRotates(path: string): Written {
  const capacity = capacityOf(path);
  const wal = openWalSync(path);
  for (let i = 0; i < capacity; i++) wal.appendSync(data, { durable: false });
  wal.flushSync();
  const { segmentCount } = wal.stats();
  const found = oneCommit(wal, path);
  const rotated = wal.stats().segmentCount > segmentCount;
  wal.closeSync();
  if (!rotated) throw new Error("The append did not rotate");
  return found;
}

function steady(path: string): Written & { worst: number } {
  fill(path);
  const wal = openWalSync(path);
  for (let i = 0; i < 50; i++) wal.appendSync(data);
  const all = Array.from({ length: 200 }, () => oneCommit(wal, path));
  wal.closeSync();
  rmSync(path, { recursive: true });
  return summary(all);
}

/** Leaves some entries unsynced and dies. */
function writeAndDie(path: string): void {
  const wal = openWalSync(path, { sync: "never" });
  for (let i = 0; i < 20; i++) wal.appendSync(data);
  process.kill(process.pid, "SIGKILL");
}

function main(): void {
  if (values.die !== undefined) return writeAndDie(values.die);
  const folder = mkdtempSync(join(values.folder, "walrus-device-"));
  try {
    console.log(JSON.stringify({
      steady: steady(join(folder, "steady")),
      opened: each(folder, afterOpen),
      recovered: each(folder, afterKill),
      rotated: each(folder, afterRotation),
      rotating: thatRotates(join(folder, "rotating")),
    }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

main();
