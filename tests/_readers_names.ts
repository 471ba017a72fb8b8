/**
 * Things that are no pages under the names of the live page and of the wake
 * file: folders, links, pipes, files of another size.
 *
 * @module
 */

import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openReaderSync, openWalSync } from "../mod.ts";
import { LIVE_NAME, WAKE_NAME } from "../src/format.ts";
import type { StoragePort } from "../src/storage.ts";
import { assertEquals } from "./_assert.ts";
import { readTold, tellingData } from "./_readers_entry.ts";

/** The names that are not a log's own files. */
export const NAMES: readonly string[] = [LIVE_NAME, WAKE_NAME];

/** What is put there. */
export const THINGS: Readonly<Record<string, (path: string) => void>> = {
  "a folder": (path) => mkdirSync(path),
  "a pipe": (path) => void execFileSync("mkfifo", [path]),
  "a link to itself": (path) => symlinkSync(path, path),
  "a link to a file": (path) => {
    writeFileSync(`${path}.target`, new Uint8Array(4096));
    symlinkSync(`${path}.target`, path);
  },
  "an empty file": (path) => writeFileSync(path, ""),
  "a short file": (path) => writeFileSync(path, "no page"),
  "a long file": (path) => writeFileSync(path, new Uint8Array(10_000)),
};

function told(index: number): Uint8Array<ArrayBuffer> {
  return tellingData({
    serial: index,
    previous: index - 1,
    index,
    history: 0,
    position: 0,
    count: 1,
  });
}

/** A writer and readers get along without the page, and are right. */
export function runNamed(
  folder: string,
  make: () => StoragePort,
  name: string,
  thing: string,
): void {
  const path = join(folder, "log");
  const open = () => openWalSync(path, { storage: make() });
  const readAll = () => {
    using reader = openReaderSync(path, { storage: make() });
    return [...reader].map((entry) => readTold(entry).index);
  };
  const first = open();
  first.appendSync(told(1));
  first.closeSync();
  rmSync(join(path, name), { force: true });
  THINGS[thing]!(join(path, name));
  assertEquals(readAll(), [1]);
  const wal = open();
  wal.appendSync(told(2));
  assertEquals(readAll(), [1, 2]);
  using before = openReaderSync(path, { storage: make() });
  wal.truncateAfterSync(1);
  wal.appendSync(told(2));
  wal.closeSync();
  assertEquals(readAll(), [1, 2]);
  assertEquals(readTold(before.get(1)).index, 1);
}
