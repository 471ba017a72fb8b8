/**
 * A simulated disk with one small file, and what crashes make of it in a few
 * characters.
 *
 * @module
 */

import type { StorageDirectory, StorageFile } from "../src/storage.ts";
import { StorageError } from "../src/errors.ts";
import { type SimulatedOptions, SimulatedStorage } from "../testing/mod.ts";
import { assert, assertThrows } from "./_assert.ts";

/** The unit of the page cache. */
export const PAGE = 4096;
/** The unit of the platter. */
export const SECTOR = 512;
/** Enough for every outcome of a small disk to occur. */
const SEEDS = 300;

/** The folder that the tests work in. */
export function openFolder(
  storage: SimulatedStorage,
  create = true,
): StorageDirectory {
  const modes = { directoryMode: 0o700, fileMode: 0o600 };
  const directory = storage.openDirectory("wal", { create, ...modes });
  assert(directory !== undefined);
  return directory;
}

/** A quiet disk, no spontaneous writeback, with "log" synced as ones. */
export function synced(
  pages: number,
  options: Partial<SimulatedOptions> = {},
): {
  storage: SimulatedStorage;
  directory: StorageDirectory;
  log: StorageFile;
} {
  const storage = new SimulatedStorage({ seed: 1, writeback: 0, ...options });
  const directory = openFolder(storage);
  const log = directory.create("log", pages * PAGE);
  log.writeAt(filled(pages * PAGE, 1), 0);
  log.sync();
  directory.sync();
  return { storage, directory, log };
}

/** Bytes of one value. */
export function filled(bytes: number, value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes).fill(value);
}

/** Every outcome over the seeds, each once. */
export function outcomes(
  of: (seed: number) => string,
  seeds: number = SEEDS,
): string[] {
  const found = new Set<string>();
  for (let seed = 1; seed <= seeds; seed++) found.add(of(seed));
  return [...found].sort();
}

/** A crash's finding of a file as one character a page. */
export function pagesOf(storage: SimulatedStorage, path = "wal/log"): string {
  const bytes = storage.peek(path);
  if (bytes === undefined) return "gone";
  let text = "";
  for (let at = 0; at < bytes.length; at += PAGE) {
    const page = bytes.subarray(at, at + PAGE);
    const same = page.every((value) => value === page[0]);
    text += same ? String(page[0]) : "t";
  }
  return text;
}

/** What is in the folder, sorted. */
export function names(storage: SimulatedStorage, folder?: string): string {
  return openFolder(storage, false).list(folder).map(({ name }) => name).sort()
    .join(" ");
}

/** The file as memory. */
export function mapped(file: StorageFile): Uint8Array<ArrayBuffer> {
  const region = file.map();
  assert(region !== undefined);
  return region.bytes;
}

/** What the system said to it. */
export function systemCode(work: () => void): string | undefined {
  return assertThrows(work, StorageError).systemCode;
}
