/**
 * Every number that Walrus is to reach, measured on all runtimes beside the
 * floor in C, in one table. `npm run bench:bars [-- OPTIONS]`:
 *
 *     --full          opens a log of 10 GiB as well
 *     --rounds=N      else 3; of each part, the runtimes in turn
 *     --only=TEXT     only parts whose names begin so; may be repeated
 *     --runtime=NAME  only these; may be repeated
 *     --folder=DIR    where the logs lie; a disk, not a tmpfs
 *     --out=DIR       where bars.json and bars.md go; bench/results else
 *     --name=TEXT     their name, for a run of some parts only
 *     --smoke         tiny budgets: whether it works, not what it costs
 */

import { statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import { installPinned, ROOT } from "../tools/runtimes.mjs";
import { budgetOf, partsOf } from "./bars/parts.mjs";
import { rowsOf } from "./bars/rows.mjs";
import { formatBars, judge } from "./bars/table.mjs";
import {
  chosenRuntimes,
  mediansOf,
  removeFolder,
  saveResults,
  startScratch,
  versionsOf,
} from "./commands.mjs";
import {
  commandLine,
  describeMachine,
  machineLine,
} from "./compare/machine.mjs";

const { values } = parseArgs({
  options: {
    full: { type: "boolean" },
    smoke: { type: "boolean" },
    rounds: { type: "string" },
    only: { type: "string", multiple: true },
    runtime: { type: "string", multiple: true },
    folder: { type: "string", default: tmpdir() },
    out: { type: "string" },
    name: { type: "string", default: "bars" },
  },
});

installPinned();
const runtimes = chosenRuntimes(values.runtime);
const machine = describeMachine(values.folder, ROOT);
const newFolder = startScratch(values.folder);
const budget = budgetOf(values);
if (values.full) budget.gib.push(10);
console.log(machineLine(machine));
if (machine.busy) {
  console.log(`THIS MACHINE IS BUSY: load ${machine.loadBefore} at the start`);
}
const samples = {};
for (const part of partsOf(budget)) {
  if (!(values.only?.some((text) => part.name.startsWith(text)) ?? true)) {
    continue;
  }
  samples[part.name] = await measurePart(part);
}
report();
process.exit(process.exitCode ?? 0);

/** All rounds of a part, the runtimes in turn; each begins with another. */
async function measurePart(part) {
  const { bavail, bsize } = statfsSync(values.folder);
  if (bavail * bsize < (part.diskBytes ?? 4 * 2 ** 30)) {
    console.log(`${part.name}: NOT MEASURED, the disk has no room for it`);
    process.exitCode = 1;
    return {};
  }
  const own = newFolder();
  const all = ["floor", ...runtimes];
  const found = Object.fromEntries(all.map((who) => [who, []]));
  await part.before?.(runtimes.includes("bun") ? "bun" : runtimes[0], own);
  for (let round = 0; round < part.rounds; round++) {
    for (let turn = 0; turn < all.length; turn++) {
      const who = all[(turn + round) % all.length];
      const folder = newFolder();
      const figures = await part.run(who, folder);
      removeFolder(folder);
      if (figures === undefined) continue;
      found[who].push(figures);
      if (figures.error !== undefined) process.exitCode = 1;
      console.log(`${part.name}, ${who}: ${JSON.stringify(figures)}`);
    }
  }
  removeFolder(own);
  return found;
}

function report() {
  const figures = Object.fromEntries(
    Object.entries(samples).map(([part, found]) => [
      part,
      Object.fromEntries(
        Object.entries(found).filter(([, list]) => list.length > 0)
          .map(([who, list]) => [who, mediansOf(list)]),
      ),
    ]),
  );
  const rows = judge(rowsOf(budget), figures, runtimes)
    .filter((row) => samples[row.part] !== undefined);
  const command = commandLine(process.argv.slice(2), "node bench/bars.mjs");
  const head = [
    `${machineLine(machine)}, commit ${machine.commit}, load ` +
    `${machine.loadBefore} before; ` +
    Object.entries(versionsOf(runtimes)).map((pair) => pair.join(" "))
      .join(", "),
    `\`${command}\`, 256-byte entries, mapped storage.`,
  ];
  const text = `${head.join("\n\n")}\n\n${formatBars(rows, runtimes)}\n`;
  console.log(`\n${text}`);
  const results = {
    machine,
    versions: versionsOf(runtimes),
    command,
    budget,
    rows,
    samples,
  };
  saveResults(values.name, results, text, values.out);
}
