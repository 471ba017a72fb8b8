/**
 * `walrus repair`: says what can be done about a damaged log, and does it when
 * it is told to.
 *
 * @module
 */

import { openLogFolder } from "../src/look.ts";
import {
  planRepair,
  type Remedy,
  repairLog,
  type RepairPlan,
  type RepairReport,
} from "../src/repair_log.ts";
import { salvageInto } from "../src/salvage_copy.ts";
import type { SalvageCopy } from "../src/salvage_report.ts";
import { runBlocking } from "../src/steps.ts";
import type { StoragePort } from "../src/storage.ts";
import { Arguments, UsageError } from "./arguments.ts";
import { ask, canAsk } from "./ask.ts";
import {
  formatCount,
  printOut,
  ProgressLine,
  quote,
  say,
  SurveyLine,
} from "./output.ts";
import {
  describePlan,
  describeRemedy,
  isSound,
  planSummary,
  statusLine,
} from "./repair_plan.ts";

const OPTIONS = {
  index: "boolean",
  manifest: "boolean",
  cut: "boolean",
  salvage: "string",
  yes: "boolean",
  json: "boolean",
  storage: "string",
} as const;

const REMEDIES = ["index", "manifest", "cut"] as const;

/** What the command was told to do. */
interface Order {
  readonly storage: StoragePort;
  readonly directory: string;
  /** Undefined: only say what can be done. */
  readonly remedy: Remedy | undefined;
  /** The new log's folder, to salvage into. */
  readonly target: string | undefined;
  readonly json: boolean;
}

/** Runs the command; returns its exit code. */
export async function repair(args: readonly string[]): Promise<number> {
  const given = new Arguments(args, OPTIONS);
  const order = orderOf(given);
  const { remedy, target } = order;
  if (remedy === undefined && target === undefined) return await show(order);
  if (!given.flag("yes") && !await isConfirmed(order)) {
    say("Nothing was changed.");
    return 1;
  }
  if (target !== undefined) return await salvage(order, target);
  return await carryOut(order, remedy!);
}

function orderOf(given: Arguments): Order {
  const directory = given.onlyDirectory();
  const target = given.text("salvage");
  const asked = REMEDIES.filter((name) => given.flag(name));
  const names = [...asked, ...(target === undefined ? [] : ["salvage"])];
  if (names.length > 1) {
    const all = names.map((name) => `--${name}`).join(", ");
    throw new UsageError(`Options ${all} are several, expected one at a time`);
  }
  if (names.length === 0 && given.flag("yes")) {
    throw new UsageError(
      "Option --yes is alone, expected what to do with it: --index, " +
        "--manifest, --cut or --salvage NEWDIR",
    );
  }
  if (target === "") {
    throw new UsageError("Option --salvage needs the new log's folder");
  }
  return {
    storage: given.storage(),
    directory,
    remedy: asked[0],
    target,
    json: given.flag("json"),
  };
}

function readPlan({ storage, directory }: Order): RepairPlan {
  const folder = openLogFolder(storage, directory);
  const line = new SurveyLine();
  try {
    return planRepair(folder, (progress) => line.show(progress));
  } finally {
    line.end();
    folder.close();
  }
}

/** Without a remedy: what is wrong, and what each would keep and lose. */
async function show(order: Order): Promise<number> {
  const plan = readPlan(order);
  const { directory } = order;
  const text = order.json
    ? JSON.stringify({ directory, ...planSummary(plan) })
    : describePlan(directory, plan).join("\n");
  await printOut(text);
  return isSound(plan) ? 0 : 1;
}

/** Asks on the terminal; throws where nobody can be asked. */
async function isConfirmed(order: Order): Promise<boolean> {
  if (!canAsk()) {
    throw new UsageError(
      `A repair changes files, and there is no terminal to ask: expected ` +
        `--yes; without a remedy the command only says what it would do`,
    );
  }
  const plan = readPlan(order);
  const { directory, remedy, target } = order;
  const what = target === undefined ? remedy! : "salvage";
  const lines = describeRemedy(directory, plan, what, target);
  return await ask([...lines, `Type "yes" to do it: `].join("\n"));
}

async function carryOut(order: Order, remedy: Remedy): Promise<number> {
  const { storage, directory, json } = order;
  const line = new SurveyLine();
  let report: RepairReport;
  try {
    const tell = line.show.bind(line);
    report = runBlocking(repairLog(storage, directory, remedy, tell));
  } finally {
    line.end();
  }
  const { done, refusal, savedPath, savedNames } = report;
  if (refusal !== undefined) {
    await printOut(
      json
        ? JSON.stringify({ directory, remedy, done, refusal })
        : `Nothing was changed: ${refusal}; see walrus repair ` +
          quote(directory),
    );
    return 1;
  }
  // Read again: what counts is what is there now.
  const after = readPlan(order);
  const sound = isSound(after);
  if (json) {
    const now = planSummary(after);
    const saved = { savedPath, savedNames };
    await printOut(JSON.stringify({ directory, remedy, done, ...saved, now }));
    return sound ? 0 : 1;
  }
  const lines = [done ? "Done." : "Nothing to do."];
  if (savedPath !== undefined) {
    lines.push(`Kept in ${savedPath}:`);
    lines.push(...savedNames.map((name) => `    ${name}`));
  }
  const { manifest } = report.plan;
  if (done && manifest !== undefined && "assumption" in manifest) {
    const { assumption } = manifest;
    if (assumption !== undefined) lines.push(`It was assumed: ${assumption}.`);
  }
  lines.push(statusLine(after));
  if (!sound) lines.push(`See walrus repair ${quote(directory)}`);
  await printOut(lines.join("\n"));
  return sound ? 0 : 1;
}

async function salvage(order: Order, target: string): Promise<number> {
  const { storage, directory } = order;
  const reading = new SurveyLine();
  const writing = new ProgressLine();
  let copy: SalvageCopy;
  try {
    copy = runBlocking(salvageInto({
      storage,
      source: directory,
      target,
      tell: (progress) => reading.show(progress),
      tellCopied: (done, total) => {
        reading.end();
        writing.show(() => `${done} of ${total} entries`);
      },
    }));
  } finally {
    reading.end();
    writing.end();
  }
  await printOut(
    order.json
      ? JSON.stringify({ from: directory, ...copy })
      : describeCopy(target, copy).join("\n"),
  );
  return 0;
}

function describeCopy(target: string, copy: SalvageCopy): string[] {
  const { entryCount, foundCount, ranges, gaps } = copy;
  let moved = 0;
  for (const { firstIndex, lastIndex, newFirstIndex } of ranges) {
    if (firstIndex !== newFirstIndex) moved += lastIndex - firstIndex + 1;
  }
  const written = formatCount(entryCount, "entry", "entries");
  const there = foundCount === 0
    ? ""
    : `, ${foundCount} of them were there already`;
  const lost = gaps.length === 0
    ? "Nothing was lost."
    : `${formatCount(gaps.length, "gap", "gaps")} could not be read.`;
  const changed = formatCount(
    moved,
    "entry has another index",
    "entries have other indexes",
  );
  const others = moved === 0
    ? "All entries have the indexes that they had."
    : `${changed} than before.`;
  return [
    `The log in ${target} has ${written}${there}.`,
    `${lost} ${others}`,
    `${quote(`${target}/salvage.json`)} says what went where.`,
  ];
}
