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
/** Entries of a batch; it divides `COUNT`. */
const BATCH = 100;
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
  const promised = each(() => last = wal.append(data));
  const batch = Array.from({ length: BATCH }, () => data);
  const batched = each((nth) => {
    if (nth % BATCH === 0) last = wal.appendBatchSync(batch);
  });
  const at = (nth: number) => 1 + (nth * 7919) % COUNT;
  const get = each((nth) => sum += wal.get(at(nth)).data[0]!);
  const view = each((nth) => sum += wal.view(at(nth)).data[0]!);
  const entries = wal.entries()[Symbol.iterator]();
  const next = each(() => sum += entries.next().value!.data[0]!);
  wal.closeSync();
  return { known, append, promised, batched, get, view, next };
}

/** What lives once nothing is held for a task, or waits for its finalizer. */
async function settled(): Promise<number> {
  let bytes = Infinity;
  for (let nth = 0; nth < 4; nth++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    bytes = Math.min(bytes, meter.keptBytes());
  }
  return bytes;
}

function fill(wal: Wal, batches: number): void {
  const batch = Array.from({ length: 1000 }, () => new Uint8Array(16));
  for (let nth = 0; nth < batches; nth++) wal.appendBatchSync(batch);
}

/** What is kept in memory while a log of so many batches is open. */
async function keptFor(
  name: string,
  batches: number,
): Promise<[written: number, opened: number]> {
  const wal = openLog(name);
  fill(wal, batches);
  const written = await settled();
  wal.closeSync();
  const again = openLog(name);
  sum += again.get(again.length).data[0]!;
  const opened = await settled();
  again.closeSync();
  return [written, opened];
}

/** The difference of two logs: all else is the same for both. */
async function kept(): Promise<Record<string, number>> {
  // Code that is compiled on the way is kept as well, and some for a while.
  const large = [await keptFor("large", 1 + KEPT_BATCHES)];
  const small = [await keptFor("small", 1), await keptFor("small again", 1)];
  large.push(await keptFor("large again", 1 + KEPT_BATCHES));
  const least = (list: number[]) => Math.min(...list);
  const base = least(small.flat());
  const count = 1000 * KEPT_BATCHES;
  return {
    writing: (least(large.map(([written]) => written)) - base) / count,
    opening: (least(large.map(([, opened]) => opened)) - base) / count,
  };
}

const figures = what === "calls" ? calls() : await kept();
if (sum < 0) throw new Error("The reads were not done");
console.log(JSON.stringify(figures));
