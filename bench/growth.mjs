/**
 * How cost grows with what a log holds and with who uses it, on all runtimes,
 * with charts. `npm run bench:growth [-- OPTIONS]`:
 *
 *     --full          10^8 entries and 10 GiB as well
 *     --rounds=N      so often; medians of all; else 1
 *     --only=TEXT     only parts whose names begin so: entries, opening,
 *                     callers, followers; may be repeated
 *     --runtime=NAME  only these; may be repeated
 *     --folder=DIR    where the logs lie; a disk, not a tmpfs
 *     --out=DIR       where growth-PART.json goes; bench/results else
 *     --no-charts     no SVG
 *     --smoke         tiny budgets: whether it works, not what it costs
 */

import { spawnSync } from "node:child_process";
import { statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { findRuntime, installPinned, ROOT } from "../tools/runtimes.mjs";
import {
  chosenRuntimes,
  markdownTable,
  saveResults,
  startScratch,
  versionsOf,
} from "./commands.mjs";
import { installPeers } from "./compare/install.mjs";
import {
  commandLine,
  describeMachine,
  machineLine,
} from "./compare/machine.mjs";
import { medianOfRounds } from "./compare/statistics.mjs";
import { countText, digits, lawsOf, nameOf, whoOf } from "./growth/laws.mjs";
import { budgetOf, partsOf } from "./growth/parts.mjs";

const { values } = parseArgs({
  options: {
    full: { type: "boolean" },
    smoke: { type: "boolean" },
    rounds: { type: "string", default: "1" },
    only: { type: "string", multiple: true },
    runtime: { type: "string", multiple: true },
    folder: { type: "string", default: tmpdir() },
    out: { type: "string" },
    "no-charts": { type: "boolean" },
  },
});

installPinned();
if (!values["no-charts"]) installPeers();
const runtimes = chosenRuntimes(values.runtime);
const newFolder = startScratch(values.folder);
const command = commandLine(process.argv.slice(2), "node bench/growth.mjs");
const written = [];
for (const part of partsOf(budgetOf(values))) {
  if (!(values.only?.some((text) => part.name.startsWith(text)) ?? true)) {
    continue;
  }
  written.push(await measurePart(part));
}
drawCharts(written.filter((path) => path !== undefined));
process.exit(process.exitCode ?? 0);

/** Measures, says, and writes a part; gives the file's path. */
async function measurePart(part) {
  const machine = describeMachine(values.folder, ROOT);
  console.log(`\n## ${part.title}\n\n${machineLine(machine)}`);
  if (machine.busy) {
    console.log(
      `THIS MACHINE IS BUSY: load ${machine.loadBefore} at the start`,
    );
  }
  const { bavail, bsize } = statfsSync(values.folder);
  if (bavail * bsize < part.diskBytes) {
    console.log(`${part.name}: NOT MEASURED, the disk has no room for it`);
    process.exitCode = 1;
    return undefined;
  }
  const rounds = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    rounds.push(...await part.measure({ runtimes, newFolder, say }));
  }
  const points = medianPoints(rounds);
  const laws = lawsOf(part.charts, points);
  const text = `${describe(part, machine, points)}\n\n${
    laws.map((law) => `- ${law}`).join("\n")
  }\n`;
  console.log(`\n${text}`);
  const { name, title, charts } = part;
  const results = {
    machine,
    versions: versionsOf(runtimes),
    command,
    part: { name, title, charts },
    points,
    laws,
    rounds,
  };
  return saveResults(`growth-${name}`, results, text, values.out);
}

/** Shows what a child said as soon as it did. */
function say(who, figures) {
  console.log(`${who}: ${JSON.stringify(figures)}`);
  if (figures.error !== undefined) process.exitCode = 1;
  return figures;
}

/** The points of all rounds as one, with the median of their values. */
function medianPoints(all) {
  const groups = new Map();
  for (const point of all) {
    const key = `${point.chart} ${point.who} ${point.x}`;
    groups.set(key, [...(groups.get(key) ?? []), point]);
  }
  return [...groups.values()].map((group) => ({
    ...group[0],
    value: medianOfRounds(group.map(({ value }) => value))?.median,
  }));
}

function describe(part, machine, points) {
  const who = whoOf(points);
  const tables = part.charts.map((chart) => {
    const own = points.filter((point) => point.chart === chart.name);
    const xs = [...new Set(own.map(({ x }) => x))].sort((a, b) => a - b);
    const cell = (x, one) => {
      const found = own.find((point) => point.x === x && point.who === one);
      return Number.isFinite(found?.value) ? digits(found.value) : "–";
    };
    const lines = xs.map((
      x,
    ) => [countText(x), ...who.map((one) => cell(x, one))]);
    const heading = `${chart.title}: ${chart.unit}, by ${chart.x}`;
    return `${heading}\n\n${markdownTable(["", ...who.map(nameOf)], lines)}`;
  });
  const head = `${machineLine(machine)}, commit ${machine.commit}, load ` +
    `${machine.loadBefore} before; \`${command}\`.`;
  return [head, ...tables].join("\n\n");
}

function drawCharts(paths) {
  if (values["no-charts"] || paths.length === 0) return;
  const script = join(ROOT, "bench", "growth", "charts.mjs");
  const { status } = spawnSync(findRuntime("node"), [script, ...paths], {
    stdio: "inherit",
  });
  if (status === 0) return;
  console.log("The charts were NOT drawn");
  process.exitCode = 1;
}
