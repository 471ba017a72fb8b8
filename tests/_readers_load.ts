/**
 * Readers under load: one writer, killed and started again, and four readers
 * in a worker thread and in processes of all runtimes. What they were given
 * is compared with what the writer said that it wrote.
 *
 * @module
 */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { Worker } from "node:worker_threads";
import { Random } from "../testing/mod.ts";
import { assert } from "./_assert.ts";
import { HAS_FFI, type Runtime, RUNTIMES, THIS } from "./_storages.ts";
import type { WatchCounts } from "./_readers_watcher.ts";

const CHILDREN = join(import.meta.dirname!, "_children");
/** Node strips the types of a child's sources once, not at each start. */
const CACHE = join(tmpdir(), "walrus-compile-cache");
/** Syncs take no time there; the death of a process is the same. */
const MEMORY_FOLDER = "/dev/shm";
/** No answer comes later. */
const ANSWER_MS = 120_000;
const PROCESSES = 3;
const LIFE_MS = 800;
const KINDS = HAS_FFI ? ["mapped", "files"] as const : ["files"] as const;

/** What was seen. */
export type LoadCounts = WatchCounts & {
  rounds: number;
  deaths: number;
  entries: number;
  truncations: number;
  resets: number;
  removals: number;
  rotations: number;
  /** Entries in rows that were compared with the writer's own words. */
  compared: number;
};

/** Whoever says lines and is told lines. */
class Speaker {
  readonly name: string;
  /** What it said that nobody has taken. */
  readonly lines: string[] = [];
  readonly #tell: (line: string) => void;
  readonly #stop: () => Promise<unknown>;
  #wake: (() => void) | undefined;
  ended = false;

  constructor(
    name: string,
    tell: (line: string) => void,
    stop: () => Promise<unknown>,
  ) {
    this.name = name;
    this.#tell = tell;
    this.#stop = stop;
  }

  hear(line: string): void {
    this.lines.push(line);
    this.#wake?.();
  }

  end(): void {
    this.ended = true;
    this.#wake?.();
  }

  tell(line: string): void {
    this.#tell(line);
  }

  /** Ends it at once. */
  async stop(): Promise<void> {
    await this.#stop();
  }

  /** All lines up to the one that begins so, which comes last. */
  async until(start: string): Promise<string[]> {
    const endMs = performance.now() + ANSWER_MS;
    for (;;) {
      const at = this.lines.findIndex((line) => line.startsWith(start));
      if (at >= 0) return this.lines.splice(0, at + 1);
      const wrong = this.lines.find((line) => /^[PE] /.test(line));
      assert(wrong === undefined, `${this.name}: ${unquote(wrong ?? "")}`);
      const leftMs = endMs - performance.now();
      assert(
        !this.ended && leftMs > 0,
        `${this.name} has not said "${start}": ${this.lines.slice(-3)}`,
      );
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}

function unquote(line: string): string {
  return line.startsWith("P ") ? JSON.parse(line.slice(2)) : line;
}

function startProcess(name: string, runtime: Runtime, script: string): Speaker {
  const path = join(CHILDREN, script);
  const child: ChildProcess = spawn(runtime.path, [...runtime.args, path], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, NODE_COMPILE_CACHE: CACHE },
  });
  const lines = createInterface({ input: child.stdout! });
  const ended = new Promise<void>((resolve) => lines.once("close", resolve));
  child.stdin!.on("error", () => {});
  const speaker = new Speaker(
    `${name} on ${runtime.name}`,
    (line) => void child.stdin!.write(line + "\n"),
    () => {
      child.kill("SIGKILL");
      return ended;
    },
  );
  lines.on("line", (line) => speaker.hear(line));
  ended.then(() => speaker.end());
  return speaker;
}

function startWorker(): Speaker {
  const url = new URL("./_children/reader_worker.ts", import.meta.url);
  const worker = new Worker(url);
  const speaker = new Speaker(
    `reader in a worker of ${THIS.name}`,
    (line) => worker.postMessage(line),
    () => worker.terminate(),
  );
  worker.on("message", (line: string) => speaker.hear(line));
  worker.on("error", (error: Error) => speaker.hear(`E ${error.stack}`));
  return speaker;
}

/** What the writers of one log have said. */
class Written {
  readonly #previous = new Map<number, number>();
  readonly #index = new Map<number, number>();

  add(line: string): number {
    const [, serial, previous, index, count] = line.split(" ").map(Number) as [
      number,
      number,
      number,
      number,
      number,
    ];
    for (let i = 0; i < count; i++) {
      this.#previous.set(serial + i, i === 0 ? previous : serial + i - 1);
      this.#index.set(serial + i, index + i);
    }
    return count;
  }

  /** Throws unless a row of entries is one that was written so. */
  check(line: string, who: string): number {
    const [, first, index, last, count] = line.split(" ").map(Number) as [
      number,
      number,
      number,
      number,
      number,
    ];
    let at = last;
    for (let i = 1; i < count; i++) at = this.#previous.get(at) ?? NaN;
    assert(
      at === first && this.#index.get(first) === index &&
        this.#index.get(last) === index + count - 1,
      `${who} was given a row that was never written so: ${line}`,
    );
    return count;
  }
}

/** One writer and four readers, as long as there is time. */
export class ReadersLoad implements AsyncDisposable {
  readonly counts: LoadCounts = {
    rounds: 0,
    deaths: 0,
    entries: 0,
    truncations: 0,
    resets: 0,
    removals: 0,
    rotations: 0,
    compared: 0,
    deliveries: 0,
    followers: 0,
    truncated: 0,
    removed: 0,
    reads: 0,
    ranges: 0,
    views: 0,
    opened: 0,
  };
  readonly #seed: number;
  readonly #random: Random;
  readonly #folder: string;
  readonly #readers: Speaker[];
  /** Started ahead: a start takes long. */
  #next: Speaker;
  /** The one that lives now. */
  #writer: Speaker | undefined;
  #life = 0;

  constructor(seed: number) {
    this.#seed = seed;
    this.#random = new Random(seed);
    const fast = existsSync(MEMORY_FOLDER) ? MEMORY_FOLDER : tmpdir();
    this.#folder = mkdtempSync(join(fast, "walrus-readers-"));
    this.#next = this.#startWriter();
    this.#readers = [startWorker()];
    for (let i = 0; i < PROCESSES; i++) {
      const runtime = RUNTIMES[i % RUNTIMES.length]!;
      this.#readers.push(startProcess("reader", runtime, "reader_process.ts"));
    }
  }

  #startWriter(): Speaker {
    return startProcess("writer", THIS, "reader_writer.ts");
  }

  /** One log, from its making to its rest. */
  async round(ms: number): Promise<void> {
    const nth = ++this.counts.rounds;
    const path = join(this.#folder, `log${nth}`);
    const written = new Written();
    const endMs = performance.now() + ms;
    let writer = await this.#live(path);
    await this.#watch(path, nth);
    for (;;) {
      const lifeMs = this.#random.between(20, LIFE_MS);
      const leftMs = Math.max(1, endMs - performance.now());
      await new Promise((resolve) =>
        setTimeout(resolve, Math.min(lifeMs, leftMs))
      );
      if (lifeMs >= leftMs) break;
      await writer.stop();
      this.counts.deaths++;
      this.#hear(writer.lines, written);
      writer = await this.#live(path);
    }
    writer.tell("rest");
    const said = await writer.until("R ");
    this.#hear(said, written);
    const [, index, serial, all] = said.at(-1)!.split(" ");
    await this.#settle(`settle ${index} ${serial}`, all!, written);
    writer.tell("close");
    await writer.until("closed");
    await writer.stop();
    rmSync(path, { recursive: true, force: true });
  }

  /** Starts the next life of the writer. */
  async #live(path: string): Promise<Speaker> {
    const writer = this.#writer = this.#next;
    this.#next = this.#startWriter();
    const kind = this.#random.pick(KINDS);
    const life = ++this.#life;
    writer.tell(JSON.stringify({ path, kind, seed: this.#seed, life }));
    const lines = await writer.until("O ");
    writer.lines.unshift(...lines);
    return writer;
  }

  async #watch(path: string, nth: number): Promise<void> {
    for (const [i, reader] of this.#readers.entries()) {
      const kind = KINDS[(nth + i) % KINDS.length];
      const seed = this.#seed + 100 * nth + i;
      reader.tell(`watch ${JSON.stringify({ path, kind, seed })}`);
    }
    for (const reader of this.#readers) await reader.until("watching");
  }

  /** All have what the writer has, and were given nothing else. */
  async #settle(order: string, all: string, written: Written): Promise<void> {
    for (const reader of this.#readers) reader.tell(order);
    for (const reader of this.#readers) {
      const said = await reader.until("settled ");
      // Retention may have gone on meanwhile: the front alone may be gone.
      const told = said.at(-1)!.slice("settled ".length);
      const same = told === all || all.endsWith(`,${told}`);
      assert(same, `${reader.name} settled at ${told}, expected ${all}`);
      reader.tell("end");
      said.push(...await reader.until("ended "));
      const counts = JSON.parse(said.at(-1)!.slice(6)) as WatchCounts;
      for (const [name, count] of Object.entries(counts)) {
        this.counts[name as keyof WatchCounts] += count as number;
      }
      for (const line of said) {
        assert(!line.startsWith("P "), `${reader.name}: ${line}`);
        if (!line.startsWith("D ")) continue;
        this.counts.compared += written.check(line, reader.name);
      }
    }
  }

  #hear(lines: readonly string[], written: Written): void {
    for (const line of lines) {
      assert(!line.startsWith("E "), `the writer: ${line}`);
      if (line.startsWith("A ")) this.counts.entries += written.add(line);
      if (!line.startsWith("X ")) continue;
      const what = line.slice(2) as "truncations";
      this.counts[what]++;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = [this.#next, ...this.#readers];
    if (this.#writer !== undefined) all.push(this.#writer);
    await Promise.all(all.map((one) => one.stop()));
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
