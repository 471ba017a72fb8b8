/**
 * What bars.mjs has measured: each part by its own children, under each
 * runtime and, where there is such a thing, by the floor in C.
 */

import { join } from "node:path";
import { runChild, runFloor } from "../commands.mjs";

const ENTRY_BYTES = 256;
const WARM_ENTRIES = 200_000;
const MEBIBYTE = 1024 * 1024;

/** Sizes of entries and modes of the event loop's test. */
export const STALLS = ["always", "interval"].flatMap((sync) =>
  [4096, 65536].map((bytes) => ({
    sync,
    bytes,
    name: `stall ${sync} ${bytes}`,
  }))
);

/** Budgets: real ones, and those that only show that all works. */
export function budgetOf({ smoke, rounds }) {
  const budget = smoke
    ? {
      rounds: 1,
      floorMs: 20,
      burstBytes: 2 ** 27,
      durableMs: 10,
      stallMebibytes: 160,
      stallSeconds: 2,
      innerRounds: 2,
      followCount: 20,
      tailMebibytes: 2,
      gib: [0.2],
    }
    : {
      rounds: 3,
      floorMs: 1000,
      burstBytes: 2 ** 30,
      durableMs: 150,
      stallMebibytes: 2048,
      stallSeconds: 30,
      innerRounds: 9,
      followCount: 1000,
      tailMebibytes: 61,
      gib: [1],
    };
  if (rounds !== undefined) budget.rounds = Number(rounds);
  return { ...budget, smoke };
}

/**
 * The parts in their order: `{ name, rounds, run(who, folder), before? }`,
 * where `who` is a runtime or "floor", and `run` may give `undefined`.
 */
export function partsOf(budget) {
  return [
    ...callParts(budget),
    durablePart(budget),
    ...STALLS.map((stall) => stallPart(stall, budget)),
    devicePart(budget),
    ...budget.gib.map((gib) => openingPart(gib, budget)),
    crashPart(budget),
    followPart(budget),
  ];
}

const CALLS = [
  { name: "append", floor: "append, warm" },
  { name: "append, timestamp", floor: "append, warm" },
  { name: "burst", floor: "append" },
  { name: "get", floor: "get", fills: true },
  { name: "view", floor: "view", fills: true },
  { name: "entries, zeroCopy", floor: "scan, in place", fills: true },
];

function callParts({ rounds, smoke, floorMs, burstBytes }) {
  const flags = smoke ? ["--smoke"] : ["--bytes", burstBytes];
  return CALLS.map(({ name, floor, fills }) => ({
    name,
    rounds,
    run: async (who, folder) => {
      if (who !== "floor") {
        const args = ["--measure", name, "--folder", folder, ...flags];
        return await runChild(who, "single_calls.ts", args);
      }
      const filled = WARM_ENTRIES * ENTRY_BYTES;
      const job = { folder, budgetMs: floorMs, bytesMax: filled };
      if (fills) await runFloor("fill", job);
      if (name !== "burst") return await runFloor(floor, job);
      // All of it, whatever time it takes.
      const whole = { folder, budgetMs: 1e6, bytesMax: burstBytes };
      return await runFloor(floor, whole);
    },
  }));
}

function durablePart({ rounds, innerRounds, durableMs, floorMs }) {
  return {
    name: "durable",
    rounds,
    run: async (who, folder) => {
      if (who !== "floor") {
        const flags = ["--rounds", innerRounds, "--ms", durableMs];
        const args = ["--folder", folder, ...flags];
        return await runChild(who, "durable_calls.ts", args);
      }
      const job = { folder, budgetMs: floorMs, bytesMax: 2 ** 30 };
      const alone = await runFloor("append durable", job);
      const shared = await runFloor("append durable, 64 callers", job);
      if (alone.error ?? shared.error) return alone.error ? alone : shared;
      return {
        appendSyncNs: alone.ns,
        callersNs: { 1: alone.ns, 64: shared.ns },
      };
    },
  };
}

/** One of `STALLS`, as the floor does it or a runtime. */
export function stallPart({ sync, bytes, name }, budget) {
  const { stallMebibytes, stallSeconds } = budget;
  return {
    name,
    rounds: 1,
    run: async (who, folder) => {
      if (who === "floor") {
        return await runFloor(`stall, ${sync}`, {
          folder,
          bytes,
          budgetMs: stallSeconds * 1000,
          bytesMax: stallMebibytes * MEBIBYTE,
        });
      }
      const size = ["--bytes", bytes, "--mebibytes", stallMebibytes];
      const args = ["--sync", sync, ...size, "--seconds", stallSeconds];
      return await runChild(who, "stall.ts", ["--folder", folder, ...args]);
    },
  };
}

function devicePart({ innerRounds }) {
  return {
    name: "device",
    rounds: 1,
    run: async (who, folder) => {
      if (who === "floor") return undefined;
      const args = ["--folder", folder, "--rounds", innerRounds];
      return await runChild(who, "device_bytes.ts", args);
    },
  };
}

/** Opening a closed log of so many GiB, and what it holds in memory. */
export function openingPart(gib, { rounds }) {
  const paths = {};
  return {
    name: `opening ${gib}`,
    gib,
    rounds,
    diskBytes: (gib + 1) * 2 ** 30,
    // All open the same log, whoever made it.
    before: async (runtime, folder) => {
      paths.large = join(folder, "large");
      paths.small = join(folder, "small");
      const make = async (path, size) =>
        await runChild(runtime, "opening.ts", ["--build", path, "--gib", size]);
      await make(paths.small, 0.0002);
      return await make(paths.large, gib);
    },
    run: async (who) => {
      if (who === "floor") return undefined;
      const open = async (mode) => {
        const args = [mode, paths.large, "--small", paths.small];
        return await runChild(who, "opening.ts", args);
      };
      const time = await open("--time");
      const memory = await open("--memory");
      if (time.error ?? memory.error) return time.error ? time : memory;
      return { ...time, memory };
    },
  };
}

function crashPart({ innerRounds, tailMebibytes }) {
  return {
    name: "crash",
    rounds: 1,
    run: async (who, folder) => {
      if (who === "floor") return undefined;
      const flags = ["--rounds", innerRounds, "--mebibytes", tailMebibytes];
      const args = ["--crash", "--folder", folder, ...flags];
      return await runChild(who, "opening.ts", args);
    },
  };
}

function followPart({ rounds, followCount }) {
  return {
    name: "follow",
    rounds,
    run: async (who, folder) => {
      if (who === "floor") return undefined;
      const args = ["--where", "process", "--count", followCount];
      const all = ["--folder", folder, ...args];
      return (await runChild(who, "follow_figures.ts", all)).process;
    },
  };
}
