/**
 * What is measured, on what, and how long. "quick" keeps to its minutes;
 * "full" does all its rounds.
 */

const MEBIBYTE = 1024 * 1024;

/**
 * Every measure: its name is that of measure.mjs; `log` tells what it needs:
 * a "new" folder, a "filled" log, or one whose writer was "killed".
 */
export const MEASURES = [
  { name: "append", log: "new" },
  { name: "append, warm", log: "new", warms: true },
  { name: "append durable", log: "new", durable: true },
  { name: "append durable, 64 callers", log: "new", durable: true },
  { name: "batch of 100", log: "new", full: true },
  { name: "batch of 1000", log: "new" },
  { name: "batch of 100, durable", log: "new", durable: true, full: true },
  { name: "batch of 1000, durable", log: "new", durable: true },
  { name: "get", log: "filled" },
  { name: "scan", log: "filled" },
  { name: "open", log: "filled", title: "open, closed" },
  { name: "open", log: "killed", title: "open, killed" },
  { name: "follow", log: "new", follows: true },
  { name: "memory", log: "new", bytes: true },
];

/** A measure's heading in tables and charts. */
export function titleOf(measure) {
  return measure.title ?? measure.name;
}

const PLANS = {
  quick: {
    payloads: [256],
    minutes: 2,
    rounds: 99,
    budgetMs: 100,
    writeBytesMax: 64 * MEBIBYTE,
    fillBytesMax: 8 * MEBIBYTE,
    timeoutMs: 30_000,
  },
  full: {
    payloads: [16, 256, 4096, 65536],
    minutes: Infinity,
    rounds: 5,
    budgetMs: 1000,
    writeBytesMax: 1024 * MEBIBYTE,
    fillBytesMax: 64 * MEBIBYTE,
    timeoutMs: 120_000,
  },
};

/** Small entries: their number, not their bytes, is what takes time. */
const FILL_ENTRIES_MAX = 200_000;

/** The plan that the command line asks for. */
export function planOf(values) {
  const name = values.full ? "full" : "quick";
  const plan = { name, ...PLANS[name] };
  if (values.payloads) plan.payloads = values.payloads.split(",").map(Number);
  if (values.minutes) plan.minutes = Number(values.minutes);
  if (values.rounds) {
    plan.rounds = Number(values.rounds);
    plan.minutes = Infinity;
  }
  if (values.budget) plan.budgetMs = Number(values.budget);
  const mebibytes = Number(values.mebibytes ?? Infinity) * MEBIBYTE;
  plan.writeBytesMax = Math.min(plan.writeBytesMax, mebibytes);
  plan.fillBytesMax = Math.min(plan.fillBytesMax, mebibytes);
  const wanted = values.measure;
  plan.measures = MEASURES.filter((measure) =>
    wanted === undefined
      ? values.full || !measure.full
      : wanted.some((text) => titleOf(measure).startsWith(text))
  );
  return plan;
}

/** How much data a log of a payload's size is filled with. */
export function fillBytesOf(plan, bytes) {
  return Math.min(plan.fillBytesMax, FILL_ENTRIES_MAX * bytes);
}
