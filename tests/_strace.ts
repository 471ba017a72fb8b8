/**
 * Children under strace: what they ask of the system, and faults injected
 * into it.
 *
 * Only calls that touch a log's folder are seen and hit (`-P`). strace counts
 * `when=N` for each thread: a blocking call is hit exactly, a call of the
 * pool on the Nth time of whichever thread it comes to.
 *
 * @module
 */
import { spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import type { Runtime } from "./_storages.ts";
import { temporaryFolder } from "./_storages.ts";

/** Generous: only a child that hangs lives so long. */
const HANG_SECONDS = 120;

/** More files than any child here makes. */
const SEGMENTS_MAX = 40;

/** One call into the kernel, as strace saw it. */
export interface SystemCall {
  readonly thread: number;
  readonly name: string;
  /** All between the parentheses. */
  readonly text: string;
  /** "0", "-1 EIO …", "5</path>", "?" when it never returned. */
  result: string;
  /** strace failed it in the kernel's place. */
  injected: boolean;
  /** Its order among all beginnings and ends. */
  readonly began: number;
  ended: number;
}

/** What a traced child did. */
export interface Traced {
  /** Undefined when a signal ended it. */
  readonly status: number | undefined;
  readonly signal: string | undefined;
  readonly stderr: string;
  /** The lines that it wrote to its standard output. */
  readonly report: readonly string[];
  readonly calls: readonly SystemCall[];
}

/** What is to go wrong: as in `error=EIO` or `signal=KILL`. */
export interface Injection {
  readonly calls: readonly string[];
  readonly how: string;
  /** As in "3", "3+". */
  readonly when: string;
}

/** What to run, and where its log is. */
export interface TracedChild {
  readonly runtime: Runtime;
  /** The script and its arguments. */
  readonly args: readonly string[];
  /** The log's folder: only calls on it and its files are traced. */
  readonly log: string;
  /** System calls to see, besides those to fail. */
  readonly watch: readonly string[];
  /** Only these names in the folder, where not all of them matter. */
  readonly names?: readonly string[];
  /** What the child reads from its standard input. */
  readonly input: string;
  readonly injection?: Injection | undefined;
}

/** Why nothing can be traced here; false where it can. */
export function whyNoStrace(): string | false {
  if (process.platform !== "linux") return "strace is for Linux";
  using folder = temporaryFolder();
  const output = join(folder.path, "trace");
  const probe = spawnSync(
    "strace",
    [
      ...["-f", "-y", "-P", "/nowhere", "-o", output],
      ...["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=1"],
      ...["timeout", "-v", "-s", "KILL", "60", "true"],
    ],
    { encoding: "utf8" },
  );
  if (probe.status === 0) return false;
  const why = probe.error?.message ?? probe.stderr.trim().split("\n")[0];
  return `strace is not to be had: ${why}`;
}

/**
 * Runs a child to its end. Its standard output is a file that is traced, so
 * that what it says has its place among its system calls.
 */
export async function runTraced(asked: TracedChild): Promise<Traced> {
  using folder = temporaryFolder();
  const trace = join(folder.path, "trace");
  const report = join(folder.path, "report");
  const { calls = [], how = "", when = "" } = asked.injection ?? {};
  const watched = [...new Set([...asked.watch, ...calls, "write"])];
  const child = spawn("sh", [
    ...["-c", 'exec >>"$0" "$@"', report],
    ...["strace", "-f", "-y", "-s", "200", "-o", trace],
    ...[report, ...filesOf(asked)].flatMap((path) => ["-P", path]),
    ...["-e", `trace=${listed(watched)}`],
    ...calls.length === 0
      ? []
      : ["-e", `inject=${listed(calls)}:${how}:when=${when}`],
    ...["timeout", "-v", "-s", "KILL", String(HANG_SECONDS)],
    ...[asked.runtime.path, ...asked.runtime.args, ...asked.args],
  ], {
    stdio: ["pipe", "ignore", "pipe"],
    env: { ...process.env, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" },
  });
  let stderr = "";
  child.stderr!.setEncoding("utf8");
  child.stderr!.on("data", (text: string) => stderr += text);
  // A killed child does not read all of it.
  child.stdin!.on("error", () => {});
  child.stdin!.end(asked.input);
  const [status, signal] = await new Promise<[number | null, string | null]>(
    (resolve, reject) => {
      child.once("error", reject);
      child.once("close", (status, signal) => resolve([status, signal]));
    },
  );
  return {
    status: status ?? undefined,
    signal: signal ?? undefined,
    stderr,
    report: readFileSync(report, "utf8").split("\n").slice(0, -1),
    calls: parseTrace(readFileSync(trace, "utf8")),
  };
}

/** Names that a kernel does not know, as `open` on arm64, are no mistake. */
function listed(calls: readonly string[]): string {
  return calls.map((call) => `?${call}`).join(",");
}

/** The folder and every file that a log may have in it. */
function filesOf({ log, names: only }: TracedChild): string[] {
  if (only !== undefined) return only.map((name) => join(log, name));
  const names = ["LOCK", "LOCK.owner", "manifest", "cut", "live", "consumers"];
  for (let number = 1; number <= SEGMENTS_MAX; number++) {
    const name = `segment_${String(number).padStart(20, "0")}.wal`;
    names.push(name, `${name}.tmp`, `manifest.${number}.tmp`);
  }
  return [log, ...names.map((name) => join(log, name))];
}

/** The file or folder that a call's first descriptor is open on. */
export function descriptorPath(call: SystemCall): string | undefined {
  return /^\d+<([^>]*)>/.exec(call.text)?.[1];
}

/** The lines of `strace -f -o`. */
export function parseTrace(text: string): SystemCall[] {
  const calls: SystemCall[] = [];
  const unfinished = new Map<number, SystemCall>();
  for (const [order, line] of text.split("\n").entries()) {
    const [, id = "", rest = ""] = /^(\d+) +(.*)$/.exec(line) ?? [];
    const thread = Number(id);
    const resumed = /^<\.\.\. (\w+) resumed>(.*)$/.exec(rest);
    if (resumed !== null) {
      const call = unfinished.get(thread);
      unfinished.delete(thread);
      if (call !== undefined) end(call, resumed[2]!, order);
      continue;
    }
    const [, name, inside] = /^(\w+)\((.*)$/.exec(rest) ?? [];
    if (name === undefined) continue;
    const call: SystemCall = {
      thread,
      name,
      text: inside!.replace(/\) += .*$| <unfinished \.\.\.>$/, ""),
      result: "?",
      injected: false,
      began: order,
      ended: Infinity,
    };
    calls.push(call);
    if (inside!.endsWith("<unfinished ...>")) unfinished.set(thread, call);
    else end(call, inside!, order);
  }
  return calls;
}

function end(call: SystemCall, text: string, order: number): void {
  const [, result = "?"] = /\) += (.*)$/.exec(text) ?? [];
  call.injected = result.includes("(INJECTED)");
  call.result = result.replace(" (INJECTED)", "");
  if (!result.startsWith("?")) call.ended = order;
}
