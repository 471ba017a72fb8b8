import { describe, it } from "node:test";
import { viewOf } from "../src/fields.ts";
import {
  frameBytes,
  frameMark,
  FrameWriter,
  isFrameSound,
  isPlausibleFrame,
} from "../src/frame.ts";
import { assert, assertEquals, assertFalse } from "./_assert.ts";
import {
  type Bytes,
  checksum,
  getU32,
  getU64,
  sealFrame,
  setU32,
  setU64,
} from "./_log_bytes.ts";

const HOME = { number: 9, salt: 0xfeedbeef };
const LIMIT = 65536 - 64;
const AT = 8192;

/** What a frame is made of; all has a default. */
interface Parts {
  flags?: number;
  index?: number;
  term?: number;
  timestampNs?: bigint;
  payload?: Uint8Array;
  transaction?: Uint8Array;
  mark?: { number: number; offset: number };
}

/** A segment's bytes with one frame at `AT`, and nothing else but the salt. */
function segmentWith(parts: Parts = {}): { bytes: Bytes; length: number } {
  const bytes = new Uint8Array(65536);
  setU32(bytes, 40, HOME.salt);
  const writer = new FrameWriter(HOME);
  if (parts.mark !== undefined) writer.setMark(parts.mark);
  const ns = parts.timestampNs ?? -2n;
  const low = Number(BigInt.asUintN(32, ns));
  const high = Number(BigInt.asUintN(32, ns >> 32n));
  const length = writer.write(
    { bytes, view: viewOf(bytes) },
    AT,
    AT,
    parts.flags ?? 1,
    parts.index ?? 7,
    parts.term ?? 3,
    { low, high },
    parts.payload ?? new Uint8Array([1, 2, 3]),
    parts.transaction,
  );
  return { bytes, length };
}

function isValid(bytes: Bytes, limit = LIMIT): boolean {
  const source = { bytes, view: viewOf(bytes) };
  return isPlausibleFrame(source.view, AT, AT, limit, HOME.number) &&
    isFrameSound(source, AT, AT, HOME.salt);
}

describe("frame: bytes", () => {
  it("[F16] FrameWriter.write() puts every field in its place", () => {
    const transaction = new Uint8Array(16).fill(0xaa);
    const { bytes, length } = segmentWith({
      flags: 17,
      index: 2 ** 40 + 5,
      term: 2 ** 50 + 6,
      timestampNs: -3n,
      payload: new Uint8Array([9, 8, 7]),
      transaction,
      mark: { number: 7, offset: 4136 },
    });
    assertEquals(length, 64);
    assertEquals(getU32(bytes, AT + 4), 59);
    assertEquals(getU64(bytes, AT + 8), 2n ** 40n + 5n);
    assertEquals(getU32(bytes, AT + 16), 17 | (2 << 16));
    assertEquals(getU32(bytes, AT + 20), 4136);
    assertEquals(getU64(bytes, AT + 24), 2n ** 50n + 6n);
    assertEquals(BigInt.asIntN(64, getU64(bytes, AT + 32)), -3n);
    assertEquals(bytes.slice(AT + 40, AT + 56), transaction);
    assertEquals(bytes.slice(AT + 56, AT + 59), new Uint8Array([9, 8, 7]));
    assert(isValid(bytes));
  });

  it("[F16] an entry costs 40 bytes and its padding", () => {
    const sizes = [0, 1, 8, 9].map((count) => frameBytes(count, false));
    assertEquals(sizes, [40, 48, 48, 56]);
    assertEquals(frameBytes(0, true), 56);
  });

  it("[F5] the checksum covers bytes 4 to length, seeded by place", () => {
    const { bytes } = segmentWith({ payload: new Uint8Array(100).fill(5) });
    const seed = (HOME.salt ^ AT) >>> 0;
    const covered = bytes.subarray(AT + 4, AT + 140);
    assertEquals(getU32(bytes, AT), checksum(covered, seed));
    // The same bytes elsewhere, or in another segment, are no frame.
    const source = { bytes, view: viewOf(bytes) };
    bytes.copyWithin(AT + 4096, AT, AT + 144);
    assertFalse(isFrameSound(source, AT + 4096, AT + 4096, HOME.salt));
    assertFalse(isFrameSound(source, AT, AT, HOME.salt ^ 1));
    assert(isFrameSound(source, AT, AT, HOME.salt));
  });

  it("[F15] padding is zero and is never looked at", () => {
    const { bytes, length } = segmentWith();
    assertEquals(length, 48);
    assertEquals(bytes.slice(AT + 43, AT + 48), new Uint8Array(5));
    bytes.fill(0xff, AT + 43, AT + 48);
    assert(isValid(bytes));
  });

  it("[F20] a mark is counted back from the frame's own segment", () => {
    const { bytes } = segmentWith({ mark: { number: 9, offset: 4096 } });
    const mark = frameMark(viewOf(bytes), AT, HOME);
    assertEquals(mark, { number: 9, offset: 4096 });
    const without = segmentWith({ mark: { number: 0, offset: 0 } }).bytes;
    assertEquals(getU32(without, AT + 16) >>> 16, 0xffff);
    assertEquals(getU32(without, AT + 20), 0);
    const none = frameMark(viewOf(without), AT, HOME);
    assertEquals(none, { number: 0, offset: 0 });
  });
});

describe("frame: valid if and only if", () => {
  /** Forges a frame with a right checksum and tells whether it is valid. */
  function forged(change: (bytes: Bytes) => void, parts: Parts = {}): boolean {
    const { bytes } = segmentWith(parts);
    change(bytes);
    sealFrame(bytes, AT);
    return isValid(bytes);
  }
  const setFlags = (flags: number) => (bytes: Bytes) => {
    setU32(bytes, AT + 16, (flags | 0xffff0000) >>> 0);
  };
  const setMark = (back: number, offset: number) => (bytes: Bytes) => {
    setU32(bytes, AT + 16, (1 | (back << 16)) >>> 0);
    setU32(bytes, AT + 20, offset);
  };

  it("[F17] 1: the length lies between the header's and the limit", () => {
    for (const length of [0, 1, 39, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]) {
      assertFalse(
        forged((bytes) => setU32(bytes, AT + 4, length)),
        `${length}`,
      );
    }
    const fits = LIMIT - AT;
    assert(forged((bytes) => setU32(bytes, AT + 4, fits)));
    assertFalse(forged((bytes) => setU32(bytes, AT + 4, fits + 1)));
    assert(forged((bytes) => setU32(bytes, AT + 4, 40)));
    // A successor's link may end the segment before.
    const { bytes } = segmentWith();
    assert(isValid(bytes, AT + 43));
    assertFalse(isValid(bytes, AT + 42));
  });

  it("[F17] 1: a transaction takes 56 bytes, a watermark exactly 40", () => {
    const transaction = new Uint8Array(16);
    const empty = { flags: 17, transaction, payload: new Uint8Array(0) };
    assert(forged(() => {}, empty));
    assertFalse(forged((bytes) => setU32(bytes, AT + 4, 55), empty));
    const watermark = { flags: 8, payload: new Uint8Array(0) };
    assert(forged(() => {}, watermark));
    assertFalse(forged((bytes) => setU32(bytes, AT + 4, 41), watermark));
    assertFalse(forged((bytes) => setU32(bytes, AT + 4, 48), watermark));
  });

  it("[F17][F2] 2: just these flags are valid", () => {
    const good = [1, 3, 5, 17, 19, 21];
    for (let flags = 0; flags < 65536; flags++) {
      if (flags === 8) continue;
      // All but a few are refused before the checksum is looked at.
      const { bytes } = segmentCache;
      setU32(bytes, AT + 16, (flags | 0xffff0000) >>> 0);
      const view = viewOf(bytes);
      const plausible = isPlausibleFrame(view, AT, AT, LIMIT, HOME.number);
      assertEquals(plausible, good.includes(flags), `flags ${flags}`);
    }
    assert(forged(setFlags(8), { flags: 8, payload: new Uint8Array(0) }));
    assertFalse(forged(setFlags(8)));
  });
  const segmentCache = segmentWith({ payload: new Uint8Array(16) });

  it("[F17] 3: a mark lies in this log, before the frame", () => {
    assert(forged(setMark(0, AT)));
    assertFalse(forged(setMark(0, AT + 8)));
    assertFalse(forged(setMark(0, 4088)));
    assertFalse(forged(setMark(0, 4100)));
    assert(forged(setMark(1, AT + 8)));
    assert(forged(setMark(8, 4096)));
    assertFalse(forged(setMark(9, 4096)));
    assertFalse(forged(setMark(0xfffe, 4096)));
    assert(forged(setMark(0xffff, 0)));
    assertFalse(forged(setMark(0xffff, 4096)));
  });

  it("[F17][F3] 4: index and term are exact numbers", () => {
    const at = (offset: number, value: bigint) => (bytes: Bytes) => {
      setU64(bytes, AT + offset, value);
    };
    assert(forged(at(8, 2n ** 53n - 1n)));
    assertFalse(forged(at(8, 2n ** 53n)));
    assertFalse(forged(at(8, 2n ** 64n - 1n)));
    assert(forged(at(24, 2n ** 53n - 1n)));
    assertFalse(forged(at(24, 2n ** 53n)));
    const watermark = { flags: 8, payload: new Uint8Array(0) };
    assert(forged(at(8, 2n ** 53n), watermark));
  });

  it("[F17] 7: no bit of a frame can change", () => {
    const { bytes } = segmentWith({ mark: { number: 9, offset: 4096 } });
    for (let bit = 0; bit < 43 * 8; bit++) {
      bytes[AT + (bit >> 3)]! ^= 1 << (bit & 7);
      assertFalse(isValid(bytes), `bit ${bit}`);
      bytes[AT + (bit >> 3)]! ^= 1 << (bit & 7);
    }
    assert(isValid(bytes));
  });
});
