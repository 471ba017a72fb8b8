import { describe, it } from "node:test";
import { blockOffset, indexBytes } from "../src/format.ts";
import {
  decodeFooter,
  IndexBuilder,
  isBlockValid,
} from "../src/segment_index.ts";
import { assert, assertEquals, assertFalse } from "./_assert.ts";
import { type Bytes, checksum, getU32, getU64, setU32 } from "./_log_bytes.ts";

const SALT = 0x89abcdef;
const AT = 65536 - 64 - 280;

/** A wide number for `ns`. */
function wide(ns: bigint): { low: number; high: number } {
  const low = Number(BigInt.asUintN(32, ns));
  return { low, high: Number(BigInt.asIntN(32, ns >> 32n)) };
}

/** A builder with `count` entries: offset 4096 + 48 i, term and time by i. */
function builderOf(
  count: number,
  time: (i: number) => bigint = BigInt,
  term: (i: number) => number = (i) => i,
): IndexBuilder {
  const builder = new IndexBuilder();
  for (let i = 0; i < count; i++) {
    builder.add(4096 + 48 * i, term(i), wide(time(i)));
  }
  return builder;
}

describe("segment index: blocks", () => {
  it("[F23] blocks run from the footer downwards", () => {
    assertEquals(blockOffset(65536, 0), 65536 - 64 - 280);
    assertEquals(blockOffset(65536, 3), 65536 - 64 - 4 * 280);
    const sizes = [0, 1, 64, 65].map((count) => indexBytes(count));
    assertEquals(sizes, [64, 64 + 280, 64 + 280, 64 + 560]);
  });

  it("[F23] IndexBuilder.encodeBlock() writes every field", () => {
    const builder = builderOf(66, (i) => -BigInt(i) - 1n, (i) => 2 ** 40 - i);
    assertEquals([builder.blockOrdinal, builder.pendingCount], [1, 2]);
    const block = builder.encodeBlock(SALT, AT);
    assertEquals(block.length, 280);
    assertEquals(getU32(block, 4), 2);
    const offsets = [0, 1, 2, 63].map((i) => getU32(block, 24 + 4 * i));
    assertEquals(offsets, [4096 + 48 * 64, 4096 + 48 * 65, 0, 0]);
    assert(isBlockValid(block, SALT, AT, 2));
  });

  it("[F25] maxima run over all blocks before, times with their sign", () => {
    const builder = builderOf(66, (i) => -BigInt(i) - 1n, (i) => 2 ** 40 - i);
    const block = builder.encodeBlock(SALT, AT);
    assertEquals(BigInt.asIntN(64, getU64(block, 8)), -1n);
    assertEquals(getU64(block, 16), 2n ** 40n);
    const times = [5n, -(2n ** 63n), 2n ** 63n - 1n, 2n ** 32n, 0n];
    const mixed = builderOf(5, (i) => times[i]!);
    const max = BigInt.asIntN(64, getU64(mixed.encodeBlock(SALT, AT), 8));
    assertEquals(max, 2n ** 63n - 1n);
    const least = builderOf(1, () => -(2n ** 63n)).encodeBlock(SALT, AT);
    assertEquals(BigInt.asIntN(64, getU64(least, 8)), -(2n ** 63n));
  });

  it("[F25] a block holds at least as many entries as are needed", () => {
    const block = builderOf(10).encodeBlock(SALT, AT);
    assert(isBlockValid(block, SALT, AT, 1));
    assert(isBlockValid(block, SALT, AT, 10));
    assertFalse(isBlockValid(block, SALT, AT, 11));
    setU32(block, 4, 65);
    setU32(block, 0, checksum(block.subarray(4), (SALT ^ AT) >>> 0));
    assertFalse(isBlockValid(block, SALT, AT, 1));
  });

  it("[F5][F25] a block validates in its place only, and as a whole", () => {
    const block = builderOf(64).encodeBlock(SALT, AT);
    const seed = (SALT ^ AT) >>> 0;
    assertEquals(getU32(block, 0), checksum(block.subarray(4), seed));
    assertFalse(isBlockValid(block, SALT, AT - 280, 64));
    assertFalse(isBlockValid(block, SALT ^ 1, AT, 64));
    for (let bit = 0; bit < 280 * 8; bit++) {
      block[bit >> 3]! ^= 1 << (bit & 7);
      assertFalse(isBlockValid(block, SALT, AT, 64), `bit ${bit}`);
      block[bit >> 3]! ^= 1 << (bit & 7);
    }
  });

  it("IndexBuilder.resume() goes on as if it had never stopped", () => {
    const first = builderOf(70);
    const second = new IndexBuilder();
    second.resume(70, first.encodeBlock(SALT, AT).slice());
    for (const builder of [first, second]) {
      builder.add(9000, 3, wide(1n));
      builder.add(9048, 99, wide(99n));
    }
    const encoded = [first, second].map((one) =>
      one.encodeBlock(SALT, AT).slice()
    );
    assertEquals(encoded[1], encoded[0]!);
  });
});

describe("segment index: footer", () => {
  const FOOTER = {
    firstIndex: 2 ** 40,
    lastIndex: 2 ** 40 + 65,
    end: 8192,
    blockCount: 2,
    sealedAtMs: 1_700_000_000_000,
  };

  function footer(): Bytes {
    return builderOf(66).encodeFooter(FOOTER, SALT);
  }

  it("[F26] IndexBuilder.encodeFooter() writes every field", () => {
    const bytes = footer();
    assertEquals(bytes.length, 64);
    assertEquals(
      bytes.slice(0, 8),
      new Uint8Array([0x89, 0x57, 0x41, 0x4c, 0x45, 0x4e, 0x44, 0x0a]),
    );
    const numbers = [8, 16, 32, 40, 48].map((at) => getU64(bytes, at));
    assertEquals(numbers, [
      2n ** 40n,
      2n ** 40n + 65n,
      65n,
      65n,
      1_700_000_000_000n,
    ]);
    assertEquals([getU32(bytes, 24), getU32(bytes, 28)], [8192, 2]);
    assertEquals(getU32(bytes, 56), SALT);
    assertEquals(getU32(bytes, 60), checksum(bytes.subarray(0, 60), SALT));
    assertEquals(decodeFooter(bytes, SALT), FOOTER);
  });

  it("[F26] a footer without entries has the least maxima", () => {
    const empty = { ...FOOTER, lastIndex: FOOTER.firstIndex - 1 };
    const bytes = new IndexBuilder().encodeFooter(empty, SALT);
    assertEquals(BigInt.asIntN(64, getU64(bytes, 32)), -(2n ** 63n));
    assertEquals(getU64(bytes, 40), 0n);
  });

  it("[F26] no bit of a footer can change, nor its segment", () => {
    const bytes = footer();
    assertEquals(decodeFooter(bytes, SALT ^ 1), undefined);
    for (let bit = 0; bit < 64 * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      assertEquals(decodeFooter(bytes, SALT), undefined, `bit ${bit}`);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
    setU32(bytes, 56, 1);
    setU32(bytes, 60, checksum(bytes.subarray(0, 60), SALT));
    assertEquals(decodeFooter(bytes, SALT), undefined);
  });
});
