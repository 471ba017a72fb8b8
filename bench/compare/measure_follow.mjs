/**
 * How long an entry takes from the call of append to a follower in another
 * process. Both processes run the same runtime; they compare times by the
 * system's clock, whose sub-milliseconds each finds at the ticks of
 * `Date.now`.
 */

import { spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { options } from "./measure_write.mjs";
import { summarize } from "./statistics.mjs";

const STAMP_BYTES = 16;
const PAUSE_MS = 5;
const IDLE_MS = 1000;

/** The writer: starts a follower, appends now and then, and reports. */
export async function follow({ contender, loaded, job }) {
  if (!contender.follows) throw new Error("no such thing");
  const log = await loaded.open(job.folder, options(job, false));
  log.append(new Uint8Array(Math.max(STAMP_BYTES, job.bytes)));
  const reader = startReader(job);
  await reader.ready;
  const now = calibratedClock();
  const count = Math.max(20, Math.floor(job.budgetMs / PAUSE_MS));
  for (let i = 0; i < count; i++) {
    const payload = new Uint8Array(Math.max(STAMP_BYTES, job.bytes));
    const view = new DataView(payload.buffer);
    view.setFloat64(8, i === count - 1 ? 1 : 0);
    view.setFloat64(0, now());
    log.append(payload);
    // Neither a busy writer nor one in step with the follower's own pauses.
    await new Promise((settle) =>
      setTimeout(settle, PAUSE_MS + i * 7 % PAUSE_MS)
    );
  }
  const figures = await reader.figures;
  await log.close();
  return figures;
}

/** The follower: waits, first for nothing, then for what is appended. */
export async function followReader({ loaded, job }) {
  const now = calibratedClock();
  const delays = [];
  let before;
  const idle = async () => {
    await new Promise((settle) => setTimeout(settle, 200));
    before = process.cpuUsage();
    await new Promise((settle) => setTimeout(settle, IDLE_MS));
    const used = process.cpuUsage(before);
    process.stdout.write("ready\n");
    return (used.user + used.system) / (IDLE_MS * 10);
  };
  let idlePercent;
  await loaded.follow(job.folder, {
    ...options(job, false),
    onReady: () => idlePercent = idle(),
  }, (data) => {
    const at = now();
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    delays.push((at - view.getFloat64(0)) * 1e6);
    return view.getFloat64(8) === 0;
  });
  const { p50, p99 } = summarize(delays);
  return {
    ns: p50,
    p50,
    p99,
    count: delays.length,
    idlePercent: await idlePercent,
  };
}

function startReader(job) {
  const deno = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
  const script = fileURLToPath(new URL("./measure.mjs", import.meta.url));
  const task = JSON.stringify({ ...job, measure: "follow, reader" });
  const child = spawn(process.execPath, [...deno, script, task], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  let settleReady;
  const ready = new Promise((settle) => settleReady = settle);
  child.stdout.setEncoding("utf8").on("data", (part) => {
    text += part;
    if (text.includes("ready\n")) settleReady();
  });
  const figures = new Promise((settle, fail) =>
    child.on("close", () => {
      settleReady(); // A follower that died is told by its last line.
      try {
        settle(JSON.parse(text.trim().split("\n").at(-1)));
      } catch (cause) {
        fail(new Error("the follower died", { cause }));
      }
    })
  );
  return { ready, figures };
}

/** Milliseconds since 1970 with the fraction that `Date.now` cuts off. */
function calibratedClock() {
  let offset = -Infinity;
  for (let tick = 0; tick < 20; tick++) {
    const from = Date.now();
    let to = from;
    while (to === from) to = Date.now();
    // The tick was before this: the greatest difference is the nearest.
    offset = Math.max(offset, to - performance.now());
  }
  return () => performance.now() + offset;
}
