/**
 * Forged logs: what a hostile program would write into the files of a log,
 * under checksums that are right, or not.
 *
 * @module
 */

import type { Wal } from "../mod.ts";
import {
  blockAt,
  type Bytes,
  type Files,
  frameOffsets,
  killedLog,
  makeLog,
  sealBlock,
  sealFooter,
  sealFrame,
  sealIdentity,
  sealLink,
  sealManifest,
  sealPosition,
  segmentFile,
  setU32,
  setU64,
} from "./_log_bytes.ts";
import type { Random } from "../testing/mod.ts";

/** Logs to start from: closed and killed, both formats, cut and whole. */
export function makeSeeds(): Files[] {
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
  const shortened = (wal: Wal) => {
    for (let i = 0; i < 70; i++) wal.appendSync(`entry ${i}`);
    wal.rotateSync();
    const transaction = wal.beginTransaction();
    for (let i = 0; i < 3; i++) transaction.add(`part ${i}`);
    transaction.commitSync();
    wal.truncateBeforeSync(30);
    wal.appendSync("later");
  };
  return [
    makeLog(work),
    killedLog(work),
    makeLog(work, { format: "json" }),
    killedLog((wal) => void wal.appendBatchSync(["one", "two"])),
    makeLog(() => {}),
    withConsumers(makeLog(shortened)),
    withConsumers(killedLog(shortened)),
  ];
}

/** The name that all forged consumers bear. */
export const CONSUMER = "worker" as const;

/** Adds a consumer that has moved once, and one that has not. */
function withConsumers(files: Files): Files {
  const logId = files.get("manifest")!.slice(16, 32);
  for (const [name, slots] of [[CONSUMER, [0, 1]], ["idle", [0]]] as const) {
    const bytes = new Uint8Array(8192);
    for (const slot of slots) {
      const at = 4096 * slot;
      bytes.set([0x89, 0x57, 0x41, 0x4c, 0x43, 0x4f, 0x4e, 0x0a], at);
      setU32(bytes, at + 8, 1);
      setU32(bytes, at + 12, 64);
      bytes.set(logId, at + 16);
      setU64(bytes, at + 32, slot + 1);
      setU64(bytes, at + 40, 40 + slot);
      sealPosition(bytes, name, slot);
    }
    files.set(`consumers/${name}`, bytes);
  }
  return files;
}

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
const POSITION: Field[] = [[8, 4], [12, 4], [32, 8], [40, 8], [48, 8], [56, 4]];
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
export function mutate(files: Files, random: Random): string {
  const names = [...files.keys()];
  const segments = names.filter((name) => files.get(name)!.length >= 65536);
  if (segments.length === 0) return addFile(files, random);
  const sealed = random.chance(0.85);
  const consumer = files.get(`consumers/${CONSUMER}`);
  if (consumer?.length === 8192 && random.chance(0.15)) {
    const slot = random.pick([0, 1] as const);
    const field = random.pick(POSITION);
    const what = setField(consumer, 4096 * slot, field, random);
    if (sealed) sealPosition(consumer, CONSUMER, slot);
    return `consumer ${what}`;
  }
  const name = random.pick(segments);
  const bytes = files.get(name)!;
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
    "consumers/other",
    `consumers/.${CONSUMER}.tmp`,
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
  const flags = random.pick([1, 3, 5, 8, 17, 19, 21]);
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
