/**
 * Makes tests/fixtures/v1/: whole log folders as this version writes them,
 * and what a reader must find in each.
 *
 * Run it once for each version of the format, never to make a failing test
 * pass: later releases must read these bytes as they are.
 *
 *     node tools/make_fixtures.mjs tests/fixtures/v1
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { gzipSync } from "node:zlib";
import { openWalSync } from "../mod.ts";
import { quietDisk, takeFiles } from "../tests/_log_bytes.ts";

const target = process.argv[2];
if (target === undefined) {
  throw new Error("Cannot make fixtures: no folder given, expected one");
}

const NS = 1_700_000_000_000_000_000n;

/** Entries of every kind: empty, text, all bytes, times and terms that fall. */
function input(number) {
  const data = [
    "",
    `entry ${number}`,
    "Grüße, 世界 🦭",
    Uint8Array.from({ length: 256 }, (_, byte) => (byte + number) & 0xff),
    "x".repeat(700),
  ][number % 5];
  return {
    data,
    term: (number * 7) % 11,
    timestampNs: number === 13
      ? -1n
      : NS + BigInt(number % 17) * 1_000_000_007n,
  };
}

function append(wal, count) {
  for (let i = 0; i < count; i++) wal.appendSync(input(wal.nextIndex));
}

function batch(wal, count) {
  const first = wal.nextIndex;
  wal.appendBatchSync(
    Array.from({ length: count }, (_, i) => input(first + i)),
  );
}

/** More than one block of the index, batches, rotations and a truncation. */
function fill(wal) {
  append(wal, 70);
  batch(wal, 3);
  wal.rotateSync();
  append(wal, 5);
  batch(wal, 6);
  wal.truncateAfterSync(81);
  append(wal, 4);
  wal.rotateSync();
  batch(wal, 2);
  append(wal, 1);
}

const custom = {
  name: "reversed",
  encode: ({ data }) => data.slice().reverse(),
  decode: (bytes) => ({ data: bytes.slice().reverse() }),
};

const LOGS = {
  binary: { options: {}, work: fill },
  json: { options: { format: "json" }, work: fill },
  custom: { options: { format: custom }, work: fill },
  empty: { options: {}, work: () => {} },
  emptied: {
    options: {},
    work: (wal) => {
      append(wal, 9);
      wal.truncateAfterSync(0);
      append(wal, 2);
    },
  },
  // Killed in the middle of things: two batches were never synced, and a
  // power cut has torn the second one.
  torn: {
    options: {},
    killed: true,
    work: (wal) => {
      fill(wal);
      const inputs = (first, count) =>
        Array.from({ length: count }, (_, i) => input(first + i));
      wal.appendBatch(inputs(wal.nextIndex, 2), { durable: false });
      const kept = wal.nextIndex - 1;
      wal.appendBatch(inputs(wal.nextIndex, 3), { durable: false });
      return kept;
    },
  },
};

/** Zeros where the last frame of the file begins, as if never written. */
function tear(segment) {
  let last = segment.length - 1;
  const block = segment.length - 64 - 280;
  while (segment[last] === 0 || last >= block) last--;
  segment.fill(0, last - 30, last + 1);
}

rmSync(target, { recursive: true, force: true });
for (const [seed, [name, log]] of Object.entries(LOGS).entries()) {
  const disk = quietDisk(100 + seed);
  const storage = disk;
  const wal = openWalSync("log", {
    storage,
    segmentBytes: 65536,
    ...log.options,
  });
  const kept = log.work(wal);
  const entries = [...wal].filter(({ index }) => index <= (kept ?? index)).map(
    (entry) => ({
      index: entry.index,
      term: entry.term,
      timestampNs: String(entry.timestampNs),
      base64: btoa(String.fromCharCode(...entry.data)),
    }),
  );
  let found = disk;
  if (log.killed) found = disk.processDeath(1);
  else wal.closeSync();
  const files = takeFiles(found);
  if (log.killed) tear([...files.values()].at(-1));
  const folder = join(target, name);
  mkdirSync(folder, { recursive: true });
  for (const [file, bytes] of files) {
    if (file.endsWith(".tmp")) continue;
    writeFileSync(join(folder, `${file}.gz`), gzipSync(bytes, { level: 9 }));
  }
  const expected = {
    outcome: log.killed ? "torn" : "clean",
    segments: [...files.keys()].filter((file) => file.endsWith(".wal")).length,
    nextIndex: (entries.at(-1)?.index ?? 0) + 1,
    entries,
  };
  const { entries: _, ...head } = expected;
  const lines = entries.map((entry) => JSON.stringify(entry)).join(",\n");
  const json = `${JSON.stringify(head).slice(0, -1)},"entries":[\n${lines}]}`;
  writeFileSync(join(folder, "expected.json"), json + "\n");
}
