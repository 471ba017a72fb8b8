/**
 * Log folders that were written once and for all: every later release reads
 * fixtures/v1/ to the same entries. Made by tools/make_fixtures.mjs.
 */
import { describe, it } from "node:test";
import { Buffer } from "node:buffer";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import {
  type Encoder,
  type EntryRecord,
  openWalSync,
  UnsupportedFormatError,
  WalCorruptedError,
  type WalOptions,
} from "../mod.ts";
import { assert, assertEquals, assertThrows } from "./_assert.ts";
import {
  type Bytes,
  type Files,
  readFiles,
  sameFiles,
  writeFiles,
} from "./_log_bytes.ts";
import { STORAGES, temporaryFolder } from "./_storages.ts";

const ROOT = new URL("./fixtures/v1/", import.meta.url);

/** What stands in expected.json. */
interface Expected {
  outcome: "clean" | "torn";
  segments: number;
  nextIndex: number;
  entries: {
    index: number;
    term: number;
    timestampNs: string;
    base64: string;
  }[];
}

/** The data back to front: as its maker encoded it. */
function decodeReversed(bytes: Bytes): EntryRecord {
  return {
    index: 0,
    term: 0,
    timestampNs: 0n,
    transactionId: undefined,
    data: bytes.slice().reverse(),
    checksum: 0,
  };
}

const reversed: Encoder = {
  name: "reversed",
  byteLength: ({ data }) => data.length,
  encode: ({ data }) => new Uint8Array(data).reverse(),
  encodeInto: ({ data }, target) => {
    target.set(new Uint8Array(data).reverse());
    return data.length;
  },
  decode: decodeReversed,
  decodeView: decodeReversed,
};

function load(name: string): { files: Files; expected: Expected } {
  const folder = new URL(`${name}/`, ROOT);
  const files: Files = new Map();
  for (const file of readdirSync(folder).sort()) {
    if (!file.endsWith(".gz")) continue;
    const bytes = gunzipSync(readFileSync(new URL(file, folder)));
    files.set(file.slice(0, -3), new Uint8Array(bytes));
  }
  const json = readFileSync(new URL("expected.json", folder), "utf8");
  return { files, expected: JSON.parse(json) as Expected };
}

function entriesOf(path: string, options: WalOptions): Expected["entries"] {
  const wal = openWalSync(path, options);
  try {
    return [...wal].map((entry) => ({
      index: entry.index,
      term: entry.term,
      timestampNs: String(entry.timestampNs),
      base64: Buffer.from(entry.data).toString("base64"),
    }));
  } finally {
    wal.closeSync();
  }
}

const NAMES = ["binary", "json", "custom", "empty", "emptied", "torn"];

describe("golden: format v1", () => {
  it("all fixtures are here", () => {
    const found = readdirSync(ROOT).filter((name) => !name.includes("."));
    assertEquals(found.sort(), [...NAMES].sort());
  });

  for (const storage of STORAGES.filter((one) => one.real)) {
    for (const name of NAMES) {
      it(`${name}, on ${storage.kind} storage, holds what it held`, () => {
        const { files, expected } = load(name);
        using folder = temporaryFolder();
        const path = join(folder.path, "log");
        writeFiles(files, path);
        const options: WalOptions = { storage: storage.make() };
        if (name === "custom") options.format = reversed;

        const wal = openWalSync(path, options);
        assertEquals(wal.recovery.outcome, expected.outcome);
        assertEquals(wal.nextIndex, expected.nextIndex);
        assertEquals(wal.length, expected.entries.length);
        const cut = expected.outcome === "torn" ? 1 : 0;
        assertEquals(wal.segments().length, expected.segments + cut);
        wal.closeSync();

        // What was cut stays cut, and the log goes on.
        assertEquals(entriesOf(path, options), expected.entries);
        const again = openWalSync(path, options);
        const index = again.appendSync({ data: "appended", term: 99 });
        assertEquals(index, expected.nextIndex);
        again.closeSync();
        const all = entriesOf(path, options);
        assertEquals(all.slice(0, -1), expected.entries);
        assertEquals(all.at(-1)!.term, 99);
      });
    }
  }

  it("a torn log is refused by recovery strict, and stays as it is", () => {
    const { files } = load("torn");
    using folder = temporaryFolder();
    const path = join(folder.path, "log");
    writeFiles(files, path);
    const strict = {
      storage: STORAGES[0]!.make(),
      recovery: "strict",
    } as const;
    assertThrows(() => openWalSync(path, strict), WalCorruptedError);
    assert(sameFiles(files, readFiles(path)));
  });

  it("a log is refused in another format than its own", () => {
    for (const name of ["binary", "json", "custom"]) {
      const { files } = load(name);
      using folder = temporaryFolder();
      const path = join(folder.path, "log");
      writeFiles(files, path);
      const storage = STORAGES[0]!.make();
      const format = name === "json" ? "binary" : "json";
      const open = () => openWalSync(path, { storage, format });
      assertThrows(open, UnsupportedFormatError);
      assert(sameFiles(files, readFiles(path)));
    }
  });
});
