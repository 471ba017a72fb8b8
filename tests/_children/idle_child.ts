/**
 * Leaves a log open and ends: `idle_child.ts KIND SYNC FOLDER`.
 *
 * @module
 */
import process from "node:process";
import {
  type Durability,
  filesStorage,
  mappedStorage,
  memoryStorage,
  openWal,
} from "../../mod.ts";

const [kind, sync, path] = process.argv.slice(2) as [
  string,
  Durability,
  string,
];
const make = {
  mapped: mappedStorage,
  files: filesStorage,
  memory: memoryStorage,
};
const storage = make[kind as keyof typeof make]();
// A minute between syncs: a timer that counted would keep the process alive.
const wal = await openWal(path, { storage, sync, syncIntervalMs: 60_000 });
await wal.append("one");
wal.appendSync("two");
await wal.append("three");
console.log(`appended ${wal.lastIndex}`);
