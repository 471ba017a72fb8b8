/**
 * What lies in a log's folder, file by file: the manifest and the segments'
 * header pages, each refused when it is foreign, newer or damaged. Read-only.
 * docs/format.md §7, steps 1 and 2.
 *
 * @module
 */

import { UnsupportedFormatError, WalCorruptedError } from "./errors.ts";
import {
  FOOTER_BYTES,
  FORMAT_VERSION,
  HEADER_BYTES,
  MANIFEST_BYTES,
  MANIFEST_NAME,
  NUMBER_MAX,
} from "./format.ts";
import { goFolderFormat } from "./go_folder.ts";
import {
  decodeIdentity,
  decodeLink,
  type Identity,
  type Link,
} from "./header.ts";
import { decodeManifest, type Manifest } from "./manifest.ts";
import { decodeFooter } from "./segment_index.ts";
import type { StorageDirectory } from "./storage.ts";

/** A file with a segment's name. */
export interface Candidate {
  /** Its name. */
  readonly name: string;
  /** The number in its name. */
  readonly number: number;
  /** Who it is, if its header is sound. */
  readonly identity: Identity | undefined;
  /** Where it stands, if its link is sound. */
  readonly link: Link | undefined;
  /** The file's size. */
  readonly bytes: number;
}

/** The damaged-file error for a place where no entries can be named. */
export function corruptedFile(path: string, what: string): WalCorruptedError {
  return new WalCorruptedError(`Cannot open log: "${path}" ${what}`, {
    segment: path,
    offset: 0,
    firstLostIndex: 0,
    lastLostIndex: 0,
  });
}

/** The manifest, if there is one; throws when it is damaged or foreign. */
export function readManifest(
  directory: StorageDirectory,
): Manifest | undefined {
  const file = directory.open(MANIFEST_NAME, "read");
  if (file === undefined) return undefined;
  const path = `${directory.path}/${MANIFEST_NAME}`;
  try {
    const bytes = new Uint8Array(Math.min(file.bytes, MANIFEST_BYTES + 1));
    const count = file.readAt(bytes, 0);
    const verdict = decodeManifest(bytes.subarray(0, count));
    if (verdict.kind === "valid") {
      const { nextSegment, generation } = verdict.manifest;
      if (Math.max(nextSegment, generation) <= NUMBER_MAX) {
        return verdict.manifest;
      }
      const found = `${nextSegment} and ${generation}`;
      throw corruptedFile(
        path,
        `counts segments and cuts up to ${found}, expected numbers that can ` +
          `be counted on`,
      );
    }
    if (verdict.kind === "version") throw newerVersion(path, verdict.version);
    const what = verdict.kind === "foreign"
      ? "is not a manifest of this library"
      : "is damaged: its size, its checksum or a field is wrong";
    throw corruptedFile(path, `${what}, expected a valid manifest`);
  } finally {
    file.close();
  }
}

function newerVersion(path: string, version: number): UnsupportedFormatError {
  return new UnsupportedFormatError(
    `Cannot open log: "${path}" has format version ${version}, expected ` +
      `version ${FORMAT_VERSION}; a newer release of this library reads it`,
    { found: `version ${version}`, supported: [`version ${FORMAT_VERSION}`] },
  );
}

const headerPage: Uint8Array<ArrayBuffer> = new Uint8Array(HEADER_BYTES);

/** Reads one segment file's header page. */
export function readCandidate(
  directory: StorageDirectory,
  name: string,
  number: number,
  manifest: Manifest | undefined,
): Candidate {
  const path = `${directory.path}/${name}`;
  const file = directory.open(name, "read");
  const bytes = file?.bytes ?? 0;
  const none = { name, number, identity: undefined, link: undefined, bytes };
  if (file === undefined) return none;
  try {
    headerPage.fill(0);
    const count = file.readAt(headerPage, 0);
    const verdict = decodeIdentity(headerPage);
    if (verdict.kind === "version") throw newerVersion(path, verdict.version);
    if (verdict.kind !== "valid") {
      refuseForeign(path, headerPage.subarray(0, count), file.bytes);
      return none;
    }
    const { identity } = verdict;
    // A size that no sync covers may be lost in a power cut.
    const young = manifest !== undefined && number > manifest.lastSegment;
    if (young && file.bytes < identity.segmentBytes) return none;
    checkIdentity(path, number, identity, manifest);
    const found = decodeLink(headerPage, identity);
    const usable = found !== undefined && found.generation <= NUMBER_MAX;
    const link = usable ? found : undefined;
    return { name, number, identity, link, bytes };
  } finally {
    file.close();
  }
}

function refuseForeign(
  path: string,
  start: Uint8Array<ArrayBuffer>,
  fileBytes: number,
): void {
  const go = goFolderFormat(start, fileBytes);
  if (go !== undefined) {
    throw new UnsupportedFormatError(
      `Cannot open log: "${path}" was written by the Go library walrus ` +
        `(${go}), expected a segment of this library; use another folder`,
      { found: go, supported: [`walrus version ${FORMAT_VERSION}`] },
    );
  }
}

function checkIdentity(
  path: string,
  number: number,
  identity: Identity,
  manifest: Manifest | undefined,
): void {
  if (identity.number !== number) {
    const is = `is segment ${identity.number} by its header`;
    throw corruptedFile(path, `${is}, expected segment ${number}`);
  }
  if (manifest === undefined) return;
  if (identity.logId !== manifest.logId) {
    const is = `belongs to another log (${identity.logId})`;
    throw corruptedFile(path, `${is}, expected log ${manifest.logId}`);
  }
  if (identity.formatName !== manifest.formatName) {
    const is = `has format "${identity.formatName}"`;
    throw corruptedFile(path, `${is}, expected "${manifest.formatName}"`);
  }
}

/** What a sealed segment's footer gives as its last entry, if it is sound. */
export function sealedLastIndex(
  directory: StorageDirectory,
  candidate: Candidate,
): number | undefined {
  const { name, identity } = candidate;
  const file = identity && directory.open(name, "read");
  if (file === undefined) return undefined;
  try {
    const footer = new Uint8Array(FOOTER_BYTES);
    file.readAt(footer, file.bytes - FOOTER_BYTES);
    return decodeFooter(footer, identity!.salt)?.lastIndex;
  } finally {
    file.close();
  }
}
