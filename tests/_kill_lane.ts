/**
 * Kills writers, one after the other, on logs that live on: each life opens
 * what the last one left, is killed at an instant that the seed chooses, and
 * is judged by the calls that had returned.
 *
 * @module
 */

import { type ChildProcess, spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { openWalSync, type Wal } from "../mod.ts";
import { Random } from "../testing/mod.ts";
import { assert, assertEquals } from "./_assert.ts";
import {
  CONSUMER,
  isDataOf,
  Ledger,
  type Life,
  Script,
  type Step,
} from "./_kill_history.ts";
import { HAS_FFI, type Runtime } from "./_storages.ts";
import { REAL } from "./_wal.ts";

const SCRIPT = join(import.meta.dirname!, "_children", "kill_child.ts");
/** Node strips the types of a child's sources once, not at each start. */
const CACHE = join(tmpdir(), "walrus-compile-cache");
/**
 * A file system in memory, where there is one: the death of a process is the
 * same there, and syncs take no time. Some logs lie on the disk nevertheless.
 */
const MEMORY_FOLDER = "/dev/shm";
/** Children that have started and wait for their orders. */
const READY_MAX = 2;
/** Logs get no longer: reading them all takes the time. */
const ENTRIES_MAX = 2000;
const KINDS = HAS_FFI ? ["mapped", "files"] as const : ["files"] as const;

/** What was seen. */
export interface KillCounts {
  kills: number;
  logs: number;
  /** Killed before the log was open. */
  early: number;
  /** Killed inside of a call. */
  inside: number;
  calls: number;
  acknowledged: number;
  torn: number;
  entries: number;
}

/** A started child, and all that it said. */
class Victim {
  readonly process: ChildProcess;
  readonly #ended: Promise<unknown>;
  #output = "";
  #lines = 0;
  #limit = Infinity;
  #reached: (() => void) | undefined;

  constructor(runtime: Runtime) {
    this.process = spawn(runtime.path, [...runtime.args, SCRIPT], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, NODE_COMPILE_CACHE: CACHE },
    });
    const { stdout, stdin } = this.process;
    stdin!.on("error", () => {});
    stdout!.setEncoding("utf8");
    stdout!.on("data", (text: string) => {
      this.#output += text;
      for (const character of text) if (character === "\n") this.#lines++;
      if (this.#lines >= this.#limit) this.#reached?.();
    });
    this.#ended = Promise.all([
      new Promise((resolve) => this.process.once("exit", resolve)),
      new Promise((resolve) => stdout!.once("close", resolve)),
    ]);
  }

  /** Lets it live until it has said so much, or so long; all it said. */
  async live(life: Life, lines: number, ms: number): Promise<string[]> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const enough = new Promise<void>((resolve) => {
      this.#limit = lines;
      this.#reached = resolve;
      timer = setTimeout(resolve, ms);
    });
    this.process.stdin!.write(JSON.stringify(life) + "\n");
    await Promise.race([enough, this.#ended]);
    clearTimeout(timer);
    await this.kill();
    return this.#output.split("\n").slice(0, -1);
  }

  async kill(): Promise<void> {
    this.process.kill("SIGKILL");
    await this.#ended;
  }
}

/** One row of lives, each killed. */
export class KillLane implements AsyncDisposable {
  readonly counts: KillCounts = {
    kills: 0,
    logs: 0,
    early: 0,
    inside: 0,
    calls: 0,
    acknowledged: 0,
    torn: 0,
    entries: 0,
  };
  readonly #runtime: Runtime;
  readonly #seed: number;
  readonly #random: Random;
  readonly #folders: readonly string[];
  readonly #ready: Victim[] = [];
  #ledger = new Ledger();
  #path = "";

  constructor(runtime: Runtime, seed: number) {
    this.#runtime = runtime;
    this.#seed = seed;
    this.#random = new Random(seed, 3);
    const fast = existsSync(MEMORY_FOLDER) ? MEMORY_FOLDER : tmpdir();
    this.#folders = [fast, tmpdir()]
      .map((folder) => mkdtempSync(join(folder, "walrus-kill-")));
  }

  /** One life, one kill, one judgement. */
  async kill(): Promise<void> {
    const random = this.#random;
    const life = ++this.counts.kills;
    const long = this.#ledger.entries.length > ENTRIES_MAX;
    if (this.#path === "" || long || random.chance(0.03)) this.#beginLog();
    while (this.#ready.length < READY_MAX) {
      this.#ready.push(new Victim(this.#runtime));
    }
    const victim = this.#ready.shift()!;
    this.#ready.push(new Victim(this.#runtime));
    const order: Life = {
      seed: this.#seed,
      life,
      path: this.#path,
      kind: random.pick(KINDS),
      sync: random.pick(["always", "always", "interval", "never"] as const),
    };
    const lines = random.pick([1, 4, 15, 30, 100, 300]);
    // It may be dead before the log is open, even while a log is recovered.
    const ms = random.chance(0.15) ? random.int(30) : 20_000;
    const said = await victim.live(order, lines, ms);
    try {
      this.#judge(said, life);
    } catch (error) {
      const what = `kill ${life} of ${this.#runtime.name} (${order.kind}, ` +
        `${order.sync}): ${(error as Error).message}`;
      throw new Error(what, { cause: error });
    }
  }

  #beginLog(): void {
    if (this.#path !== "") rmSync(this.#path, { recursive: true, force: true });
    const folder = this.#folders[++this.counts.logs % 8 === 0 ? 1 : 0]!;
    this.#path = join(folder, `log${this.counts.logs}`);
    this.#ledger = new Ledger();
  }

  #judge(said: readonly string[], life: number): void {
    const { counts } = this;
    const ledger = this.#ledger;
    for (const line of said) assert(!line.startsWith("E"), line);
    const opened = said.find((line) => line.startsWith("O"));
    let maybe: Ledger | undefined;
    if (opened === undefined) counts.early++;
    else {
      const [, first, next] = opened.split(" ").map(Number);
      assertEquals({ first, next }, ledger.span, "the child opened it");
      // Opening the consumer is the first thing it does.
      const { standings } = ledger;
      if (standings.has(undefined)) standings.add(ledger.first - 1);
      maybe = this.#play(said, life);
    }
    this.#look(maybe);
  }

  /** Plays again what the child did; what it may have done besides. */
  #play(said: readonly string[], life: number): Ledger | undefined {
    const { counts } = this;
    const ledger = this.#ledger;
    const script = new Script(this.#seed, life);
    const steps: { step: Step; epoch: number }[] = [];
    let begun: Step | undefined;
    for (const line of said) {
      if (line === "B") begun = script.next(ledger.span);
      // Before its first call the consumer was open.
      if (line === "B") ledger.standings.delete(undefined);
      if (line === "W") {
        ledger.apply(begun!);
        steps.push({ step: begun!, epoch: ledger.epoch });
        begun = undefined;
        counts.calls++;
      }
      if (!line.startsWith("A")) continue;
      const { step, epoch } = steps[Number(line.slice(2))]!;
      counts.acknowledged++;
      if (epoch === ledger.epoch) ledger.acknowledge(step);
    }
    if (begun === undefined) return undefined;
    counts.inside++;
    const maybe = ledger.copy();
    maybe.apply(begun);
    return maybe;
  }

  /** Opens what the kill left, or a copy of it; settles what it holds. */
  #look(maybe: Ledger | undefined): void {
    const random = this.#random;
    const copied = random.chance(0.5);
    const path = copied ? `${this.#path}-copy` : this.#path;
    // A kill may have come before anything was made.
    if (copied) {
      try {
        cpSync(this.#path, path, { recursive: true });
      } catch (error) {
        if ((error as { code?: string }).code !== "ENOENT") throw error;
      }
    }
    const storage = random.pick(REAL).make();
    // The lock is free at once, and nothing is taken for damage.
    const wal = openWalSync(path, { storage, segmentBytes: 65536 });
    try {
      if (wal.recovery.outcome === "torn") this.counts.torn++;
      const why = differs(wal, this.#ledger);
      if (why !== undefined) {
        const other = maybe === undefined ? why : differs(wal, maybe);
        assert(other === undefined, `${why}; or ${other}`);
        this.#ledger = maybe!;
      }
      this.counts.entries += wal.length;
      this.#ledger.settle(firstOf(wal), positionIn(wal));
    } finally {
      wal.closeSync();
      if (copied) rmSync(path, { recursive: true, force: true });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const victim of this.#ready) await victim.kill();
    for (const folder of this.#folders) {
      rmSync(folder, { recursive: true, force: true });
    }
  }
}

function firstOf({ firstIndex, nextIndex, length }: Wal): number {
  return length === 0 ? nextIndex : firstIndex;
}

function positionIn(wal: Wal): number | undefined {
  return wal.consumers().find(({ name }) => name === CONSUMER)?.position;
}

/** How the log is not what the ledger says; undefined when it is that. */
function differs(wal: Wal, ledger: Ledger): string | undefined {
  const first = firstOf(wal);
  const { next } = ledger.span;
  if (wal.nextIndex !== next) {
    return `the next index is ${wal.nextIndex}, expected ${next}`;
  }
  if (!ledger.firsts.has(first)) {
    const firsts = [...ledger.firsts].join(" or ");
    return `the first index is ${first}, expected ${firsts}`;
  }
  const position = positionIn(wal);
  if (!ledger.standings.has(position)) {
    const standings = [...ledger.standings].join(" or ");
    return `the consumer stands at ${position}, expected ${standings}`;
  }
  for (const { index, data, transactionId } of wal) {
    const entry = ledger.entries[index - ledger.base]!;
    if (!isDataOf(data, entry)) return `entry ${index} has other data`;
    if ((transactionId !== undefined) !== entry.transaction) {
      return `entry ${index} has transaction ${transactionId}`;
    }
  }
  return undefined;
}
