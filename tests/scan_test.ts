import { describe, it } from "node:test";
import { viewOf } from "../src/fields.ts";
import { FrameWriter } from "../src/frame.ts";
import { FrameScanner, searchFrames } from "../src/scan.ts";
import type { StorageFile } from "../src/storage.ts";
import { assert, assertEquals, assertFalse } from "./_assert.ts";
import { type Bytes, sealFrame, setU32, setU64 } from "./_log_bytes.ts";

const HOME = { number: 4, salt: 0x13579bdf };
const BYTES = 1024 * 1024;

/** A file of which only reading is asked; counts the bytes that were read. */
class ReadOnlyFile {
  readonly name = "segment";
  readonly bytes: number;
  bytesRead = 0;
  readonly #content: Bytes;

  constructor(content: Bytes) {
    this.#content = content;
    this.bytes = content.length;
  }

  readAt(target: Bytes, offset: number): number {
    assert(Number.isSafeInteger(offset) && offset >= 0, `offset ${offset}`);
    const count = Math.max(0, Math.min(target.length, this.bytes - offset));
    target.set(this.#content.subarray(offset, offset + count));
    this.bytesRead += count;
    return count;
  }
}

/** A segment's frames, one after the other. */
class Frames {
  readonly content: Bytes;
  readonly offsets: number[] = [];
  end = 4096;
  readonly #writer = new FrameWriter(HOME);

  constructor(bytes: number = BYTES) {
    this.content = new Uint8Array(bytes);
    setU32(this.content, 40, HOME.salt);
  }

  mark(number: number, offset: number): this {
    this.#writer.setMark({ number, offset });
    return this;
  }

  add(index: number, flags = 1, payloadBytes = 8): this {
    const { content } = this;
    const target = { bytes: content, view: viewOf(content) };
    const payload = new Uint8Array(payloadBytes).fill(index);
    const time = { low: index, high: 0 };
    this.offsets.push(this.end);
    // deno-fmt-ignore
    this.end += this.#writer.write(target, this.end, this.end, flags, index, 2,
      time, payload, undefined);
    return this;
  }

  file(): StorageFile & { bytesRead: number } {
    return new ReadOnlyFile(this.content) as unknown as
      & StorageFile
      & { bytesRead: number };
  }

  scan(nextIndex = 1, limit = this.content.length - 64): FrameScanner {
    const start = { offset: 4096, nextIndex };
    return new FrameScanner(this.file(), HOME, start, limit);
  }

  search(from = 4096): ReturnType<typeof searchFrames> {
    const to = this.content.length - 64;
    const range = { from, to, indexMin: 1, indexMax: 1000 };
    return searchFrames(this.file(), HOME, range);
  }
}

/** How many frames a scan accepts, and where it ends. */
function walk(scanner: FrameScanner): number[] {
  let count = 0;
  while (scanner.next()) count++;
  const { offset, nextIndex, completeEnd, completeNextIndex } = scanner;
  return [count, offset, nextIndex, completeEnd, completeNextIndex];
}

describe("scan: FrameScanner", () => {
  it("[F15] frames follow each other without gaps", () => {
    const frames = new Frames().add(1, 1, 3).add(2, 1, 0).add(3, 1, 9);
    assertEquals(frames.offsets, [4096, 4144, 4184]);
    const { end } = frames;
    assertEquals(walk(frames.scan()), [3, end, 4, end, 4]);
    // Eight bytes further the same frame is none.
    const moved = new Frames().add(1);
    moved.end += 8;
    moved.add(2);
    assertEquals(walk(moved.scan()), [1, 4144, 2, 4144, 2]);
  });

  it("[F17] 5: the index is the expected one", () => {
    const frames = new Frames().add(1).add(3);
    assertEquals(walk(frames.scan()), [1, 4144, 2, 4144, 2]);
    assertEquals(walk(new Frames().add(5).scan(4))[0], 0);
    assertEquals(walk(new Frames().add(5).scan(5))[0], 1);
    // A watermark bears the next index and does not use it up.
    const watermark = new Frames().add(1).add(2, 8, 0).add(2).add(3, 8, 0);
    assertEquals(walk(watermark.scan())[0], 4);
    assertEquals(walk(new Frames().add(1).add(1, 8, 0).scan())[0], 1);
  });

  it("[F17] 6: a batch is its own frames, from first to last", () => {
    const flags = (...list: number[]) => {
      const frames = new Frames();
      let index = 1;
      for (const one of list) {
        frames.add(index, one, one === 8 ? 0 : 8);
        if (one !== 8) index++;
      }
      return walk(frames.scan())[0];
    };
    assertEquals(flags(3, 3, 5, 1), 4);
    assertEquals(flags(5), 0);
    assertEquals(flags(1, 5), 1);
    assertEquals(flags(3, 1), 1);
    assertEquals(flags(3, 8), 1);
    assertEquals(flags(3, 5, 5), 2);
  });

  it("[F18] an unfinished batch does not count", () => {
    const frames = new Frames().add(1).add(2, 3).add(3, 3);
    const { end } = frames;
    assertEquals(walk(frames.scan()), [3, end, 4, 4144, 2]);
    frames.add(4, 5);
    assertEquals(walk(frames.scan()), [4, frames.end, 5, frames.end, 5]);
  });

  it("[F17] 1: a frame ends at or before the limit", () => {
    const frames = new Frames().add(1).add(2);
    assertEquals(walk(frames.scan(1, frames.end))[0], 2);
    assertEquals(walk(frames.scan(1, frames.end - 1))[0], 1);
    assertEquals(walk(frames.scan(1, 4096 + 39))[0], 0);
  });

  it("[F17] hostile lengths allocate and read nothing beyond the file", () => {
    for (const length of [0, 39, 2 ** 31 - 1, 2 ** 31 + 1, 2 ** 32 - 1]) {
      const frames = new Frames(65536).add(1);
      setU32(frames.content, 4100, length);
      assertEquals(walk(frames.scan())[0], 0, `${length}`);
      const found = frames.search();
      assertEquals([found.frameCount, found.decided], [0, true], `${length}`);
    }
  });

  it("a frame larger than the buffer is checked piece by piece", () => {
    const frames = new Frames().add(1, 1, 700_000).add(2);
    assertEquals(walk(frames.scan())[0], 2);
    frames.content[650_000]! ^= 4;
    assertEquals(walk(frames.scan())[0], 0);
  });
});

describe("scan: searchFrames()", () => {
  it("[F36] finds frames at any multiple of 8, and their highest mark", () => {
    const frames = new Frames();
    frames.end = 10_000;
    frames.mark(4, 4096).add(7).mark(3, 5000).add(8);
    const found = frames.search();
    assertEquals([found.frameCount, found.firstIndex], [2, 7]);
    assertEquals(found.mark, { number: 4, offset: 4096 });
    assertEquals(found.dirtyEnd, frames.end);
    const shifted = new Frames();
    shifted.end = 10_004;
    assertEquals(shifted.add(7).search().frameCount, 0);
  });

  it("[F36] frames with an impossible index are none", () => {
    const frames = new Frames().add(1001);
    const found = frames.search();
    assertEquals([found.frameCount, found.dirty], [0, true]);
  });

  it("[F36] says when all is zero, and where the last other byte is", () => {
    const frames = new Frames();
    const none = frames.search();
    assertEquals([none.dirty, none.dirtyEnd, none.decided], [
      false,
      4096,
      true,
    ]);
    frames.content[50_003] = 1;
    assertEquals(frames.search().dirtyEnd, 50_004);
    assertFalse(frames.search(50_008).dirty);
  });

  it("[F36] checksums at most four times the file", () => {
    const frames = new Frames(256 * 1024);
    const { content } = frames;
    // Headers that look right, each as long as the file allows.
    for (let at = 4096; at + 128 < content.length; at += 40) {
      setU32(content, at + 4, content.length - 64 - at);
      setU64(content, at + 8, 5);
      setU32(content, at + 16, 0xffff0001);
    }
    const file = frames.file();
    const range = { from: 4096, to: content.length - 64 };
    const indexes = { indexMin: 1, indexMax: 1000 };
    const found = searchFrames(file, HOME, { ...range, ...indexes });
    assertFalse(found.decided);
    // Reads may overlap, but not without end.
    assert(file.bytesRead <= 12 * content.length, `${file.bytesRead}`);
  });

  it("[F17] 7: a frame sealed by hand is as good as ours", () => {
    const frames = new Frames().add(1);
    setU64(frames.content, 4104, 9);
    assertEquals(frames.search().frameCount, 0);
    sealFrame(frames.content, 4096);
    assertEquals(frames.search().firstIndex, 9);
  });
});
