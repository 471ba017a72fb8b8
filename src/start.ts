/**
 * The last part of opening: puts the parts of the log together, lowers
 * consumers, and makes the manifest say that the log is open.
 *
 * @module
 */

import { Consumers } from "./consumers.ts";
import type { Encoder } from "./encoder.ts";
import { EntryReader } from "./entry_reader.ts";
import { removeQuietly } from "./fresh_file.ts";
import { type LogIdentity, LogState } from "./log_state.ts";
import type { ManifestKeeper, Prepared } from "./manifest_keeper.ts";
import type { Position } from "./mark.ts";
import type { CheckedOptions } from "./options.ts";
import { Publisher } from "./publisher.ts";
import type { Repaired } from "./repair.ts";
import type { RecoveryReport } from "./report.ts";
import { Rotation } from "./rotation.ts";
import { Spare } from "./spare.ts";
import type { Steps } from "./steps.ts";
import type { StorageDirectory, StorageLock, StoragePort } from "./storage.ts";
import { SyncRounds } from "./sync_rounds.ts";
import { Wakeups } from "./wakeups.ts";
import { type Wal, walInternals } from "./wal.ts";
import type { TransactionLimits } from "./wal_parts.ts";
import { LogWriter } from "./writer.ts";

/** With what a log is opened. */
export interface OpenParts {
  /** The storage. */
  readonly storage: StoragePort;
  /** The log's folder. */
  readonly directory: StorageDirectory;
  /** The writer's lock. */
  readonly lock: StorageLock;
  /** How it is opened. */
  readonly options: CheckedOptions;
  /** When that began. */
  readonly startNs: number;
}

/** What opening found, or made. */
export interface Found {
  /** Replaces the manifest. */
  readonly keeper: ManifestKeeper;
  /** Room for its first manifest, where it was made ahead. */
  readonly room: Prepared | undefined;
  /** The log's segments. */
  readonly repaired: Repaired;
  /** The first entry that is not removed. */
  readonly firstIndex: number;
  /** Files that go once the manifest is durable. */
  readonly unlink: readonly string[];
  /** The end when it was closed last. */
  readonly closedEnd: Position | undefined;
  /** What it was like. */
  readonly report: Pick<
    RecoveryReport,
    "outcome" | "segmentsScanned" | "tornBytes" | "savedPath"
  >;
}

/** Puts the open log together and makes the manifest say that it is open. */
export function* start(
  parts: OpenParts,
  log: LogIdentity,
  encoder: Encoder | undefined,
  found: Found,
): Steps<Wal> {
  const { storage, directory, options, lock } = parts;
  const joined = join(parts, log, encoder, found);
  const { state, writer, rounds, rotation, wakeups, holder } = joined;
  const { publisher } = writer;
  const { keeper } = found;
  keeper.describe = (closed) => state.describe(log, rounds, closed);
  let consumers: Consumers | undefined;
  let { room } = found;
  try {
    const { logger, directoryMode, fileMode } = options;
    const modes = { directoryMode, fileMode };
    const { logId } = log;
    const parts = { storage, folder: directory, logId, modes, logger };
    consumers = new Consumers(parts);
    consumers.rounds = rounds;
    yield* consumers.settle(state, found.closedEnd !== undefined);
    const given = room ?? keeper.prepare();
    room = undefined;
    yield* keeper.install(given, false);
    publisher.open();
    yield [directory];
    publisher.publish();
    // A durable manifest without them and this writer's page let them go.
    for (const name of found.unlink) removeQuietly(directory, name);
    if (found.closedEnd === undefined) writer.writeWatermark();
  } catch (error) {
    publisher.end();
    if (room !== undefined) keeper.discard(room);
    consumers?.close();
    state.close();
    throw error;
  }
  const ms = (storage.clock.monotonicNs() - parts.startNs) / 1e6;
  const { entryCount } = state;
  holder.wal = walInternals().make({
    directory: directory.path,
    state,
    entries: new EntryReader({
      port: storage,
      state,
      encoder,
      verifyReads: options.verifyReads,
    }),
    zeroCopy: options.zeroCopy,
    recovery: { ...found.report, entryCount, ms, gaps: [] },
    port: storage,
    folder: directory,
    lock,
    writer,
    rotation,
    wakeups,
    rounds,
    consumers,
    keeper,
    retention: options.retention,
    limits: limitsOf(options),
    sync: options.sync,
    syncIntervalMs: options.syncIntervalMs,
    segmentBytes: options.segmentBytes,
    logger: options.logger,
    closedEnd: found.closedEnd,
  });
  return holder.wal;
}

function limitsOf(options: CheckedOptions): TransactionLimits {
  return {
    timeoutMs: options.transactionTimeoutMs,
    cleanupIntervalMs: options.transactionCleanupIntervalMs,
    entriesMax: options.maxTransactionEntries,
    maxEntryBytes: options.maxEntryBytes,
  };
}

interface Joined {
  readonly state: LogState;
  readonly writer: LogWriter;
  readonly rounds: SyncRounds;
  readonly rotation: Rotation;
  readonly wakeups: Wakeups;
  /** The writer is there before the log that it reports to. */
  readonly holder: { wal?: Wal };
}

/** Segments, writer and sync rounds, each told of the others. */
function join(
  parts: OpenParts,
  log: LogIdentity,
  encoder: Encoder | undefined,
  found: Found,
): Joined {
  const { storage, directory, options } = parts;
  const { logger } = options;
  const state = new LogState({
    ...found.repaired,
    firstIndex: found.firstIndex,
    // Later: it is found out in the middle of a read or an append.
    damaged: (path) =>
      queueMicrotask(() =>
        logger?.warn(`The index of "${path}" is damaged; its frames are read`)
      ),
  });
  const holder: { wal?: Wal } = {};
  const { segmentBytes } = options;
  const wakeups = new Wakeups(storage.clock);
  const spare = new Spare(directory);
  const rotation = new Rotation({
    storage,
    directory,
    log,
    state,
    segmentBytes,
    spare,
  });
  const writer = new LogWriter({
    storage,
    state,
    rotation,
    wakeups,
    encoder,
    maxEntryBytes: options.maxEntryBytes,
    onFailure: (error) =>
      holder.wal && walInternals().failed(holder.wal, error),
    onMark: (segment) =>
      holder.wal && walInternals().markMoved(holder.wal, segment),
  });
  const { active } = state;
  const durable = { number: active.number, offset: active.end };
  const last = state.nextIndex - 1;
  const { clock } = storage;
  const rounds = new SyncRounds(directory, clock, writer, durable, last);
  writer.rounds = rotation.rounds = rounds;
  writer.publisher = new Publisher({
    storage,
    folder: directory,
    logId: log.logId,
    state,
    durableIndex: () => rounds.durableIndex,
    logger,
  });
  active.frames.setMark(durable);
  return { state, writer, rounds, rotation, wakeups, holder };
}
