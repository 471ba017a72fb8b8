/**
 * Makes a segment's index again from its frames: after a crash, and when an
 * index block turns out to be damaged.
 *
 * @module
 */

import { BLOCK_BYTES, blockOffset, FLAG, HEADER_BYTES } from "./format.ts";
import type { Identity } from "./header.ts";
import { FrameScanner } from "./scan.ts";
import { IndexBuilder } from "./segment_index.ts";
import type { StorageFile } from "./storage.ts";

/** A segment's index, made from its frames. */
export interface RebuiltIndex {
  /** Collects the entries that follow. */
  readonly builder: IndexBuilder;
  /** The bytes of every full block, in order of their entries. */
  readonly blocks: readonly Uint8Array<ArrayBuffer>[];
  /** The offset of every entry. */
  readonly offsets: Uint32Array<ArrayBuffer>;
}

/** Reads the frames of a segment up to `end` and indexes them. */
export function rebuildIndex(
  file: StorageFile,
  identity: Identity,
  baseIndex: number,
  end: number,
): RebuiltIndex {
  const start = { offset: HEADER_BYTES, nextIndex: baseIndex };
  const scanner = new FrameScanner(file, identity, start, end);
  const builder = new IndexBuilder();
  const blocks: Uint8Array<ArrayBuffer>[] = [];
  let offsets = new Uint32Array(1024);
  while (scanner.next()) {
    if ((scanner.flags & FLAG.entry) === 0) continue;
    const { frameOffset, term, timestamp } = scanner;
    if (builder.entryCount === offsets.length) {
      const grown = new Uint32Array(2 * offsets.length);
      grown.set(offsets);
      offsets = grown;
    }
    offsets[builder.entryCount] = frameOffset;
    if (builder.add(frameOffset, term, timestamp)) {
      const at = blockOffset(file.bytes, builder.blockOrdinal);
      blocks.push(builder.encodeBlock(identity.salt, at).slice());
    }
  }
  return {
    builder,
    blocks,
    offsets: offsets.slice(0, builder.entryCount),
  };
}

/** Where the full blocks begin, and their bytes as they lie in the file. */
export function joinBlocks(
  blocks: readonly Uint8Array<ArrayBuffer>[],
  fileBytes: number,
): { offset: number; bytes: Uint8Array<ArrayBuffer> } {
  const bytes = new Uint8Array(blocks.length * BLOCK_BYTES);
  const offset = blocks.length === 0
    ? fileBytes
    : blockOffset(fileBytes, blocks.length - 1);
  for (let i = 0; i < blocks.length; i++) {
    bytes.set(blocks[blocks.length - 1 - i]!, i * BLOCK_BYTES);
  }
  return { offset, bytes };
}
