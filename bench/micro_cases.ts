/**
 * What micro_bench.ts runs. Each run of a case does `operations` of them, so
 * that the harness's own cost vanishes; what a case has to make before a run
 * is not timed.
 *
 * @module
 */

import {
  closeSync,
  fdatasyncSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { memoryStorage, openWalSync, type Wal } from "../mod.ts";
import type { StoragePort } from "../src/storage.ts";

/** One thing to measure. */
export interface MicroCase {
  /** What is done, and under which `sync`. */
  readonly name: string;
  /** Cases that stand beside each other. */
  readonly group: string;
  /** How many operations one run does. */
  readonly operations: number;
  /** Whether a run is a promise to wait for. */
  readonly awaited?: boolean;
  /** Untimed, before a run. */
  prepare?(): void;
  /** What is timed. */
  run(): void | Promise<void>;
}

const ENTRY_BYTES = 256;
const FRAME_BYTES = 296;
const MANY = 1000;
const FEW = 10;
const CALLERS = 64;
const SEGMENT_BYTES = 64 * 1024 * 1024;

/** Entries that fit into one segment, with room for its index. */
const WARM_ENTRIES = 200_000;

/** A burst goes on for this long before its log is emptied. */
const BURST_ENTRIES = 2_000_000;

const data = new Uint8Array(ENTRY_BYTES).map((_, i) => i);
let sum = 0;

/** All cases, and what removes their files. */
export function makeCases(
  parent: string = tmpdir(),
): { cases: MicroCase[]; remove: () => void } {
  const folder = mkdtempSync(join(parent, "walrus-micro-"));
  const logs: Wal[] = [];
  const open = (name: string, sync: "always" | "never"): Wal => {
    const wal = openWalSync(join(folder, name), { sync });
    logs.push(wal);
    return wal;
  };
  const fd = openSync(join(folder, "floor"), "w");
  const cases = [
    floorOfMemory(),
    warmAppend("appendSync, never, warm", data),
    warmAppend("appendSync, never, warm, caller's timestamp", {
      data,
      timestampNs: 1_700_000_000_000_000_000n,
    }),
    burst(open("burst", "never")),
    ...reads(open("reads", "never")),
    floorOfDisk(fd),
    ...durable(open("durable", "always")),
  ];
  const remove = (): void => {
    for (const wal of logs) wal.closeSync();
    closeSync(fd);
    rmSync(folder, { recursive: true, force: true });
    if (sum < 0) throw new Error("The reads were not done");
  };
  return { cases, remove };
}

/** A checksum and a copy: what no log of entries can go below. */
function floorOfMemory(): MicroCase {
  const target = new Uint8Array(SEGMENT_BYTES).fill(1);
  let offset = 0;
  return {
    name: "floor: checksum and copy",
    group: "append",
    operations: MANY,
    run() {
      if (offset + MANY * FRAME_BYTES > SEGMENT_BYTES) offset = 0;
      for (let i = 0; i < MANY; i++) {
        sum += crc32(data, i) & 1;
        target.set(data, offset);
        offset += FRAME_BYTES;
      }
    },
  };
}

/** Appends into pages that are there already: the library's own share. */
function warmAppend(
  name: string,
  entry: Parameters<Wal["appendSync"]>[0],
): MicroCase {
  let wal: Wal | undefined;
  let left = 0;
  return {
    name,
    group: "append",
    operations: MANY,
    prepare() {
      // Some harnesses prepare several runs ahead.
      if (left >= 16 * MANY) return;
      wal?.closeSync();
      const options = { sync: "never", segmentBytes: SEGMENT_BYTES } as const;
      wal = openWalSync("/log", { ...options, storage: warmStorage() });
      left = WARM_ENTRIES;
    },
    run() {
      for (let i = 0; i < MANY; i++) wal!.appendSync(entry);
      left -= MANY;
    },
  };
}

/** Appends into fresh segments: page faults and rotations are in it. */
function burst(wal: Wal): MicroCase {
  return {
    name: "appendSync, never, new pages",
    group: "append",
    operations: MANY,
    prepare() {
      if (wal.length > BURST_ENTRIES) wal.resetSync(1);
    },
    run() {
      for (let i = 0; i < MANY; i++) wal.appendSync(data);
    },
  };
}

/** Reads of a warm log of one segment of 64 MiB. */
function reads(wal: Wal): MicroCase[] {
  const batch = Array.from({ length: MANY }, () => data);
  const fill = (): void => {
    while (wal.length < WARM_ENTRIES) wal.appendBatchSync(batch);
  };
  let state = 12345;
  const random = (): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return 1 + state % (WARM_ENTRIES - MANY);
  };
  const read = (name: string, run: () => void): MicroCase => ({
    name,
    group: "read",
    operations: MANY,
    prepare: fill,
    run,
  });
  return [
    read("get, random", () => {
      for (let i = 0; i < MANY; i++) sum += wal.get(random()).data[0]!;
    }),
    read("view, random", () => {
      for (let i = 0; i < MANY; i++) sum += wal.view(random()).data[0]!;
    }),
    read("entries", () => {
      const options = { from: random(), limit: MANY };
      for (const entry of wal.entries(options)) sum += entry.data[0]!;
    }),
    read("entries, zeroCopy", () => {
      const options = { from: random(), limit: MANY, zeroCopy: true };
      for (const entry of wal.entries(options)) sum += entry.data[0]!;
    }),
  ];
}

/** writeSync and fdatasyncSync into a file whose space is there. */
function floorOfDisk(fd: number): MicroCase {
  const page = new Uint8Array(4096);
  const pages = 4096;
  const frame = new Uint8Array(FRAME_BYTES);
  let offset = 0;
  let made = false;
  return {
    name: "floor: writeSync and fdatasyncSync",
    group: "durable",
    operations: FEW,
    prepare() {
      if (made) return;
      for (let i = 0; i < pages; i++) writeSync(fd, page);
      fdatasyncSync(fd);
      made = true;
    },
    run() {
      for (let i = 0; i < FEW; i++) {
        writeSync(fd, frame, 0, FRAME_BYTES, offset);
        fdatasyncSync(fd);
        offset = (offset + FRAME_BYTES) % (4096 * (pages - 1));
      }
    },
  };
}

function durable(wal: Wal): MicroCase[] {
  const group = "durable";
  return [
    {
      name: "appendSync, always",
      group,
      operations: FEW,
      run() {
        for (let i = 0; i < FEW; i++) wal.appendSync(data);
      },
    },
    {
      name: "append, alone",
      group,
      awaited: true,
      operations: FEW,
      async run() {
        for (let i = 0; i < FEW; i++) await wal.append(data);
      },
    },
    {
      name: "append, 64 callers",
      group,
      awaited: true,
      operations: CALLERS,
      async run() {
        const calls: Promise<number>[] = [];
        for (let i = 0; i < CALLERS; i++) calls.push(wal.append(data));
        await Promise.all(calls);
      },
    },
  ];
}

/** Memory storage whose files have all their pages before they are used. */
export function warmStorage(): StoragePort {
  const storage = memoryStorage() as StoragePort;
  const openDirectory = storage.openDirectory.bind(storage);
  storage.openDirectory = (path, options) => {
    const directory = openDirectory(path, options);
    if (directory === undefined) return undefined;
    const create = directory.create.bind(directory);
    directory.create = (name, bytes) => {
      const file = create(name, bytes);
      const zeros = new Uint8Array(4096);
      for (let at = 0; at < bytes; at += 4096) {
        file.writeAt(zeros.subarray(0, Math.min(4096, bytes - at)), at);
      }
      return file;
    };
    return directory;
  };
  return storage;
}
