/**
 * `walrus verify`: reads all of a log and says what is wrong, what that means
 * and what to do.
 *
 * @module
 */

import { basename } from "node:path";
import type { Finding } from "../src/finding.ts";
import { openLogFolder } from "../src/look.ts";
import { verifyLog, type VerifyReport } from "../src/verify.ts";
import { Arguments } from "./arguments.ts";
import {
  formatBytes,
  formatCount,
  printOut,
  quote,
  SurveyLine,
} from "./output.ts";

const OPTIONS = { json: "boolean", storage: "string" } as const;

/** Runs the command; returns its exit code. */
export async function verify(args: readonly string[]): Promise<number> {
  const given = new Arguments(args, OPTIONS);
  const directory = given.onlyDirectory();
  const report = readAll(given, directory);
  const outcome = outcomeOf(report);
  if (given.flag("json")) {
    await printOut(JSON.stringify({ directory, outcome, ...report }));
  } else {
    const lines = report.findings.map(describeFinding);
    lines.push(conclude(outcome, report));
    await printOut([...lines, ...explain(directory, report)].join("\n"));
  }
  return outcome === "damaged" ? 1 : 0;
}

function readAll(given: Arguments, directory: string): VerifyReport {
  const folder = openLogFolder(given.storage(), directory);
  const progress = new SurveyLine();
  try {
    const steps = verifyLog(folder);
    for (;;) {
      const { done, value } = steps.next();
      if (done) return value;
      progress.show(value);
    }
  } finally {
    progress.end();
    folder.close();
  }
}

type Outcome = "sound" | "torn" | "damaged";

/** What the findings come to. */
function outcomeOf({ findings }: Pick<VerifyReport, "findings">): Outcome {
  if (findings.some(({ kind }) => kind !== "torn")) return "damaged";
  return findings.length > 0 ? "torn" : "sound";
}

/** A finding in one line. */
export function describeFinding(finding: Finding): string {
  const { kind, segment, offset, message } = finding;
  return `${kind}: ${basename(segment)} at offset ${offset}: ${message}`;
}

function conclude(outcome: Outcome, report: VerifyReport): string {
  const { entryCount, lostCount, segmentCount, bytes, findings } = report;
  const entries = formatCount(entryCount, "sound entry", "sound entries");
  const segments = formatCount(segmentCount, "segment", "segments");
  const found = findings.length === 0
    ? ""
    : `${formatCount(findings.length, "finding", "findings")}, `;
  const lost = lostCount === 0 ? "" : `, ${lostCount} lost,`;
  return `${outcome}: ${found}${entries}${lost} in ${segments}, ` +
    `${formatBytes(bytes)} read`;
}

/** What the findings mean, and what to do next. */
function explain(directory: string, report: VerifyReport): string[] {
  const { findings, lostCount, entryCount, opens } = report;
  const has = (kind: Finding["kind"]) =>
    findings.some((finding) => finding.kind === kind);
  const lines: string[] = [];
  if (has("damage")) {
    const opening = opens
      ? "Opening takes the log as it is; the lost entries throw when read."
      : "Opening refuses the log, so that nothing is written onto damage.";
    const lost = lostCount === 0
      ? "no entry is lost by it."
      : `${formatCount(lostCount, "entry is", "entries are")} lost by it.`;
    const rest = entryCount === 0 ? [] : [
      `openReader with recovery "salvage", and walrus dump --salvage, read ` +
      `the rest.`,
    ];
    lines.push(
      "",
      "Bytes that were made durable have changed or are gone: a disk, a copy " +
        "or a",
      `program did that, not a crash; ${lost}`,
      opening,
      ...rest,
      "Next: restore the files named above from a copy, or see what can be " +
        "kept of them:",
      `    walrus repair ${quote(directory)}`,
    );
  } else if (has("index")) {
    lines.push(
      "",
      "No entry is lost: an index repeats what the frames say, and reads do " +
        "without it.",
      "Next: make it again:",
      `    walrus repair ${quote(directory)} --index`,
    );
  } else if (has("torn")) {
    lines.push("", "Next: nothing. The next opening for writing does it.");
  }
  return lines;
}
