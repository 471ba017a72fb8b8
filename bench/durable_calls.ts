/**
 * What durable appends cost, as one line of JSON: the blocking call beside
 * write and sync in the same process, and calls that share a sync. Measures
 * take turns in each round, so that all meet the same disk. The log is past
 * its first segment.
 *
 *     node bench/durable_calls.ts --callers 1,64 --folder DIR
 *
 * @module
 */

import {
  closeSync,
  fdatasyncSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openWal, type Wal } from "../mod.ts";

const ENTRY_BYTES = 256;
const FRAME_BYTES = 296;
const FLOOR_PAGES = 256;

const { values } = parseArgs({
  options: {
    callers: { type: "string", default: "1,64" },
    rounds: { type: "string", default: "9" },
    ms: { type: "string", default: "150" },
    folder: { type: "string", default: tmpdir() },
  },
});
const budgetMs = Number(values.ms);
const data = new Uint8Array(ENTRY_BYTES).map((_, i) => i);

/** writeSync and fdatasyncSync into a file of zeros that are on the disk. */
function makeFloor(folder: string): { call: () => void; close: () => void } {
  const fd = openSync(join(folder, "floor"), "w");
  for (let i = 0; i < FLOOR_PAGES; i++) writeSync(fd, new Uint8Array(4096));
  fdatasyncSync(fd);
  const frame = new Uint8Array(FRAME_BYTES);
  let offset = 0;
  return {
    call() {
      writeSync(fd, frame, 0, FRAME_BYTES, offset);
      fdatasyncSync(fd);
      offset = (offset + FRAME_BYTES) % (4096 * (FLOOR_PAGES - 1));
    },
    close: () => closeSync(fd),
  };
}

/** The time of one blocking call, in nanoseconds. */
function blockingNs(call: () => void): number {
  const start = performance.now();
  let count = 0;
  do {
    for (let i = 0; i < 10; i++) call();
    count += 10;
  } while (performance.now() - start < budgetMs);
  return (performance.now() - start) * 1e6 / count;
}

/** The time of one entry when so many callers wait for theirs. */
async function sharedNs(wal: Wal, callers: number): Promise<number> {
  const start = performance.now();
  let count = 0;
  const caller = async () => {
    do {
      await wal.append(data);
      count++;
    } while (performance.now() - start < budgetMs);
  };
  await Promise.all(Array.from({ length: callers }, caller));
  return (performance.now() - start) * 1e6 / count;
}

/**
 * A log's first segment is made when it is opened, all others ahead: what is
 * measured is a log that has been growing.
 */
async function growPastFirst(wal: Wal): Promise<void> {
  const caller = async () => {
    while (wal.segments().length < 2) {
      for (let i = 0; i < 200; i++) await wal.append(data);
    }
  };
  await Promise.all(Array.from({ length: 64 }, caller));
}

function median(all: number[]): number {
  return Math.round(all.sort((a, b) => a - b)[all.length >> 1]!);
}

const folder = mkdtempSync(join(values.folder, "walrus-durable-"));
try {
  const wal = await openWal(join(folder, "log"));
  await growPastFirst(wal);
  const floor = makeFloor(folder);
  const sizes = values.callers.split(",").map(Number);
  const floors: number[] = [];
  const blocking: number[] = [];
  const shared = new Map(sizes.map((size) => [size, [] as number[]]));
  // One round more: the first is not counted.
  for (let round = 0; round <= Number(values.rounds); round++) {
    const keep = (list: number[], ns: number) => round > 0 && list.push(ns);
    keep(floors, blockingNs(floor.call));
    keep(blocking, blockingNs(() => wal.appendSync(data)));
    for (const [size, all] of shared) keep(all, await sharedNs(wal, size));
  }
  floor.close();
  await wal.close();
  console.log(JSON.stringify({
    syncFloorNs: median(floors),
    appendSyncNs: median(blocking),
    callersNs: Object.fromEntries(
      [...shared].map(([size, all]) => [size, median(all)]),
    ),
  }));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
