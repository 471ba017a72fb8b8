import { Buffer } from "node:buffer";
import { describe, it } from "node:test";
import {
  BinaryEncoder,
  type Encoder,
  type EntryRecord,
  InvalidEntryError,
  JsonEncoder,
  UnsupportedFormatError,
  type Wal,
} from "../mod.ts";
import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import {
  block,
  entries,
  fingerprint,
  onEach,
  onEachTwin,
  readBytes,
  SEGMENT_BYTES,
  segmentNames,
  texts,
} from "./_wal.ts";

/** Stores entries turned over, and counts how it is called. */
class TurningEncoder implements Encoder {
  readonly name: string = "turned";
  encoded: EntryRecord[] = [];
  decodedCount = 0;

  byteLength(record: EntryRecord): number {
    return record.data.length + 1;
  }

  encode(record: EntryRecord): Uint8Array<ArrayBuffer> {
    this.encoded.push({ ...record, data: record.data.slice() });
    const bytes = new Uint8Array(record.data.length + 1);
    bytes.set(record.data);
    bytes.reverse();
    return bytes;
  }

  encodeInto(record: EntryRecord, target: Uint8Array<ArrayBuffer>): number {
    const bytes = this.encode(record);
    target.set(bytes);
    return bytes.length;
  }

  decode(bytes: Uint8Array<ArrayBuffer>): EntryRecord {
    this.decodedCount++;
    const data = bytes.slice(1).reverse();
    return {
      index: 0,
      term: 0,
      timestampNs: 0n,
      transactionId: undefined,
      data,
      checksum: 0,
    };
  }

  decodeView(bytes: Uint8Array<ArrayBuffer>): EntryRecord {
    return this.decode(bytes);
  }
}

/** A turning encoder that does something else when it encodes or decodes. */
function encoderWith(change: Partial<Encoder>): Encoder {
  return Object.assign(new TurningEncoder(), change);
}

/** The fields of an entry that every format keeps. */
function fields(wal: Wal): unknown[] {
  return Array.from(wal, ({ index, term, timestampNs, data, checksum }) => [
    index,
    term,
    timestampNs,
    Buffer.from(data).toString("hex"),
    checksum,
  ]);
}

const INPUTS = [
  "text ü 🦭",
  "",
  new Uint8Array([0, 255, 128, 10]),
  { data: "with term", term: 7, timestampNs: -1_234_567_890_123_456_789n },
  { data: block(20_000, 0xc3), term: Number.MAX_SAFE_INTEGER },
  { data: "last", timestampNs: 2n ** 63n - 1n },
];

describe("formats", () => {
  for (const name of ["binary", "json", "turned"] as const) {
    const make = () => name === "turned" ? new TurningEncoder() : name;

    onEachTwin(
      `${name}: all fields come back, also after reopening`,
      async (place, twin) => {
        const wal = await twin.open(place, { format: make() });
        for (const input of INPUTS) await twin.append(wal, input);
        await twin.appendBatch(wal, INPUTS);
        const before = fields(wal);
        assertEquals(before.length, 12);
        assertEquals(wal.get(1).text(), "text ü 🦭");
        assertEquals(wal.get(3).data, new Uint8Array([0, 255, 128, 10]));
        assertEquals(wal.get(4).term, 7);
        assertEquals(wal.get(4).timestampNs, -1_234_567_890_123_456_789n);
        assertEquals(wal.get(5).data, block(20_000, 0xc3));
        await twin.close(wal);
        {
          using again = await twin.open(place, { format: make() });
          assertEquals(fields(again), before);
          await twin.truncateAfter(again, 7);
          await twin.append(again, "after");
          assertEquals(again.length, 8);
        }
        // A built-in format is the log's own: nobody has to name it.
        if (name === "turned") {
          place.sound = false;
          return;
        }
        using last = await twin.open(place);
        assertEquals(last.get(8).text(), "after");
        assertEquals(fields(last).slice(0, 7), before.slice(0, 7));
      },
    );

    onEachTwin(
      `${name}: entries larger than a segment, and rotation`,
      async (place, twin) => {
        const wal = await twin.open(place, { format: make() });
        await twin.append(wal, block(3 * SEGMENT_BYTES, 1));
        for (let i = 0; i < 10; i++) await twin.append(wal, block(20_000, i));
        await twin.close(wal);
        using again = await twin.open(place, { format: make() });
        assertEquals(again.length, 11);
        assertEquals(again.get(1).data, block(3 * SEGMENT_BYTES, 1));
        for (let i = 0; i < 10; i++) {
          assertEquals(again.get(i + 2).data, block(20_000, i));
        }
        place.sound = name !== "turned";
      },
    );

    onEachTwin(
      `${name}: another format is refused, every byte as before`,
      async (place, twin) => {
        const wal = await twin.open(place, { format: make() });
        await twin.append(wal, "x");
        await twin.close(wal);
        place.sound = false;
        const before = fingerprint(place);
        const others: (Encoder | "binary" | "json" | undefined)[] = [
          encoderWith({ name: "other" }),
        ];
        if (name !== "binary") others.push("binary", new BinaryEncoder());
        if (name !== "json") others.push("json", new JsonEncoder());
        if (name !== "turned") others.push(new TurningEncoder());
        else others.push(undefined);
        for (const format of others) {
          const error = await assertRejects(
            () => twin.open(place, { format }),
            UnsupportedFormatError,
          );
          assertStrictEquals(error.code, "UNSUPPORTED_FORMAT");
          assertEquals(error.found, name);
          assert(Array.isArray(error.supported));
          assertStringIncludes(error.message, `"${name}"`);
          assertStringIncludes(error.message, "expected");
          assertEquals(fingerprint(place), before);
        }
        using again = await twin.open(place, { format: make() });
        assertEquals(texts(again), ["x"]);
      },
    );
  }

  onEachTwin(
    "an own BinaryEncoder or JsonEncoder is the format of that name",
    async (place, twin) => {
      const first = await twin.open(place, { format: new JsonEncoder() });
      await twin.append(first, "x");
      await twin.close(first);
      using again = await twin.open(place, { format: "json" });
      assertEquals(texts(again), ["x"]);
    },
  );

  onEachTwin("json stores the Go library's JSON", async (place, twin) => {
    const wal = await twin.open(place, { format: "json" });
    await twin.append(wal, { data: "Hi", term: 3, timestampNs: 5n });
    await twin.close(wal);
    const bytes = readBytes(place, segmentNames(place)[0]!);
    const text = new TextDecoder("latin1").decode(bytes);
    const json = /\{"index":1[^}]*\}/.exec(text)?.[0] ?? "";
    const { checksum, ...rest } = JSON.parse(json);
    assertEquals(typeof checksum, "number");
    assertEquals(rest, {
      index: 1,
      term: 3,
      data: "SGk=",
      timestamp: 5,
      transaction_id: "",
    });
  });
});

describe("custom encoders", () => {
  onEachTwin("get every field of the entry", async (place, twin) => {
    const encoder = new TurningEncoder();
    const wal = await twin.open(place, { format: encoder });
    await twin.append(wal, { data: "one", term: 4, timestampNs: 77n });
    await twin.appendBatch(wal, ["two", { data: "three", timestampNs: -1n }]);
    assertEquals(encoder.encoded.length, 3);
    const [one, two, three] = encoder.encoded as [
      EntryRecord,
      EntryRecord,
      EntryRecord,
    ];
    assertEquals([one.index, two.index, three.index], [1, 2, 3]);
    assertEquals([one.term, two.term, three.term], [4, 4, 4]);
    assertEquals([one.timestampNs, three.timestampNs], [77n, -1n]);
    assertEquals(one.transactionId, undefined);
    assertEquals(one.data, new TextEncoder().encode("one"));
    assertEquals(one.checksum, wal.get(1).checksum);
    assertEquals(texts(wal), ["one", "two", "three"]);
    assertEquals(wal.get(1).term, 4);
    assertEquals(wal.get(3).timestampNs, -1n);
    await twin.close(wal);
    place.sound = false;
  });

  onEach("that read while they decode mix up no entries", async (place) => {
    let nested: number | undefined;
    const turning = new TurningEncoder();
    const encoder = encoderWith({
      encode: (record) => turning.encode(record),
      decode(bytes): EntryRecord {
        const index = nested;
        nested = undefined;
        if (index !== undefined) wal.get(index);
        return turning.decode(bytes);
      },
    });
    await using wal = await place.open({ format: encoder });
    for (let i = 1; i <= 300; i++) {
      wal.appendSync({ data: "d".repeat(i), term: i });
    }
    for (const index of [5, 290, 5]) {
      wal.get(290);
      nested = 300;
      const entry = wal.get(index);
      assertEquals([nested, entry.term, entry.data.length], [
        undefined,
        index,
        index,
      ]);
    }
    place.sound = false;
  });

  onEachTwin(
    "that write into the data change nothing of the caller's",
    async (place, twin) => {
      const encoder = encoderWith({
        encode(record): Uint8Array<ArrayBuffer> {
          const bytes = new Uint8Array(record.data.length + 1);
          bytes.set(record.data);
          record.data.fill(0);
          return bytes.reverse();
        },
      });
      await using wal = await twin.open(place, { format: encoder });
      const data = new Uint8Array([1, 2, 3]);
      await twin.append(wal, data);
      assertEquals(data, new Uint8Array([1, 2, 3]));
      assertEquals(wal.get(1).data, data);
      place.sound = false;
    },
  );

  onEachTwin("that return the data itself", async (place, twin) => {
    const encoder = encoderWith({
      encode: (record) => record.data,
      decode: (bytes) => ({ data: bytes }) as EntryRecord,
    });
    await using wal = await twin.open(place, { format: encoder });
    const data = block(3, 1);
    const done = [twin.append(wal, data), twin.appendBatch(wal, [data, data])];
    data.fill(9);
    await Promise.all(done);
    assertEquals(Array.from(wal, (entry) => entry.data), [
      block(3, 1),
      block(3, 1),
      block(3, 1),
    ]);
    wal.get(1).data.fill(7);
    assertEquals(wal.get(1).data, block(3, 1));
    place.sound = false;
  });

  onEachTwin("that throw: nothing is written", async (place, twin) => {
    const mine = new Error("mine");
    let failing = false;
    const own = new TurningEncoder();
    const encoder = encoderWith({
      encode(record): Uint8Array<ArrayBuffer> {
        if (failing && record.data.length === 3) throw mine;
        return own.encode(record);
      },
    });
    await using wal = await twin.open(place, { format: encoder });
    await twin.append(wal, "one");
    const { bytesWritten } = wal.stats();
    failing = true;
    const single = await assertRejects(() => twin.append(wal, "two"));
    assertStrictEquals(single, mine);
    const batch = ["longer", "two"];
    const several = await assertRejects(() => twin.appendBatch(wal, batch));
    assertStrictEquals(several, mine);
    assertEquals([wal.lastIndex, wal.stats().bytesWritten], [1, bytesWritten]);
    assertEquals(wal.state, "open");
    assertEquals(await twin.append(wal, "longer"), 2);
    assertEquals(texts(wal), ["one", "longer"]);
    place.sound = false;
  });

  onEachTwin("that return rubbish: InvalidEntryError", async (place, twin) => {
    let rubbish: unknown;
    const encoder = encoderWith({ encode: () => rubbish as never });
    await using wal = await twin.open(place, { format: encoder });
    const values = [
      undefined,
      null,
      "text",
      5,
      {},
      [1, 2],
      new ArrayBuffer(3),
      new Uint16Array(3),
      Promise.resolve(new Uint8Array(1)),
    ];
    for (rubbish of values) {
      for (
        const call of [
          () => twin.append(wal, "x"),
          () => twin.appendBatch(wal, ["x", "y"]),
        ]
      ) {
        const error = await assertRejects(call, InvalidEntryError, "turned");
        assertStrictEquals(error.code, "INVALID_ENTRY");
        assertStringIncludes(error.message, "expected");
      }
    }
    assertEquals([wal.lastIndex, wal.stats().bytesWritten], [0, 0]);
    place.sound = false;
  });

  onEachTwin(
    "that cannot decode: the error comes from the read",
    async (place, twin) => {
      const mine = new Error("mine");
      let result: () => unknown = () => {
        throw mine;
      };
      const encoder = encoderWith({ decode: () => result() as EntryRecord });
      await using wal = await twin.open(place, { format: encoder });
      await twin.append(wal, "x");
      assertStrictEquals(assertThrows(() => wal.get(1)), mine);
      assertStrictEquals(assertThrows(() => wal.at(1)), mine);
      assertStrictEquals(assertThrows(() => [...wal]), mine);
      for (const rubbish of [undefined, null, {}, { data: "text" }, 5]) {
        result = () => rubbish;
        const error = assertThrows(
          () => wal.get(1),
          InvalidEntryError,
          "turned",
        );
        assertStringIncludes(error.message, "expected");
      }
      assertEquals(wal.state, "open");
      place.sound = false;
    },
  );

  onEachTwin(
    "that append inside encode: both entries stand",
    async (place, twin) => {
      const opened: { wal?: Wal } = {};
      let nested = false;
      const own = new TurningEncoder();
      const encoder = encoderWith({
        encode(record): Uint8Array<ArrayBuffer> {
          const bytes = own.encode(record);
          if (!nested) {
            nested = true;
            try {
              opened.wal!.appendSync("inner");
            } catch (error) {
              // A refusal is as good as an entry.
              assertInstanceOf(error, Error);
            }
          }
          return bytes;
        },
      });
      const wal = await twin.open(place, { format: encoder });
      opened.wal = wal;
      const outer = await twin.append(wal, "outer").then(
        () => true,
        () => false,
      );
      nested = false;
      await twin.appendBatch(wal, ["a", "b"]).catch(() => {});
      nested = true;
      await twin.append(wal, "last");
      const found = texts(wal);
      assertEquals(found.at(-1), "last");
      assertEquals(found.includes("outer"), outer);
      assertEquals(found.length, wal.lastIndex);
      await twin.close(wal);
      using again = await twin.open(place, { format: new TurningEncoder() });
      assertEquals(texts(again), found);
      place.sound = false;
    },
  );

  onEach(
    "a longer payload than the entry's data counts for the segment",
    async (place) => {
      const encoder = encoderWith({
        encode: (record) => new Uint8Array(40_000).fill(record.data[0]!),
        decode: (bytes) => ({ data: bytes.slice(0, 1) }) as EntryRecord,
      });
      await using wal = await place.open({ format: encoder });
      for (const text of entries(5)) await wal.append(text);
      assertEquals(wal.segments().length, 5);
      assertEquals(texts(wal).join(""), "eeeee");
      place.sound = false;
    },
  );

  it("the name is at most 32 bytes of UTF-8, and is kept", async () => {
    const { memoryStorage, openWal } = await import("../mod.ts");
    for (const name of ["x", "é".repeat(16), "x".repeat(32), " spaced "]) {
      const storage = memoryStorage();
      const wal = await openWal("/log", {
        storage,
        format: encoderWith({ name }),
      });
      await wal.append("x");
      await wal.close();
      const error = await assertRejects(
        () => openWal("/log", { storage }),
        UnsupportedFormatError,
      );
      assertEquals(error.found, name);
      const again = await openWal("/log", {
        storage,
        format: encoderWith({ name }),
      });
      assertEquals(texts(again), ["x"]);
      await again.close();
    }
  });
});
