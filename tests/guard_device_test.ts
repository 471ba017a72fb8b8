/**
 * What a commit of a small entry brings to the disk: a page or two, and never
 * its neighbours. A page cache that keeps large pages, or a sync of more than
 * what was written, would multiply it, and no timing of a fast disk shows it.
 */
import { join } from "node:path";
import { describe, it } from "node:test";
import {
  type Durability,
  openWalSync,
  type Wal,
  type WalStorage,
} from "../mod.ts";
import { SimulatedStorage } from "../testing/mod.ts";
import {
  assertEquals,
  assertGreater,
  assertLessOrEqual,
  assertStrictEquals,
} from "./_assert.ts";
import {
  dirtiedBytes,
  evict,
  simulatedBytes,
  whyUntold,
} from "./_guard_device.ts";
import { LOG } from "./_log_bytes.ts";
import { temporaryFolder, THIS } from "./_storages.ts";
import { REAL, startWriter } from "./_wal.ts";

/** Four pages: the frame may lie on two, and an index block on others. */
const COMMIT_BYTES_MAX = 16 * 1024;
/** Each first commit is made so often; the median counts. */
const REPEATS = 5;
const COMMITS = 200;
const SEGMENT_BYTES = 4 * 1024 * 1024;
const TIMEOUT_MS = 60_000;
const DATA = new Uint8Array(256).map((_, i) => i);

type Count = (work: () => void) => number;

function open(path: string, storage: WalStorage, sync?: Durability): Wal {
  return openWalSync(path, { storage, sync, segmentBytes: SEGMENT_BYTES });
}

/** Holds figures of the same work against the limit, and tells them. */
function check(what: string, figures: number[], exact: boolean): void {
  const sorted = figures.sort((a, b) => a - b);
  const median = sorted[sorted.length >> 1]!;
  const worst = sorted.at(-1)!;
  console.log(
    `${what}: ${median} bytes in the median of ${sorted.length}, ` +
      `${worst} at most (≤ ${COMMIT_BYTES_MAX})`,
  );
  // A runtime that writes a cache of its own meanwhile is counted as well.
  assertLessOrEqual(exact ? worst : median, COMMIT_BYTES_MAX, what);
  assertGreater(median, 0, `${what}: nothing was counted`);
}

function repeat(work: () => number): number[] {
  return Array.from({ length: REPEATS }, work);
}

/** One commit and those after it, on a log that is there. */
function commits(
  what: string,
  wal: Wal,
  count: Count,
  exact: boolean,
): void {
  const commit = () => count(() => void wal.appendSync(DATA));
  check(`${what}, commit`, Array.from({ length: COMMITS }, commit), exact);
  const rotated = repeat(() => {
    wal.rotateSync();
    return commit();
  });
  check(`${what}, first commit after a rotation`, rotated, exact);
  // What is written by the megabyte may get large pages.
  const batched = repeat(() => {
    wal.appendBatchSync(Array.from({ length: 1000 }, () => DATA));
    return commit();
  });
  check(`${what}, first commit after a batch of 1000`, batched, exact);
}

for (const mapped of [true, false]) {
  const kind = mapped ? "mapped" : "files";

  describe(`guard of the device [simulated, ${kind}]`, () => {
    const newDisk = () =>
      new SimulatedStorage({ seed: 1, mapped, writeback: 0, autoSettle: true });
    const firstOn = (disk: SimulatedStorage) => {
      using wal = open(LOG, disk);
      return simulatedBytes(disk, () => void wal.appendSync(DATA));
    };

    it("a small commit writes a page or two", () => {
      const disk = newDisk();
      using wal = open(LOG, disk);
      commits(kind, wal, (work) => simulatedBytes(disk, work), true);
    });

    it("so does the first commit after an opening", () => {
      const disk = newDisk();
      check(
        `${kind}, first commit after an opening`,
        repeat(() => firstOn(disk)),
        true,
      );
    });

    it("so does the first commit after a recovery", () => {
      const firsts = repeat(() => {
        const disk = newDisk();
        const wal = open(LOG, disk, "never");
        for (let nth = 0; nth < COMMITS; nth++) wal.appendSync(DATA);
        return firstOn(disk.processDeath());
      });
      check(`${kind}, first commit after a recovery`, firsts, true);
    });
  });
}

for (const { kind, make } of REAL) {
  if (kind !== "mapped" && kind !== "files") continue;
  const skip = whyUntold();

  describe(`guard of the device [${kind}]`, { timeout: TIMEOUT_MS }, () => {
    const firstIn = (log: string, scanned: number) => {
      using wal = open(log, make());
      assertStrictEquals(wal.recovery.segmentsScanned, scanned);
      // What recovery wrote may lie on the page of the first one.
      return dirtiedBytes(() => {
        wal.appendSync(DATA);
        wal.appendSync(DATA);
      });
    };

    it("a small commit dirties a page or two", { skip }, () => {
      using folder = temporaryFolder();
      using wal = open(join(folder.path, "log"), make());
      commits(kind, wal, dirtiedBytes, false);
    });

    it("so do the first two commits after an opening", { skip }, () => {
      using folder = temporaryFolder();
      const log = join(folder.path, "log");
      open(log, make()).closeSync();
      const firsts = repeat(() => firstIn(log, 0));
      check(`${kind}, two commits after an opening`, firsts, false);
    });

    it("so do the first two commits after a recovery", {
      skip,
      timeout: TIMEOUT_MS,
    }, async () => {
      using folder = temporaryFolder();
      const log = join(folder.path, "log");
      {
        // Readahead gives large pages to who has read a megabyte.
        using wal = open(log, make());
        wal.appendBatchSync(Array.from({ length: 4000 }, () => DATA));
      }
      const firsts: number[] = [];
      for (let nth = 0; nth < 3; nth++) {
        const options = { segmentBytes: SEGMENT_BYTES, sync: "always" };
        using writer = startWriter(THIS, kind, log, options);
        await writer.ask("openSync");
        for (let nth = 0; nth < 20; nth++) await writer.ask("append");
        assertEquals(await writer.end("SIGKILL"), []);
        // The scan must not leave large pages for stores after it. A write
        // into one is counted as all of it, but only its block is dirty.
        if (kind === "mapped") evict(log);
        firsts.push(firstIn(log, 1));
      }
      check(`${kind}, two commits after a recovery`, firsts, false);
    });
  });
}
