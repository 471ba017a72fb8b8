/**
 * Hostile files: mutated headers and lengths, and lies under checksums that
 * are right. Opening works or throws an error of the log, and so does every
 * read, append, close and reopening after it; nothing hangs, no memory is
 * taken by a number read from a file, nothing outside a file is read.
 *
 * `WALRUS_SEED=n WALRUS_FUZZ=n` choose seed and count; a failure prints the
 * command that replays just it.
 */
import { describe, it } from "node:test";
import process from "node:process";
import { openWalSync, type Wal } from "../mod.ts";
import type { StoragePort } from "../src/storage.ts";
import { assert } from "./_assert.ts";
import {
  blockAt,
  type Bytes,
  copyFiles,
  type Files,
  frameOffsets,
  isTyped,
  killedLog,
  LOG,
  makeLog,
  plantFiles,
  readFiles,
  sameFiles,
  sealBlock,
  sealFooter,
  sealFrame,
  sealIdentity,
  sealLink,
  sealManifest,
  segmentFile,
  setU32,
  setU64,
  takeFiles,
  writeFiles,
} from "./_log_bytes.ts";
import { Random } from "../testing/mod.ts";
import { type StorageCase, STORAGES, temporaryFolder } from "./_storages.ts";

const SEED = Number(process.env.WALRUS_SEED ?? 20261122);
const COUNT = Number(process.env.WALRUS_FUZZ ?? 5000);
/** More rounds on each storage that is the system's. */
const REAL_COUNT = 60;
const REAL_PART = 12;
/** Rounds in one test. */
const PART = 500;
/** Replays one round only. */
const ONLY = process.env.WALRUS_FUZZ_ROUND;
/** One round never takes this long, whatever the machine does besides. */
const ROUND_MS = 5000;
/** The largest buffer of the code is 1 MiB, whatever a file says. */
const ALLOCATION_BYTES = 1024 * 1024;

/** Logs to start from: closed and killed, both formats, cut and whole. */
function makeSeeds(): Files[] {
  const work = (wal: Wal) => {
    for (let i = 0; i < 70; i++) {
      wal.appendSync({ data: `entry ${i}`, term: i });
    }
    wal.rotateSync();
    wal.appendBatchSync(["a", "b", "c"]);
    wal.appendSync("x".repeat(5000));
    wal.rotateSync();
    wal.appendBatchSync(["d", "e", "f"]);
    wal.truncateAfterSync(76);
    for (let i = 0; i < 5; i++) wal.appendSync(`later ${i}`);
  };
  return [
    makeLog(work),
    killedLog(work),
    makeLog(work, { format: "json" }),
    killedLog((wal) => void wal.appendBatchSync(["one", "two"])),
    makeLog(() => {}),
  ];
}

const seeds = makeSeeds();

const U32 = [
  0,
  1,
  7,
  8,
  39,
  40,
  41,
  4095,
  4096,
  4104,
  65472,
  65528,
  65535,
  65536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 31 + 1,
  2 ** 32 - 8,
  2 ** 32 - 1,
];

const U64 = [
  0n,
  1n,
  2n,
  3n,
  75n,
  1000n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n + 1n,
  2n ** 38n,
  2n ** 50n,
  2n ** 53n - 2n ** 20n - 1n,
  2n ** 53n - 2n ** 20n,
  2n ** 53n - 2n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 53n + 1n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
];

/** A field of a record: where, how wide, and who seals it afterwards. */
type Field = readonly [offset: number, size: 2 | 4 | 8];

const IDENTITY: Field[] = [
  [8, 4],
  [12, 4],
  [32, 8],
  [40, 4],
  [44, 4],
  [48, 8],
  [56, 8],
  [88, 8],
];
const LINK: Field[] = [
  [0, 8],
  [8, 8],
  [16, 4],
  [20, 4],
  [24, 8],
  [32, 8],
  [40, 8],
  [48, 4],
  [52, 4],
  [56, 4],
];
const FRAME: Field[] = [
  [4, 4],
  [8, 8],
  [16, 2],
  [18, 2],
  [20, 4],
  [24, 8],
  [32, 8],
];
const BLOCK: Field[] = [[4, 4], [8, 8], [16, 8], [24, 4], [28, 4], [60, 4]];
const FOOTER: Field[] = [
  [8, 8],
  [16, 8],
  [24, 4],
  [28, 4],
  [32, 8],
  [40, 8],
  [48, 8],
  [56, 4],
];
const MANIFEST: Field[] = [
  [8, 4],
  [12, 4],
  [32, 8],
  [64, 8],
  [72, 8],
  [80, 8],
  [88, 8],
  [96, 8],
  [104, 8],
  [112, 8],
  [120, 4],
  [124, 4],
  [128, 4],
];

function setField(
  bytes: Bytes,
  base: number,
  [offset, size]: Field,
  random: Random,
): string {
  const at = base + offset;
  const near = random.chance(0.3);
  if (size === 8) {
    const view = new DataView(bytes.buffer);
    const old = view.getBigUint64(at, true);
    const step = BigInt(random.between(-2, 2));
    const value = BigInt.asUintN(64, near ? old + step : random.pick(U64));
    setU64(bytes, at, value);
    return `${at} = ${value}`;
  }
  if (size === 2) {
    const value = random.pick([0, 1, 2, 3, 4, 5, 7, 8, 9, 17, 32, 0xffff]);
    new DataView(bytes.buffer).setUint16(at, value, true);
    return `${at} = ${value}`;
  }
  const old = new DataView(bytes.buffer).getUint32(at, true);
  const moved = old + 8 * random.between(-6, 6);
  const value = (near ? moved : random.pick(U32)) >>> 0;
  setU32(bytes, at, value);
  return `${at} = ${value}`;
}

/** Changes one thing, sealed or not; tells what. */
function mutate(files: Files, random: Random): string {
  const names = [...files.keys()];
  const segments = names.filter((name) => files.get(name)!.length >= 65536);
  if (segments.length === 0) return addFile(files, random);
  const name = random.pick(segments);
  const bytes = files.get(name)!;
  const sealed = random.chance(0.85);
  const offsets = frameOffsets(bytes);
  const roll = random.int(20);
  if (roll < 2) {
    const what = setField(bytes, 0, random.pick(IDENTITY), random);
    if (sealed) {
      sealIdentity(bytes);
      sealLink(bytes);
      if (random.chance(0.5)) offsets.forEach((at) => sealFrame(bytes, at));
    }
    return `${name} identity ${what}`;
  }
  if (roll < 6) {
    const before = bytes.slice(128, 256);
    const what = setField(bytes, 128, random.pick(LINK), random);
    if (random.chance(0.4)) setField(bytes, 128, random.pick(LINK), random);
    // The rule that binds two fields would refuse most lies.
    if (random.chance(0.5)) {
      const view = new DataView(bytes.buffer);
      const base = view.getBigUint64(128, true);
      setU64(bytes, 128 + 24, BigInt.asUintN(64, base - 1n));
    }
    if (sealed) sealLink(bytes);
    // The copy stays, lies as the first one does, or lies alone.
    const copy = random.int(4);
    if (copy === 0) bytes.set(before, 3840);
    else bytes.copyWithin(3840, 128, 256);
    if (copy === 1) bytes.set(before, 128);
    return `${name} link ${what}, copy ${copy}`;
  }
  if (roll < 10 && offsets.length > 0) {
    const at = random.chance(0.3) ? offsets.at(-1)! : random.pick(offsets);
    const what = setField(bytes, at, random.pick(FRAME), random);
    if (sealed) sealFrame(bytes, at);
    return `${name} frame ${at}: ${what}`;
  }
  if (roll < 12) {
    const ordinal = random.int(2);
    const at = blockAt(bytes, ordinal);
    const what = setField(bytes, at, random.pick(BLOCK), random);
    if (sealed) sealBlock(bytes, ordinal);
    return `${name} block ${ordinal}: ${what}`;
  }
  if (roll < 13) {
    const what = setField(
      bytes,
      bytes.length - 64,
      random.pick(FOOTER),
      random,
    );
    if (sealed) sealFooter(bytes);
    return `${name} footer ${what}`;
  }
  if (roll < 17) {
    const manifest = files.get("manifest");
    if (manifest?.length !== 256) return "no manifest";
    const what = setField(manifest, 0, random.pick(MANIFEST), random);
    if (sealed) sealManifest(manifest);
    return `manifest ${what}`;
  }
  if (roll === 17) {
    const at = 8 * random.int(bytes.length / 8);
    const count = 8 * random.int(64);
    random.fill(bytes.subarray(at, at + count));
    return `${name} garbage ${at}, ${count}`;
  }
  if (roll === 18) return addFile(files, random);
  return forgeFrames(name, bytes, offsets, random);
}

/** Plants a file that the log does not know, or takes one away. */
function addFile(files: Files, random: Random): string {
  const source = random.pick([...files.keys()]);
  const number = random.pick([
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    1000,
    2 ** 53 - 2 ** 20,
    2 ** 53 - 2 ** 20 + 1,
    2 ** 53 - 1,
  ]);
  const target = random.pick([
    segmentFile(number),
    segmentFile(number),
    `segment_${"9".repeat(20)}.wal`,
    "manifest.1.tmp",
    "notes.tmp",
    `${segmentFile(7)}.tmp`,
  ]);
  const kind = random.int(4);
  if (kind === 0) files.delete(source);
  else if (kind === 1) files.set(target, new Uint8Array(0));
  else {
    const bytes = files.get(source)!.slice();
    if (kind === 3 && bytes.length > 4096) {
      setU64(bytes, 32, number);
      sealIdentity(bytes);
      sealLink(bytes);
    }
    files.set(target, bytes);
  }
  return `file ${kind}: ${source}, ${target}`;
}

/** Many frames in a row that fit, or look as if: batches without an end. */
function forgeFrames(
  name: string,
  bytes: Bytes,
  offsets: readonly number[],
  random: Random,
): string {
  const last = offsets.at(-1) ?? 4096;
  let index = BigInt(random.pick([1, 71, 75, 78, 2 ** 53 - 3]));
  if (random.chance(0.7) && offsets.length > 0) {
    index = new DataView(bytes.buffer).getBigUint64(last + 8, true);
  }
  const flags = random.pick([1, 3, 5, 8, 19]);
  const length = random.pick([40, 48, 56, 1000]);
  const mark = random.pick([0xffff0000, 0, 0x10000, 0xfffe0000]);
  let at = last + 48;
  const count = random.pick([1, 3, 200, 2000]);
  for (let i = 0; i < count && at + length <= bytes.length; i++) {
    setU32(bytes, at + 4, length);
    setU64(bytes, at + 8, BigInt.asUintN(64, index));
    setU32(bytes, at + 16, (mark + flags) >>> 0);
    setU32(bytes, at + 20, mark === 0xffff0000 ? 0 : random.pick(U32));
    sealFrame(bytes, at);
    at += Math.ceil(length / 8) * 8;
    if (flags !== 8) index++;
  }
  return `${name} ${count} frames of ${length} at ${last}, flags ${flags}`;
}

/** Uses the log in every way; throws what is not an error of the log. */
function use(storage: StoragePort, path: string, random: Random): string {
  let wal: Wal;
  try {
    wal = openWalSync(path, { storage, segmentBytes: 65536 });
  } catch (error) {
    if (isTyped(error)) return "refused";
    throw error;
  }
  let refused = 0;
  const attempt = (work: () => unknown) => {
    try {
      work();
    } catch (error) {
      if (!isTyped(error)) throw error;
      refused++;
    }
  };
  const { firstIndex, lastIndex } = wal;
  assert(wal.length >= 0, `length ${wal.length}`);
  assert(
    wal.length === 0 || lastIndex - firstIndex + 1 === wal.length,
    "count",
  );
  attempt(() => {
    for (const { index, term, data } of wal) {
      assert(Number.isSafeInteger(term) && data.length <= 65536, `${index}`);
    }
  });
  const most = Math.min(lastIndex, firstIndex + 300);
  for (let i = firstIndex; i <= most && i > 0; i++) attempt(() => wal.get(i));
  // An index that is no whole number would be the caller's mistake.
  const far = Math.min(firstIndex + 2 ** 38, Number.MAX_SAFE_INTEGER - 2);
  for (const near of [lastIndex, lastIndex - 1, far]) {
    attempt(() => wal.at(near));
    attempt(() => wal.getRange(near, near + 2));
  }
  attempt(() => wal.segments());
  attempt(() => wal.stats());
  // Past 2^53 - 1 the next index is none: that is the caller's RangeError.
  if (wal.nextIndex < 2 ** 53 - 10) {
    attempt(() => wal.appendSync("after"));
    attempt(() => wal.appendBatchSync(["all", "of", "these"]));
    if (random.chance(0.5)) attempt(() => wal.rotateSync());
    attempt(() => wal.appendSync("more"));
    attempt(() => {
      if (wal.length > 2) wal.truncateAfterSync(wal.lastIndex - 1);
    });
  }
  attempt(() => wal.closeSync());
  return refused === 0 ? "works" : "unread";
}

/** One round: mutate a log, use it, use it again. */
function play(
  round: number,
  counts: Record<string, number>,
  real?: StorageCase,
): void {
  const random = new Random(SEED, round);
  const files = copyFiles(random.pick(seeds));
  const told: string[] = [];
  const mutations = random.pick([1, 1, 1, 2, 3]);
  for (let i = 0; i < mutations; i++) {
    told.push(mutate(files, random));
    if (files.size === 0) break;
  }
  using folder = real === undefined ? undefined : temporaryFolder();
  const disk = plantFiles(files, round);
  const path = folder?.path ?? LOG;
  if (folder !== undefined) writeFiles(files, path);
  const storage = real?.make() ?? disk;
  const startMs = performance.now();
  try {
    const outcome = use(storage, path, random);
    if (outcome === "refused") {
      const after = folder === undefined ? takeFiles(disk) : readFiles(path);
      assert(sameFiles(files, after), "refused, but changed");
    } else use(storage, path, random);
    counts[outcome] = (counts[outcome] ?? 0) + 1;
    const ms = performance.now() - startMs;
    assert(ms < ROUND_MS, `it took ${ms} ms`);
  } catch (error) {
    const stack = error instanceof Error ? error.stack : String(error);
    const replay = `WALRUS_SEED=${SEED} WALRUS_FUZZ_ROUND=${round}`;
    throw new Error(`${replay}: ${told.join("; ")}: ${stack}`);
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
function playAll(first: number, last: number, real?: StorageCase): void {
  const counts: Record<string, number> = {};
  const watch = new AllocationWatch();
  const failures: string[] = [];
  for (let round = first; round < last && failures.length < 20; round++) {
    try {
      play(round, counts, real);
    } catch (error) {
      failures.push((error as Error).message);
    }
  }
  watch.end();
  console.log(
    `fuzz: ${real?.kind ?? "simulated"}, seed ${SEED}, logs ${first} to ` +
      `${last - 1}: ${
        JSON.stringify(counts)
      }, no buffer above ${watch.bytesMax} bytes`,
  );
  if (failures.length > 0) throw new Error(failures.join("\n\n"));
  assert(watch.bytesMax <= ALLOCATION_BYTES, `${watch.bytesMax} bytes`);
}

describe("fuzz: hostile files open or are refused", () => {
  const only = ONLY === undefined ? undefined : Number(ONLY);
  if (only !== undefined) it(`round ${only}`, () => playAll(only, only + 1));
  // In parts: Bun ends a test after five seconds.
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
      it(`${from} to ${to - 1} on ${storage.kind} storage`, () => {
        playAll(from, to, storage);
      });
    }
  }
});
