/**
 * Another writer, for `lock_test.ts`: `_lock_child.ts KIND FOLDER`.
 *
 * Answers each line of its input with one line.
 *
 * @module
 */
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { filesStorage, mappedStorage } from "../ffi/mod.ts";
import { WalLockedError } from "../src/errors.ts";
import type { StorageLock } from "../src/storage.ts";

const [kind, path] = process.argv.slice(2) as [string, string];
const storage = kind === "mapped" ? mappedStorage() : filesStorage();
const directory = storage.openDirectory(path, {
  create: true,
  directoryMode: 0o750,
  fileMode: 0o640,
})!;
let lock: StorageLock | undefined;

/** What the parent may ask for. */
const COMMANDS: Record<string, () => string> = {
  lock(): string {
    try {
      lock = directory.lock();
      return "locked";
    } catch (error) {
      if (error instanceof WalLockedError) return `refused by ${error.pid}`;
      return String(error);
    }
  },

  release(): string {
    lock!.release();
    return "released";
  },

  /** A process of its own, which outlives this one. */
  spawn(): string {
    const child = spawn("sleep", ["60"], { stdio: "ignore", detached: true });
    child.unref();
    return String(child.pid);
  },

  /** Takes and leaves the lock often; `inside` shows two at a time. */
  contend(): string {
    let count = 0;
    for (let i = 0; count < 60 && i < 100_000; i++) {
      if (COMMANDS.lock!() !== "locked") continue;
      try {
        fs.closeSync(fs.openSync(`${path}/inside`, "wx"));
        for (let j = 0; j < 20; j++) lock!.verify();
        fs.unlinkSync(`${path}/inside`);
        count++;
        // Every other time what a killed process would leave.
        if (count % 2 === 0) leaveStale();
      } finally {
        lock!.release();
      }
    }
    return String(count);
  },
};

/** Makes the owner file one of a process that is gone. */
function leaveStale(): void {
  let fd;
  try {
    fd = fs.openSync(`${path}/LOCK.owner`, "r+");
  } catch (error) {
    // Set aside by mistake at this moment, and about to be put back.
    if ((error as { code?: string }).code === "ENOENT") return;
    throw error;
  }
  // By one descriptor and in one write: the name may be another's by then.
  const bytes = new Uint8Array(fs.fstatSync(fd).size);
  fs.readSync(fd, bytes, 0, bytes.length, 0);
  const record = JSON.parse(new TextDecoder().decode(bytes));
  if (record.pid === process.pid) {
    const text = JSON.stringify({ ...record, start: "1" });
    bytes.fill(0x20);
    bytes.set(new TextEncoder().encode(text));
    fs.writeSync(fd, bytes, 0, bytes.length, 0);
  }
  fs.closeSync(fd);
}

const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  let answer;
  try {
    answer = COMMANDS[line]!();
  } catch (error) {
    answer = String(error);
  }
  process.stdout.write(answer + "\n");
});
input.on("close", () => process.exit());
