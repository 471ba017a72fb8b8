/**
 * Every check that a change has to pass. All run, even after a failure; each
 * counts as one in the last line, beside the tests.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import {
  findRuntime,
  installPinned,
  ROOT,
  runtimeEnvironment,
} from "./runtimes.mjs";
import { formatTotal } from "./suite.mjs";

const total = { passed: 0, failed: 0, skipped: 0 };

try {
  installPinned();
} catch (error) {
  console.error(error.message);
  console.log(`\n${formatTotal({ ...total, failed: 1 })}`);
  process.exit(1);
}

const deno = findRuntime("deno");
const tsc = join(ROOT, "node_modules", "typescript", "bin", "tsc");
const checks = [
  ["format", deno, ["fmt", "--check"]],
  ["lint", deno, ["lint"]],
  ["types (deno)", deno, ["check"]],
  ["types (tsc)", process.execPath, [tsc, "--noEmit", "-p", ROOT]],
  ["documentation", deno, [
    "doc",
    "--lint",
    "mod.ts",
    "src/storage.ts",
    "testing/mod.ts",
  ]],
  ["package", deno, ["publish", "--dry-run", "--allow-dirty"]],
];

const failures = [];
for (const [name, command, args] of checks) {
  console.log(`\n== ${name}`);
  const { status } = await run(command, args);
  total[status === 0 ? "passed" : "failed"] += 1;
  if (status !== 0) failures.push(name);
}

console.log("\n== tests");
const { status, output } = await run("npm", ["test"]);
const last = [...output.matchAll(
  /^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/gm,
)].at(-1);
if (last !== undefined) {
  total.passed += Number(last[1]);
  total.failed += Number(last[2]);
  total.skipped += Number(last[3] ?? 0);
}
if (last === undefined || (status !== 0 && Number(last[2]) === 0)) {
  total.failed += 1;
}
if (status !== 0 || last === undefined) failures.push("tests");

// A few seeded defects: suites that cannot fail would show here.
console.log("\n== mutants");
const mutants = await run(process.execPath, [join("tools", "mutants.mjs")]);
total[mutants.status === 0 ? "passed" : "failed"] += 1;
if (mutants.status !== 0) failures.push("mutants");

console.log();
for (const name of failures) console.log(`FAILED: ${name}`);
console.log(formatTotal(total));
process.exitCode = total.failed > 0 ? 1 : 0;

/** Runs a command, shows its output as it comes and returns it. */
function run(command, args) {
  return new Promise((settle) => {
    const child = spawn(command, args, {
      cwd: ROOT,
      env: {
        ...process.env,
        ...runtimeEnvironment(),
        DENO_NO_UPDATE_CHECK: "1",
        NO_COLOR: "1",
      },
      stdio: ["ignore", "pipe", "pipe"],
      shell: process.platform === "win32",
    });
    let output = "";
    child.stdout.setEncoding("utf8");
    child.stdout.on("data", (text) => {
      output += text;
      process.stdout.write(text);
    });
    child.stderr.on("data", (chunk) => process.stderr.write(chunk));
    child.on("error", (error) => {
      console.error(error.message);
      settle({ status: 1, output });
    });
    child.on("close", (code) => settle({ status: code ?? 1, output }));
  });
}
