/**
 * A segment's first page: the identity record and the link record, each twice.
 *
 * Pure: bytes in, values out. Identity, not the file name, is the truth about
 * a segment; the link says where it stands in the chain. docs/format.md §3.
 *
 * @module
 */

import { assert } from "./assert.ts";
import { crc32 } from "./crc32.ts";
import {
  getName,
  getNumber,
  getSafe,
  hasMagic,
  hex,
  isZero,
  setHex,
  setName,
  setSafe,
  viewOf,
} from "./fields.ts";
import {
  CAUSE,
  FORMAT_VERSION,
  HEADER_BYTES,
  IDENTITY,
  IDENTITY_BYTES,
  IDENTITY_COPY_OFFSET,
  LINK,
  LINK_BYTES,
  LINK_COPY_OFFSET,
  LINK_OFFSET,
  LOG_ID_BYTES,
  PAGE_BYTES,
  SEGMENT_BYTES_MAX,
  SEGMENT_MAGIC,
} from "./format.ts";
import type { Position } from "./mark.ts";

/** Who a segment is; written before the file has its final name. */
export interface Identity {
  /** The log's random id, hex. */
  readonly logId: string;
  /** The running number, never used twice. */
  readonly number: number;
  /** Random; seeds every checksum of this segment's frames and index. */
  readonly salt: number;
  /** The file's exact size in bytes. */
  readonly segmentBytes: number;
  /** The log's format name. */
  readonly formatName: string;
  /** When it was made, milliseconds since 1970. */
  readonly createdAtMs: number;
}

/** Where a segment stands in the chain; written when it becomes active. */
export interface Link {
  /** The index of its first entry. */
  readonly baseIndex: number;
  /** The predecessor's number; 0 when the chain begins here. */
  readonly previousNumber: number;
  /** The predecessor's salt. */
  readonly previousSalt: number;
  /** Where the predecessor's frames effectively end. */
  readonly previousEnd: number;
  /** The predecessor's last index that counts. */
  readonly previousLastIndex: number;
  /** How often the log's end was cut back. */
  readonly generation: number;
  /** The durable mark when this was written. */
  readonly mark: Position;
  /** Why it was begun, one of `CAUSE`: what becomes of segments passed over. */
  readonly cause: number;
}

/** What an identity record turned out to be. */
export type IdentityVerdict =
  | { readonly kind: "valid"; readonly identity: Identity }
  | { readonly kind: "version"; readonly version: number }
  | { readonly kind: "foreign" }
  | { readonly kind: "invalid" };

/** The whole header page with both identity records and no link yet. */
export function encodeIdentity(identity: Identity): Uint8Array<ArrayBuffer> {
  const page = new Uint8Array(HEADER_BYTES);
  const view = viewOf(page);
  page.set(SEGMENT_MAGIC, IDENTITY.magic);
  view.setUint32(IDENTITY.version, FORMAT_VERSION, true);
  view.setUint32(IDENTITY.headerBytes, HEADER_BYTES, true);
  setHex(page, IDENTITY.logId, identity.logId);
  setSafe(view, IDENTITY.number, identity.number);
  view.setUint32(IDENTITY.salt, identity.salt, true);
  setSafe(view, IDENTITY.segmentBytes, identity.segmentBytes);
  setName(page, IDENTITY.formatName, identity.formatName);
  setSafe(view, IDENTITY.createdAtMs, identity.createdAtMs);
  const covered = page.subarray(0, IDENTITY.crc);
  view.setUint32(IDENTITY.crc, crc32(covered), true);
  page.copyWithin(IDENTITY_COPY_OFFSET, 0, IDENTITY_BYTES);
  const verdict = decodeIdentity(page);
  assert(verdict.kind === "valid", "an identity must read back as written");
  return page;
}

/** A whole header page: both records, each with its copy. */
export function encodeHeader(
  identity: Identity,
  link: Link,
): Uint8Array<ArrayBuffer> {
  const page = encodeIdentity(identity);
  const record = encodeLink(link, identity.salt);
  page.set(record, LINK_OFFSET);
  page.set(record, LINK_COPY_OFFSET);
  return page;
}

/** Reads the identity of a header page from whichever record is valid. */
export function decodeIdentity(
  page: Uint8Array<ArrayBuffer>,
): IdentityVerdict {
  if (page.length < HEADER_BYTES) return { kind: "invalid" };
  const first = page.subarray(0, IDENTITY_BYTES);
  const second = page.subarray(IDENTITY_COPY_OFFSET, HEADER_BYTES);
  const verdict = decodeIdentityRecord(first);
  if (verdict.kind === "valid") return verdict;
  const copy = decodeIdentityRecord(second);
  if (copy.kind === "valid" || verdict.kind === "foreign") return copy;
  return verdict.kind === "version" ? verdict : copy;
}

function decodeIdentityRecord(
  record: Uint8Array<ArrayBuffer>,
): IdentityVerdict {
  if (!hasMagic(record, IDENTITY.magic, SEGMENT_MAGIC)) {
    return { kind: "foreign" };
  }
  const view = viewOf(record);
  const version = view.getUint32(IDENTITY.version, true);
  const crc = crc32(record.subarray(0, IDENTITY.crc));
  const sound = crc === view.getUint32(IDENTITY.crc, true);
  // The checksum has its place in every version: only a sound record is
  // believed to be newer.
  if (!sound || version < FORMAT_VERSION) return { kind: "invalid" };
  if (version > FORMAT_VERSION) return { kind: "version", version };
  const formatName = getName(record, IDENTITY.formatName);
  const logIdEnd = IDENTITY.logId + LOG_ID_BYTES;
  const identity = {
    logId: hex(record.subarray(IDENTITY.logId, logIdEnd)),
    number: getNumber(view, IDENTITY.number),
    salt: view.getUint32(IDENTITY.salt, true),
    segmentBytes: getSafe(view, IDENTITY.segmentBytes),
    formatName: formatName ?? "",
    createdAtMs: getSafe(view, IDENTITY.createdAtMs),
  };
  const wellFormed = formatName !== undefined && identity.number >= 1 &&
    view.getUint32(IDENTITY.headerBytes, true) === HEADER_BYTES &&
    view.getUint32(IDENTITY.reserved, true) === 0 &&
    isZero(record, IDENTITY.reservedTail, IDENTITY.crc) &&
    identity.segmentBytes > HEADER_BYTES &&
    identity.segmentBytes <= SEGMENT_BYTES_MAX &&
    identity.segmentBytes % PAGE_BYTES === 0 && identity.createdAtMs >= 0;
  return wellFormed ? { kind: "valid", identity } : { kind: "invalid" };
}

/** The link record's bytes, sealed with the segment's salt. */
export function encodeLink(
  link: Link,
  salt: number,
): Uint8Array<ArrayBuffer> {
  const record = new Uint8Array(LINK_BYTES);
  const view = viewOf(record);
  setSafe(view, LINK.baseIndex, link.baseIndex);
  setSafe(view, LINK.previousNumber, link.previousNumber);
  view.setUint32(LINK.previousSalt, link.previousSalt, true);
  view.setUint32(LINK.previousEnd, link.previousEnd, true);
  setSafe(view, LINK.previousLastIndex, link.previousLastIndex);
  setSafe(view, LINK.generation, link.generation);
  setSafe(view, LINK.markNumber, link.mark.number);
  view.setUint32(LINK.markOffset, link.mark.offset, true);
  view.setUint32(LINK.cause, link.cause, true);
  const crc = crc32(record.subarray(0, LINK.crc), salt);
  view.setUint32(LINK.crc, crc, true);
  return record;
}

/** The link of a header page from whichever record is valid for `identity`. */
export function decodeLink(
  page: Uint8Array<ArrayBuffer>,
  identity: Identity,
): Link | undefined {
  return decodeLinkRecord(page, LINK_OFFSET, identity) ??
    decodeLinkRecord(page, LINK_COPY_OFFSET, identity);
}

function decodeLinkRecord(
  page: Uint8Array<ArrayBuffer>,
  offset: number,
  identity: Identity,
): Link | undefined {
  const record = page.subarray(offset, offset + LINK_BYTES);
  const view = viewOf(record);
  const crc = crc32(record.subarray(0, LINK.crc), identity.salt);
  if (crc !== view.getUint32(LINK.crc, true)) return undefined;
  const link: Link = {
    baseIndex: getSafe(view, LINK.baseIndex),
    previousNumber: getNumber(view, LINK.previousNumber),
    previousSalt: view.getUint32(LINK.previousSalt, true),
    previousEnd: view.getUint32(LINK.previousEnd, true),
    previousLastIndex: getSafe(view, LINK.previousLastIndex),
    generation: getNumber(view, LINK.generation),
    mark: {
      number: getNumber(view, LINK.markNumber),
      offset: view.getUint32(LINK.markOffset, true),
    },
    cause: view.getUint32(LINK.cause, true),
  };
  return isPlausible(link, identity) && isZero(record, LINK.reserved, LINK.crc)
    ? link
    : undefined;
}

function isPlausible(link: Link, identity: Identity): boolean {
  if (!(link.baseIndex >= 1 && link.generation >= 0)) return false;
  if (link.cause > CAUSE.recovered) return false;
  if (!(link.mark.number >= 0 && link.mark.number <= identity.number)) {
    return false;
  }
  if (link.previousNumber === 0) {
    return link.previousSalt === 0 && link.previousEnd === 0 &&
      link.previousLastIndex === link.baseIndex - 1;
  }
  return link.previousNumber < identity.number &&
    link.previousEnd >= HEADER_BYTES && link.previousEnd % 8 === 0 &&
    link.previousLastIndex === link.baseIndex - 1;
}
