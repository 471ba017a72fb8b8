/**
 * The rounds. In each one every contender does the same measure in turn
 * before any goes on to the next, so that what else the machine does meets
 * all of them; each round begins with another contender.
 */

import { spawnSync } from "node:child_process";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { join } from "node:path";
import { fillBytesOf, titleOf } from "./plan.mjs";

/**
 * Runs a plan.
 *
 * @param {object} plan As `planOf` makes it.
 * @param {object[]} contenders As `findContenders` found them.
 * @param {object} means `run`, `report` of progress, `folder` for logs.
 * @returns {Promise<object[]>} One sample for each measurement:
 *   `{ contender, bytes, measure, round, …figures }`.
 */
export async function runRounds(plan, contenders, { run, report, folder }) {
  const base = mkdtempSync(join(folder ?? tmpdir(), "walrus-bench-"));
  // Interrupted or not, nothing stays behind.
  const remove = () => rmSync(base, { recursive: true, force: true });
  process.once("exit", remove);
  const stop = () => process.exit(130);
  process.once("SIGINT", stop);
  const samples = [];
  const started = Date.now();
  try {
    for (let round = 0; round < plan.rounds; round++) {
      const spent = (Date.now() - started) / 60_000;
      // Half a round too many is nearer than half a round too few.
      if (round > 0 && spent + spent / round / 2 > plan.minutes) break;
      const turn = (list) => {
        const first = round % list.length;
        return [...list.slice(first), ...list.slice(0, first)];
      };
      for (const bytes of plan.payloads) {
        const context = { plan, run, base, bytes, round, samples, report };
        await measureNew(context, turn(contenders));
        await measureLogs(context, turn(contenders), "filled");
        await measureLogs(context, turn(contenders), "killed");
      }
    }
  } finally {
    remove();
    process.off("exit", remove);
    process.off("SIGINT", stop);
  }
  return samples;
}

async function measureNew(context, contenders) {
  const { plan, bytes } = context;
  for (const measure of plan.measures) {
    if (measure.log !== "new") continue;
    const bytesMax = measure.bytes
      ? fillBytesOf(plan, bytes)
      : plan.writeBytesMax;
    for (const contender of contenders) {
      if (measure.follows && !contender.follows) continue;
      if (measure.warms && !warmable(contender)) continue;
      const folder = newFolder(context);
      await measureOne(context, contender, measure, { folder, bytesMax });
      rmSync(folder, { recursive: true, force: true });
    }
  }
}

/** Makes a log for each contender, and does what needs such a log. */
async function measureLogs(context, contenders, state) {
  const { plan, run, bytes } = context;
  const measures = plan.measures.filter(({ log }) => log === state);
  if (measures.length === 0) return;
  const fill = state === "filled" ? "fill" : "fill and die";
  const bytesMax = fillBytesOf(plan, bytes);
  const logs = [];
  for (const contender of contenders) {
    const folder = newFolder(context);
    const job = { ...jobOf(plan, bytes), measure: fill, folder, bytesMax };
    const made = tooLarge(contender, bytes) ?? await run(contender, job);
    const sample = record(context, contender, { name: fill }, made);
    if (made.error === undefined) sample.diskBytes = diskBytesOf(folder);
    logs.push({ contender, folder, made });
  }
  // What was written for one shall not reach the disk while another reads.
  spawnSync("sync");
  for (const measure of measures) {
    for (const { contender, folder, made } of logs) {
      if (made.error !== undefined) continue;
      const sample = await measureOne(context, contender, measure, {
        folder,
        bytesMax,
      });
      if (state === "killed") sample.lost = made.count - sample.count;
    }
  }
  for (const { folder } of logs) {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measureOne(context, contender, measure, more) {
  const { plan, run, bytes } = context;
  const job = { ...jobOf(plan, bytes), measure: measure.name, ...more };
  const refusal = tooLarge(contender, bytes) ?? noSync(contender, measure);
  const figures = refusal ?? await run(contender, job);
  return record(context, contender, measure, figures);
}

function jobOf(plan, bytes) {
  return { bytes, budgetMs: plan.budgetMs, timeoutMs: plan.timeoutMs };
}

/** On files there are no pages to warm: every append is a system call. */
function warmable({ warms, storage }) {
  return warms === true && storage !== "files";
}

function tooLarge({ entryBytesMax = Infinity }, bytes) {
  return bytes > entryBytesMax
    ? { error: `an entry has ${entryBytesMax} bytes at most` }
    : undefined;
}

function noSync({ promise }, { durable }) {
  return durable && promise.durable === "none"
    ? { error: "has no synced append" }
    : undefined;
}

function record(
  { samples, bytes, round, report },
  contender,
  measure,
  figures,
) {
  const title = titleOf(measure);
  const sample = { contender: contender.id, bytes, measure: title, round };
  Object.assign(sample, figures);
  delete sample.version;
  samples.push(sample);
  report(sample);
  return sample;
}

function newFolder({ base }) {
  const folder = mkdtempSync(join(base, "log-"));
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** The bytes that a folder's files take up on the disk. */
function diskBytesOf(folder) {
  let bytes = 0;
  for (const item of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, item.name);
    bytes += item.isDirectory()
      ? diskBytesOf(path)
      : lstatSync(path).blocks * 512;
  }
  return bytes;
}
