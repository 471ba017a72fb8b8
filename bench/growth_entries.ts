/**
 * What appending and reading cost in a log of many entries of 16 bytes, as one
 * line of JSON; growth.mjs runs it again and again over the same folder.
 *
 *     node bench/growth_entries.ts --log DIR --count 1000000   grows it, warm
 *     node bench/growth_entries.ts --log DIR --cold            reads only
 *
 * @module
 */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openWalSync, type Wal } from "../mod.ts";

const ENTRY_BYTES = 16;
const BATCH = 1000;
const ROUNDS = 7;
const ROUND_CALLS_MAX = 20_000;
const COLD_READS_MAX = 1000;
const WARM_UP_CALLS = 200_000;

const { values } = parseArgs({
  options: {
    log: { type: "string", default: "" },
    count: { type: "string", default: "10000" },
    cold: { type: "boolean", default: false },
  },
});
const data = new Uint8Array(ENTRY_BYTES).map((_, i) => i);
let sum = 0;
let state = 12345;

function randomIndex(count: number): number {
  state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
  return 1 + Math.floor(state / 0x80000000 * count);
}

function readRandom(wal: Wal, reads: number): void {
  const { length } = wal;
  for (let i = 0; i < reads; i++) sum += wal.get(randomIndex(length)).data[0]!;
}

/** The compilers' work, on a log beside it that is thrown away. */
function warmUp(): void {
  const folder = mkdtempSync(`${values.log}-warm-`);
  const wal = openWalSync(join(folder, "log"), { sync: "never" });
  for (let i = 0; i < WARM_UP_CALLS; i++) wal.appendSync(data);
  readRandom(wal, WARM_UP_CALLS);
  wal.closeSync();
  rmSync(folder, { recursive: true });
}

function medianNs(calls: number, round: () => void): number {
  const all = Array.from({ length: ROUNDS }, () => {
    const start = performance.now();
    round();
    return (performance.now() - start) * 1e6 / calls;
  });
  return all.sort((a, b) => a - b)[ROUNDS >> 1]!;
}

/** Grows the log to `count` entries; the last of them, and reads, are timed. */
function grow(count: number): Record<string, number> {
  const wal = openWalSync(values.log, { sync: "never" });
  const calls = Math.min(ROUND_CALLS_MAX, Math.ceil(count / (2 * ROUNDS)));
  const before = count - calls * ROUNDS;
  const batch = Array.from({ length: BATCH }, () => data);
  while (wal.length + BATCH <= before) wal.appendBatchSync(batch);
  while (wal.length < before) wal.appendSync(data);
  const appendNs = medianNs(calls, () => {
    for (let i = 0; i < calls; i++) wal.appendSync(data);
  });
  // Else a read pays for pages that this process has not touched before.
  for (let i = 1; i <= wal.length; i++) sum += wal.get(i).data[0]!;
  const getNs = medianNs(
    ROUND_CALLS_MAX,
    () => readRandom(wal, ROUND_CALLS_MAX),
  );
  const { length, bytes } = { length: wal.length, bytes: wal.stats().bytes };
  wal.closeSync();
  return { count: length, bytes, appendNs, getNs };
}

/** Reads of a log that is not in the page cache, if all went well. */
function readCold(): Record<string, number> {
  const wal = openWalSync(values.log, { sync: "never" });
  const reads = Math.min(COLD_READS_MAX, Math.ceil(wal.length / 10));
  const before = readBytes();
  const start = performance.now();
  readRandom(wal, reads);
  const coldGetNs = (performance.now() - start) * 1e6 / reads;
  const coldReadBytes = (readBytes() - before) / reads;
  wal.closeSync();
  return { coldGetNs, coldReadBytes };
}

/** What the device had to read for this process so far. */
function readBytes(): number {
  const io = readFileSync("/proc/self/io", "utf8");
  return Number(/^read_bytes: (\d+)/m.exec(io)?.[1]);
}

warmUp();
const figures = values.cold ? readCold() : grow(Number(values.count));
if (sum < 0) throw new Error("The reads were not done");
console.log(JSON.stringify(figures));
