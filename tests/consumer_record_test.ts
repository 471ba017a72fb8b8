/**
 * The two records of a consumer's file, docs/format.md §9: golden bytes, every
 * bit, whose they are, and which of the two counts.
 */
import { describe, it } from "node:test";
import {
  decodePosition,
  encodePosition,
  isConsumerName,
  type PositionRecord,
} from "../src/consumer_record.ts";
import { AssertionError } from "../src/assert.ts";
import { assert, assertEquals, assertThrows } from "./_assert.ts";
import {
  type Bytes,
  checksum,
  getU32,
  getU64,
  sealPosition,
  setU32,
  setU64,
} from "./_log_bytes.ts";

const OWNER = { logId: "00112233445566778899aabbccddeeff", name: "worker" };
const RECORD = { sequence: 2 ** 41, position: 2 ** 42 + 1, generation: 7 };
const FILE_BYTES = 8192;
const RECORD_BYTES = 64;

/** A file with a record in the first place, the second, or both. */
function fileOf(
  first: PositionRecord | undefined,
  second?: PositionRecord,
): Bytes {
  const bytes = new Uint8Array(FILE_BYTES);
  if (first !== undefined) bytes.set(encodePosition(first, OWNER));
  if (second !== undefined) bytes.set(encodePosition(second, OWNER), 4096);
  return bytes;
}

/** What a forged but sealed first record turns out to be. */
function kindOf(change: (bytes: Bytes) => void): string {
  const bytes = fileOf(RECORD);
  change(bytes);
  sealPosition(bytes, OWNER.name, 0);
  return decodePosition(bytes, OWNER).kind;
}

/** The position that counts, and where it stands. */
function standing(bytes: Bytes): [number, number] | string {
  const verdict = decodePosition(bytes, OWNER);
  if (verdict.kind !== "valid") return verdict.kind;
  return [verdict.record.position, verdict.slot];
}

describe("a consumer's record", () => {
  it("[F55] encodePosition() writes these bytes and no others", () => {
    const record = { sequence: 3, position: 258, generation: 1 };
    const hex = Array.from(
      encodePosition(record, OWNER),
      (byte) => byte.toString(16).padStart(2, "0"),
    ).join("");
    assertEquals(
      hex,
      "8957414c434f4e0a0100000040000000" +
        "00112233445566778899aabbccddeeff" +
        "03000000000000000201000000000000" +
        "010000000000000000000000a2daade6",
    );
  });

  it("[F55] encodePosition() puts every field in its place", () => {
    const bytes = encodePosition(RECORD, OWNER);
    assertEquals(bytes.length, RECORD_BYTES);
    assertEquals(
      bytes.slice(0, 8),
      new Uint8Array([0x89, 0x57, 0x41, 0x4c, 0x43, 0x4f, 0x4e, 0x0a]),
    );
    assertEquals([getU32(bytes, 8), getU32(bytes, 12)], [1, 64]);
    assertEquals([bytes[16], bytes[17], bytes[31]], [0x00, 0x11, 0xff]);
    assertEquals(
      [getU64(bytes, 32), getU64(bytes, 40), getU64(bytes, 48)],
      [2n ** 41n, 2n ** 42n + 1n, 7n],
    );
    assertEquals(getU32(bytes, 56), 0);
    const seed = checksum(new TextEncoder().encode("worker"));
    assertEquals(getU32(bytes, 60), checksum(bytes.subarray(0, 60), seed));
    const verdict = decodePosition(fileOf(RECORD), OWNER);
    assertEquals(verdict, { kind: "valid", record: RECORD, slot: 0 });
  });

  it("[F55] no bit of a record can change", () => {
    for (const slot of [0, 1]) {
      const bytes = fileOf(
        slot === 0 ? RECORD : undefined,
        slot === 1 ? RECORD : undefined,
      );
      assertEquals(standing(bytes), [RECORD.position, slot]);
      for (let bit = 0; bit < RECORD_BYTES * 8; bit++) {
        const at = slot * 4096 + (bit >> 3);
        bytes[at]! ^= 1 << (bit & 7);
        assertEquals(standing(bytes), "invalid", `record ${slot}, bit ${bit}`);
        bytes[at]! ^= 1 << (bit & 7);
      }
    }
  });

  it("[F55] a changed bit of the newer record leaves the older one", () => {
    const older = { ...RECORD, sequence: RECORD.sequence - 1, position: 5 };
    for (const slot of [0, 1]) {
      const bytes = slot === 0 ? fileOf(RECORD, older) : fileOf(older, RECORD);
      assertEquals(standing(bytes), [RECORD.position, slot]);
      for (let bit = 0; bit < RECORD_BYTES * 8; bit++) {
        const at = slot * 4096 + (bit >> 3);
        bytes[at]! ^= 1 << (bit & 7);
        assertEquals(standing(bytes), [5, 1 - slot], `bit ${bit}`);
        bytes[at]! ^= 1 << (bit & 7);
      }
    }
  });

  it("[F54] what lies outside of the records is not read", () => {
    const bytes = fileOf(RECORD, { ...RECORD, sequence: 1, position: 5 });
    bytes.fill(0xff, 64, 4096);
    bytes.fill(0xff, 4160);
    assertEquals(standing(bytes), [RECORD.position, 0]);
  });

  it("[F55] the record with the higher sequence counts, wherever it is", () => {
    const of = (sequence: number, position: number, generation = 0) => ({
      sequence,
      position,
      generation,
    });
    assertEquals(standing(fileOf(of(1, 10), of(2, 20))), [20, 1]);
    assertEquals(standing(fileOf(of(3, 10), of(2, 20))), [10, 0]);
    // Neither the position nor the generation decides.
    assertEquals(standing(fileOf(of(9, 1, 0), of(8, 99, 5))), [1, 0]);
    // As numbers: above 2^32, and with many digits.
    assertEquals(standing(fileOf(of(2 ** 32, 1), of(2 ** 32 - 1, 2))), [1, 0]);
    assertEquals(standing(fileOf(of(9, 1), of(10, 2))), [2, 1]);
    assertEquals(standing(fileOf(undefined, of(1, 4))), [4, 1]);
    assertEquals(standing(fileOf(undefined)), "invalid");
  });

  it("[F55] another consumer's record is none", () => {
    for (const name of ["Worker", "worker1", "worke", "w", "worker."]) {
      const other = { ...OWNER, name };
      const { kind } = decodePosition(fileOf(RECORD, RECORD), other);
      assertEquals(kind, "invalid", name);
    }
  });

  it("[F55] a record of another log is none, also when it is sealed", () => {
    const logId = "10112233445566778899aabbccddeeff";
    const other = decodePosition(fileOf(RECORD), { ...OWNER, logId });
    assertEquals(other.kind, "invalid");
    assertEquals(kindOf((bytes) => bytes[16] = 0x10), "invalid");
    assertEquals(kindOf((bytes) => bytes[31] = 0xfe), "invalid");
  });

  it("[F55] every field is checked, also under a right checksum", () => {
    assertEquals(kindOf(() => {}), "valid");
    const most = 2n ** 53n - 2n ** 20n;
    const cases: [string, (bytes: Bytes) => void, string][] = [
      ["magic", (bytes) => bytes[0] = 0x88, "invalid"],
      ["magic's end", (bytes) => bytes[7] = 0x0d, "invalid"],
      ["version 0", (bytes) => setU32(bytes, 8, 0), "invalid"],
      ["63 bytes", (bytes) => setU32(bytes, 12, 63), "invalid"],
      ["65 bytes", (bytes) => setU32(bytes, 12, 65), "invalid"],
      ["sequence 0", (bytes) => setU64(bytes, 32, 0), "invalid"],
      ["sequence 1", (bytes) => setU64(bytes, 32, 1), "valid"],
      ["last sequence", (bytes) => setU64(bytes, 32, most), "valid"],
      ["a higher one", (bytes) => setU64(bytes, 32, most + 1n), "invalid"],
      ["2^53", (bytes) => setU64(bytes, 32, 2n ** 53n), "invalid"],
      ["position 0", (bytes) => setU64(bytes, 40, 0), "valid"],
      [
        "last position",
        (bytes) => setU64(bytes, 40, 2n ** 53n - 1n),
        "valid",
      ],
      ["a higher one", (bytes) => setU64(bytes, 40, 2n ** 53n), "invalid"],
      ["2^64 - 1", (bytes) => setU64(bytes, 40, 2n ** 64n - 1n), "invalid"],
      ["last generation", (bytes) => setU64(bytes, 48, most), "valid"],
      ["a higher one", (bytes) => setU64(bytes, 48, most + 1n), "invalid"],
      ["2^64 - 1", (bytes) => setU64(bytes, 48, 2n ** 64n - 1n), "invalid"],
    ];
    for (const [what, change, kind] of cases) {
      assertEquals(kindOf(change), kind, what);
    }
  });

  it("[F2][F55] reserved bytes of a record are zero", () => {
    for (let at = 56; at < 60; at++) {
      assertEquals(kindOf((bytes) => bytes[at] = 1), "invalid", `byte ${at}`);
    }
  });

  it("[F55] a newer version is told, also beside a record of this one", () => {
    const version = (bytes: Bytes) => setU32(bytes, 8, 2);
    assertEquals(kindOf(version), "version");
    for (const slot of [0, 1] as const) {
      const bytes = fileOf(RECORD, { ...RECORD, sequence: 1 });
      setU32(bytes, 4096 * slot + 8, 258);
      sealPosition(bytes, OWNER.name, slot);
      const verdict = decodePosition(bytes, OWNER);
      assertEquals(verdict, { kind: "version", version: 258 });
    }
  });

  it("[F55] a newer version is told only by a right checksum", () => {
    const bytes = fileOf(RECORD);
    setU32(bytes, 8, 2);
    assertEquals(decodePosition(bytes, OWNER).kind, "invalid");
    sealPosition(bytes, "another", 0);
    assertEquals(decodePosition(bytes, OWNER).kind, "invalid");
  });

  it("[F54] a consumer's file has exactly 8192 bytes", () => {
    const whole = fileOf(RECORD, { ...RECORD, sequence: 1 });
    for (const count of [0, 63, 64, 4096, 4160, 8191, 8193, 12_288]) {
      const bytes = new Uint8Array(count);
      bytes.set(whole.subarray(0, count));
      assertEquals(decodePosition(bytes, OWNER).kind, "invalid", `${count}`);
    }
    const inside = new Uint8Array(FILE_BYTES + 16);
    inside.set(whole, 8);
    const view = inside.subarray(8, 8 + FILE_BYTES);
    assertEquals(decodePosition(view, OWNER).kind, "valid");
  });

  it("encodePosition() refuses what would not read back", () => {
    for (
      const wrong of [
        { sequence: 0 },
        { sequence: -1 },
        { position: -1 },
        { position: NaN },
        { position: 2 ** 53 + 2 },
        { generation: -1 },
      ]
    ) {
      const record = { ...RECORD, ...wrong };
      assertThrows(() => encodePosition(record, OWNER), AssertionError);
    }
  });
});

describe("a consumer's name", () => {
  it("[F54] is 1 to 64 of letters, digits, dot, underscore and hyphen", () => {
    const good = [
      "a",
      "Z",
      "0",
      "_",
      "-",
      "a.b",
      "a.tmp",
      "-.-",
      "a".repeat(64),
      "a" + ".".repeat(63),
    ];
    const bad = [
      "",
      ".",
      "..",
      ".a",
      ".a.tmp",
      "a".repeat(65),
      "a/b",
      "a b",
      "a\n",
      "a\0",
      "ä",
      "ａ",
      "a\\b",
      "a:b",
      "a*",
    ];
    for (const name of good) assert(isConsumerName(name), name);
    for (const name of bad) assert(!isConsumerName(name), JSON.stringify(name));
  });
});
