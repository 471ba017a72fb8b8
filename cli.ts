#!/usr/bin/env node
/**
 * The command line: `walrus append | dump | stat | verify | repair | truncate |
 * consumers`. See `walrus help`.
 *
 * @example Look at a log
 * ```sh
 * deno run -A jsr:@walrus/wal/cli stat ./wal_data
 * ```
 *
 * @module
 */

import process from "node:process";
import { append, LineTooLongError } from "./cli/append.ts";
import { InputError, UsageError } from "./cli/arguments.ts";
import { consumers } from "./cli/consumers.ts";
import { dump } from "./cli/dump.ts";
import { HELP, VERSION } from "./cli/help.ts";
import { PipeClosedError, printOut, say } from "./cli/output.ts";
import { repair } from "./cli/repair.ts";
import { stat } from "./cli/stat.ts";
import { truncate } from "./cli/truncate.ts";
import { verify } from "./cli/verify.ts";
import { WalError, type WalErrorCode } from "./mod.ts";

type Command = (args: readonly string[]) => Promise<number>;

const COMMANDS: Readonly<Record<string, Command>> = {
  append,
  consumers,
  dump,
  help,
  repair,
  stat,
  truncate,
  verify,
};

/** Errors that say nothing bad of the log's bytes: it could not be used. */
const UNUSABLE: readonly WalErrorCode[] = [
  "LOCKED",
  "SEGMENT_NOT_FOUND",
  "STORAGE",
  "UNSUPPORTED_FORMAT",
];

async function help(args: readonly string[]): Promise<number> {
  const [name = ""] = args;
  if (!Object.hasOwn(HELP, name)) throw unknownCommand(name);
  await printOut(HELP[name]!.trim());
  return 0;
}

async function run(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === "--version" || name === "-V") {
    await printOut(`walrus ${VERSION}`);
    return 0;
  }
  if (name === "--help" || name === "-h") return await help([]);
  if (name === undefined) throw new UsageError("The command is missing");
  if (!Object.hasOwn(COMMANDS, name)) throw unknownCommand(name);
  if (rest.includes("--help") || rest.includes("-h")) return await help([name]);
  return await COMMANDS[name]!(rest);
}

function unknownCommand(name: string): UsageError {
  const known = Object.keys(COMMANDS).join(", ");
  return new UsageError(`Command "${name}" is unknown, expected ${known}`);
}

/** Says what went wrong, in one line; returns the exit code. */
function report(error: unknown, command: string | undefined): number {
  if (error instanceof PipeClosedError) return 0;
  if (error instanceof UsageError) {
    const known = command !== undefined && Object.hasOwn(HELP, command);
    const topic = known ? ` ${command}` : "";
    say(`walrus: ${error.message}; see "walrus help${topic}"`);
    return 2;
  }
  if (error instanceof WalError) {
    const hint = error.code === "CORRUPTED" ? "; see walrus verify" : "";
    say(`walrus: ${error.message} [${error.code}]${hint}`);
    return UNUSABLE.includes(error.code) ? 3 : 1;
  }
  if (error instanceof InputError || error instanceof LineTooLongError) {
    say(`walrus: ${error.message}`);
    return error instanceof InputError ? 3 : 1;
  }
  const { code, message } = error as { code?: string; message?: string };
  if (code !== undefined) {
    say(`walrus: ${message}`);
    return 3;
  }
  say(`walrus: a bug: ${error instanceof Error ? error.stack : error}`);
  return 1;
}

async function main(): Promise<void> {
  // Node announces that its FFI is experimental; users of a command need not
  // know. Other warnings are shown.
  process.removeAllListeners("warning");
  process.on("warning", ({ name, message }) => {
    if (name !== "ExperimentalWarning") say(`walrus: ${name}: ${message}`);
  });
  const args = process.argv.slice(2);
  let exitCode: number;
  try {
    exitCode = await run(args);
  } catch (error) {
    exitCode = report(error, args[0]);
  }
  // A pending read of standard input would keep the process.
  process.exit(exitCode);
}

// Older Node says nothing of it; then nobody imports this file either.
if (import.meta.main !== false) await main();
