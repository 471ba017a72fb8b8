/**
 * Runs micro_bench.ts under every runtime, one after the other:
 * `node bench/micro.mjs [TEXT]`, where only cases with TEXT in their names
 * run.
 */

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import {
  findRuntime,
  installPinned,
  ROOT,
  RUNTIME_NAMES,
} from "../tools/runtimes.mjs";
import { installPeers } from "./compare/install.mjs";

installPinned();
installPeers();
const script = join("bench", "micro_bench.ts");
for (const name of RUNTIME_NAMES) {
  const before = name === "deno" ? ["bench", "-A", "--no-check"] : [];
  console.log(`\n== ${name}`);
  const { status } = spawnSync(findRuntime(name), [...before, script], {
    cwd: ROOT,
    env: {
      ...process.env,
      NODE_NO_WARNINGS: "1",
      WALRUS_BENCH_ONLY: process.argv[2] ?? "",
    },
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (status !== 0) process.exitCode = 1;
}
