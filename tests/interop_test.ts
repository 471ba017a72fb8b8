/**
 * Entries written by the real Go library, walrus v0.2.3: fixtures/go/ holds
 * two of its log folders and, as `expected.jsonl`, what it was given.
 */

import { test } from "node:test";
import { Buffer } from "node:buffer";
import { readdirSync, readFileSync } from "node:fs";
import type { Encoder } from "../src/encoder.ts";
import { BinaryEncoder } from "../src/binary_encoder.ts";
import { InvalidEntryError } from "../src/errors.ts";
import { GO_HEAD_BYTES, goFolderFormat } from "../src/go_folder.ts";
import { JsonEncoder } from "../src/json_encoder.ts";
import { assertEquals, assertThrows } from "./_assert.ts";

/** A line of expected.jsonl. */
interface Expected {
  index: number;
  term: number;
  data_base64: string;
  timestamp_ns: string;
  transaction_id: string;
  checksum: number;
}

type Bytes = Uint8Array<ArrayBuffer>;

const root = new URL("./fixtures/go/", import.meta.url);

/** The folder's segment files, in order. */
function segments(folder: string): Bytes[] {
  const log = new URL(`${folder}/log/`, root);
  return readdirSync(log).sort().map((name) =>
    new Uint8Array(readFileSync(new URL(name, log)))
  );
}

/** The encoded entries of a segment file: each follows its length. */
function split(file: Bytes): Bytes[] {
  const entries: Bytes[] = [];
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  let offset = 0;
  while (offset < file.length) {
    const start = offset + 4;
    offset = start + view.getUint32(offset, true);
    entries.push(file.slice(start, offset));
  }
  assertEquals(offset, file.length);
  return entries;
}

function expected(folder: string): Expected[] {
  return readFileSync(new URL(`${folder}/expected.jsonl`, root), "utf8")
    .trimEnd().split("\n").map((line) => JSON.parse(line));
}

const folders: { folder: string; encoder: Encoder; count: number }[] = [
  { folder: "binary", encoder: new BinaryEncoder(), count: 120 },
  { folder: "json", encoder: new JsonEncoder(), count: 60 },
];

for (const { folder, encoder, count } of folders) {
  const name = encoder.constructor.name;
  const entries = segments(folder).flatMap(split);
  const lines = expected(folder);
  const inTransaction = lines.filter((line) => line.transaction_id !== "");

  test(`interop: ${folder}: ${count} entries, some with transaction`, () => {
    assertEquals(entries.length, count);
    assertEquals(lines.length, count);
    assertEquals(inTransaction.length > 0, true);
    assertEquals(inTransaction.length < count, true);
  });

  for (const method of ["decode", "decodeView"] as const) {
    test(`${name}.${method}() reads ${count} entries of Go`, () => {
      for (const [i, line] of lines.entries()) {
        assertEquals(encoder[method](entries[i]), {
          index: line.index,
          term: line.term,
          timestampNs: BigInt(line.timestamp_ns),
          transactionId: line.transaction_id || undefined,
          data: new Uint8Array(Buffer.from(line.data_base64, "base64")),
          checksum: line.checksum,
        });
      }
    });
  }

  test(`${name}.encode() writes the bytes of ${count} entries of Go`, () => {
    for (const entry of entries) {
      const record = encoder.decode(entry);
      // Whatever checksum is given: it is computed.
      record.checksum = 0;
      assertEquals(encoder.encode(record), entry);
      assertEquals(encoder.byteLength(record), entry.length);
    }
  });

  test(`${name}.encodeInto() writes ${count} entries of Go as files`, () => {
    for (const file of segments(folder)) {
      const copy = new Uint8Array(file.length);
      const view = new DataView(copy.buffer);
      let offset = 0;
      for (const entry of split(file)) {
        const record = encoder.decodeView(entry);
        const target = copy.subarray(offset + 4);
        const bytes = encoder.encodeInto(record, target);
        view.setUint32(offset, bytes, true);
        offset += 4 + bytes;
      }
      assertEquals(copy, file);
    }
  });

  test(`${name}.decode() refuses each of ${count} entries of Go cut`, () => {
    for (const entry of entries) {
      const short = entry.subarray(0, entry.length - 1);
      assertThrows(() => encoder.decode(short), InvalidEntryError);
      const long = new Uint8Array(entry.length + 1);
      long.set(entry);
      assertThrows(() => encoder.decode(long), InvalidEntryError);
    }
  });

  test(`goFolderFormat() knows the ${folder} folder's files`, () => {
    const format = `go-${folder}`;
    for (const file of segments(folder)) {
      const head = file.subarray(0, GO_HEAD_BYTES);
      assertEquals(goFolderFormat(head, file.length), format);
      // The same entry torn, in a file that ends here or anywhere.
      for (let end = 32; end < 64; end++) {
        assertEquals(goFolderFormat(file.slice(0, end), end), format);
      }
    }
  });

  test(`goFolderFormat() knows each of ${count} ${folder} entries`, () => {
    for (const entry of entries) {
      const file = new Uint8Array(4 + entry.length);
      new DataView(file.buffer).setUint32(0, entry.length, true);
      file.set(entry, 4);
      const head = file.subarray(0, GO_HEAD_BYTES);
      assertEquals(goFolderFormat(head, file.length), `go-${folder}`);
    }
  });
}

test("interop: neither encoder takes the other's entries", () => {
  const binary = segments("binary").flatMap(split);
  const json = segments("json").flatMap(split);
  for (const entry of json) {
    assertThrows(() => new BinaryEncoder().decode(entry), InvalidEntryError);
  }
  for (const entry of binary) {
    assertThrows(() => new JsonEncoder().decode(entry), InvalidEntryError);
  }
});
