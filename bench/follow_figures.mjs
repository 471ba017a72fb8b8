/**
 * Runs follow_figures.ts under every runtime, one after the other, and prints
 * tables. `npm run figures:reading [-- --count=N --gib=N --folder=DIR]`; with
 * `--gib` a log of so many GiB is built once, opened and removed.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { cpus, loadavg, release, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import {
  findRuntime,
  installPinned,
  ROOT,
  RUNTIME_NAMES,
} from "../tools/runtimes.mjs";

const { values } = parseArgs({
  options: {
    count: { type: "string", default: "1000" },
    gib: { type: "string" },
    folder: { type: "string", default: tmpdir() },
  },
});
installPinned();
const script = join(ROOT, "bench", "follow_figures.ts");

function run(name, args) {
  const before = name === "deno" ? ["run", "-A", "--no-check"] : [];
  const { status, stdout } = spawnSync(
    findRuntime(name),
    [...before, script, ...args],
    { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], cwd: ROOT },
  );
  if (status !== 0) process.exit(1);
  return JSON.parse(stdout.trim().split("\n").at(-1));
}

console.log(`${cpus()[0]?.model}, ${cpus().length} cores, ${release()}`);
console.log(`load ${loadavg().map((one) => one.toFixed(1)).join(" ")}\n`);

if (values.gib !== undefined) {
  openTable(Number(values.gib));
} else {
  const all = RUNTIME_NAMES.map((name) => ({
    name,
    ...run(name, ["--count", values.count]),
  }));
  console.log("| follow, ms | where | p50 | p99 | p99.9 | idle, % of a core |");
  console.log("| --- | --- | ---: | ---: | ---: | ---: |");
  for (const { name, ...found } of all) {
    for (const where of ["same", "worker", "process"]) {
      const { p50, p99, p999, idlePercent } = found[where];
      const cells = [p50, p99, p999, idlePercent.toFixed(2)];
      console.log(`| ${name} | ${where} | ${cells.join(" | ")} |`);
    }
  }
  console.log("\n| 256 bytes, ns | get | view | entries | … zeroCopy |");
  console.log("| --- | ---: | ---: | ---: | ---: |");
  for (const { name, getNs, viewNs, entriesNs, entriesViewNs } of all) {
    const cells = [getNs, viewNs, entriesNs, entriesViewNs];
    console.log(`| ${name} | ${cells.join(" | ")} |`);
  }
}

/** Builds a log, opens it in new processes, and takes it away again. */
function openTable(gib) {
  const { bavail, bsize } = statfsSync(values.folder);
  if (bavail * bsize < (gib + 1) * 2 ** 30) {
    console.error(`There is no room for ${gib} GiB in ${values.folder}`);
    process.exit(1);
  }
  const folder = mkdtempSync(join(values.folder, "walrus-open-"));
  const end = () => rmSync(folder, { recursive: true, force: true });
  process.on("exit", end);
  process.on("SIGINT", () => process.exit(130));
  const build = `
    import { openWalSync } from ${JSON.stringify(join(ROOT, "mod.ts"))};
    using wal = openWalSync(${JSON.stringify(folder)}, { sync: "never" });
    const batch = Array.from({ length: 1000 }, () => new Uint8Array(256));
    while (wal.stats().bytesWritten < ${gib * 2 ** 30}) {
      wal.appendBatchSync(batch);
    }`;
  const { status } = spawnSync(findRuntime("bun"), ["-e", build], {
    stdio: "inherit",
  });
  if (status !== 0) process.exit(1);
  console.log(
    `| ${gib} GiB | entries | segments | open, ms | KiB after open | KiB after 100 000 reads |`,
  );
  console.log("| --- | ---: | ---: | ---: | ---: | ---: |");
  for (const name of RUNTIME_NAMES) {
    const rounds = [1, 2, 3].map(() => run(name, ["--open", folder]));
    rounds.sort((a, b) => a.openMs - b.openMs);
    const { length, segments, openMs, afterOpen, afterReads } = rounds[1];
    const cells = [length, segments, openMs.toFixed(1), afterOpen, afterReads];
    console.log(`| ${name} | ${cells.join(" | ")} |`);
  }
}
