/**
 * D-1: full disks. Children of every runtime fill a small one; whatever does
 * not fit any more is refused by type and changes nothing, and all works
 * again once there is space.
 *
 * WALRUS_DISK repeats one disk of the seed.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openWalSync } from "../mod.ts";
import { HEADER_BYTES } from "../src/format.ts";
import { decodeIdentity } from "../src/header.ts";
import { Random } from "../testing/mod.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertMatch,
  fail,
} from "./_assert.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import { serialOf } from "./_serial_entries.ts";
import { Ledger, type ReportedError } from "./_ledger.ts";
import { LedgerProcess } from "./_ledger_process.ts";
import {
  Ballast,
  PAGE_BYTES,
  SmallDisk,
  whyNoSmallDisk,
} from "./_full_disk.ts";
import {
  HAS_FFI,
  type Runtime,
  RUNTIMES,
  temporaryFolder,
  THIS,
  THIS_RUNTIME,
} from "./_storages.ts";
import { tearEntry } from "./_torn_log.ts";
import { REAL, systemFingerprint } from "./_wal.ts";

const FILE = "tests/full_disk_test.ts";
const SEED = seedOf();
const DISK_BYTES = 4 * 2 ** 20;
const PIECE_BYTES = 64 * 1024;
const KINDS = (["mapped", "files"] as const).filter((kind) =>
  kind === "files" || HAS_FFI
);
type Kind = (typeof KINDS)[number];

/** With each change a runtime tries itself only, as all of them do. */
const PAIRS =
  ((process.env.WALRUS_BUDGET ?? "smoke") === "smoke" ? [THIS] : RUNTIMES)
    .flatMap((runtime) => KINDS.map((kind) => ({ runtime, kind })));

/** Each runtime that hosts the suite has disks of its own. */
const FIRST_DISK = 1_000_000 * ["deno", "bun", "node"].indexOf(THIS_RUNTIME);
const ONLY_DISK = process.env.WALRUS_DISK;
const DISKS = ONLY_DISK === undefined
  ? Array.from(
    { length: budgetOf({ smoke: 2, long: 50 }) },
    (_, nth) => FIRST_DISK + nth,
  )
  : [Number(ONLY_DISK)];
const TIMEOUT_MS = 60_000 + 30_000 * DISKS.length;

/** One small disk with a log on it. */
class Scene implements AsyncDisposable {
  readonly ledger: Ledger = new Ledger();
  readonly ballast: Ballast;
  readonly log: string;
  readonly #disk: SmallDisk;
  readonly #options: object;
  #process: LedgerProcess | undefined;
  #serial = 0;

  private constructor(disk: SmallDisk, segmentBytes: number) {
    this.#disk = disk;
    this.#options = { segmentBytes };
    this.ballast = new Ballast(disk.path);
    this.log = join(disk.path, "log");
  }

  static async make(segmentBytes: number): Promise<Scene> {
    return new Scene(await SmallDisk.make(DISK_BYTES), segmentBytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process?.[Symbol.dispose]();
    await this.#process?.ended;
    await this.#disk[Symbol.asyncDispose]();
  }

  /** Starts a child in the place of the last one. */
  async start(runtime: Runtime, kind: Kind): Promise<void> {
    await this.kill();
    const { ledger, log } = this;
    const options = this.#options;
    this.#process = new LedgerProcess(ledger, runtime, kind, log, options);
  }

  /** kill -9, which the page cache survives. */
  async kill(): Promise<void> {
    await this.#process?.kill();
    this.#process = undefined;
  }

  /** Lets the child go, which has closed the log. */
  async end(): Promise<void> {
    await this.#process?.end();
    this.#process = undefined;
  }

  /** Tells it one line; the errors of it, each of them ENOSPC. */
  async tell(line: string): Promise<ReportedError[]> {
    const before = this.ledger.errors.length;
    await this.#process!.tell(line);
    const errors = this.ledger.errors.slice(before);
    for (const error of errors) {
      const { code, systemCode, message } = error;
      const text = `${line}: ${JSON.stringify(error)}`;
      assertEquals([code, systemCode], ["STORAGE", "ENOSPC"], text);
      assertMatch(message, /^Cannot .*no space left.*expected enough free/);
    }
    return errors;
  }

  /** Tells it a line that must succeed. */
  async done(line: string): Promise<void> {
    const errors = await this.tell(line);
    assertEquals(errors, [], line);
  }

  /** Tells it a line that must fail, and leave the log as it was. */
  async refused(line: string): Promise<void> {
    const errors = await this.tell(line);
    assertGreater(errors.length, 0, `"${line}" found space`);
    for (const { state } of errors) assertEquals(state, "open", line);
    await this.checkFiles();
    await this.done("sync read");
  }

  /** Opening must fail, and leave the folder's files as they were. */
  async notOpened(): Promise<void> {
    const before = this.#files();
    const errors = await this.tell("async open");
    errors.push(...await this.tell("sync open"));
    assertGreater(errors.length, 1, "there was space to open");
    for (const { verb, state } of errors) {
      assertEquals([verb, state], ["open", "none"]);
    }
    assertEquals(this.#files(), before, "after failing to open");
  }

  /** Every file but the lock's, by its hash. */
  #files(): Record<string, string> {
    if (!fs.existsSync(this.log)) return {};
    const all = Object.entries(systemFingerprint(this.log));
    return Object.fromEntries(
      all.filter(([name]) => name !== "LOCK" && name !== "LOCK.owner"),
    );
  }

  /** So many new entries, by their numbers. */
  serials(count: number): string {
    const from = this.#serial;
    this.#serial += count;
    return Array.from({ length: count }, (_, i) => from + i + 1).join(" ");
  }

  /** Writes until it is full; numbers are left out, for nobody knows how many. */
  async fill(twin: string, verb: string, count: number): Promise<void> {
    this.#serial += 100_000 - this.#serial % 100_000;
    await this.refused(`${twin} fill ${verb} ${count} ${this.#serial + 1}`);
    this.#serial += 90_000;
  }

  /** No file is half made: not by its name, not by its size. */
  async checkFiles(): Promise<void> {
    // The manifest may be on its way to being renewed.
    for (let i = 0; i < 200 && this.#inTheMaking().length > 0; i++) {
      await sleep(10);
    }
    assertEquals(this.#inTheMaking(), [], "files in the making stayed");
    for (const name of fs.readdirSync(this.log)) {
      if (!name.startsWith("segment_")) continue;
      const bytes = fs.readFileSync(join(this.log, name));
      const page = new Uint8Array(HEADER_BYTES);
      page.set(bytes.subarray(0, HEADER_BYTES));
      const verdict = decodeIdentity(page);
      assert(verdict.kind === "valid", `${name} has no header`);
      assertEquals(bytes.length, verdict.identity.segmentBytes, name);
    }
  }

  #inTheMaking(): string[] {
    return fs.readdirSync(this.log, { recursive: true }).map(String)
      .filter((name) => name.endsWith(".tmp") || /^LOCK\.owner\./.test(name));
  }

  /** What is free. */
  get freeBytes(): number {
    const { bavail, bsize } = fs.statfsSync(this.log);
    return bavail * bsize;
  }

  /** What this process finds, with either storage, once all others are gone. */
  checkLog(): void {
    for (const { kind, make } of REAL) {
      // Files are sparse, and a mapped one must not be.
      if (kind === "mapped" && this.freeBytes < DISK_BYTES / 4) continue;
      using wal = openWalSync(this.log, { storage: make() });
      this.ledger.check(wal);
    }
  }
}

/** What opening, appending "x" and closing comes to, in a child. */
function openOnce(runtime: Runtime, kind: Kind, log: string): string {
  const script = join(import.meta.dirname!, "_children", "open_once.ts");
  const args = [...runtime.args, script, kind, log];
  const run = spawnSync(runtime.path, args, { encoding: "utf8" });
  assertEquals([run.status, run.signal], [0, null], run.stderr);
  return run.stdout.split("\n")[0]!;
}

/** One disk that random things happen to. */
class Story {
  readonly steps: string[] = [];
  errors = 0;
  acknowledged = 0;
  readonly #random: Random;
  readonly #segmentBytes: number;
  #scene!: Scene;
  /** What is freed when the log itself has filled the disk. */
  #reserve!: Ballast;
  #open = false;
  /** Entries since the last sync that anybody asked for. */
  #notes: number[] = [];

  constructor(random: Random) {
    this.#random = random;
    this.#segmentBytes = random.pick([65536, 131072, 262144]);
  }

  /** Plays it, and judges what is left. */
  async play(): Promise<void> {
    const random = this.#random;
    await using scene = await Scene.make(this.#segmentBytes);
    this.#scene = scene;
    this.#reserve = new Ballast(join(scene.log, ".."), "reserve");
    try {
      this.#keepReserve();
      scene.ballast.take(random.int(40) * PIECE_BYTES, PIECE_BYTES);
      for (let step = 0; step < 40; step++) {
        if (!this.#open) await this.#begin();
        await this.#step();
      }
      await scene.kill();
      this.#reserve.free();
      scene.ballast.free();
      scene.checkLog();
    } finally {
      this.errors = scene.ledger.errors.length;
      this.acknowledged = scene.ledger.acknowledged;
    }
  }

  #keepReserve(): void {
    // A mapped segment needs all of its pages, and a batch may have a large
    // segment of its own.
    this.#reserve.take(DISK_BYTES / 4, PIECE_BYTES);
  }

  /** A child in any runtime, that opens; with the reserve it always can. */
  async #begin(): Promise<void> {
    const random = this.#random;
    const runtime = random.pick(RUNTIMES);
    const kind = random.pick(KINDS);
    const twin = random.pick(["sync", "async"]);
    this.steps.push(`open ${runtime.name} ${kind} ${twin}`);
    await this.#scene.start(runtime, kind);
    const errors = await this.#scene.tell(`${twin} open`);
    if (errors.some(({ verb }) => verb !== "open")) fail("an odd error");
    if (errors.length > 0) {
      this.#reserve.free();
      this.#scene.ballast.free(4);
      await this.#scene.done(`${twin} open`);
      this.#keepReserve();
    }
    this.#open = true;
    this.#notes = [];
  }

  async #step(): Promise<void> {
    const random = this.#random;
    const scene = this.#scene;
    const twin = random.pick(["sync", "async"]);
    const verb = random.pick(["append", "batch", "commit"]);
    const actions: [number, string, () => unknown][] = [
      [3, "fill", () => scene.fill(twin, verb, random.between(1, 6))],
      [4, verb, () => this.#write(`${twin} ${verb}`, random.between(1, 20))],
      [1, "huge", () => this.#write(`${twin} ${verb}`, 250)],
      [3, "note", () => this.#note(twin)],
      [2, "cut", () => scene.tell(`${twin} cut ${random.int(300)}`)],
      [2, "behead", () => scene.tell(`${twin} behead ${random.int(900)}`)],
      [1, "reset", () => scene.tell(`${twin} reset 5`)],
      [1, "flush", () => scene.done(`${twin} flush`)],
      [1, "rotate", () => scene.tell(`${twin} rotate`)],
      [1, "read", () => scene.done(`${twin} read`)],
      [2, "free", () => scene.ballast.free(random.between(1, 30))],
      [2, "take", () => this.#take()],
      [1, "close", () => this.#close(twin)],
      [1, "kill", () => this.#kill()],
      [1, "tear", () => this.#tear()],
    ];
    const wheel = actions.flatMap((action) =>
      Array<typeof action>(action[0]).fill(action)
    );
    const [, name, act] = random.pick(wheel);
    this.steps.push(`${name} ${twin}`);
    if (name !== "note" && name !== "tear") this.#notes = [];
    await act();
    if (this.#open) await scene.checkFiles();
  }

  /** What must fit is not refused. */
  async #write(how: string, count: number): Promise<void> {
    const fits = this.#scene.freeBytes > DISK_BYTES / 2 && count < 30;
    const line = `${how} ${this.#scene.serials(count)}`;
    const errors = await this.#scene.tell(line);
    if (fits) assertEquals(errors, [], "there was space");
  }

  async #note(twin: string): Promise<void> {
    const serials = this.#scene.serials(3);
    const errors = await this.#scene.tell(`${twin} note ${serials}`);
    if (errors.length === 0) this.#notes = serials.split(" ").map(Number);
  }

  #take(): void {
    const { ballast } = this.#scene;
    if (this.#random.chance(0.3)) ballast.take(Infinity, PAGE_BYTES);
    else ballast.take(this.#random.int(20) * PIECE_BYTES, PIECE_BYTES);
  }

  async #close(twin: string): Promise<void> {
    const errors = await this.#scene.tell(`${twin} close`);
    assert(errors.every(({ verb }) => verb === "close"));
    this.#open = false;
  }

  async #kill(): Promise<void> {
    await this.#scene.kill();
    this.#open = false;
  }

  async #tear(): Promise<void> {
    await this.#kill();
    const serial = this.#notes.at(-1);
    if (serial === undefined) return;
    tearEntry(this.#scene.ledger, this.#scene.log, serial);
    this.#notes = [];
  }
}

describe("D-1 a full disk", () => {
  const NO_DISK = whyNoSmallDisk();
  if (NO_DISK) {
    const count = DISKS.length + 3 * PAIRS.length;
    const skip = `${NO_DISK}; ${count} disks were not filled`;
    console.log(`D-1 SKIPPED: ${skip}`);
    it("is an error that changes nothing", { skip }, () => {});
    return;
  }

  for (const { runtime, kind } of PAIRS) {
    const other = RUNTIMES.find(({ name }) => name !== runtime.name) ?? runtime;
    const otherKind = KINDS.find((one) => one !== kind) ?? kind;
    const on = (title: string, body: (scene: Scene) => Promise<void>) =>
      it(`${title} [${runtime.name}, ${kind}]`, {
        timeout: TIMEOUT_MS,
      }, async () => {
        await using scene = await Scene.make(PIECE_BYTES);
        await scene.start(runtime, kind);
        await body(scene);
      });

    on("refuses what does not fit and goes on with space", async (scene) => {
      const { ballast } = scene;
      ballast.take(16 * PIECE_BYTES, PIECE_BYTES);
      await scene.done("async open");
      await scene.fill("sync", "append", 1);
      ballast.take(Infinity, PAGE_BYTES);
      // Larger than all that could still be free.
      await scene.refused(`sync batch ${scene.serials(400)}`);
      await scene.refused(`async commit ${scene.serials(400)}`);
      await scene.refused(`async batch ${scene.serials(400)}`);
      await scene.refused("sync rotate");
      await scene.done("sync flush");
      await scene.done("async flush");
      await scene.refused("async cut 3");
      await scene.refused("sync behead 3");
      ballast.free();
      await scene.done(`async append ${scene.serials(7)}`);
      await scene.done(`sync batch ${scene.serials(30)}`);
      const reserve = new Ballast(join(scene.log, ".."), "reserve");
      reserve.take(PAGE_BYTES, PAGE_BYTES);
      await scene.fill("async", "commit", 4);
      ballast.take(Infinity, PAGE_BYTES);
      // Its own space is enough, but for one page of a new manifest.
      reserve.free();
      await scene.done("async behead 300");
      await scene.done(`async append ${scene.serials(30)}`);
      await scene.done("async cut 10");
      await scene.done(`sync commit ${scene.serials(30)}`);
      await scene.done("async close");
      await scene.checkFiles();
      await scene.start(other, otherKind);
      await scene.done("sync open");
      await scene.done(`sync append ${scene.serials(3)}`);
      await scene.kill();
      scene.checkLog();
    });

    on("cannot begin a log, nor keep one shut", async (scene) => {
      const { ballast } = scene;
      ballast.take(Infinity, PAGE_BYTES);
      await scene.notOpened();
      // Room for a lock, not for a segment's first page.
      ballast.free(1);
      await scene.notOpened();
      ballast.free(20);
      await scene.done("async open");
      await scene.fill("async", "append", 3);
      ballast.take(Infinity, PAGE_BYTES);
      const [error] = await scene.tell("sync close");
      assertEquals(error?.verb, "close", "there was a page for a manifest");
      await scene.notOpened();
      // The other storage would want the pages that files leave out.
      ballast.free(3);
      await scene.start(other, kind);
      await scene.done("sync open");
      await scene.done("sync close");
      await scene.end();
      await scene.checkFiles();
      ballast.free();
      scene.checkLog();
    });

    on("opens a torn log with whatever space is left", async (scene) => {
      const { ballast } = scene;
      await scene.done("sync open");
      await scene.done(`sync append ${scene.serials(8)}`);
      // 9 is torn, and with it go eight pages; 13 is the largest of them.
      await scene.done(`sync note ${scene.serials(8)}`);
      await scene.kill();
      tearEntry(scene.ledger, scene.log, 9);
      using aside = temporaryFolder();
      fs.cpSync(scene.log, aside.path, { recursive: true });
      let opened = false;
      // Less than a segment, from nothing to more than the torn bytes.
      for (const pages of [0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 14]) {
        ballast.free();
        fs.rmSync(scene.log, { recursive: true });
        fs.cpSync(aside.path, scene.log, { recursive: true });
        ballast.take(Infinity, PAGE_BYTES);
        ballast.free(pages);
        const said = openOnce(runtime, kind, scene.log);
        if (opened || pages > 3) assertEquals(said, "open 8", `${pages} pages`);
        else assertMatch(said, /^(open 8$|STORAGE ENOSPC )/);
        opened ||= said === "open 8";
        await scene.checkFiles();
        ballast.free();
        using wal = openWalSync(scene.log, { storage: REAL[0]!.make() });
        const serials = Array.from(
          wal.entries({ to: 8 }),
          ({ data }) => serialOf(data),
        );
        assertEquals(serials, [1, 2, 3, 4, 5, 6, 7, 8]);
        // Whether there was a page for the child's own entry, too.
        assert(wal.length === 8 || wal.get(9).text() === "x");
      }
    });
  }

  it("loses nothing, in any order of filling and freeing", {
    timeout: TIMEOUT_MS,
  }, async () => {
    const failures: string[] = [];
    const counts = { steps: 0, errors: 0, acknowledged: 0 };
    for (const number of DISKS) {
      const random = new Random(SEED, number, 0xd1);
      const story = new Story(random);
      try {
        await story.play();
      } catch (error) {
        const how = replay(FILE, 1, `WALRUS_DISK=${number}`);
        const steps = story.steps.slice(-12).join(", ");
        const { stack } = error as Error;
        failures.push(`disk ${number}\n${how}\n… ${steps}\n${stack}`);
      }
      counts.steps += story.steps.length;
      counts.errors += story.errors;
      counts.acknowledged += story.acknowledged;
    }
    console.log(
      `D-1 seed ${SEED}: ${DISKS.length} disks from ${DISKS[0]}, ` +
        `${counts.steps} steps, ${counts.errors} times full, ` +
        `${counts.acknowledged} promises kept`,
    );
    assert(failures.length === 0, failures.slice(0, 3).join("\n\n"));
    assertGreater(counts.errors, DISKS.length, "no disk was ever full");
  });
});
