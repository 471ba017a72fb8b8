/**
 * What logs do while calls of their disk fail. Each is as short as can be:
 * every call of every kind fails once, so the time grows with its square.
 *
 * @module
 */

import { openWalSync } from "../mod.ts";
import { assertEquals } from "./_assert.ts";
import { contentsOf, History, NOTHING } from "./_crash_history.ts";
import { LOG, readAll } from "./_crash_verdict.ts";
import { takeFiles } from "./_log_bytes.ts";
import { entry, type FaultCase, type Mode } from "./_fault_case.ts";
import { SimulatedStorage } from "../testing/mod.ts";

/** A disk, and what a log on it may hold before the first opening. */
export interface Start {
  readonly storage: SimulatedStorage;
  readonly history: History;
}

/** What a log does. */
export interface Workload {
  readonly name: string;
  start(seed: number, mode: Mode): Start;
  run(at: FaultCase): Promise<void>;
}

function emptyDisk(seed: number, { mapped }: Mode): Start {
  const storage = new SimulatedStorage({ seed, mapped });
  return { storage, history: new History(NOTHING) };
}

/** Everything that writes, behind what a crash has left, with a reopening. */
async function everything(at: FaultCase): Promise<void> {
  const last = () => at.wal.nextIndex - 1;
  await at.append(entry(10, 1));
  await at.append(entry(5000, 2), entry(0, 3), entry(300, 4));
  await at.rotate();
  await at.append(entry(30_000, 5), entry(30_000, 6));
  await at.transact(entry(15_000, 7), entry(15_000, 8));
  await at.consume(last());
  await at.truncateAfter(last() - 3);
  await at.append(entry(20, 9));
  await at.truncateAfter(last() - 3);
  await at.append(entry(40, 10), entry(50, 11));
  await at.reopen();
  await at.append(entry(70_000, 12));
  await at.truncateBefore(last());
  await at.truncateAfter(last() - 1);
  await at.append(entry(1, 13));
}

async function batches(at: FaultCase): Promise<void> {
  for (let serial = 1; serial < 6; serial++) {
    await at.append(entry(20_000, serial), entry(0, 9), entry(20_000, serial));
    await at.append(entry(5000, serial));
  }
  await at.rotate();
  await at.append(entry(100_000, 7), entry(100_000, 8));
  await at.rotate();
  await at.flush();
  await at.append(entry(5000, 9));
}

async function removals(at: FaultCase): Promise<void> {
  for (let serial = 1; serial < 9; serial++) {
    await at.append(entry(25_000, serial));
  }
  await at.truncateAfter(6);
  await at.truncateBefore(4);
  await at.truncateAfter(4);
  await at.append(entry(100, 10), entry(100, 11));
  await at.truncateBefore(at.wal.nextIndex);
  await at.append(entry(100, 12));
  await at.reset(100);
  await at.append(entry(100, 13));
  await at.truncateAfter(99);
  await at.reset(50);
  await at.append(entry(100, 14));
}

/** A batch whose middle was lost in a power cut, and whole ones before it. */
function tornDisk(seed: number, mode: Mode): Start {
  // Another seed: no salt may come twice.
  const quiet = { seed: ~seed >>> 0, mapped: mode.mapped, writeback: 0 };
  const disk = new SimulatedStorage(quiet);
  const options = {
    storage: disk,
    segmentBytes: 65536,
    sync: "never",
  } as const;
  const wal = openWalSync(LOG, options);
  for (let serial = 1; serial < 5; serial++) {
    wal.appendSync(entry(20_000, serial), { durable: serial === 2 });
  }
  wal.appendBatchSync([entry(9000, 5), entry(9000, 6), entry(9000, 7)]);
  const dirty = disk.dirtyPages().filter(({ path }) => path.endsWith(".wal"));
  const lost = dirty.at(-4)!;
  const torn = disk.crash({
    pages: ({ path, page }) =>
      path === lost.path && page === lost.page ? "old" : "new",
    names: () => true,
  });
  const files = takeFiles(torn, LOG);
  const look = openWalSync(LOG, { storage: torn });
  assertEquals(look.recovery.outcome, "torn");
  const history = new History(contentsOf(readAll(look)));
  const { storage } = emptyDisk(seed, mode);
  makeFolder(storage);
  for (const [name, bytes] of files) storage.plant(`${LOG}/${name}`, bytes);
  return { storage, history };
}

function makeFolder(storage: SimulatedStorage): void {
  const modes = { create: true, directoryMode: 0o750, fileMode: 0o640 };
  storage.openDirectory(LOG, modes)!.close();
}

async function goOn(at: FaultCase): Promise<void> {
  await at.append(entry(500, 20));
  await at.reopen();
  await at.append(entry(500, 21));
}

async function reopenings(at: FaultCase): Promise<void> {
  for (let serial = 1; serial < 5; serial++) {
    await at.append(entry(30_000, serial));
    await at.reopen();
  }
  await at.reopen();
}

async function positions(at: FaultCase): Promise<void> {
  await at.transact(entry(100, 1), entry(200, 2), entry(300, 3));
  await at.consume(2);
  await at.transact(entry(40_000, 4), entry(40_000, 5));
  await at.consume(5);
  await at.truncateAfter(3);
  await at.transact(entry(100, 6));
  await at.reopen();
  await at.consume(4);
  await at.truncateBefore(4);
  await at.reset(3);
  await at.transact(entry(100, 7), entry(100, 8));
  await at.consume(3);
}

/** In the order of the budget. */
export const WORKLOADS: readonly Workload[] = [
  { name: "everything", start: tornDisk, run: everything },
  { name: "batches and rotations", start: emptyDisk, run: batches },
  { name: "entries taken away", start: emptyDisk, run: removals },
  { name: "a torn log", start: tornDisk, run: goOn },
  { name: "closing and opening", start: emptyDisk, run: reopenings },
  { name: "transactions, consumers", start: emptyDisk, run: positions },
];
