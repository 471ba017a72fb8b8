/** What the figures were taken on. */

import { execFileSync } from "node:child_process";
import { statfsSync } from "node:fs";
import { cpus, loadavg, platform, release, tmpdir, totalmem } from "node:os";
import process from "node:process";

/** Magic numbers of file systems, as `statfs` returns them. */
const FILE_SYSTEMS = {
  0x01021994: "tmpfs",
  0xef53: "ext4",
  0x58465342: "xfs",
  0x9123683e: "btrfs",
  0x2fc12fc1: "zfs",
  0x794c7630: "overlayfs",
  0xf2f52010: "f2fs",
};

/** Processor, memory, system, file system, load, date, commit. */
export function describeMachine(folder, root) {
  const type = statfsSync(folder ?? tmpdir()).type;
  const load = loadavg()[0];
  return {
    processor: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${platform()} ${release()}`,
    fileSystem: FILE_SYSTEMS[type] ?? `0x${type.toString(16)}`,
    loadBefore: Math.round(load * 100) / 100,
    busy: load > 0.5,
    date: new Date().toISOString(),
    commit: commitOf(root),
  };
}

/** The one line that stands above tables and charts. */
export function machineLine(machine) {
  const { processor, cores, memoryGiB, system, fileSystem } = machine;
  return `${processor}, ${cores} cores, ${memoryGiB} GiB, ${system}, ` +
    `${fileSystem}, ${machine.date.slice(0, 10)}`;
}

/** The command, without what names a folder of this machine. */
export function commandLine(args, program = "node bench/compare.mjs") {
  const kept = args.filter((arg, index) =>
    !/^--(dir|folder|out)\b/.test(arg) &&
    !/^--(dir|folder|out)$/.test(args[index - 1] ?? "")
  );
  return [program, ...kept].join(" ");
}

function commitOf(root) {
  const options = { cwd: root, encoding: "utf8", env: process.env };
  try {
    const hash = execFileSync("git", ["rev-parse", "--short", "HEAD"], options);
    const changed = execFileSync(
      "git",
      ["status", "--porcelain", "--untracked-files=no"],
      options,
    );
    return hash.trim() + (changed.trim() === "" ? "" : ", changed");
  } catch {
    return "unknown";
  }
}
