/**
 * Writing to the terminal, a pipe or a file: all or an error, in order, with
 * the reader's pace.
 *
 * @module
 */

import { constants, fstatSync, openSync, writeSync } from "node:fs";
import process from "node:process";
import { setImmediate } from "node:timers";
import { basename } from "node:path";
import type { SurveyProgress } from "../src/survey.ts";

const STANDARD_OUTPUT = 1;
const RETRY_MS = 2;
const PROGRESS_EVERY_MS = 100;

/** The reader of the output went away: the command ends quietly. */
export class PipeClosedError extends Error {
  /** The class's name. */
  override readonly name = "PipeClosedError";
}

/** Where bytes are written to, and until when. */
export interface WriteOptions {
  /** An open file; standard output. */
  readonly descriptor?: number | undefined;
  /** Ends the waiting for a full pipe: the write throws its reason. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Writes all bytes to standard output. It blocks while a pipe is full: what
 * is written is out, whenever the process ends.
 */
export async function writeOut(
  bytes: Uint8Array,
  { descriptor = STANDARD_OUTPUT, signal }: WriteOptions = {},
): Promise<void> {
  // A turn of the event loop: without it Bun frees large buffers late.
  await new Promise<void>((resolve) => setImmediate(resolve));
  for (let at = 0; at < bytes.length;) {
    signal?.throwIfAborted();
    try {
      at += writeSync(descriptor, bytes, at, bytes.length - at);
    } catch (error) {
      const { code, name } = error as { code?: string; name?: string };
      if (code === "EPIPE" || name === "BrokenPipe") {
        throw new PipeClosedError("Standard output was closed");
      }
      if (code !== "EAGAIN" && name !== "WouldBlock") throw error;
      // A full pipe that does not block.
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/**
 * Standard output, but a pipe is opened once more so that writing to it does
 * not block: a program that handles signals has to stay awake for them.
 */
export function openUnblocked(): number {
  try {
    if (!fstatSync(STANDARD_OUTPUT).isFIFO()) return STANDARD_OUTPUT;
    return openSync("/dev/stdout", constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    // Not everywhere there is such a path; then it blocks.
    return STANDARD_OUTPUT;
  }
}

/** Writes text and a line's end to standard output. */
export function printOut(text: string): Promise<void> {
  return writeOut(new TextEncoder().encode(`${text}\n`));
}

/** Says something on standard error. */
export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** A line on the terminal that changes; nothing where there is no terminal. */
export class ProgressLine {
  readonly #shown: boolean = process.stderr.isTTY === true;
  #width = 0;
  #nextMs = 0;

  /** Shows a text, not more often than the eye can follow. */
  show(text: () => string): void {
    if (!this.#shown) return;
    const nowMs = performance.now();
    if (nowMs < this.#nextMs) return;
    this.#nextMs = nowMs + PROGRESS_EVERY_MS;
    const line = text();
    process.stderr.write(`\r${line.padEnd(this.#width)}`);
    this.#width = line.length;
  }

  /** Wipes it off. */
  end(): void {
    if (this.#width > 0) process.stderr.write(`\r${" ".repeat(this.#width)}\r`);
    this.#width = 0;
  }
}

/** How far the reading of a log is, on the line that changes. */
export class SurveyLine {
  readonly #line = new ProgressLine();

  /** Shows it. */
  show({ segment, bytesDone, bytesTotal }: SurveyProgress): void {
    this.#line.show(() => {
      const percent = Math.floor(100 * bytesDone / Math.max(bytesTotal, 1));
      return `${percent} % ${basename(segment)}`;
    });
  }

  /** Wipes it off. */
  end(): void {
    this.#line.end();
  }
}

/** A path as a shell takes it. */
export function quote(path: string): string {
  if (/^[\w./:@%+=-]+$/.test(path)) return path;
  return `'${path.replaceAll("'", "'\\''")}'`;
}

/** A size as people say it. */
export function formatBytes(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** "1 entry", "2 entries". */
export function formatCount(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}
