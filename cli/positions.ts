/**
 * The consumers of a log as their files tell them, without opening the log
 * for writing. docs/format.md §9.
 *
 * @module
 */

import type { Bounds } from "../src/calls.ts";
import {
  decodePosition,
  isConsumerName,
  type PositionOwner,
} from "../src/consumer_record.ts";
import { CONSUMER_FILE_BYTES, CONSUMERS_FOLDER } from "../src/format.ts";
import type { StillLog } from "../src/still_log.ts";
import type { StorageDirectory, StoragePort } from "../src/storage.ts";

/** A consumer of a log. */
export interface Position {
  /** Its name. */
  readonly name: string;
  /** The last entry that it acknowledged; undefined when it is damaged. */
  readonly position: number | undefined;
  /** Entries behind it; all of them when it is damaged. */
  readonly lag: number;
  /** What is wrong with its file. */
  readonly problem: string | undefined;
}

/** All consumers of the log in `directory`, by name. */
export function readPositions(
  storage: StoragePort,
  directory: string,
  log: StillLog,
): Position[] {
  const path = `${directory}/${CONSUMERS_FOLDER}`;
  const modes = { create: false, directoryMode: 0, fileMode: 0 };
  const folder = storage.openDirectory(path, modes);
  if (folder === undefined) return [];
  try {
    const names = folder.list().map(({ name }) => name).filter(isConsumerName);
    const { logId } = log.facts;
    return names.sort().flatMap((name) => {
      const found = readPosition(folder, { logId, name });
      return found === undefined ? [] : [place(name, found, log)];
    });
  } finally {
    folder.close();
  }
}

/** The position, what is wrong with it, or undefined: it was just removed. */
function readPosition(
  folder: StorageDirectory,
  owner: PositionOwner,
): number | string | undefined {
  const { name } = owner;
  const kind = folder.list().find((entry) => entry.name === name)?.kind;
  if (kind !== "file") return kind && "it is not a file";
  const file = folder.open(name, "read");
  if (file === undefined) return undefined;
  const bytes = new Uint8Array(CONSUMER_FILE_BYTES);
  let count = 0;
  try {
    if (file.bytes === bytes.length) count = file.readAt(bytes, 0);
  } finally {
    file.close();
  }
  const verdict = decodePosition(bytes.subarray(0, count), owner);
  if (verdict.kind === "valid") return verdict.record.position;
  return verdict.kind === "version"
    ? `it has version ${verdict.version}, a newer release reads it`
    : "it is damaged";
}

function place(name: string, found: number | string, log: Bounds): Position {
  const last = log.nextIndex - 1;
  const first = log.firstIndex === 0 ? log.nextIndex : log.firstIndex;
  // The next opening for writing lowers what a crash has left above the end.
  const position = typeof found === "number" ? Math.min(found, last) : 0;
  return {
    name,
    position: typeof found === "number" ? position : undefined,
    lag: Math.max(0, last - Math.max(position, first - 1)),
    problem: typeof found === "number" ? undefined : found,
  };
}
