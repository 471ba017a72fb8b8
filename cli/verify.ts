/**
 * `walrus verify`: reads all of a log and says what is wrong.
 *
 * @module
 */

import { basename } from "node:path";
import type { Finding } from "../src/finding.ts";
import { openLogFolder } from "../src/look.ts";
import { verifyLog, type VerifyReport } from "../src/verify.ts";
import { Arguments } from "./arguments.ts";
import { formatBytes, formatCount, printOut, ProgressLine } from "./output.ts";

const OPTIONS = { json: "boolean", storage: "string" } as const;

/** Runs the command; returns its exit code. */
export async function verify(args: readonly string[]): Promise<number> {
  const given = new Arguments(args, OPTIONS);
  const directory = given.onlyDirectory();
  const report = readAll(given, directory);
  const { findings } = report;
  const damaged = findings.some(({ kind }) => kind !== "torn");
  const outcome = damaged ? "damaged" : findings.length > 0 ? "torn" : "sound";
  if (given.flag("json")) {
    await printOut(JSON.stringify({ directory, outcome, ...report }));
  } else {
    const lines = findings.map(describe);
    await printOut([...lines, conclude(outcome, report)].join("\n"));
  }
  return damaged ? 1 : 0;
}

function readAll(given: Arguments, directory: string): VerifyReport {
  const folder = openLogFolder(given.storage(), directory);
  const progress = new ProgressLine();
  try {
    const steps = verifyLog(folder);
    for (;;) {
      const { done, value } = steps.next();
      if (done) return value;
      progress.show(() => {
        const { segment, bytesDone, bytesTotal } = value;
        const percent = Math.floor(100 * bytesDone / Math.max(bytesTotal, 1));
        return `${percent} % ${basename(segment)}`;
      });
    }
  } finally {
    progress.end();
    folder.close();
  }
}

function describe(finding: Finding): string {
  const { kind, segment, offset, message } = finding;
  return `${kind}: ${basename(segment)} at offset ${offset}: ${message}`;
}

function conclude(outcome: string, report: VerifyReport): string {
  const { entryCount, segmentCount, bytes, findings } = report;
  const entries = formatCount(entryCount, "sound entry", "sound entries");
  const segments = formatCount(segmentCount, "segment", "segments");
  const found = findings.length === 0
    ? ""
    : `${formatCount(findings.length, "finding", "findings")}, `;
  return `${outcome}: ${found}${entries} in ${segments}, ` +
    `${formatBytes(bytes)} read`;
}
