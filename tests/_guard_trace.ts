/**
 * The system calls that a child makes on a log's files, told apart by the
 * marks in its report. All threads count. What a runtime does for itself,
 * futexes, timers, its heap, names no file of the log and does not count.
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { assert, assertEquals } from "./_assert.ts";
import type { Counts } from "./_guard_scenes.ts";
import { temporaryFolder, THIS } from "./_storages.ts";
import { parseTrace, type SystemCall } from "./_strace.ts";

const SCRIPT = join(import.meta.dirname!, "_children", "guard_calls.ts");

/** Generous: only a child that hangs lives so long. */
const HANG_SECONDS = 120;

/** These force bytes to the disk without naming a file. */
const NAMELESS: readonly string[] = ["msync", "sync"];

/** How often each call was made, by its kind, its name, and its file. */
export interface SceneCalls extends Counts {
  readonly calls: ReadonlyMap<string, number>;
}

/** Runs the child under strace, to its end. */
export function traceScenes(
  kind: "mapped" | "files",
): ReadonlyMap<string, SceneCalls> {
  using folder = temporaryFolder();
  const trace = join(folder.path, "trace");
  const logs = join(folder.path, "logs");
  mkdirSync(logs);
  const { status, stdout, stderr } = spawnSync("strace", [
    // Only the calls below stop the child; all others run at full speed.
    ...["-f", "--seccomp-bpf", "-y", "-s", "40", "-o", trace],
    ...["-e", "trace=%file,%desc,msync,sync"],
    ...["timeout", "-v", "-s", "KILL", String(HANG_SECONDS)],
    ...[THIS.path, ...THIS.args, SCRIPT, kind, logs],
  ], {
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" },
  });
  assertEquals([status, stderr], [0, ""]);
  assert(stdout.endsWith("done\n"), "the child stopped early");
  const calls = parseTrace(readFileSync(trace, "utf8"));
  return scenesOf(calls, logs);
}

/** Counts the calls between the marks that the child wrote. */
function scenesOf(
  calls: readonly SystemCall[],
  logs: string,
): ReadonlyMap<string, SceneCalls> {
  const scenes = new Map<string, Tally>();
  let current: Tally | undefined;
  for (const call of calls) {
    const [, verb, scene] = /, "(begin|end) ([^"\\]*)/.exec(call.text) ?? [];
    if (call.name === "write" && verb !== undefined) {
      current = verb === "begin" ? new Tally() : undefined;
      if (current !== undefined) scenes.set(scene!, current);
      continue;
    }
    const named = call.text.includes(logs);
    if (!named && !NAMELESS.includes(call.name)) continue;
    current?.add(call.name, named ? fileOf(call.text, logs) : "");
  }
  return scenes;
}

/** Counts of one scene in the making. */
class Tally implements SceneCalls {
  sync = 0;
  write = 0;
  read = 0;
  other = 0;
  readonly calls: Map<string, number> = new Map();

  add(name: string, file: string): void {
    if (/^(msync$|f?(data)?sync|sync)/.test(name)) this.sync++;
    else if (/^p?write/.test(name)) this.write++;
    else if (/^p?read(v|64|$)/.test(name)) this.read++;
    else this.other++;
    const key = `${name} ${file}`;
    this.calls.set(key, (this.calls.get(key) ?? 0) + 1);
  }
}

/** "segment", "live", "manifest" …; "." for the folder itself. */
function fileOf(text: string, logs: string): string {
  const [path = ""] = text.slice(text.lastIndexOf(logs) + logs.length + 1)
    .split(/[>"]/);
  const [, ...names] = path.split("/");
  const name = names.join("/");
  if (name === "") return ".";
  return name.replace(/_\d+\.wal/, "").replace(/\.\d+\.tmp$/, ".tmp")
    .replace(/^LOCK.*/, "LOCK");
}
