/**
 * `walrus stat`: what a log is made of, without opening it for writing.
 *
 * @module
 */

import { basename } from "node:path";
import { openStillLog, type StillLog } from "../src/still_log.ts";
import { Arguments } from "./arguments.ts";
import { formatBytes, formatCount, printOut } from "./output.ts";

const OPTIONS = { json: "boolean", storage: "string" } as const;

/** Runs the command; returns its exit code. */
export async function stat(args: readonly string[]): Promise<number> {
  const given = new Arguments(args, OPTIONS);
  const directory = given.onlyDirectory();
  using log = openStillLog(given.storage(), directory, {
    anyFormat: true,
  });
  const summary = describe(log);
  await printOut(
    given.flag("json") ? JSON.stringify(summary) : layOut(summary),
  );
  return 0;
}

function describe(log: StillLog) {
  const { logId, formatName, closed } = log.facts;
  const { outcome, segmentsScanned, tornBytes } = log.recovery;
  const { storage, bytes } = log.stats();
  return {
    directory: log.directory,
    logId,
    format: formatName,
    storage,
    entryCount: log.length,
    firstIndex: log.firstIndex,
    lastIndex: log.lastIndex,
    nextIndex: log.nextIndex,
    bytes,
    recovery: { outcome, closed, segmentsScanned, tornBytes },
    segments: log.segments(),
  };
}

type Summary = ReturnType<typeof describe>;

function layOut(log: Summary): string {
  const range = log.entryCount === 0
    ? `none, the next is ${log.nextIndex}`
    : `${log.entryCount}, ${log.firstIndex} to ${log.lastIndex}`;
  const segments = formatCount(log.segments.length, "segment", "segments");
  const rows = [
    ["log", log.directory],
    ["entries", range],
    ["format", log.format],
    ["size", `${segments}, ${formatBytes(log.bytes)}`],
    ["storage", log.storage],
    ["opening", explain(log.recovery)],
  ];
  const lines = rows.map(([name, value]) => `${name!.padEnd(9)}${value}`);
  lines.push("");
  for (const segment of log.segments) {
    const { path, firstIndex, lastIndex, bytes, sealed, createdAt } = segment;
    const entries = lastIndex === 0 ? "empty" : `${firstIndex} to ${lastIndex}`;
    const state = sealed ? "sealed" : "last";
    lines.push(
      `${basename(path)}  ${entries.padEnd(20)}  ` +
        `${formatBytes(bytes).padStart(9)}  ${state.padEnd(6)}  ` +
        createdAt.toISOString(),
    );
  }
  return lines.join("\n");
}

function explain(recovery: Summary["recovery"]): string {
  const { outcome, closed, segmentsScanned, tornBytes } = recovery;
  if (closed) return "clean, it was closed";
  const scanned = formatCount(segmentsScanned, "segment", "segments");
  if (outcome === "clean") {
    return `clean, though it was not closed, or is being written; ${scanned} ` +
      `to scan`;
  }
  return `torn: ${formatCount(tornBytes, "byte", "bytes")} of unfinished ` +
    `writes would be cut; ${scanned} to scan`;
}
