/**
 * Tells the salt of a segment whose header is lost: from its footer, which
 * repeats it, or from frames and index. A checksum can be run backwards, so
 * each of them tells the salt it was made with; two that agree are no chance.
 *
 * @module
 */

import { viewOf } from "./fields.ts";
import {
  alignFrame,
  BLOCK,
  BLOCK_BYTES,
  BLOCK_ENTRIES,
  blockOffset,
  FOOTER,
  FOOTER_BYTES,
  FRAME_HEADER_BYTES,
  HEADER_BYTES,
} from "./format.ts";
import { frameFlags, frameLength, isPlausibleFrame } from "./frame.ts";
import { decodeFooter } from "./segment_index.ts";
import type { StorageFile } from "./storage.ts";

/** The reflected polynomial of CRC-32. */
const POLYNOMIAL = 0xedb88320;
/** Frames are read whole: of longer ones the salt is not told. */
const FRAME_BYTES_MAX = 1024 * 1024;
/** So many of the first frames are asked. */
const FRAMES_MAX = 8;

/** The salt of segment `number`, whose header is lost, if it can be told. */
export function tellSalt(
  file: StorageFile,
  number: number,
): number | undefined {
  return saltOfFooter(file) ?? saltOfFrames(file, number);
}

function saltOfFooter(file: StorageFile): number | undefined {
  if (file.bytes < HEADER_BYTES + FOOTER_BYTES) return undefined;
  const bytes = new Uint8Array(FOOTER_BYTES);
  file.readAt(bytes, file.bytes - FOOTER_BYTES);
  const salt = viewOf(bytes).getUint32(FOOTER.salt, true);
  return decodeFooter(bytes, salt) === undefined ? undefined : salt;
}

function saltOfFrames(file: StorageFile, number: number): number | undefined {
  const block = readBlock(file);
  // By salt, the place of the record that told it.
  const told = new Map<number, number>();
  if (block !== undefined) told.set(block.salt, block.offset);
  let offset = HEADER_BYTES;
  const named = block?.offsets ?? [];
  for (let i = 0; i < FRAMES_MAX + named.length; i++) {
    // The first frames follow each other; the index knows more of them.
    const at = i < FRAMES_MAX ? offset : named[i - FRAMES_MAX]!;
    const frame = readFrame(file, number, at);
    if (frame === undefined) continue;
    const stored = viewOf(frame).getUint32(0, true);
    const salt = (crcSeed(frame.subarray(4), stored) ^ at) >>> 0;
    if ((told.get(salt) ?? at) !== at) return salt;
    told.set(salt, at);
    if (i < FRAMES_MAX) offset += alignFrame(frame.length);
  }
  return undefined;
}

function readFrame(
  file: StorageFile,
  number: number,
  offset: number,
): Uint8Array<ArrayBuffer> | undefined {
  const head = new Uint8Array(FRAME_HEADER_BYTES);
  if (offset + head.length > file.bytes) return undefined;
  if (file.readAt(head, offset) < head.length) return undefined;
  const view = viewOf(head);
  if (!isPlausibleFrame(view, 0, offset, file.bytes, number)) return undefined;
  const length = frameLength(view, 0);
  if (length > FRAME_BYTES_MAX || frameFlags(view, 0) === 0) return undefined;
  const frame = new Uint8Array(length);
  return file.readAt(frame, offset) === length ? frame : undefined;
}

/** The salt that index block 0 was made with, and the frames it names. */
function readBlock(
  file: StorageFile,
): { salt: number; offset: number; offsets: number[] } | undefined {
  const at = blockOffset(file.bytes, 0);
  const block = new Uint8Array(BLOCK_BYTES);
  if (at < HEADER_BYTES || file.readAt(block, at) < BLOCK_BYTES) {
    return undefined;
  }
  const view = viewOf(block);
  const stored = view.getUint32(BLOCK.crc, true);
  const salt = (crcSeed(block.subarray(4), stored) ^ at) >>> 0;
  const offsets: number[] = [];
  for (let i = 0; i < BLOCK_ENTRIES; i++) {
    const offset = view.getUint32(BLOCK.offsets + 4 * i, true);
    if (offset >= HEADER_BYTES && offset % 8 === 0) offsets.push(offset);
  }
  return { salt, offset: at, offsets };
}

/** The seed with which `bytes` have this checksum: CRC-32, run backwards. */
function crcSeed(bytes: Uint8Array, checksum: number): number {
  let state = ~checksum;
  for (let i = bytes.length - 1; i >= 0; i--) {
    for (let bit = 0; bit < 8; bit++) {
      state = state < 0 ? ((state ^ POLYNOMIAL) << 1) | 1 : state << 1;
    }
    state ^= bytes[i]!;
  }
  return ~state >>> 0;
}
