/**
 * A writer that is killed: reads one line of JSON, what to write and where,
 * and goes on until it is dead. It says how far it is, one line each time:
 * `O FIRST NEXT` opened, `B` a call begins, `W` it has returned, `A N` call N
 * was acknowledged.
 *
 * @module
 */
import * as fs from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import {
  type Consumer,
  filesStorage,
  mappedStorage,
  openWal,
  openWalSync,
  type Wal,
  WalError,
} from "../../mod.ts";
import { Random } from "../../testing/mod.ts";
import {
  CONSUMER,
  dataOf,
  type Life,
  Script,
  type Step,
} from "../_kill_history.ts";

/** Written to the pipe at once: a killed process has said it. */
function say(line: string): void {
  fs.writeSync(1, line + "\n");
}

/** Opens the log by one of the twins. */
async function open({ path, kind, sync, seed, life }: Life): Promise<Wal> {
  const storage = kind === "mapped" ? mappedStorage() : filesStorage();
  const options = { storage, sync, segmentBytes: 65536 };
  const blocking = (seed + life) % 2 === 0;
  return blocking ? openWalSync(path, options) : await openWal(path, options);
}

/** Makes one call; the promise, if it gives one. */
function make(
  wal: Wal,
  consumer: Consumer,
  step: Step,
): Promise<unknown> | undefined {
  const { kind, blocking } = step;
  switch (kind) {
    case "append": {
      const { durable } = step;
      const data = dataOf(step.entries[0]!);
      if (!blocking) return wal.append(data, { durable });
      wal.appendSync(data, { durable });
      return undefined;
    }
    case "batch": {
      const { durable } = step;
      const inputs = step.entries.map((entry) => dataOf(entry));
      if (!blocking) return wal.appendBatch(inputs, { durable });
      wal.appendBatchSync(inputs, { durable });
      return undefined;
    }
    case "transaction": {
      const { durable } = step;
      const transaction = wal.beginTransaction();
      for (const entry of step.entries) transaction.add(dataOf(entry));
      if (!blocking) return transaction.commit({ durable });
      transaction.commitSync({ durable });
      return undefined;
    }
    case "truncateAfter":
      if (!blocking) return wal.truncateAfter(step.index);
      return void wal.truncateAfterSync(step.index);
    case "truncateBefore":
      if (!blocking) return wal.truncateBefore(step.index);
      return void wal.truncateBeforeSync(step.index);
    case "reset":
      if (!blocking) return wal.reset(step.index);
      return void wal.resetSync(step.index);
    case "rotate":
      return blocking ? void wal.rotateSync() : wal.rotate();
    case "flush":
      return blocking ? void wal.flushSync() : wal.flush();
    case "ack":
      return consumer.ack(step.index);
  }
}

async function run(life: Life): Promise<void> {
  const wal = await open(life);
  const { nextIndex } = wal;
  say(`O ${wal.length === 0 ? nextIndex : wal.firstIndex} ${nextIndex}`);
  const consumer = await wal.consumer(CONSUMER);
  const script = new Script(life.seed, life.life);
  const pace = new Random(life.seed, life.life, 2);
  const patience = pace.pick([0.05, 0.3, 1]);
  const pending = new Set<Promise<unknown>>();
  for (let nth = 0;; nth++) {
    const first = wal.length === 0 ? wal.nextIndex : wal.firstIndex;
    const step = script.next({ first, next: wal.nextIndex });
    say("B");
    const promise = make(wal, consumer, step);
    say("W");
    if (promise === undefined) say(`A ${nth}`);
    else {
      const ended = promise.then(() => say(`A ${nth}`), (error) => {
        // What a later cut took away is told so.
        if (error.code !== "INDEX_OUT_OF_RANGE") say(`E ${error.stack}`);
      });
      pending.add(ended);
      ended.finally(() => pending.delete(ended));
    }
    if (pending.size > 50 || pace.chance(patience)) {
      if (pace.chance(0.5)) await Promise.all(pending);
      else await new Promise((resolve) => setTimeout(resolve, 0));
    }
  }
}

// Without this a promise that nobody waits for could end the process.
const alive = setInterval(() => {}, 60_000);
const input = createInterface({ input: process.stdin });
input.once("line", async (line) => {
  try {
    await run(JSON.parse(line) as Life);
  } catch (error) {
    const code = error instanceof WalError ? error.code : "";
    say(`E ${code} ${(error as Error).stack}`);
    clearInterval(alive);
    process.exit(1);
  }
});
input.once("close", () => process.exit());
