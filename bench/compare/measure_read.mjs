/**
 * What is measured on a log that is there: "fill" makes it, the others open
 * it, each in a process of its own. A log is "open" when it can tell how many
 * entries it holds.
 */

import { readFileSync, writeSync } from "node:fs";
import process from "node:process";
import { options } from "./measure_write.mjs";
import { makeBatch, makePayloads, randomBelow } from "./payloads.mjs";

/** Reads go by untimed until compilers have warmed up. */
const WARM_READS = 2000;
const READS_AT_A_TIME = 100;

/** Writes a log of `bytesMax` bytes of data and closes it. */
export async function fill({ contender, loaded, job }) {
  const log = await loaded.open(job.folder, options(job, false));
  await writeAll(contender, log, job);
  const count = await log.count();
  await log.close();
  return { count };
}

/** The same, but the process is killed instead of closing the log. */
export async function fillAndDie({ contender, loaded, job }) {
  const log = await loaded.open(job.folder, options(job, false));
  await writeAll(contender, log, job);
  const count = await log.count();
  writeSync(1, `\n${JSON.stringify({ count, version: loaded.version })}\n`);
  process.kill(process.pid, "SIGKILL");
  await new Promise(() => setTimeout(() => {}, 10_000));
}

/** Reads of entries at random, checked and copied as the contender does. */
export async function getRandom({ contender, loaded, job }) {
  const log = await loaded.open(job.folder, options(job, false));
  const numbers = randomBelow(await log.count());
  let sum = 0;
  const turn = contender.blocking || !isPromise(log.get(0))
    ? () => {
      for (let i = 0; i < READS_AT_A_TIME; i++) {
        sum += log.get(numbers.next().value)[0];
      }
    }
    : async () => {
      const reads = [];
      for (let i = 0; i < READS_AT_A_TIME; i++) {
        reads.push(log.get(numbers.next().value));
      }
      for (const bytes of await Promise.all(reads)) sum += bytes[0];
    };
  for (let i = 0; i < WARM_READS / READS_AT_A_TIME; i++) await turn();
  const start = performance.now();
  let count = 0;
  while (performance.now() - start < job.budgetMs) {
    const promise = turn();
    if (promise !== undefined) await promise;
    count += READS_AT_A_TIME;
  }
  const ns = (performance.now() - start) * 1e6 / count;
  await log.close();
  if (!(sum >= 0)) throw new Error("the reads were not done");
  return { ns, count };
}

/** One pass over all entries. */
export async function scan({ loaded, job }) {
  const log = await loaded.open(job.folder, options(job, false));
  const expected = await log.count();
  const pass = async () => {
    let count = 0;
    let sum = 0;
    const start = performance.now();
    await log.scan((bytes) => {
      count++;
      sum += bytes[0];
    });
    const ns = (performance.now() - start) * 1e6 / count;
    if (count !== expected || !(sum >= 0)) {
      throw new Error(`the scan saw ${count} of ${expected} entries`);
    }
    return { ns, count };
  };
  const started = performance.now();
  let figures = await pass();
  // The second pass and later ones are warm; the fastest of them stands.
  while (performance.now() - started < job.budgetMs) {
    const again = await pass();
    if (again.ns < figures.ns) figures = again;
  }
  await log.close();
  return figures;
}

/** Opening what "fill", or a killed writer, left. */
export async function openLog({ loaded, job }) {
  const start = performance.now();
  const log = await loaded.open(job.folder, options(job, false));
  const count = await log.count();
  const ms = performance.now() - start;
  await log.close();
  return { ns: ms * 1e6, count };
}

/** What the process holds more after it wrote and read all of a log. */
export async function memory({ contender, loaded, job }) {
  makePayloads(job.bytes);
  const before = resident();
  const log = await loaded.open(job.folder, options(job, false));
  await writeAll(contender, log, job);
  await log.scan(() => {});
  const after = resident();
  const count = await log.count();
  await log.close();
  return {
    count,
    residentBytes: after.all - before.all,
    ownBytes: after.own - before.own,
  };
}

async function writeAll(contender, log, job) {
  const payloads = makePayloads(job.bytes);
  const size = Math.max(1, Math.min(1000, Math.floor((1 << 20) / job.bytes)));
  const batch = makeBatch(payloads, size);
  const whole = size * job.bytes <= (contender.batchBytesMax ?? Infinity);
  for (let bytes = 0; bytes < job.bytesMax; bytes += size * job.bytes) {
    if (whole) await log.appendBatch(batch);
    else await Promise.all(batch.map((payload) => log.append(payload)));
  }
}

/** Resident bytes, all of them and without the pages of files. */
function resident() {
  const all = process.memoryUsage().rss;
  try {
    const status = readFileSync("/proc/self/status", "utf8");
    return { all, own: Number(/^RssAnon:\s*(\d+)/m.exec(status)[1]) * 1024 };
  } catch {
    return { all, own: NaN }; // No such file but on Linux.
  }
}

function isPromise(value) {
  return typeof value?.then === "function";
}
