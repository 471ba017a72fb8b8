/**
 * Draws what a run measured, as SVG, light and dark, with Vega-Lite:
 * `node bench/compare/charts.mjs RESULTS.json`. compare.mjs starts it under
 * the pinned Node, which is new enough for the library.
 */

import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { machineLine } from "./machine.mjs";
import { measuredTitles } from "./summary.mjs";
import { sizeOf, timeText } from "./tables.mjs";

const COLUMNS = 2;
const WIDTH = 340;
const BAR_STEP = 17;

/** Colours that are told apart on both grounds, also by the colour-blind. */
const THEMES = {
  light: {
    ground: "#ffffff",
    text: "#1f2328",
    faint: "#d0d7de",
    range: ["#0969da", "#8c959f", "#1a7f37", "#9a6700"],
  },
  dark: {
    ground: "#0d1117",
    text: "#e6edf3",
    faint: "#30363d",
    range: ["#4493f8", "#7d8590", "#3fb950", "#d29922"],
  },
};
const KINDS = ["walrus", "others", "in C"];

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await drawCharts(process.argv[2]);
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}

/** Writes `NAME-BYTES-THEME.svg` beside `NAME.json`. */
export async function drawCharts(path) {
  const results = JSON.parse(readFileSync(path, "utf8"));
  for (const bytes of results.plan.payloads) {
    const name = path.replace(/\.json$/, `-${bytes}`);
    await renderCharts(name, (theme) => chartOf(results, bytes, theme));
  }
}

/** Writes `NAME-light.svg` and `NAME-dark.svg` of what `specOf` gives. */
export async function renderCharts(name, specOf) {
  // Loaded here: whoever imports this file need not have them installed.
  const [vega, { compile }] = await Promise.all(
    ["vega", "vega-lite"].map((peer) => importPeer(peer)),
  );
  for (const [theme, colours] of Object.entries(THEMES)) {
    const { spec } = compile(specOf(colours));
    const view = new vega.View(vega.parse(spec), { renderer: "none" });
    const svg = await view.toSVG();
    const file = `${name}-${theme}.svg`;
    writeFileSync(file, `<!-- deno-fmt-ignore-file -->\n${svg}\n`);
    console.log(file);
  }
}

async function importPeer(name) {
  const folder = new URL("../peers/node_modules/", import.meta.url);
  const manifest = new URL(`${name}/package.json`, folder);
  const { exports, module } = JSON.parse(readFileSync(manifest, "utf8"));
  const entry = exports?.default ?? exports?.["."]?.default ?? module;
  return await import(new URL(entry, new URL(`${name}/`, folder)));
}

/** One small chart for each measure, in two columns. */
function chartOf(results, bytes, theme) {
  const rows = results.rows.filter((row) =>
    row.bytes === bytes && row.value > 0
  );
  const titles = measuredTitles(results.plan, rows);
  const machine = machineLine(results.machine);
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: {
      text: `${sizeOf(bytes)} an entry; less is better`,
      subtitle: [
        machine,
        "Median of the rounds, logarithmic; lines from the fastest round to " +
        "the slowest.",
      ],
      anchor: "start",
      offset: 16,
    },
    columns: COLUMNS,
    spacing: { row: 28, column: 36 },
    concat: titles.map((title) =>
      barsOf(title, rows.filter(({ measure }) => measure === title), results)
    ),
    config: configOf(theme),
  };
}

function barsOf(title, rows, results) {
  const values = rows.map((row) => {
    const { runtime } = results.contenders.find(({ id }) =>
      id === row.contender
    );
    return {
      contender: row.contender,
      value: row.value,
      least: Math.min(...row.all),
      most: Math.max(...row.all),
      text: timeText(row.value),
      kind: row.contender.startsWith("walrus")
        ? KINDS[0]
        : runtime === "C"
        ? KINDS[2]
        : KINDS[1],
    };
  });
  const least = Math.min(...values.map((row) => row.least)) / 2;
  const most = Math.max(...values.map((row) => row.most)) * 4;
  const scale = { type: "log", domain: [least, most], nice: false };
  const y = { field: "contender", type: "nominal", sort: "x", title: null };
  return {
    title: { text: title, anchor: "start", fontSize: 12 },
    width: WIDTH,
    height: { step: BAR_STEP },
    data: { values },
    encoding: { y: { ...y, sort: { field: "value" } } },
    layer: [
      {
        mark: { type: "bar", height: { band: 0.7 } },
        encoding: {
          x: { field: "value", type: "quantitative", scale, axis: null },
          x2: { datum: least },
          color: {
            field: "kind",
            type: "nominal",
            scale: { domain: KINDS },
            legend: null,
          },
        },
      },
      {
        mark: { type: "rule", strokeWidth: 1 },
        encoding: {
          x: { field: "least", type: "quantitative", scale },
          x2: { field: "most" },
        },
      },
      {
        mark: { type: "text", align: "left", dx: 5, fontSize: 10 },
        encoding: {
          x: { field: "most", type: "quantitative", scale },
          text: { field: "text", type: "nominal" },
        },
      },
    ],
  };
}

/** Colours and fonts of a theme. */
export function configOf(theme) {
  return {
    background: theme.ground,
    font: "system-ui, -apple-system, Segoe UI, sans-serif",
    title: { color: theme.text, subtitleColor: theme.text },
    axis: {
      labelColor: theme.text,
      titleColor: theme.text,
      labelLimit: 220,
      domainColor: theme.faint,
      tickColor: theme.faint,
      grid: false,
      ticks: false,
    },
    legend: { labelColor: theme.text },
    view: { stroke: null },
    text: { color: theme.text },
    rule: { color: theme.text },
    range: { category: theme.range },
  };
}
