/**
 * What can be done about a damaged log, in words: what each remedy keeps,
 * what it loses and what it would be called with.
 *
 * @module
 */

import { basename } from "node:path";
import type { Finding } from "../src/finding.ts";
import type { RepairPlan } from "../src/repair_log.ts";
import { formatBytes, formatCount, quote } from "./output.ts";
import { describeFinding } from "./verify.ts";

/** All that the command can do. */
export type Remedy = "index" | "manifest" | "cut" | "salvage";

/** Findings above this number are counted, not listed. */
const FINDINGS_MAX = 50;

/** Whether nothing is to be repaired; a torn tail is cut by opening. */
export function isSound({ survey }: RepairPlan): boolean {
  return survey.findings.every(({ kind }) => kind === "torn");
}

/** How the log stands, in one line. */
export function statusLine(plan: RepairPlan): string {
  const { survey, remains, opens } = plan;
  const { entryCount, firstIndex, nextIndex } = survey;
  const lost = nextIndex - firstIndex - entryCount;
  const state = isSound(plan) ? "sound" : "damaged";
  const entries = entryCount === 0
    ? "no entry"
    : `${formatCount(entryCount, "entry", "entries")} of ${firstIndex} to ` +
      `${nextIndex - 1}`;
  const gone = lost === 0 ? "" : `, ${lost} lost,`;
  const segments = formatCount(remains.members.length, "segment", "segments");
  const opening = opens ? "opening takes it" : "opening refuses it";
  return `The log is ${state}: ${entries}${gone} in ${segments}; ${opening}.`;
}

/** What is wrong, and what can be done. */
export function describePlan(directory: string, plan: RepairPlan): string[] {
  const { findings } = plan.survey;
  const lines = [statusLine(plan)];
  if (findings.length === 0) return lines;
  lines.push("", "What is wrong:");
  for (const finding of findings.slice(0, FINDINGS_MAX)) {
    lines.push(`  ${describeFinding(finding)}`);
  }
  if (findings.length > FINDINGS_MAX) {
    const more = findings.length - FINDINGS_MAX;
    lines.push(`  and ${more} more; see walrus verify ${quote(directory)}`);
  }
  if (isSound(plan)) {
    return [...lines, "", "Nothing to do: the next opening cuts it."];
  }
  lines.push("", "What can be done; nothing was changed so far:");
  if (findings.some(({ kind }) => kind === "damage")) {
    lines.push(`  restore ${damagedFiles(findings)} from a copy`);
    lines.push("      The best, if there is one: nothing is lost.");
  }
  for (const remedy of ["index", "manifest", "cut", "salvage"] as const) {
    if (applies(plan, remedy)) {
      lines.push(...describeRemedy(directory, plan, remedy).map(indent));
    }
  }
  return lines;
}

function indent(line: string): string {
  return `  ${line}`;
}

function damagedFiles(findings: readonly Finding[]): string {
  const names = new Set(
    findings.filter(({ kind }) => kind === "damage")
      .map(({ segment }) => basename(segment)),
  );
  const [first] = names;
  return names.size <= 1 ? first! : `${first} and ${names.size - 1} more`;
}

function applies(plan: RepairPlan, remedy: Remedy): boolean {
  const { index, manifest, cut, survey } = plan;
  switch (remedy) {
    case "index":
      return index.length > 0;
    case "manifest":
      return manifest !== undefined;
    case "cut":
      return cut !== undefined;
    default:
      return survey.entryCount > 0 &&
        survey.findings.some(({ kind }) => kind === "damage");
  }
}

/** One remedy: how it is called, what it keeps and what it loses. */
export function describeRemedy(
  directory: string,
  plan: RepairPlan,
  remedy: Remedy,
  target = "NEWDIR",
): string[] {
  const call = `walrus repair ${quote(directory)} --${remedy}`;
  const title = remedy === "salvage" ? `${call} ${quote(target)}` : call;
  if (!applies(plan, remedy)) return [title, "    Nothing to do."];
  const text = {
    index: describeIndex,
    manifest: describeManifest,
    cut: describeCut,
    salvage: describeSalvage,
  }[remedy](plan);
  return [title, ...text.map((line) => `    ${line}`)];
}

function describeIndex({ index }: RepairPlan): string[] {
  const segments = formatCount(index.length, "segment", "segments");
  return [
    `Loses nothing: index, footer or spare header of ${segments} are made ` +
    `again.`,
  ];
}

function describeManifest({ manifest }: RepairPlan): string[] {
  if (manifest === undefined) return [];
  if ("refusal" in manifest) {
    return [`Cannot be done: ${manifest.refusal}.`];
  }
  const { assumption } = manifest;
  const lines = [
    "Loses nothing: the manifest is made again from the segments.",
  ];
  if (assumption !== undefined) lines.push(`It assumes: ${assumption}.`);
  return lines;
}

function describeCut({ cut, survey }: RepairPlan): string[] {
  if (cut === undefined) return [];
  const { keptCount, cutCount, nextIndex, moved, copiedBytes } = cut;
  const { firstIndex, gaps } = survey;
  if (!survey.damaged) {
    const files = formatCount(moved.length, "file", "files");
    return [`Moves ${files} that do not belong to the log to "cut".`];
  }
  let lost = 0;
  for (const { firstLostIndex, lastLostIndex } of gaps) {
    lost += lastLostIndex - firstLostIndex + 1;
  }
  const kept = keptCount === 0
    ? "no entry"
    : `${formatCount(keptCount, "entry", "entries")}, ${firstIndex} to ` +
      `${nextIndex - 1}`;
  const gone = lost === 0 ? "" : `, and the ${lost} lost`;
  const cuts = cutCount === 0 && lost === 0
    ? "cuts none"
    : `cuts ${formatCount(cutCount, "entry", "entries")} that can be read` +
      gone;
  const files = formatCount(moved.length, "file", "files");
  return [
    `Ends the log before the first damage: keeps ${kept}; ${cuts}.`,
    `What is cut is kept in "cut": ${files} as a whole, and a copy of ` +
    `${formatBytes(copiedBytes)}.`,
    "The log can be written again; the next entry gets index " +
    `${nextIndex}.`,
  ];
}

function describeSalvage({ survey, remains }: RepairPlan): string[] {
  const { entryCount, gaps } = survey;
  const { formatName } = remains;
  if (formatName !== "binary" && formatName !== "json") {
    return [
      `Cannot be done here: only the program that has the encoder ` +
      `"${formatName}" can read the entries,`,
      `by openReader with recovery "salvage".`,
    ];
  }
  // The first entries keep their indexes.
  const begin = gaps[0]?.firstLostIndex === survey.firstIndex ? 1 : 0;
  const gap = gaps[begin];
  let moved = 0;
  if (gap !== undefined) {
    const before = gap.firstLostIndex -
      (begin === 0 ? survey.firstIndex : gaps[0]!.lastLostIndex + 1);
    moved = entryCount - before;
  }
  const others = moved === 0
    ? "all keep their indexes."
    : `${formatCount(moved, "entry", "entries")} behind a gap get other ` +
      `indexes,`;
  const lines = [
    `Writes the ${formatCount(entryCount, "entry", "entries")} that can be ` +
    `read into a new log, and leaves this one`,
    `as it is; ${others}`,
  ];
  if (moved > 0) {
    lines.push(
      "because a log has no gaps; NEWDIR/salvage.json says which.",
    );
  }
  return lines;
}

/** The same for programs. */
export function planSummary(plan: RepairPlan): Record<string, unknown> {
  const { survey, index, manifest, cut, opens } = plan;
  const { findings, entryCount, firstIndex, nextIndex, gaps } = survey;
  return {
    sound: isSound(plan),
    opens,
    entryCount,
    firstIndex,
    nextIndex,
    gaps,
    findings,
    remedies: {
      index: index.length > 0 && {
        segments: index.map(({ reading }) => reading.path),
      },
      manifest: manifest !== undefined &&
        ("refusal" in manifest
          ? { refusal: manifest.refusal }
          : { assumption: manifest.assumption ?? null }),
      cut: cut !== undefined && {
        keptCount: cut.keptCount,
        cutCount: cut.cutCount,
        nextIndex: cut.nextIndex,
        moved: cut.moved,
        copiedBytes: cut.copiedBytes,
      },
      salvage: applies(plan, "salvage") && { entryCount },
    },
  };
}
