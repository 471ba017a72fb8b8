/**
 * The launcher: everything runs under the pinned runtimes, which it installs
 * itself. Any Node from 20 on can run it.
 */
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import {
  findRuntime,
  installPinned,
  ROOT,
  RUNTIME_NAMES,
  runtimeEnvironment,
} from "./runtimes.mjs";
import { formatTotal, runSuite } from "./suite.mjs";

const USAGE = `
npm test -- [options] [file…]
    --runtime=deno|bun|node|all   where, may be repeated (default: all)
    --filter=TEXT                 only tests whose name contains TEXT
                                  (under Deno: names outside of describe)
    --jobs=N                      files at a time (default: cores + 1, at most 4)
    --verbose                     print the output of green files as well
    file                          "wal", "wal_test.ts" or a path

npm run demo -- [options] [file]
    --runtime=deno|bun|node|all   where (default: deno)
    --file, --storage, --keep     see examples/README.md

node tools/run.mjs exec deno|bun|node [argument…]
    runs a pinned runtime

node tools/run.mjs env
    prints WALRUS_DENO, WALRUS_BUN and WALRUS_NODE for a shell to read
`.trim();

const COMMANDS = { test, demo, exec, env };

async function test(args) {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      runtime: { type: "string", multiple: true, default: ["all"] },
      filter: { type: "string" },
      jobs: {
        type: "string",
        // Some wait for children and disks: one more than there are cores.
        default: String(Math.min(4, availableParallelism() + 1)),
      },
      verbose: { type: "boolean", default: false },
    },
  });
  const total = await runSuite({
    runtimes: chosenRuntimes(values.runtime),
    files: positionals,
    filter: values.filter,
    jobs: Math.max(1, Number.parseInt(values.jobs, 10) || 1),
    verbose: values.verbose,
  });
  console.log(`\n${formatTotal(total)}`);
  return total.failed > 0 ? 1 : 0;
}

function demo(args) {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      runtime: { type: "string", multiple: true, default: ["deno"] },
      file: { type: "string" },
      storage: { type: "string" },
      keep: { type: "string" },
    },
  });
  const { runtime, ...others } = values;
  const passed = Object.entries(others).map(([name, value]) =>
    `--${name}=${value}`
  );
  // npm changes to the package's folder; paths are meant from the caller's.
  const cwd = process.env.INIT_CWD ?? process.cwd();
  const script = join(ROOT, "examples", "demo.ts");
  for (const name of chosenRuntimes(runtime)) {
    const before = name === "deno" ? ["run", "-A"] : [];
    const command = [...before, script, ...passed, ...positionals];
    const status = start(name, command, cwd);
    if (status !== 0) return status;
  }
  return 0;
}

function exec([name, ...args]) {
  return start(name, args, process.cwd());
}

function env() {
  for (const [name, path] of Object.entries(runtimeEnvironment())) {
    console.log(`export ${name}='${path}'`);
  }
  return 0;
}

function start(name, args, cwd) {
  const { status, error } = spawnSync(findRuntime(name), args, {
    cwd,
    env: { ...process.env, ...runtimeEnvironment(), DENO_NO_UPDATE_CHECK: "1" },
    stdio: "inherit",
  });
  if (error) throw error;
  return status ?? 1;
}

function chosenRuntimes(names) {
  if (names.includes("all")) return RUNTIME_NAMES;
  const unknown = names.find((name) => !RUNTIME_NAMES.includes(name));
  if (unknown !== undefined) {
    throw new RangeError(
      `Cannot use --runtime=${unknown}: expected one of ` +
        `${RUNTIME_NAMES.join(", ")}, all`,
    );
  }
  return RUNTIME_NAMES.filter((name) => names.includes(name));
}

const [command = "", ...rest] = process.argv.slice(2);
if (!Object.hasOwn(COMMANDS, command)) {
  console.log(USAGE);
  process.exitCode = command === "" || command.includes("help") ? 0 : 2;
} else {
  try {
    installPinned();
    process.exitCode = await COMMANDS[command](rest);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 2;
  }
}
