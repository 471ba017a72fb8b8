/**
 * The demo: puts a real text into a log, kills the writer in the middle, and
 * shows that nothing acknowledged is lost. `npm run demo`, `deno task demo`.
 *
 * @module
 */

import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { filesStorage, mappedStorage, type Wal, WalError } from "../mod.ts";
import {
  appendLines,
  hideExperimentalWarnings,
  openLog,
  readLines,
} from "./text.ts";

const USAGE = `
Usage: demo [FILE]

    FILE, --file FILE     the text (examples/data/new_testament.txt)
    --storage NAME        mapped or files (mapped where FFI is granted)
    --keep DIR            make the log in DIR and leave it there
`.trim();

const DEFAULT_TEXT = fileURLToPath(
  new URL("./data/new_testament.txt", import.meta.url),
);
const WRITER = fileURLToPath(new URL("./demo_writer.ts", import.meta.url));
/** The writer's pauses, should it be too quick to be killed in the middle. */
const PAUSES_MS = [1, 10, 50];

/** What the demo was asked to do cannot be done. */
class DemoError extends Error {}

interface Settings {
  readonly file: string;
  readonly storage: string | undefined;
  readonly keep: string | undefined;
}

/** What is compared with what. */
interface Story {
  readonly settings: Settings;
  readonly directory: string;
  readonly lines: readonly Uint8Array[];
}

/** Whether all checks held so far. */
let sound = true;

function check(holds: boolean, what: string): void {
  sound &&= holds;
  console.log(`     ${holds ? "ok  " : "FAIL"}  ${what}`);
}

function tell(text: string): void {
  console.log(`           ${text}`);
}

function readSettings(): Settings | undefined {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      file: { type: "string" },
      storage: { type: "string" },
      keep: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return undefined;
  const { storage } = values;
  if (storage !== undefined && storage !== "mapped" && storage !== "files") {
    throw new DemoError(`--storage is "${storage}", expected mapped or files`);
  }
  const file = values.file ?? positionals[0] ?? DEFAULT_TEXT;
  return { file: resolve(file), storage, keep: values.keep };
}

function readText(path: string): Uint8Array[] {
  try {
    if (!statSync(path).isFile()) {
      throw new DemoError(`"${path}" is not a file, expected a text file`);
    }
    const lines = readLines(path);
    if (lines.length > 0) return lines;
  } catch (error) {
    if (error instanceof DemoError) throw error;
    const { code, message } = error as { code?: string; message: string };
    const reason = code === "ENOENT" ? "there is no such file" : message;
    throw new DemoError(`Cannot read "${path}": ${reason}`);
  }
  throw new DemoError(`"${path}" is empty, expected lines of text`);
}

/** Runs the writer and kills it at `killAt` lines; what it acknowledged. */
function runWriter(
  story: Story,
  killAt: number,
  pauseMs: number,
): Promise<{ acknowledged: Set<number>; killed: boolean }> {
  const { settings, directory } = story;
  const before = "Deno" in globalThis ? ["run", "-A"] : [];
  const args = [WRITER, directory, settings.file, String(pauseMs)];
  if (settings.storage !== undefined) args.push(settings.storage);
  const child = spawn(process.execPath, [...before, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const acknowledged = new Set<number>();
  const lines = createInterface({ input: child.stdout! });
  // A line is whole when its end is there: the kill cannot cut a number.
  lines.on("line", (line) => {
    acknowledged.add(Number(line));
    if (acknowledged.size === killAt) child.kill("SIGKILL");
  });
  const drained = new Promise<void>((done) => lines.once("close", done));
  return new Promise((done, fail) => {
    child.once("error", fail);
    child.once("exit", async (_code, signal) => {
      await drained;
      done({ acknowledged, killed: signal === "SIGKILL" });
    });
  });
}

/** Chapter 1: a writer dies. */
async function killWriter(story: Story): Promise<Set<number>> {
  const { lines, directory } = story;
  console.log(`  1  Another process appends each line, durably; we kill it`);
  const part = 0.3 + 0.4 * Math.random();
  const killAt = Math.max(1, Math.floor(lines.length * part));
  for (const pauseMs of PAUSES_MS) {
    rmSync(directory, { recursive: true, force: true });
    const startMs = performance.now();
    const { acknowledged, killed } = await runWriter(story, killAt, pauseMs);
    const ms = performance.now() - startMs;
    if (!killed && acknowledged.size === lines.length) continue;
    check(killed, `SIGKILL after ${ms.toFixed(0)} ms`);
    tell(`${acknowledged.size} of ${lines.length} lines were acknowledged`);
    return acknowledged;
  }
  throw new DemoError("The writer was always done before it could be killed");
}

/** Chapter 2: nothing acknowledged is lost, nothing wrong is there. */
async function reopen(story: Story, acknowledged: Set<number>): Promise<Wal> {
  const { lines, directory, settings } = story;
  console.log("  2  We open the log again");
  const wal = await openLog(directory, settings.storage);
  const { outcome, ms, segmentsScanned, tornBytes, savedPath } = wal.recovery;
  tell(
    `recovery: ${outcome}, ${wal.length} entries, ${segmentsScanned} ` +
      `segment(s) scanned, ${ms.toFixed(1)} ms`,
  );
  if (tornBytes > 0) tell(`${tornBytes} torn bytes, kept in ${savedPath}`);
  let lost = 0;
  for (const index of acknowledged) {
    if (!isLine(wal, index, lines)) lost++;
  }
  check(lost === 0, `all ${acknowledged.size} acknowledged lines are there`);
  const { right, found } = compare(wal, lines);
  check(right === found, `each of the ${found} entries is its line`);
  const more = found - acknowledged.size;
  if (more > 0) tell(`${more} of them were written, but not acknowledged yet`);
  return wal;
}

/** Chapter 3: the rest of the text. */
async function finish(story: Story, wal: Wal): Promise<void> {
  const { lines } = story;
  const first = wal.nextIndex;
  console.log(`  3  We append the rest, from line ${first} on`);
  const before = wal.stats();
  const startMs = performance.now();
  await appendLines(wal, lines, () => {}, () => undefined);
  const ms = performance.now() - startMs;
  const after = wal.stats();
  const count = lines.length - first + 1;
  let bytes = 0;
  for (const line of lines.slice(first - 1)) bytes += line.length;
  tell(`${formatRate(count, bytes, ms)}`);
  tell(`${after.syncCount - before.syncCount} syncs, each shared by many`);
  await wal.close();
}

/** Chapter 4: all of it. */
async function readBack(story: Story): Promise<void> {
  const { lines, directory, settings } = story;
  console.log("  4  We read all of it back");
  await using wal = await openLog(directory, settings.storage);
  const startMs = performance.now();
  const { right, found, bytes } = compare(wal, lines);
  const ms = performance.now() - startMs;
  const whole = found === lines.length && right === found;
  check(whole, `${right} of ${lines.length} lines, each where it belongs`);
  tell(formatRate(found, bytes, ms));
  const { segmentCount, storage } = wal.stats();
  tell(`${segmentCount} segment(s), ${storage} storage`);
}

function isLine(
  wal: Wal,
  index: number,
  lines: readonly Uint8Array[],
): boolean {
  const found = wal.at(index)?.data;
  const line = lines[index - 1];
  return found !== undefined && line !== undefined && isSame(found, line);
}

function compare(
  wal: Wal,
  lines: readonly Uint8Array[],
): { right: number; found: number; bytes: number } {
  let right = 0;
  let found = 0;
  let bytes = 0;
  for (const { index, data } of wal) {
    found++;
    bytes += data.length;
    const line = lines[index - 1];
    if (index === found && line !== undefined && isSame(data, line)) right++;
  }
  return { right, found, bytes };
}

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length &&
    one.every((byte, i) => byte === other[i]);
}

function formatRate(entries: number, bytes: number, ms: number): string {
  const seconds = Math.max(ms, 0.001) / 1000;
  const perSecond = Math.round(entries / seconds);
  const rate = (bytes / 2 ** 20 / seconds).toFixed(1);
  return `${entries} entries, ${formatSize(bytes)}, in ${ms.toFixed(0)} ms: ` +
    `${perSecond} entries/s, ${rate} MiB/s`;
}

function formatSize(bytes: number): string {
  return bytes < 2 ** 20
    ? `${(bytes / 1024).toFixed(1)} KiB`
    : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function runtimeName(): string {
  const { deno, bun, node } = process.versions as Record<string, string>;
  if (deno !== undefined) return `Deno ${deno}`;
  return bun === undefined ? `Node ${node}` : `Bun ${bun}`;
}

/** A new folder for the log; what it is in must be empty. */
function makeFolder(keep: string | undefined): string {
  if (keep === undefined) return mkdtempSync(join(tmpdir(), "walrus-demo-"));
  const path = resolve(keep);
  try {
    if (readdirSync(path).length === 0) return path;
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return path;
    throw new DemoError(`Cannot use "${path}": ${(error as Error).message}`);
  }
  throw new DemoError(`"${path}" is not empty, expected a new folder`);
}

async function run(settings: Settings): Promise<void> {
  const lines = readText(settings.file);
  const folder = makeFolder(settings.keep);
  const directory = join(folder, "log");
  const storage = (settings.storage === "files" ? filesStorage : bestStorage)();
  let bytes = 0;
  for (const line of lines) bytes += line.length;
  const shown = relative(process.cwd(), settings.file);
  console.log(`Walrus on ${runtimeName()}, ${storage.kind} storage`);
  console.log(`     ${shown}: ${lines.length} lines, ${formatSize(bytes)}`);
  try {
    const story = { settings, directory, lines };
    const acknowledged = await killWriter(story);
    await finish(story, await reopen(story, acknowledged));
    await readBack(story);
  } finally {
    if (settings.keep === undefined) rmSync(folder, { recursive: true });
    else console.log(`The log stays in ${directory}`);
  }
  console.log(sound ? "All checks hold." : "SOME CHECKS FAILED.");
}

function bestStorage(): { readonly kind: string } {
  try {
    return mappedStorage();
  } catch {
    return filesStorage();
  }
}

hideExperimentalWarnings();
try {
  const settings = readSettings();
  if (settings === undefined) console.log(USAGE);
  else await run(settings);
  process.exitCode = sound ? 0 : 1;
} catch (error) {
  const { code } = error as { code?: string };
  const wrongUse = code?.startsWith("ERR_PARSE_ARGS") === true;
  const known = error instanceof DemoError || error instanceof WalError;
  if (!known && !wrongUse) throw error;
  console.error(`demo: ${(error as Error).message}`);
  if (wrongUse) console.error(USAGE);
  process.exitCode = wrongUse ? 2 : 1;
}
