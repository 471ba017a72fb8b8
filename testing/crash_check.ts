/**
 * Crashes a program at every call that it makes of its disk, and lets the
 * program judge what it finds.
 *
 * The workload runs once, undisturbed. Before each call images are taken of
 * what a crash at this instant would leave, together with what was promised
 * by then; when the workload is done, each image is opened and judged.
 *
 * @module
 */

import {
  checkBoolean,
  checkFunction,
  checkObject,
  checkText,
  checkWhole,
} from "./checks.ts";
import type { PortCall } from "./faults.ts";
import type { SimulatedOptions } from "./options.ts";
import { Random } from "./random.ts";
import {
  type SimulatedStorage,
  simulatedStorage,
} from "./simulated_storage.ts";

/** A crash in a crash in a crash, and no deeper. */
const DEPTH_MAX = 2;

const POWER_CUTS_MAX = 1000;

const DOING = "check every crash";
const NAMES = { power: "a power cut", death: "the death of the process" };

/** One crash that `checkEveryCrash` made. */
export interface CrashPoint {
  /** A power cut, which takes what was not synced, or the process's death. */
  readonly kind: "power" | "death";
  /** The call that was about to be made, from 1; 0 after the last one. */
  readonly call: number;
  /** In words: "a power cut at call 7, sync log/manifest.2.tmp". */
  readonly at: string;
  /** Give it back as `replay` to judge this crash alone. */
  readonly replay: string;
}

/** What `checkEveryCrash` is to do. */
export interface CrashCheck<Promised> {
  /**
   * The program at work. It must do the same each time: take what looks
   * random from a `Random`, and time from the disk's clock.
   */
  readonly workload: (storage: SimulatedStorage) => void | Promise<void>;
  /** What must hold from now on; asked before each call, and copied. */
  readonly promised: () => Promised;
  /**
   * Opens what a crash left; throws unless all that was promised is there.
   * It is crashed as well, so it should open, look and close.
   */
  readonly verify: (
    storage: SimulatedStorage,
    promised: Promised,
    crash: CrashPoint,
  ) => void | Promise<void>;
  /** Where all that looks random comes from. @default {1} */
  readonly seed?: number | undefined;
  /** How the disk behaves; its seed is the one above. */
  readonly disk?: Omit<SimulatedOptions, "seed"> | undefined;
  /** Crash at each call, or at every nth. @default {1} */
  readonly everyNthCall?: number | undefined;
  /** Power cuts at such a call, beside one death; at most 1000. @default {4} */
  readonly powerCuts?: number | undefined;
  /** Crash `verify` too, each time at one of its calls. @default {true} */
  readonly insideVerify?: boolean | undefined;
  /** Only this crash: the `replay` of an error. */
  readonly replay?: string | undefined;
}

/** What `checkEveryCrash` did. */
export interface CrashTally {
  /** The seed of the run. */
  readonly seed: number;
  /** Calls that the workload made. */
  readonly calls: number;
  /** Crashes that were judged. */
  readonly crashes: number;
  /** How many of them happened inside of `verify`. */
  readonly insideVerify: number;
}

/**
 * What a crash left is not what was promised: `cause` is what `verify` threw,
 * and the message says where it crashed, what was left, and how to replay it.
 */
export class CrashCheckError extends Error {
  /** The class's name. */
  override readonly name = "CrashCheckError";
  /** The seed of the run. */
  readonly seed: number;
  /** Where it crashed. */
  readonly crash: CrashPoint;

  /** Made by `checkEveryCrash`. */
  constructor(
    seed: number,
    crash: CrashPoint,
    crashReport: readonly string[],
    cause: unknown,
  ) {
    const replay = `{ seed: ${seed}, replay: "${crash.replay}", … }`;
    const lines = [
      `Cannot keep the promise after ${crash.at}: ${cause}`,
      `  to replay it alone: checkEveryCrash(${replay})`,
      ...crashReport.map((line) => `  the power cut left ${line}`),
    ];
    super(lines.join("\n"), { cause });
    this.seed = seed;
    this.crash = crash;
  }
}

/** A crash that waits for its verdict. */
interface Image<Promised> {
  readonly storage: SimulatedStorage;
  readonly promised: Promised;
  readonly crash: CrashPoint;
}

/**
 * Runs a workload on a simulated disk, crashes it at every call that it makes
 * of the disk, and judges each crash; throws at the first that breaks a
 * promise.
 *
 * One run has one seed, and with it one order of events; run it with several.
 *
 * @param check The workload, what it promises, and the judge.
 * @returns What was done: assert that it was enough.
 * @throws {CrashCheckError} when a promise was broken; it says how to replay
 * @throws {TypeError | RangeError} when `check` is wrong
 *
 * @example What was acknowledged is there, whenever the power fails
 * ```ts
 * import { openWal } from "@walrus/wal";
 * import { checkEveryCrash } from "@walrus/wal/testing";
 *
 * let acknowledged = 0;
 * const tally = await checkEveryCrash({
 *   async workload(storage) {
 *     await using wal = await openWal("log", { storage, segmentBytes: 65536 });
 *     for (let n = 1; n <= 3; n++) acknowledged = await wal.append(`${n}`);
 *   },
 *   promised: () => acknowledged,
 *   async verify(storage, promised) {
 *     await using wal = await openWal("log", { storage, segmentBytes: 65536 });
 *     if (wal.lastIndex < promised) throw new Error(`${wal.lastIndex}`);
 *   },
 * });
 * console.log(tally.crashes > 100); // true
 * ```
 */
export async function checkEveryCrash<Promised>(
  check: CrashCheck<Promised>,
): Promise<CrashTally> {
  checkCrashCheck(check);
  return await new CrashRun(check).run();
}

class CrashRun<Promised> {
  readonly #check: CrashCheck<Promised>;
  readonly #seed: number;
  readonly #wanted: readonly string[];
  #crashes = 0;
  #insideVerify = 0;

  constructor(check: CrashCheck<Promised>) {
    this.#check = check;
    this.#seed = check.seed ?? 1;
    this.#wanted = check.replay?.split(">") ?? [];
  }

  async run(): Promise<CrashTally> {
    const { workload, promised, disk, everyNthCall = 1 } = this.#check;
    const storage = simulatedStorage({ ...disk, seed: this.#seed });
    const images: Image<Promised>[] = [];
    const seen = await watch(storage, () => workload(storage), (call) => {
      if (call !== undefined && call.count % everyNthCall !== 0) return;
      const copy = structuredClone(promised());
      images.push(...this.#crashAt(storage, call, copy));
    });
    checkWorkload(storage, seen);
    let level = images;
    for (let depth = 0; depth <= DEPTH_MAX; depth++) {
      // The simple crashes first: they are told with the fewest words.
      level = await this.#judgeAll(level, depth);
    }
    if (this.#wanted.length > 0 && this.#crashes === 0) {
      throw new RangeError(
        `Cannot ${DOING}: there is no crash "${this.#check.replay}" in the ` +
          `${seen.calls} calls of seed ${this.#seed}`,
      );
    }
    return {
      seed: this.#seed,
      calls: seen.calls,
      crashes: this.#crashes,
      insideVerify: this.#insideVerify,
    };
  }

  /** What crashes before this call would leave. */
  #crashAt(
    storage: SimulatedStorage,
    call: PortCall | undefined,
    promised: Promised,
  ): Image<Promised>[] {
    const where = call === undefined ? "the end" : inWords(call);
    const images: Image<Promised>[] = [];
    const { powerCuts = 4 } = this.#check;
    for (let nth = 0; nth <= powerCuts; nth++) {
      const kind = nth < powerCuts ? "power" : "death";
      const replay = `${call?.count ?? "end"}.${kind === "death" ? kind : nth}`;
      if (!this.#wants(replay, 0)) continue;
      const at = `${NAMES[kind]} at ${where}`;
      const crash: CrashPoint = { kind, call: call?.count ?? 0, at, replay };
      images.push({ storage: leave(storage, kind, nth), promised, crash });
    }
    return images;
  }

  /** Judges one level of crashes; what it gives are those inside of them. */
  async #judgeAll(
    images: Image<Promised>[],
    depth: number,
  ): Promise<Image<Promised>[]> {
    const inside: Image<Promised>[] = [];
    // What was judged is let go of: opened logs are large.
    for (;;) {
      const image = images.shift();
      if (image === undefined) return inside;
      const next = await this.#judge(image, depth);
      if (next === undefined || depth === DEPTH_MAX) continue;
      if (this.#wants(next.crash.replay, depth + 1)) inside.push(next);
    }
  }

  /** Throws if a promise is broken; gives a crash of the judge itself. */
  async #judge(
    image: Image<Promised>,
    depth: number,
  ): Promise<Image<Promised> | undefined> {
    const { verify, insideVerify = true } = this.#check;
    const { storage, promised, crash } = image;
    const { crashReport } = storage;
    const random = new Random(storage.seed, 8);
    let inside: Image<Promised> | undefined;
    let calls = 0;
    this.#crashes++;
    if (depth > 0) this.#insideVerify++;
    try {
      await watch(storage, () => verify(storage, promised, crash), (call) => {
        if (!insideVerify || call === undefined) return;
        // Each call is as likely as any other to be the last that is taken.
        if (!random.chance(1 / ++calls)) return;
        inside = this.#crashInside(image, call);
      });
    } catch (reason) {
      throw new CrashCheckError(this.#seed, crash, crashReport, reason);
    }
    return inside;
  }

  #crashInside(
    { storage, promised, crash }: Image<Promised>,
    call: PortCall,
  ): Image<Promised> {
    // Each other one; what a power cut took stays taken.
    const kind = call.count % 2 === 0 ? "death" : "power";
    const again: CrashPoint = {
      kind: crash.kind === "power" ? "power" : kind,
      call: crash.call,
      at: `${crash.at}, then ${NAMES[kind]} inside of verify at ${
        inWords(call)
      }`,
      replay: `${crash.replay}>${call.count}`,
    };
    return { storage: leave(storage, kind, 0), promised, crash: again };
  }

  /** Whether this crash, or one inside of it, is the one to be replayed. */
  #wants(replay: string, depth: number): boolean {
    const wanted = this.#wanted.slice(0, depth + 1).join(">");
    return this.#wanted.length === 0 || wanted === replay;
  }
}

/** Runs `work` and sees each call before it is made, and then the end. */
async function watch(
  storage: SimulatedStorage,
  work: () => void | Promise<void>,
  see: (call: PortCall | undefined) => void,
): Promise<{ calls: number; lost: boolean }> {
  const before = storage.callCount;
  let calls = 0;
  let failure: { readonly reason: unknown } | undefined;
  storage.onCall((call) => {
    calls++;
    // A throw in here would be a crash of the workload.
    try {
      if (failure === undefined) see(call);
    } catch (reason) {
      failure = { reason };
    }
  });
  await work();
  if (failure !== undefined) throw failure.reason;
  const lost = storage.callCount - before !== calls;
  storage.onCall(undefined);
  if (!storage.dead) see(undefined);
  return { calls, lost };
}

function leave(
  storage: SimulatedStorage,
  kind: CrashPoint["kind"],
  nth: number,
): SimulatedStorage {
  const seed = storage.callCount * (POWER_CUTS_MAX + 1) + nth;
  return kind === "death" ? storage.fork(seed) : storage.image({ seed });
}

function inWords({ count, operation, name }: PortCall): string {
  return `call ${count}, ${operation} ${name}`;
}

/** A check that can never fail is refused. */
function checkWorkload(
  storage: SimulatedStorage,
  seen: { readonly calls: number; readonly lost: boolean },
): void {
  const found = storage.dead
    ? "it crashed it"
    : seen.lost
    ? "it called onCall"
    : seen.calls === 0
    ? "it made no call"
    : undefined;
  if (found === undefined) return;
  throw new TypeError(
    `Cannot ${DOING}: the workload did something else with the disk: ` +
      `${found}, expected it to work on the disk`,
  );
}

function checkCrashCheck<Promised>(check: CrashCheck<Promised>): void {
  const functions = ["workload", "promised", "verify"] as const;
  checkObject(DOING, check, [
    ...functions,
    "seed",
    "disk",
    "everyNthCall",
    "powerCuts",
    "insideVerify",
    "replay",
  ]);
  for (const name of functions) checkFunction(DOING, name, check[name], true);
  checkWhole(DOING, "seed", check.seed, 0);
  checkWhole(DOING, "everyNthCall", check.everyNthCall, 1);
  checkWhole(DOING, "powerCuts", check.powerCuts, 0, POWER_CUTS_MAX);
  checkBoolean(DOING, "insideVerify", check.insideVerify);
  checkText(DOING, "replay", check.replay);
  if (check.disk !== undefined && "seed" in check.disk) {
    throw new TypeError(
      `Cannot ${DOING}: disk has a seed, expected it beside disk`,
    );
  }
}
