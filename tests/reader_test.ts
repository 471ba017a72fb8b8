/**
 * Readers: they show the log beside its writer, need no lock, refuse
 * what cannot be read, and change nothing.
 *
 * @module
 */
import { cpSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import {
  ChecksumMismatchError,
  type Encoder,
  IndexOutOfRangeError,
  JsonEncoder,
  type Logger,
  openReader,
  openReaderSync,
  type ReaderOptions,
  SegmentNotFoundError,
  StorageError,
  UnsupportedFormatError,
  WalClosedError,
  WalCorruptedError,
  WalReader,
} from "../mod.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import {
  frameOffsets,
  killedLog,
  LOG,
  plantFiles,
  sameFiles,
  segmentFile,
  takeFiles,
} from "./_log_bytes.ts";
import { temporaryFolder } from "./_storages.ts";
import {
  entries,
  fingerprint,
  inFolder,
  listFiles,
  onEach,
  type Place,
  putBytes,
  readBytes,
  REAL,
  removeFile,
  segmentNames,
  systemFingerprint,
} from "./_wal.ts";

/** Both twins by one face. */
const READERS: readonly [
  string,
  (place: Place, options?: ReaderOptions) => Promise<WalReader>,
][] = [
  [
    "openReader",
    (place, options) =>
      openReader(place.path, { storage: place.storage, ...options }),
  ],
  ["openReaderSync", (place, options) =>
    new Promise((resolve) =>
      resolve(
        openReaderSync(place.path, { storage: place.storage, ...options }),
      )
    )],
];

function onEachReader(
  title: string,
  body: (
    place: Place,
    open: (options?: ReaderOptions) => Promise<WalReader>,
  ) => Promise<void>,
): void {
  for (const [name, open] of READERS) {
    onEach(
      `${name}(): ${title}`,
      (place) => body(place, (options) => open(place, options)),
    );
  }
}

function textsOf(reader: WalReader): string[] {
  return Array.from(reader, (entry) => entry.text());
}

/** A closed log of ten entries in two segments. */
async function fillTen(place: Place): Promise<void> {
  await using wal = await place.open();
  await wal.appendBatch(entries(4));
  await wal.rotate();
  await wal.appendBatch(entries(6, 5));
}

describe("openReader()", () => {
  onEachReader("shows what a writer wrote", async (place, open) => {
    await fillTen(place);
    const before = fingerprint(place);
    const reader = await open();
    assert(reader instanceof WalReader);
    assertFalse("append" in reader);
    assertEquals(reader.state, "open");
    assertEquals(
      [reader.firstIndex, reader.lastIndex, reader.nextIndex, reader.length],
      [1, 10, 11, 10],
    );
    assertEquals(reader.durableIndex, 10);
    assertEquals(textsOf(reader), entries(10));
    assertEquals(reader.get(7).text(), "entry 7");
    assertStrictEquals(reader.at(11), undefined);
    assertThrows(() => reader.get(11), IndexOutOfRangeError);
    assertEquals(reader.getRange(4, 99).length, 7);
    assertEquals(reader.segments().map(({ sealed }) => sealed), [true, false]);
    const { outcome, entryCount, gaps, tornBytes, savedPath } = reader.recovery;
    assertEquals([outcome, entryCount, tornBytes], ["clean", 10, 0]);
    assertEquals([gaps, savedPath], [[], undefined]);
    await reader.close();
    await reader.close();
    assertEquals(reader.state, "closed");
    assertThrows(() => reader.get(1), WalClosedError);
    assertThrows(() => reader.entries(), WalClosedError);
    assertEquals(fingerprint(place), before, "a reader changes nothing");
  });

  onEachReader("names damage in a file that is gone", async (place, open) => {
    await fillTen(place);
    await using reader = await open();
    assertEquals(reader.get(2).text(), "entry 2");
    const [name] = segmentNames(place);
    const sound = readBytes(place, name!);
    const at = frameOffsets(sound)[2]! + 40;
    inFolder(place, (folder) => {
      const file = folder.open(name!, "write")!;
      file.writeAt(new Uint8Array([sound[at]! ^ 1]), at);
      file.close();
    });
    // As a reader stands that has not looked since the writer removed it.
    removeFile(place, name!);
    try {
      assertEquals(reader.get(3).text(), "entry 3", "read before");
    } catch (error) {
      assert(
        error instanceof ChecksumMismatchError ||
          error instanceof SegmentNotFoundError,
        `${error}`,
      );
    }
    putBytes(place, name!, sound);
  });

  onEachReader("shows an empty log", async (place, open) => {
    await (await place.open()).close();
    await using reader = await open();
    assertEquals([reader.firstIndex, reader.lastIndex], [0, 0]);
    assertEquals([reader.durableIndex, reader.nextIndex], [0, 1]);
    assertEquals(textsOf(reader), []);
  });

  onEachReader(
    "shows what a writer appends later",
    async (place, open) => {
      await using wal = await place.open();
      await wal.append("one");
      await using reader = await open();
      assertThrows(() => reader.get(2), IndexOutOfRangeError);
      await wal.append("two");
      assertEquals(reader.get(2).text(), "two");
      assertEquals([reader.lastIndex, reader.durableIndex], [2, 2]);
      wal.appendSync("three", { durable: false });
      assertEquals(textsOf(reader), ["one", "two", "three"]);
      assertEquals([reader.lastIndex, reader.durableIndex], [3, 2]);
      await using later = await open();
      assertEquals(textsOf(later), ["one", "two", "three"]);
      assertThrows(() => reader.get(4), IndexOutOfRangeError);
    },
  );

  onEachReader(
    "where there is no log: nothing is made",
    async (place, open) => {
      const missing = await assertRejects(() => open(), SegmentNotFoundError);
      assertEquals((missing as SegmentNotFoundError).path, place.path);
      assertEquals(listFiles(place), undefined);
      for (const recovery of [undefined, "salvage"] as const) {
        place.storage.openDirectory(place.path, {
          create: true,
          directoryMode: 0o750,
          fileMode: 0o640,
        })!.close();
        await assertRejects(() => open({ recovery }), SegmentNotFoundError);
        assertEquals(listFiles(place), []);
      }
    },
  );

  onEachReader("a log that is damaged is refused", async (place, open) => {
    await fillTen(place);
    place.sound = false;
    const manifest = readBytes(place, "manifest");
    manifest[80]! ^= 1;
    putBytes(place, "manifest", manifest);
    const error = await assertRejects(() => open(), WalCorruptedError);
    assertStringIncludes(error.message, "manifest");
  });

  it("openReader(): a torn tail is left out, and left alone", async () => {
    const files = killedLog((wal) => {
      wal.appendBatchSync(entries(3));
      wal.appendSync("entry 4", { durable: false });
    });
    const bytes = files.get(segmentFile(1))!;
    bytes[frameOffsets(bytes)[3]! + 41]! ^= 1;
    // What is shown to readers is lost with the page cache, as entry 4 is.
    files.delete("live");
    const storage = plantFiles(files);
    for (const recovery of [undefined, "salvage"] as const) {
      await using reader = await openReader(LOG, { storage, recovery });
      assertEquals(textsOf(reader), entries(3));
      const { outcome, tornBytes, gaps } = reader.recovery;
      assertEquals([outcome, gaps], ["torn", []]);
      assertEquals(tornBytes, 47);
      assertEquals(reader.durableIndex, 0);
    }
    assert(sameFiles(takeFiles(storage), files), "a reader changes nothing");
  });

  it("openReader(): what a dead writer has shown is no torn tail", async () => {
    const files = killedLog((wal) => {
      wal.appendBatchSync(entries(3));
      wal.appendSync("entry 4", { durable: false });
    });
    {
      await using reader = await openReader(LOG, {
        storage: plantFiles(files),
      });
      assertEquals(textsOf(reader), entries(4));
      assertEquals([reader.lastIndex, reader.durableIndex], [4, 3]);
    }
    const bytes = files.get(segmentFile(1))!;
    bytes[frameOffsets(bytes)[3]! + 41]! ^= 1;
    await using reader = await openReader(LOG, { storage: plantFiles(files) });
    assertEquals(reader.lastIndex, 3);
    assertThrows(() => textsOf(reader), ChecksumMismatchError);
    assertEquals(reader.get(3).text(), "entry 3");
    const follower = reader.follow();
    for (let index = 1; index <= 3; index++) {
      assertEquals((await follower.next()).value!.index, index);
    }
    const error = await assertRejects(
      () => follower.next(),
      ChecksumMismatchError,
    ) as ChecksumMismatchError;
    assertEquals([error.index, error.offset], [4, frameOffsets(bytes)[3]]);
  });

  onEachReader(
    "an encoder is used, and must be the log's",
    async (place, open) => {
      place.sound = false;
      await using wal = await place.open({ format: upside });
      await wal.append("abc");
      await wal.close();
      await using reader = await open({ format: upside });
      assertEquals(textsOf(reader), ["abc"]);
      const none = await assertRejects(() => open(), UnsupportedFormatError);
      assertStringIncludes(none.message, '"upside"');
      const other = await assertRejects(
        () => open({ format: new JsonEncoder() }),
        UnsupportedFormatError,
      ) as UnsupportedFormatError;
      assertEquals([other.found, other.supported], ["upside", ["json"]]);
    },
  );

  onEachReader("verifyReads: false gives up the check", async (place, open) => {
    await fillTen(place);
    place.sound = false;
    const name = segmentNames(place)[0]!;
    const bytes = readBytes(place, name);
    bytes[frameOffsets(bytes)[1]! + 40]! ^= 0x20;
    putBytes(place, name, bytes);
    await using checked = await open();
    assertThrows(() => checked.get(2), ChecksumMismatchError);
    assertEquals(checked.get(3).text(), "entry 3");
    await using unchecked = await open({ verifyReads: false });
    assertEquals(unchecked.get(2).text(), "Entry 2");
  });

  onEachReader("tells the logger of a damaged index", async (place, open) => {
    await fillTen(place);
    place.sound = false;
    const name = segmentNames(place)[0]!;
    const bytes = readBytes(place, name);
    bytes.fill(0xaa, bytes.length - 64 - 280, bytes.length - 64);
    putBytes(place, name, bytes);
    const told: string[] = [];
    const tell = (message: string) => void told.push(message);
    const logger: Logger = { debug: tell, info: tell, warn: tell, error: tell };
    await using reader = await open({ logger });
    assertEquals(textsOf(reader), entries(10));
    await new Promise((resolve) => setTimeout(resolve, 0));
    assertStringIncludes(told.join(), "is damaged; its frames are read");
  });

  onEachReader("durableIndex: what a mark vouches for", async (place, open) => {
    await using wal = await place.open({ sync: "never" });
    for (const text of entries(3)) await wal.append(text);
    await wal.flush();
    // Its frame carries the mark of that sync.
    await wal.append("entry 4");
    await using reader = await open();
    assertEquals(textsOf(reader), entries(4));
    assertEquals(reader.durableIndex, 3);
  });
});

const upside: Encoder = {
  name: "upside",
  byteLength: ({ data }) => data.length,
  encode: ({ data }) => data.slice().reverse(),
  encodeInto: ({ data }, target) => {
    target.set(data.slice().reverse());
    return data.length;
  },
  decode: (bytes) => ({
    index: 0,
    term: 0,
    timestampNs: 0n,
    transactionId: undefined,
    data: bytes.slice().reverse(),
    checksum: 0,
  }),
  decodeView: (bytes) => upside.decode(bytes),
};

describe("openReader(): its options", () => {
  it("are all checked before anything is read", async () => {
    const wrong: [unknown, new (message?: string) => Error, string][] = [
      [null, TypeError, "options is null"],
      [5, TypeError, "options is 5"],
      [{ sync: "always" }, TypeError, '"sync" is not an option'],
      [{ segmentBytes: 65536 }, TypeError, '"segmentBytes" is not an option'],
      [{ format: "json" }, TypeError, "expected an encoder"],
      [{ format: 7 }, TypeError, "format is 7"],
      [{ format: { name: "x" } }, TypeError, "encode and decode"],
      [{ format: { ...upside, name: "" } }, RangeError, "1 to 32 bytes"],
      [{ verifyReads: 1 }, TypeError, "verifyReads is 1"],
      [{ logger: {} }, TypeError, "logger is"],
      [{ storage: {} }, TypeError, "storage is"],
      [{ recovery: true }, TypeError, 'expected "salvage" or none'],
      [{ recovery: "tail" }, RangeError, 'recovery is "tail"'],
    ];
    for (const [options, kind, message] of wrong) {
      const call = () => openReaderSync("nowhere", options as ReaderOptions);
      assertStringIncludes(assertThrows(call, kind).message, message);
      const later = openReader("nowhere", options as ReaderOptions);
      await assertRejects(() => later, kind as never);
    }
    for (const directory of ["", 7, new URL("https://example.com/")]) {
      const call = () => openReaderSync(directory as string);
      assertThrows(call, TypeError);
    }
  });

  it("may be undefined one by one", async () => {
    using folder = temporaryFolder();
    const options = {
      format: undefined,
      verifyReads: undefined,
      logger: undefined,
      storage: undefined,
      recovery: undefined,
    };
    const path = join(folder.path, "none");
    await assertRejects(() => openReader(path, options), SegmentNotFoundError);
  });
});

describe("openReader() and folders of the system", () => {
  onEach("changes no byte, not even of the lock files", async (place) => {
    await fillTen(place);
    const before = systemFingerprint(place.path);
    for (const recovery of [undefined, "salvage"] as const) {
      const { storage } = place;
      await using reader = await openReader(place.path, { storage, recovery });
      assertEquals(textsOf(reader), entries(10));
      assertEquals(systemFingerprint(place.path), before);
    }
    assertEquals(systemFingerprint(place.path), before);
  }, REAL);

  onEach("a folder of the Go library is refused", async (place) => {
    place.sound = false;
    const go = new URL("./fixtures/go/binary/log", import.meta.url);
    cpSync(go, place.path, { recursive: true });
    const before = systemFingerprint(place.path);
    for (const recovery of [undefined, "salvage"] as const) {
      const { storage } = place;
      await assertRejects(
        () => openReader(place.path, { storage, recovery }),
        UnsupportedFormatError,
      );
    }
    assertEquals(systemFingerprint(place.path), before);
  }, REAL);

  onEach("a path that is no folder: StorageError", async (place) => {
    await fillTen(place);
    const path = join(place.path, "manifest");
    const { storage } = place;
    await assertRejects(() => openReader(path, { storage }), StorageError);
  }, REAL);
});
