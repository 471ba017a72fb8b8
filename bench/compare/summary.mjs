/**
 * From samples to figures: one row for each contender, payload and measure,
 * with the median of the rounds, how far they spread, and the ratios.
 */

import { titleOf } from "./plan.mjs";
import { medianOfRounds } from "./statistics.mjs";

/** The other figures of a sample whose medians are worth keeping. */
const MORE = [
  "p50",
  "p99",
  "worst",
  "idlePercent",
  "diskBytes",
  "residentBytes",
  "ownBytes",
  "count",
  "lost",
];

/** Summarizes samples; see `rowsOf` for what a row has. */
export function summarizeSamples(samples, contenders) {
  const rows = rowsOf(samples);
  const find = (contender, row) =>
    rows.find((other) =>
      other.contender === contender && other.bytes === row.bytes &&
      other.measure === row.measure
    );
  const byId = new Map(contenders.map((one) => [one.id, one]));
  for (const row of rows) {
    const reference = walrusOf(byId.get(row.contender), contenders);
    row.toWalrus = ratio(row, find(reference, row));
    row.toFloor = ratio(row, find("floor", row));
  }
  return rows;
}

/**
 * Rows `{ contender, bytes, measure, value, spread, all, …more }`; `value` and
 * what the rounds had, `all`, are in nanoseconds; `error` tells why there is
 * none.
 */
function rowsOf(samples) {
  const groups = new Map();
  for (const sample of samples) {
    const { contender, bytes, measure } = sample;
    const key = `${contender}|${bytes}|${measure}`;
    const group = groups.get(key) ?? [];
    groups.set(key, [...group, sample]);
  }
  return [...groups.values()].map((group) => {
    const { contender, bytes, measure } = group[0];
    const row = { contender, bytes, measure };
    const figures = medianOfRounds(group.map(({ ns }) => ns));
    if (figures !== undefined) {
      row.value = short(figures.median);
      row.spread = short(figures.spread);
      row.all = group.map(({ ns }) => short(ns)).filter(Number.isFinite);
    }
    for (const name of MORE) {
      const more = medianOfRounds(group.map((sample) => sample[name]));
      if (more !== undefined) row[name] = short(more.median);
    }
    const failed = group.find(({ error }) => error !== undefined);
    if (failed !== undefined) row.error = failed.error;
    return row;
  });
}

/** Walrus on the same runtime, mapped; for programs in C, on Deno. */
function walrusOf(contender, contenders) {
  const runtime = contender?.runtime === "C" ? "deno" : contender?.runtime;
  const ids = contenders.map(({ id }) => id);
  const same = `walrus, ${runtime}`;
  return ids.includes(same)
    ? same
    : ids.find((id) => id.startsWith("walrus, "));
}

function ratio(row, reference) {
  if (!(row.value > 0) || !(reference?.value > 0)) return undefined;
  return short(row.value / reference.value);
}

/** Four digits; whole numbers stay. */
function short(value) {
  return Number.isInteger(value) ? value : Number(value?.toPrecision(4));
}

/** The measures that have rows, in the plan's order. */
export function measuredTitles(plan, rows) {
  return plan.measures.filter(({ bytes }) => !bytes).map(titleOf)
    .filter((title) => rows.some(({ measure }) => measure === title));
}
