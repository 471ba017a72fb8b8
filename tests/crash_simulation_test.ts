/**
 * random workloads on a disk that crashes. docs/testing.md.
 *
 * WALRUS_CRASH_STATES sets how many crash states are judged,
 * WALRUS_CRASH_SEED the seed, WALRUS_CRASH_RUN replays one run of it;
 * WALRUS_CRASH_KEEP_GOING=1 lists failures instead of ending at the first.
 *
 * @module
 */

import { test } from "node:test";
import process from "node:process";
import { type Counts, type Run, Verdict } from "./_crash_verdict.ts";
import { simulate } from "./_crash_workload.ts";
import { Random } from "./_random.ts";

const { env } = process;
const STATES = Number(env.WALRUS_CRASH_STATES ?? 20_000);
const SEED = Number(env.WALRUS_CRASH_SEED ?? 1);
const ONLY = env.WALRUS_CRASH_RUN;
const KEEP_GOING = env.WALRUS_CRASH_KEEP_GOING === "1";
const FILE = "tests/crash_simulation_test.ts";

function newRun(number: number, counts: Counts): Run {
  const random = new Random(SEED, number);
  return {
    random,
    counts,
    hostile: random.chance(0.12),
    format: random.chance(0.15) ? "json" : "binary",
    history: [],
  };
}

function report(error: unknown, number: number, run: Run): string {
  const { message, detail = "", stack } = error as Verdict;
  const replay = `WALRUS_CRASH_SEED=${SEED} WALRUS_CRASH_RUN=${number}`;
  return `${message}\n` +
    `replay: ${replay} deno test -A --no-check ${FILE}\n` +
    `operations [version before]:\n  ${run.history.join("\n  ")}\n` +
    `${error instanceof Verdict ? detail : stack}`;
}

function show(map: Map<string, number>): string {
  return [...map].sort().map(([name, count]) => `${name} ${count}`).join(", ");
}

test("A-1 acknowledged ⊆ recovered ⊆ written after any crash", async () => {
  const counts: Counts = {
    states: 0,
    entries: 0,
    outcomes: new Map(),
    operations: new Map(),
  };
  const failures = new Map<string, string>();
  const startMs = Date.now();
  let runs = 0;
  for (let number = Number(ONLY ?? 1);; number++) {
    const run = newRun(number, counts);
    runs++;
    try {
      await simulate(run, { seed: SEED, number });
    } catch (error) {
      const text = report(error, number, run);
      if (!KEEP_GOING) throw new Error(text, { cause: error });
      const kind = (error as Error).message.split("\n")[0]!
        .replaceAll(/\d+/g, "#").slice(0, 160);
      if (!failures.has(kind)) failures.set(kind, text);
      else if (text.length < failures.get(kind)!.length) failures.set(kind, text);
      failures.set(kind, failures.get(kind)!);
      counts.outcomes.set(
        "failed",
        (counts.outcomes.get("failed") ?? 0) + 1,
      );
    }
    if (ONLY !== undefined || counts.states >= STATES) break;
  }
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
  if (failures.size > 0) throw new Error(`${failures.size} kinds of failure`);
});
