/**
 * The rows of the table of bars: what is measured, how much of it there may
 * be, and where it is found in the figures of the parts.
 */

import { STALLS } from "./parts.mjs";

/**
 * A row: `at` finds the value in a part's figures; `floor` the same in the
 * floor's, where the shape differs. `most` or `least` is the bar, a number or
 * one for each runtime; a row without is shown for comparison.
 */
export function rowsOf({ gib }) {
  return [
    ...callRows(),
    ...durableRows(),
    ...STALLS.flatMap(stallRows),
    ...deviceRows(),
    ...gib.flatMap(openingRows),
    {
      label: "opening after a crash, 64 MiB tail",
      part: "crash",
      unit: "ms",
      most: 150,
      at: (f) => f.warmMs,
    },
    {
      label: "… first thing that a process does",
      part: "crash",
      unit: "ms",
      at: (f) => f.firstMs,
    },
    ...followRows(),
  ];
}

function callRows() {
  const row = (label, part, most) => ({
    label,
    part,
    unit: "ns",
    most,
    at: (f) => f.ns,
  });
  return [
    row("`appendSync`, never, warm", "append", { deno: 150, bun: 120 }),
    row("… with the caller's timestamp", "append, timestamp", 120),
    row("… a burst of 1 GiB through rotations", "burst", 350),
    row("`get`, random, warm 64 MiB", "get", 200),
    row("`view`, random, warm 64 MiB", "view", 120),
    row("`entries({ zeroCopy: true })`, an entry", "entries, zeroCopy", 100),
  ];
}

function durableRows() {
  const part = "durable";
  return [
    {
      label: "`appendSync`, always",
      part,
      unit: "µs",
      at: (f) => f.appendSyncNs / 1000,
    },
    {
      label: "… ÷ writeSync + fdatasyncSync",
      part,
      unit: "x",
      most: 1.25,
      at: (f) => f.appendSyncNs / f.syncFloorNs,
    },
    {
      label: "`append`, always, 64 callers, an entry",
      part,
      unit: "µs",
      at: (f) => f.callersNs[64] / 1000,
    },
    {
      label: "… times one caller",
      part,
      unit: "x",
      least: 40,
      at: (f) => f.callersNs[1] / f.callersNs[64],
    },
    {
      label: "… times a grouped fdatasync loop in C",
      part,
      unit: "x",
      least: 0.8,
      at: (f, floor) => floor?.callersNs[64] / f.callersNs[64],
    },
  ];
}

function stallRows({ sync, bytes, name }) {
  const label = `event loop held up, ${sync}, ${bytes / 1024} KiB`;
  const row = (what, at, most) => ({
    label: what,
    part: name,
    unit: "ms",
    at,
    most,
  });
  return [
    row(`${label}: p99.9`, (f) => f.p999, 2),
    row("… the worst", (f) => f.max),
  ];
}

function deviceRows() {
  const cases = [
    ["steady", "device bytes of a 256-byte commit", true],
    ["opened", "… the first after opening", true],
    ["recovered", "… the first after recovery", true],
    ["rotated", "… the first after a rotation", true],
    ["rotating", "… the one that rotates", false],
  ];
  return cases.flatMap(([name, label, barred]) => {
    const row = (what, at) => ({
      label: what,
      part: "device",
      unit: "B",
      most: barred ? 16384 : undefined,
      at,
    });
    return [
      row(label, (f) => f[name].process),
      row("… with the file system's journal", (f) => f[name].disk),
    ];
  });
}

function openingRows(gib) {
  const row = (label, unit, most, at) => ({
    label,
    part: `opening ${gib}`,
    unit,
    most,
    at,
  });
  const perMillion = (bytes, f) => bytes / f.memory.entryCount;
  return [
    row(`opening, closed, ${gib} GiB`, "ms", 20, (f) => f.warmMs),
    row("… first thing that a process does", "ms", undefined, (f) => f.firstMs),
    row("… a segment", "µs", 30, (f) => f.usPerSegment),
    row(
      "memory per million entries, opened",
      "MB",
      1,
      (f) => perMillion(f.memory.opened.anonymous, f),
    ),
    row(
      "… after 100 000 reads",
      "MB",
      1,
      (f) => perMillion(f.memory.read.anonymous, f),
    ),
  ];
}

function followRows() {
  const row = (label, unit, most, at) => ({
    label,
    part: "follow",
    unit,
    most,
    at,
  });
  return [
    row("follower in another process: p50", "ms", 2, (f) => f.p50),
    row("… p99", "ms", 10, (f) => f.p99),
    row("… idle, of a core", "%", 1, (f) => f.idlePercent),
  ];
}
