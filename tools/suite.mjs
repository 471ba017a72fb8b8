/**
 * Runs the test files under the pinned runtimes and counts.
 */
import { existsSync, readdirSync } from "node:fs";
import { isAbsolute, join, relative, resolve } from "node:path";
import { findRuntime, ROOT, runtimeVersion } from "./runtimes.mjs";
import { runTestFile } from "./test_process.mjs";

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
  try {
    const executable = findRuntime(runtime);
    console.log(`\n${runtime} ${runtimeVersion(executable)}`);
  } catch (error) {
    console.log(`\n${runtime}: ${error.message}`);
    return { ...count, failed: 1 };
  }

  const queue = [...files];
  const work = async () => {
    for (let file = queue.shift(); file; file = queue.shift()) {
      const start = performance.now();
      const ended = await runTestFile(runtime, file, options);
      const result = { ...ended, time: seconds(start) };
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

function seconds(start) {
  return `${((performance.now() - start) / 1000).toFixed(1)} s`;
}
