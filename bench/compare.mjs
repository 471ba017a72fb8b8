/**
 * Walrus beside what else a program could use, and beside a floor in C.
 *
 *     node bench/compare.mjs            about two minutes, 256-byte entries
 *     node bench/compare.mjs --full     every payload, every round
 *
 * README.md in this folder tells the other options and how to read it.
 */

import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import {
  findRuntime,
  installPinned,
  RUNTIME_NAMES,
  runtimeVersion,
} from "../tools/runtimes.mjs";
import { findContenders } from "./compare/contenders.mjs";
import { installPeers } from "./compare/install.mjs";
import {
  commandLine,
  describeMachine,
  machineLine,
} from "./compare/machine.mjs";
import { planOf } from "./compare/plan.mjs";
import { runRounds } from "./compare/rounds.mjs";
import { runJob } from "./compare/run_job.mjs";
import { summarizeSamples } from "./compare/summary.mjs";
import {
  absentLine,
  formatTables,
  sizeOf,
  timeText,
} from "./compare/tables.mjs";

const BENCH = dirname(fileURLToPath(import.meta.url));

const { values } = parseArgs({
  options: {
    full: { type: "boolean" },
    everywhere: { type: "boolean" },
    minutes: { type: "string" },
    rounds: { type: "string" },
    budget: { type: "string" },
    mebibytes: { type: "string" },
    payloads: { type: "string" },
    measure: { type: "string", multiple: true },
    only: { type: "string", multiple: true },
    dir: { type: "string" },
    out: { type: "string" },
    name: { type: "string" },
    "no-charts": { type: "boolean" },
  },
});

process.exitCode = await main();

async function main() {
  installPinned();
  installPeers();
  const runtimes = findRuntimes();
  const plan = planOf(values);
  const machine = describeMachine(values.dir, dirname(BENCH));
  console.log(machineLine(machine));
  if (machine.busy) {
    console.log(
      `\nTHIS MACHINE IS BUSY: its load was ${machine.loadBefore} before ` +
        "the first measurement. Do not publish what follows.",
    );
  }
  const { present, absent } = await findContenders(values, runtimes, runJob);
  for (const one of absent) console.log(`not here ${absentLine(one)}`);
  const samples = await runRounds(plan, present, {
    run: runJob,
    report,
    folder: values.dir,
  });
  const contenders = present.map(describeContender);
  const rows = summarizeSamples(samples, contenders);
  const command = commandLine(process.argv.slice(2));
  const results = { machine, command, plan, contenders, absent, rows };
  results.runtimes = Object.fromEntries(
    Object.entries(runtimes).map((
      [name, path],
    ) => [name, runtimeVersion(path)]),
  );
  console.log(`\n${formatTables(results)}`);
  write(results, runtimes.node);
  const broken = ({ contender, error }) =>
    contender.startsWith("walrus") && error !== undefined;
  const missing = ({ id }) => id.startsWith("walrus");
  return samples.some(broken) || absent.some(missing) ? 1 : 0;
}

/** What a contender is, without what is true on this machine only. */
function describeContender(
  { id, runtime, version, about, promise, module, storage },
) {
  return {
    id,
    runtime,
    version,
    about,
    promise,
    module,
    storage,
  };
}

function findRuntimes() {
  const found = {};
  for (const name of RUNTIME_NAMES) {
    try {
      found[name] = findRuntime(name);
    } catch (error) {
      console.log(error.message);
    }
  }
  return found;
}

function report({ round, bytes, contender, measure, ns, error }) {
  const figure = error ?? timeText(ns);
  const columns = [
    `round ${round + 1}`,
    sizeOf(bytes).padStart(6),
    measure.padEnd(26),
    contender.padEnd(28),
  ];
  console.log([...columns, figure].join("  "));
}

function write(results, node) {
  const { machine, plan } = results;
  const folder = values.out ?? join(BENCH, "results");
  const name = values.name ?? `${machine.date.slice(0, 10)}-${plan.name}`;
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${name}.json`);
  writeFileSync(path, `${JSON.stringify(results, null, 2)}\n`);
  console.log(`Written: ${path}`);
  if (values["no-charts"]) return;
  const script = join(BENCH, "compare", "charts.mjs");
  const { status } = spawnSync(node ?? process.execPath, [script, path], {
    stdio: "inherit",
  });
  if (status !== 0) console.log("The charts were NOT drawn");
}
