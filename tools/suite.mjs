/**
 * Runs the test files under the pinned runtimes and counts.
 *
 * Each file runs in a process of its own, so that a crash costs one file and
 * not the report. What is counted are leaves: a `describe` is not a test, nor
 * is a test that consists of subtests. A file fails as a whole, counted as one
 * failed test, when its process dies, hangs, exits early, throws outside of a
 * test, or runs no test at all.
 */
import { spawn } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { isAbsolute, join, relative, resolve } from "node:path";
import process from "node:process";
import { parseReport, withoutContainers } from "./junit.mjs";
import {
  findRuntime,
  ROOT,
  runtimeEnvironment,
  runtimeVersion,
} from "./runtimes.mjs";

/** How long one file may take before its processes are killed. */
const FILE_TIMEOUT_MS = 300_000;

/**
 * Runs the suite, prints what happened and returns
 * `{ passed, failed, skipped }` over all runtimes.
 */
export async function runSuite(options) {
  const files = chooseFiles(options.files);
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const runtime of options.runtimes) {
    const count = await runRuntime(runtime, files, options);
    for (const key of Object.keys(total)) total[key] += count[key];
  }
  return total;
}

/** The one line that a run ends with. */
export function formatTotal({ passed, failed, skipped }) {
  const tail = skipped > 0 ? `, ${skipped} skipped` : "";
  return `${passed} passed, ${failed} failed${tail}`;
}

async function runRuntime(runtime, files, options) {
  const start = performance.now();
  const count = { passed: 0, failed: 0, skipped: 0 };
  const skips = [];
  let executable;
  try {
    executable = findRuntime(runtime);
    console.log(`\n${runtime} ${runtimeVersion(executable)}`);
  } catch (error) {
    console.log(`\n${runtime}: ${error.message}`);
    return { ...count, failed: 1 };
  }

  const queue = [...files];
  const work = async () => {
    for (let file = queue.shift(); file; file = queue.shift()) {
      const result = await runFile(runtime, executable, file, options);
      printFile(runtime, file, result, options);
      for (const test of result.tests) {
        count[test.outcome] += 1;
        if (test.outcome === "skipped") skips.push({ file, ...test });
      }
    }
  };
  await Promise.all(Array.from({ length: options.jobs }, work));

  if (count.passed + count.failed === 0) {
    console.log(`  ${runtime} ran no test: counted as one failure`);
    count.failed += 1;
  }
  for (const { file, name, reason } of skips) {
    console.log(`  skipped ${file}: ${name}${reason && ` (${reason})`}`);
  }
  console.log(`${runtime}: ${formatTotal(count)} (${seconds(start)})`);
  return count;
}

async function runFile(runtime, executable, file, options) {
  const start = performance.now();
  const folder = mkdtempSync(join(tmpdir(), "walrus-suite-"));
  try {
    const report = join(folder, "report.xml");
    const uncaught = join(folder, "uncaught.txt");
    const args = testArguments(runtime, file, report, options.filter);
    const ended = await runProcess(executable, args, { uncaught });
    const tests = judge(runtime, report, uncaught, ended, options.filter);
    return { tests, output: ended.output, time: seconds(start) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Turns a report and the end of its process into a list of tests. */
function judge(runtime, report, uncaught, ended, filter) {
  const xml = existsSync(report) ? readFileSync(report, "utf8") : "";
  let tests = parseReport(xml);
  if (runtime === "deno") tests = withoutContainers(tests);
  // Deno and Bun report what a filter left out as skipped.
  if (filter) tests = tests.filter((test) => test.outcome !== "skipped");

  const failed = tests.some((test) => test.outcome === "failed");
  const fail = (name) => tests.push({ name, outcome: "failed", reason: "" });
  const nothingMatched = filter && xml !== "" && tests.length === 0;
  if (ended.timedOut) {
    fail(`(the file took more than ${FILE_TIMEOUT_MS / 1000} s)`);
  } else if (!xml.includes("</testsuites>")) {
    fail(`(the process ended without a report, ${ended.how})`);
  } else if (ended.how !== "exit code 0" && !failed && !nothingMatched) {
    fail(`(an error outside of every test, ${ended.how})`);
  } else if (existsSync(uncaught) && !failed) {
    fail("(an error outside of every test)");
  } else if (tests.length === 0 && !nothingMatched) {
    fail("(the file ran no test)");
  }
  return tests;
}

function testArguments(runtime, file, report, filter) {
  switch (runtime) {
    case "deno":
      return [
        "test",
        "-A",
        "--no-check",
        "--v8-flags=--expose-gc",
        `--preload=${join(ROOT, "tools", "deno_uncaught.mjs")}`,
        `--junit-path=${report}`,
        ...(filter ? [`--filter=${filter}`] : []),
        file,
      ];
    case "bun":
      return [
        "test",
        // Bun alone limits a test to 5 s; the limit here is the file's.
        `--timeout=${FILE_TIMEOUT_MS}`,
        "--reporter=junit",
        `--reporter-outfile=${report}`,
        ...(filter ? ["-t", escapePattern(filter)] : []),
        `./${file}`,
      ];
    case "node":
      return [
        "--expose-gc",
        "--test",
        "--test-reporter=junit",
        `--test-reporter-destination=${report}`,
        "--test-reporter=spec",
        "--test-reporter-destination=stdout",
        ...(filter ? [`--test-name-pattern=${escapePattern(filter)}`] : []),
        file,
      ];
  }
}

function runProcess(executable, args, { uncaught }) {
  const environment = {
    ...process.env,
    ...runtimeEnvironment(),
    DENO_NO_UPDATE_CHECK: "1",
    NO_COLOR: "1",
    WALRUS_UNCAUGHT: uncaught,
  };
  // Set by an outer `node --test`, it would silence an inner one.
  delete environment.NODE_TEST_CONTEXT;
  delete environment.FORCE_COLOR;

  return new Promise((settle) => {
    // A group of its own: killing it takes the children of tests along.
    const child = spawn(executable, args, {
      cwd: ROOT,
      env: environment,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    const chunks = [];
    let timedOut = false;
    const kill = () => {
      try {
        process.kill(-child.pid, "SIGKILL");
      } catch {
        // Already gone.
      }
    };
    const timer = setTimeout(() => {
      timedOut = true;
      kill();
    }, FILE_TIMEOUT_MS);
    const interrupted = () => {
      kill();
      process.exit(130);
    };
    process.once("SIGINT", interrupted);
    process.once("SIGTERM", interrupted);
    let how = "";
    const end = () => {
      clearTimeout(timer);
      process.off("SIGINT", interrupted);
      process.off("SIGTERM", interrupted);
      child.stdout?.destroy();
      child.stderr?.destroy();
      const output = Buffer.concat(chunks).toString("utf8");
      settle({ how, output, timedOut });
    };
    child.stdout?.on("data", (chunk) => chunks.push(chunk));
    child.stderr?.on("data", (chunk) => chunks.push(chunk));
    child.on("error", (error) => {
      how = error.message;
      end();
    });
    child.on("exit", (code, signal) => {
      how = signal ? `signal ${signal}` : `exit code ${code}`;
      // A child of a test that lives on would hold the pipes open for ever.
      kill();
      setTimeout(end, 2_000).unref();
    });
    child.on("close", end);
  });
}

function printFile(runtime, file, result, { verbose }) {
  const count = { passed: 0, failed: 0, skipped: 0 };
  for (const test of result.tests) count[test.outcome] += 1;
  console.log(`  ${file}: ${formatTotal(count)} (${result.time})`);
  if (count.failed === 0 && !verbose) return;
  console.log(result.output.replace(/^/gm, "    ").trimEnd());
  for (const test of result.tests) {
    if (test.outcome !== "failed") continue;
    console.log(`  FAILED ${runtime} ${file}: ${test.name}`);
  }
}

function chooseFiles(wanted) {
  if (wanted.length === 0) return testFiles(join(ROOT, "tests"));
  return wanted.map((name) => {
    const tried = [
      isAbsolute(name) ? name : resolve(name),
      join(ROOT, name),
      join(ROOT, "tests", name),
      join(ROOT, "tests", `${name}_test.ts`),
    ];
    const found = tried.find((path) =>
      path.endsWith("_test.ts") && existsSync(path)
    );
    if (found === undefined) {
      throw new Error(`Cannot test "${name}": no such file in tests/`);
    }
    return relative(ROOT, found);
  });
}

function testFiles(folder) {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((item) => item.isFile() && item.name.endsWith("_test.ts"))
    .map((item) => relative(ROOT, join(item.parentPath, item.name)))
    .sort();
}

function escapePattern(text) {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}

function seconds(start) {
  return `${((performance.now() - start) / 1000).toFixed(1)} s`;
}
