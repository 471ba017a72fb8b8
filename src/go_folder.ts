/**
 * Tells the Go library's segment files, whose names are like ours, from ours.
 *
 * The Go library writes no file header: a file is entries, each after its
 * length as u32, little-endian. So the first entry is judged by its shape.
 * Pure; only ever used to refuse a folder by its right name.
 *
 * @module
 */

import { hasMagic } from "./fields.ts";
import { SEGMENT_MAGIC } from "./format.ts";

/** Bytes of a file's start that are enough for a verdict. */
export const GO_HEAD_BYTES = 64;

/** Before the entry: its length. */
const LENGTH_BYTES = 4;
const TERM_OFFSET = LENGTH_BYTES + 8;
const DATA_BYTES_OFFSET = LENGTH_BYTES + 24;
const DATA_OFFSET = LENGTH_BYTES + 28;
/** An entry without data and transaction. */
const BINARY_BYTES_MIN = 36;
/** The Go library's ids are 35 bytes; programs may set others. */
const ID_BYTES_MAX = 1024;
/** `{"index":` as every JSON entry begins. */
const JSON_START = [0x7b, 0x22, 0x69, 0x6e, 0x64, 0x65, 0x78, 0x22, 0x3a];
/** A JSON entry with one digit for each number, and no data. */
const JSON_BYTES_MIN = 77;

/**
 * Which format of the Go library a file seems to be in, told from the first
 * `GO_HEAD_BYTES` bytes (or all, if it has fewer) of a file of `fileBytes`;
 * `undefined` when in none. A torn first entry is still one.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { goFolderFormat } from "./go_folder.ts";
 *
 * const json = new TextEncoder().encode('\x7b\0\0\0{"index":1,"term":1');
 * assert.equal(goFolderFormat(json, 127), "go-json");
 * assert.equal(goFolderFormat(new Uint8Array(64), 65536), undefined);
 * ```
 */
export function goFolderFormat(
  head: Uint8Array<ArrayBuffer>,
  fileBytes: number,
): "go-binary" | "go-json" | undefined {
  if (head.length < LENGTH_BYTES || fileBytes < head.length) return undefined;
  if (hasMagic(head, 0, SEGMENT_MAGIC)) return undefined;
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  const entryBytes = view.getUint32(0, true);
  if (isJson(head, entryBytes)) return "go-json";
  return isBinary(view, entryBytes, fileBytes) ? "go-binary" : undefined;
}

function isJson(head: Uint8Array, entryBytes: number): boolean {
  return entryBytes >= JSON_BYTES_MIN &&
    hasMagic(head, LENGTH_BYTES, JSON_START);
}

function isBinary(
  view: DataView,
  entryBytes: number,
  fileBytes: number,
): boolean {
  if (view.byteLength < DATA_OFFSET) return false;
  // Nobody has written 2^53 entries, and none is number 0.
  const index = view.getBigUint64(LENGTH_BYTES, true);
  const term = view.getBigUint64(TERM_OFFSET, true);
  if (index === 0n || index >= 2n ** 53n || term >= 2n ** 53n) return false;

  // The two lengths must add up, which hardly ever happens by chance: not
  // even our own header with a damaged magic is taken for theirs.
  const dataBytes = view.getUint32(DATA_BYTES_OFFSET, true);
  const idBytes = entryBytes - BINARY_BYTES_MIN - dataBytes;
  if (idBytes < 0 || idBytes > ID_BYTES_MAX) return false;
  const idBytesOffset = DATA_OFFSET + dataBytes;
  if (idBytesOffset + 4 > Math.min(view.byteLength, fileBytes)) return true;
  return view.getUint32(idBytesOffset, true) === idBytes;
}
