/**
 * What the commands of this folder share: a scratch folder that is gone at the
 * end, one process for each measurement, and where the results go.
 */

import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import {
  findRuntime,
  ROOT,
  RUNTIME_NAMES,
  runtimeVersion,
} from "../tools/runtimes.mjs";
import { compileFloor } from "./compare/contenders.mjs";
import { medianOfRounds } from "./compare/statistics.mjs";

const BENCH = join(ROOT, "bench");

/** Children collect garbage before they look at their memory. */
const BEFORE_SCRIPT = {
  deno: ["run", "-A", "--no-check", "--v8-flags=--expose-gc"],
  bun: [],
  node: ["--expose-gc"],
};

const running = new Set();

/**
 * A function that makes folders in a new one of `parent`; that one is removed
 * when the program ends, also on ^C.
 */
export function startScratch(parent = tmpdir()) {
  const base = mkdtempSync(join(parent, "walrus-bench-"));
  process.on("exit", () => {
    for (const child of running) killGroup(child);
    removeFolder(base);
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => process.exit(130));
  }
  return () => mkdtempSync(join(base, "part-"));
}

/** Also a folder in which a process that was just killed still writes. */
export function removeFolder(folder) {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}

/** A child and those that it has started. */
function killGroup(child) {
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

/**
 * Runs a script of this folder under a runtime; gives the JSON of its last
 * line, or `{ error }`.
 */
export async function runChild(runtime, script, args) {
  const command = [...BEFORE_SCRIPT[runtime], join(BENCH, script), ...args];
  return await runProcess(findRuntime(runtime), command.map(String));
}

/** Does one measure of the floor in C; gives its JSON, or `{ error }`. */
export async function runFloor(measure, { folder, bytes, budgetMs, bytesMax }) {
  const { executable, reason } = compileFloor();
  if (reason !== undefined) return { error: reason };
  const args = [measure, folder, bytes ?? 256, budgetMs, bytesMax ?? 2 ** 26];
  return await runProcess(executable, args.map(String));
}

async function runProcess(executable, args) {
  const child = spawn(executable, args, {
    cwd: ROOT,
    detached: true,
    env: { ...process.env, NODE_NO_WARNINGS: "1" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  running.add(child);
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text) => output += text);
  const end = await new Promise((settle) => {
    child.on("error", ({ message }) => settle(message));
    child.on("close", (status, signal) => settle(signal ?? status));
  });
  running.delete(child);
  try {
    if (end === 0) return JSON.parse(output.trim().split("\n").at(-1));
  } catch {
    // Said below.
  }
  return { error: `died: ${end}` };
}

/** The runtimes that `--runtime` names, all without it. */
export function chosenRuntimes(only) {
  return RUNTIME_NAMES.filter((name) => only?.includes(name) ?? true);
}

/** Their versions, by name. */
export function versionsOf(names) {
  return Object.fromEntries(
    names.map((name) => [name, runtimeVersion(findRuntime(name))]),
  );
}

/** The median of each number that objects of the same shape have. */
export function mediansOf(list) {
  const good = list.filter((one) => one.error === undefined);
  if (good.length === 0) return list[0];
  return Object.fromEntries(
    Object.entries(good[0]).map(([key, first]) => {
      const all = good.map((one) => one[key]);
      if (typeof first === "number") return [key, medianOfRounds(all)?.median];
      const nested = first !== null && typeof first === "object";
      return [key, nested && !Array.isArray(first) ? mediansOf(all) : first];
    }),
  );
}

/** Writes `NAME.json` and `NAME.md`, gives and says where the first one is. */
export function saveResults(name, results, text, out) {
  const folder = out ?? join(BENCH, "results");
  mkdirSync(folder, { recursive: true });
  const [path, page] = ["json", "md"].map((end) =>
    join(folder, `${name}.${end}`)
  );
  writeFileSync(path, `${JSON.stringify(results, null, 2)}\n`);
  writeFileSync(page, text);
  // They stand in the tree: its formatter must not find anything to object to.
  const config = join(ROOT, "deno.json");
  const args = ["fmt", "--quiet", "--config", config, path, page];
  const { status } = spawnSync(findRuntime("deno"), args, { stdio: "inherit" });
  if (status !== 0) console.log("The results are NOT formatted");
  console.log(`\nWritten: ${path} and ${name}.md`);
  return path;
}

/** A table in Markdown: the first column to the left, others to the right. */
export function markdownTable(headings, lines) {
  const all = [headings, ...lines].map((line) => line.map(String));
  const widths = headings.map((_, column) =>
    Math.max(3, ...all.map((line) => [...line[column]].length))
  );
  const format = (line) =>
    `| ${
      line.map((cell, column) => {
        const blank = " ".repeat(widths[column] - [...cell].length);
        return column === 0 ? cell + blank : blank + cell;
      }).join(" | ")
    } |`;
  const rule = widths.map((width, column) =>
    column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`
  );
  return [
    format(all[0]),
    `| ${rule.join(" | ")} |`,
    ...all.slice(1).map(format),
  ]
    .join("\n");
}
