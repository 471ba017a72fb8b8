/**
 * Transactions in another process: `transaction_child.ts WHAT KIND FOLDER`.
 *
 * "idle" leaves some pending and ends; "commit" commits large ones for ever
 * and says each acknowledged number, until it is killed.
 *
 * @module
 */
import * as fs from "node:fs";
import process from "node:process";
import {
  filesStorage,
  mappedStorage,
  memoryStorage,
  openWal,
  openWalSync,
  type WalOptions,
} from "../../mod.ts";

const [what, kind, path] = process.argv.slice(2) as [string, string, string];
const make = {
  mapped: mappedStorage,
  files: filesStorage,
  memory: memoryStorage,
};
const storage = make[kind as keyof typeof make]();

/** Written to the pipe at once: a killed process has said it. */
function say(line: string): void {
  fs.writeSync(1, line + "\n");
}

async function idle(options: WalOptions): Promise<void> {
  const wal = await openWal(path, { ...options, storage });
  const committed = wal.beginTransaction();
  committed.add("one");
  await committed.commit();
  const pending = wal.beginTransaction({ timeoutMs: 2 ** 31 - 1 });
  pending.add("never");
  // Nobody waits for it, and it never ends.
  void wal.transaction((tx) => {
    tx.add("never");
    return new Promise(() => {});
  });
  say(`pending ${wal.activeTransactionCount} of ${wal.length + 2}`);
}

/** Each has 64 entries of 128 KiB, which say which transaction it is. */
function commitForEver(): void {
  const wal = openWalSync(path, { storage, sync: "never" });
  const data = new Uint8Array(128 * 1024);
  for (let nth = 1;; nth++) {
    const tx = wal.beginTransaction();
    data.fill(nth);
    for (let i = 0; i < 64; i++) tx.add(data);
    tx.commitSync();
    say(`committed ${nth}`);
    // The folder must not fill the disk while nobody stops us.
    if (nth % 16 === 0) wal.truncateBeforeSync(wal.nextIndex - 64);
  }
}

// A timer that counted would keep the process alive for weeks.
if (what === "idle") await idle({ transactionCleanupIntervalMs: 2 ** 31 - 1 });
else commitForEver();
