/**
 * Makes segments: a new file, or the spare one, gets identity and link, and
 * then the name that makes it count. docs/format.md §3.
 *
 * @module
 */

import {
  alignPage,
  FRAME_HEADER_BYTES,
  HEADER_BYTES,
  indexBytes,
  LINK_COPY_OFFSET,
  LINK_OFFSET,
  SEGMENT_BYTES_MAX,
  segmentName,
  TEMPORARY_EXTENSION,
} from "./format.ts";
import { createFresh, removeQuietly } from "./fresh_file.ts";
import { encodeIdentity, encodeLink, type Link } from "./header.ts";
import type { LogIdentity } from "./log_state.ts";
import { Segment } from "./segment.ts";
import { IndexBuilder } from "./segment_index.ts";
import type { StorageDirectory, StorageFile, StoragePort } from "./storage.ts";

/** Reads a random salt. */
export function randomSalt(storage: StoragePort): number {
  const bytes = new Uint8Array(4);
  storage.fillRandom(bytes);
  return new DataView(bytes.buffer).getUint32(0, true);
}

/** The size of a segment that must hold one batch, or more of such. */
export function segmentBytesFor(
  batchBytes: number,
  entryCount: number,
  segmentBytes: number,
): number {
  const rest = HEADER_BYTES + FRAME_HEADER_BYTES;
  const needed = alignPage(rest + batchBytes + indexBytes(entryCount));
  return Math.max(needed, segmentBytes);
}

/** The most bytes that the frames of one batch can take. */
export function batchBytesMax(entryCount: number): number {
  return SEGMENT_BYTES_MAX - HEADER_BYTES - FRAME_HEADER_BYTES -
    indexBytes(entryCount);
}

/**
 * Makes a segment file, attached for writing, of the spare one where there is
 * one. On failure nothing is left.
 */
export function makeSegment(
  storage: StoragePort,
  directory: StorageDirectory,
  log: LogIdentity,
  number: number,
  segmentBytes: number,
  link: Link,
  spare?: StorageFile,
): Segment {
  const segment = prepareSegment(
    storage,
    directory,
    log,
    number,
    segmentBytes,
    link,
    spare,
  );
  placeSegment(directory, segment, spare?.name);
  spare?.renamed?.(segment.name);
  return segment;
}

/** Gives a prepared segment its final name. On failure nothing is left. */
export function placeSegment(
  directory: StorageDirectory,
  segment: Segment,
  temporary: string = segment.name + TEMPORARY_EXTENSION,
): void {
  try {
    directory.rename(temporary, segment.name);
  } catch (error) {
    segment.file.close();
    removeQuietly(directory, temporary);
    throw error;
  }
}

/**
 * Makes a segment file under its temporary name with identity and link,
 * attached for writing. On failure nothing is left.
 */
export function prepareSegment(
  storage: StoragePort,
  directory: StorageDirectory,
  log: LogIdentity,
  number: number,
  segmentBytes: number,
  link: Link,
  spare?: StorageFile,
): Segment {
  const identity = {
    ...log,
    number,
    salt: randomSalt(storage),
    segmentBytes,
    createdAtMs: storage.clock.nowMs(),
  };
  const name = segmentName(number);
  const temporary = spare?.name ?? name + TEMPORARY_EXTENSION;
  const file = spare ?? createFresh(directory, temporary, segmentBytes);
  let attached: Segment | undefined;
  try {
    const page = encodeIdentity(identity);
    file.writeAt(page, 0);
    // The link comes second: it is what makes the segment count.
    const record = encodeLink(link, identity.salt);
    file.writeAt(record, LINK_OFFSET);
    file.writeAt(record, LINK_COPY_OFFSET);
    const member = { name, identity, link };
    const last = link.baseIndex - 1;
    attached = new Segment(directory, member, HEADER_BYTES, last);
    attached.file.attach(file);
    attached.grow(new IndexBuilder());
    return attached;
  } catch (error) {
    if (attached === undefined) file.close();
    else attached.file.close();
    removeQuietly(directory, temporary);
    throw error;
  }
}
