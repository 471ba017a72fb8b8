/**
 * random workloads on a disk that crashes.
 *
 * WALRUS_BUDGET sets how many crash states are judged, WALRUS_SEED the seed,
 * WALRUS_RUN replays one run of it; WALRUS_KEEP_GOING=1 lists failures
 * instead of ending at the first.
 *
 * @module
 */

import { test } from "node:test";
import process from "node:process";
import { budgetOf, seedOf } from "./_budget.ts";
import { count, type Counts, type Run, Verdict } from "./_crash_verdict.ts";
import { simulate } from "./_crash_workload.ts";
import { Random } from "../testing/mod.ts";

const { env } = process;
/** The states of a change; the core is the same everywhere, so one is whole. */
const SMOKE_STATES = "Deno" in globalThis ? 20_000 : 2_000;
const STATES = budgetOf({ smoke: SMOKE_STATES, long: 1_000_000 });
const SEED = seedOf();
const ONLY = env.WALRUS_RUN;
const KEEP_GOING = env.WALRUS_KEEP_GOING === "1";
const FILE = "tests/crash_simulation_test.ts";

function newRun(number: number, counts: Counts, verbose: boolean): Run {
  const random = new Random(SEED, number);
  return {
    random,
    counts,
    hostile: random.chance(0.12),
    format: random.chance(0.15) ? "json" : "binary",
    history: [],
    verbose,
  };
}

function report(error: unknown, number: number, run: Run): string {
  const { message, detail = "", stack } = error as Verdict;
  const replay = `WALRUS_SEED=${SEED} WALRUS_RUN=${number}`;
  return `${message}\n` +
    `replay: ${replay} deno test -A --no-check ${FILE}\n` +
    `operations [version before]:\n  ${run.history.join("\n  ")}\n` +
    `${error instanceof Verdict ? detail : stack}`;
}

/** Runs once more, now with every disk described. */
async function replay(number: number): Promise<string | undefined> {
  const run = newRun(number, newCounts(), true);
  try {
    await simulate(run, { seed: SEED, number });
    return undefined;
  } catch (error) {
    return report(error, number, run);
  }
}

function newCounts(): Counts {
  const [outcomes, operations] = [new Map(), new Map()];
  return { states: 0, entries: 0, outcomes, operations };
}

function show(map: Map<string, number>): string {
  return [...map].sort().map(([name, count]) => `${name} ${count}`).join(", ");
}

test("A-1 acknowledged ⊆ recovered ⊆ written after any crash", {
  timeout: 86_400_000,
}, async () => {
  const counts = newCounts();
  const failures = new Map<string, string>();
  const strays: unknown[] = [];
  const stray = (error: unknown) => void strays.push(error);
  process.on("uncaughtException", stray);
  const startMs = Date.now();
  let runs = 0;
  for (let number = Number(ONLY ?? 1);; number++) {
    runs++;
    try {
      await simulate(newRun(number, counts, false), { seed: SEED, number });
    } catch (error) {
      const text = await replay(number) ?? `not again: ${error}`;
      if (!KEEP_GOING) throw new Error(text, { cause: error });
      count(counts.outcomes, "failed");
      const kind = text.slice(0, text.indexOf("\n")).replaceAll(/\d+/g, "#");
      const known = failures.get(kind);
      if (known === undefined || text.length < known.length) {
        failures.set(kind, text);
      }
    }
    if (ONLY !== undefined || counts.states >= STATES) break;
  }
  process.off("uncaughtException", stray);
  const seconds = ((Date.now() - startMs) / 1000).toFixed(1);
  console.log(
    `A-1 seed ${SEED}: ${counts.states} states of ${runs} runs in ` +
      `${seconds} s, ${counts.entries} entries compared\n` +
      `  outcomes: ${show(counts.outcomes)}\n` +
      `  operations: ${show(counts.operations)}`,
  );
  for (const [kind, text] of failures) {
    console.log(`\n##### ${kind}\n${text}`);
  }
  if (strays.length > 0) throw strays[0];
  if (failures.size > 0) throw new Error(`${failures.size} kinds of failure`);
});
