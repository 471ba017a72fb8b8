/**
 * src/frame_run.ts: a run of frames is checked as one, and no damage gets
 * through that the check of each frame would find.
 */
import { describe, it } from "node:test";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import {
  ChecksumMismatchError,
  type Entry,
  openWalSync,
  type Wal,
} from "../mod.ts";
import { FLAG, HEADER_BYTES } from "../src/format.ts";
import {
  frameBytes,
  frameFlags,
  frameIndex,
  FrameWriter,
  isFrameSound,
  isPlausibleFrame,
  type Window,
} from "../src/frame.ts";
import { FrameRun, type RunSource } from "../src/frame_run.ts";
import type { StoragePort } from "../src/storage.ts";
import { Random } from "../testing/mod.ts";
import { assert, assertEquals, assertThrows } from "./_assert.ts";
import { STORAGES, temporaryFolder } from "./_storages.ts";

const HOME = { number: 3, salt: 0x9e3779b9 };
const ID = new Uint8Array(16).fill(7);

/** Frames as a segment holds them. */
interface Made {
  readonly window: Window;
  readonly source: RunSource;
  /** Where each begins, in memory and in the file. */
  readonly starts: readonly number[];
  readonly lengths: readonly number[];
  readonly end: number;
}

/** `count` frames from entry 1 on, of sizes that `random` chooses. */
function makeFrames(random: Random, count: number, most: number): Made {
  const bytes = new Uint8Array(HEADER_BYTES + count * (most + 72));
  const window = { bytes, view: new DataView(bytes.buffer) };
  const writer = new FrameWriter(HOME);
  writer.setMark({ number: 3, offset: HEADER_BYTES });
  const starts: number[] = [];
  const lengths: number[] = [];
  let end = HEADER_BYTES;
  for (let i = 1; i <= count; i++) {
    const data = random.bytes(random.int(most));
    const inTransaction = random.int(4) === 0;
    const flags = FLAG.entry | (inTransaction ? FLAG.transaction : 0);
    const time = { low: random.int(2 ** 30), high: 5 };
    const id = inTransaction ? ID : undefined;
    starts.push(end);
    lengths.push(40 + data.length + (inTransaction ? 16 : 0));
    end += writer.write(window, end, end, flags, i, i % 3, time, data, id);
    assertEquals(end - starts[i - 1]!, frameBytes(data.length, inTransaction));
  }
  const limit = end;
  const source: RunSource = {
    identity: HOME,
    lastIndex: count,
    isFrameOf: (view, at, offset, index) =>
      isPlausibleFrame(view, at, offset, limit, HOME.number) &&
      frameIndex(view, at) === index &&
      (frameFlags(view, at) & FLAG.entry) !== 0,
  };
  return { window, source, starts, lengths, end };
}

/** The frames that a run from entry 1 on gives; undefined if it is refused. */
function runOf({ window, source, end }: Made): number[] | undefined {
  const run = new FrameRun(source.lastIndex);
  const at = HEADER_BYTES;
  if (!run.take(source, 1, window, at, end, at)) return undefined;
  const found: number[] = [];
  for (let index = 1; run.find(source, index) >= 0; index++) {
    found.push(run.find(source, index));
  }
  return found;
}

describe("FrameRun", () => {
  it("takes sound frames of every length", () => {
    const random = new Random(1);
    for (let round = 0; round < 200; round++) {
      const made = makeFrames(random, 3 + random.int(30), 1 + random.int(90));
      assertEquals(runOf(made), made.starts, `round ${round}`);
    }
  });

  it("gives no frame that is damaged, whichever bit of it changes", () => {
    const made = makeFrames(new Random(2), 5, 40);
    const { window, starts, lengths } = made;
    for (const [i, start] of starts.entries()) {
      for (let bit = 0; bit < 8 * lengths[i]!; bit++) {
        const place = start + (bit >>> 3);
        window.bytes[place]! ^= 1 << (bit & 7);
        const found = runOf(made);
        // A header that cannot be one ends the run; what is before it counts.
        const before = found?.every((at, k) => k < i && at === starts[k]);
        assert(before !== false, `frame ${i}, bit ${bit}: ${found}`);
        window.bytes[place]! ^= 1 << (bit & 7);
      }
    }
  });

  it("gives no frame that is damaged, whatever is written over it", () => {
    const random = new Random(3);
    for (let round = 0; round < 3000; round++) {
      const made = makeFrames(random, 3 + random.int(9), 60);
      const { window, end } = made;
      for (let k = 1 + random.int(3); k > 0; k--) {
        const at = HEADER_BYTES + random.int(end - HEADER_BYTES);
        const bytes = random.bytes(1 + random.int(20));
        window.bytes.set(bytes.subarray(0, end - at), at);
      }
      for (const at of runOf(made) ?? []) {
        assert(isFrameSound(window, at, at, HOME.salt), `round ${round}`);
      }
    }
  });

  it("gives no frame that lies where another one should", () => {
    const made = makeFrames(new Random(4), 6, 1);
    const { window, starts, source } = made;
    const moved = window.bytes.slice();
    moved.copyWithin(0, HEADER_BYTES);
    const run = new FrameRun(source.lastIndex);
    const memory = { bytes: moved, view: new DataView(moved.buffer) };
    const limit = made.end - HEADER_BYTES;
    // The same bytes are frames at their own offset only.
    assertEquals(run.take(source, 1, memory, 0, limit, HEADER_BYTES), true);
    assertEquals(run.find(source, 1), 0);
    assertEquals(run.take(source, 1, memory, 0, limit, starts[1]!), false);
    assertEquals(run.find(source, 1), -1);
  });

  it("ends before what is no frame of its entries", () => {
    const made = makeFrames(new Random(5), 8, 30);
    const cut = { ...made, end: made.starts[5]! + 8 };
    assertEquals(runOf(cut), made.starts.slice(0, 5));
    const source = { ...made.source, lastIndex: 4 };
    assertEquals(runOf({ ...made, source }), made.starts.slice(0, 4));
  });
});

const COUNT = 400;
const BAD = 300;
const text = (index: number) => `entry ${index} `.repeat(12);

/** A log of `COUNT` entries. */
function makeLog(path: string, storage: StoragePort): Wal {
  const wal = openWalSync(path, { storage, sync: "never" });
  const entries = Array.from({ length: COUNT }, (_, i) => text(i + 1));
  wal.appendBatchSync(entries);
  return wal;
}

/** Changes a byte of entry `BAD` in the file. */
function damage(wal: Wal): void {
  const file = wal.segments()[0]!.path;
  const offset = readFileSync(file).indexOf(text(BAD));
  const fd = openSync(file, "r+");
  writeSync(fd, new Uint8Array([88]), 0, 1, offset + 3);
  closeSync(fd);
}

function readAll(
  entries: Iterable<Entry>,
): { texts: string[]; error: unknown } {
  const texts: string[] = [];
  try {
    for (const entry of entries) texts.push(entry.text());
    return { texts, error: undefined };
  } catch (error) {
    return { texts, error };
  }
}

describe("scans of a log", () => {
  for (const { kind, real, make } of STORAGES) {
    if (!real) continue;
    for (const zeroCopy of [false, true]) {
      const how = zeroCopy ? "views" : "copies";
      it(`deliver all before a damaged entry: ${kind}, ${how}`, () => {
        using folder = temporaryFolder();
        using wal = makeLog(folder.path, make());
        damage(wal);
        const { texts, error } = readAll(wal.entries({ zeroCopy }));
        const sound = Array.from({ length: BAD - 1 }, (_, i) => text(i + 1));
        assertEquals(texts, sound);
        assert(error instanceof ChecksumMismatchError);
        assertEquals(error.index, BAD);
        const behind = readAll(wal.entries({ zeroCopy, from: BAD + 1 }));
        assertEquals(behind.texts.length, COUNT - BAD);
        assertThrows(() => wal.getRange(1, COUNT), ChecksumMismatchError);
      });
    }

    it(`show no store of the program into a view: ${kind}`, () => {
      using folder = temporaryFolder();
      using wal = makeLog(folder.path, make());
      const held = wal.view(20);
      for (const entry of wal.entries({ zeroCopy: true })) {
        // What comes next, and later, changed behind any check so far.
        const { index } = entry;
        for (const ahead of [index + 1, index + 7]) {
          if (ahead <= COUNT) wal.view(ahead).data.fill(0);
        }
        held.data.fill(1);
        assertEquals(entry.text(), text(index));
        entry.data.fill(2);
      }
      const { texts } = readAll(wal.entries({ zeroCopy: true }));
      assertEquals(texts, texts.map((_, i) => text(i + 1)));
      assertEquals(texts.length, COUNT);
    });
  }
});
