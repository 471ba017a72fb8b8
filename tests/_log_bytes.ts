/**
 * Log folders as plain bytes: takes them from a simulated disk, puts them
 * back, reads and writes their fields by docs/format.md's offsets, and seals
 * forged records with valid checksums.
 *
 * The checksum and the offsets here are independent of `src/`: a mistake
 * there must not repeat itself here.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { openWalSync, type Wal, WalError, type WalOptions } from "../mod.ts";
import { viewOf } from "../src/fields.ts";
import { FrameWriter } from "../src/frame.ts";
import { encodeIdentity, encodeLink } from "../src/header.ts";
import { IndexBuilder } from "../src/segment_index.ts";
import type { StoragePort } from "../src/storage.ts";
import { SimulatedStorage } from "../testing/mod.ts";

/** Bytes of our own. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** A folder's files by name; `undefined` stands for one that is gone. */
export type Files = Map<string, Bytes>;

/** Where every log of these tests lies. */
export const LOG = "log" as const;

/** The name of a segment's file. */
export function segmentFile(number: number): string {
  return `segment_${String(number).padStart(20, "0")}.wal`;
}

/** A simulated disk on which nothing goes wrong. */
export function quietDisk(seed = 1): SimulatedStorage {
  return new SimulatedStorage({ seed, autoSettle: true, writeback: 0 });
}

/** The one folder inside of a log's that belongs to the log. */
const CONSUMERS = "consumers";

/**
 * The files of a folder as programs see them, those of consumers included;
 * LOCK files are nobody's.
 */
export function takeFiles(disk: SimulatedStorage, folder: string = LOG): Files {
  const modes = { create: false, directoryMode: 0o750, fileMode: 0o640 };
  const directory = disk.openDirectory(folder, modes);
  const files: Files = new Map();
  const take = (inside?: string) => {
    for (const { name, kind } of directory!.list(inside)) {
      const path = inside === undefined ? name : `${inside}/${name}`;
      if (kind === "directory" && path === CONSUMERS) take(name);
      if (kind !== "file" || name.startsWith("LOCK")) continue;
      files.set(path, disk.peek(`${folder}/${path}`)!);
    }
  };
  if (directory !== undefined) take();
  directory?.close();
  return new Map([...files].sort(([a], [b]) => a < b ? -1 : 1));
}

/** A new disk that holds just these files, all durable. */
export function plantFiles(files: Files, seed = 1): SimulatedStorage {
  const disk = quietDisk(seed);
  const modes = { create: true, directoryMode: 0o750, fileMode: 0o640 };
  disk.openDirectory(LOG, modes)?.close();
  if ([...files.keys()].some((name) => name.includes("/"))) {
    disk.openDirectory(`${LOG}/${CONSUMERS}`, modes)?.close();
  }
  for (const [name, bytes] of files) disk.plant(`${LOG}/${name}`, bytes);
  return disk;
}

/** A deep copy. */
export function copyFiles(files: Files): Files {
  return new Map([...files].map(([name, bytes]) => [name, bytes.slice()]));
}

/** Writes files into a real folder. */
export function writeFiles(files: Files, folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, bytes] of files) {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, bytes);
  }
}

/** Reads a real folder, without LOCK files and what was cut off. */
export function readFiles(folder: string): Files {
  const files: Files = new Map();
  const read = (inside: string) => {
    const path = join(folder, inside);
    const entries = readdirSync(path, { withFileTypes: true });
    for (const entry of entries.sort((a, b) => a.name < b.name ? -1 : 1)) {
      const name = inside === "" ? entry.name : `${inside}/${entry.name}`;
      if (name === CONSUMERS && entry.isDirectory()) read(name);
      if (!entry.isFile() || entry.name.startsWith("LOCK")) continue;
      files.set(name, new Uint8Array(readFileSync(join(folder, name))));
    }
  };
  read("");
  return files;
}

/** Whether two folders hold the same. */
export function sameFiles(a: Files, b: Files): boolean {
  if (a.size !== b.size) return false;
  for (const [name, bytes] of a) {
    const other = b.get(name);
    if (other === undefined || Buffer.compare(bytes, other) !== 0) return false;
  }
  return true;
}

/** Makes a log by `work`, closes it, and gives its files. */
export function makeLog(
  work: (wal: Wal, disk: SimulatedStorage) => void,
  options: WalOptions = {},
  seed = 1,
): Files {
  const disk = quietDisk(seed);
  const wal = openWalSync(LOG, {
    storage: disk,
    segmentBytes: 65536,
    ...options,
  });
  work(wal, disk);
  wal.closeSync();
  return takeFiles(disk);
}

/** As `makeLog`, but the process dies instead of closing. */
export function killedLog(
  work: (wal: Wal, disk: SimulatedStorage) => void,
  options: WalOptions = {},
  seed = 1,
): Files {
  const disk = quietDisk(seed);
  const wal = openWalSync(LOG, {
    storage: disk,
    segmentBytes: 65536,
    ...options,
  });
  work(wal, disk);
  return takeFiles(disk.processDeath(seed));
}

const TABLE: Uint32Array = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) {
    value = (value & 1) === 0 ? value >>> 1 : (value >>> 1) ^ 0xedb88320;
  }
  return value >>> 0;
});

/** CRC-32 (IEEE), continued from `seed`: the book's loop. */
export function checksum(bytes: Uint8Array, seed = 0): number {
  let state = ~seed;
  for (const byte of bytes) {
    state = TABLE[(state ^ byte) & 0xff]! ^ (state >>> 8);
  }
  return ~state >>> 0;
}

/** Little-endian u32. */
export function getU32(bytes: Uint8Array, offset: number): number {
  return view(bytes).getUint32(offset, true);
}

/** Little-endian u32. */
export function setU32(bytes: Uint8Array, offset: number, value: number): void {
  view(bytes).setUint32(offset, value, true);
}

/** Little-endian u64. */
export function getU64(bytes: Uint8Array, offset: number): bigint {
  return view(bytes).getBigUint64(offset, true);
}

/** Little-endian u64. */
export function setU64(
  bytes: Uint8Array,
  offset: number,
  value: bigint | number,
): void {
  view(bytes).setBigUint64(offset, BigInt(value), true);
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The salt in a segment's header. */
export function saltOf(segment: Uint8Array): number {
  return getU32(segment, 40);
}

/** Seals the identity and repeats it at the page's end. */
export function sealIdentity(segment: Uint8Array): void {
  setU32(segment, 124, checksum(segment.subarray(0, 124)));
  segment.copyWithin(3968, 0, 128);
}

/** Seals the link and repeats it before the identity's copy. */
export function sealLink(segment: Uint8Array): void {
  const crc = checksum(segment.subarray(128, 252), saltOf(segment));
  setU32(segment, 252, crc);
  segment.copyWithin(3840, 128, 256);
}

/** Damages the link and its copy: nobody knows it any more. */
export function loseLink(segment: Uint8Array): void {
  segment[128]! ^= 1;
  segment[3840]! ^= 1;
}

/** Seals the frame at `offset`; false when its length leads nowhere. */
export function sealFrame(segment: Uint8Array, offset: number): boolean {
  const length = getU32(segment, offset + 4);
  if (length < 8 || offset + length > segment.length) return false;
  const seed = (saltOf(segment) ^ offset) >>> 0;
  const crc = checksum(segment.subarray(offset + 4, offset + length), seed);
  setU32(segment, offset, crc);
  return true;
}

/** Where index block `ordinal` begins. */
export function blockAt(segment: Uint8Array, ordinal: number): number {
  return segment.length - 64 - 280 * (ordinal + 1);
}

/** Seals index block `ordinal`. */
export function sealBlock(segment: Uint8Array, ordinal: number): void {
  const at = blockAt(segment, ordinal);
  const seed = (saltOf(segment) ^ at) >>> 0;
  setU32(segment, at, checksum(segment.subarray(at + 4, at + 280), seed));
}

/** Seals the footer. */
export function sealFooter(segment: Uint8Array): void {
  const at = segment.length - 64;
  const crc = checksum(segment.subarray(at, at + 60), saltOf(segment));
  setU32(segment, at + 60, crc);
}

/** Seals the manifest. */
export function sealManifest(manifest: Uint8Array): void {
  setU32(manifest, 252, checksum(manifest.subarray(0, 252)));
}

/** Seals record `slot` of the consumer `name`. */
export function sealPosition(
  file: Uint8Array,
  name: string,
  slot: 0 | 1,
): void {
  const at = 4096 * slot;
  const seed = checksum(new TextEncoder().encode(name));
  setU32(file, at + 60, checksum(file.subarray(at, at + 60), seed));
}

/** Where the frames of a segment begin, up to the first that cannot be one. */
export function frameOffsets(segment: Uint8Array): number[] {
  const offsets: number[] = [];
  let offset = 4096;
  while (offset + 40 <= segment.length) {
    const length = getU32(segment, offset + 4);
    if (length < 40 || offset + length > segment.length) break;
    if (getU32(segment, offset + 16) === 0) break;
    offsets.push(offset);
    offset += Math.ceil(length / 8) * 8;
  }
  return offsets;
}

/** What an entry must be. */
export interface Expected {
  readonly index: number;
  readonly term: number;
  readonly timestampNs: bigint;
  readonly data: Bytes;
  readonly transactionId: string | undefined;
}

/** All entries of a log that nothing is wrong with. */
export function expectAll(disk: StoragePort): Expected[] {
  const wal = openWalSync(LOG, { storage: disk });
  const entries = [...wal].map((entry) => {
    const { index, term, timestampNs, data, transactionId } = entry;
    return { index, term, timestampNs, data: data.slice(), transactionId };
  });
  wal.closeSync();
  return entries;
}

/** What became of a damaged log; all but "wrong" keep the promise. */
export type Outcome =
  | { readonly kind: "refused" | "unread" | "right" }
  | { readonly kind: "wrong"; readonly why: string };

/** Opens a damaged log and holds it against what it must hold. */
export function judge(
  storage: StoragePort,
  expected: readonly Expected[],
  options: WalOptions = {},
  folder: string = LOG,
): Outcome {
  let wal: Wal;
  try {
    wal = openWalSync(folder, { ...options, storage });
  } catch (error) {
    return isTyped(error) ? { kind: "refused" } : wrong("open", error);
  }
  try {
    return compare(wal, expected);
  } finally {
    wal.closeSync();
  }
}

function compare(wal: Wal, expected: readonly Expected[]): Outcome {
  const first = expected[0]?.index ?? 0;
  const last = expected.at(-1)?.index ?? 0;
  if (wal.firstIndex !== first || wal.lastIndex !== last) {
    const found = `${wal.firstIndex} to ${wal.lastIndex}`;
    return { kind: "wrong", why: `entries ${found}, not ${first} to ${last}` };
  }
  let unread = 0;
  for (const entry of expected) {
    try {
      const found = wal.get(entry.index);
      const same = found.index === entry.index && found.term === entry.term &&
        found.timestampNs === entry.timestampNs &&
        sameBytes(found.data, entry.data) &&
        found.transactionId === entry.transactionId;
      if (!same) return { kind: "wrong", why: `entry ${entry.index} differs` };
    } catch (error) {
      if (!isTyped(error)) return wrong(`read ${entry.index}`, error);
      unread++;
    }
  }
  return { kind: unread > 0 ? "unread" : "right" };
}

/** Whether it is an error that the log promises. */
export function isTyped(error: unknown): error is WalError {
  return error instanceof WalError;
}

/** Whether the bytes are the same. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

function wrong(what: string, error: unknown): Outcome {
  const stack = error instanceof Error ? error.stack : String(error);
  return { kind: "wrong", why: `${what}: ${stack}` };
}

const EXAMPLE_NS = 1_700_000_000_000_000_000n;

/** The entries of the example in docs/format.md §13. */
export const EXAMPLE_ENTRIES: readonly {
  readonly flags: number;
  readonly term: number;
  readonly timestampNs: bigint;
  readonly text: string;
}[] = [
  { flags: 1, term: 1, timestampNs: EXAMPLE_NS, text: "Hello" },
  { flags: 3, term: 2, timestampNs: EXAMPLE_NS + 1n, text: "Walrus" },
  { flags: 5, term: 2, timestampNs: EXAMPLE_NS - 1n, text: "" },
];

/** The segment of docs/format.md §13, made by the functions of `src/`. */
export function exampleSegment(): Bytes {
  const bytes = new Uint8Array(65536);
  const target = { bytes, view: viewOf(bytes) };
  const identity = {
    logId: "000102030405060708090a0b0c0d0e0f",
    number: 1,
    salt: 0x5a17ed01,
    segmentBytes: bytes.length,
    formatName: "binary",
    createdAtMs: 1_700_000_000_000,
  };
  bytes.set(encodeIdentity(identity));
  bytes.set(
    encodeLink({
      baseIndex: 1,
      previousNumber: 0,
      previousSalt: 0,
      previousEnd: 0,
      previousLastIndex: 0,
      generation: 0,
      mark: { number: 0, offset: 0 },
      cause: 0,
    }, identity.salt),
    128,
  );
  bytes.copyWithin(3840, 128, 256);
  const writer = new FrameWriter(identity);
  const index = new IndexBuilder();
  let offset = 4096;
  for (const [i, entry] of EXAMPLE_ENTRIES.entries()) {
    const { flags, term, text, timestampNs } = entry;
    // The batch is written after a sync of the first entry.
    if (i < 2) writer.setMark({ number: 1, offset });
    const time = {
      low: Number(BigInt.asUintN(32, timestampNs)),
      high: Number(BigInt.asUintN(32, timestampNs >> 32n)),
    };
    const payload = new TextEncoder().encode(text);
    index.add(offset, term, time);
    // deno-fmt-ignore
    offset += writer.write(target, offset, offset, flags, i + 1, term, time,
      payload, undefined);
  }
  const at = blockAt(bytes, 0);
  bytes.set(index.encodeBlock(identity.salt, at), at);
  const footer = {
    firstIndex: 1,
    lastIndex: 3,
    end: offset,
    blockCount: 1,
    sealedAtMs: 1_700_000_000_007,
  };
  bytes.set(index.encodeFooter(footer, identity.salt), bytes.length - 64);
  return bytes;
}

/** As `hexdump -C` shows it, `*` for lines of zeros. */
export function hexdump(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    if (row.every((byte) => byte === 0)) {
      if (lines.at(-1) !== "*") lines.push("*");
      continue;
    }
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0"));
    const text = row.map((byte) =>
      byte >= 32 && byte < 127 ? String.fromCharCode(byte) : "."
    );
    lines.push(
      `${at.toString(16).padStart(8, "0")}  ${hex.slice(0, 8).join(" ")}  ` +
        `${hex.slice(8).join(" ")}  |${text.join("")}|`,
    );
  }
  return lines.join("\n");
}
