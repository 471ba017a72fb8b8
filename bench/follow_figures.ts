/**
 * The figures of following and reading of one runtime, as one line of JSON;
 * `npm run figures:reading` runs it on all of them. The same file is the
 * follower in a worker and in another process.
 *
 * @module
 */

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import {
  isMainThread,
  parentPort,
  Worker,
  workerData,
} from "node:worker_threads";
import { openReader, openWal, type WalReader } from "../mod.ts";

const { values } = parseArgs({
  options: {
    follow: { type: "string" },
    open: { type: "string" },
    count: { type: "string", default: "1000" },
    where: { type: "string", multiple: true },
    folder: { type: "string", default: tmpdir() },
  },
});
const ENTRY_BYTES = 256;
const THIS = new URL(import.meta.url);

/** Milliseconds of a clock that all processes of the machine share. */
function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

/**
 * Follows until an empty entry; gives the idle CPU, and the latencies of the
 * entries that say when they were sent.
 */
async function follow(
  log: WalReader,
  ready: () => void,
): Promise<{ latencies: number[]; idlePercent: number }> {
  const latencies: number[] = [];
  const following = log.follow({ from: "end" });
  const first = following.next();
  await sleep(500);
  const before = process.cpuUsage();
  await sleep(5000);
  const { user, system } = process.cpuUsage(before);
  ready();
  for (let step = await first; !step.done; step = await following.next()) {
    const { data } = step.value;
    if (data.length === 0) break;
    const sentMs = new DataView(data.buffer, data.byteOffset).getFloat64(0);
    if (sentMs > 0) latencies.push(nowMs() - sentMs);
  }
  await following.return();
  return { latencies, idlePercent: (user + system) / 50_000 };
}

function percentiles(latencies: number[]): Record<string, number> {
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (share: number) =>
    Number(sorted[Math.floor(sorted.length * share)]?.toFixed(3));
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), p999: at(0.999) };
}

/** The follower in a worker or in another process. */
async function follower(folder: string, say: (line: string) => void) {
  const log = await openReader(folder);
  const found = await follow(log, () => say("ready"));
  await log.close();
  const { latencies, idlePercent } = found;
  say(JSON.stringify({ ...percentiles(latencies), idlePercent }));
}

/** Appends at random moments; `ready` settles when the follower waits. */
async function feed(folder: string, count: number, ready: Promise<unknown>) {
  await using wal = await openWal(folder, { sync: "never" });
  await ready;
  const data = new Uint8Array(ENTRY_BYTES);
  for (let i = 0; i < count; i++) {
    await sleep(5 + 10 * Math.random());
    new DataView(data.buffer).setFloat64(0, nowMs());
    wal.appendSync(data);
  }
  wal.appendSync("");
}

async function sameProcess(count: number) {
  const folder = mkdtempSync(join(values.folder, "walrus-follow-"));
  const wal = await openWal(folder, { sync: "never" });
  let ready = () => {};
  const waits = new Promise<void>((resolve) => ready = resolve);
  const found = follow(wal, () => ready());
  await waits;
  const data = new Uint8Array(ENTRY_BYTES);
  for (let i = 0; i < count; i++) {
    await sleep(5 + 10 * Math.random());
    new DataView(data.buffer).setFloat64(0, nowMs());
    wal.appendSync(data);
  }
  wal.appendSync("");
  const { latencies, idlePercent } = await found;
  await wal.close();
  rmSync(folder, { recursive: true });
  return { ...percentiles(latencies), idlePercent };
}

async function elsewhere(count: number, worker: boolean) {
  const folder = mkdtempSync(join(values.folder, "walrus-follow-"));
  await (await openWal(folder)).close();
  let result = "";
  let ready = () => {};
  const waits = new Promise<void>((resolve) => ready = resolve);
  const hear = (line: string) => line === "ready" ? ready() : result = line;
  const ended = worker
    ? new Promise((resolve) => {
      const thread = new Worker(THIS, { workerData: folder });
      thread.on("message", hear);
      thread.on("exit", resolve);
    })
    : new Promise((resolve) => {
      const deno = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
      const args = [...deno, THIS.pathname, "--follow", folder];
      const child = spawn(process.execPath, args, {
        stdio: ["ignore", "pipe", "inherit"],
      });
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        for (const line of text.trim().split("\n")) hear(line);
      });
      child.on("close", resolve);
    });
  await feed(folder, count, waits);
  await ended;
  rmSync(folder, { recursive: true });
  return JSON.parse(result);
}

/** The median time of one call over several rounds. */
function medianNs(count: number, round: () => void): number {
  const times = Array.from({ length: 9 }, () => {
    const start = performance.now();
    round();
    return (performance.now() - start) * 1e6 / count;
  });
  return Math.round(times.sort((a, b) => a - b)[4]!);
}

/** Reading a warm log of 64 MiB, checked. */
async function reading() {
  const folder = mkdtempSync(join(values.folder, "walrus-reading-"));
  const total = 200_000;
  const wal = await openWal(folder, { sync: "never" });
  const batch = Array.from({ length: 1000 }, () => new Uint8Array(ENTRY_BYTES));
  for (let i = 0; i < total; i += 1000) wal.appendBatchSync(batch);
  const count = 50_000;
  let at = 1;
  const next = () => at = (at * 48271) % 2147483647;
  const random = (read: (index: number) => unknown) =>
    medianNs(count, () => {
      for (let i = 0; i < count; i++) read(next() % total + 1);
    });
  const scan = (zeroCopy: boolean) =>
    medianNs(total, () => {
      for (const entry of wal.entries({ zeroCopy })) void entry.data;
    });
  const figures = {
    getNs: random((index) => wal.get(index)),
    viewNs: random((index) => wal.view(index)),
    entriesNs: scan(false),
    entriesViewNs: scan(true),
  };
  await wal.close();
  rmSync(folder, { recursive: true });
  return figures;
}

/** Opening and memory of a log of so many bytes, in this new process. */
async function opened(folder: string) {
  const memoryKiB = () => {
    const status = readFileSync("/proc/self/status", "utf8");
    return Number(/RssAnon:\s+(\d+)/.exec(status)?.[1]);
  };
  const before = memoryKiB();
  const start = performance.now();
  const log = await openReader(folder);
  const openMs = performance.now() - start;
  const afterOpen = memoryKiB() - before;
  const { length } = log;
  for (let i = 0; i < 100_000; i++) log.get(1 + (i * 7919) % length);
  const afterReads = memoryKiB() - before;
  const segments = log.segments().length;
  await log.close();
  return { length, segments, openMs, afterOpen, afterReads };
}

if (!isMainThread) {
  await follower(workerData, (line) => parentPort!.postMessage(line));
} else if (values.follow !== undefined) {
  await follower(values.follow, (line) => console.log(line));
} else if (values.open !== undefined) {
  console.log(JSON.stringify(await opened(values.open)));
} else {
  console.log(JSON.stringify(await measureAll(Number(values.count))));
}

/** What `--where` names, or all. */
async function measureAll(count: number): Promise<Record<string, unknown>> {
  const parts: Record<string, () => Promise<unknown>> = {
    same: () => sameProcess(count),
    worker: () => elsewhere(count, true),
    process: () => elsewhere(count, false),
    reading,
  };
  const found: Record<string, unknown> = {};
  for (const [name, measure] of Object.entries(parts)) {
    if (!(values.where?.includes(name) ?? true)) continue;
    const figures = await measure();
    if (name === "reading") Object.assign(found, figures);
    else found[name] = figures;
  }
  return found;
}
