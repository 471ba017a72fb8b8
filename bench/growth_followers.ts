/**
 * What followers in other processes cost the writer, and how late they are, as
 * one line of JSON. Beside it, how late as many processes of the same runtime
 * are that wait for a pipe: what the scheduler and the runtime take anyway.
 *
 *     node bench/growth_followers.ts --followers 2 --folder DIR
 *
 * @module
 */

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { openWal } from "../mod.ts";

const ENTRY_BYTES = 256;
const PACE_MS = 5;
const ROUNDS = 7;
const WARM_UP_ROUNDS = 3;

const { values } = parseArgs({
  options: {
    followers: { type: "string", default: "1" },
    count: { type: "string", default: "1000" },
    burst: { type: "string", default: "50000" },
    folder: { type: "string", default: tmpdir() },
    pipe: { type: "boolean", default: false },
  },
});
const count = Number(values.count);
const followers = Number(values.followers);

interface Latencies {
  count: number;
  p50: number;
  p99: number;
  idlePercent?: number;
}

interface Follower {
  readonly child: ChildProcess;
  readonly ready: Promise<void>;
  readonly found: Promise<Latencies>;
}

/** Milliseconds of a clock that all processes of the machine share. */
function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

/** A child of this runtime that says "ready", and at its end what it found. */
function start(script: string, args: string[]): Follower {
  const deno = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
  const path = new URL(script, import.meta.url).pathname;
  const child = spawn(process.execPath, [...deno, path, ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ready = Promise.withResolvers<void>();
  const found = Promise.withResolvers<Latencies>();
  let text = "";
  child.stdout!.setEncoding("utf8").on("data", (part: string) => {
    text += part;
    if (text.includes("ready")) ready.resolve();
  });
  child.on("close", (status) => {
    if (status !== 0) found.reject(new Error(`A follower died: ${status}`));
    else found.resolve(JSON.parse(text.trim().split("\n").at(-1)!));
  });
  return { child, ready: ready.promise, found: found.promise };
}

/** Calls `send` again and again, at the pace. */
async function paced(send: (sentMs: number) => void): Promise<void> {
  for (let i = 0; i < count; i++) {
    await sleep(PACE_MS);
    send(nowMs());
  }
}

/** The middle of the followers' medians, and the worst of their tails. */
function together(all: Latencies[]): { p50: number; p99: number } {
  const p50 = all.map((one) => one.p50).sort((a, b) => a - b);
  const p99 = Math.max(...all.map((one) => one.p99));
  return { p50: p50[p50.length >> 1]!, p99 };
}

async function withFollowers(folder: string): Promise<unknown> {
  const wal = await openWal(folder, { sync: "never" });
  const others = Array.from(
    { length: followers },
    () => start("./follow_figures.ts", ["--follow", folder]),
  );
  await Promise.all(others.map(({ ready }) => ready));
  const data = new Uint8Array(ENTRY_BYTES);
  const stamp = new DataView(data.buffer);
  if (followers > 0) {
    await paced((sentMs) => {
      stamp.setFloat64(0, sentMs);
      wal.appendSync(data);
    });
  }
  // Followers take no latency of entries that do not say when they were sent.
  stamp.setFloat64(0, 0);
  const burst = Number(values.burst);
  const times: number[] = [];
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    const before = performance.now();
    for (let i = 0; i < burst; i++) wal.appendSync(data);
    const ns = (performance.now() - before) * 1e6 / burst;
    if (round >= 0) times.push(ns);
    await sleep(20);
  }
  wal.appendSync("");
  const appendNs = times.sort((a, b) => a - b)[ROUNDS >> 1];
  const found = await Promise.all(others.map((one) => one.found));
  await wal.close();
  return { appendNs, ...(followers > 0 ? together(found) : {}) };
}

/** The same pace and as many processes, and no log. */
async function withPipes(): Promise<Record<string, number>> {
  const others = Array.from(
    { length: followers },
    () => start("./growth_followers.ts", ["--pipe"]),
  );
  await Promise.all(others.map(({ ready }) => ready));
  await paced((sentMs) => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, sentMs);
    for (const { child } of others) child.stdin!.write(bytes);
  });
  for (const { child } of others) child.stdin!.end();
  const found = await Promise.all(others.map((one) => one.found));
  const { p50, p99 } = together(found);
  return { pipeP50: p50, pipeP99: p99 };
}

/** A process that waits for a pipe. */
async function waitForPipe(): Promise<Latencies> {
  const latencies: number[] = [];
  console.log("ready");
  for await (const chunk of process.stdin as AsyncIterable<Uint8Array>) {
    const now = nowMs();
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
    for (let at = 0; at + 8 <= chunk.length; at += 8) {
      latencies.push(now - view.getFloat64(at));
    }
  }
  const sorted = latencies.sort((a, b) => a - b);
  const at = (part: number) => sorted[Math.floor(sorted.length * part)]!;
  return { count: sorted.length, p50: at(0.5), p99: at(0.99) };
}

async function main(): Promise<unknown> {
  if (values.pipe) return await waitForPipe();
  const folder = mkdtempSync(join(values.folder, "walrus-followers-"));
  try {
    const found = await withFollowers(folder);
    const pipes = followers > 0 ? await withPipes() : {};
    return Object.assign({ followers }, found, pipes);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

console.log(JSON.stringify(await main()));
