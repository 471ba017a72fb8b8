/**
 * A writer in another process: `writer_child.ts KIND FOLDER [OPTIONS]`.
 *
 * Each line of its input is one command, answered by one line; `burst` goes
 * on by itself and says each index as soon as it is acknowledged.
 *
 * @module
 */
import * as fs from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import {
  filesStorage,
  mappedStorage,
  openWal,
  openWalSync,
  type Wal,
  WalError,
  WalLockedError,
  type WalOptions,
} from "../../mod.ts";

const [kind, path, options = "{}"] = process.argv.slice(2) as [
  string,
  string,
  string?,
];
const storage = kind === "mapped" ? mappedStorage() : filesStorage();
const given: WalOptions = {
  storage,
  segmentBytes: 65536,
  ...JSON.parse(options) as WalOptions,
};
let wal: Wal | undefined;

/** Written to the pipe at once: a killed process has said it. */
function say(line: string): void {
  fs.writeSync(1, line + "\n");
}

/** The entry with this index, of a length that crosses pages now and then. */
function textOf(index: number): string {
  return `entry ${index} `.padEnd(index % 17 === 0 ? 5000 : 60, ".");
}

/** What the parent may ask for. */
const COMMANDS: Record<string, () => string | Promise<string>> = {
  async open(): Promise<string> {
    wal = await openWal(path, given);
    return `open ${wal.length}`;
  },

  openSync(): string {
    wal = openWalSync(path, given);
    return `open ${wal.length}`;
  },

  async append(): Promise<string> {
    return `appended ${await wal!.append("from a child")}`;
  },

  async close(): Promise<string> {
    await wal!.close();
    return "closed";
  },

  /** Opens, and a consumer acknowledges 7 of 9 entries. */
  async consume(): Promise<string> {
    wal = await openWal(path, given);
    for (let i = 1; i <= 9; i++) wal.appendSync(textOf(i));
    const consumer = await wal.consumer("worker");
    await consumer.ack(7);
    return `acknowledged ${consumer.position}`;
  },

  /** Appends for ever and reports each acknowledged index. */
  async burst(): Promise<string> {
    for (;;) {
      const { nextIndex } = wal!;
      const done: Promise<number>[] = [];
      for (let i = 0; i < 5; i++) done.push(wal!.append(textOf(nextIndex + i)));
      for (const index of await Promise.all(done)) say(`ack ${index}`);
      const from = wal!.nextIndex;
      const batch = [0, 1, 2].map((i) => textOf(from + i));
      for (const index of await wal!.appendBatch(batch)) say(`ack ${index}`);
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  },

  /** Appends a number of entries, blocking, then waits to be killed. */
  async appendMany(): Promise<string> {
    for (let i = 1; i <= 200; i++) wal!.appendSync(textOf(i));
    return await Promise.resolve(`appended ${wal!.lastIndex}`);
  },
};

const input = createInterface({ input: process.stdin });
input.on("line", async (line) => {
  try {
    say(await COMMANDS[line]!());
  } catch (error) {
    if (!(error instanceof WalError)) return say(String(error));
    const pid = error instanceof WalLockedError ? ` ${error.pid}` : "";
    say(`${error.code}${pid} ${error.message}`);
  }
});
input.on("close", () => process.exit());
