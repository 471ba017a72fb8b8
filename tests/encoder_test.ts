import { test } from "node:test";
import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";
import type { Encoder, EntryRecord } from "../src/encoder.ts";
import { BinaryEncoder } from "../src/binary_encoder.ts";
import { InvalidEntryError } from "../src/errors.ts";
import { GO_HEAD_BYTES, goFolderFormat } from "../src/go_folder.ts";
import { JsonEncoder } from "../src/json_encoder.ts";
import {
  assertEquals,
  assertNotStrictEquals,
  assertStrictEquals,
  assertThrows,
} from "./_assert.ts";
import { Random } from "../testing/mod.ts";

type Bytes = Uint8Array<ArrayBuffer>;

const binary = new BinaryEncoder();
const json = new JsonEncoder();
const encoders: Encoder[] = [binary, json];

const INDEX_MAX = Number.MAX_SAFE_INTEGER;
const TIME_MIN = -(2n ** 63n);
const TIME_MAX = 2n ** 63n - 1n;
const SEED = 20_240_817;

const utf8 = (text: string): Bytes => new TextEncoder().encode(text);
const text = (bytes: Bytes): string => new TextDecoder().decode(bytes);

function record(fields: Partial<EntryRecord> = {}): EntryRecord {
  return {
    index: 7,
    term: 3,
    timestampNs: 1_700_000_000_123_456_789n,
    transactionId: undefined,
    data: utf8("Hi"),
    checksum: 0,
    ...fields,
  };
}

/** Encodes and decodes it in every way; all must agree with `before`. */
function assertRoundTrip(encoder: Encoder, before: EntryRecord): void {
  const bytes = encoder.encode(before);
  assertEquals(encoder.byteLength(before), bytes.length);
  assertEquals(bytes.byteOffset, 0);
  assertEquals(bytes.buffer.byteLength, bytes.length);

  const target = new Uint8Array(bytes.length + 3).fill(0xaa);
  assertEquals(encoder.encodeInto(before, target), bytes.length);
  assertEquals(target.subarray(0, bytes.length), bytes);
  assertEquals([...target.subarray(bytes.length)], [0xaa, 0xaa, 0xaa]);

  const after = encoder.decode(bytes);
  const expected = { ...before, checksum: after.checksum };
  if (expected.transactionId === "") expected.transactionId = undefined;
  assertEquals(after, expected);
  assertEquals(encoder.decodeView(bytes), expected);
  assertEquals(encoder.encode(after), bytes);
}

/** The JSON text with its checksum made right. */
function sealed(entry: string): Bytes {
  const zero = entry.replace(/"checksum":\d+/, '"checksum":0');
  const crc = crc32(utf8(zero));
  return utf8(zero.replace('"checksum":0', `"checksum":${crc}`));
}

/** The binary bytes with the checksum at their end made right. */
function resealed(bytes: Bytes): Bytes {
  const end = bytes.length - 4;
  const crc = crc32(bytes.subarray(0, end));
  new DataView(bytes.buffer).setUint32(end, crc, true);
  return bytes;
}

test("BinaryEncoder.encode() lays the fields out as documented", () => {
  const id = "tx_" + "0123456789abcdef".repeat(2);
  const bytes = binary.encode(record({ transactionId: id }));
  const view = new DataView(bytes.buffer);
  assertEquals(bytes.length, 36 + 2 + 35);
  assertEquals(view.getBigUint64(0, true), 7n);
  assertEquals(view.getBigUint64(8, true), 3n);
  assertEquals(view.getBigInt64(16, true), 1_700_000_000_123_456_789n);
  assertEquals(view.getUint32(24, true), 2);
  assertEquals(text(bytes.slice(28, 30)), "Hi");
  assertEquals(view.getUint32(30, true), 35);
  assertEquals(text(bytes.slice(34, 69)), id);
  assertEquals(view.getUint32(69, true), crc32(bytes.subarray(0, 69)));
});

test("JsonEncoder.encode() writes Go's field names in Go's order", () => {
  const start = '{"index":7,"term":3,"data":"SGk=","checksum":';
  const end = ',"timestamp":1700000000123456789,"transaction_id":""}';
  const crc = crc32(utf8(start + "0" + end));
  assertEquals(text(json.encode(record())), start + crc + end);
});

test("JsonEncoder.encode() escapes the transaction id as Go does", () => {
  const id = '<a href="\\">&\u2028\u2029\b\f\n\r\t\0\x1f\x7f/é𝒳\ufeff';
  const escaped = '"\\u003ca href=\\"\\\\\\"\\u003e\\u0026\\u2028\\u2029' +
    '\\b\\f\\n\\r\\t\\u0000\\u001f\x7f/é𝒳\ufeff"}';
  const bytes = json.encode(record({ transactionId: id }));
  const found = text(bytes).split('"transaction_id":')[1];
  assertEquals(found, escaped);
  assertEquals(json.decode(bytes).transactionId, id);
});

for (const encoder of encoders) {
  const name = encoder.constructor.name;

  test(`${name} is named for its format`, () => {
    assertEquals(`${encoder.name}`, name.replace("Encoder", "").toLowerCase());
  });

  test(`${name} keeps entries of every size`, () => {
    const random = new Random(SEED);
    for (let size = 0; size <= 300; size++) {
      assertRoundTrip(encoder, record({ data: random.bytes(size) }));
    }
    const large = random.bytes(1024 * 1024 + 1);
    assertRoundTrip(encoder, record({ data: large }));
  });

  test(`${name} keeps every byte value and bytes that are not UTF-8`, () => {
    const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    assertRoundTrip(encoder, record({ data: all }));
    const broken = new Uint8Array([0xff, 0xfe, 0xc0, 0x80, 0xed, 0xa0, 0x80]);
    assertRoundTrip(encoder, record({ data: broken }));
  });

  test(`${name} keeps extreme indexes, terms and times`, () => {
    for (const n of [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, INDEX_MAX]) {
      assertRoundTrip(encoder, record({ index: n, term: INDEX_MAX - n }));
    }
    const times = [TIME_MIN, TIME_MIN + 1n, -1n, 0n, 1n, TIME_MAX];
    for (const timestampNs of times) {
      assertRoundTrip(encoder, record({ timestampNs }));
    }
    // The seed's zero time: 1754-08-30, far from what a Date rounds to.
    assertRoundTrip(
      encoder,
      record({ timestampNs: -6_795_364_578_871_345_152n }),
    );
  });

  test(`${name} keeps transaction ids of any text`, () => {
    const ids = ["a", "tx_0", "ü", "日本", "𝒳", "\ufeffx", "\ufffd", '"', "\\"];
    for (const transactionId of [...ids, "}", "\0", "x".repeat(70_000)]) {
      assertRoundTrip(encoder, record({ transactionId }));
    }
  });

  test(`${name} takes an empty transaction id for none`, () => {
    const none = encoder.encode(record());
    assertEquals(encoder.encode(record({ transactionId: "" })), none);
    assertRoundTrip(encoder, record({ transactionId: "" }));
  });

  test(`${name} keeps 2000 random entries`, () => {
    const random = new Random(SEED, 1);
    for (let i = 0; i < 2000; i++) {
      const bits = random.int(53);
      assertRoundTrip(encoder, {
        index: Math.floor(random.fraction() * 2 ** bits),
        term: Math.floor(random.fraction() * 2 ** (52 - bits)),
        timestampNs: new DataView(random.bytes(8).buffer).getBigInt64(0),
        transactionId: random.chance(0.5)
          ? undefined
          : String.fromCharCode(...random.bytes(random.between(1, 40))),
        data: random.bytes(random.int(200)),
        checksum: 0,
      });
    }
  });

  test(`${name}.decode() never gives a wrong entry: every byte changed`, () => {
    const id = { transactionId: "tx_1" };
    for (const before of [record(id), record({ data: new Uint8Array(0) })]) {
      const bytes = encoder.encode(before);
      for (let offset = 0; offset < bytes.length; offset++) {
        for (let change = 1; change < 256; change++) {
          const copy = bytes.slice();
          copy[offset] ^= change;
          // All are refused: the checksum covers every byte.
          assertThrows(() => encoder.decode(copy), InvalidEntryError);
        }
      }
    }
  });

  test(`${name}.decode() refuses an entry cut anywhere`, () => {
    const bytes = encoder.encode(record({ transactionId: "tx_1" }));
    for (let end = 0; end < bytes.length; end++) {
      const cut = bytes.subarray(0, end);
      assertThrows(() => encoder.decode(cut), InvalidEntryError);
      assertThrows(() => encoder.decode(bytes.slice(0, end)));
      assertThrows(() => encoder.decodeView(cut), InvalidEntryError);
    }
  });

  test(`${name}.decode() refuses bytes after the entry and before it`, () => {
    const bytes = encoder.encode(record());
    for (const extra of [0, 0x20, 0x0a]) {
      const after = new Uint8Array([...bytes, extra]);
      assertThrows(() => encoder.decode(after), InvalidEntryError);
      const before = new Uint8Array([extra, ...bytes]);
      assertThrows(() => encoder.decode(before), InvalidEntryError);
    }
  });

  test(`${name}.decode() refuses 2000 random inputs`, () => {
    const random = new Random(SEED, 2);
    for (let i = 0; i < 2000; i++) {
      const bytes = random.bytes(random.int(200));
      assertThrows(() => encoder.decode(bytes), InvalidEntryError);
    }
  });

  test(`${name}.decode() copies data, also out of a Buffer`, () => {
    const bytes = Buffer.from(encoder.encode(record()));
    const decoded = encoder.decode(bytes);
    assertStrictEquals(decoded.data.constructor, Uint8Array);
    assertNotStrictEquals(decoded.data.buffer, bytes.buffer);
    bytes.fill(0);
    assertEquals(text(decoded.data), "Hi");
  });

  test(`${name}.encode() refuses numbers that are not exact`, () => {
    const expected = ", expected a whole number from 0 to 9007199254740991";
    for (const field of ["index", "term"] as const) {
      for (const bad of [-1, 0.5, NaN, Infinity, 2 ** 53]) {
        const message = `Cannot encode entry: ${field} is ${bad}${expected}`;
        const wrong = record({ [field]: bad });
        const error = assertThrows(() => encoder.encode(wrong), RangeError);
        assertEquals(error.message, message);
        assertThrows(() => encoder.byteLength(wrong), RangeError, message);
        const target = new Uint8Array(200);
        const into = () => encoder.encodeInto(wrong, target);
        assertThrows(into, RangeError, message);
        assertEquals(target, new Uint8Array(200));
      }
    }
  });

  test(`${name}.encode() refuses a time beyond 64 bits`, () => {
    for (const timestampNs of [TIME_MIN - 1n, TIME_MAX + 1n]) {
      const error = assertThrows(
        () => encoder.encode(record({ timestampNs })),
        RangeError,
      );
      assertEquals(
        error.message,
        `Cannot encode entry: timestampNs is ${timestampNs}, ` +
          "expected -9223372036854775808 to 9223372036854775807",
      );
    }
  });

  test(`${name}.encode() refuses fields of a wrong type`, () => {
    const whole = "expected a whole number from 0 to 9007199254740991";
    const cases: [Record<string, unknown>, string][] = [
      [{ index: "1" }, `index is string, ${whole}`],
      [{ term: 1n }, `term is bigint, ${whole}`],
      [{ timestampNs: 1 }, "timestampNs is number, expected a bigint"],
      [{ data: "Hi" }, "data is string, expected a Uint8Array"],
      [{ transactionId: 5 }, "transactionId is number, expected a string"],
      [{ transactionId: null }, "transactionId is object, expected a string"],
    ];
    for (const [fields, message] of cases) {
      const wrong = record(fields as Partial<EntryRecord>);
      const expected = `Cannot encode entry: ${message}`;
      assertThrows(() => encoder.encode(wrong), TypeError, expected);
    }
  });

  test(`${name}.encode() refuses an id that UTF-8 cannot hold`, () => {
    assertThrows(
      () => encoder.encode(record({ transactionId: "tx_\ud800" })),
      InvalidEntryError,
      'Cannot encode entry: transactionId is "tx_\\ud800", ' +
        "expected no lone surrogates",
    );
  });

  test(`${name}.encodeInto() refuses every target that is too small`, () => {
    const before = record({ transactionId: "tx_1" });
    const bytes = encoder.byteLength(before);
    for (let size = 0; size < bytes; size++) {
      assertThrows(
        () => encoder.encodeInto(before, new Uint8Array(size)),
        RangeError,
        `Cannot encode entry: target is ${size} bytes, expected at least `,
      );
    }
    const last = () => encoder.encodeInto(before, new Uint8Array(bytes - 1));
    const error = assertThrows(last, RangeError);
    assertEquals(error.message.endsWith(`expected at least ${bytes}`), true);
  });
}

test("BinaryEncoder.encodeInto() writes nothing to a small target", () => {
  const target = new Uint8Array(37);
  assertThrows(() => binary.encodeInto(record(), target), RangeError);
  assertEquals(target, new Uint8Array(37));
});

test("BinaryEncoder.decodeView() gives data that lies in the bytes", () => {
  const outer = new Uint8Array(100);
  const bytes = outer.subarray(5, 5 + binary.encodeInto(record(), outer));
  bytes.set(binary.encode(record()));
  const { data } = binary.decodeView(bytes);
  assertStrictEquals(data.buffer, outer.buffer);
  assertEquals([data.byteOffset, data.length], [5 + 28, 2]);
  bytes[28] = 0x4a;
  assertEquals(text(data), "Ji");

  const buffer = Buffer.from(binary.encode(record()));
  const view = binary.decodeView(buffer).data;
  assertStrictEquals(view.buffer, buffer.buffer);
  assertStrictEquals(view.constructor, Uint8Array);
});

test("BinaryEncoder.decode() says what is wrong", () => {
  const cases: [(bytes: Bytes, view: DataView) => Bytes, string][] = [
    [(b) => b.slice(0, 35), "it is 35 bytes, expected at least 36"],
    [() => new Uint8Array(0), "it is 0 bytes, expected at least 36"],
    [
      (b, v) => (v.setUint32(24, 3221225472, true), b),
      "its data is 3221225472 bytes, expected at most 6 in 42",
    ],
    [
      (b, v) => (v.setUint32(30, 5, true), b),
      "its transaction id is 5 bytes, expected the 4 that are left",
    ],
    [
      (b, v) => (v.setUint32(30, 3, true), resealed(b)),
      "its transaction id is 3 bytes, expected the 4 that are left",
    ],
    [
      (b, v) => (v.setUint32(30, 0xffffffff, true), b),
      "its transaction id is 4294967295 bytes, expected the 4 that are left",
    ],
    [
      (b) => (b.set([0xff], 34), resealed(b)),
      "its transaction id is other bytes, expected UTF-8",
    ],
    [
      (b, v) => (v.setUint32(38, 0xab, true), b),
      "checksum is 0x000000ab, expected 0x",
    ],
  ];
  for (const [damage, message] of cases) {
    const bytes = binary.encode(record({ transactionId: "tx_1" }));
    const damaged = damage(bytes, new DataView(bytes.buffer));
    const expected = `Cannot decode binary entry: ${message}`;
    assertThrows(() => binary.decode(damaged), InvalidEntryError, expected);
    assertThrows(() => binary.decodeView(damaged), InvalidEntryError, expected);
  }
});

test("BinaryEncoder.decode() names both checksums", () => {
  const bytes = binary.encode(record());
  const right = crc32(bytes.subarray(0, 34)).toString(16).padStart(8, "0");
  bytes.set([0x78, 0x56, 0x34, 0x12], 34);
  const error = assertThrows(() => binary.decode(bytes), InvalidEntryError);
  assertEquals(
    error.message,
    "Cannot decode binary entry: checksum is 0x12345678, " +
      `expected 0x${right}`,
  );
});

test("BinaryEncoder.decode() refuses numbers above 2^53 - 1", () => {
  for (const [offset, field] of [[0, "index"], [8, "term"]] as const) {
    for (const value of [2n ** 53n, 2n ** 64n - 1n]) {
      const bytes = binary.encode(record());
      new DataView(bytes.buffer).setBigUint64(offset, value, true);
      assertThrows(
        () => binary.decode(resealed(bytes)),
        RangeError,
        `Cannot decode binary entry: ${field} is ${value}, ` +
          "expected at most 9007199254740991",
      );
    }
  }
});

test("JsonEncoder.decode() refuses numbers above 2^53 - 1", () => {
  for (const field of ["index", "term"]) {
    for (const value of [2n ** 53n, 2n ** 64n - 1n]) {
      const entry = text(json.encode(record()))
        .replace(new RegExp(`"${field}":\\d`), `"${field}":${value}`);
      assertThrows(
        () => json.decode(sealed(entry)),
        RangeError,
        `Cannot decode JSON entry: ${field} is ${value}, ` +
          "expected at most 9007199254740991",
      );
    }
  }
});

test("JsonEncoder.decode() says what is wrong", () => {
  const cases: [string, string, string][] = [
    ['{"index"', '{"Index"', 'byte 2 is 0x49, expected index":'],
    ['{"index"', ' {"index"', 'byte 0 is 0x20, expected {"index":'],
    ['"index":7', '"index":x', "byte 9 is 0x78, expected index's digits"],
    ['"index":7', '"index":-7', "byte 9 is 0x2d, expected index's digits"],
    ['"index":7', '"index":07', "byte 9 is 0x30, expected 7"],
    ['"index":7', '"index":7.0', 'byte 10 is 0x2e, expected ,"term":'],
    [
      '"index":7',
      '"index":18446744073709551616',
      "index is 18446744073709551616, expected 0 to 18446744073709551615",
    ],
    [
      '"index":7',
      `"index":${"7".repeat(21)}`,
      "byte 9 is 0x37, expected index's digits",
    ],
    [
      "1700000000123456789",
      "9223372036854775808",
      "timestamp is 9223372036854775808, expected -9223372036854775808 to",
    ],
    ["1700000000123456789", "-0", "is 0x2d, expected 0"],
    ["1700000000123456789", '"2023"', "is 0x22, expected timestamp's digits"],
    ["SGk=", "SGk", "its data is 3 other bytes, expected base64 with padding"],
    ["SGk=", "SG =", "its data is 4 other bytes, expected base64"],
    ["SGk=", "S===", "its data is 4 other bytes, expected base64"],
    // The two bits left over are not zero: another text for the same data.
    ["SGk=", "SGl=", "its data is 4 other bytes, expected base64"],
    ["SGk=", "SG-_", "its data is 4 other bytes, expected base64"],
    ["SGk=", "*A==", "its data is 4 other bytes, expected base64"],
    ["SGk=", "SGkx*GE=", "its data is 8 other bytes, expected base64"],
    ['"SGk="', "[72,105]", "is 0x5b, expected null"],
    ['""}', "null}", "its transaction_id is no string or written otherwise"],
    ['""}', '"\\u0041"}', "its transaction_id is no string or written"],
    ['""}', '"<"}', "its transaction_id is no string or written otherwise"],
    ['""}', '"" }', "its transaction_id is no string or written otherwise"],
    ['""}', '"",', "is 0x2c, expected }"],
    ['""}', '"', "its transaction_id is no string or written otherwise"],
    ["}", "}\n", "its transaction_id is no string or written otherwise"],
  ];
  for (const [found, replacement, message] of cases) {
    const entry = text(json.encode(record())).replace(found, replacement);
    const error = assertThrows(
      () => json.decode(sealed(entry)),
      InvalidEntryError,
      message,
    );
    assertEquals(error.message.startsWith("Cannot decode JSON entry: "), true);
  }
});

test("JsonEncoder.decode() says where the text ends", () => {
  const bytes = json.encode(record());
  assertThrows(
    () => json.decode(bytes.slice(0, 5)),
    InvalidEntryError,
    'Cannot decode JSON entry: it ends at byte 5, expected ex":',
  );
  assertThrows(
    () => json.decode(bytes.slice(0, 30)),
    InvalidEntryError,
    "it ends at byte 30, expected data's closing quote",
  );
});

test("JsonEncoder.decode() names both checksums", () => {
  const right = json.decode(json.encode(record())).checksum;
  const entry = text(json.encode(record()))
    .replace(`"checksum":${right}`, '"checksum":5');
  const error = assertThrows(() => json.decode(utf8(entry)), InvalidEntryError);
  const hex = right.toString(16).padStart(8, "0");
  assertEquals(
    error.message,
    `Cannot decode JSON entry: checksum is 0x00000005, expected 0x${hex}`,
  );
});

test("JsonEncoder.decode() reads null, which Go writes for nil data", () => {
  const entry = text(json.encode(record())).replace('"SGk="', "null");
  assertEquals(json.decode(sealed(entry)).data, new Uint8Array(0));
});

test("goFolderFormat() does not know our own header", () => {
  const random = new Random(SEED, 3);
  for (let i = 0; i < 20_000; i++) {
    const head = random.bytes(64);
    head.set([0x89, ...utf8("WALRUS\n"), 1, 0, 0, 0, 0, 16, 0, 0]);
    assertEquals(goFolderFormat(head, 64 * 1024 * 1024), undefined);
    // Neither with a damaged magic, whatever its log id.
    head[random.int(8)] ^= 1 << random.int(8);
    assertEquals(goFolderFormat(head, 64 * 1024 * 1024), undefined);
  }
});

test("goFolderFormat() does not know our header if its lengths fit", () => {
  const head = new Uint8Array(64);
  const view = new DataView(head.buffer);
  view.setUint32(28, 0x4c415789 - 40, true);
  head.set([0x88, ...utf8("WALRUS\n"), 1, 0, 0, 0, 0, 16, 0, 0]);
  assertEquals(goFolderFormat(head, 2 ** 31), "go-binary");
  head[0] = 0x89;
  assertEquals(goFolderFormat(head, 2 ** 31), undefined);
});

test("goFolderFormat() does not know impossible indexes and terms", () => {
  const entry = binary.encode(record());
  const file = new Uint8Array([entry.length, 0, 0, 0, ...entry]);
  const changes: [number, bigint][] = [[4, 0n], [4, 2n ** 53n], [
    12,
    2n ** 53n,
  ]];
  for (const [offset, value] of changes) {
    const wrong = file.slice();
    new DataView(wrong.buffer).setBigUint64(offset, value, true);
    assertEquals(goFolderFormat(wrong, wrong.length), undefined);
  }
});

test("goFolderFormat() does not know zeros, text or noise", () => {
  const random = new Random(SEED, 4);
  const heads = [
    new Uint8Array(64),
    new Uint8Array(64).fill(0xff),
    new Uint8Array(64).fill(0x20),
    utf8('{"index":1,"term":0,"data":"SGk=","checksum":1,"timestamp":0}'),
    utf8("Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do"),
  ];
  for (let i = 0; i < 20_000; i++) heads.push(random.bytes(64));
  for (const head of heads) {
    assertEquals(goFolderFormat(head, 65_536), undefined);
  }
});

test("goFolderFormat() does not know what is too short to tell", () => {
  const entry = binary.encode(record());
  const file = new Uint8Array([entry.length, 0, 0, 0, ...entry]);
  assertEquals(goFolderFormat(file, file.length), "go-binary");
  for (let end = 0; end < 32; end++) {
    assertEquals(goFolderFormat(file.slice(0, end), end), undefined);
  }
  assertEquals(goFolderFormat(new Uint8Array(0), 0), undefined);
});

test("goFolderFormat() checks that the lengths add up", () => {
  const entry = binary.encode(record({ transactionId: "tx_1" }));
  const file = new Uint8Array([entry.length, 0, 0, 0, ...entry]);
  for (const offset of [0, 1, 2, 3, 28, 29, 30, 31, 34, 35, 36, 37]) {
    const wrong = file.slice();
    wrong[offset] ^= 0x21;
    const head = wrong.subarray(0, GO_HEAD_BYTES);
    assertEquals(goFolderFormat(head, file.length), undefined);
  }
});
