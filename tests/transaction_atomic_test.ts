/**
 * A transaction is in the log wholly or not at all: whenever the power fails
 * or the process dies, across rotation, whatever its size; and one that is
 * pending keeps no process alive.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { describe, it } from "node:test";
import {
  openReaderSync,
  openWal,
  openWalSync,
  SegmentFullError,
  type Transaction,
  type Wal,
  type WalOptions,
  type WalReader,
} from "../mod.ts";
import { checkEveryCrash, SimulatedStorage } from "../testing/mod.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertRejects,
  assertStrictEquals,
} from "./_assert.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import { HAS_FFI, RUNTIMES, temporaryFolder } from "./_storages.ts";
import {
  assertVerified,
  block,
  onEachTwin,
  REAL,
  SEGMENT_BYTES,
  TWINS,
} from "./_wal.ts";

const FILE = "tests/transaction_atomic_test.ts";
const CHILD = join(import.meta.dirname!, "_children", "transaction_child.ts");
const LONG = process.env.WALRUS_BUDGET === "long";
const MIB = 1024 * 1024;

/** What comes into the log by one call: this many entries of these bytes. */
const GROUPS: readonly { entryCount: number; bytes: number; tx: boolean }[] = [
  { entryCount: 1, bytes: 10, tx: false },
  { entryCount: 3, bytes: 10_000, tx: true },
  { entryCount: 1, bytes: 10, tx: true },
  // Does not fit any more: in the next segment.
  { entryCount: 4, bytes: 9_000, tx: true },
  { entryCount: 2, bytes: 10, tx: false },
  // Larger than a segment.
  { entryCount: 5, bytes: 30_000, tx: true },
  { entryCount: 70, bytes: 10, tx: true },
];

/** The number of entries after each call. */
const ENDS: readonly number[] = GROUPS.map((_, i) =>
  GROUPS.slice(0, i + 1).reduce((sum, { entryCount }) => sum + entryCount, 0)
);

/** The entries of one call, staged in a transaction. */
function fill(tx: Transaction, nth: number): void {
  const { entryCount, bytes } = GROUPS[nth]!;
  for (let i = 0; i < entryCount; i++) tx.add(block(bytes, nth + 1));
}

/** Checks that the log holds whole calls only; gives how many entries. */
function checkGroups(wal: WalReader): number {
  const { length } = wal;
  assert(length === 0 || ENDS.includes(length), `${length} entries`);
  let index = 1;
  for (const [nth, { entryCount, bytes, tx }] of GROUPS.entries()) {
    if (index > length) break;
    const ids = new Set<string | undefined>();
    for (let i = 0; i < entryCount; i++) {
      const entry = wal.get(index++);
      assertEquals(entry.data, block(bytes, nth + 1), `entry ${index - 1}`);
      ids.add(entry.transactionId);
    }
    assertEquals(ids.size, 1);
    assertEquals(!ids.has(undefined), tx);
  }
  return length;
}

/** One by one, and all at once; Bun and Node repeat the second. */
const ORDERS = "Deno" in globalThis ? [false, true] : [true];

describe("a transaction, whenever it crashes", () => {
  for (const mapped of [true, false]) {
    for (const twin of TWINS) {
      for (const atOnce of ORDERS) {
        const how = atOnce ? "all at once" : "one by one";
        const kind = mapped ? "mapped" : "written";
        it(`whole or absent [${kind}, ${twin.name}, ${how}]`, {
          timeout: 600_000,
        }, async () => {
          const seed = seedOf();
          const options = (storage: SimulatedStorage): WalOptions => ({
            storage,
            segmentBytes: SEGMENT_BYTES,
          });
          let acknowledged = 0;
          const tally = await checkEveryCrash({
            seed,
            disk: { mapped },
            powerCuts: budgetOf({ smoke: 1, long: 20 }),
            async workload(storage): Promise<void> {
              const wal = openWalSync("log", options(storage));
              const pending: Promise<unknown>[] = [];
              for (const [nth, { tx, entryCount }] of GROUPS.entries()) {
                const data = Array(entryCount).fill(
                  block(GROUPS[nth]!.bytes, nth + 1),
                );
                const one = wal.beginTransaction();
                if (tx) fill(one, nth);
                const written = tx
                  ? twin.commit(one)
                  : twin.appendBatch(wal, data);
                const done = written.then(() => {
                  acknowledged = Math.max(acknowledged, ENDS[nth]!);
                });
                if (atOnce) pending.push(done);
                else await done;
              }
              // Staged to the end, and never seen by anybody.
              const left = wal.beginTransaction();
              left.add("pending");
              await Promise.all(pending);
              await twin.close(wal);
            },
            promised: () => acknowledged,
            verify(storage, promised): void {
              const wal = openWalSync("log", options(storage));
              assertGreaterOrEqual(checkGroups(wal), promised);
              wal.closeSync();
              assertVerified({ storage, path: "log" });
            },
          });
          console.log(
            `seed ${tally.seed}: ${tally.crashes} crashes at ` +
              `${tally.calls} calls; ${replay(FILE)}`,
          );
          assertGreater(tally.crashes, 100);
          assertEquals(acknowledged, ENDS.at(-1));
        });
      }
    }
  }

  for (const mapped of [true, false]) {
    const kind = mapped ? "mapped" : "written";
    it(`a reader that opens at any call sees whole ones only [${kind}]`, async () => {
      const storage = new SimulatedStorage({
        seed: seedOf(),
        mapped,
        autoSettle: true,
      });
      const wal = openWalSync("log", { storage, segmentBytes: SEGMENT_BYTES });
      let looks = 0;
      let most = 0;
      storage.onCall(() => {
        using reader = openReaderSync("log", { storage: storage.fork() });
        const length = checkGroups(reader);
        assertGreaterOrEqual(length, most, "an entry went away");
        most = length;
        looks++;
      });
      for (const [nth, { tx, entryCount, bytes }] of GROUPS.entries()) {
        const one = wal.beginTransaction();
        if (tx) fill(one, nth);
        const data = Array(entryCount).fill(block(bytes, nth + 1));
        if (tx) await one.commit();
        else await wal.appendBatch(data);
      }
      await wal.close();
      storage.onCall(undefined);
      assertGreater(looks, 20);
      assertEquals(most, ENDS.at(-1));
    });
  }

  for (const kind of ["mapped", "files"] as const) {
    const skip = kind === "mapped" && !HAS_FFI ? "needs FFI" : false;
    it(`whole or absent after kill -9 [${kind}]`, {
      skip,
      timeout: 60_000,
    }, async () => {
      for (let round = 1; round <= 2; round++) {
        using folder = temporaryFolder();
        const path = join(folder.path, "log");
        const said = await killAfter(kind, path, round * 3);
        for (const one of REAL) {
          using wal = openWalSync(path, { storage: one.make() });
          assertEquals(wal.lastIndex % 64, 0, `round ${round}`);
          assertGreaterOrEqual(wal.lastIndex, said * 64);
          assertEquals((wal.firstIndex - 1) % 64, 0);
          for (const entry of wal) {
            const nth = Math.ceil(entry.index / 64) % 256;
            assertEquals(entry.data.length, 128 * 1024);
            assertEquals([entry.data[0], entry.data.at(-1)], [nth, nth]);
          }
        }
      }
    });
  }
});

/** Has a child commit, and kills it; gives what was acknowledged. */
async function killAfter(
  kind: string,
  path: string,
  count: number,
): Promise<number> {
  const runtime = RUNTIMES.find(({ path }) => path === process.execPath) ??
    RUNTIMES[0]!;
  const child = spawn(
    runtime.path,
    [...runtime.args, CHILD, "commit", kind, path],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const reader = createInterface({ input: child.stdout! });
  const read = new Promise((resolve) => reader.once("close", resolve));
  const gone = new Promise((resolve) => child.once("exit", resolve));
  let last = 0;
  reader.on("line", (line) => {
    last = Number(line.split(" ")[1]);
    // Not at once: a commit must be under way.
    if (last === count) setTimeout(() => child.kill("SIGKILL"), last % 5);
  });
  await Promise.all([read, gone]);
  assertGreaterOrEqual(last, count);
  return last;
}

describe("a transaction of any size", () => {
  onEachTwin("100 MiB", async (place, twin) => {
    const bytes = 128 * 1024;
    const wal = await twin.open(place, { sync: "never" });
    await twin.append(wal, "before");
    const tx = wal.beginTransaction();
    const data = new Uint8Array(bytes);
    for (let i = 0; i < 800; i++) {
      data.fill(i);
      tx.add(data);
    }
    assertEquals((await twin.commit(tx)).at(-1), 801);
    assertEquals(await twin.append(wal, "after"), 802);
    const check = (log: Wal) => {
      assertEquals(log.length, 802);
      for (const index of [2, 3, 257, 400, 801]) {
        const entry = log.get(index);
        assertEquals(entry.data, block(bytes, index - 2));
        assertEquals(entry.transactionId, tx.id);
      }
      assertEquals(log.get(802).text(), "after");
    };
    check(wal);
    await twin.close(wal);
    const again = await twin.open(place);
    check(again);
    await twin.truncateAfter(again, 1);
    await twin.close(again);
  }, REAL);

  const skip = LONG ? false : "only with WALRUS_BUDGET=long";
  for (const one of REAL) {
    it(`1 GiB, and one byte more than a segment holds [${one.kind}]`, {
      skip,
      timeout: 300_000,
    }, async () => {
      using folder = temporaryFolder();
      const path = join(folder.path, "log");
      const options: WalOptions = {
        storage: one.make(),
        sync: "never",
        maxTransactionEntries: 10_000,
      };
      const wal = await openWal(path, options);
      const tx = wal.beginTransaction({ timeoutMs: 10_000_000 });
      const data = new Uint8Array(8 * MIB);
      for (let i = 0; i < 128; i++) tx.add(data.fill(i));
      const error = await assertRejects(() => tx.commit(), SegmentFullError);
      assertStrictEquals(error.code, "SEGMENT_FULL");
      assertGreater(error.bytes, error.bytesMax);
      assertEquals([tx.state, tx.size, wal.length], ["pending", 128, 0]);
      assertEquals(await wal.append("between"), 1);
      await assertRejects(() => tx.commit(), SegmentFullError);
      tx.rollback();
      // The most that one segment of 1 GiB holds, to the last 8 bytes.
      const frame = 56;
      const free = error.bytesMax % (8 * MIB + frame);
      const most = wal.beginTransaction({ timeoutMs: 10_000_000 });
      const count = Math.floor(error.bytesMax / (8 * MIB + frame));
      for (let i = 0; i < count; i++) most.add(data.fill(i));
      const rest = Math.floor((free - frame) / 8) * 8;
      most.add(new Uint8Array(rest));
      assertEquals((await most.commit()).at(-1), count + 2);
      await wal.close();
      using again = openWalSync(path, options);
      assertEquals(again.length, count + 2);
      for (const entry of again.entries({ from: 2, to: count + 1 })) {
        const nth = entry.index - 2;
        assertEquals([entry.data[0], entry.data.at(-1)], [nth, nth]);
        assertEquals(entry.transactionId, most.id);
      }
    });
  }
});

describe("a pending transaction", () => {
  for (const name of ["deno", "bun", "node"] as const) {
    const runtime = RUNTIMES.find((one) => one.name === name);
    const skip = runtime === undefined
      ? `no WALRUS_${name.toUpperCase()}`
      : false;
    for (const kind of ["mapped", "files", "memory"] as const) {
      it(`lets ${name} end [${kind}]`, { skip, timeout: 60_000 }, async () => {
        using folder = temporaryFolder();
        const path = join(folder.path, "log");
        const child = spawn(
          runtime!.path,
          [...runtime!.args, CHILD, "idle", kind, path],
          { stdio: ["ignore", "pipe", "inherit"] },
        );
        const late = setTimeout(() => child.kill("SIGKILL"), 30_000);
        let output = "";
        child.stdout!.on("data", (piece) => output += piece);
        const code = await new Promise((resolve) =>
          child.once("close", resolve)
        );
        clearTimeout(late);
        assertEquals([code, output.trim()], [0, "pending 2 of 3"]);
        if (kind === "memory") return;
        using wal = openWalSync(path);
        assertEquals(Array.from(wal, (entry) => entry.text()), ["one"]);
      });
    }
  }
});
