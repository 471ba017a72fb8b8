/**
 * What growth.mjs measures: each part gives points `{ chart, who, x, value }`
 * and says how they are drawn and which law is looked for in them.
 */

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { openingPart } from "../bars/parts.mjs";
import { removeFolder, runChild, runFloor } from "../commands.mjs";

/** Budgets: real ones, long ones, and those that only show that all works. */
export function budgetOf({ smoke, full }) {
  if (smoke) {
    return {
      counts: [1e4, 1e5],
      gib: [0.07, 0.14],
      callers: [1, 4, 16],
      callerRounds: 2,
      callerMs: 20,
      followers: [0, 1, 2],
      followCount: 20,
      burst: 2000,
    };
  }
  return {
    counts: [1e4, 1e5, 1e6, 1e7, ...(full ? [1e8] : [])],
    gib: [0.25, 0.5, 1, ...(full ? [10] : [])],
    callers: Array.from({ length: 11 }, (_, i) => 2 ** i),
    callerRounds: 5,
    callerMs: 200,
    followers: [0, 1, 2, 4],
    followCount: 1000,
    burst: 50_000,
  };
}

/**
 * Parts `{ name, title, charts, measure(tools) }`. Of a chart, `law` is
 * "power" (so many times dearer for each tenfold) or "line" (a start, and so
 * much for each more); its axes follow that.
 */
export function partsOf(budget) {
  return [
    entriesPart(budget),
    openingsPart(budget),
    callersPart(budget),
    followersPart(budget),
  ];
}

function entriesPart({ counts }) {
  const chart = (name, title, unit) => ({
    name,
    title,
    unit,
    x: "entries of 16 bytes in the log",
    law: "power",
  });
  const most = Math.max(...counts);
  return {
    name: "entries",
    title: "Appending to and reading from a log of many entries",
    diskBytes: most * 80 + 2 ** 30,
    charts: [
      chart("append", "appendSync, not synced, into new pages", "ns"),
      chart("get", "get, random, all read once before", "ns"),
      chart(
        "cold",
        "get, random, the page cache dropped before",
        "µs",
      ),
    ],
    measure: async ({ runtimes, newFolder, say }) => {
      const points = [];
      for (const who of runtimes) {
        const log = join(newFolder(), "log");
        for (const x of counts) {
          const run = async (...args) =>
            say(who, await runChild(who, "growth_entries.ts", args));
          const warm = await run("--log", log, "--count", x);
          if (warm.error !== undefined) break;
          const dropped = dropFromCache(log);
          const cold = dropped ? await run("--log", log, "--cold") : {};
          points.push({ chart: "append", who, x, value: warm.appendNs });
          points.push({ chart: "get", who, x, value: warm.getNs });
          const { coldGetNs, coldReadBytes } = cold;
          const value = coldGetNs / 1000;
          points.push({ chart: "cold", who, x, value, coldReadBytes });
        }
        removeFolder(log);
      }
      return points;
    },
  };
}

/** Asks the system to forget what it holds of the files; whether that went. */
function dropFromCache(folder) {
  const flags = ["oflag=nocache", "conv=notrunc,fdatasync", "count=0"];
  return readdirSync(folder).filter((name) => name.endsWith(".wal")).every(
    (name) => {
      const args = [`of=${join(folder, name)}`, ...flags, "status=none"];
      return spawnSync("dd", args, { stdio: "ignore" }).status === 0;
    },
  );
}

function openingsPart({ gib }) {
  const chart = (name, title, unit, x) => ({
    name,
    title,
    unit,
    x,
    law: "line",
  });
  return {
    name: "opening",
    title: "Opening a closed log of 256-byte entries",
    diskBytes: (Math.max(...gib) + 1) * 2 ** 30,
    charts: [
      chart("open", "opening, compiled code", "ms", "segments of 64 MiB"),
      chart(
        "first",
        "opening, first thing in a process",
        "ms",
        "segments of 64 MiB",
      ),
      chart(
        "memory",
        "resident outside files after 100 000 reads",
        "KiB",
        "million entries",
      ),
    ],
    measure: async ({ runtimes, newFolder, say }) => {
      const points = [];
      for (const size of gib) {
        const part = openingPart(size, { rounds: 1 });
        const folder = newFolder();
        await part.before(
          runtimes.includes("bun") ? "bun" : runtimes[0],
          folder,
        );
        for (const who of runtimes) {
          const found = say(who, await part.run(who));
          if (found.error !== undefined) continue;
          const { warmMs, firstMs, segments, memory } = found;
          const gibibytes = { gib: size, segments };
          const of = { who, x: segments, ...gibibytes };
          points.push({ chart: "open", ...of, value: warmMs });
          points.push({ chart: "first", ...of, value: firstMs });
          const x = memory.entryCount / 1e6;
          const value = memory.read.anonymous / 1024;
          points.push({
            chart: "memory",
            who,
            ...gibibytes,
            x,
            value,
            ...memory,
          });
        }
        removeFolder(folder);
      }
      return points;
    },
  };
}

function callersPart({ callers, callerRounds, callerMs }) {
  const chart = (name, title, unit) => ({
    name,
    title,
    unit,
    x: "callers at once",
    law: "power",
  });
  return {
    name: "callers",
    title: "Durable appends by callers who share syncs",
    diskBytes: 8 * 2 ** 30,
    charts: [
      chart("entry", "append, always, an entry", "µs"),
      chart("gain", "append, always, times one caller", "x"),
    ],
    measure: async ({ runtimes, newFolder, say }) => {
      const found = {};
      const flags = ["--rounds", callerRounds, "--ms", callerMs];
      for (const who of runtimes) {
        const args = ["--callers", callers.join(), "--folder", newFolder()];
        const script = "durable_calls.ts";
        const figures = say(
          who,
          await runChild(who, script, [...args, ...flags]),
        );
        found[who] = figures.callersNs ?? {};
      }
      found.floor = await floorOfCallers(callers, callerRounds * callerMs, {
        newFolder,
        say,
      });
      return Object.entries(found).flatMap(([who, times]) =>
        callers.filter((x) => times[x] > 0).flatMap((x) => [
          { chart: "entry", who, x, value: times[x] / 1000 },
          { chart: "gain", who, x, value: times[callers[0]] / times[x] },
        ])
      );
    },
  };
}

async function floorOfCallers(callers, budgetMs, { newFolder, say }) {
  const times = {};
  for (const count of callers) {
    const folder = newFolder();
    const job = { folder, budgetMs, bytesMax: 2 ** 30 };
    const name = `append durable, ${count} callers`;
    times[count] = say("floor", await runFloor(name, job)).ns;
    removeFolder(folder);
  }
  return times;
}

function followersPart({ followers, followCount, burst }) {
  const chart = (name, title, unit) => ({
    name,
    title,
    unit,
    x: "followers in other processes",
    law: "line",
  });
  return {
    name: "followers",
    title: "Followers in other processes",
    diskBytes: 8 * 2 ** 30,
    charts: [
      chart("writer", "appendSync, not synced, while they follow", "ns"),
      chart("p50", "from append to delivery, p50", "ms"),
      chart("p99", "from append to delivery, p99 of the worst", "ms"),
      chart("pipe50", "through a pipe, without a log, p50", "ms"),
      chart("pipe99", "through a pipe, p99 of the worst", "ms"),
    ],
    measure: async ({ runtimes, newFolder, say }) => {
      const points = [];
      const flags = ["--count", followCount, "--burst", burst];
      for (const who of runtimes) {
        for (const x of followers) {
          const where = ["--followers", x, "--folder", newFolder()];
          const found = say(
            who,
            await runChild(who, "growth_followers.ts", [...where, ...flags]),
          );
          const add = (chart, value) => points.push({ chart, who, x, value });
          add("writer", found.appendNs);
          add("p50", found.p50);
          add("p99", found.p99);
          add("pipe50", found.pipeP50);
          add("pipe99", found.pipeP99);
        }
      }
      return points;
    },
  };
}
