import { existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import * as mod from "../mod.ts";
import {
  BinaryEncoder,
  defaultOptions,
  type Encoder,
  JsonEncoder,
  openWal,
  openWalSync,
  StorageError,
  type WalOptions,
} from "../mod.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import { temporaryFolder } from "./_storages.ts";
import {
  listFiles,
  onEach,
  onEachTwin,
  REAL,
  SEGMENT_BYTES,
  texts,
} from "./_wal.ts";

/** Options of a wrong type, and what the message must name. */
const WRONG_TYPES: readonly [Record<string, unknown>, string][] = [
  [{ segmentBytes: "65536" }, 'segmentBytes is "65536"'],
  [{ segmentBytes: 65536n }, "segmentBytes is 65536n"],
  [{ segmentBytes: null }, "segmentBytes is null"],
  [{ sync: true }, "sync is true"],
  [{ sync: null }, "sync is null"],
  [{ syncIntervalMs: "1" }, 'syncIntervalMs is "1"'],
  [{ syncIntervalMs: null }, "syncIntervalMs is null"],
  ...(["transactionTimeoutMs", "transactionCleanupIntervalMs"] as const)
    .flatMap((name): [Record<string, unknown>, string][] => [
      [{ [name]: "1" }, `${name} is "1"`],
      [{ [name]: 1n }, `${name} is 1n`],
      [{ [name]: null }, `${name} is null`],
      [{ [name]: true }, `${name} is true`],
      [{ [name]: new Date(5) }, `${name} is an object of Date`],
    ]),
  [{ maxTransactionEntries: "1000" }, 'maxTransactionEntries is "1000"'],
  [{ maxTransactionEntries: 1n }, "maxTransactionEntries is 1n"],
  [{ maxTransactionEntries: null }, "maxTransactionEntries is null"],
  [{ maxTransactionEntries: [] }, "maxTransactionEntries is an array"],
  [{ maxEntryBytes: {} }, "maxEntryBytes is"],
  [{ maxEntryBytes: 1n }, "maxEntryBytes is 1n"],
  [{ verifyReads: 1 }, "verifyReads is 1"],
  [{ verifyReads: "no" }, 'verifyReads is "no"'],
  [{ verifyReads: null }, "verifyReads is null"],
  [{ recovery: 1 }, "recovery is 1"],
  [{ recovery: null }, "recovery is null"],
  [{ directoryMode: "750" }, 'directoryMode is "750"'],
  [{ fileMode: null }, "fileMode is null"],
  [{ fileMode: 0o640n }, "fileMode is"],
  [{ format: 5 }, "format is 5"],
  [{ format: null }, "format is null"],
  [{ format: {} }, "format is"],
  [{ format: { name: "x", encode(): void {} } }, "format is"],
  [{ format: BinaryEncoder }, "format is"],
  [{ logger: 5 }, "logger is 5"],
  [{ logger: null }, "logger is null"],
  [{ logger: { debug(): void {} } }, "logger is"],
  [{ logger: () => {} }, "logger is"],
  [{ storage: "files" }, 'storage is "files"'],
  [{ storage: null }, "storage is null"],
  [{ storage: { kind: "files" } }, "storage is"],
];

/** Options of the right type with a wrong value. */
const WRONG_VALUES: readonly [Record<string, unknown>, string][] = [
  [{ segmentBytes: 65535 }, "segmentBytes is 65535"],
  [{ segmentBytes: 0 }, "segmentBytes is 0"],
  [{ segmentBytes: -65536 }, "segmentBytes is -65536"],
  [{ segmentBytes: 2 ** 30 + 1 }, "segmentBytes is 1073741825"],
  [{ segmentBytes: 70000.5 }, "segmentBytes is 70000.5"],
  [{ segmentBytes: NaN }, "segmentBytes is NaN"],
  [{ segmentBytes: Infinity }, "segmentBytes is Infinity"],
  [{ sync: "Always" }, 'sync is "Always"'],
  [{ sync: "" }, 'sync is ""'],
  [{ syncIntervalMs: 0 }, "syncIntervalMs is 0"],
  [{ syncIntervalMs: -1 }, "syncIntervalMs is -1"],
  [{ syncIntervalMs: 1.5 }, "syncIntervalMs is 1.5"],
  [{ syncIntervalMs: 2 ** 31 }, "syncIntervalMs is 2147483648"],
  [{ syncIntervalMs: NaN }, "syncIntervalMs is NaN"],
  ...(["transactionTimeoutMs", "transactionCleanupIntervalMs"] as const)
    .flatMap((name) =>
      [0, -1, 0.5, NaN, Infinity, -Infinity, 2 ** 31].map(
        (ms): [Record<string, unknown>, string] => [
          { [name]: ms },
          `${name} is ${ms}`,
        ],
      )
    ),
  ...[0, -1, 1.5, NaN, Infinity, 2 ** 24 + 1, 2 ** 53].map(
    (count): [Record<string, unknown>, string] => [
      { maxTransactionEntries: count },
      `maxTransactionEntries is ${count}`,
    ],
  ),
  [{ maxEntryBytes: -1 }, "maxEntryBytes is -1"],
  [{ maxEntryBytes: 2 ** 30 + 1 }, "maxEntryBytes is"],
  [{ maxEntryBytes: 0.5 }, "maxEntryBytes is 0.5"],
  [{ recovery: "salvage" }, 'recovery is "salvage"'],
  [{ recovery: "Tail" }, 'recovery is "Tail"'],
  [{ directoryMode: -1 }, "directoryMode is -1"],
  [{ directoryMode: 0o10000 }, "directoryMode is"],
  [{ fileMode: 1.5 }, "fileMode is 1.5"],
  [{ format: "xml" }, 'format is "xml"'],
  [{ format: "" }, 'format is ""'],
  [{ format: encoderNamed("") }, 'name is ""'],
  [{ format: encoderNamed("x".repeat(33)) }, "name is"],
  [{ format: encoderNamed("é".repeat(17)) }, "name is"],
  [{ format: encoderNamed("a\0b") }, "name is"],
  [{ format: encoderNamed("a\ud800") }, "name is"],
  [{ format: encoderNamed("binary") }, '"binary"'],
  [{ format: encoderNamed("json") }, '"json"'],
];

function encoderNamed(name: string): Encoder {
  const own = new JsonEncoder();
  return {
    name,
    byteLength: (record) => own.byteLength(record),
    encode: (record) => own.encode(record),
    encodeInto: (record, target) => own.encodeInto(record, target),
    decode: (bytes) => own.decode(bytes),
    decodeView: (bytes) => own.decodeView(bytes),
  };
}

describe("openWal(): options", () => {
  for (
    const [kind, errorClass, table] of [
      ["wrong type", TypeError, WRONG_TYPES],
      ["wrong value", RangeError, WRONG_VALUES],
    ] as const
  ) {
    for (const [options, found] of table) {
      const [name] = Object.keys(options);
      it(`${kind} of ${name}: ${errorClass.name}: ${found}`, async () => {
        using folder = temporaryFolder();
        const path = join(folder.path, "a", "log");
        const given = options as WalOptions;
        const thrown = assertThrows(
          () => openWalSync(path, given),
          errorClass,
          found,
        );
        assertStringIncludes(thrown.message, name!);
        assertStringIncludes(thrown.message, "Cannot open log");
        assertStringIncludes(thrown.message, "expected");
        const rejected = await assertRejects(
          () => openWal(path, given),
          errorClass,
          found,
        );
        assertEquals(rejected.message, thrown.message);
        assertFalse(existsSync(join(folder.path, "a")), "a folder was made");
      });
    }
  }

  it("unknown names: TypeError that names what there is", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "log");
    for (const name of ["segmentbytes", "Sync", "bufferSize", "mode", "0"]) {
      const options = { [name]: undefined } as WalOptions;
      const error = assertThrows(
        () => openWalSync(path, options),
        TypeError,
        name,
      );
      assertStringIncludes(error.message, "segmentBytes");
      await assertRejects(() => openWal(path, options), TypeError, name);
    }
    for (const options of [null, 5, "always", true, () => {}]) {
      const error = assertThrows(
        () => openWalSync(path, options as WalOptions),
        TypeError,
        "options is",
      );
      assertStringIncludes(error.message, "expected");
      await assertRejects(
        () => openWal(path, options as WalOptions),
        TypeError,
      );
    }
    assertFalse(existsSync(path));
  });

  onEachTwin("undefined counts as absent", async (place, twin) => {
    const names = Object.keys(defaultOptions);
    const { storage } = place;
    const none = Object.fromEntries(names.map((name) => [name, undefined]));
    const options = { ...none, format: undefined, logger: undefined };
    await using wal = await twin.open(place, {
      ...options,
      storage,
      segmentBytes: SEGMENT_BYTES,
    });
    assertEquals(await twin.append(wal, "x"), 1);
    assertEquals(wal.durableIndex, 1);
  });

  onEach("the edges of every range are allowed", async (place) => {
    const least: WalOptions = {
      segmentBytes: 65536,
      syncIntervalMs: 1,
      transactionTimeoutMs: 1,
      transactionCleanupIntervalMs: 1,
      maxTransactionEntries: 1,
      maxEntryBytes: 0,
      format: encoderNamed("x"),
    };
    const wal = await place.open(least);
    await wal.append("");
    await assertRejects(() => wal.append("x"), mod.InvalidEntryError);
    await wal.close();
    const again = await place.open({
      segmentBytes: 2 ** 30,
      syncIntervalMs: 2 ** 31 - 1,
      transactionTimeoutMs: 2 ** 31 - 1,
      transactionCleanupIntervalMs: 2 ** 31 - 1,
      maxTransactionEntries: 2 ** 24,
      sync: "interval",
      format: encoderNamed("x"),
      recovery: "strict",
    });
    await again.close();
    place.sound = false;
  });

  onEach("segmentBytes is rounded up to the page size", async (place) => {
    const wal = await place.open({ segmentBytes: 65537 });
    const [segment] = wal.segments();
    assertEquals(segment!.bytes % 4096, 0);
    assertEquals(segment!.bytes, 65536 + 4096);
    await wal.close();
  });

  it("defaultOptions: the defaults, frozen", () => {
    const { format: _, ...given } = { format: undefined, ...defaultOptions };
    assertEquals(given, {
      segmentBytes: 64 * 1024 * 1024,
      sync: "always",
      syncIntervalMs: 1000,
      recovery: "tail",
      transactionTimeoutMs: 30_000,
      maxTransactionEntries: 1000,
      transactionCleanupIntervalMs: 300_000,
      maxEntryBytes: 16 * 1024 * 1024,
      verifyReads: true,
      zeroCopy: false,
      directoryMode: 0o750,
      fileMode: 0o640,
    });
    assert(Object.isFrozen(defaultOptions));
  });

  it("without options: 64 MiB segments, binary, synced", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "log");
    {
      await using wal = await openWal(path);
      assertEquals(wal.segments()[0]!.bytes, 64 * 1024 * 1024);
      await wal.append("x");
      assertEquals(wal.durableIndex, 1);
      const expected = new Set(["mapped", "files"]);
      assert(expected.has(wal.stats().storage));
    }
    {
      using wal = openWalSync(path);
      assertEquals(texts(wal), ["x"]);
    }
    // An own encoder of a built-in format is that format.
    {
      using wal = openWalSync(path, { format: new BinaryEncoder() });
      assertEquals(texts(wal), ["x"]);
    }
  });
});

describe("openWal(): the folder", () => {
  it("wrong directories: TypeError or RangeError, before any I/O", async () => {
    const wrong: unknown[] = [
      undefined,
      null,
      5,
      {},
      ["a"],
      new Uint8Array([0x61]),
      "",
      "a\0b",
      new URL("https://example.org/log"),
      new URL("file://host/log"),
      new URL("file:///tmp/%00"),
      new URL("file:///tmp/%ff"),
    ];
    for (const directory of wrong) {
      const thrown = assertThrows(() => openWalSync(directory as string));
      const rejected = await assertRejects(() => openWal(directory as string));
      for (const error of [thrown, rejected]) {
        assert(
          error instanceof TypeError || error instanceof RangeError,
          `${String(directory)}: ${error}`,
        );
        assertStringIncludes(error.message, "directory is");
        assertStringIncludes(error.message, "expected");
      }
    }
  });

  onEachTwin("is made with its parents", async (place, twin) => {
    const path = `${place.path}/a/b/c`;
    const deep = { ...place, path };
    const { storage } = place;
    const options = { storage, segmentBytes: SEGMENT_BYTES };
    const wal = twin.name === "sync"
      ? openWalSync(path, options)
      : await openWal(path, options);
    await twin.append(wal, "x");
    await twin.close(wal);
    const files = listFiles(deep)!;
    assert(files.includes("manifest"), files.join(" "));
    assert(files.includes("segment_00000000000000000001.wal"));
    const segment = `${mod.SEGMENT_FILE_PREFIX}${"1".padStart(20, "0")}`;
    assert(files.includes(segment + mod.SEGMENT_FILE_EXTENSION));
  });

  onEach("a file: URL, a trailing slash and a relative path", async (place) => {
    const { storage, path } = place;
    const options = { storage, segmentBytes: SEGMENT_BYTES };
    const odd = `${path}/a b%ü`;
    const url = pathToFileURL(odd);
    const wal = await openWal(url, options);
    assertEquals(wal.directory, odd);
    await wal.append("by URL");
    await wal.close();
    const again = openWalSync(`${odd}/`, options);
    assertEquals(texts(again), ["by URL"]);
    again.closeSync();
  });

  it("a relative path stays that of the call after chdir", async () => {
    using folder = temporaryFolder();
    const before = process.cwd();
    mkdirSync(join(folder.path, "x"));
    process.chdir(folder.path);
    try {
      const wal = await openWal("rel", { segmentBytes: SEGMENT_BYTES });
      process.chdir("x");
      for (let i = 0; i < 10; i++) wal.appendSync(new Uint8Array(30_000));
      await wal.close();
      assert(existsSync(join(folder.path, "rel", "manifest")));
      assertFalse(existsSync(join(folder.path, "x", "rel")));
      using again = openWalSync(join(folder.path, "rel"));
      assertEquals(again.length, 10);
    } finally {
      process.chdir(before);
    }
  });

  onEach("modes: 0o750 and 0o640, or as asked", async (place) => {
    const umask = process.umask(0);
    try {
      await (await place.open()).close();
      const mode = (path: string) => statSync(path).mode & 0o7777;
      const segment = "segment_00000000000000000001.wal";
      assertEquals(mode(place.path), 0o750);
      assertEquals(mode(join(place.path, segment)), 0o640);
      assertEquals(mode(join(place.path, "manifest")), 0o640);
      const own = join(place.path, "..", "own", "log");
      const wal = openWalSync(own, {
        storage: place.storage,
        segmentBytes: SEGMENT_BYTES,
        directoryMode: 0o700,
        fileMode: 0o600,
      });
      wal.closeSync();
      assertEquals(mode(own), 0o700);
      assertEquals(mode(join(own, "..")), 0o700);
      assertEquals(mode(join(own, segment)), 0o600);
      assertEquals(mode(join(own, "manifest")), 0o600);
    } finally {
      process.umask(umask);
    }
  }, REAL);

  onEachTwin("a path that is a file: StorageError", async (place, twin) => {
    writeFileSync(place.path, "mine");
    const error = await assertRejects(() => twin.open(place), StorageError);
    assertStrictEquals(error.code, "STORAGE");
    assertStrictEquals(error.systemCode, "ENOTDIR");
    assertStringIncludes(error.message, place.path);
    assertStringIncludes(error.message, "expected");
    assertEquals(statSync(place.path).size, 4);
    place.sound = false;
  }, REAL);

  it("mappedStorage(), filesStorage(), memoryStorage() are opaque", () => {
    for (const make of [mod.filesStorage, mod.memoryStorage]) {
      const storage = make();
      assert(["files", "memory"].includes(storage.kind));
    }
  });

  it("two memory storages are two worlds, one is one", async () => {
    const storage = mod.memoryStorage();
    const wal = await openWal("/log", { storage });
    assertEquals(wal.stats().storage, "memory");
    await wal.append("x");
    await wal.close();
    using again = openWalSync("/log", { storage });
    assertEquals(texts(again), ["x"]);
    using other = openWalSync("/log", { storage: mod.memoryStorage() });
    assertEquals(other.recovery.outcome, "created");
  });
});

describe("mod.ts", () => {
  it("exports what exists now, and nothing else", () => {
    assertEquals(Object.keys(mod).sort(), [
      "Batch",
      "BinaryEncoder",
      "ChecksumMismatchError",
      "Consumer",
      "EmptyDataError",
      "IndexConflictError",
      "IndexOutOfRangeError",
      "InvalidEntryError",
      "JsonEncoder",
      "SEGMENT_FILE_EXTENSION",
      "SEGMENT_FILE_PREFIX",
      "SegmentFullError",
      "SegmentNotFoundError",
      "StorageError",
      "Transaction",
      "TransactionExpiredError",
      "TransactionNotFoundError",
      "TransactionNotPendingError",
      "TransactionTooLargeError",
      "UnsupportedFormatError",
      "Wal",
      "WalClosedError",
      "WalCorruptedError",
      "WalError",
      "WalFailedError",
      "WalLockedError",
      "WalReader",
      "defaultOptions",
      "filesStorage",
      "mappedStorage",
      "memoryStorage",
      "openReader",
      "openReaderSync",
      "openWal",
      "openWalSync",
    ]);
    assertEquals(mod.SEGMENT_FILE_PREFIX, "segment_");
    assertEquals(mod.SEGMENT_FILE_EXTENSION, ".wal");
  });

  onEach(
    "an open log has the methods that exist now, and no other",
    async (place) => {
      await using wal = await place.open();
      assert(wal instanceof mod.Wal);
      assert(wal instanceof mod.WalReader);
      const names = (prototype: object) =>
        Object.getOwnPropertyNames(prototype)
          .filter((name) => name !== "constructor").sort();
      const own = names(mod.Wal.prototype);
      const inherited = names(mod.WalReader.prototype);
      assertEquals([...new Set([...own, ...inherited])].sort(), [
        "activeTransactionCount",
        "append",
        "appendBatch",
        "appendBatchSync",
        "appendSync",
        "at",
        "beginTransaction",
        "cleanupExpiredTransactions",
        "close",
        "closeSync",
        "consumer",
        "consumers",
        "durableIndex",
        "entries",
        "findByTerm",
        "findByTime",
        "firstIndex",
        "flush",
        "flushSync",
        "follow",
        "get",
        "getRange",
        "getTransaction",
        "getTransactionState",
        "lastIndex",
        "length",
        "nextIndex",
        "readable",
        "reset",
        "resetSync",
        "rotate",
        "rotateSync",
        "segments",
        "state",
        "stats",
        "transaction",
        "truncateAfter",
        "truncateAfterSync",
        "truncateBefore",
        "truncateBeforeSync",
        "view",
        "writable",
      ]);
      assertEquals(Object.keys(wal).sort(), ["directory", "recovery"]);
    },
  );

  it("errors: one base, a literal code, and the class as name", () => {
    const classes = Object.entries(mod).filter(([name]) =>
      name.endsWith("Error") && name !== "WalError"
    );
    assertEquals(classes.length, 17);
    const codes = new Set<string>();
    for (const [name, errorClass] of classes) {
      const make = errorClass as unknown as new (
        message: string,
        detail: object,
      ) => mod.AnyWalError;
      const error = new make("what", {});
      assertInstanceOf(error, mod.WalError);
      assertInstanceOf(error, Error);
      assertEquals(error.name, name);
      assertEquals(error.message, "what");
      codes.add(error.code);
    }
    assertEquals([...codes].sort(), [
      "CHECKSUM_MISMATCH",
      "CLOSED",
      "CORRUPTED",
      "EMPTY_DATA",
      "FAILED",
      "INDEX_CONFLICT",
      "INDEX_OUT_OF_RANGE",
      "INVALID_ENTRY",
      "LOCKED",
      "SEGMENT_FULL",
      "SEGMENT_NOT_FOUND",
      "STORAGE",
      "TRANSACTION_EXPIRED",
      "TRANSACTION_NOT_FOUND",
      "TRANSACTION_NOT_PENDING",
      "TRANSACTION_TOO_LARGE",
      "UNSUPPORTED_FORMAT",
    ]);
  });
});
