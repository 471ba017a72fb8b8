/**
 * `walrus append`: lines become entries, as fast as the disk takes them.
 *
 * @module
 */

import { defaultOptions, openWal, type Wal } from "../mod.ts";
import { Arguments, UsageError } from "./arguments.ts";
import { type ChunkReader, inputsOf, LineSplitter } from "./input.ts";
import { Interrupt } from "./interrupt.ts";
import { formatBytes, formatCount, ProgressLine, say } from "./output.ts";

/** So much may be read ahead of the sync that covers it. */
const UNSYNCED_BYTES_MAX = 8 * 1024 * 1024;

const OPTIONS = {
  batch: "string",
  sync: "string",
  format: "string",
  "segment-bytes": "string",
  storage: "string",
} as const;

/** Runs the command; returns its exit code. */
export async function append(args: readonly string[]): Promise<number> {
  const given = new Arguments(args, OPTIONS);
  const directory = given.directory();
  const batch = given.count("batch", 1) ?? 1;
  const sync = given.choice("sync", ["always", "interval", "never"]) ??
    "always";
  const options = {
    sync,
    format: given.choice("format", ["binary", "json"]),
    segmentBytes: given.count("segment-bytes", 1),
    storage: given.storage(),
  };
  const inputs = inputsOf(given.positionals.slice(1));
  const interrupt = new Interrupt();
  const wal = await open(directory, options);
  const pump = new Pump(wal, batch, sync === "always");
  try {
    for (const input of inputs) {
      if (interrupt.exitCode !== 0) break;
      await copyLines(input.name, input.open(), pump, interrupt);
    }
    pump.writeBatch();
  } finally {
    pump.progress.end();
    await wal.close();
    say(pump.summary());
    interrupt.ignore();
  }
  return interrupt.exitCode;
}

async function open(
  directory: string,
  options: Parameters<typeof openWal>[1],
): Promise<Wal> {
  try {
    return await openWal(directory, options);
  } catch (error) {
    const wrongUse = error instanceof TypeError || error instanceof RangeError;
    throw wrongUse ? new UsageError(error.message) : error;
  }
}

async function copyLines(
  name: string,
  reader: ChunkReader,
  pump: Pump,
  interrupt: Interrupt,
): Promise<void> {
  const bytesMax = defaultOptions.maxEntryBytes!;
  const splitter = new LineSplitter(bytesMax);
  const take = (line: Uint8Array) => pump.add(line);
  interrupt.signal.addEventListener("abort", () => reader.stop());
  for (;;) {
    const chunk = await reader.next();
    if (chunk === undefined) break;
    if (!splitter.feed(chunk, take)) {
      pump.writeBatch();
      throw new LineTooLongError(
        `Cannot append line ${splitter.lineCount + 1} of ${name}: it is ` +
          `longer than ${bytesMax} bytes, expected at most that; the lines ` +
          `before it are in the log`,
      );
    }
    await pump.settle();
  }
  // What an interrupt cut off is not a line.
  if (interrupt.exitCode === 0) splitter.end(take);
}

/** A line that no entry can hold: exit code 1. */
export class LineTooLongError extends Error {
  /** The class's name. */
  override readonly name = "LineTooLongError";
}

/** Hands lines to the log, and waits when the disk falls behind. */
class Pump {
  readonly progress: ProgressLine = new ProgressLine();
  readonly #wal: Wal;
  readonly #batch: number;
  readonly #durable: boolean;
  readonly #startMs = performance.now();
  #waiting: Uint8Array[] = [];
  #entries = 0;
  #bytes = 0;
  #unsyncedBytes = 0;
  #first = 0;
  #flush: Promise<void> | undefined;
  #failure: { error: unknown } | undefined;

  constructor(wal: Wal, batch: number, durable: boolean) {
    this.#wal = wal;
    this.#batch = batch;
    this.#durable = durable;
  }

  add(line: Uint8Array): void {
    if (this.#batch === 1) {
      this.#count(this.#wal.appendSync(line, { durable: false }), 1);
      this.#bytes += line.length;
      this.#unsyncedBytes += line.length;
      return;
    }
    // The chunk may be used again before the batch is full.
    this.#waiting.push(line.slice());
    if (this.#waiting.length === this.#batch) this.writeBatch();
  }

  /** Writes the lines that wait for their batch to be full. */
  writeBatch(): void {
    const lines = this.#waiting;
    if (lines.length === 0) return;
    this.#waiting = [];
    const indexes = this.#wal.appendBatchSync(lines, { durable: false });
    this.#count(indexes[0]!, lines.length);
    for (const line of lines) {
      this.#bytes += line.length;
      this.#unsyncedBytes += line.length;
    }
  }

  #count(index: number, entries: number): void {
    if (this.#first === 0) this.#first = index;
    this.#entries += entries;
  }

  /** Keeps a sync running; waits for it when too much depends on it. */
  async settle(): Promise<void> {
    this.progress.show(() => this.#rate());
    if (!this.#durable) return;
    if (this.#flush === undefined) this.#startFlush();
    if (this.#unsyncedBytes > UNSYNCED_BYTES_MAX) await this.#flush;
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #startFlush(): void {
    this.#unsyncedBytes = 0;
    this.#flush = this.#wal.flush().catch((error: unknown) => {
      this.#failure = { error };
    }).finally(() => {
      this.#flush = undefined;
    });
  }

  #rate(): string {
    const seconds = Math.max(performance.now() - this.#startMs, 1) / 1000;
    const entries = formatCount(this.#entries, "entry", "entries");
    const each = formatBytes(this.#bytes / seconds);
    return `${entries}, ${formatBytes(this.#bytes)} in ` +
      `${seconds.toFixed(2)} s (${each}/s)`;
  }

  summary(): string {
    const last = this.#first + this.#entries - 1;
    const where = this.#entries === 0 ? "" : `, ${this.#first} to ${last}`;
    return `Appended ${this.#rate()}${where}`;
  }
}
