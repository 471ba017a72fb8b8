/**
 * The command line as a shell runs it.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import {
  type ChildProcess,
  type ChildProcessWithoutNullStreams,
  spawn,
  type StdioOptions,
} from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after } from "node:test";
import {
  assert,
  assertEquals,
  assertLess,
  assertMatch,
  assertStringIncludes,
} from "./_assert.ts";
import { THIS } from "./_storages.ts";

/** The package's folder. */
export const ROOT: string = join(import.meta.dirname!, "..");
const CLI = join(ROOT, "cli.ts");

/** Whether nothing is forbidden to this process. */
export const IS_ROOT: boolean = process.getuid?.() === 0;
const SETPRIV = "/usr/bin/setpriv";

/** Why a test of permissions cannot be made; false when it can. */
export const NO_PERMISSIONS: string | false = IS_ROOT && !fs.existsSync(SETPRIV)
  ? `root may read everything, and there is no ${SETPRIV}`
  : false;

/** What comes before a command that is to have no rights but its user's. */
export const WITHOUT_RIGHTS: readonly string[] = IS_ROOT
  // Without its capabilities root is anybody where its own files are closed.
  ? [SETPRIV, "--bounding-set=-all", "--inh-caps=-all"]
  : [];

/** Options for a log that is quick to compare. */
export const SMALL: readonly string[] = ["--segment-bytes", "65536"];

/** Where Node keeps what it has stripped of types: three times as quick. */
const CACHE = fs.mkdtempSync(join(tmpdir(), "walrus-cache-"));
after(() => fs.rmSync(CACHE, { recursive: true, force: true }));

/** How a command ended. */
export interface Result {
  readonly code: number | null;
  readonly signal: string | null;
  readonly out: Uint8Array;
  readonly text: string;
  readonly errors: string;
}

/** Runs the command to its end. */
export function walrus(
  args: readonly string[],
  input: string | Uint8Array = "",
): Promise<Result> {
  return finish(start(args), input);
}

/** Starts the command; `before` is a program that starts it. */
export function start(
  args: readonly string[],
  before: readonly string[] = [],
): ChildProcessWithoutNullStreams {
  const stdio: StdioOptions = ["pipe", "pipe", "pipe"];
  return startWith(stdio, args, before) as ChildProcessWithoutNullStreams;
}

/** Starts it with other files than pipes. */
export function startWith(
  stdio: StdioOptions,
  args: readonly string[],
  before: readonly string[] = [],
): ChildProcess {
  // What a user types: none of the flags that tests otherwise set.
  const flags = THIS.name === "deno" ? ["run", "-A", "--no-check"] : [];
  const line = [...before, THIS.path, ...flags, CLI, ...args];
  const env = { ...process.env, NODE_COMPILE_CACHE: CACHE };
  return spawn(line[0]!, line.slice(1), { stdio, env });
}

/** Waits for the command's end. */
export function finish(
  child: ChildProcess,
  input?: string | Uint8Array,
): Promise<Result> {
  const out: Uint8Array[] = [];
  const errors: Uint8Array[] = [];
  child.stdout?.on("data", (chunk) => out.push(chunk));
  child.stderr?.on("data", (chunk) => errors.push(chunk));
  // A command that ends early closes its input while it is being written.
  child.stdin?.on("error", () => {});
  if (input !== undefined) child.stdin?.end(input);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      const bytes = new Uint8Array(Buffer.concat(out));
      const text = new TextDecoder().decode(bytes);
      const said = new TextDecoder().decode(Buffer.concat(errors));
      resolve({ code, signal, out: bytes, text, errors: said });
    });
  });
}

/** One line, for people: no stack, no source, no warning of a runtime. */
export function assertOneLine(errors: string, expected: string | RegExp): void {
  assertEquals(errors.trimEnd().split("\n").length, 1, errors);
  assert(errors.startsWith("walrus: "), errors);
  if (typeof expected === "string") assertStringIncludes(errors, expected);
  else assertMatch(errors, expected);
}

/** Every name in a folder. */
export function listAll(folder: string): string[] {
  return fs.readdirSync(folder, { recursive: true }).map(String).sort();
}

/** All that is in a folder, as one text. */
export function bytesOf(folder: string): string {
  return listAll(folder).map((name) => {
    const path = join(folder, name);
    const info = fs.statSync(path);
    if (info.isDirectory()) return name;
    const bytes = fs.readFileSync(path).toString("base64");
    return `${name} ${info.mtimeMs} ${bytes}`;
  }).join("\n");
}

/** Wrong uses are one line, code 2, and nothing is made in `folder`. */
export async function assertWrongUses(
  folder: string,
  wrong: readonly (readonly [args: readonly string[], message: string])[],
): Promise<void> {
  const log = join(folder, "a");
  await Promise.all(wrong.map(async ([args, message]) => {
    const placed = args.map((arg) => arg === "a" ? log : arg);
    const { code, text, errors } = await walrus(placed);
    assertOneLine(errors, message);
    assertEquals([code, text], [2, ""], args.join(" "));
  }));
  assertEquals(listAll(folder), []);
}

/** Waits until something holds, for as long as a slow machine may take. */
export async function until(holds: () => boolean): Promise<void> {
  for (let i = 0; !holds(); i++) {
    assertLess(i, 1000, "waited for 20 s");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
