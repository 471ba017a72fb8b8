/**
 * Compares a segment's index and footer with its frames, block by block, so
 * that its memory is one block. docs/format.md §5.
 *
 * A wrong index loses nothing: readers make it again from the frames. Nor
 * does a wrong spare header, which is checked here, too.
 *
 * @module
 */

import { viewOf } from "./fields.ts";
import {
  BLOCK,
  BLOCK_BYTES,
  BLOCK_ENTRIES,
  blockOffset,
  FOOTER_BYTES,
  HEADER_BYTES,
  IDENTITY_BYTES,
  IDENTITY_COPY_OFFSET,
  LINK_BYTES,
  LINK_COPY_OFFSET,
  LINK_OFFSET,
} from "./format.ts";
import type { Wide } from "./frame.ts";
import { decodeFooter, IndexBuilder, isBlockValid } from "./segment_index.ts";
import type { StorageFile } from "./storage.ts";

/** What is wrong with an index, in words. */
export interface IndexFault {
  /** Where in the file. */
  readonly offset: number;
  /** What was found and expected. */
  readonly message: string;
}

/** Follows the frames of one segment and checks each block on the way. */
export class IndexCheck {
  readonly #file: StorageFile;
  readonly #salt: number;
  readonly #builder = new IndexBuilder();
  readonly #block = new Uint8Array(BLOCK_BYTES);
  #aligned = true;
  #blocks = 0;
  #faults = 0;
  #first: IndexFault | undefined;

  /** A check of the index in `file`, of a segment with `salt`. */
  constructor(file: StorageFile, salt: number) {
    this.#file = file;
    this.#salt = salt;
  }

  /** The next entry's frame. */
  add(offset: number, term: number, timestamp: Wide): void {
    if (!this.#aligned) return;
    if (this.#builder.add(offset, term, timestamp)) {
      this.#compare(this.#blocks++, BLOCK_ENTRIES);
    }
  }

  /** Entries are lost: from here on blocks are checked by themselves. */
  lose(): void {
    this.#aligned = false;
  }

  /** Checks what is left of the index of `entryCount` entries. */
  finish(entryCount: number): IndexFault | undefined {
    const blockCount = Math.ceil(entryCount / BLOCK_ENTRIES);
    // The count may come from a forged file: one block outside says enough.
    const blockMax = Math.floor(this.#file.bytes / BLOCK_BYTES);
    while (this.#blocks < Math.min(blockCount, blockMax)) {
      const ordinal = this.#blocks++;
      const rest = entryCount - ordinal * BLOCK_ENTRIES;
      this.#compare(ordinal, Math.min(BLOCK_ENTRIES, rest));
    }
    if (this.#first === undefined || this.#faults === 1) return this.#first;
    const more = `; ${this.#faults} of ${blockCount} blocks are wrong`;
    return { ...this.#first, message: this.#first.message + more };
  }

  #compare(ordinal: number, count: number): void {
    const offset = blockOffset(this.#file.bytes, ordinal);
    const message = this.#faultOf(offset, ordinal, count);
    if (message === undefined) return;
    this.#faults++;
    this.#first ??= { offset, message: `index block ${ordinal} ${message}` };
  }

  #faultOf(at: number, ordinal: number, count: number): string | undefined {
    const block = this.#block;
    if (at < HEADER_BYTES || this.#file.readAt(block, at) < BLOCK_BYTES) {
      return "lies outside of the file, expected it in front of the footer";
    }
    if (!isBlockValid(block, this.#salt, at, count)) {
      return `has a wrong checksum or count, expected ${count} sound offsets`;
    }
    const builder = this.#builder;
    if (!this.#aligned || builder.blockOrdinal !== ordinal) return undefined;
    const found = viewOf(block);
    const wanted = viewOf(builder.encodeBlock(this.#salt, at));
    for (let i = 0; i < count; i++) {
      const place = BLOCK.offsets + 4 * i;
      const offset = found.getUint32(place, true);
      const frame = wanted.getUint32(place, true);
      if (offset === frame) continue;
      return `names offset ${offset} for its entry ${i}, expected ${frame}`;
    }
    // A truncation leaves blocks that also speak of entries it removed.
    if (found.getUint32(BLOCK.count, true) !== count) return undefined;
    for (let place = BLOCK.maxTimestamp; place < BLOCK.offsets; place += 4) {
      if (found.getUint32(place, true) !== wanted.getUint32(place, true)) {
        return "has a wrong greatest time or term, expected that of its entries";
      }
    }
    return undefined;
  }
}

/** What is wrong with a sealed segment's footer. */
export function checkFooter(
  file: StorageFile,
  salt: number,
  expected: { firstIndex: number; lastIndex: number; end: number },
): IndexFault | undefined {
  const offset = file.bytes - FOOTER_BYTES;
  const bytes = new Uint8Array(FOOTER_BYTES);
  const { firstIndex, lastIndex, end } = expected;
  const range = `${firstIndex} to ${lastIndex}`;
  const footer = file.readAt(bytes, offset) < FOOTER_BYTES
    ? undefined
    : decodeFooter(bytes, salt);
  if (footer === undefined) {
    const message = `the footer is missing or damaged, expected one for ` +
      `entries ${range}`;
    return { offset, message };
  }
  const blocks = Math.ceil((lastIndex - firstIndex + 1) / BLOCK_ENTRIES);
  // A later cut may have ended the segment before what its footer names.
  const right = footer.firstIndex === firstIndex &&
    footer.lastIndex >= lastIndex && footer.end >= end &&
    footer.blockCount >= blocks;
  if (right) return undefined;
  const message = `the footer names entries ${footer.firstIndex} to ` +
    `${footer.lastIndex} up to offset ${footer.end}, expected ${range} up to ` +
    `offset ${end}`;
  return { offset, message };
}

/** The records of a header page that stand in it twice. */
const TWICE = [
  ["identity", 0, IDENTITY_COPY_OFFSET, IDENTITY_BYTES],
  ["link", LINK_OFFSET, LINK_COPY_OFFSET, LINK_BYTES],
] as const;

/** What is wrong when the two records of a kind are not the same. */
export function checkSpareHeader(file: StorageFile): IndexFault[] {
  const page = new Uint8Array(HEADER_BYTES);
  file.readAt(page, 0);
  const faults: IndexFault[] = [];
  for (const [what, at, copyAt, bytes] of TWICE) {
    for (let i = 0; i < bytes; i++) {
      if (page[at + i] === page[copyAt + i]) continue;
      const message = `the two ${what} records differ at byte ${i}: one is ` +
        `damaged, expected two equal ones`;
      faults.push({ offset: at + i, message });
      break;
    }
  }
  return faults;
}
