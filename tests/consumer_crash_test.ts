/**
 * Consumers on a disk that crashes at any call: what was acknowledged is never
 * lost, and no position names an entry that was not given, whichever of a
 * position and a cut reached the disk.
 *
 * The budget counts crashes. WALRUS_CONSUMER_RUN replays one run of a seed.
 *
 * @module
 */

import { test } from "node:test";
import process from "node:process";
import { openWalSync, StorageError, type Wal, WalFailedError } from "../mod.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
} from "./_assert.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import {
  type Counts,
  judge,
  Life,
  LOG,
  type Operation,
  optionsOf,
  type Run,
} from "./_consumer_life.ts";
import { takeFiles } from "./_log_bytes.ts";
import { type PortCall, Random, SimulatedStorage } from "../testing/mod.ts";

const CRASHES = budgetOf({
  smoke: "Deno" in globalThis ? 2000 : 600,
  long: 300_000,
});
const SEED = seedOf();
/** So often is each script played. */
const TURNS = Math.ceil(CRASHES / 2000);
const ONLY = process.env.WALRUS_CONSUMER_RUN;
const FILE = "tests/consumer_crash_test.ts";
/** Chance that a call of a disk is looked at, and one while it is opened. */
const SHARE = 0.15;
const DEEP = 0.02;

/** Short ways through the code: each is crashed at every call. */
const SCRIPTS: readonly string[] = [
  "open",
  "open open",
  "open ack",
  "open turn ack",
  "open ack ack",
  "open seek",
  "open ack seek ack",
  "open seek seek ack",
  "open append ack",
  "open append ack ack flushSync",
  "open append ack flushSync ack flush",
  "open remove",
  "open ack remove",
  "open ack remove open ack",
  "open ack remove truncateAfter",
  "open release open ack",
  "open ack truncateAfter",
  "open ack turn truncateAfter",
  "open ack truncateAfter ack",
  "open ack truncateAfter append ack",
  "open ack truncateAfter append rotate append truncateBefore",
  "open ack truncateAfter truncateAfter ack",
  "open ack append truncateAfter append truncateAfter ack",
  "open truncateAfter ack",
  "truncateAfter open ack",
  "open seek truncateAfter",
  "open truncateAfter seek",
  "open ack reset",
  "open ack reset append ack",
  "open reset ack append ack",
  "reset open append ack",
  "open ack reset truncateAfter",
  "open ack truncateAfter reset append ack",
  "open ack truncateBefore",
  "open truncateBefore ack",
  "open ack truncateBefore truncateAfter",
  "open ack truncateAfter truncateBefore append ack",
  "open idle ack idle ack",
  "open ack idle truncateAfter idle ack",
  "open rotate append ack rotate",
];

/** A disk for a run. */
function newDisk(seed: number, random: Random): SimulatedStorage {
  return new SimulatedStorage({
    seed,
    mapped: random.chance(0.5),
    autoSettle: true,
    garbage: random.pick(["none", "unsynced-sectors"]),
  });
}

/** Says how to replay what went wrong. */
function explain(error: unknown, run: Run, one: string): Error {
  const history = run.history.join("\n  ");
  return new Error(
    `${(error as Error).message}\n  ${history}\n${replay(FILE, 1, one)}`,
    { cause: error },
  );
}

function judgeAll(life: Life, { random }: Run, counts: Counts): void {
  for (const image of life.images.splice(0)) {
    judge(image, random, counts, DEEP);
  }
}

/** A log that has entries, and maybe a consumer that has moved. */
async function prepare(run: Run, seed: number): Promise<SimulatedStorage> {
  const { random } = run;
  const disk = newDisk(seed, random);
  const life = new Life({ ...run, share: 0, faulty: false }, disk);
  await life.operate("append");
  if (random.chance(0.5)) await life.operate("rotate");
  for (let left = 4; left > 0; left--) await life.operate("append");
  if (random.chance(0.6)) {
    await life.operate("open", "a");
    await life.settle();
    await life.operate("ack", "a");
  }
  return await life.end();
}

/** Plays a script; a call of it may be refused when syncs fail. */
async function play(life: Life, script: string, run: Run): Promise<void> {
  run.history.push(`-- the script "${script}"`);
  for (const operation of script.split(" ") as Operation[]) {
    try {
      await life.operate(operation, "a");
    } catch (error) {
      const refused = error instanceof WalFailedError;
      if (!refused || run.faulty !== true) throw error;
    }
    if (operation !== "open") continue;
    await life.operate("turn");
    // An open one must be there before anything can be asked of it.
    if (run.random.chance(0.8)) await life.settle();
  }
}

test("scripts of a few calls, crashed at every call of the disk", {
  timeout: 86_400_000,
}, async () => {
  const counts = { crashes: 0, standing: 0, moved: 0 };
  for (const [nth, script] of SCRIPTS.entries()) {
    for (let turn = 1; turn <= TURNS; turn++) {
      const random = new Random(SEED, nth + 1, turn);
      const run = { random, history: [], share: 1 };
      try {
        const seed = new Random(SEED, nth + 1, turn + TURNS).uint32();
        const life = new Life(run, await prepare(run, seed));
        await play(life, script, run);
        await life.end();
        judgeAll(life, run, counts);
      } catch (error) {
        throw explain(error, run, "");
      }
    }
  }
  console.log(
    `consumers, scripts: seed ${SEED}, ${SCRIPTS.length * TURNS} runs, ` +
      `${counts.crashes} crashes, ${counts.standing} positions found`,
  );
  assertGreater(counts.moved, counts.crashes / 4);
});

/** Runs one workload with all its crashes. */
async function simulate(
  run: Run,
  number: number,
  counts: Counts,
): Promise<void> {
  const { random } = run;
  let disk = newDisk(new Random(SEED, number, 7).uint32(), random);
  const lives = random.between(1, 3);
  for (let nth = 0; nth < lives; nth++) {
    run.history.push(`-- life ${nth + 1}`);
    const life = new Life(run, disk);
    for (let left = random.pick([8, 20, 40]); left > 0; left--) {
      await life.operate();
      judgeAll(life, run, counts);
    }
    disk = await life.end();
    judgeAll(life, run, counts);
  }
}

/** What fails while a consumer is used, by operation and end of its path. */
const FAULTS = [
  ["syncSoon", "consumers/a"],
  ["syncSoon", ".wal"],
  ["syncSoon", ".wal.tmp"],
  ["directorySync", "/consumers"],
  ["directorySync", "wal"],
  ["write", "consumers/a"],
] as const;

test("a sync that fails fails the log, and nothing is lost", {
  timeout: 86_400_000,
}, async () => {
  const counts = { crashes: 0, standing: 0, moved: 0 };
  let faults = 0;
  for (const [nth, script] of SCRIPTS.entries()) {
    for (const [kind, [operation, name]] of FAULTS.entries()) {
      const random = new Random(SEED, nth + 1, 1000 + kind);
      const after = random.pick([0, 0, 1, 2]);
      let met = 0;
      const watch = (call: PortCall) => {
        if (call.operation === operation && call.name.endsWith(name)) met++;
      };
      const history: string[] = [];
      const run = { random, history, share: 0.1, faulty: true, watch };
      const seed = new Random(SEED, nth + 1, 2000 + kind).uint32();
      try {
        const disk = await prepare({ ...run, watch: () => {} }, seed);
        const life = new Life(run, disk);
        disk.failNext(operation, "EIO", { name, after });
        await play(life, script, run);
        await life.settle();
        if (met > after) {
          faults++;
          assert(
            life.failed,
            `${operation} ${name} failed, and the log did not`,
          );
        }
        await life.end();
        judgeAll(life, run, counts);
      } catch (error) {
        throw explain(error, run, "");
      }
    }
  }
  assertGreater(faults, SCRIPTS.length);
  console.log(
    `consumers, failed syncs: seed ${SEED}, ${faults} faults, ` +
      `${counts.crashes} crashes`,
  );
});

for (const mapped of [true, false]) {
  const kind = mapped ? "mapped" : "files";
  test(`a full disk leaves nothing of a new consumer [${kind}]`, async () => {
    const outcomes = new Set<string>();
    for (let pages = 1; pages < 40; pages++) {
      const capacityBytes = 4096 * pages;
      const options = { seed: SEED, mapped, autoSettle: true, capacityBytes };
      const disk = new SimulatedStorage(options);
      let wal: Wal;
      try {
        wal = openWalSync(LOG, optionsOf(disk));
        wal.appendSync("one");
      } catch (error) {
        assertInstanceOf(error, StorageError);
        continue;
      }
      const names = namesOf(disk);
      try {
        const consumer = await wal.consumer("worker");
        // Moving it needs no more space.
        for (let turn = 0; turn < 4; turn++) await consumer.seek(turn % 2);
        assertEquals(consumer.position, 1);
        outcomes.add("made");
      } catch (error) {
        assertInstanceOf(error, StorageError, `${pages} pages: ${error}`);
        assertEquals(error.systemCode, "ENOSPC");
        assertEquals(wal.consumers(), []);
        assertEquals(namesOf(disk), names, `${pages} pages`);
        outcomes.add("refused");
      }
      assertEquals([wal.state, wal.lastIndex], ["open", 1]);
    }
    assertEquals([...outcomes], ["refused", "made"]);
  });
}

/** Every file of the log; folders that are empty do not count. */
function namesOf(disk: SimulatedStorage): string[] {
  return [...takeFiles(disk, LOG).keys()];
}

test("a position is never lost and never names what was not given", {
  timeout: 86_400_000,
}, async () => {
  const counts = { crashes: 0, standing: 0, moved: 0 };
  let runs = 0;
  for (let number = Number(ONLY ?? 1); counts.crashes < CRASHES; number++) {
    const run = { random: new Random(SEED, number), history: [], share: SHARE };
    try {
      await simulate(run, number, counts);
    } catch (error) {
      throw explain(error, run, `WALRUS_CONSUMER_RUN=${number}`);
    }
    runs++;
    if (ONLY !== undefined) break;
  }
  console.log(
    `consumers: seed ${SEED}, ${counts.crashes} crashes of ${runs} runs, ` +
      `${counts.standing} positions found, ${counts.moved} of them above 0`,
  );
  if (ONLY === undefined) assertGreater(counts.moved, counts.crashes / 4);
});
