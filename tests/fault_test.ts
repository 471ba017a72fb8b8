/**
 * the Nth call of every kind fails, N = 1, 2, … until a workload passes
 * untouched. Whatever fails: a typed error, nothing acknowledged is lost, and
 * the same disk opens again.
 *
 * WALRUS_FAULT_CODES names the errors to inject, separated by commas.
 *
 * @module
 */

import { test } from "node:test";
import process from "node:process";
import { openWalSync, type Wal } from "../mod.ts";
import { StorageError, WalError } from "../src/errors.ts";
import { assert, assertEquals } from "./_assert.ts";
import {
  type Contents,
  explain,
  extend,
  findVersion,
  type Found,
  History,
  NOTHING,
  shorten,
  type Version,
  type Written,
} from "./_crash_history.ts";
import { LOG, open, pump, readAll } from "./_crash_verdict.ts";
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
const CODES = (process.env.WALRUS_FAULT_CODES ?? "EIO,ENOSPC,EMFILE")
  .split(",");
/** No workload calls anything more often. */
const CALLS_MAX = 400;

interface Case {
  readonly storage: SimulatedStorage;
  readonly history: History;
  readonly blocking: boolean;
  wal: Wal;
}

function entry(bytes: number, serial: number): Written {
  const data = new Uint8Array(bytes).fill(serial);
  return { data, term: serial % 3, timestampNs: BigInt(serial) };
}

/** Calls, and keeps the history by what the log says has happened. */
async function change(
  at: Case,
  what: string,
  contents: Contents,
  blocking: () => unknown,
  soon: () => Promise<unknown>,
): Promise<void> {
  const { history, wal } = at;
  const before = wal.nextIndex;
  const version = history.propose(what, contents);
  let failure: unknown;
  let promise: Promise<unknown> | undefined;
  try {
    if (at.blocking) blocking();
    else promise = soon();
  } catch (error) {
    failure = error;
  }
  const grows = version.nextIndex > history.current.nextIndex;
  if (wal.nextIndex === version.nextIndex) history.accept(version);
  else {
    assertEquals(wal.nextIndex, before, what);
    history.refuse(version, grows);
  }
  try {
    if (promise !== undefined) await pump(at.storage, promise);
    if (failure !== undefined) throw failure;
    assertEquals(version.state, "written", `${what} succeeded`);
    history.acknowledge(version);
  } catch (error) {
    assert(error instanceof WalError, `${what}: ${(error as Error).stack}`);
    if (wal.state === "failed") history.poisoned = true;
    const third = version.state === "written" && wal.state !== "failed";
    assert(!third, `${what} took effect, failed, and the log is open`);
  }
}

async function append(at: Case, ...entries: Written[]): Promise<void> {
  const inputs = entries as (Written & { timestampNs: bigint })[];
  const what = `append ${entries.map(({ data }) => data.length).join("+")}`;
  await change(
    at,
    what,
    extend(at.history.current, entries),
    () =>
      inputs.length === 1
        ? at.wal.appendSync(inputs[0]!)
        : at.wal.appendBatchSync(inputs),
    () =>
      inputs.length === 1
        ? at.wal.append(inputs[0]!)
        : at.wal.appendBatch(inputs),
  );
}

async function truncate(at: Case, last: number): Promise<void> {
  if (last === at.history.current.nextIndex - 1) return;
  const kept = shorten(at.history.current, last);
  await change(
    at,
    `truncateAfter ${last}`,
    kept,
    () => at.wal.truncateAfterSync(last),
    () => at.wal.truncateAfter(last),
  );
}

async function rotate(at: Case): Promise<void> {
  try {
    if (at.blocking) at.wal.rotateSync();
    else await pump(at.storage, at.wal.rotate());
  } catch (error) {
    assert(error instanceof WalError, `rotate: ${(error as Error).stack}`);
  }
}

/** Closes whatever happens; says whether it succeeded. */
async function close(at: Case): Promise<boolean> {
  const { current } = at.history;
  try {
    if (at.blocking) at.wal.closeSync();
    else await pump(at.storage, at.wal.close());
    at.history.acknowledge(current);
    return true;
  } catch (error) {
    assert(error instanceof WalError, `close: ${(error as Error).stack}`);
    return false;
  }
}

/** Opens, at the second attempt if the first one fails. */
async function openTwice(
  storage: SimulatedStorage,
  blocking: boolean,
): Promise<Wal> {
  const options = { storage, segmentBytes: 65536 };
  try {
    return await open(storage, options, blocking);
  } catch (error) {
    assert(error instanceof WalError, `open: ${(error as Error).stack}`);
    // It must have let go of the lock, and left what can be opened.
    return await open(storage, options, blocking);
  }
}

/** Reads all, at the second attempt if the fault hits the first one. */
function readTwice(wal: Wal): Found {
  try {
    return readAll(wal);
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    return readAll(wal);
  }
}

/** Everything that writes, twice over, with a reopening between. */
async function workload(at: Case): Promise<void> {
  await append(at, entry(10, 1));
  await append(at, entry(5000, 2), entry(0, 3), entry(300, 4));
  await rotate(at);
  await append(at, entry(30_000, 5), entry(30_000, 6));
  await append(at, entry(30_000, 7));
  await truncate(at, 5);
  await append(at, entry(20, 8));
  await truncate(at, 2);
  await append(at, entry(40, 9), entry(50, 10));
  const clean = await close(at);
  at.wal = await openTwice(at.storage, at.blocking);
  checkFound(at, clean);
  await append(at, entry(70_000, 11));
  await truncate(at, 0);
  await append(at, entry(1, 12));
}

/** After reopening on the same disk the history goes on from what is there. */
function checkFound(at: Case, clean: boolean): void {
  const found = readTwice(at.wal);
  const expected = at.history.expected();
  const allowed = clean || !at.history.poisoned
    ? expected.afterDeath
    : expected.afterPowerLoss;
  const version = findVersion(allowed, found);
  assert(version !== undefined, `reopened: ${explain(allowed, found)}`);
  const again = at.history.propose("reopened", version);
  at.history.accept(again);
  at.history.acknowledge(again);
  at.history.poisoned = false;
}

/** One fault, one workload, and every way in which the disk is found then. */
async function endure(
  operation: Operation | undefined,
  code: string,
  after: number,
  { blocking, mapped }: { blocking: boolean; mapped: boolean },
): Promise<boolean> {
  const storage = new SimulatedStorage({ seed: after + 1, mapped });
  let injected = 0;
  let calls = 0;
  storage.onCall((call) => {
    if (call.operation === operation && calls++ === after) injected++;
  });
  if (operation !== undefined) storage.failNext(operation, code, { after });
  const history = new History(NOTHING);
  const wal = await openTwice(storage, blocking);
  const at: Case = { storage, history, blocking, wal };
  await workload(at);
  const power = storage.image();
  const expected = history.expected();
  checkDisk(power, expected.afterPowerLoss, "after power loss");
  const clean = await close(at);
  storage.onCall(undefined);
  const now = history.expected();
  const found = clean ? now.afterDeath : now.afterPowerLoss;
  // The lock is free, and a second opening on the same disk finds it all.
  checkDisk(storage, found, clean ? "after close" : "after a failed close");
  return injected > 0;
}

function checkDisk(
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
  assert(
    findVersion(allowed, found) !== undefined,
    `${when}: ${explain(allowed, found)}`,
  );
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

for (const mapped of [true, false]) {
  for (const blocking of [true, false]) {
    const name = `${mapped ? "mapped" : "files"}, ` +
      (blocking ? "blocking" : "asynchronous");
    test(`A-4 the Nth call fails: ${name}`, async () => {
      let runs = 0;
      const failures: string[] = [];
      for (const operation of OPERATIONS) {
        for (const code of CODES) {
          for (let after = 0; after < CALLS_MAX; after++) {
            runs++;
            try {
              const mode = { blocking, mapped };
              if (!await endure(operation, code, after, mode)) break;
            } catch (error) {
              const { message, stack } = error as Error;
              const where = `${operation} ${code}, call ${after + 1}`;
              failures.push(`${where}: ${message}\n${stack}`);
            }
            assert(after < CALLS_MAX - 1, `${operation} never passes`);
          }
        }
      }
      console.log(`A-4 ${name}: ${runs} faults`);
      assert(
        failures.length === 0,
        `${failures.length} of ${runs} failed\n` +
          failures.slice(0, 5).join("\n\n"),
      );
    });
  }
}
