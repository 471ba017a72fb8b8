/** The figures as tables in Markdown. */

import { measuredTitles } from "./summary.mjs";

/** Everything that is printed after a run. */
export function formatTables({ plan, contenders, absent, rows }) {
  const parts = [promises(contenders)];
  for (const bytes of plan.payloads) {
    const of = rows.filter((row) => row.bytes === bytes);
    if (of.length === 0) continue;
    const titles = measuredTitles(plan, of);
    const table = (cell) =>
      grid(contenders, ["", ...titles], (contender) =>
        titles.map((title) => {
          const row = of.find((one) =>
            one.contender === contender.id && one.measure === title
          );
          return row === undefined ? "" : cell(row);
        }));
    parts.push(
      `## ${sizeOf(bytes)} an entry`,
      "Time for an entry, or for the opening; the median of the rounds and " +
        "how far the farthest round is from it.",
      table(timeCell),
      "Times walrus on the same runtime (programs in C: on Deno); above 1 " +
        "is slower.",
      table(({ toWalrus }) => ratioText(toWalrus)),
      "Times the floor in C.",
      table(({ toFloor }) => ratioText(toFloor)),
      "Tails, space and memory.",
      moreTable(contenders, of, bytes),
    );
  }
  const reasons = failures(rows);
  if (reasons.length > 0) {
    parts.push("## Not measured", ...reasons);
  }
  if (absent.length > 0) {
    parts.push(
      "## Not here",
      absent.map(absentLine).join("\n"),
    );
  }
  return `${parts.join("\n\n")}\n`;
}

/** One who does not install or load, with the version and the reason. */
export function absentLine({ id, version, reason }) {
  return `- ${id}${version === undefined ? "" : ` (${version})`}: ${reason}`;
}

function promises(contenders) {
  const headings = [
    "",
    "version",
    "what",
    "append survives",
    "synced survives",
  ];
  return grid(contenders, headings, ({ version, about, promise }) => [
    version ?? "",
    about,
    promise.append,
    promise.durable,
  ]);
}

function moreTable(contenders, rows, bytes) {
  const headings = [
    "",
    "durable p50",
    "p99",
    "worst",
    "disk an entry",
    "kept after kill -9",
    "resident",
    "without files",
    "follow p50",
    "p99",
    "idle CPU",
  ];
  return grid(contenders, headings, ({ id }) => {
    const find = (title) =>
      rows.find((row) => row.contender === id && row.measure === title) ?? {};
    const durable = find("append durable");
    const filled = find("fill");
    const memory = find("memory");
    const killed = find("open, killed");
    const follow = find("follow");
    return [
      timeText(durable.p50),
      timeText(durable.p99),
      timeText(durable.worst),
      has(filled.diskBytes, () => {
        const each = filled.diskBytes / filled.count;
        return `${each.toFixed(0)} B (${(each / bytes).toFixed(2)} x)`;
      }),
      has(killed.lost, (lost) => lost === 0 ? "all" : `lost ${lost}`),
      has(memory.residentBytes, mebibytes),
      has(memory.ownBytes, mebibytes),
      timeText(follow.p50),
      timeText(follow.p99),
      has(follow.idlePercent, (part) => `${part.toFixed(2)} %`),
    ];
  });
}

/** One line for each different reason, with those whom it concerns. */
function failures(rows) {
  const byReason = new Map();
  for (const { contender, bytes, measure, error } of rows) {
    if (error === undefined) continue;
    const key = `${contender}: ${error}`;
    const list = byReason.get(key) ?? new Set();
    byReason.set(key, list.add(`${measure} (${sizeOf(bytes)})`));
  }
  return [
    [...byReason].map(([key, list]) => `- ${key}: ${[...list].join(", ")}`)
      .join("\n"),
  ].filter((text) => text !== "");
}

function timeCell(row) {
  if (row.value === undefined) return row.error === undefined ? "" : "–";
  return `${timeText(row.value)} ±${Math.round(row.spread * 100)} %`;
}

/** Nanoseconds with three digits, in the unit that fits. */
export function timeText(ns) {
  if (!Number.isFinite(ns)) return "";
  const units = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]];
  const [size, unit] = units.find(([size]) => ns >= size) ?? [1, "ns"];
  return `${threeDigits(ns / size)} ${unit}`;
}

/** Bytes in the unit that fits. */
export function sizeOf(bytes) {
  return bytes < 1024 ? `${bytes} B` : `${bytes / 1024} KiB`;
}

function ratioText(ratio) {
  return ratio === undefined ? "" : `${threeDigits(ratio)} x`;
}

function threeDigits(value) {
  if (value >= 100) return value.toFixed(0);
  return value.toPrecision(3);
}

function mebibytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function has(value, text) {
  return Number.isFinite(value) ? text(value) : "";
}

/** A table with aligned columns: the first to the left, others to the right. */
function grid(contenders, headings, cellsOf) {
  const lines = [
    headings,
    ...contenders.map((one) => [one.id, ...cellsOf(one)]),
  ];
  const widths = headings.map((_, column) =>
    Math.max(3, ...lines.map((line) => line[column].length))
  );
  const format = (line) =>
    `| ${
      line.map((cell, column) =>
        column === 0
          ? cell.padEnd(widths[column])
          : cell.padStart(widths[column])
      ).join(" | ")
    } |`;
  const rule = widths.map((width, column) =>
    column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`
  );
  return [format(lines[0]), `| ${rule.join(" | ")} |`]
    .concat(lines.slice(1).map(format)).join("\n");
}
