/**
 * The process of one measurement. It is started by compare.mjs under the
 * runtime that is measured, with a job as JSON, and prints one line of JSON.
 *
 * @typedef {object} Job
 * @property {string} module The contender's file in ../peers, without ending.
 * @property {string} [storage] Of walrus: "mapped" or "files".
 * @property {string} measure A name of `MEASURES`.
 * @property {string} folder An empty folder, or a log that "fill" left.
 * @property {number} bytes The size of an entry's data.
 * @property {number} budgetMs How long to measure.
 * @property {number} bytesMax How much data to write at most.
 */

import { writeSync } from "node:fs";
import process from "node:process";
import { follow, followReader } from "./measure_follow.mjs";
import {
  fill,
  fillAndDie,
  getRandom,
  memory,
  openLog,
  scan,
} from "./measure_read.mjs";
import {
  append,
  appendBatch100,
  appendBatch1000,
  appendDurable,
  appendDurable64,
  appendDurableBatch100,
  appendDurableBatch1000,
  appendWarm,
} from "./measure_write.mjs";

const MEASURES = {
  "load": tryOut,
  "append": append,
  "append, warm": appendWarm,
  "append durable": appendDurable,
  "append durable, 64 callers": appendDurable64,
  "batch of 100": appendBatch100,
  "batch of 1000": appendBatch1000,
  "batch of 100, durable": appendDurableBatch100,
  "batch of 1000, durable": appendDurableBatch1000,
  "fill": fill,
  "fill and die": fillAndDie,
  "get": getRandom,
  "scan": scan,
  "open": openLog,
  "memory": memory,
  "follow": follow,
  "follow, reader": followReader,
};

const job = JSON.parse(process.argv[2]);
try {
  const { contender } = await import(`../peers/${job.module}.mjs`);
  const loaded = await contender.load();
  const figures = await MEASURES[job.measure]({ contender, loaded, job });
  answer({ version: loaded.version, ...figures });
} catch (error) {
  const text = String(error?.message ?? error).split("\n")[0];
  answer({ error: `${error?.name ?? "Error"}: ${text}` });
}
// Some addons keep a process alive after they are closed.
process.exit(0);

/** Some addons load, and die at their first use: so this uses them. */
async function tryOut({ contender, loaded, job }) {
  const log = await loaded.open(job.folder, { ...job, durable: false });
  await log.append(new Uint8Array([7]));
  const bytes = await log.get(0);
  if (bytes[0] !== 7) throw new Error("gives back something else");
  await log.close();
  return { facts: contender }; // Its plain fields: functions are left out.
}

function answer(figures) {
  writeSync(1, `\n${JSON.stringify(figures)}\n`);
}
