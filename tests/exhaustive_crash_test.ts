/**
 * every short workload, crashed at every call of the storage, with every
 * subset of what no sync had covered, and again in the recovery.
 *
 * WALRUS_BUDGET is how many operations a workload has, WALRUS_SHARD a part of
 * the workloads; WALRUS_A2 names one, or one crash of it, as a failure does.
 *
 * @module
 */

import { test } from "node:test";
import process from "node:process";
import { budgetOf, replay, seedOf, shardOf } from "./_budget.ts";
import { Judge, type Only, Violation } from "./_exhaustive_judge.ts";
import {
  Base,
  Life,
  OPERATIONS,
  type Variant,
  WAYS,
} from "./_exhaustive_workload.ts";

const FILE = "tests/exhaustive_crash_test.ts";
const LENGTH = budgetOf({ smoke: 2, long: 3 });
const SEED = seedOf();
/** Crashes within one another: in a recovery, and in the recovery of that. */
const DEPTH = LENGTH > 2 ? 2 : 1;
const JUDGE = { seed: SEED, depth: DEPTH, fine: LENGTH > 2 };
/** The core is the same everywhere: one runtime does the whole, others that. */
const EVERY = "Deno" in globalThis || LENGTH > 2 ? 1 : 12;

/** One workload, run in one way. */
interface Run {
  readonly variant: Variant;
  readonly operations: readonly string[];
}

const BASES = ["new", "filled"] as const;
const STORAGES = ["mapped", "files"] as const;
const SYNCS = ["always", "never"] as const;
/** When no append waits for a sync, few ways of waiting differ. */
const NEVER_WAYS: readonly string[] = LENGTH > 2
  ? WAYS
  : ["blocking", "overlapping"];

function variants(): Variant[] {
  return BASES.flatMap((base) =>
    STORAGES.flatMap((storage) =>
      SYNCS.flatMap((sync) =>
        WAYS.filter((way) => sync === "always" || NEVER_WAYS.includes(way))
          .map((way) => ({ base, storage, way, sync }))
      )
    )
  );
}

/** All workloads of up to so many operations, the shortest first. */
function workloadsOf(length: number): string[][] {
  const found: string[][] = [[]];
  for (const before of found) {
    if (before.length === length) break;
    for (const name of Object.keys(OPERATIONS)) found.push([...before, name]);
  }
  return found;
}

/** On an empty disk workloads are shorter by one: opening makes the log. */
function runsOf(workloads: readonly string[][]): Run[] {
  return workloads.flatMap((operations) =>
    variants().map((variant) => ({ variant, operations }))
  ).filter(({ variant, operations }) =>
    variant.base === "filled" || operations.length < LENGTH
  );
}

function nameOf({ variant, operations }: Run): string {
  const { base, storage, way, sync } = variant;
  return [base, storage, way, sync, operations.join("+")].join("/");
}

function readRun(name: string): Run {
  const [base, storage, way, sync, operations] = name.split("/") as [
    Variant["base"],
    Variant["storage"],
    Variant["way"],
    Variant["sync"],
    string,
  ];
  const run = {
    variant: { base, storage, way, sync },
    operations: operations === "" ? [] : operations.split("+"),
  };
  const known =
    variants().some((variant) => nameOf({ ...run, variant }) === name) &&
    run.operations.every((operation) => operation in OPERATIONS);
  if (!known) throw new RangeError(`WALRUS_A2 is "${name}", no workload`);
  return run;
}

async function execute(
  run: Run,
  bases: Record<Variant["base"], Base>,
  judge: Judge,
  only?: Only,
): Promise<void> {
  const { variant, operations } = run;
  try {
    const base = bases[variant.base];
    await new Life(variant, base, judge, only).run(operations);
  } catch (error) {
    const at = error instanceof Violation && error.at !== undefined
      ? `@${error.at}`
      : "";
    const name = `WALRUS_A2=${nameOf(run)}${at}`;
    const { message, stack } = error as Error;
    throw new Error(
      `${nameOf(run)}: ${error instanceof Violation ? message : stack}\n` +
        replay(FILE, 1, `WALRUS_BUDGET=${LENGTH} ${name}`),
      { cause: error },
    );
  }
}

async function makeBases(): Promise<Record<Variant["base"], Base>> {
  return { new: Base.empty(SEED), filled: await Base.filled(SEED) };
}

async function executeOne(asked: string): Promise<void> {
  const [name, place] = asked.split("@") as [string, string?];
  const [, point, at] = /^(\d+)\.(.+)$/.exec(place ?? "") ?? [];
  const judge = new Judge(JUDGE);
  const only = at === undefined ? undefined : { point: Number(point), at };
  await execute(readRun(name), await makeBases(), judge, only);
  console.log(`A-2 ${asked}: no violation`);
}

async function executeAll(): Promise<void> {
  const startMs = Date.now();
  const { nth, count } = shardOf();
  const all = workloadsOf(LENGTH);
  const runs = runsOf(all.filter((_, at) => at % EVERY === 0))
    .filter((_, at) => at % count === nth);
  const judge = new Judge(JUDGE);
  const bases = await makeBases();
  let done = 0;
  for (const run of runs) {
    await execute(run, bases, judge);
    if (++done % 2000 === 0) console.log(`${done} of ${runs.length} runs`);
  }
  const { counts, distinct, kinds } = judge;
  const seconds = ((Date.now() - startMs) / 1000).toFixed(1);
  const part = (EVERY > 1 ? `, every ${EVERY}th` : "") +
    (count > 1 ? `, part ${nth + 1} of ${count}` : "");
  console.log(
    `A-2 depth ${LENGTH}, seed ${SEED}: ${all.length} workloads${part}, ` +
      `${runs.length} runs, ${counts.points} crash points, ` +
      `${counts.images} images, ${distinct} distinct, ` +
      `${counts.opened} judged, 0 violations in ${seconds} s\n` +
      `  ${kinds} kinds of recoveries crashed inside, ${DEPTH} deep; sampled: ` +
      `${counts.widePages} instants with more than 8 pages, ` +
      `${counts.wideNames} with more than 6 names`,
  );
}

test(`A-2 every workload of ${LENGTH} operations survives every crash`, {
  timeout: 86_400_000,
}, async () => {
  const strays: unknown[] = [];
  const stray = (error: unknown) => void strays.push(error);
  process.on("uncaughtException", stray);
  const asked = process.env.WALRUS_A2;
  if (asked === undefined) await executeAll();
  else await executeOne(asked);
  process.off("uncaughtException", stray);
  if (strays.length > 0) throw strays[0];
});
