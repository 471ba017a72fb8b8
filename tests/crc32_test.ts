import { test } from "node:test";
import { assertEquals } from "./_assert.ts";
import {
  crc32,
  crc32Short,
  CRC_ZLIB_BYTES_MIN,
  crcBegin,
  crcEnd,
  crcWord,
} from "../src/crc32.ts";
import { crc32 as zlibCrc32 } from "node:zlib";

const utf8 = new TextEncoder();

/** Bytes that look random and are the same in every run. */
function noise(length: number): Uint8Array<ArrayBuffer> {
  let state = 0x2545f491;
  return new Uint8Array(length).map(() => {
    state = Math.imul(state, 1664525) + 1013904223;
    return state >>> 24;
  });
}

test("crc32() gives the published values", () => {
  const published: [string, number][] = [
    ["", 0],
    ["a", 0xe8b7be43],
    ["abc", 0x352441c2],
    ["123456789", 0xcbf43926],
    ["The quick brown fox jumps over the lazy dog", 0x414fa339],
    ["1234567890".repeat(8), 0x7ca94a72],
  ];
  for (const [text, expected] of published) {
    assertEquals(crc32(utf8.encode(text)), expected, text);
    assertEquals(crc32Short(utf8.encode(text), 0), expected, text);
  }
});

test("crc32() and crc32Short() are zlib's for 0 to 5000 bytes", () => {
  const bytes = noise(5008);
  for (let length = 0; length <= 5000; length++) {
    const offset = length % 8;
    const part = bytes.subarray(offset, offset + length);
    const expected = zlibCrc32(part);
    assertEquals(crc32(part), expected, `${length} bytes at ${offset}`);
    assertEquals(crc32Short(part, 0), expected, `${length} at ${offset}`);
  }
});

test("crc32() seeded is that of both parts, on every side of zlib", () => {
  const bytes = noise(4 * CRC_ZLIB_BYTES_MIN);
  const expected = zlibCrc32(bytes);
  for (let cut = 0; cut <= bytes.length; cut++) {
    const head = bytes.subarray(0, cut);
    const tail = bytes.subarray(cut);
    assertEquals(crc32(tail, crc32(head)), expected, `${cut}`);
    assertEquals(crc32Short(tail, zlibCrc32(head)), expected, `${cut}`);
    assertEquals(zlibCrc32(tail, crc32Short(head, 0)), expected, `${cut}`);
  }
});

test("crc32() agrees at all offsets around the switch to zlib", () => {
  const bytes = noise(CRC_ZLIB_BYTES_MIN + 24);
  for (let offset = 0; offset < 16; offset++) {
    for (let step = -8; step <= 8; step++) {
      const end = offset + CRC_ZLIB_BYTES_MIN + step;
      const part = bytes.subarray(offset, end);
      const seed = 0xdeadbeef;
      assertEquals(crc32(part, seed), zlibCrc32(part, seed));
      assertEquals(crc32Short(part, seed), zlibCrc32(part, seed));
    }
  }
});

test("crc32() stays within 0 to 2^32 - 1", () => {
  const bytes = noise(256);
  for (let length = 0; length < 256; length++) {
    const crc = crc32(bytes.subarray(0, length), 0xffffffff);
    assertEquals(crc >= 0 && crc < 2 ** 32 && Number.isInteger(crc), true);
  }
});

test("crcWord() is crc32() of the same words in memory", () => {
  const bytes = noise(4 * 64);
  const view = new DataView(bytes.buffer);
  for (const seed of [0, 1, 0x7fffffff, 0x80000000, 0xffffffff]) {
    let signed = crcBegin(seed);
    let unsigned = crcBegin(seed);
    for (let at = 0; at < bytes.length; at += 4) {
      signed = crcWord(signed, view.getInt32(at, true));
      unsigned = crcWord(unsigned, view.getUint32(at, true));
      const expected = zlibCrc32(bytes.subarray(0, at + 4), seed);
      assertEquals(crcEnd(signed), expected);
      assertEquals(crcEnd(unsigned), expected);
    }
  }
});

test("crcWord() takes the low 32 bits of an index up to 2^53 - 1", () => {
  const indexes = [2 ** 32, 2 ** 32 + 7, 2 ** 52 + 3, Number.MAX_SAFE_INTEGER];
  for (const index of indexes) {
    const low = Number(BigInt.asUintN(32, BigInt(index)));
    assertEquals(crcWord(crcBegin(9), index), crcWord(crcBegin(9), low));
  }
});

test("crcEnd() and crc32() go on where the other one stopped", () => {
  const bytes = new Uint8Array(8 + 100);
  bytes.set(noise(100), 8);
  new DataView(bytes.buffer).setUint32(0, 0xcafebabe, true);
  new DataView(bytes.buffer).setUint32(4, 12345, true);
  const state = crcWord(crcWord(crcBegin(0), 0xcafebabe), 12345);
  const whole = crc32(bytes.subarray(8), crcEnd(state));
  assertEquals(whole, zlibCrc32(bytes));
  const other = crcWord(crcBegin(crc32(bytes.subarray(0, 4))), 12345);
  assertEquals(crcEnd(other), zlibCrc32(bytes.subarray(0, 8)));
});

test("crcBegin() takes any 32 bits, signed or not", () => {
  assertEquals(crcEnd(crcBegin(-1)), 0xffffffff);
  assertEquals(
    crcEnd(crcWord(crcBegin(-5), 1)),
    crcEnd(crcWord(crcBegin(-5 >>> 0), 1)),
  );
});
