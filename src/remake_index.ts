/**
 * Remakes what a log has twice: index and footer from the frames, and a header
 * record from its copy. No entry and no byte of a frame is touched.
 *
 * @module
 */

import { assert } from "./assert.ts";
import type { Kept } from "./damage.ts";
import {
  blockOffset,
  FOOTER_BYTES,
  HEADER_BYTES,
  IDENTITY_BYTES,
  IDENTITY_COPY_OFFSET,
  LINK_BYTES,
  LINK_COPY_OFFSET,
  LINK_OFFSET,
  PAGE_BYTES,
} from "./format.ts";
import { decodeIdentity, decodeLink } from "./header.ts";
import { joinBlocks, rebuildIndex } from "./index_rebuild.ts";
import type { Steps } from "./steps.ts";
import type { StorageDirectory, StorageFile } from "./storage.ts";
import type { Survey } from "./survey.ts";

/** The segments whose index or header can be remade without any doubt. */
export function remakable({ kept, indexFaults }: Survey): Kept[] {
  const faulty = new Set(indexFaults.map(({ number }) => number));
  return kept.filter(({ reading }) => {
    const { member, parts } = reading;
    const sound = member.fault === undefined && member.link !== undefined &&
      parts.every(({ kind }) => kind === "piece");
    return sound && faulty.has(member.number);
  });
}

/**
 * Remakes index, footer and header copy of one segment. `sealedAtMs`: when it
 * was sealed; undefined for the last one, which is not.
 */
export function* remakeSegment(
  directory: StorageDirectory,
  { reading, nextIndex, end }: Kept,
  sealedAtMs: number | undefined,
): Steps<void> {
  const { identity, link, name } = reading.member;
  const file = directory.open(name, "write");
  assert(file !== undefined, `"${name}" was there a moment ago`);
  try {
    remakeHeader(file);
    const { baseIndex } = link!;
    const rebuilt = rebuildIndex(file, identity, baseIndex, end);
    const { builder, blocks } = rebuilt;
    assert(
      builder.entryCount === nextIndex - baseIndex,
      "the frames are as they were read a moment ago",
    );
    const { offset, bytes } = joinBlocks(blocks, file.bytes);
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      file.writeAt(bytes.subarray(at, at + PAGE_BYTES), offset + at);
    }
    const { salt } = identity;
    if (builder.pendingCount > 0) {
      const at = blockOffset(file.bytes, builder.blockOrdinal);
      file.writeAt(builder.encodeBlock(salt, at), at);
    }
    if (sealedAtMs !== undefined) {
      const footer = builder.encodeFooter({
        firstIndex: baseIndex,
        lastIndex: nextIndex - 1,
        end,
        blockCount: builder.blockOrdinal + 1,
        sealedAtMs,
      }, salt);
      file.writeAt(footer, file.bytes - FOOTER_BYTES);
    }
    yield [file];
  } finally {
    file.close();
  }
}

/** Writes the sound one of two records over the other, where they differ. */
function remakeHeader(file: StorageFile): void {
  const page = new Uint8Array(HEADER_BYTES);
  file.readAt(page, 0);
  const verdict = decodeIdentity(page);
  assert(verdict.kind === "valid", "one of the two records was sound");
  const { identity } = verdict;
  const records = [
    [0, IDENTITY_COPY_OFFSET, IDENTITY_BYTES],
    [LINK_OFFSET, LINK_COPY_OFFSET, LINK_BYTES],
  ] as const;
  for (const [first, copy, bytes] of records) {
    const isSound = (at: number) => {
      // Alone on its page, a record is read only if it is sound itself.
      const alone = new Uint8Array(HEADER_BYTES);
      alone.set(page.subarray(at, at + bytes), at);
      if (first === 0) return decodeIdentity(alone).kind === "valid";
      return decodeLink(alone, identity) !== undefined;
    };
    // Where both are sound the first one counts.
    const [from, to] = isSound(first) ? [first, copy] : [copy, first];
    const record = page.slice(from, from + bytes);
    if (record.every((byte, i) => byte === page[to + i])) continue;
    file.writeAt(record, to);
  }
}
