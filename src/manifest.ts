/**
 * The manifest: what the log is made of, in one small file that is replaced
 * atomically. Pure: bytes in, values out. docs/format.md §6.
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
  FORMAT_VERSION,
  LOG_ID_BYTES,
  MANIFEST,
  MANIFEST_BYTES,
  MANIFEST_MAGIC,
} from "./format.ts";
import type { Position } from "./mark.ts";

/** What the log is made of. */
export interface Manifest {
  /** The log's random id, hex. */
  readonly logId: string;
  /** The log's format name. */
  readonly formatName: string;
  /** The first entry that is not removed: exact. */
  readonly firstIndex: number;
  /** Segments with lower numbers are leftovers. */
  readonly firstSegment: number;
  /** The chain's last segment is this one or a later one. */
  readonly lastSegment: number;
  /** No segment ever had this number or a higher one, up to here. */
  readonly nextSegment: number;
  /** A lower bound of the next entry's index; exact when closed. */
  readonly nextIndex: number;
  /** How often the log's end was cut back. */
  readonly generation: number;
  /** A durable mark; the log's end when closed. */
  readonly mark: Position;
  /** Whether the log was closed after this was written: nothing follows. */
  readonly closed: boolean;
}

/** What a manifest file turned out to be. */
export type ManifestVerdict =
  | { readonly kind: "valid"; readonly manifest: Manifest }
  | { readonly kind: "version"; readonly version: number }
  | { readonly kind: "foreign" }
  | { readonly kind: "invalid" };

/** The manifest's bytes. */
export function encodeManifest(manifest: Manifest): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(MANIFEST_BYTES);
  const view = viewOf(bytes);
  bytes.set(MANIFEST_MAGIC, MANIFEST.magic);
  view.setUint32(MANIFEST.version, FORMAT_VERSION, true);
  view.setUint32(MANIFEST.bytes, MANIFEST_BYTES, true);
  setHex(bytes, MANIFEST.logId, manifest.logId);
  setName(bytes, MANIFEST.formatName, manifest.formatName);
  setSafe(view, MANIFEST.firstIndex, manifest.firstIndex);
  setSafe(view, MANIFEST.firstSegment, manifest.firstSegment);
  setSafe(view, MANIFEST.lastSegment, manifest.lastSegment);
  setSafe(view, MANIFEST.nextSegment, manifest.nextSegment);
  setSafe(view, MANIFEST.nextIndex, manifest.nextIndex);
  setSafe(view, MANIFEST.generation, manifest.generation);
  setSafe(view, MANIFEST.markNumber, manifest.mark.number);
  view.setUint32(MANIFEST.markOffset, manifest.mark.offset, true);
  view.setUint32(MANIFEST.closed, manifest.closed ? 1 : 0, true);
  const crc = crc32(bytes.subarray(0, MANIFEST.crc));
  view.setUint32(MANIFEST.crc, crc, true);
  const verdict = decodeManifest(bytes);
  assert(verdict.kind === "valid", "a manifest must read back as written");
  return bytes;
}

/** Reads a manifest file's bytes. */
export function decodeManifest(
  bytes: Uint8Array<ArrayBuffer>,
): ManifestVerdict {
  if (bytes.length < 16 || !hasMagic(bytes, MANIFEST.magic, MANIFEST_MAGIC)) {
    return { kind: bytes.length < 16 ? "invalid" : "foreign" };
  }
  // Size and checksum have their place in every version: only a sound file
  // is believed to be newer.
  if (bytes.length !== MANIFEST_BYTES) return { kind: "invalid" };
  const view = viewOf(bytes);
  const version = view.getUint32(MANIFEST.version, true);
  const crc = crc32(bytes.subarray(0, MANIFEST.crc));
  if (crc !== view.getUint32(MANIFEST.crc, true)) return { kind: "invalid" };
  if (version > FORMAT_VERSION) return { kind: "version", version };
  if (version < FORMAT_VERSION) return { kind: "invalid" };
  const logIdEnd = MANIFEST.logId + LOG_ID_BYTES;
  const closed = view.getUint32(MANIFEST.closed, true);
  const manifest: Manifest = {
    logId: hex(bytes.subarray(MANIFEST.logId, logIdEnd)),
    formatName: getName(bytes, MANIFEST.formatName) ?? "",
    firstIndex: getSafe(view, MANIFEST.firstIndex),
    firstSegment: getNumber(view, MANIFEST.firstSegment),
    lastSegment: getNumber(view, MANIFEST.lastSegment),
    nextSegment: getNumber(view, MANIFEST.nextSegment),
    nextIndex: getSafe(view, MANIFEST.nextIndex),
    generation: getNumber(view, MANIFEST.generation),
    mark: {
      number: getNumber(view, MANIFEST.markNumber),
      offset: view.getUint32(MANIFEST.markOffset, true),
    },
    closed: closed === 1,
  };
  const wellFormed = manifest.formatName !== "" && closed <= 1 &&
    view.getUint32(MANIFEST.bytes, true) === MANIFEST_BYTES &&
    isZero(bytes, MANIFEST.reserved, MANIFEST.crc) && isOrdered(manifest);
  return wellFormed ? { kind: "valid", manifest } : { kind: "invalid" };
}

function isOrdered(manifest: Manifest): boolean {
  return manifest.firstIndex >= 1 &&
    manifest.nextIndex >= manifest.firstIndex &&
    manifest.firstSegment >= 1 &&
    manifest.lastSegment >= manifest.firstSegment &&
    manifest.nextSegment > manifest.lastSegment &&
    manifest.generation >= 0 &&
    manifest.mark.number <= manifest.lastSegment;
}
