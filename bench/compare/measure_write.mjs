/**
 * What writing costs. All of them write into a new log and count the time
 * that its background work holds the caller up; the time of all entries is
 * what is divided, so that rotations, checkpoints and compactions are in it.
 */

import { makeBatch, makePayloads } from "./payloads.mjs";
import { summarize } from "./statistics.mjs";

/** Entries that are in flight at a contender whose calls return promises. */
const IN_FLIGHT = 1000;
const CALLERS = 64;

const WARM_SEGMENT_BYTES = 64 * 1024 * 1024;

/** A part of what is written goes by untimed: compilers warm up in it. */
const WARM_PART = 0.2;

/** Appends without a sync, one after the other. */
export async function append({ contender, loaded, job }) {
  const log = await loaded.open(job.folder, options(job, false));
  const payloads = makePayloads(job.bytes);
  const group = Math.max(1, Math.min(IN_FLIGHT, (1 << 20) / job.bytes));
  const turn = contender.blocking
    ? () => {
      for (let i = 0; i < group; i++) log.append(payloads[i % 64]);
    }
    : async () => {
      const calls = [];
      for (let i = 0; i < group; i++) calls.push(log.append(payloads[i % 64]));
      await Promise.all(calls);
    };
  const figures = await timeTurns(turn, group, job, log);
  await log.close();
  return figures;
}

/** Appends into pages that are there already: the contender's own share. */
export function appendWarm({ loaded, job }) {
  const payload = makePayloads(job.bytes)[0];
  // A frame is at most 64 bytes longer; the rest is left to the index.
  const perLog = Math.floor(WARM_SEGMENT_BYTES * 0.9 / (job.bytes + 64));
  let log = loaded.openWarm(WARM_SEGMENT_BYTES);
  let left = perLog;
  let count = 0;
  let spentMs = 0;
  const turn = Math.min(1000, perLog);
  for (let turns = 0; spentMs < job.budgetMs; turns++) {
    if (left < turn) {
      log.close();
      log = loaded.openWarm(WARM_SEGMENT_BYTES);
      left = perLog;
    }
    const start = performance.now();
    for (let i = 0; i < turn; i++) log.append(payload);
    left -= turn;
    if (turns < 20) continue; // Compilers warm up.
    spentMs += performance.now() - start;
    count += turn;
  }
  log.close();
  return { ns: spentMs * 1e6 / count, count };
}

/** Durable appends of one caller, who waits for each. */
export async function appendDurable({ loaded, job }) {
  const log = await loaded.open(job.folder, options(job, true));
  const payloads = makePayloads(job.bytes);
  const times = [];
  let turns = 0;
  const figures = await timeTurns(
    async () => {
      const start = performance.now();
      await log.append(payloads[turns++ % 64]);
      times.push((performance.now() - start) * 1e6);
    },
    1,
    job,
    log,
  );
  await log.close();
  return { ...figures, ...summarize(times.slice(times.length * WARM_PART)) };
}

/** 64 callers at a time, each waiting for its own append. */
export async function appendDurable64({ loaded, job }) {
  const log = await loaded.open(job.folder, options(job, true));
  const payloads = makePayloads(job.bytes);
  const one = log.appendSoon ?? log.append;
  const figures = await timeTurns(
    async () => {
      const calls = [];
      for (let i = 0; i < CALLERS; i++) calls.push(one(payloads[i]));
      await Promise.all(calls);
    },
    CALLERS,
    job,
    log,
  );
  await log.close();
  return { ...figures, shared: log.appendSoon !== undefined };
}

/** Batches of 100, not synced. */
export const appendBatch100 = (context) => batches(context, 100, false);
/** Batches of 1000, not synced. */
export const appendBatch1000 = (context) => batches(context, 1000, false);
/** Durable batches of 100. */
export const appendDurableBatch100 = (context) => batches(context, 100, true);
/** Durable batches of 1000. */
export const appendDurableBatch1000 = (context) => batches(context, 1000, true);

async function batches({ contender, loaded, job }, count, durable) {
  if (count * job.bytes > (contender.batchBytesMax ?? Infinity)) {
    throw new RangeError("a batch of this size does not fit");
  }
  const log = await loaded.open(job.folder, options(job, durable));
  const batch = makeBatch(makePayloads(job.bytes), count);
  const figures = await timeTurns(
    () => log.appendBatch(batch),
    count,
    job,
    log,
  );
  await log.close();
  return figures;
}

/** How a log is opened for a job. */
export function options(job, durable) {
  return { durable, storage: job.storage };
}

/**
 * Calls `turn`, which writes `entries` entries, until the budget or the space
 * is used up, and at least three times.
 */
async function timeTurns(turn, entries, job, log) {
  const turnsMax = Math.max(
    4,
    Math.floor(job.bytesMax / (entries * job.bytes)),
  );
  const warmMs = job.budgetMs * WARM_PART;
  let turns = 0;
  let start = performance.now();
  while (performance.now() - start < warmMs && turns < turnsMax * WARM_PART) {
    await turn();
    turns++;
  }
  await log.settle?.();
  const warm = turns;
  start = performance.now();
  while (
    (performance.now() - start < job.budgetMs && turns < turnsMax) ||
    turns < warm + 3
  ) {
    const promise = turn();
    if (promise !== undefined) await promise;
    turns++;
  }
  await log.settle?.();
  const count = (turns - warm) * entries;
  return { ns: (performance.now() - start) * 1e6 / count, count };
}
