/**
 * What the log asks of the system, counted: a figure that is the same on every
 * machine, and the one that decides how fast the log can be. A child does
 * each piece of work some times under strace.
 */
import { describe, it } from "node:test";
import { openWalSync } from "../mod.ts";
import { simulatedStorage } from "../testing/mod.ts";
import { assert, assertEquals, assertLessOrEqual } from "./_assert.ts";
import { KINDS_OF_CALLS, SCENES } from "./_guard_scenes.ts";
import { type SceneCalls, traceScenes } from "./_guard_trace.ts";
import { LOG } from "./_log_bytes.ts";
import { HAS_FFI } from "./_storages.ts";
import { whyNoStrace } from "./_strace.ts";

/** The child takes some seconds, longer where all processors are busy. */
const TIMEOUT_MS = 120_000;

/** A timer of the log, or a late close, may fall between the marks. */
const CHANCE_CALLS = 2;

const HOUR_MS = 3_600_000;

/** Of the storage: a frame and the live page, where they are not stores. */
const IDLE_CALLS_MAX = { mapped: 0, files: 2 };

const NO_STRACE = whyNoStrace();

/** Holds one scene against its limits, and tells what was counted. */
function check(
  kind: "mapped" | "files",
  scene: string,
  found: SceneCalls,
): void {
  const { times, ...limits } = SCENES[kind][scene]!;
  const told = KINDS_OF_CALLS.map((one) =>
    `${Math.round(found[one] / times * 1000) / 1000} ${one} (≤ ${limits[one]})`
  );
  console.log(`${kind}, ${scene}: ${told.join(", ")}`);
  for (const one of KINDS_OF_CALLS) {
    assert(
      found[one] <= limits[one] * times + CHANCE_CALLS,
      `${found[one]} calls of kind "${one}" in ${times} times "${scene}", ` +
        `expected at most ${limits[one]} each: ` +
        [...found.calls].map(([call, count]) => `${count} ${call}`).join(", "),
    );
  }
}

describe("guard of system calls [simulated]", () => {
  for (const mapped of [true, false]) {
    const kind = mapped ? "mapped" : "files";
    it(`an idle hour asks for a watermark and no more: ${kind}`, () => {
      const disk = simulatedStorage({ seed: 1, mapped, writeback: 0 });
      using wal = openWalSync(LOG, { storage: disk });
      wal.appendBatchSync(["one", "two"]);
      const before = disk.callCount;
      disk.clock.advance(HOUR_MS);
      const calls = disk.callCount - before;
      const limit = IDLE_CALLS_MAX[kind];
      console.log(`${kind}, an idle hour: ${calls} calls (≤ ${limit})`);
      assertLessOrEqual(calls, limit);
    });
  }
});

for (const kind of ["mapped", "files"] as const) {
  const skip = NO_STRACE ||
    (kind === "mapped" && !HAS_FFI && "this runtime has no FFI");
  const scenes = Object.keys(SCENES[kind]);
  let traced: ReadonlyMap<string, SceneCalls> | undefined;
  describe(`guard of system calls [${kind}]`, () => {
    it(
      "all the work is done under strace",
      { timeout: TIMEOUT_MS, skip },
      () => {
        traced = traceScenes(kind);
        assertEquals([...traced.keys()], scenes);
      },
    );
    for (const scene of scenes) {
      it(`it stays within its system calls: ${scene}`, { skip }, () => {
        assert(traced !== undefined, "the child did not do its work");
        check(kind, scene, traced.get(scene)!);
      });
    }
  });
}
