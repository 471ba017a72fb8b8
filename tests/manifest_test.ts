import { describe, it } from "node:test";
import {
  decodeManifest,
  encodeManifest,
  type Manifest,
} from "../src/manifest.ts";
import { assert, assertEquals } from "./_assert.ts";
import {
  type Bytes,
  checksum,
  getU32,
  getU64,
  sealManifest,
  setU32,
  setU64,
} from "./_log_bytes.ts";

const MANIFEST: Manifest = {
  logId: "00112233445566778899aabbccddeeff",
  formatName: "binary",
  firstIndex: 2 ** 41,
  firstSegment: 3,
  lastSegment: 2 ** 33,
  nextSegment: 2 ** 34,
  nextIndex: 2 ** 42,
  generation: 2 ** 35,
  mark: { number: 2 ** 33, offset: 4136 },
  closed: true,
};

/** What a forged but sealed manifest turns out to be. */
function kindOf(change: (bytes: Bytes) => void): string {
  const bytes = encodeManifest(MANIFEST);
  change(bytes);
  sealManifest(bytes);
  return decodeManifest(bytes).kind;
}

describe("manifest", () => {
  it("[F29] encodeManifest() writes every field", () => {
    const bytes = encodeManifest(MANIFEST);
    assertEquals(bytes.length, 256);
    assertEquals(
      bytes.slice(0, 8),
      new Uint8Array([0x89, 0x57, 0x41, 0x4c, 0x4d, 0x41, 0x4e, 0x0a]),
    );
    assertEquals([getU32(bytes, 8), getU32(bytes, 12)], [1, 256]);
    assertEquals([bytes[16], bytes[31]], [0x00, 0xff]);
    assertEquals(new TextDecoder().decode(bytes.slice(32, 38)), "binary");
    const numbers = [64, 72, 80, 88, 96, 104, 112].map((at) =>
      getU64(bytes, at)
    );
    assertEquals(numbers, [
      2n ** 41n,
      3n,
      2n ** 33n,
      2n ** 34n,
      2n ** 42n,
      2n ** 35n,
      2n ** 33n,
    ]);
    assertEquals([getU32(bytes, 120), getU32(bytes, 124)], [4136, 1]);
    assertEquals(getU32(bytes, 252), checksum(bytes.subarray(0, 252)));
    const verdict = decodeManifest(bytes);
    assert(verdict.kind === "valid");
    assertEquals(verdict.manifest, MANIFEST);
  });

  it("[F29] no bit of a manifest can change", () => {
    const bytes = encodeManifest(MANIFEST);
    for (let bit = 0; bit < 256 * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      const { kind } = decodeManifest(bytes);
      assert(kind === "invalid" || kind === "foreign", `bit ${bit}: ${kind}`);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
  });

  it("[F29] every field is checked, also under a right checksum", () => {
    assertEquals(kindOf(() => {}), "valid");
    const bad: [string, (bytes: Bytes) => void][] = [
      ["version 0", (bytes) => setU32(bytes, 8, 0)],
      ["its size", (bytes) => setU32(bytes, 12, 255)],
      ["no name", (bytes) => void bytes.fill(0, 32, 64)],
      ["first index 0", (bytes) => setU64(bytes, 64, 0)],
      ["first index above next", (bytes) => setU64(bytes, 64, 2 ** 42 + 1)],
      ["first segment 0", (bytes) => setU64(bytes, 72, 0)],
      ["first segment above last", (bytes) => setU64(bytes, 72, 2 ** 33 + 1)],
      ["next segment not above last", (bytes) => setU64(bytes, 88, 2 ** 33)],
      ["mark above last", (bytes) => setU64(bytes, 112, 2 ** 33 + 1)],
      ["closed 2", (bytes) => setU32(bytes, 124, 2)],
    ];
    for (const [what, change] of bad) {
      assertEquals(kindOf(change), "invalid", what);
    }
    assertEquals(kindOf((bytes) => setU64(bytes, 64, 2 ** 42)), "valid");
    assertEquals(kindOf((bytes) => setU64(bytes, 112, 0)), "valid");
  });

  it("[F51] a manifest has exactly 256 bytes in every version", () => {
    for (const version of [0, 1, 2, 2 ** 32 - 1]) {
      const longer = new Uint8Array(300);
      longer.set(encodeManifest(MANIFEST));
      setU32(longer, 8, version);
      sealManifest(longer);
      for (const count of [0, 1, 15, 16, 252, 255, 257, 300]) {
        const { kind } = decodeManifest(longer.subarray(0, count));
        assertEquals(kind, "invalid", `${count} bytes, version ${version}`);
      }
    }
  });

  it("[F51] a newer version is told only by a right checksum", () => {
    const bytes = encodeManifest(MANIFEST);
    setU32(bytes, 8, 2);
    assertEquals(decodeManifest(bytes).kind, "invalid");
    sealManifest(bytes);
    assertEquals(decodeManifest(bytes).kind, "version");
    for (let bit = 64; bit < 256 * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      assertEquals(decodeManifest(bytes).kind, "invalid", `bit ${bit}`);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
  });

  it("[F2] reserved bytes of a manifest are zero", () => {
    assertEquals(kindOf((bytes) => bytes[128] = 1), "invalid");
    assertEquals(kindOf((bytes) => bytes[251] = 1), "invalid");
  });

  it("[F3] numbers above their bound make a manifest invalid", () => {
    for (const offset of [64, 72, 80, 88, 96, 104, 112]) {
      for (const value of [2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n]) {
        const kind = kindOf((bytes) => setU64(bytes, offset, value));
        assertEquals(kind, "invalid", `${offset}: ${value}`);
      }
    }
  });

  it("[F1] a u64 is two u32, the low one first", () => {
    const bytes = encodeManifest({ ...MANIFEST, nextIndex: 2 ** 52 + 258 });
    const expected = new Uint8Array([2, 1, 0, 0, 0, 0, 0x10, 0]);
    assertEquals(bytes.slice(96, 104), expected);
  });

  it("[F48] a newer version is never called damaged", () => {
    assertEquals(kindOf((bytes) => setU32(bytes, 8, 2)), "version");
    // All else may differ in a newer version.
    const kind = kindOf((bytes) => {
      bytes.fill(0xee, 12, 252);
      setU32(bytes, 8, 9);
    });
    assertEquals(kind, "version");
  });
});
