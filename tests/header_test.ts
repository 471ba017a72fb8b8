import { describe, it } from "node:test";
import {
  decodeIdentity,
  decodeLink,
  encodeIdentity,
  encodeLink,
  type Identity,
  type Link,
} from "../src/header.ts";
import { assert, assertEquals } from "./_assert.ts";
import {
  type Bytes,
  checksum,
  getU32,
  getU64,
  sealIdentity,
  sealLink,
  setU32,
  setU64,
} from "./_log_bytes.ts";

const IDENTITY: Identity = {
  logId: "ffeeddccbbaa99887766554433221100",
  number: 2 ** 40 + 3,
  salt: 0xdeadbeef,
  segmentBytes: 131072,
  formatName: "a format’s name",
  createdAtMs: 1_700_000_000_123,
};

const LINK: Link = {
  baseIndex: 2 ** 45 + 1,
  previousNumber: 2 ** 40 + 1,
  previousSalt: 0xcafe,
  previousEnd: 8192,
  previousLastIndex: 2 ** 45,
  generation: 5,
  mark: { number: 2 ** 40, offset: 4104 },
  cause: 2,
};

/** A header page with both records, each twice. */
function page(identity = IDENTITY, link = LINK): Bytes {
  const bytes = encodeIdentity(identity);
  for (const at of [128, 3840]) {
    bytes.set(encodeLink(link, identity.salt), at);
  }
  return bytes;
}

/** What a page with a forged but sealed identity turns out to be. */
function kindOf(change: (bytes: Bytes) => void): string {
  const bytes = page();
  change(bytes);
  sealIdentity(bytes);
  return decodeIdentity(bytes).kind;
}

describe("header: identity", () => {
  it("[F10] encodeIdentity() writes every field, and the record twice", () => {
    const bytes = page();
    assertEquals(bytes.length, 4096);
    assertEquals(bytes.slice(3968), bytes.slice(0, 128));
    assertEquals(
      bytes.slice(0, 8),
      new Uint8Array([0x89, 0x57, 0x41, 0x4c, 0x52, 0x55, 0x53, 0x0a]),
    );
    assertEquals(getU32(bytes, 8), 1);
    assertEquals(getU32(bytes, 12), 4096);
    assertEquals([bytes[16], bytes[31]], [0xff, 0x00]);
    assertEquals(getU64(bytes, 32), 2n ** 40n + 3n);
    assertEquals(getU32(bytes, 40), 0xdeadbeef);
    assertEquals(getU64(bytes, 48), 131072n);
    assertEquals(getU64(bytes, 88), 1_700_000_000_123n);
    assertEquals(getU32(bytes, 124), checksum(bytes.subarray(0, 124)));
    const verdict = decodeIdentity(bytes);
    assert(verdict.kind === "valid");
    assertEquals(verdict.identity, IDENTITY);
  });

  it("[F10] either of the two records is enough, the first one first", () => {
    for (const at of [0, 3968]) {
      const bytes = page();
      bytes.fill(0, at, at + 128);
      assertEquals(decodeIdentity(bytes).kind, "valid", `without ${at}`);
    }
    const bytes = page();
    bytes.set(page({ ...IDENTITY, salt: 1 }).subarray(0, 128), 3968);
    const verdict = decodeIdentity(bytes);
    assert(verdict.kind === "valid");
    assertEquals(verdict.identity.salt, IDENTITY.salt);
    bytes.fill(0, 0, 128).fill(1, 3968, 3972);
    assertEquals(decodeIdentity(bytes).kind, "foreign");
  });

  it("[F11] no bit of an identity can change", () => {
    const bytes = page();
    bytes.fill(0, 3968);
    for (let bit = 0; bit < 128 * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      const { kind } = decodeIdentity(bytes);
      assert(kind === "invalid" || kind === "foreign", `bit ${bit}: ${kind}`);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
  });

  it("[F11] every field is checked, also under a right checksum", () => {
    assertEquals(kindOf(() => {}), "valid");
    const bad: [string, (bytes: Bytes) => void][] = [
      ["version 0", (bytes) => setU32(bytes, 8, 0)],
      ["header size", (bytes) => setU32(bytes, 12, 8192)],
      ["number 0", (bytes) => setU64(bytes, 32, 0)],
      ["size of the header", (bytes) => setU64(bytes, 48, 4096)],
      ["size of no page", (bytes) => setU64(bytes, 48, 65537)],
      ["size above 1 GiB", (bytes) => setU64(bytes, 48, 2 ** 30 + 4096)],
      ["size above 2^32", (bytes) => setU64(bytes, 48, 2 ** 32 + 65536)],
      ["no name", (bytes) => void bytes.fill(0, 56, 88)],
      ["name behind zeros", (bytes) => bytes[87] = 1],
      ["no UTF-8", (bytes) => bytes[56] = 0xff],
      ["time above 2^53", (bytes) => setU64(bytes, 88, 2n ** 53n + 1n)],
    ];
    for (const [what, change] of bad) {
      assertEquals(kindOf(change), "invalid", what);
    }
  });

  it("[F2] reserved bytes of an identity are zero", () => {
    assertEquals(kindOf((bytes) => bytes[44] = 1), "invalid");
    assertEquals(kindOf((bytes) => bytes[47] = 0x80), "invalid");
    assertEquals(kindOf((bytes) => bytes[96] = 1), "invalid");
    assertEquals(kindOf((bytes) => bytes[123] = 1), "invalid");
  });

  it("[F3] a segment number above its bound makes no identity", () => {
    for (const number of [2n ** 53n, 2n ** 53n + 1n, 2n ** 64n - 1n]) {
      const kind = kindOf((bytes) => setU64(bytes, 32, number));
      assertEquals(kind, "invalid", `${number}`);
    }
  });

  it("[F48] a newer version is told only by a sound record", () => {
    assertEquals(kindOf((bytes) => setU32(bytes, 8, 2)), "version");
    assertEquals(kindOf((bytes) => setU32(bytes, 8, 2 ** 32 - 1)), "version");
    const bytes = page();
    setU32(bytes, 8, 2);
    bytes.fill(0, 3968);
    assert(decodeIdentity(bytes).kind !== "version");
    // All else may differ in a newer version.
    const kind = kindOf((bytes) => {
      bytes.fill(0xee, 12, 124);
      setU32(bytes, 8, 9);
    });
    assertEquals(kind, "version");
  });

  it("a format's name may begin with any character", () => {
    for (const formatName of ["\ufeffx", "€".repeat(10) + "12"]) {
      const verdict = decodeIdentity(
        encodeIdentity({ ...IDENTITY, formatName }),
      );
      assert(verdict.kind === "valid");
      assertEquals(verdict.identity.formatName, formatName);
    }
  });
});

describe("header: link", () => {
  /** The link of a page with a forged but sealed record. */
  function forged(change: (bytes: Bytes) => void): Link | undefined {
    const bytes = page();
    change(bytes);
    sealLink(bytes);
    return decodeLink(bytes, IDENTITY);
  }

  it("[F13] encodeLink() writes every field", () => {
    const bytes = encodeLink(LINK, IDENTITY.salt);
    assertEquals(bytes.length, 128);
    assertEquals(getU64(bytes, 0), 2n ** 45n + 1n);
    assertEquals(getU64(bytes, 8), 2n ** 40n + 1n);
    assertEquals(getU32(bytes, 16), 0xcafe);
    assertEquals(getU32(bytes, 20), 8192);
    assertEquals(getU64(bytes, 24), 2n ** 45n);
    assertEquals(getU64(bytes, 32), 5n);
    assertEquals(getU64(bytes, 40), 2n ** 40n);
    assertEquals(getU32(bytes, 48), 4104);
    assertEquals(getU32(bytes, 52), 2);
    assertEquals(bytes.slice(56, 124), new Uint8Array(68));
    assertEquals(decodeLink(page(), IDENTITY), LINK);
  });

  it("[F5] a link is sealed with the segment's salt", () => {
    const bytes = page();
    const sealed = checksum(bytes.subarray(128, 252), IDENTITY.salt);
    assertEquals(getU32(bytes, 252), sealed);
    const other = { ...IDENTITY, salt: 1 };
    assertEquals(decodeLink(bytes, other), undefined);
  });

  it("[F13] no bit of a link can change", () => {
    for (const [at, other] of [[128, 3840], [3840, 128]] as const) {
      const bytes = page();
      bytes.fill(0, other, other + 128);
      for (let bit = at * 8; bit < (at + 128) * 8; bit++) {
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        assertEquals(decodeLink(bytes, IDENTITY), undefined, `bit ${bit}`);
        bytes[bit >> 3]! ^= 1 << (bit & 7);
      }
      assertEquals(decodeLink(bytes, IDENTITY), LINK);
    }
  });

  it("[F50] either of the two records is enough, the first one first", () => {
    for (const at of [128, 3840]) {
      const bytes = page();
      bytes.fill(0, at, at + 128);
      assertEquals(decodeLink(bytes, IDENTITY), LINK, `without ${at}`);
    }
    const other = { ...LINK, generation: 6 };
    const bytes = page();
    bytes.set(encodeLink(other, IDENTITY.salt), 3840);
    assertEquals(decodeLink(bytes, IDENTITY), LINK);
    // A sound checksum over a field that cannot be is not enough, either.
    const bad = { ...LINK, cause: 3 };
    bytes.set(encodeLink(bad, IDENTITY.salt), 128);
    assertEquals(decodeLink(bytes, IDENTITY), other);
    bytes.fill(0, 3840, 3968);
    assertEquals(decodeLink(bytes, IDENTITY), undefined);
    // The sectors of both first records may be lost: the copies are enough.
    const lost = page();
    lost.fill(0, 0, 512);
    const verdict = decodeIdentity(lost);
    assert(verdict.kind === "valid");
    assertEquals(decodeLink(lost, verdict.identity), LINK);
  });

  it("[F13] every field is checked, also under a right checksum", () => {
    assertEquals(forged(() => {}), LINK);
    const own = IDENTITY.number;
    const bad: [string, (bytes: Bytes) => void][] = [
      ["base index 0", (bytes) => {
        setU64(bytes, 128, 0);
        setU64(bytes, 152, 2n ** 64n - 1n);
      }],
      ["itself as predecessor", (bytes) => setU64(bytes, 136, own)],
      ["a later predecessor", (bytes) => setU64(bytes, 136, own + 1)],
      ["an end in the header", (bytes) => setU32(bytes, 148, 4088)],
      ["an end off the boundary", (bytes) => setU32(bytes, 148, 8196)],
      ["a gap of indexes", (bytes) => setU64(bytes, 152, 2 ** 45 - 1)],
      ["a mark above itself", (bytes) => setU64(bytes, 168, own + 1)],
      ["cause 3", (bytes) => setU32(bytes, 180, 3)],
      ["no predecessor, but a salt", (bytes) => {
        setU64(bytes, 136, 0);
        setU32(bytes, 148, 0);
      }],
      ["no predecessor, but an end", (bytes) => {
        setU64(bytes, 136, 0);
        setU32(bytes, 144, 0);
      }],
    ];
    for (const [what, change] of bad) {
      assertEquals(forged(change), undefined, what);
    }
  });

  it("[F13] a chain may begin at any index", () => {
    const link = forged((bytes) => {
      setU64(bytes, 136, 0);
      setU32(bytes, 144, 0);
      setU32(bytes, 148, 0);
    });
    assertEquals(link?.previousNumber, 0);
    assertEquals(link?.baseIndex, LINK.baseIndex);
  });

  it("[F2] reserved bytes of a link are zero", () => {
    assertEquals(forged((bytes) => bytes[128 + 56] = 1), undefined);
    assertEquals(forged((bytes) => bytes[128 + 123] = 1), undefined);
  });

  it("[F3] numbers of a link above their bound make it invalid", () => {
    for (const offset of [128, 136, 152, 160, 168]) {
      for (const value of [2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n]) {
        const link = forged((bytes) => setU64(bytes, offset, value));
        assertEquals(link, undefined, `${offset}: ${value}`);
      }
    }
  });
});
