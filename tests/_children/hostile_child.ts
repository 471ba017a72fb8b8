/**
 * Uses logs that it is told of, in every way there is: `hostile_child.ts
 * KIND`. A line of its input is `VERB FOLDER`; it answers with one line that
 * begins with "= ": what came of it.
 *
 * @module
 */
import * as fs from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { dump } from "../../cli/dump.ts";
import { stat } from "../../cli/stat.ts";
import { verify } from "../../cli/verify.ts";
import {
  filesStorage,
  mappedStorage,
  openReader,
  openReaderSync,
  openWal,
  openWalSync,
  StorageError,
  type Wal,
  WalError,
  type WalReader,
} from "../../mod.ts";

const [kind] = process.argv.slice(2) as ["mapped" | "files"];
const storage = kind === "mapped" ? mappedStorage() : filesStorage();
const options = { storage, segmentBytes: 65536 };
/** As long as a line of the protocol may be. */
const MESSAGE_CHARS = 3000;

function count(log: WalReader): number {
  let entries = 0;
  for (const entry of log) entries += entry.text().startsWith("entry") ? 1 : 0;
  return entries;
}

/** As a program does that found nothing odd. */
async function use(wal: Wal): Promise<string> {
  const found = count(wal);
  await wal.append("more");
  await wal.rotate();
  wal.appendSync("and more");
  await wal.close();
  return `${wal.recovery.outcome} ${found}`;
}

async function command(
  run: (args: readonly string[]) => Promise<number>,
  path: string,
): Promise<string> {
  return `exit ${await run([path, "--storage", kind])}`;
}

/** What the parent may ask for. */
const VERBS: Record<string, (path: string) => Promise<string>> = {
  async open(path) {
    return await use(await openWal(path, options));
  },

  async openSync(path) {
    return await use(openWalSync(path, options));
  },

  async reader(path) {
    using log = await openReader(path, { storage });
    return `clean ${count(log)}`;
  },

  async salvage(path) {
    using log = openReaderSync(path, { storage, recovery: "salvage" });
    return await Promise.resolve(`salvaged ${log.recovery.gaps.length} gaps`);
  },

  /** Moves a consumer on, which writes into `consumers`. */
  async consume(path) {
    await using wal = await openWal(path, options);
    const consumer = await wal.consumer("reader");
    await consumer.ack(wal.lastIndex);
    return `consumed ${consumer.position}`;
  },

  dump: (path) => command(dump, path),
  stat: (path) => command(stat, path),
  verify: (path) => command(verify, path),
};

function describe(error: unknown): string {
  if (!(error instanceof WalError)) {
    return `BUG - ${(error as Error)?.stack ?? error}`;
  }
  const code = error instanceof StorageError ? error.systemCode : "-";
  return `${error.code} ${code} ${error.message}`;
}

let running: Promise<unknown> = Promise.resolve();
const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  const at = line.indexOf(" ");
  const verb = VERBS[line.slice(0, at)]!;
  running = running
    .then(() => verb(JSON.parse(line.slice(at + 1))))
    .catch(describe)
    .then((said) => {
      const text = JSON.stringify(said.slice(0, MESSAGE_CHARS));
      // A line of its own, whatever the command printed before.
      fs.writeSync(1, `\n= ${text}\n`);
    });
});
input.on("close", () => {
  running.then(() => setTimeout(() => process.exit(0), 1));
});
