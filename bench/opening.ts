/**
 * Opening, as one line of JSON. Each mode is a process of its own:
 *
 *     node bench/opening.ts --build DIR --gib 1      makes a log, closed
 *     node bench/opening.ts --time DIR --small DIR   of a log and a short one
 *     node bench/opening.ts --memory DIR --small DIR what it holds of a log
 *     node bench/opening.ts --crash --folder DIR     after kills
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { openWalSync, type Wal } from "../mod.ts";

const ENTRY_BYTES = 256;
const FRAME_BYTES = 296;
const MEBIBYTE = 1024 * 1024;
const READS = 100_000;
const ROUNDS = 15;

const { values } = parseArgs({
  options: {
    build: { type: "string" },
    gib: { type: "string", default: "1" },
    time: { type: "string" },
    memory: { type: "string" },
    small: { type: "string", default: "" },
    crash: { type: "boolean" },
    rounds: { type: "string", default: "7" },
    mebibytes: { type: "string", default: "61" },
    folder: { type: "string", default: tmpdir() },
    die: { type: "string" },
    first: { type: "string" },
  },
});
const data = new Uint8Array(ENTRY_BYTES).map((_, i) => i);
const batch = Array.from({ length: 1000 }, () => data);

function fill(wal: Wal, bytes: number): void {
  while (wal.stats().bytesWritten < bytes) wal.appendBatchSync(batch);
}

function build(path: string): unknown {
  const wal = openWalSync(path, { sync: "never" });
  fill(wal, Number(values.gib) * 2 ** 30);
  const { entryCount, segmentCount } = wal.stats();
  wal.closeSync();
  return { entryCount, segmentCount };
}

/** Until the log can be used and tells how many entries it has. */
function openMs(path: string): number {
  const start = performance.now();
  const wal = openWalSync(path);
  const { length } = wal;
  const ms = performance.now() - start;
  wal.closeSync();
  if (length === 0) throw new Error("The log is empty");
  return ms;
}

function median(all: number[]): number {
  return all.sort((a, b) => a - b)[all.length >> 1]!;
}

/** The first opening of a process, and medians when its code is compiled. */
function time(path: string): unknown {
  const firstMs = openMs(path);
  const large: number[] = [];
  const small: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    small.push(openMs(values.small));
    large.push(openMs(path));
  }
  const wal = openWalSync(path);
  const segments = wal.stats().segmentCount;
  wal.closeSync();
  const warmMs = median(large);
  const smallMs = median(small);
  const usPerSegment = (warmMs - smallMs) * 1000 / (segments - 1);
  return { firstMs, warmMs, smallMs, usPerSegment, segments };
}

interface Memory {
  /** Resident, without pages of files. */
  anonymous: number;
  /** What the runtime says its heap is; Bun's has mapped files in it. */
  heap: number;
}

/** What this process holds outside the page cache, in bytes. */
function memory(): Memory {
  const { gc, Bun } = globalThis as {
    gc?: () => void;
    Bun?: { gc(force: boolean): void };
  };
  for (let i = 0; i < 3; i++) Bun ? Bun.gc(true) : gc?.();
  const status = readFileSync("/proc/self/status", "utf8");
  const { heapUsed } = process.memoryUsage();
  const anonymous = Number(/RssAnon:\s+(\d+)/.exec(status)?.[1]) * 1024;
  return { anonymous, heap: heapUsed };
}

function read(wal: Wal): void {
  const { length } = wal;
  for (let i = 0; i < READS; i++) wal.get(1 + (i * 7919) % length);
}

/**
 * What the log costs beyond a short one that is open and was read before: the
 * runtime's own growth, which compiled code is, is not in it.
 */
function held(path: string): unknown {
  const small = openWalSync(values.small);
  for (let i = 0; i < 10; i++) read(small);
  const before = memory();
  const wal = openWalSync(path);
  const opened = memory();
  read(wal);
  const after = memory();
  const { entryCount, segmentCount } = wal.stats();
  wal.closeSync();
  small.closeSync();
  const minus = (one: Memory) => ({
    anonymous: one.anonymous - before.anonymous,
    heap: one.heap - before.heap,
  });
  return {
    entryCount,
    segmentCount,
    opened: minus(opened),
    read: minus(after),
  };
}

/** Fills a segment nearly, syncs, writes most of a MiB more, and dies. */
function writeAndDie(path: string): void {
  const wal = openWalSync(path, { sync: "never" });
  fill(wal, Number(values.mebibytes) * MEBIBYTE);
  wal.flushSync();
  for (let i = 0; i < 0.9 * MEBIBYTE / FRAME_BYTES; i++) wal.appendSync(data);
  process.kill(process.pid, "SIGKILL");
}

/** This script in a process of its own; what it prints. */
function child(...args: string[]): string {
  const before = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
  const command = [...before, process.argv[1]!, ...args];
  const { stdout } = spawnSync(process.execPath, command, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  return stdout;
}

/** Opens logs whose writers were killed: here, and in new processes. */
function afterCrash(): unknown {
  const folder = mkdtempSync(join(values.folder, "walrus-crash-"));
  const { mebibytes } = values;
  const killed = () => {
    const path = mkdtempSync(join(folder, "log-"));
    child("--die", path, "--mebibytes", mebibytes);
    return path;
  };
  const rounds = Number(values.rounds);
  try {
    const warm = Array.from({ length: rounds }, () => openMs(killed()));
    const first = Array.from({ length: Math.ceil(rounds / 2) }, () => {
      return Number(child("--first", killed()));
    });
    return { warmMs: median(warm), firstMs: median(first) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function main(): unknown {
  if (values.die !== undefined) return writeAndDie(values.die);
  if (values.first !== undefined) return openMs(values.first);
  if (values.build !== undefined) return build(values.build);
  if (values.time !== undefined) return time(values.time);
  if (values.memory !== undefined) return held(values.memory);
  if (values.crash) return afterCrash();
  throw new TypeError("Which? --build, --time, --memory or --crash");
}

console.log(JSON.stringify(main()));
