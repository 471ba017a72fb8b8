import { test } from "node:test";
import { assertEquals } from "./_assert.ts";
import { crc32, crcBegin, crcEnd } from "../src/crc32.ts";
import { crcShift } from "../src/crc_shift.ts";

function check(bytes: number, seed: number): void {
  const expected = crc32(new Uint8Array(bytes), seed);
  const found = crcEnd(crcShift(crcBegin(seed), bytes));
  assertEquals(found, expected, `${bytes} bytes behind ${seed}`);
}

test("crcShift() is crc32() of zero bytes, asked for once or again", () => {
  for (let bytes = 0; bytes <= 1100; bytes++) {
    // The third time the length has tables of its own.
    for (let k = 0; k < 3; k++) check(bytes, (bytes * 2654435761 + k) >>> 0);
  }
});

test("crcShift() goes up to the largest entry", () => {
  for (let power = 0; power <= 24; power++) {
    check(2 ** power, 0x89abcdef);
    check(2 ** power + 4, 0);
  }
});

test("crcShift() tells lengths apart that are kept in the same place", () => {
  for (const bytes of [292, 548, 292, 548, 548, 292, 292, 548]) check(bytes, 7);
});
