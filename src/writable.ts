/**
 * A log as a stream to write into.
 *
 * @module
 */

import type { AppendOptions } from "./calls.ts";
import { checkNames, checkWholeIn, isObject, show } from "./checks.ts";
import type { EntryInput } from "./entry.ts";

/** How far a stream may run ahead of the disk. */
export interface WritableOptions {
  /**
   * `write` waits while more bytes than these are not durable; 0 waits for
   * each entry. @default {1048576}
   */
  maxUnsyncedBytes?: number | undefined;
}

/** What a stream writes into. */
export interface WrittenLog {
  /** Writes an entry. */
  append(entry: EntryInput, options?: AppendOptions): Promise<number>;
  /** Makes all durable. */
  flush(): Promise<void>;
  /** Bytes that are not durable yet. */
  unsyncedBytes(): number;
}

const UNSYNCED_BYTES = 1024 * 1024;

/** Appends what is written; closing it makes all durable. */
export function writeEntries(
  log: WrittenLog,
  options: WritableOptions | undefined,
): WritableStream<EntryInput> {
  const most = readMost(options);
  return new WritableStream<EntryInput>({
    async write(entry) {
      await log.append(entry, { durable: false });
      if (log.unsyncedBytes() > most) await log.flush();
    },
    close: () => log.flush(),
  });
}

function readMost(options: WritableOptions | undefined): number {
  if (options !== undefined && !isObject(options)) {
    throw new TypeError(
      `Cannot write stream: options is ${show(options)}, expected an object`,
    );
  }
  const given = options ?? {};
  checkNames("writable options", given, ["maxUnsyncedBytes"]);
  const { maxUnsyncedBytes = UNSYNCED_BYTES } = given;
  return checkWholeIn(
    "Cannot write stream",
    "maxUnsyncedBytes",
    maxUnsyncedBytes,
    {
      least: 0,
      most: Number.MAX_SAFE_INTEGER,
    },
  );
}
