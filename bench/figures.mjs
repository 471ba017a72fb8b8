/**
 * Runs figures.ts under every runtime and on both storages, one after the
 * other, and prints one table. `npm run figures [-- --bytes=N --folder=DIR]`.
 */
import { spawnSync } from "node:child_process";
import { cpus, release } from "node:os";
import { join } from "node:path";
import process from "node:process";
import {
  findRuntime,
  installPinned,
  ROOT,
  RUNTIME_NAMES,
} from "../tools/runtimes.mjs";

installPinned();
const script = join(ROOT, "bench", "figures.ts");
const columns = [];
for (const name of RUNTIME_NAMES) {
  for (const storage of ["mapped", "files"]) {
    const before = name === "deno" ? ["run", "-A"] : [];
    const { status, stdout } = spawnSync(
      findRuntime(name),
      [...before, script, "--storage", storage, ...process.argv.slice(2)],
      { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], cwd: ROOT },
    );
    if (status !== 0) process.exit(1);
    const line = stdout.trim().split("\n").at(-1);
    columns.push({ name: `${name} ${storage}`, ...JSON.parse(line) });
  }
}

const ratio = (a, b) => `${(a / b).toFixed(2)} x`;
const rows = [
  ["appendSync, never, warm: ns", (f) => f.appendWarmNs],
  ["… to checksum + copy", (f) => ratio(f.appendWarmNs, f.floorNs)],
  ["appendSync, never, new pages: ns", (f) => f.appendNs],
  ["get, random, warm: ns", (f) => f.getNs],
  ["entries(): ns an entry", (f) => f.scanNs],
  ["appendSync, always: us", (f) => (f.appendSyncNs / 1000).toFixed(0)],
  ["… to write + fdatasync", (f) => ratio(f.appendSyncNs, f.syncFloorNs)],
  ["append, alone: us", (f) => (f.appendAloneNs / 1000).toFixed(0)],
  ["append, 64 callers: us", (f) => (f.append64Ns / 1000).toFixed(1)],
  ["… times one caller", (f) => ratio(f.appendAloneNs, f.append64Ns)],
  ["device bytes a commit", (f) => f.deviceBytesPerCommit],
  ["open, closed log: ms", (f) => f.openCleanMs],
  ["open, killed log: ms", (f) => f.openKilledMs],
];
console.log(`${cpus()[0]?.model}, ${cpus().length} cores, ${release()}\n`);
console.log(`| 256-byte entries | ${columns.map((f) => f.name).join(" | ")} |`);
console.log(`| --- |${" ---: |".repeat(columns.length)}`);
for (const [label, cell] of rows) {
  console.log(`| ${label} | ${columns.map(cell).join(" | ")} |`);
}
