/**
 * Runs suites of the crash, fault and fuzz programme at any budget: the smoke
 * budget is what `npm test` runs with each change, the long one is for nights.
 * Any Node from 20 on can run it; the suites run under the pinned runtimes.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { installPinned, ROOT, RUNTIME_NAMES } from "./runtimes.mjs";
import { NO_TIMEOUT_MS, runTestFile } from "./test_process.mjs";
import { findSuites, SUITES } from "./trust_suites.mjs";

const USAGE = `
npm run trust -- [SUITE…] [options]     all suites, or those named: A-1 F-1
    --budget=smoke|long|N         how much each does (default: smoke)
    --runtime=deno|bun|node|all   where, may be repeated (default: deno)
    --seed=N                      replays (default: another one each time)
    --shards=N                    processes at a time for a suite (default: 1)

npm run trust -- --list           the suites, their files and budgets
`.trim();

/** What was asked for; a usage error throws. */
function readArguments(args) {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      budget: { type: "string", default: "smoke" },
      runtime: { type: "string", multiple: true, default: ["deno"] },
      seed: { type: "string" },
      shards: { type: "string", default: "1" },
      list: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const { budget } = values;
  if (budget !== "smoke" && budget !== "long") wholeNumber("budget", budget, 1);
  const unknown = values.runtime.find((name) =>
    name !== "all" && !RUNTIME_NAMES.includes(name)
  );
  if (unknown !== undefined) {
    throw new RangeError(`Cannot use --runtime=${unknown}`);
  }
  const seed = values.seed === undefined
    ? Math.floor(Math.random() * 2 ** 32)
    : wholeNumber("seed", values.seed, 0);
  return {
    suites: findSuites(positionals),
    budget,
    runtimes: values.runtime.includes("all")
      ? RUNTIME_NAMES
      : RUNTIME_NAMES.filter((name) => values.runtime.includes(name)),
    seed,
    shards: wholeNumber("shards", values.shards, 1),
    list: values.list,
    help: values.help,
  };
}

function wholeNumber(name, text, least) {
  if (/^\d{1,15}$/.test(text) && Number(text) >= least) return Number(text);
  throw new RangeError(
    `Cannot use --${name}=${text}: expected a whole number from ${least}`,
  );
}

function printList() {
  const width = Math.max(...SUITES.map(({ file }) => file.length));
  for (const { id, title, file, smoke, long, unit } of SUITES) {
    const there = existsSync(join(ROOT, file)) ? "" : " (not there yet)";
    console.log(
      `${id}  ${file.padEnd(width)}  ${smoke} / ${long} ${unit}: ` +
        `${title}${there}`,
    );
  }
}

/** What each process of a suite is told; one process, unless it is shared. */
function environments(suite, { budget, seed, shards }) {
  const whole = { WALRUS_BUDGET: budget, WALRUS_SEED: String(seed) };
  if (shards === 1 || suite.shards === undefined) return [whole];
  const count = budget === "smoke" || budget === "long"
    ? suite[budget]
    : Number(budget);
  return Array.from({ length: shards }, (_, nth) =>
    suite.shards === "seeds"
      ? {
        WALRUS_BUDGET: String(Math.ceil(count / shards)),
        WALRUS_SEED: String(seed + nth),
      }
      : { ...whole, WALRUS_SHARD: `${nth + 1}/${shards}` });
}

/** Runs one suite in one runtime; returns the line that says how it ended. */
async function runSuite(suite, runtime, asked) {
  const start = performance.now();
  const shared = environments(suite, asked);
  const first = asked.seed;
  const seeds = shared.at(-1).WALRUS_SEED === String(first)
    ? `seed ${first}`
    : `seeds ${first} to ${shared.at(-1).WALRUS_SEED}`;
  console.log(`\n== ${suite.id} on ${runtime}, ${asked.budget}, ${seeds}`);
  const codes = await Promise.all(shared.map(async (environment, nth) => {
    const mark = shared.length === 1 ? "" : `[${nth + 1}/${shared.length}] `;
    const { tests } = await runTestFile(runtime, suite.file, {
      environment,
      timeoutMs: NO_TIMEOUT_MS,
      onOutput: passThrough(mark),
    });
    const failed = tests.filter((test) => test.outcome === "failed");
    for (const { name } of failed) console.log(`${mark}FAILED ${name}`);
    const skipped = tests.filter((test) => test.outcome === "skipped");
    for (const { name, reason } of skipped) {
      console.log(`${mark}skipped ${name} (${reason})`);
    }
    return failed.length > 0 ? 1 : 0;
  }));
  return summary(suite, runtime, seeds, Math.max(...codes), start);
}

/** Prints output as it comes; whole lines, when several write at once. */
function passThrough(mark) {
  if (mark === "") return (chunk) => process.stdout.write(chunk);
  let rest = "";
  return (chunk) => {
    const lines = (rest + chunk.toString("utf8")).split("\n");
    rest = lines.pop();
    for (const line of lines) console.log(mark + line);
  };
}

/** The mutants have a runner of their own, and choose their runtimes. */
function runMutants(suite, { budget }) {
  const start = performance.now();
  console.log(`\n== ${suite.id}, ${budget}`);
  const script = join(ROOT, suite.file);
  const { status } = spawnSync(
    process.execPath,
    [script, `--budget=${budget === "smoke" ? "smoke" : "long"}`],
    { cwd: ROOT, stdio: "inherit" },
  );
  return summary(suite, "own", "no seed", status ?? 1, start);
}

function summary(suite, runtime, seeds, code, start) {
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  const line = `${suite.id}  ${runtime}  ${seeds}  exit ${code}  ${seconds} s`;
  return { code, line };
}

async function runAll(asked) {
  const ended = [];
  for (const suite of asked.suites) {
    if (!existsSync(join(ROOT, suite.file))) {
      const line = `${suite.id}  exit 1  ${suite.file} is not there yet`;
      ended.push({ code: 1, line });
    } else if (suite.file.endsWith(".mjs")) {
      ended.push(runMutants(suite, asked));
    } else {
      for (const runtime of asked.runtimes) {
        ended.push(await runSuite(suite, runtime, asked));
      }
    }
  }
  console.log();
  for (const { line } of ended) console.log(line);
  return ended.some(({ code }) => code !== 0) ? 1 : 0;
}

let asked;
try {
  asked = readArguments(process.argv.slice(2));
} catch (error) {
  console.error(`${error.message}\n\n${USAGE}`);
  process.exit(2);
}
if (asked.help) console.log(USAGE);
else if (asked.list) printList();
else {
  try {
    installPinned();
    process.exitCode = await runAll(asked);
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
