/** From the figures of the parts to the table of bars. */

import { markdownTable } from "../commands.mjs";

/** Who must meet the bars; the others are shown beside them. */
const BOUND = ["deno", "bun"];
const NAMES = { deno: "Deno", bun: "Bun", node: "Node" };

/**
 * Rows `{ label, unit, most, least, floor, figures }`: `figures` has, for each
 * runtime, the value, its ratio to the bar (1 and less is good), and whether
 * the bar is met.
 */
export function judge(rows, figures, runtimes) {
  return rows.map(({ at, part, ...row }) => {
    const of = figures[part] ?? {};
    const find = (who) => {
      if (of[who] === undefined || of[who].error !== undefined) {
        return undefined;
      }
      const floor = of.floor?.error === undefined ? of.floor : undefined;
      const value = at(of[who], floor);
      return Number.isFinite(value) ? value : undefined;
    };
    const found = runtimes.map((who) => [who, judged(find(who), row, who)]);
    return {
      ...row,
      part,
      floor: find("floor"),
      figures: Object.fromEntries(found),
    };
  });
}

function judged(value, { most, least }, who) {
  if (value === undefined) return undefined;
  const bar = barOf(most ?? least, who);
  if (bar === undefined) return { value };
  const toBar = most === undefined ? bar / value : value / bar;
  return { value, bar, toBar, met: toBar <= 1 };
}

function barOf(bar, who) {
  return typeof bar === "object" ? bar[who] : bar;
}

/** The table, and under it how many bars are missed, and which. */
export function formatBars(rows, runtimes) {
  const headings = ["", "bar", ...runtimes.map((who) => NAMES[who]), "C floor"];
  const lines = rows.map((row) => [
    row.label,
    barText(row),
    ...runtimes.map((who) => cell(row.figures[who], row.unit, who)),
    row.floor === undefined ? "" : withUnit(row.floor, row.unit),
  ]);
  return [
    "In brackets: measured ÷ bar, or bar ÷ measured where more is better; up " +
    "to 1.00 it is met. Bold: missed where it binds, on Deno and Bun.",
    markdownTable(headings, lines),
    ...runtimes.filter((who) => BOUND.includes(who)).map((who) =>
      verdict(rows, who)
    ),
  ].join("\n\n");
}

function verdict(rows, who) {
  const judgedRows = rows.filter((row) => row.most ?? row.least);
  const met = judgedRows.filter((row) => row.figures[who]?.met);
  const without = judgedRows.filter((row) => row.figures[who] === undefined);
  const count = `${met.length} of ${judgedRows.length} bars are met`;
  const missing = without.length > 0 ? `, ${without.length} not measured` : "";
  return `${NAMES[who]}: ${count}${missing}.`;
}

function cell(figure, unit, who) {
  if (figure === undefined) return "–";
  const text = withUnit(figure.value, unit);
  if (figure.toBar === undefined) return text;
  const whole = `${text} (${figure.toBar.toFixed(2)})`;
  return figure.met || !BOUND.includes(who) ? whole : `**${whole}**`;
}

function barText({ most, least, unit }) {
  if (most !== undefined) return `≤ ${barValues(most)} ${unit}`;
  return least === undefined ? "" : `≥ ${barValues(least)} ${unit}`;
}

function barValues(bar) {
  if (typeof bar !== "object") return String(bar);
  return Object.values(bar).join(" / ");
}

function withUnit(value, unit) {
  const digits = Math.abs(value) >= 100 || Number.isInteger(value)
    ? value.toFixed(0)
    : value.toPrecision(3);
  return `${digits} ${unit}`;
}
