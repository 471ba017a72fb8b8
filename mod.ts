/**
 * Walrus: a write-ahead log for Deno, Bun and Node. Appends are stores into
 * a memory-mapped file, and what was acknowledged is never lost.
 *
 * @example Append and read
 * ```ts
 * import { openWal } from "@walrus/wal";
 *
 * await using wal = await openWal("./wal_data");
 * const index = await wal.append("Hello World!"); // resolves when durable
 * console.log(wal.get(index).text());
 * ```
 *
 * @module
 */

import { defaultStorage } from "./ffi/mod.ts";
import { openSteps } from "./src/open.ts";
import {
  checkDirectory,
  checkOptions,
  type ReaderOptions,
  type WalOptions,
} from "./src/options.ts";
import type { WalReader } from "./src/reader.ts";
import { checkReaderOptions } from "./src/reader_options.ts";
import { runBlocking, runSoon } from "./src/steps.ts";
import { openLiveLog } from "./src/live_log.ts";
import { openStillLog, openStillLogSoon } from "./src/still_log.ts";
import type { Wal } from "./src/wal.ts";

export { filesStorage, mappedStorage, memoryStorage } from "./ffi/mod.ts";
export { Batch } from "./src/batch.ts";
export type { AppendOptions } from "./src/calls.ts";
export { BinaryEncoder } from "./src/binary_encoder.ts";
export { Consumer } from "./src/consumer.ts";
export type { ConsumerOptions } from "./src/consumer.ts";
export type { Encoder, EntryRecord } from "./src/encoder.ts";
export type { Entry, EntryFields, EntryInput, EntryJson } from "./src/entry.ts";
export * from "./src/errors.ts";
export { SEGMENT_FILE_EXTENSION, SEGMENT_FILE_PREFIX } from "./src/format.ts";
export { JsonEncoder } from "./src/json_encoder.ts";
export type { Logger } from "./src/logger.ts";
export { defaultOptions } from "./src/options.ts";
export type { Durability, ReaderOptions, WalOptions } from "./src/options.ts";
export type { Percentiles } from "./src/percentiles.ts";
export { WalReader } from "./src/reader.ts";
export type { ReadOptions } from "./src/read_options.ts";
export type { FollowOptions } from "./src/follow.ts";
export type {
  ConsumerInfo,
  RecoveryReport,
  SegmentInfo,
  WalStats,
} from "./src/report.ts";
export type { WalStorage } from "./src/storage.ts";
export { Transaction } from "./src/transaction.ts";
export type { TransactionOptions } from "./src/transactions.ts";
export type { RetentionOptions } from "./src/retention_options.ts";
export { Wal } from "./src/wal.ts";
export type { WritableOptions } from "./src/writable.ts";

/**
 * Opens the log in `directory` for writing; makes it if there is none.
 *
 * @param directory The log's folder, a path or a `file:` URL.
 * @param options How to open it; every field has a default.
 * @returns The open log; close it, or bind it with `await using`.
 * @throws {TypeError | RangeError} when an option is wrong; nothing was done
 * @throws {WalLockedError} when another writer has it open
 * @throws {WalCorruptedError} when durable bytes are damaged
 * @throws {UnsupportedFormatError} when it has another format or version
 * @throws {StorageError} when the system refuses
 *
 * @example Open, append, close
 * ```ts
 * import { openWal } from "@walrus/wal";
 *
 * const wal = await openWal("./wal_data", { sync: "interval" });
 * await wal.append({ data: "set x 1", term: 3 });
 * await wal.close();
 * ```
 *
 * @example Keep what is needed, and what a consumer has not worked off
 * ```ts
 * import { openWal } from "@walrus/wal";
 *
 * await using wal = await openWal("./wal_data", {
 *   retention: { maxBytes: 2 ** 30, maxAgeMs: 7 * 24 * 3600 * 1000 },
 *   logger: console,
 * });
 * await using worker = await wal.consumer("worker");
 * await wal.append("job");
 * for await (const batch of worker.batches({ maxEntries: 100 })) {
 *   await worker.ack(batch.at(-1)!.index);
 *   if (worker.lag === 0) break;
 * }
 * ```
 */
export function openWal(
  directory: string | URL,
  options?: WalOptions,
): Promise<Wal> {
  try {
    const path = checkDirectory(directory);
    const checked = checkOptions(options);
    const storage = checked.storage ?? defaultStorage();
    return runSoon(openSteps(storage, path, checked));
  } catch (error) {
    return Promise.reject(error);
  }
}

/**
 * The blocking twin of `openWal`; throws what that rejects with.
 *
 * @param directory The log's folder, a path or a `file:` URL.
 * @param options How to open it; every field has a default.
 * @returns The open log; close it, or bind it with `using`.
 *
 * @example Open without waiting
 * ```ts
 * import { openWalSync } from "@walrus/wal";
 *
 * using wal = openWalSync("./wal_data");
 * wal.appendSync("Hello World!");
 * ```
 */
export function openWalSync(
  directory: string | URL,
  options?: WalOptions,
): Wal {
  const path = checkDirectory(directory);
  const checked = checkOptions(options);
  const storage = checked.storage ?? defaultStorage();
  return runBlocking(openSteps(storage, path, checked));
}

/**
 * Opens the log in `directory` for reading: takes no lock and changes nothing.
 * Beside a writer, in whatever thread, process or runtime, it shows each batch
 * as soon as it is written, and `follow` waits for the next one; the writer may
 * die and come back. Without a writer it shows the log as it lies on the disk.
 *
 * In Deno it needs `--allow-read` for the folder, and `--allow-write` for
 * consumers and for being woken at once; without that it looks each 1 to 16 ms.
 * What a writer shows is believed at once where both can tell the machine's
 * boot, which Deno grants with `--allow-all` only (it is read from `/proc`);
 * else once it is seen to change: until the writer's next entry the reader
 * shows the log as it was at the opening.
 *
 * With `recovery: "salvage"` a damaged log is opened, too: all of it is read
 * once, every sound entry is served, and `recovery.gaps` lists the lost ones.
 *
 * @param directory The log's folder, a path or a `file:` URL.
 * @param options How to open it; every field has a default.
 * @returns The reader; close it, or bind it with `await using`.
 * @throws {TypeError | RangeError} when an option is wrong; nothing was done
 * @throws {SegmentNotFoundError} when there is no log
 * @throws {WalCorruptedError} when durable bytes are damaged
 * @throws {UnsupportedFormatError} when it has another format or version
 * @throws {StorageError} when the system refuses
 *
 * @example Follow a log that another process writes
 * ```ts
 * import { openReader, openWal } from "@walrus/wal";
 *
 * await using wal = await openWal("./wal_data");
 * await wal.append("one");
 * await using log = await openReader("./wal_data");
 * for await (const entry of log.follow({ from: log.lastIndex })) {
 *   console.log(entry.text());
 *   break;
 * }
 * ```
 *
 * @example Work off what another process writes
 * ```ts
 * import { openReader, openWal } from "@walrus/wal";
 *
 * await using wal = await openWal("./wal_data"); // in the other process
 * await wal.append("job");
 * await using log = await openReader("./wal_data");
 * await using worker = await log.consumer("mailer");
 * for await (const entry of worker.follow()) {
 *   console.log(entry.text());
 *   await worker.ack(entry.index); // outlives both processes
 *   if (worker.lag === 0) break;
 * }
 * ```
 *
 * @example Read what is left of a damaged log
 * ```ts
 * import { openReader } from "@walrus/wal";
 *
 * await using log = await openReader("./wal_data", { recovery: "salvage" });
 * console.log(log.recovery.gaps);
 * for (let from = log.firstIndex; from < log.nextIndex;) {
 *   const gap = log.recovery.gaps.find((gap) => gap.lastLostIndex >= from);
 *   const to = gap === undefined ? log.lastIndex : gap.firstLostIndex - 1;
 *   for (const entry of log.entries({ from, to })) console.log(entry.text());
 *   from = (gap?.lastLostIndex ?? to) + 1;
 * }
 * ```
 */
export function openReader(
  directory: string | URL,
  options?: ReaderOptions,
): Promise<WalReader> {
  try {
    const path = checkDirectory(directory);
    const checked = checkReaderOptions(options);
    const storage = checked.storage ?? defaultStorage();
    return checked.salvage
      ? openStillLogSoon(storage, path, checked)
      : Promise.resolve(openLiveLog(storage, path, checked));
  } catch (error) {
    return Promise.reject(error);
  }
}

/**
 * The blocking twin of `openReader`; throws what that rejects with.
 *
 * @param directory The log's folder, a path or a `file:` URL.
 * @param options How to open it; every field has a default.
 * @returns The reader; close it, or bind it with `using`.
 *
 * @example Read without waiting
 * ```ts
 * import { openReaderSync } from "@walrus/wal";
 *
 * using log = openReaderSync("./wal_data");
 * for (const entry of log) console.log(entry.index, entry.text());
 * ```
 */
export function openReaderSync(
  directory: string | URL,
  options?: ReaderOptions,
): WalReader {
  const path = checkDirectory(directory);
  const checked = checkReaderOptions(options);
  const storage = checked.storage ?? defaultStorage();
  return checked.salvage
    ? openStillLog(storage, path, checked)
    : openLiveLog(storage, path, checked);
}
