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
      lock.verify();
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
    for (let i = 0; i < 300; i++) {
      if (COMMANDS.lock!() !== "locked") continue;
      fs.closeSync(fs.openSync(`${path}/inside`, "wx"));
      count++;
      fs.unlinkSync(`${path}/inside`);
      // Every third time what a killed process would leave.
      if (i % 3 === 0) leaveStale();
      else lock!.release();
    }
    return String(count);
  },
};

/** Makes the owner file one of a process that is gone. */
function leaveStale(): void {
  const owner = `${path}/LOCK.owner`;
  const record = JSON.parse(fs.readFileSync(owner, "utf8"));
  // In place, as nobody may see the name without a file; one write.
  const text = JSON.stringify({ ...record, start: "1" });
  fs.writeFileSync(owner, text, { flag: "r+" });
  fs.truncateSync(owner, text.length);
  // The file lock of a mapped one would go as well.
  lock!.release();
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
