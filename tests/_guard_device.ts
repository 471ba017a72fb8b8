/**
 * The bytes that commits bring to the disk, counted in two ways: pages that
 * are dirty when a simulated file is synced, and bytes that the system says
 * this process has dirtied, by the page or by more at once.
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { SimulatedStorage } from "../testing/mod.ts";
import { PAGE } from "./_small_disk.ts";
import { temporaryFolder } from "./_storages.ts";

const PROBE_BYTES = 1024 * 1024;

/** The bytes of pages that `work` has the simulated disk write. */
export function simulatedBytes(
  disk: SimulatedStorage,
  work: () => void,
): number {
  let pages = 0;
  disk.onCall(({ operation, name }) => {
    if (operation !== "sync" && operation !== "syncSoon") return;
    // A file keeps the name that it was opened by, also when it is renamed.
    const now = name.replace(/\.tmp$/, "");
    pages += disk.dirtyPages().filter(({ path }) => path === now).length;
  });
  work();
  disk.onCall(undefined);
  return pages * PAGE;
}

/** The bytes of pages that `work` makes dirty, by the system's own count. */
export function dirtiedBytes(work: () => void): number {
  const before = writeBytes();
  work();
  return writeBytes() - before;
}

/** Why the system does not tell; false where it does. */
export function whyUntold(): string | false {
  using folder = temporaryFolder();
  const probe = join(folder.path, "probe");
  try {
    const bytes = dirtiedBytes(() => {
      writeFileSync(probe, new Uint8Array(PROBE_BYTES));
    });
    return bytes < PROBE_BYTES &&
      "the folder for temporary files is memory, or nobody counts its writes";
  } catch {
    return "there is no /proc/self/io to be read";
  }
}

/**
 * Has the page cache drop what it can of a folder's files: what reads them
 * next may then get large pages. Where there is no such `dd`, nothing happens.
 */
export function evict(folder: string): void {
  for (const name of readdirSync(folder)) {
    spawnSync("dd", [`if=${join(folder, name)}`, "iflag=nocache", "count=0"]);
  }
}

/** All threads of this process. */
function writeBytes(): number {
  const text = readFileSync("/proc/self/io", "utf8");
  const [, bytes] = /^write_bytes: (\d+)$/m.exec(text) ?? [];
  if (bytes === undefined) throw new Error("write_bytes is not told");
  return Number(bytes);
}
