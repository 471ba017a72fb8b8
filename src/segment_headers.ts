/**
 * The header pages of all files with a segment's name, whatever state they
 * are in, and which of the files can be segments of one log. Read-only.
 *
 * @module
 */

import { WalCorruptedError } from "./errors.ts";
import { readCandidate } from "./folder.ts";
import { HEADER_BYTES, segmentNumberOf } from "./format.ts";
import {
  decodeIdentity,
  decodeLink,
  type Identity,
  type Link,
} from "./header.ts";
import { tellSalt } from "./lost_salt.ts";
import type { StorageDirectory } from "./storage.ts";

/** A file with a segment's name that does not belong here. */
export interface Stranger {
  /** Its name. */
  readonly name: string;
  /** What it is instead. */
  readonly fault: string;
}

/** A file with a segment's name. */
export interface FoundHeader {
  /** Its name. */
  readonly name: string;
  /** Its number: by its header, else by its name. */
  readonly number: number;
  /** Its size. */
  readonly bytes: number;
  /** Who it is; undefined when that is lost. */
  readonly identity: Identity | undefined;
  /** Its salt, if anything in it tells. */
  readonly salt: number | undefined;
  /** The link by that salt. */
  readonly link: Link | undefined;
  /** The header page, when its identity is lost: the salt may be told later. */
  readonly page: Uint8Array<ArrayBuffer> | undefined;
}

/** What all segments of the log have in common. */
export interface LogNames {
  /** The log's random id, hex. */
  readonly logId: string;
  /** The log's format name. */
  readonly formatName: string;
}

/** Reads the header pages of all files with a segment's name. */
export function readHeaders(directory: StorageDirectory): FoundHeader[] {
  const found: FoundHeader[] = [];
  for (const { name, kind } of directory.list()) {
    const number = segmentNumberOf(name);
    if (number === undefined || kind !== "file") continue;
    const file = readHeader(directory, name, number);
    if (file !== undefined) found.push(file);
  }
  return found.sort((a, b) => a.number - b.number);
}

function readHeader(
  directory: StorageDirectory,
  name: string,
  number: number,
): FoundHeader | undefined {
  try {
    // Newer versions and files of the Go library are refused here, too.
    readCandidate(directory, name, number, undefined);
  } catch (error) {
    if (!(error instanceof WalCorruptedError)) throw error;
  }
  const file = directory.open(name, "read");
  if (file === undefined) return undefined;
  try {
    const page = new Uint8Array(HEADER_BYTES);
    file.readAt(page, 0);
    const { bytes } = file;
    const verdict = decodeIdentity(page);
    const identity = verdict.kind === "valid" ? verdict.identity : undefined;
    const base = { name, number, bytes, identity };
    if (identity !== undefined) {
      const link = decodeLink(page, identity);
      return { ...base, salt: identity.salt, link, page: undefined };
    }
    const salt = tellSalt(file, number);
    return { ...base, salt, link: undefined, page };
  } finally {
    file.close();
  }
}

/** By the number that each file is; files that are not of this log apart. */
export function sortHeaders(
  all: readonly FoundHeader[],
  { logId, formatName }: LogNames,
): { files: Map<number, FoundHeader>; strangers: Stranger[] } {
  const files = new Map<number, FoundHeader>();
  const strangers: Stranger[] = [];
  const misnamed: FoundHeader[] = [];
  for (const file of all) {
    const { name, number, identity } = file;
    if (identity !== undefined && identity.logId !== logId) {
      const fault = `belongs to another log (${identity.logId}), expected ` +
        `log ${logId}`;
      strangers.push({ name, fault });
    } else if (
      identity !== undefined && identity.formatName !== formatName
    ) {
      const fault = `has format "${identity.formatName}", expected ` +
        `"${formatName}"`;
      strangers.push({ name, fault });
    } else if (identity !== undefined && identity.number !== number) {
      misnamed.push(file);
    } else files.set(number, file);
  }
  for (const file of misnamed) {
    const { number } = file.identity!;
    const fault = `is segment ${number} by its header, expected segment ` +
      `${file.number}`;
    if (files.has(number)) {
      strangers.push({ name: file.name, fault });
    } else files.set(number, { ...file, number });
  }
  return { files, strangers };
}

/** What most headers say; undefined when they do not agree, or say nothing. */
export function commonOf(
  files: readonly FoundHeader[],
): LogNames | undefined {
  const counts = new Map<string, { common: LogNames; count: number }>();
  for (const { identity } of files) {
    if (identity === undefined) continue;
    const { logId, formatName } = identity;
    const key = `${logId} ${formatName}`;
    const known = counts.get(key) ??
      { common: { logId, formatName }, count: 0 };
    known.count++;
    counts.set(key, known);
  }
  const [most, second] = [...counts.values()]
    .sort((a, b) => b.count - a.count);
  return most?.count === second?.count ? undefined : most?.common;
}
