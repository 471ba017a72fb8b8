/**
 * The long budget of the crash simulation: one million states.
 *
 *     node tools/crash.mjs [deno|bun|node] [states] [seed]
 *
 * Any Node from 20 on can run it; the suite itself runs under the pinned
 * runtime. One seed replays the same states; give another one for others.
 */
import { spawnSync } from "node:child_process";
import process from "node:process";
import {
  findRuntime,
  installPinned,
  ROOT,
  RUNTIME_NAMES,
  runtimeEnvironment,
} from "./runtimes.mjs";

const FILE = "tests/crash_simulation_test.ts";
const TEST_ARGUMENTS = {
  deno: ["test", "-A", "--no-check", FILE],
  // Bun ends a test after five seconds unless told otherwise.
  bun: ["test", "--timeout", "86400000", FILE],
  node: ["--test", "--test-isolation=none", FILE],
};

const [runtime = "deno", states = "1000000", seed] = process.argv.slice(2);
if (!RUNTIME_NAMES.includes(runtime) || !/^[1-9]\d*$/.test(states)) {
  console.error(
    "Usage: node tools/crash.mjs [deno|bun|node] [states] [seed]",
  );
  process.exit(2);
}
installPinned();
const chosen = seed ?? String(Math.floor(Math.random() * 2 ** 32));
console.log(`A-1 on ${runtime}: ${states} states of seed ${chosen}`);
const { status, error } = spawnSync(
  findRuntime(runtime),
  TEST_ARGUMENTS[runtime],
  {
    cwd: ROOT,
    env: {
      ...process.env,
      ...runtimeEnvironment(),
      DENO_NO_UPDATE_CHECK: "1",
      WALRUS_CRASH_STATES: states,
      WALRUS_CRASH_SEED: chosen,
    },
    stdio: "inherit",
  },
);
if (error) throw error;
process.exitCode = status ?? 1;
