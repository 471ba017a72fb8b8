/**
 * Draws what growth.mjs measured, as SVG, light and dark:
 * `node bench/growth/charts.mjs RESULTS.json …`. growth.mjs starts it under
 * the pinned Node, which is new enough for the library.
 */

import { readFileSync } from "node:fs";
import process from "node:process";
import { configOf, renderCharts } from "../compare/charts.mjs";
import { machineLine } from "../compare/machine.mjs";
import { nameOf, whoOf } from "./laws.mjs";

const COLUMNS = 2;
const WIDTH = 300;
const HEIGHT = 180;

/** Who has which of a theme's colours, and a shape as well. */
const NAMES = ["deno", "floor", "bun", "node"].map(nameOf);
const SHAPES = ["circle", "square", "triangle-up", "cross"];

try {
  for (const path of process.argv.slice(2)) {
    const results = JSON.parse(readFileSync(path, "utf8"));
    await renderCharts(
      path.replace(/\.json$/, ""),
      (theme) => chartOf(results, theme),
    );
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}

function chartOf({ part, points, machine }, theme) {
  const drawn = part.charts.filter(({ name }) =>
    points.some(({ chart, value }) => chart === name && value !== null)
  );
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: {
      text: part.title,
      subtitle: [machineLine(machine)],
      anchor: "start",
      offset: 16,
    },
    columns: COLUMNS,
    bounds: "flush",
    spacing: { row: 84, column: 84 },
    concat: drawn.map((chart) =>
      linesOf(chart, points.filter((one) => one.chart === chart.name), theme)
    ),
    config: configOf(theme),
  };
}

function linesOf({ title, unit, x, law }, points, theme) {
  const values = points.filter(({ value }) => Number.isFinite(value))
    .map(({ who, x, value }) => ({ who: nameOf(who), x, value }));
  // A logarithm of nothing, or of less, cannot be drawn.
  const logarithmic = law === "power" &&
    values.every(({ value }) => value > 0);
  const scale = logarithmic
    ? { type: "log", nice: true }
    : { type: "linear", zero: true, nice: true };
  const present = whoOf(points).map(nameOf);
  const names = NAMES.filter((name) => present.includes(name));
  const of = (list) => names.map((name) => list[NAMES.indexOf(name)]);
  const legend = { orient: "bottom", title: null };
  const who = { field: "who", type: "nominal", legend };
  const color = { ...who, scale: { domain: names, range: of(theme.range) } };
  const shape = { ...who, scale: { domain: names, range: of(SHAPES) } };
  return {
    title: { text: `${title}, ${unit}`, anchor: "start", fontSize: 12 },
    width: WIDTH,
    height: HEIGHT,
    data: { values },
    mark: { type: "line", point: { size: 36 }, strokeWidth: 2 },
    encoding: {
      x: {
        field: "x",
        type: "quantitative",
        title: x,
        scale,
        axis: xAxis(values, logarithmic),
      },
      y: { field: "value", type: "quantitative", title: null, scale },
      color,
      shape,
    },
  };
}

/** Ticks where something was measured. */
function xAxis(values, logarithmic) {
  const measured = [...new Set(values.map(({ x }) => x))];
  const format = logarithmic ? "~s" : "~g";
  return { values: measured, format, labelOverlap: true };
}
