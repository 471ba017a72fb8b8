/**
 * The binary layout of the Go library, walrus v0.2.3, byte for byte.
 *
 * | Offset        | Size | Field                                        |
 * | ------------- | ---- | -------------------------------------------- |
 * | 0             | 8    | index                                        |
 * | 8             | 8    | term                                         |
 * | 16            | 8    | time in ns since 1970, signed                |
 * | 24            | 4    | d, bytes of data                             |
 * | 28            | d    | data                                         |
 * | 28 + d        | 4    | t, bytes of the transaction id, 0 for none   |
 * | 32 + d        | t    | transaction id, UTF-8                        |
 * | 32 + d + t    | 4    | CRC-32 of all bytes before it                |
 *
 * All integers are little-endian. Every byte is covered by the checksum. The
 * log itself stores "binary" entries in its own frames (docs/format.md); this
 * is the form for what comes from Go and goes there.
 *
 * @module
 */

import type { Encoder, EntryRecord } from "./encoder.ts";
import { crc32 } from "./crc32.ts";
import {
  checkChecksum,
  checkRecord,
  checkTarget,
  decodedSafe,
  decodedText,
  utf8,
} from "./encoder.ts";
import { InvalidEntryError } from "./errors.ts";

const WHAT = "binary entry";
const TERM_OFFSET = 8;
const TIMESTAMP_OFFSET = 16;
const DATA_BYTES_OFFSET = 24;
const DATA_OFFSET = 28;
/** The transaction id's length and the checksum. */
const TAIL_BYTES = 8;
const CHECKSUM_BYTES = 4;
/** An entry without data and transaction. */
const ENTRY_BYTES_MIN = DATA_OFFSET + TAIL_BYTES;
/** What a length of 32 bits can say. */
const LENGTH_MAX = 2 ** 32 - 1;

/**
 * Entries as the Go library's `BinaryEncoder` writes and reads them.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { BinaryEncoder } from "@walrus/wal";
 *
 * const encoder = new BinaryEncoder();
 * const bytes = encoder.encode({
 *   index: 1,
 *   term: 3,
 *   timestampNs: 1_700_000_000_000_000_000n,
 *   transactionId: undefined,
 *   data: new TextEncoder().encode("Hello World!"),
 *   checksum: 0,
 * });
 * assert.equal(bytes.length, 48);
 * assert.equal(encoder.decode(bytes).term, 3);
 * ```
 */
export class BinaryEncoder implements Encoder {
  /** The format's name. */
  readonly name = "binary";

  /** Exactly how many bytes `encode` will give. */
  byteLength(record: EntryRecord): number {
    checkRecord(record);
    return ENTRY_BYTES_MIN + record.data.length + idOf(record).length;
  }

  /**
   * The record's bytes. `RangeError` for an index or a term that is not a
   * whole number up to 2^53 - 1, and for a time beyond 64 bits.
   */
  encode(record: EntryRecord): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.byteLength(record));
    write(record, idOf(record), bytes);
    return bytes;
  }

  /**
   * Writes the record's bytes to `target`'s start and returns how many they
   * are. `RangeError`, and nothing written, when it is too small.
   */
  encodeInto(record: EntryRecord, target: Uint8Array<ArrayBuffer>): number {
    checkRecord(record);
    const id = idOf(record);
    const bytes = ENTRY_BYTES_MIN + record.data.length + id.length;
    checkTarget(target, bytes);
    write(record, id, target);
    return bytes;
  }

  /**
   * The record in exactly these bytes, its data a copy. `InvalidEntryError`
   * unless they are whole and their checksum is right; `RangeError` for an
   * index or a term above 2^53 - 1.
   */
  decode(bytes: Uint8Array<ArrayBuffer>): EntryRecord {
    const record = this.decodeView(bytes);
    record.data = new Uint8Array(record.data);
    return record;
  }

  /** The same as `decode`, its data a view of `bytes`. */
  decodeView(bytes: Uint8Array<ArrayBuffer>): EntryRecord {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const idOffset = checkedIdOffset(view);
    const checksumOffset = bytes.length - CHECKSUM_BYTES;
    const checksum = view.getUint32(checksumOffset, true);
    checkChecksum(WHAT, checksum, crc32(bytes.subarray(0, checksumOffset)));

    const id = decodedText(bytes.subarray(idOffset, checksumOffset));
    if (id === undefined) {
      throw new InvalidEntryError(
        `Cannot decode ${WHAT}: its transaction id is other bytes, ` +
          `expected UTF-8`,
      );
    }
    const dataBytes = view.getUint32(DATA_BYTES_OFFSET, true);
    return {
      index: decodedSafe(WHAT, "index", view.getBigUint64(0, true)),
      term: decodedSafe(WHAT, "term", view.getBigUint64(TERM_OFFSET, true)),
      timestampNs: view.getBigInt64(TIMESTAMP_OFFSET, true),
      transactionId: id === "" ? undefined : id,
      // Not subarray: that of a Node Buffer is a Buffer, whose slice and
      // toString are others.
      data: new Uint8Array(
        bytes.buffer,
        bytes.byteOffset + DATA_OFFSET,
        dataBytes,
      ),
      checksum,
    };
  }
}

function idOf(record: EntryRecord): Uint8Array<ArrayBuffer> {
  return utf8(record.transactionId ?? "");
}

function write(
  record: EntryRecord,
  id: Uint8Array,
  target: Uint8Array<ArrayBuffer>,
): void {
  const data = record.data;
  if (data.length > LENGTH_MAX) {
    throw new RangeError(
      `Cannot encode entry: data is ${data.length} bytes, ` +
        `expected at most ${LENGTH_MAX}`,
    );
  }
  const view = new DataView(target.buffer, target.byteOffset, target.length);
  view.setBigUint64(0, BigInt(record.index), true);
  view.setBigUint64(TERM_OFFSET, BigInt(record.term), true);
  view.setBigInt64(TIMESTAMP_OFFSET, record.timestampNs, true);
  view.setUint32(DATA_BYTES_OFFSET, data.length, true);
  target.set(data, DATA_OFFSET);
  const idBytesOffset = DATA_OFFSET + data.length;
  view.setUint32(idBytesOffset, id.length, true);
  target.set(id, idBytesOffset + 4);
  const checksumOffset = idBytesOffset + 4 + id.length;
  const checksum = crc32(target.subarray(0, checksumOffset));
  view.setUint32(checksumOffset, checksum, true);
}

/** Where the transaction id begins, once both lengths fit the bytes. */
function checkedIdOffset(view: DataView): number {
  const bytes = view.byteLength;
  if (bytes < ENTRY_BYTES_MIN) {
    throw new InvalidEntryError(
      `Cannot decode ${WHAT}: it is ${bytes} bytes, ` +
        `expected at least ${ENTRY_BYTES_MIN}`,
    );
  }
  const dataBytes = view.getUint32(DATA_BYTES_OFFSET, true);
  const dataBytesMax = bytes - ENTRY_BYTES_MIN;
  if (dataBytes > dataBytesMax) {
    throw new InvalidEntryError(
      `Cannot decode ${WHAT}: its data is ${dataBytes} bytes, ` +
        `expected at most ${dataBytesMax} in ${bytes}`,
    );
  }
  const idBytes = view.getUint32(DATA_OFFSET + dataBytes, true);
  const idBytesLeft = dataBytesMax - dataBytes;
  if (idBytes !== idBytesLeft) {
    throw new InvalidEntryError(
      `Cannot decode ${WHAT}: its transaction id is ${idBytes} bytes, ` +
        `expected the ${idBytesLeft} that are left`,
    );
  }
  return DATA_OFFSET + dataBytes + 4;
}
