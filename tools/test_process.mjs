/**
 * Runs one test file in a process of its own, so that a crash costs one file
 * and not the report, and says what became of its tests.
 *
 * What is counted are leaves: a `describe` is not a test, nor is a test that
 * consists of subtests. A file fails as a whole, counted as one failed test,
 * when its process dies, hangs, exits early, throws outside of a test, or
 * runs no test at all.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseReport, withoutContainers } from "./junit.mjs";
import { findRuntime, ROOT, runtimeEnvironment } from "./runtimes.mjs";

/** How long one file may take, usually, before its processes are killed. */
const FILE_TIMEOUT_MS = 300_000;

/** The longest that a timer knows: for runs that nothing shall end. */
export const NO_TIMEOUT_MS = 2 ** 31 - 1;

/**
 * Runs `file`, relative to `root`, and returns `{ tests, output, how }`.
 *
 * Options: `filter`, a part of the names of tests; `root`, where the tree
 * lies; `environment`, variables besides the usual ones; `timeoutMs`;
 * `onOutput`, called with each piece of output as it comes.
 */
export async function runTestFile(runtime, file, options = {}) {
  const given = {
    root: ROOT,
    environment: {},
    timeoutMs: FILE_TIMEOUT_MS,
    ...options,
  };
  const folder = mkdtempSync(join(tmpdir(), "walrus-suite-"));
  try {
    const report = join(folder, "report.xml");
    const uncaught = join(folder, "uncaught.txt");
    const args = testArguments(runtime, file, report, given);
    const ended = await runProcess(findRuntime(runtime), args, {
      ...given,
      environment: { ...given.environment, WALRUS_UNCAUGHT: uncaught },
    });
    const tests = judge(runtime, report, uncaught, ended, given);
    return { tests, output: ended.output, how: ended.how };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Turns a report and the end of its process into a list of tests. */
function judge(runtime, report, uncaught, ended, { filter, timeoutMs }) {
  const xml = existsSync(report) ? readFileSync(report, "utf8") : "";
  let tests = parseReport(xml);
  if (runtime === "deno") tests = withoutContainers(tests);
  // Deno and Bun report what a filter left out as skipped.
  if (filter) tests = tests.filter((test) => test.outcome !== "skipped");

  const failed = tests.some((test) => test.outcome === "failed");
  const fail = (name) => tests.push({ name, outcome: "failed", reason: "" });
  const nothingMatched = filter && xml !== "" && tests.length === 0;
  if (ended.timedOut) {
    fail(`(the file took more than ${timeoutMs / 1000} s)`);
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

function testArguments(runtime, file, report, { filter, root, timeoutMs }) {
  switch (runtime) {
    case "deno":
      return [
        "test",
        "-A",
        "--no-check",
        "--v8-flags=--expose-gc",
        `--preload=${join(root, "tools", "deno_uncaught.mjs")}`,
        `--junit-path=${report}`,
        ...(filter ? [`--filter=${filter}`] : []),
        file,
      ];
    case "bun":
      return [
        "test",
        // Bun alone limits a test to 5 s; the limit here is the file's.
        `--timeout=${timeoutMs}`,
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

function runProcess(executable, args, options) {
  const { root, environment, timeoutMs, onOutput } = options;
  const env = {
    ...process.env,
    ...runtimeEnvironment(),
    DENO_NO_UPDATE_CHECK: "1",
    NO_COLOR: "1",
    ...environment,
  };
  // Set by an outer `node --test`, it would silence an inner one.
  delete env.NODE_TEST_CONTEXT;
  delete env.FORCE_COLOR;

  return new Promise((settle) => {
    // A group of its own: killing it takes the children of tests along.
    const child = spawn(executable, args, {
      cwd: root,
      env,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    const chunks = [];
    const take = (chunk) => {
      chunks.push(chunk);
      onOutput?.(chunk);
    };
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
    }, timeoutMs);
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
    child.stdout?.on("data", take);
    child.stderr?.on("data", take);
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

function escapePattern(text) {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}
