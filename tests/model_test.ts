/**
 * random operations against a plain array, on memory and on a simulated
 * disk with and without mapping.
 *
 * The budget counts operations on each log; a new log begins after every
 * 2 000. WALRUS_MODEL_ROUND plays one of these logs only.
 *
 * @module
 */

import { test } from "node:test";
import process from "node:process";
import { memoryStorage, type WalStorage } from "../mod.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import { Pair } from "./_model_pair.ts";
import { Random, SimulatedStorage } from "../testing/mod.ts";

const FILE = "tests/model_test.ts";
const OPERATIONS = budgetOf({ smoke: 2000, long: 1_000_000 });
const SEED = seedOf();
/** A log lives for so long: what goes wrong is found near its beginning. */
const ROUND_OPERATIONS = 2000;
const ONLY = process.env.WALRUS_MODEL_ROUND;
/** A simulated disk whose syncs end when the test lets them. */
function disk(mapped: boolean): SimulatedStorage {
  return new SimulatedStorage({ seed: SEED, mapped, writeback: 0 });
}

const STORAGES: readonly [string, () => WalStorage][] = [
  ["memory", memoryStorage],
  ["simulated, mapped", () => disk(true)],
  ["simulated, files", () => disk(false)],
];

/** Plays one log; the operations that it saw. */
async function play(
  make: () => WalStorage,
  format: "binary" | "json",
  round: number,
  random: Random,
  count: number,
): Promise<Pair> {
  const pair = new Pair(random, make(), format);
  let nth = 0;
  try {
    for (; nth < count; nth++) await pair.operate();
    await pair.end();
  } catch (error) {
    const { message } = error as Error;
    const again = replay(FILE, 1, `WALRUS_MODEL_ROUND=${round}`);
    throw new Error(`A-5 operation ${nth + 1}: ${message}\n${again}`, {
      cause: error,
    });
  }
  return pair;
}

for (const [nth, [name, make]] of STORAGES.entries()) {
  for (const format of ["binary", "json"] as const) {
    const title = `A-5 a log answers as an array does: ${name}, ${format}`;
    test(title, { timeout: 86_400_000 }, async () => {
      const wanted = format === "binary"
        ? OPERATIONS
        : Math.ceil(OPERATIONS / 4);
      const rounds = Math.ceil(wanted / ROUND_OPERATIONS);
      const counts = new Map<string, number>();
      let entries = 0;
      for (let round = 0; round < rounds; round++) {
        if (ONLY !== undefined && round !== Number(ONLY)) continue;
        const left = wanted - round * ROUND_OPERATIONS;
        const count = Math.min(ROUND_OPERATIONS, left);
        const stream = 10 * nth + (format === "json" ? 1 : 0);
        const random = new Random(SEED, stream, round);
        const pair = await play(make, format, round, random, count);
        for (const [operation, times] of pair.counts) {
          counts.set(operation, (counts.get(operation) ?? 0) + times);
        }
        entries += pair.model.length;
      }
      const shown = [...counts].map((one) => one.join(" ")).join(", ");
      console.log(
        `A-5 ${name}, ${format}: seed ${SEED}, ${rounds} logs, ${wanted} ` +
          `operations (${shown}), ${entries} entries at the ends`,
      );
    });
  }
}
