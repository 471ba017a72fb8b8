/**
 * What an opening reads: of a closed log one page of each segment, whatever
 * its entries, and no frame. After a kill the last two segments
 * are read, and no other. The reads are counted in front of the storage.
 */
import { basename, join } from "node:path";
import { describe, it } from "node:test";
import { type Durability, openWalSync, type Wal } from "../mod.ts";
import { HEADER_BYTES } from "../src/format.ts";
import type { StoragePort } from "../src/storage.ts";
import { SimulatedStorage } from "../testing/mod.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertLessOrEqual,
} from "./_assert.ts";
import { listReads, type Read } from "./_guard_reads.ts";
import { LOG } from "./_log_bytes.ts";
import { temporaryFolder } from "./_storages.ts";
import { REAL } from "./_wal.ts";

const SEGMENTS = 20;
const SMALL_BYTES = 64 * 1024;
const LARGE_BYTES = 512 * 1024;
const TIMEOUT_MS = 60_000;

/** The header page, where the frames end, and the last index block. */
const LAST_READS_MAX = 3;
const LAST_BYTES_MAX = HEADER_BYTES + 1024;
/** The manifest, and the pages that readers look at. */
const OTHER_READS_MAX = 5;
const OTHER_BYTES_MAX = 16 * 1024;
/** An index block, and a window with the frame. */
const GET_READS_MAX = 2;
const GET_BYTES_MAX = 8 * 1024;
/**
 * A link vouches for its predecessor's frames only, so those behind the mark
 * are walked, in it and in the growing segment, which is searched to its end.
 */
const KILLED_BYTES_MAX = 3 * LARGE_BYTES;

const DATA = new Uint8Array(256).map((_, i) => i);

interface Opened {
  readonly reads: readonly Read[];
  readonly get: readonly Read[];
  readonly last: string;
  readonly entryCount: number;
}

function bytesOf(reads: readonly Read[]): number {
  return reads.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Fills segments up to the wanted number of them. */
function fill(wal: Wal, segments = SEGMENTS): void {
  const batch = Array.from({ length: 16 }, () => DATA);
  while (wal.segments().length < segments) wal.appendBatchSync(batch);
}

/** Opens a log that is there, gets an entry, closes it again. */
function listOpening(port: StoragePort, path: string): Opened {
  const listed = listReads(port);
  using wal = openWalSync(path, { storage: listed.port });
  const reads = listed.reads.splice(0);
  assertEquals(wal.get(7).data, DATA);
  const get = listed.reads.splice(0);
  const last = basename(wal.segments().at(-1)!.path);
  return { reads, get, last, entryCount: wal.length };
}

/** A log of some segments, closed, and what its opening reads. */
function listClosed(
  port: StoragePort,
  path: string,
  segmentBytes: number,
): Opened {
  const sync: Durability = "never";
  const wal = openWalSync(path, { storage: port, segmentBytes, sync });
  fill(wal);
  wal.closeSync();
  const opened = listOpening(port, path);
  assertEquals(wal.length, opened.entryCount);
  return opened;
}

/** Sealed segments: the header page, once. */
function checkSealed({ reads, last }: Opened): void {
  const names = new Set<string>();
  for (const read of reads) {
    if (!read.name.endsWith(".wal") || read.name === last) continue;
    const { name, offset, bytes, mapped } = read;
    assert(!names.has(name), `${name} was read twice`);
    names.add(name);
    assertEquals({ offset, mapped }, { offset: 0, mapped: false }, name);
    assertLessOrEqual(bytes, HEADER_BYTES, name);
  }
  assertEquals(names.size, SEGMENTS - 1, "not every header was read");
}

/** The growing segment, and what is no segment. */
function checkOthers({ reads, last }: Opened): void {
  const plain = reads.filter(({ mapped }) => !mapped);
  const growing = plain.filter(({ name }) => name === last);
  assertLessOrEqual(growing.length, LAST_READS_MAX);
  assertLessOrEqual(bytesOf(growing), LAST_BYTES_MAX);
  const others = plain.filter(({ name }) => !name.endsWith(".wal"));
  assertLessOrEqual(others.length, OTHER_READS_MAX);
  assertLessOrEqual(bytesOf(others), OTHER_BYTES_MAX);
}

for (const { kind, make } of REAL) {
  describe(`guard of openings [${kind}]`, { timeout: TIMEOUT_MS }, () => {
    it("a closed log: a page of each segment, and no frame", () => {
      using folder = temporaryFolder();
      const path = join(folder.path, "log");
      const opened = listClosed(make(), path, SMALL_BYTES);
      const plain = opened.reads.filter(({ mapped }) => !mapped);
      console.log(
        `${kind}, opening ${SEGMENTS} segments: ${plain.length} reads, ` +
          `${bytesOf(plain)} bytes (≤ ${HEADER_BYTES} a sealed segment, ` +
          `${LAST_BYTES_MAX} of the last, ${OTHER_BYTES_MAX} of the rest)`,
      );
      checkSealed(opened);
      checkOthers(opened);
    });

    it("eight times the entries: not a byte more", () => {
      using folder = temporaryFolder();
      const [small, large] = [SMALL_BYTES, LARGE_BYTES].map((bytes) =>
        listClosed(make(), join(folder.path, String(bytes)), bytes)
      ) as [Opened, Opened];
      assertGreater(large.entryCount, 7 * small.entryCount);
      const plain = ({ reads }: Opened) =>
        reads.filter(({ mapped }) => !mapped);
      console.log(
        `${kind}, opening ${small.entryCount} and ${large.entryCount} ` +
          `entries: ${bytesOf(plain(small))} and ${
            bytesOf(plain(large))
          } bytes`,
      );
      assertEquals(plain(large).length, plain(small).length);
      assertLessOrEqual(bytesOf(plain(large)), bytesOf(plain(small)) + 1024);
      checkSealed(large);
      checkOthers(large);
    });

    it("the first get: an index block and a window", () => {
      using folder = temporaryFolder();
      const path = join(folder.path, "log");
      const { get } = listClosed(make(), path, LARGE_BYTES);
      const bytes = bytesOf(get.filter(({ mapped }) => !mapped));
      console.log(
        `${kind}, first get: ${get.length} reads, ${bytes} bytes ` +
          `(≤ ${GET_READS_MAX}, ${GET_BYTES_MAX})`,
      );
      assertLessOrEqual(get.length, GET_READS_MAX);
      assertLessOrEqual(bytes, GET_BYTES_MAX);
    });
  });
}

describe("guard of openings [simulated, files]", () => {
  it("after a kill: the last two segments, a page of each other one", () => {
    const disk = new SimulatedStorage({
      ...{ seed: 1, mapped: false, autoSettle: true, writeback: 0 },
    });
    const wal = openWalSync(LOG, { storage: disk, segmentBytes: LARGE_BYTES });
    fill(wal, 6);
    for (let nth = 0; nth < 500; nth++) wal.appendSync(DATA);
    const names = wal.segments().map(({ path }) => basename(path));
    const { reads } = listOpening(disk.processDeath(), LOG);
    const two = reads.filter(({ name }) => names.slice(-2).includes(name));
    console.log(
      `files, opening after a kill: ${bytesOf(two)} bytes of two segments ` +
        `(≤ ${KILLED_BYTES_MAX})`,
    );
    assertLessOrEqual(bytesOf(two), KILLED_BYTES_MAX);
    for (const name of names.slice(0, -2)) {
      const found = reads.filter((read) => read.name === name);
      assertLessOrEqual(bytesOf(found), HEADER_BYTES, name);
    }
  });
});
