/**
 * `walrus dump`: prints entries without opening the log for writing.
 *
 * @module
 */

import { basename } from "node:path";
import type { Entry } from "../mod.ts";
import { openStillLog, type StillLog } from "../src/still_log.ts";
import { Arguments, UsageError } from "./arguments.ts";
import { EntryPrinter } from "./entry_printer.ts";
import { followLog } from "./follow.ts";
import { say } from "./output.ts";
import { Threshold, THRESHOLD_OPTIONS } from "./threshold.ts";

const OPTIONS = {
  json: "boolean",
  from: "string",
  to: "string",
  ...THRESHOLD_OPTIONS,
  limit: "string",
  follow: "boolean",
  reverse: "boolean",
  salvage: "boolean",
  storage: "string",
} as const;

/** Runs the command; returns its exit code. */
export async function dump(args: readonly string[]): Promise<number> {
  const given = new Arguments(args, OPTIONS);
  const directory = given.onlyDirectory();
  given.conflict("follow", ["reverse", "salvage"]);
  const from = startOf(given);
  const to = given.count("to", 0) ?? Number.MAX_SAFE_INTEGER;
  const limit = given.count("limit", 0) ?? Infinity;
  const threshold = new Threshold(given);
  const json = given.flag("json");
  const storage = given.storage();
  if (given.flag("follow")) {
    const order = { storage, directory, from, to, limit, threshold, json };
    return await followLog(order);
  }
  using log = openStillLog(storage, directory, {
    anyFormat: true,
    salvage: given.flag("salvage"),
  });
  const asked = typeof from === "number" ? from : 1;
  const range = {
    from: from === "end" ? log.nextIndex : asked,
    to,
    limit,
    reverse: given.flag("reverse"),
  };
  const begin = beginning(log, threshold);
  const later = { ...range, from: Math.max(range.from, begin) };
  return await printRange(log, later, new EntryPrinter(json));
}

/** Where `--since` and `--term` say to begin. */
function beginning(log: StillLog, threshold: Threshold): number {
  if (log.recovery.gaps.length === 0) return threshold.find(log).from;
  // A damaged log is searched entry by entry, without what is lost.
  const whole = { from: 1, to: Number.MAX_SAFE_INTEGER, reverse: false };
  return threshold.scan(readableEntries(log, whole)) ?? log.nextIndex;
}

/** Where `--from` says to begin. */
function startOf(given: Arguments): number | "start" | "end" {
  const text = given.text("from");
  if (text === "start" || text === "end") return text;
  try {
    return given.count("from", 0) ?? "start";
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(`${error.message}, "start" or "end"`);
  }
}

/** The entries that were asked for. */
interface Range {
  readonly from: number;
  readonly to: number;
  readonly limit: number;
  readonly reverse: boolean;
}

async function printRange(
  log: StillLog,
  range: Range,
  printer: EntryPrinter,
): Promise<number> {
  const { lost } = readableParts(log, range);
  let left = range.limit;
  try {
    for (const entry of left > 0 ? readableEntries(log, range) : []) {
      printer.add(entry);
      if (printer.full) await printer.flush();
      if (--left <= 0) break;
    }
  } finally {
    // What was read before an error is printed before the error is.
    await printer.flush();
  }
  for (const text of lost) say(`walrus: ${text}`);
  return lost.length > 0 ? 1 : 0;
}

/** The entries of a range, without those that are lost. */
function* readableEntries(
  log: StillLog,
  range: Omit<Range, "limit">,
): Generator<Entry> {
  const { reverse } = range;
  for (const part of readableParts(log, range).parts) {
    yield* log.entries({ ...part, reverse });
  }
}

/** What of a range lies between gaps, in the order asked for; and the gaps. */
function readableParts(
  log: StillLog,
  range: Omit<Range, "limit">,
): { parts: { from: number; to: number }[]; lost: string[] } {
  let { from } = range;
  const { to, reverse } = range;
  const parts: { from: number; to: number }[] = [];
  const lost: string[] = [];
  for (const { segment, firstLostIndex, lastLostIndex } of log.recovery.gaps) {
    if (lastLostIndex < from || firstLostIndex > to) continue;
    parts.push({ from, to: firstLostIndex - 1 });
    from = lastLostIndex + 1;
    const entries = firstLostIndex === lastLostIndex
      ? `Entry ${firstLostIndex} is lost`
      : `Entries ${firstLostIndex} to ${lastLostIndex} are lost`;
    lost.push(`${entries}: ${basename(segment)} is damaged`);
  }
  parts.push({ from, to });
  if (reverse) parts.reverse();
  return { parts, lost };
}
