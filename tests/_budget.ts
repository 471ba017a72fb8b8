/**
 * How much a suite of the crash programme does, and from which seed: a smoke
 * budget with each change, a long one at will.
 *
 * WALRUS_BUDGET is "smoke", "long" or a count; WALRUS_SEED a whole number;
 * WALRUS_SHARD a part of an exhaustive suite. `npm run trust` sets them.
 *
 * @module
 */

import process from "node:process";

/** How many cases, states or operations each budget has. */
export interface Budgets {
  readonly smoke: number;
  readonly long: number;
}

/** How much this run is to do. */
export function budgetOf(budgets: Budgets): number {
  const asked = process.env.WALRUS_BUDGET ?? "smoke";
  if (asked === "smoke" || asked === "long") return budgets[asked];
  return wholeNumber("WALRUS_BUDGET", asked);
}

/** The seed of this run; always the same one unless another is asked for. */
export function seedOf(usual = 1): number {
  const asked = process.env.WALRUS_SEED;
  return asked === undefined ? usual : wholeNumber("WALRUS_SEED", asked);
}

/** The command that repeats this run; `more` names one case of it. */
export function replay(file: string, usualSeed = 1, more = ""): string {
  const budget = process.env.WALRUS_BUDGET ?? "smoke";
  const words = [
    `WALRUS_SEED=${seedOf(usualSeed)}`,
    more === "" ? `WALRUS_BUDGET=${budget}` : more,
    "deno test -A --no-check",
    file,
  ];
  return `replay: ${words.join(" ")}`;
}

/** Which part of an exhaustive suite this process does. */
export interface Shard {
  /** From 0. */
  readonly nth: number;
  readonly count: number;
}

/** The part that WALRUS_SHARD names, as in "2/8"; the whole without it. */
export function shardOf(): Shard {
  const asked = process.env.WALRUS_SHARD ?? "1/1";
  const [nth, count] = asked.split("/")
    .map((text) => wholeNumber("WALRUS_SHARD", text)) as [number, number?];
  if (count === undefined || nth < 1 || nth > count) {
    throw new RangeError(`WALRUS_SHARD is "${asked}", expected as in "2/8"`);
  }
  return { nth: nth - 1, count };
}

function wholeNumber(name: string, text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new RangeError(`${name} is "${text}", expected a whole number`);
}
