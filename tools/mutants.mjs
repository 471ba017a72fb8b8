/**
 * G-1: puts defects into a copy of the source, one at a time, and expects
 * the suite that each names to fail. A suite that kills no mutant is worth
 * nothing; a mutant that nothing kills shows what is not tested.
 *
 * Any Node from 20 on can run it; the suites run under the pinned runtimes.
 */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, relative } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { KILLERS } from "./mutants/suites.mjs";
import { MUTANTS } from "./mutants/table.mjs";
import { findRuntime, installPinned, ROOT } from "./runtimes.mjs";
import { runTestFile } from "./test_process.mjs";

const USAGE = `
npm run mutants -- [options]
    --budget=smoke|long   some of them, or all (default: smoke)
    --only=TEXT           those whose name contains TEXT
    --jobs=N              suites at a time (default: half the cores)
    --verbose             print what the suites print
`.trim();

/** What is no part of the source. */
const LEFT_OUT = [
  ".git",
  "node_modules",
  "coverage",
  "bench/peers/node_modules",
  "bench/.cache",
];

/**
 * What checking types needs, copied: a link could be followed by whatever the
 * copy runs. The runtimes are found where they are.
 */
const TYPES = ["@types", "bun-types", "undici-types"];

/** A suite that takes longer hangs, which is no failed test. */
const SUITE_TIMEOUT_MS = 300_000;

function readArguments(args) {
  const { values } = parseArgs({
    args,
    options: {
      budget: { type: "string", default: "smoke" },
      only: { type: "string" },
      jobs: {
        type: "string",
        default: String(Math.max(1, Math.floor(availableParallelism() / 2))),
      },
      verbose: { type: "boolean", default: false },
    },
  });
  if (values.budget !== "smoke" && values.budget !== "long") {
    throw new RangeError(`Cannot use --budget=${values.budget}`);
  }
  const chosen = MUTANTS.filter((mutant) =>
    values.only === undefined
      ? values.budget === "long" || mutant.smoke
      : mutant.name.includes(values.only)
  );
  if (chosen.length === 0) {
    throw new RangeError(`Cannot find a mutant with "${values.only}"`);
  }
  const jobs = Number.parseInt(values.jobs, 10) || 1;
  return { chosen, jobs: Math.max(1, jobs), verbose: values.verbose };
}

/** A copy of the source, with its tests, to break. */
function makeCopy() {
  const root = mkdtempSync(join(tmpdir(), "walrus-mutant-"));
  // Some suites start children without the rights of this process.
  chmodSync(root, 0o755);
  cpSync(ROOT, root, {
    recursive: true,
    filter: (path) => !LEFT_OUT.includes(relative(ROOT, path)),
  });
  for (const name of TYPES) {
    const path = join("node_modules", name);
    cpSync(join(ROOT, path), join(root, path), {
      recursive: true,
      dereference: true,
    });
  }
  return root;
}

/** Puts the defect in; a text that is not found just once throws. */
function applyMutant(root, { edits }) {
  for (const [file, source, replacement] of edits) {
    const path = join(root, file);
    const text = readFileSync(path, "utf8");
    const count = text.split(source).length - 1;
    if (count !== 1) {
      throw new Error(
        `its text is found ${count} times in ${file}, expected once: ` +
          source.split("\n")[0],
      );
    }
    // A function: "$&" in a replacement would mean something.
    const changed = text.replace(source, () => replacement);
    if (changed === text) throw new Error(`it does not change ${file}`);
    writeFileSync(path, changed);
  }
  checkTypes(root, [...new Set(edits.map(([file]) => file))]);
}

/** A defect that does not compile is none that a test could find. */
function checkTypes(root, files) {
  const { status, stderr } = spawnSync(findRuntime("deno"), [
    "check",
    ...files,
  ], {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" },
  });
  if (status !== 0) throw new Error(`it does not compile:\n${stderr}`);
}

/** Runs a suite; its tests, and how long it took. */
async function runKiller(root, { file, budget, runtime, shard }, verbose) {
  const startMs = performance.now();
  const environment = { WALRUS_SEED: "1" };
  if (shard !== undefined) environment.WALRUS_SHARD = shard;
  if (budget !== undefined) environment.WALRUS_BUDGET = String(budget);
  const { tests, output } = await runTestFile(runtime, file, {
    root,
    environment,
    timeoutMs: SUITE_TIMEOUT_MS,
    onOutput: verbose ? (chunk) => process.stdout.write(chunk) : undefined,
  });
  const seconds = (performance.now() - startMs) / 1000;
  return { tests, output, seconds };
}

/** The suite must pass where nothing is broken. */
async function judgeSound(name, verbose) {
  const root = makeCopy();
  try {
    const { tests, seconds } = await runKiller(root, KILLERS[name], verbose);
    const failed = tests.find((test) => test.outcome === "failed");
    if (failed !== undefined) {
      return { verdict: "FAILS", what: failed.name, seconds };
    }
    const passed = tests.some((test) => test.outcome === "passed");
    const skipped = tests.find((test) => test.outcome === "skipped");
    if (passed) return { verdict: "passes", what: "", seconds };
    return { verdict: "skipped", what: skipped.reason, seconds };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** Whether the suite kills the mutant, by a test that fails. */
async function judgeMutant(mutant, verbose) {
  const root = makeCopy();
  try {
    applyMutant(root, mutant);
    const killer = KILLERS[mutant.killer];
    const { tests, output, seconds } = await runKiller(root, killer, verbose);
    const failed = tests.filter((test) => test.outcome === "failed");
    // A name in brackets stands for the file: it died, hung or did not load.
    const killed = failed.find((test) => !test.name.startsWith("("));
    if (killed !== undefined) {
      return { verdict: "killed", what: killed.name, seconds };
    }
    if (failed.length > 0) {
      const what = `${failed[0].name}\n${output.slice(-2000)}`;
      return { verdict: "BROKEN", what, seconds };
    }
    return { verdict: "SURVIVED", what: "", seconds };
  } catch (error) {
    return { verdict: "BROKEN", what: error.message, seconds: 0 };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** Works off a queue, so many at a time. */
async function inParallel(items, jobs, work) {
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: jobs }, worker));
}

function print(name, killer, { verdict, what, seconds }) {
  const time = `${seconds.toFixed(1)} s`;
  console.log(
    `${name.padEnd(52)} ${killer.padEnd(18)} ${verdict.padEnd(9)} ` +
      `${time.padStart(8)}  ${what}`,
  );
}

async function run({ chosen, jobs, verbose }) {
  const sound = new Map();
  const killers = [...new Set(chosen.map((mutant) => mutant.killer))];
  await inParallel(killers, jobs, async (name) => {
    sound.set(name, await judgeSound(name, verbose));
    print("(no defect)", name, sound.get(name));
  });
  const counts = { killed: 0, SURVIVED: 0, BROKEN: 0, skipped: 0 };
  await inParallel(chosen, jobs, async (mutant) => {
    const before = sound.get(mutant.killer);
    const result = before.verdict === "passes"
      ? await judgeMutant(mutant, verbose)
      : before.verdict === "skipped"
      ? { ...before, seconds: 0 }
      : { verdict: "BROKEN", what: "its suite fails anyway", seconds: 0 };
    counts[result.verdict]++;
    print(mutant.name, mutant.killer, result);
  });
  const { killed, SURVIVED, BROKEN, skipped } = counts;
  console.log(
    `\nG-1 ${killed} of ${chosen.length} mutants killed, ${SURVIVED} ` +
      `survived, ${BROKEN} broken, ${skipped} skipped`,
  );
  return SURVIVED + BROKEN > 0 ? 1 : 0;
}

let asked;
try {
  asked = readArguments(process.argv.slice(2));
} catch (error) {
  console.error(`${error.message}\n\n${USAGE}`);
  process.exit(2);
}
installPinned();
process.exitCode = await run(asked);
