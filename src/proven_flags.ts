/**
 * Tells the flags of a damaged frame when a single bit of it is wrong: a
 * checksum says which bit that is. The frame stays lost; its flags say
 * whether the next frame begins a batch.
 *
 * @module
 */

import { crc32 } from "./crc32.ts";
import { viewOf } from "./fields.ts";
import { FRAME, FRAME_HEADER_BYTES } from "./format.ts";
import type { FrameHome } from "./frame.ts";
import type { StorageFile } from "./storage.ts";

/** The reflected polynomial of CRC-32. */
const POLYNOMIAL = 0xedb88320;
/** Frames are read whole: of longer ones nothing is told. */
const FRAME_BYTES_MAX = 1024 * 1024;
/** Where the checksum begins. */
const COVERED_FROM = FRAME.length;

/**
 * The flags of the frame from `offset` to `end` of which one bit is wrong;
 * undefined when more than one is.
 */
export function provenFlags(
  file: StorageFile,
  home: FrameHome,
  offset: number,
  end: number,
): number | undefined {
  const bytes = end - offset;
  if (bytes < FRAME_HEADER_BYTES || bytes > FRAME_BYTES_MAX) return undefined;
  const frame = new Uint8Array(bytes);
  if (file.readAt(frame, offset) < bytes) return undefined;
  const view = viewOf(frame);
  const stored = view.getUint32(FRAME.crc, true);
  const said = view.getUint32(FRAME.length, true);
  const seed = (home.salt ^ offset) >>> 0;
  // Up to seven bytes of padding follow a frame.
  for (let length = bytes; length > bytes - 8; length--) {
    if (length < FRAME_HEADER_BYTES) break;
    view.setUint32(FRAME.length, length, true);
    const covered = frame.subarray(COVERED_FROM, length);
    const syndrome = (crc32(covered, seed) ^ stored) >>> 0;
    if (said !== length) {
      // The length can be what is wrong: then nothing else is.
      if (syndrome === 0) return frame[FRAME.flags];
      continue;
    }
    const bit = wrongBit(syndrome, covered.length);
    if (bit === "checksum") return frame[FRAME.flags];
    if (bit === undefined) continue;
    frame[COVERED_FROM + (bit >>> 3)]! ^= 1 << (bit & 7);
    return frame[FRAME.flags];
  }
  return undefined;
}

/** The bit that explains a checksum's difference, among so many bytes. */
function wrongBit(
  syndrome: number,
  byteCount: number,
): number | "checksum" | undefined {
  if ((syndrome & (syndrome - 1)) === 0) return "checksum";
  // What a wrong bit does to the checksum: first the last byte's highest bit.
  let effect = POLYNOMIAL | 0;
  for (let bit = 8 * byteCount - 1; bit >= 0; bit--) {
    if (effect === (syndrome | 0)) return bit;
    effect = (effect & 1) === 0
      ? effect >>> 1
      : (effect >>> 1) ^ (POLYNOMIAL | 0);
  }
  return undefined;
}
