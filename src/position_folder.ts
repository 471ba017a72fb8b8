/**
 * The folder of consumers: reads their files, and names their locks.
 *
 * @module
 */

import { decodePosition, type PositionOwner } from "./consumer_record.ts";
import {
  UnsupportedFormatError,
  WalCorruptedError,
  WalLockedError,
} from "./errors.ts";
import { CONSUMER_FILE_BYTES, FORMAT_VERSION } from "./format.ts";
import { PositionFile } from "./position_file.ts";
import type { StorageDirectory, StorageLock } from "./storage.ts";

/** A consumer's file; throws when it is damaged, or of a newer version. */
export function readPositionFile(
  directory: StorageDirectory,
  owner: PositionOwner,
): PositionFile {
  const { name } = owner;
  const file = directory.open(name, "read");
  const bytes = new Uint8Array(CONSUMER_FILE_BYTES);
  let count = 0;
  try {
    if (file?.bytes === bytes.length) count = file.readAt(bytes, 0);
  } finally {
    file?.close();
  }
  const verdict = decodePosition(bytes.subarray(0, count), owner);
  if (verdict.kind === "valid") {
    return new PositionFile(directory, owner, verdict);
  }
  if (verdict.kind === "invalid") {
    throw damagedFile(directory, name, "it is damaged");
  }
  const version = `version ${verdict.version}`;
  throw new UnsupportedFormatError(
    `Cannot use consumer "${name}": "${directory.path}/${name}" has ` +
      `${version}, expected version ${FORMAT_VERSION}; a newer release of ` +
      `this library reads it`,
    { found: version, supported: [`version ${FORMAT_VERSION}`] },
  );
}

/** Takes a consumer for this process, or throws `WalLockedError`. */
export function lockConsumer(
  directory: StorageDirectory,
  name: string,
): StorageLock {
  try {
    return directory.lock(lockName(name));
  } catch (error) {
    if (!(error instanceof WalLockedError)) throw error;
    throw lockedError(name, error.pid);
  }
}

/** The lock of a consumer: no consumer has such a name. */
export function lockName(name: string): string {
  return `.${name}.lock`;
}

/** The error for a consumer that somebody has open. */
export function lockedError(
  name: string,
  pid: number | undefined,
): WalLockedError {
  const who = pid === undefined ? "somebody" : `process ${pid}`;
  return new WalLockedError(
    `Cannot open consumer "${name}": ${who} has it open, expected it to be ` +
      `closed before it is opened again`,
    { pid },
  );
}

/** The error for a file that holds no position. */
export function damagedFile(
  directory: StorageDirectory,
  name: string,
  found: string,
): WalCorruptedError {
  const segment = `${directory.path}/${name}`;
  return new WalCorruptedError(
    `Cannot use consumer "${name}": "${segment}" holds no position that can ` +
      `be read, ${found}, expected a position of this log; remove it to ` +
      `begin anew`,
    { segment, offset: 0, firstLostIndex: 0, lastLostIndex: 0 },
  );
}
