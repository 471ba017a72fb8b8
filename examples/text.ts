/**
 * What the demo's two processes share: the lines of a text, and a log to put
 * them in.
 *
 * @module
 */

import { readFileSync } from "node:fs";
import process from "node:process";
import {
  filesStorage,
  mappedStorage,
  openWal,
  type Wal,
  type WalStorage,
} from "../mod.ts";

const NEWLINE = 10;

/** The lines of a file, as bytes, without their ends. */
export function readLines(path: string): Uint8Array[] {
  const bytes = readFileSync(path);
  const lines: Uint8Array[] = [];
  for (let from = 0; from < bytes.length;) {
    const found = bytes.indexOf(NEWLINE, from);
    const end = found < 0 ? bytes.length : found;
    lines.push(bytes.subarray(from, end));
    from = end + 1;
  }
  return lines;
}

/** The storage by its name; undefined is the best there is. */
export function storageNamed(name: string | undefined): WalStorage | undefined {
  if (name === "files") return filesStorage();
  if (name === "mapped") return mappedStorage();
  return undefined;
}

/** Opens the log so that an append counts only when it is on the disk. */
export function openLog(
  directory: string,
  storage: string | undefined,
): Promise<Wal> {
  return openWal(directory, {
    sync: "always",
    storage: storageNamed(storage),
  });
}

/** So many appends are on their way at a time. */
const APPENDS_MAX = 64;

/**
 * Appends the lines from `wal.nextIndex` on, each an entry of its own, many at
 * a time; they share syncs. `acknowledged` is told each index that came back.
 */
export async function appendLines(
  wal: Wal,
  lines: readonly Uint8Array[],
  acknowledged: (index: number) => void,
  pace: () => Promise<void> | undefined,
): Promise<void> {
  const running = new Set<Promise<void>>();
  let failure: { error: unknown } | undefined;
  for (let i = wal.nextIndex - 1; i < lines.length; i++) {
    const one: Promise<void> = wal.append(lines[i]!)
      .then(acknowledged, (error: unknown) => {
        failure ??= { error };
      })
      .finally(() => running.delete(one));
    running.add(one);
    if (running.size >= APPENDS_MAX) await Promise.race(running);
    await pace();
    if (failure !== undefined) break;
  }
  await Promise.all(running);
  if (failure !== undefined) throw failure.error;
}

/** Node announces that its FFI is experimental; that is not news here. */
export function hideExperimentalWarnings(): void {
  process.removeAllListeners("warning");
  process.on("warning", ({ name, message }) => {
    if (name !== "ExperimentalWarning") console.error(`${name}: ${message}`);
  });
}
