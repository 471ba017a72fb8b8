/**
 * the Nth call of every kind fails, N = 1, 2, … until a workload passes
 * untouched. Whatever fails: a typed error, nothing acknowledged is lost, and
 * the same disk opens again. After any throw the log is as before the call,
 * or it is failed.
 *
 * The budget counts workloads. With one of them each call fails with one of
 * the errors in turn, with all of them with every error.
 *
 * @module
 */

import { test } from "node:test";
import { openWalSync, type Wal } from "../mod.ts";
import { StorageError, WalError, WalFailedError } from "../src/errors.ts";
import { assert, assertRejects, assertThrows } from "./_assert.ts";
import { budgetOf, replay, seedOf, shardOf } from "./_budget.ts";
import { explain, findVersion, type Version } from "./_crash_history.ts";
import { LOG, pump } from "./_crash_verdict.ts";
import { FaultCase, type Mode, openTwice, readTwice } from "./_fault_case.ts";
import { type Workload, WORKLOADS } from "./_fault_workloads.ts";
import { type Operation, SimulatedStorage } from "../testing/mod.ts";

const OPERATIONS: readonly Operation[] = [
  "openDirectory",
  "list",
  "create",
  "open",
  "rename",
  "remove",
  "makeFolder",
  "directorySync",
  "lock",
  "read",
  "write",
  "map",
  "sync",
  "syncSoon",
  "punchHole",
  "dropCache",
];
const CODES = ["EIO", "ENOSPC", "EMFILE"] as const;
const COUNT = budgetOf({ smoke: 1, long: WORKLOADS.length });
const SEED = seedOf();
const SHARD = shardOf();
/** No workload calls anything more often. */
const CALLS_MAX = 1000;

/** One call that fails. */
interface Fault {
  readonly operation: Operation;
  readonly code: string;
  /** So many calls of the operation pass before. */
  readonly after: number;
}

/** One fault, one workload, and every way in which the disk is found then. */
async function endure(
  workload: Workload,
  { operation, code, after }: Fault,
  mode: Mode,
): Promise<boolean> {
  const { storage, history } = workload.start(SEED + after, mode);
  let met = false;
  let calls = 0;
  storage.onCall((call) => {
    if (call.operation === operation && calls++ === after) met = true;
  });
  storage.failNext(operation, code, { after });
  const wal = await openTwice(storage, mode.blocking);
  const { blocking } = mode;
  const isMet = () => met;
  const at = new FaultCase({ storage, history, wal, blocking, isMet });
  await workload.run(at);
  const power = storage.image();
  check(at, power, history.expected().afterPowerLoss, "after power loss");
  const clean = await at.close();
  storage.onCall(undefined);
  const now = history.expected();
  const found = clean ? now.afterDeath : now.afterPowerLoss;
  // The lock is free, and a second opening on the same disk finds it all.
  check(at, storage, found, clean ? "after close" : "after a failed close");
  return met;
}

function check(
  at: FaultCase,
  storage: SimulatedStorage,
  allowed: readonly Version[],
  when: string,
): void {
  let wal: Wal;
  try {
    wal = openWalSync(LOG, { storage });
  } catch (error) {
    // The fault that was ordered may only now be met.
    if (!(error instanceof StorageError)) throw error;
    wal = openWalSync(LOG, { storage });
  }
  const found = readTwice(wal);
  const version = findVersion(allowed, found);
  assert(version !== undefined, `${when}: ${explain(allowed, found)}`);
  at.checkConsumer(wal, when);
  try {
    wal.closeSync();
  } catch (error) {
    if (!(error instanceof WalError)) throw error;
  }
  // Closed or not: the lock is free.
  storage.openDirectory(LOG, {
    create: false,
    directoryMode: 0o700,
    fileMode: 0o600,
  })!.lock().release();
}

/** Every call of an operation fails once; the faults that passed judgement. */
async function failEach(
  workload: Workload,
  operation: Operation,
  mode: Mode,
  failures: string[],
): Promise<number> {
  let runs = 0;
  for (let after = 0; after < CALLS_MAX; after++) {
    const inTurn = [CODES[(after + operation.length) % CODES.length]!];
    let met = false;
    for (const code of COUNT === 1 ? inTurn : CODES) {
      try {
        runs++;
        if (await endure(workload, { operation, code, after }, mode)) {
          met = true;
        }
      } catch (error) {
        met = true;
        const where = `${operation} ${code}, call ${after + 1}`;
        failures.push(`${where}: ${(error as Error).stack}`);
      }
    }
    if (!met) return runs;
  }
  throw new Error(`${workload.name}: ${operation} is called without end`);
}

const cases = WORKLOADS.slice(0, COUNT).flatMap((workload) =>
  [true, false].flatMap((mapped) =>
    [true, false].map((blocking) => ({ workload, mode: { mapped, blocking } }))
  )
);
// With each change Deno does all of them, the others what differs most.
const few = !("Deno" in globalThis) && COUNT === 1 && SHARD.count === 1;
const mine = cases.filter((_, nth) =>
  few ? nth % 4 === 0 : nth % SHARD.count === SHARD.nth
);

for (const { workload, mode } of mine) {
  const name = `${workload.name}, ${mode.mapped ? "mapped" : "files"}, ` +
    (mode.blocking ? "blocking" : "asynchronous");
  test(`A-4 the Nth call fails: ${name}`, { timeout: 86_400_000 }, async () => {
    let runs = 0;
    const failures: string[] = [];
    for (const operation of OPERATIONS) {
      runs += await failEach(workload, operation, mode, failures);
    }
    console.log(`A-4 ${name}: seed ${SEED}, ${runs} faults`);
    assert(
      failures.length === 0,
      `${failures.length} of ${runs} failed\n` +
        `${failures.slice(0, 5).join("\n\n")}\n` +
        replay("tests/fault_test.ts"),
    );
  });
}

test("A-4 a sync in flight fails beside a blocking one that succeeds", async () => {
  let beside = 0;
  for (let seed = SEED; seed < SEED + 20; seed++) {
    const storage = new SimulatedStorage({ seed, writeback: 0 });
    const wal = openWalSync(LOG, { storage, segmentBytes: 65536 });
    storage.failNext("syncSoon", "EIO");
    const soon = wal.append("in flight");
    while (storage.pendingSyncs === 0) await undefined;
    try {
      wal.appendSync("blocking");
      beside++;
    } catch (error) {
      // The system may have told the blocking one first.
      assert(error instanceof WalFailedError, String(error));
    }
    // Whatever the blocking one has achieved, this one is told the truth.
    await assertRejects(() => pump(storage, soon), WalFailedError);
    assertThrows(() => wal.closeSync(), WalFailedError);
  }
  assert(beside > 0, "no blocking sync succeeded");
});
