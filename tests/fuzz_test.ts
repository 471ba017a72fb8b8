/**
 * F-1: hostile files, with mutated headers and lengths, and lies under
 * checksums that are right. Opening works or throws an error of the log, and
 * so does every read, append, close and reopening after it; nothing hangs, no
 * memory is taken by a number read from a file, nothing outside a file is
 * read.
 *
 * The budget counts logs. WALRUS_FUZZ_ROUND plays one of them only.
 *
 * @module
 */
import { describe, it } from "node:test";
import process from "node:process";
import { openWalSync, type Wal } from "../mod.ts";
import { openLogFolder } from "../src/look.ts";
import { openStillLog } from "../src/still_log.ts";
import type { StoragePort } from "../src/storage.ts";
import { verifyLog } from "../src/verify.ts";
import { assert } from "./_assert.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import { CONSUMER, makeSeeds, mutate } from "./_forged_log.ts";
import { ForgedStorage } from "./_forged_storage.ts";
import {
  copyFiles,
  type Files,
  isTyped,
  LOG,
  readFiles,
  sameFiles,
  writeFiles,
} from "./_log_bytes.ts";
import { Random } from "../testing/mod.ts";
import { type StorageCase, STORAGES, temporaryFolder } from "./_storages.ts";

const FILE = "tests/fuzz_test.ts";
const USUAL_SEED = 20261122;
const SEED = seedOf(USUAL_SEED);
const SMOKE = "Deno" in globalThis ? 5000 : 1500;
const COUNT = budgetOf({ smoke: SMOKE, long: 1_000_000 });
/** More rounds on each storage that is the system's. */
const REAL_COUNT = 60;
const REAL_PART = 12;
/** Rounds in one test: Bun ends a test after five seconds. */
const PART = Math.max(500, Math.ceil(COUNT / 100));
/** Replays one round only. */
const ONLY = process.env.WALRUS_FUZZ_ROUND;
/** One round never takes this long, whatever the machine does besides. */
const ROUND_MS = 5000;
/** The largest buffer of the code is 1 MiB, whatever a file says. */
const ALLOCATION_BYTES = 1024 * 1024;

const seeds = makeSeeds();

/** Calls that may be refused, but only by errors of the log. */
class Attempts {
  refused = 0;

  make(work: () => unknown): void {
    try {
      work();
    } catch (error) {
      this.#judge(error);
    }
  }

  async soon(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#judge(error);
    }
  }

  #judge(error: unknown): void {
    if (!isTyped(error)) throw error;
    this.refused++;
  }
}

/** Uses the log in every way; throws what is not an error of the log. */
async function use(
  storage: StoragePort,
  path: string,
  random: Random,
): Promise<string> {
  let wal: Wal;
  try {
    wal = openWalSync(path, { storage, segmentBytes: 65536 });
  } catch (error) {
    if (isTyped(error)) return "refused";
    throw error;
  }
  const attempts = new Attempts();
  read(wal, attempts);
  await attempts.soon(async () => {
    await using consumer = await wal.consumer(CONSUMER);
    assert(consumer.position >= 0 && consumer.lag >= 0, "a position below 0");
    if (random.chance(0.5)) await consumer.ack(wal.lastIndex);
  });
  // Past 2^53 - 1 the next index is none: that is the caller's RangeError.
  if (wal.nextIndex < 2 ** 53 - 20) write(wal, attempts, random);
  attempts.make(() => wal.closeSync());
  return attempts.refused === 0 ? "works" : "unread";
}

function read(wal: Wal, attempts: Attempts): void {
  const { firstIndex, lastIndex } = wal;
  assert(wal.length >= 0, `length ${wal.length}`);
  const whole = wal.length === 0 || lastIndex - firstIndex + 1 === wal.length;
  assert(whole, "length and indexes contradict each other");
  attempts.make(() => {
    for (const { index, term, data } of wal) {
      assert(Number.isSafeInteger(term) && data.length <= 65536, `${index}`);
    }
  });
  const most = Math.min(lastIndex, firstIndex + 300);
  for (let i = firstIndex; i <= most && i > 0; i++) {
    attempts.make(() => wal.get(i));
  }
  // An index that is no whole number would be the caller's mistake.
  const far = Math.min(firstIndex + 2 ** 38, Number.MAX_SAFE_INTEGER - 2);
  for (const near of [lastIndex, lastIndex - 1, far]) {
    attempts.make(() => wal.at(near));
    attempts.make(() => wal.getRange(near, near + 2));
  }
  attempts.make(() => wal.segments());
  attempts.make(() => wal.stats());
}

function write(wal: Wal, attempts: Attempts, random: Random): void {
  attempts.make(() => wal.appendSync("after"));
  attempts.make(() => wal.appendBatchSync(["all", "of", "these"]));
  if (random.chance(0.5)) attempts.make(() => wal.rotateSync());
  attempts.make(() => wal.appendSync("more"));
  attempts.make(() => {
    if (wal.length > 2) wal.truncateAfterSync(wal.lastIndex - 1);
  });
  const { lastIndex, length } = wal;
  attempts.make(() => {
    if (length > 4) wal.truncateBeforeSync(lastIndex - random.int(4));
    else if (random.chance(0.3)) wal.resetSync(wal.nextIndex + 7);
  });
  attempts.make(() => wal.appendSync("last"));
}

/** Looks at a log as those do who must not change it. */
function look(storage: StoragePort, path: string): void {
  const attempts = new Attempts();
  const folder = openLogFolder(storage, path);
  try {
    attempts.make(() => {
      for (const { bytesDone } of verifyLog(folder)) assert(bytesDone >= 0);
    });
  } finally {
    folder.close();
  }
  attempts.make(() => {
    using log = openStillLog(storage, path);
    for (const { data } of log) assert(data.length <= 65536);
  });
}

/** A log of forged files, somewhere. */
interface Place extends Disposable {
  readonly storage: StoragePort;
  readonly path: string;
  /** The files as they are now; none may be changed by a refusal. */
  files(): Files;
  /** Throws unless every access lay inside a file, and all are closed. */
  check(): Promise<void>;
}

function inMemory(files: Files, random: Random): Place {
  const storage = new ForgedStorage(files, random, random.chance(0.5));
  return {
    storage,
    path: LOG,
    files: () => storage.files,
    async check(): Promise<void> {
      // A manifest that is renewed in the background closes its file later.
      for (let hops = 0; hops < 10; hops++) await undefined;
      if (storage.outside !== undefined) throw storage.outside;
      for (const open of storage.open) {
        throw new Error(`open: ${(open as { name?: string }).name}`);
      }
      assert(storage.locks.size === 0, "it is left locked");
    },
    [Symbol.dispose](): void {},
  };
}

function onSystem(files: Files, real: StorageCase): Place {
  const folder = temporaryFolder();
  writeFiles(files, folder.path);
  return {
    storage: real.make(),
    path: folder.path,
    files: () => readFiles(folder.path),
    check: () => Promise.resolve(),
    [Symbol.dispose]: () => folder[Symbol.dispose](),
  };
}

/** One round: mutate a log, use it, use it again. */
async function play(
  round: number,
  counts: Record<string, number>,
  real?: StorageCase,
): Promise<void> {
  const random = new Random(SEED, round);
  const files = copyFiles(random.pick(seeds));
  const told: string[] = [];
  const mutations = random.pick([1, 1, 1, 2, 3]);
  for (let i = 0; i < mutations; i++) {
    told.push(mutate(files, random));
    if (files.size === 0) break;
  }
  const before = copyFiles(files);
  using place = real ? onSystem(files, real) : inMemory(files, random);
  const startMs = performance.now();
  try {
    if (random.chance(0.3)) {
      look(place.storage, place.path);
      await place.check();
      assert(sameFiles(before, place.files()), "looked at, and changed");
    }
    const outcome = await use(place.storage, place.path, random);
    await place.check();
    if (outcome === "refused") {
      assert(sameFiles(before, place.files()), "refused, but changed");
    } else {
      await use(place.storage, place.path, random);
      await place.check();
    }
    counts[outcome] = (counts[outcome] ?? 0) + 1;
    const ms = performance.now() - startMs;
    assert(ms < ROUND_MS, `it took ${ms} ms`);
  } catch (error) {
    const stack = error instanceof Error ? error.stack : String(error);
    const again = replay(FILE, USUAL_SEED, `WALRUS_FUZZ_ROUND=${round}`);
    throw new Error(`F-1 ${told.join("; ")}: ${stack}\n${again}`);
  }
}

/** Sees every array that is made by its size. */
class AllocationWatch {
  bytesMax = 0;
  readonly #originals = [Uint8Array, Uint32Array] as const;

  constructor() {
    const watched = this.#originals.map((original) =>
      new Proxy(original, {
        construct: (target, given, newTarget) => {
          const [size] = given;
          if (typeof size === "number") {
            const bytes = size * original.BYTES_PER_ELEMENT;
            this.bytesMax = Math.max(this.bytesMax, bytes);
          }
          return Reflect.construct(target, given, newTarget);
        },
      })
    );
    const [bytes, words] = watched;
    Object.assign(globalThis, { Uint8Array: bytes, Uint32Array: words });
  }

  end(): void {
    const [bytes, words] = this.#originals;
    Object.assign(globalThis, { Uint8Array: bytes, Uint32Array: words });
  }
}

/** Plays rounds and gives what failed. */
async function playAll(
  first: number,
  last: number,
  real?: StorageCase,
): Promise<void> {
  const counts: Record<string, number> = {};
  const watch = new AllocationWatch();
  const failures: string[] = [];
  for (let round = first; round < last && failures.length < 20; round++) {
    try {
      await play(round, counts, real);
    } catch (error) {
      failures.push((error as Error).message);
    }
  }
  watch.end();
  console.log(
    `F-1 ${real?.kind ?? "memory"}, seed ${SEED}, logs ${first} to ` +
      `${last - 1}: ${
        JSON.stringify(counts)
      }, no buffer above ${watch.bytesMax} bytes`,
  );
  if (failures.length > 0) throw new Error(failures.join("\n\n"));
  assert(watch.bytesMax <= ALLOCATION_BYTES, `${watch.bytesMax} bytes`);
}

describe("F-1 fuzz: hostile files open or are refused", () => {
  const only = ONLY === undefined ? undefined : Number(ONLY);
  if (only !== undefined) it(`round ${only}`, () => playAll(only, only + 1));
  const count = only === undefined ? COUNT : 0;
  for (let first = 0; first < count; first += PART) {
    const last = Math.min(first + PART, count);
    it(`forged logs ${first} to ${last - 1}`, () => playAll(first, last));
  }
  // Their syncs are real ones: fewer rounds, in smaller parts.
  const real = STORAGES.filter((one) => one.real);
  for (const storage of only === undefined ? real : []) {
    for (let first = 0; first < REAL_COUNT; first += REAL_PART) {
      const [from, to] = [COUNT + first, COUNT + first + REAL_PART];
      it(`${from} to ${to - 1} on ${storage.kind} storage`, () =>
        playAll(from, to, storage));
    }
  }
});
