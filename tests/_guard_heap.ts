/**
 * Starts `_children/guard_heap.ts` with the flags that make its figures the
 * same each time: no collection while it measures, and no code that another
 * thread compiles at an instant of its own.
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { assertEquals } from "./_assert.ts";
import { temporaryFolder, THIS } from "./_storages.ts";

const SCRIPT = join(import.meta.dirname!, "_children", "guard_heap.ts");

/** Young space for all that one round allocates. */
const SPACE_MIB = 256;

const V8_FLAGS: readonly string[] = [
  "--expose-gc",
  "--single-threaded",
  `--min-semi-space-size=${SPACE_MIB}`,
  `--max-semi-space-size=${SPACE_MIB}`,
];

const FLAGS: Record<typeof THIS.name, readonly string[]> = {
  deno: [`--v8-flags=${V8_FLAGS.join(",")}`],
  bun: [],
  node: V8_FLAGS,
};

/** The engine, on which the figures depend, and not on the machine. */
export const ENGINE: "V8" | "JSC" = THIS.name === "bun" ? "JSC" : "V8";

/** Bytes for each call, or for each entry that is in the log. */
export function measureHeap(
  what: "calls" | "kept",
  kind: "mapped" | "files",
): ReadonlyMap<string, number> {
  using folder = temporaryFolder();
  const { status, stdout, stderr } = spawnSync(
    THIS.path,
    [...THIS.args, ...FLAGS[THIS.name], SCRIPT, what, kind, folder.path],
    {
      encoding: "utf8",
      env: {
        ...process.env,
        DENO_NO_UPDATE_CHECK: "1",
        BUN_JSC_useConcurrentJIT: "0",
        ...(what === "calls" ? { BUN_JSC_useGC: "0" } : {}),
      },
    },
  );
  assertEquals([status, stderr], [0, ""]);
  return new Map(Object.entries(JSON.parse(stdout) as Record<string, number>));
}
