/**
 * A segment's index: the offsets of its entries in blocks of 64, each with
 * running maxima of time and term, and the footer that ends a sealed file.
 * Pure: bytes in, values out. docs/format.md §5.
 *
 * @module
 */

import { assert } from "./assert.ts";
import { crc32 } from "./crc32.ts";
import { getSafe, hasMagic, setSafe, viewOf } from "./fields.ts";
import {
  BLOCK,
  BLOCK_BYTES,
  BLOCK_ENTRIES,
  FOOTER,
  FOOTER_BYTES,
  FOOTER_MAGIC,
} from "./format.ts";
import type { Wide } from "./frame.ts";

/** What a footer says of its sealed segment. */
export interface Footer {
  /** The first entry. */
  readonly firstIndex: number;
  /** The last entry when it was sealed; a later cut may have lowered it. */
  readonly lastIndex: number;
  /** Where the frames ended when it was sealed. */
  readonly end: number;
  /** How many index blocks stand before the footer. */
  readonly blockCount: number;
  /** When it was sealed, milliseconds since 1970. */
  readonly sealedAtMs: number;
}

/** The highest time and the highest term of some entries. */
export interface Maxima {
  /** The time, two halves. */
  readonly time: Wide;
  /** The term. */
  readonly term: number;
}

/** The maxima that a block tells: of all entries up to its last one. */
export function blockMaxima(view: DataView): Maxima {
  const low = view.getUint32(BLOCK.maxTimestamp, true);
  const high = view.getInt32(BLOCK.maxTimestamp + 4, true);
  return { time: { low, high }, term: getSafe(view, BLOCK.maxTerm) };
}

/**
 * The last block of a segment that still grows: collects offsets and maxima,
 * and hands out the block's bytes when it is full or wanted.
 */
export class IndexBuilder {
  /** Entries in all blocks so far. */
  entryCount = 0;
  /** Offsets of the entries in the block that is not full. */
  readonly offsets: Uint32Array<ArrayBuffer> = new Uint32Array(BLOCK_ENTRIES);
  readonly #bytes = new Uint8Array(BLOCK_BYTES);
  readonly #view = viewOf(this.#bytes);
  #timeLow = 0;
  #timeHigh = -0x80000000;
  #maxTerm = 0;

  /** The highest time and term so far. */
  get maxima(): Maxima {
    const time = { low: this.#timeLow, high: this.#timeHigh };
    return { time, term: this.#maxTerm };
  }

  /** Entries in the block that is not full. */
  get pendingCount(): number {
    return this.entryCount % BLOCK_ENTRIES;
  }

  /** Adds an entry; true when that fills a block, which must be taken now. */
  add(offset: number, term: number, timestamp: Wide): boolean {
    this.offsets[this.entryCount % BLOCK_ENTRIES] = offset;
    this.entryCount++;
    if (term > this.#maxTerm) this.#maxTerm = term;
    const high = timestamp.high | 0;
    const low = timestamp.low >>> 0;
    if (
      high > this.#timeHigh || (high === this.#timeHigh && low > this.#timeLow)
    ) {
      this.#timeHigh = high;
      this.#timeLow = low;
    }
    return this.entryCount % BLOCK_ENTRIES === 0;
  }

  /**
   * The bytes of the block that holds the last entry, for `blockAt` of the
   * file. Valid until the next call.
   */
  encodeBlock(salt: number, blockAt: number): Uint8Array<ArrayBuffer> {
    assert(this.entryCount > 0, "an index block holds at least one entry");
    const count = this.pendingCount === 0 ? BLOCK_ENTRIES : this.pendingCount;
    const view = this.#view;
    view.setUint32(BLOCK.count, count, true);
    view.setUint32(BLOCK.maxTimestamp, this.#timeLow, true);
    view.setInt32(BLOCK.maxTimestamp + 4, this.#timeHigh, true);
    setSafe(view, BLOCK.maxTerm, this.#maxTerm);
    for (let i = 0; i < BLOCK_ENTRIES; i++) {
      const offset = i < count ? this.offsets[i]! : 0;
      view.setUint32(BLOCK.offsets + 4 * i, offset, true);
    }
    const crc = crc32(this.#bytes.subarray(4), (salt ^ blockAt) >>> 0);
    view.setUint32(BLOCK.crc, crc, true);
    return this.#bytes;
  }

  /** The ordinal of the block that `encodeBlock` encodes. */
  get blockOrdinal(): number {
    return Math.ceil(this.entryCount / BLOCK_ENTRIES) - 1;
  }

  /** The footer's bytes for the entries so far. */
  encodeFooter(footer: Footer, salt: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(FOOTER_BYTES);
    const view = viewOf(bytes);
    bytes.set(FOOTER_MAGIC, FOOTER.magic);
    setSafe(view, FOOTER.firstIndex, footer.firstIndex);
    setSafe(view, FOOTER.lastIndex, footer.lastIndex);
    view.setUint32(FOOTER.end, footer.end, true);
    view.setUint32(FOOTER.blockCount, footer.blockCount, true);
    view.setUint32(FOOTER.maxTimestamp, this.#timeLow, true);
    view.setInt32(FOOTER.maxTimestamp + 4, this.#timeHigh, true);
    setSafe(view, FOOTER.maxTerm, this.#maxTerm);
    setSafe(view, FOOTER.sealedAtMs, footer.sealedAtMs);
    view.setUint32(FOOTER.salt, salt, true);
    const crc = crc32(bytes.subarray(0, FOOTER.crc), salt);
    view.setUint32(FOOTER.crc, crc, true);
    return bytes;
  }

  /** Goes on behind a block read from the file, whose entries it takes over. */
  resume(entryCount: number, block: Uint8Array<ArrayBuffer>): void {
    const view = viewOf(block);
    this.entryCount = entryCount;
    this.#timeLow = view.getUint32(BLOCK.maxTimestamp, true);
    this.#timeHigh = view.getInt32(BLOCK.maxTimestamp + 4, true);
    this.#maxTerm = getSafe(view, BLOCK.maxTerm);
    for (let i = 0; i < BLOCK_ENTRIES; i++) {
      this.offsets[i] = view.getUint32(BLOCK.offsets + 4 * i, true);
    }
  }
}

/** Whether a block's bytes are valid and hold at least `count` entries. */
export function isBlockValid(
  block: Uint8Array<ArrayBuffer>,
  salt: number,
  blockAt: number,
  count: number,
): boolean {
  const view = viewOf(block);
  const stored = view.getUint32(BLOCK.count, true);
  if (stored < count || stored > BLOCK_ENTRIES) return false;
  const crc = crc32(block.subarray(4), (salt ^ blockAt) >>> 0);
  return crc === view.getUint32(BLOCK.crc, true);
}

/** Reads a footer, if it is valid for a segment with this salt. */
export function decodeFooter(
  bytes: Uint8Array<ArrayBuffer>,
  salt: number,
): Footer | undefined {
  if (!hasMagic(bytes, FOOTER.magic, FOOTER_MAGIC)) return undefined;
  const view = viewOf(bytes);
  const crc = crc32(bytes.subarray(0, FOOTER.crc), salt);
  if (crc !== view.getUint32(FOOTER.crc, true)) return undefined;
  if (view.getUint32(FOOTER.salt, true) !== salt) return undefined;
  return {
    firstIndex: getSafe(view, FOOTER.firstIndex),
    lastIndex: getSafe(view, FOOTER.lastIndex),
    end: view.getUint32(FOOTER.end, true),
    blockCount: view.getUint32(FOOTER.blockCount, true),
    sealedAtMs: getSafe(view, FOOTER.sealedAtMs),
  };
}
