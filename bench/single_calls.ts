/**
 * One measure of single calls, as one line of JSON; `npm run bench:bars` runs
 * each in a process of its own, as a program that does nothing else would.
 *
 *     node bench/single_calls.ts --measure get --folder DIR
 *
 * @module
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openWalSync, type Wal } from "../mod.ts";
import { warmStorage } from "./micro_cases.ts";

const ENTRY_BYTES = 256;
const FRAME_BYTES = 296;
const SEGMENT_BYTES = 64 * 1024 * 1024;

/** Entries that fit into one segment, with room for its index. */
const WARM_ENTRIES = 200_000;
const ROUNDS = 9;

const { values } = parseArgs({
  options: {
    measure: { type: "string", default: "append" },
    folder: { type: "string", default: tmpdir() },
    bytes: { type: "string", default: String(2 ** 30) },
    smoke: { type: "boolean", default: false },
  },
});
const data = new Uint8Array(ENTRY_BYTES).map((_, i) => i);
const entries = values.smoke ? 10_000 : WARM_ENTRIES;
let sum = 0;

/** Nanoseconds of one of the `count` calls of a round; the first is not timed. */
function roundsNs(count: number, round: () => void): number[] {
  round();
  return Array.from({ length: ROUNDS }, () => {
    const start = performance.now();
    round();
    return (performance.now() - start) * 1e6 / count;
  });
}

/**
 * Appends into pages that are there already: the library's own share. A first
 * log goes by unmeasured, so that compilers have done their work.
 */
function appendWarm(entry: Parameters<Wal["appendSync"]>[0]): number[] {
  appendIntoWarmLog(entry);
  return appendIntoWarmLog(entry);
}

function appendIntoWarmLog(
  entry: Parameters<Wal["appendSync"]>[0],
): number[] {
  const wal = openWalSync("/log", {
    storage: warmStorage(),
    sync: "never",
    segmentBytes: SEGMENT_BYTES,
  });
  const count = Math.floor(entries / (ROUNDS + 1));
  const all = roundsNs(count, () => {
    for (let i = 0; i < count; i++) wal.appendSync(entry);
  });
  wal.closeSync();
  return all;
}

/** A burst through fresh segments, wholly timed, rotations included. */
function burst(folder: string): number[] {
  const total = values.smoke ? 2 ** 27 : Number(values.bytes);
  const count = Math.floor(total / FRAME_BYTES);
  return ["warm-up", "1", "2", "3"].map((name) => {
    const path = join(folder, name);
    const wal = openWalSync(path, { sync: "never" });
    const start = performance.now();
    for (let i = 0; i < count; i++) wal.appendSync(data);
    const ns = (performance.now() - start) * 1e6 / count;
    wal.closeSync();
    rmSync(path, { recursive: true });
    return ns;
  }).slice(1);
}

/** A log of one segment whose entries were all read by `read` before. */
function warmLog(folder: string, read: (wal: Wal, index: number) => void): Wal {
  const wal = openWalSync(join(folder, "log"), { sync: "never" });
  const batch = Array.from({ length: 1000 }, () => data);
  while (wal.length < entries) wal.appendBatchSync(batch);
  for (let index = 1; index <= entries; index++) read(wal, index);
  return wal;
}

function randomReads(
  folder: string,
  read: (wal: Wal, index: number) => void,
): number[] {
  const wal = warmLog(folder, read);
  let state = 12345;
  const all = roundsNs(entries, () => {
    for (let i = 0; i < entries; i++) {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
      read(wal, 1 + Math.floor(state / 0x80000000 * entries));
    }
  });
  wal.closeSync();
  return all;
}

function scan(folder: string): number[] {
  const wal = warmLog(folder, () => {});
  const all = roundsNs(entries, () => {
    for (const entry of wal.entries({ zeroCopy: true })) sum += entry.data[0]!;
  });
  wal.closeSync();
  return all;
}

function measure(name: string, folder: string): number[] {
  switch (name) {
    case "append":
      return appendWarm(data);
    case "append, timestamp":
      return appendWarm({ data, timestampNs: 1_700_000_000_000_000_000n });
    case "burst":
      return burst(folder);
    case "get":
      return randomReads(folder, (wal, i) => sum += wal.get(i).data[0]!);
    case "view":
      return randomReads(folder, (wal, i) => sum += wal.view(i).data[0]!);
    case "entries, zeroCopy":
      return scan(folder);
    default:
      throw new RangeError(`Cannot measure "${name}": there is no such thing`);
  }
}

const folder = mkdtempSync(join(values.folder, "walrus-calls-"));
try {
  const all = measure(values.measure, folder).sort((a, b) => a - b);
  if (sum < 0) throw new Error("The reads were not done");
  const ns = all[all.length >> 1];
  console.log(JSON.stringify({ ns, least: all[0], most: all.at(-1) }));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
