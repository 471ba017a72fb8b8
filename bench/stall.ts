/**
 * How long the event loop is held up by appends at full asynchronous speed, as
 * one line of JSON, in milliseconds. Each turn of the loop makes calls of 64
 * KiB together and goes on in the next; with "always" at most 8 MiB wait for
 * their sync. A turn counts when it appended, or when calls settled in it:
 * empty ones would make any stall look rare.
 *
 *     node bench/stall.ts --sync always --bytes 4096 --mebibytes 2048
 *
 * @module
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setImmediate } from "node:timers";
import { parseArgs } from "node:util";
import { openWal, type Wal } from "../mod.ts";

const TURN_BYTES = 64 * 1024;
const WINDOW_BYTES = 8 * 1024 * 1024;
const SEGMENT_BYTES = 64 * 1024 * 1024;
const WARM_BYTES = SEGMENT_BYTES * 1.5;

const { values } = parseArgs({
  options: {
    sync: { type: "string", default: "always" },
    bytes: { type: "string", default: "4096" },
    mebibytes: { type: "string", default: "2048" },
    seconds: { type: "string", default: "20" },
    turns: { type: "string", default: "immediate" },
    folder: { type: "string", default: tmpdir() },
  },
});
const entryBytes = Number(values.bytes);
const data = new Uint8Array(entryBytes).fill(7);

/** Runs an action in each turn of the loop until it says that it is over. */
function eachTurn(action: () => boolean): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve, reject) => {
    const again = values.turns === "message"
      ? () => port2.postMessage(0)
      : () => void setImmediate(turn);
    const turn = () => {
      try {
        if (action()) return again();
        resolve();
      } catch (error) {
        reject(error);
      }
      port1.close();
    };
    port1.onmessage = turn;
    again();
  });
}

interface Turns {
  /** How long each turn took that did something, in milliseconds. */
  readonly busyMs: number[];
  /** The longest turn of all. */
  readonly worstMs: number;
  readonly writtenBytes: number;
}

/** Appends until so many bytes are written or the time is over. */
async function appendTurns(
  wal: Wal,
  bytes: number,
  seconds: number,
): Promise<Turns> {
  const perTurn = Math.max(1, TURN_BYTES / entryBytes);
  const busyMs: number[] = [];
  let worstMs = 0;
  let writtenBytes = 0;
  let waitingBytes = 0;
  let busy = false;
  let failure: unknown;
  const settled = () => {
    waitingBytes -= entryBytes;
    busy = true;
  };
  const failed = (error: unknown) => failure ??= error;
  const start = performance.now();
  let last = start;
  await eachTurn(() => {
    const now = performance.now();
    if (busy) busyMs.push(now - last);
    worstMs = Math.max(worstMs, now - last);
    last = now;
    busy = false;
    if (failure !== undefined) throw failure;
    if (writtenBytes >= bytes || now - start > seconds * 1000) return false;
    if (waitingBytes + TURN_BYTES > WINDOW_BYTES) return true;
    for (let i = 0; i < perTurn; i++) wal.append(data).then(settled, failed);
    waitingBytes += perTurn * entryBytes;
    writtenBytes += perTurn * entryBytes;
    busy = true;
    return true;
  });
  return { busyMs, worstMs, writtenBytes };
}

type Monitor = ReturnType<typeof monitorEventLoopDelay>;

function startMonitor(): Monitor | undefined {
  try {
    const monitor = monitorEventLoopDelay({ resolution: 1 });
    monitor.enable();
    return monitor;
  } catch {
    return undefined; // Not in this runtime.
  }
}

/** Percentiles of the runtime's own sampling; its period of 1 ms is in them. */
function monitored(monitor: Monitor | undefined): unknown {
  if (monitor === undefined) return undefined;
  monitor.disable();
  const at = (percent: number) => monitor.percentile(percent) / 1e6;
  const [p50, p99, p999] = [at(50), at(99), at(99.9)];
  return { p50, p99, p999, max: monitor.max / 1e6 };
}

const folder = mkdtempSync(join(values.folder, "walrus-stall-"));
try {
  const sync = values.sync as "always" | "interval" | "never";
  const bytes = Number(values.mebibytes) * 2 ** 20;
  const warming = await openWal(join(folder, "warm"), { sync });
  await appendTurns(warming, Math.min(WARM_BYTES, bytes), 5);
  await warming.close();
  rmSync(join(folder, "warm"), { recursive: true });
  const wal = await openWal(join(folder, "log"), { sync });
  const monitor = startMonitor();
  const turns = await appendTurns(wal, bytes, Number(values.seconds));
  const monitorMs = monitored(monitor);
  const rotations = wal.stats().segmentCount - 1;
  await wal.close();
  const sorted = turns.busyMs.sort((a, b) => a - b);
  const at = (part: number) => sorted[Math.floor(sorted.length * part)];
  console.log(JSON.stringify({
    turns: sorted.length,
    mebibytes: Math.round(turns.writtenBytes / 2 ** 20),
    rotations,
    p50: at(0.5),
    p99: at(0.99),
    p999: at(0.999),
    max: turns.worstMs,
    monitorMs,
  }));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
