/**
 * Says in a line of JSON how many bytes of heap the log takes. Runs with the
 * flags of `_guard_heap.ts`.
 *
 * `guard_heap.ts calls KIND FOLDER`: what each call allocates.
 * `guard_heap.ts kept KIND FOLDER`: what an open log keeps for each entry.
 *
 * @module
 */
import { join } from "node:path";
import process from "node:process";
import {
  filesStorage,
  mappedStorage,
  openWalSync,
  type Wal,
  type WalOptions,
} from "../../mod.ts";
import { startMeter } from "../_guard_meter.ts";

const [what, kind, folder] = process.argv.slice(2) as [
  "calls" | "kept",
  "mapped" | "files",
  string,
];
const storage = kind === "mapped" ? mappedStorage() : filesStorage();
const meter = await startMeter();
const COUNT = kind === "mapped" ? 20_000 : 8000;
/** The median counts: code may be compiled anew in one of them. */
const ROUNDS = 3;
const KEPT_BATCHES = 200;
let sum = 0;
/** What is kept here cannot be optimised away. */
export let last: unknown;

/** Bytes for each call, when the code is as fast as it gets. */
function each(work: (nth: number) => void): number {
  for (let nth = 0; nth < COUNT; nth++) work(nth);
  const rounds = Array.from({ length: ROUNDS }, () => {
    meter.collect();
    const before = meter.bytes();
    for (let nth = 0; nth < COUNT; nth++) work(nth);
    return (meter.bytes() - before) / COUNT;
  });
  return rounds.sort((a, b) => a - b)[ROUNDS >> 1]!;
}

function openLog(name: string): Wal {
  const options: WalOptions = { storage, sync: "never" };
  return openWalSync(join(folder, name), options);
}

function calls(): Record<string, number> {
  const known = each((nth) => last = { nth, next: nth + 1 });
  const wal = openLog("calls");
  const data = new Uint8Array(256).map((_, i) => i);
  const append = each(() => void wal.appendSync(data));
  const at = (nth: number) => 1 + (nth * 7919) % COUNT;
  const get = each((nth) => sum += wal.get(at(nth)).data[0]!);
  const view = each((nth) => sum += wal.view(at(nth)).data[0]!);
  const entries = wal.entries()[Symbol.iterator]();
  const next = each(() => sum += entries.next().value!.data[0]!);
  wal.closeSync();
  return { known, append, get, view, next };
}

/** Above what is kept when the log is closed, which is code mostly. */
function kept(): Record<string, number> {
  const batch = Array.from({ length: 1000 }, () => new Uint8Array(16));
  // Code that runs for the first time is kept as well.
  for (let nth = 0; nth < 2; nth++) {
    const warm = openLog("warm");
    warm.appendBatchSync(batch);
    sum += warm.get(1).data[0]!;
    warm.closeSync();
  }
  const wal = openLog("kept");
  for (let nth = 0; nth < KEPT_BATCHES; nth++) wal.appendBatchSync(batch);
  const count = wal.length;
  const written = meter.keptBytes();
  wal.closeSync();
  const closed = meter.keptBytes();
  const again = openLog("kept");
  sum += again.get(count).data[0]!;
  const opened = meter.keptBytes();
  again.closeSync();
  return {
    writing: (written - closed) / count,
    opening: (opened - closed) / count,
  };
}

const figures = what === "calls" ? calls() : kept();
if (sum < 0) throw new Error("The reads were not done");
console.log(JSON.stringify(figures));
