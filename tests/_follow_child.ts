/**
 * Follows logs and sees whether the process goes on: `_follow_child.ts WHAT
 * FOLDER KIND…`. "wait": a follower waits, for what only a timer brings that
 * keeps no process alive. "leave": each way in which nobody waits any more;
 * the process then ends by itself.
 *
 * @module
 */
import { join } from "node:path";
import process from "node:process";
import { setTimeout as begin } from "node:timers";
import {
  filesStorage,
  mappedStorage,
  memoryStorage,
  openWal,
  type Wal,
} from "../mod.ts";

const [what, folder, ...kinds] = process.argv.slice(2) as [string, string];
const STORAGES = {
  mapped: mappedStorage,
  files: filesStorage,
  memory: memoryStorage,
};
const LATE_MS = 100;

function open(kind: string, name: string): Promise<Wal> {
  const storage = STORAGES[kind as keyof typeof STORAGES]();
  return openWal(join(folder, kind, name), { storage, segmentBytes: 65536 });
}

/** Lets what is ready run; those who wait, wait then. */
function turn(): Promise<void> {
  return new Promise((resolve) => begin(resolve, 5));
}

async function wait(kind: string): Promise<void> {
  const wal = await open(kind, "wait");
  begin(() => wal.appendSync("late"), LATE_MS).unref();
  for await (const entry of wal.follow()) {
    console.log(`${kind} ${entry.index} ${entry.text()}`);
    break;
  }
}

/** Ways to wait no more. */
const WAYS: Record<string, (wal: Wal) => Promise<void>> = {
  async break(wal) {
    begin(() => wal.appendSync("a"), 5);
    for await (const _ of wal.follow()) break;
  },

  async abort(wal) {
    const ending = new AbortController();
    const { signal } = ending;
    const step = wal.follow({ from: "end", signal }).next();
    await turn();
    ending.abort();
    await step.catch(() => {});
  },

  async close(wal) {
    const step = wal.follow({ from: "end" }).next();
    const consumer = await wal.consumer("worker");
    const batch = consumer.batches().next();
    await turn();
    await wal.close();
    await step;
    await batch;
  },

  async dispose(wal) {
    const consumer = await wal.consumer("worker");
    const step = consumer.follow().next();
    await turn();
    await consumer[Symbol.asyncDispose]();
    await step;
  },

  /** Made, never asked. */
  async unused(wal) {
    wal.follow();
    wal.readable();
    wal.writable();
    await turn();
  },

  /** Given an entry, then not asked for the next one. */
  async held(wal) {
    wal.appendSync("a");
    const follower = wal.follow();
    await follower.next();
    const reader = wal.readable().getReader();
    await reader.read();
    Object.assign(globalThis, { follower, reader });
  },

  async cancel(wal) {
    const reader = wal.readable({ from: "end" }).getReader();
    const read = reader.read();
    await turn();
    await reader.cancel();
    await read;
  },
};

async function leave(kind: string): Promise<void> {
  for (const [name, way] of Object.entries(WAYS)) {
    // Left open: closing would end those who wait.
    await way(await open(kind, name));
    console.log(`${kind} ${name}`);
  }
}

for (const kind of kinds) await (what === "wait" ? wait : leave)(kind);
