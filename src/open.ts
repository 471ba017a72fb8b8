/**
 * Opening a log: lock, chain, verdict, repair, manifest; written once for
 * both twins.
 *
 * @module
 */

import { assert } from "./assert.ts";
import { beginsAnew, type Chain, readChain } from "./chain.ts";
import { Consumers } from "./consumers.ts";
import { JsonEncoder } from "./json_encoder.ts";
import { EntryReader } from "./entry_reader.ts";
import type { Encoder } from "./encoder.ts";
import { UnsupportedFormatError, WalCorruptedError } from "./errors.ts";
import { hex } from "./fields.ts";
import {
  CAUSE,
  HEADER_BYTES,
  isTemporaryName,
  LOG_ID_BYTES,
  MANIFEST_NAME,
  segmentName,
  segmentNumberOf,
} from "./format.ts";
import { removeQuietly } from "./fresh_file.ts";
import {
  type LogIdentity,
  LogState,
  placeSegment,
  prepareSegment,
} from "./log_state.ts";
import { ManifestKeeper, type Prepared } from "./manifest_keeper.ts";
import { NOWHERE, type Position } from "./mark.ts";
import type { CheckedOptions } from "./options.ts";
import type { RecoveryReport } from "./report.ts";
import { decide, type Verdict } from "./recovery.ts";
import { Rotation } from "./rotation.ts";
import { repair, type Repaired } from "./repair.ts";
import type { Steps } from "./steps.ts";
import type { StorageDirectory, StorageLock, StoragePort } from "./storage.ts";
import { SyncRounds } from "./sync_rounds.ts";
import { type Wal, walInternals } from "./wal.ts";
import { Wakeups } from "./wakeups.ts";
import type { TransactionLimits } from "./wal_parts.ts";
import { LogWriter } from "./writer.ts";

/** Opens or makes the log in `path` for writing. */
export function* openSteps(
  storage: StoragePort,
  path: string,
  options: CheckedOptions,
): Steps<Wal> {
  const startNs = storage.clock.monotonicNs();
  const { directoryMode, fileMode } = options;
  const smallSyncs = options.sync === "always";
  const modes = { create: true, directoryMode, fileMode, smallSyncs };
  const directory = storage.openDirectory(path, modes);
  assert(directory !== undefined, "a folder that is made when missing");
  let lock: StorageLock | undefined;
  try {
    refuseBeforeLocking(directory);
    lock = directory.lock();
    const parts = { storage, directory, lock, options, startNs };
    return yield* openLocked(parts);
  } catch (error) {
    lock?.release();
    directory.close();
    throw error;
  }
}

/**
 * A folder of another library is refused before even a lock file is made in
 * it: every byte stays as before.
 */
function refuseBeforeLocking(directory: StorageDirectory): void {
  const names = directory.list().map((entry) => entry.name);
  if (names.includes(MANIFEST_NAME) || names.includes("LOCK")) return;
  if (names.some((name) => segmentNumberOf(name) !== undefined)) {
    readChain(directory);
  }
}

interface OpenParts {
  readonly storage: StoragePort;
  readonly directory: StorageDirectory;
  readonly lock: StorageLock;
  readonly options: CheckedOptions;
  readonly startNs: number;
}

function* openLocked(parts: OpenParts): Steps<Wal> {
  const { directory, options } = parts;
  const chain = readChain(directory);
  if (chain === undefined) return yield* createLog(parts);
  const encoder = chooseEncoder(parts, chain.manifest.formatName);
  const verdict = decide(directory, chain);
  if (verdict.outcome === "torn" && options.strict) {
    throw refuseTorn(parts, chain, verdict);
  }
  parts.lock.verify();
  const { storage } = parts;
  const { logger } = options;
  const names = chain.leftovers.map(({ name }) => name);
  const keeper = new ManifestKeeper(directory, names);
  // What must be there gets its room before what is kept aside.
  const room = keeper.prepare();
  let repaired: Repaired;
  try {
    const cut = { storage, directory, chain, verdict, logger };
    repaired = yield* repair(cut);
  } catch (error) {
    keeper.discard(room);
    throw error;
  }
  if (verdict.outcome === "torn") {
    const { tornBytes } = verdict;
    const where = repaired.savedPath ?? "nowhere: the disk is full";
    logger?.warn(`Cut ${tornBytes} bytes of unfinished writes, kept: ${where}`);
  }
  const { logId, formatName, firstIndex } = chain.manifest;
  const first = beginsAnew(chain)
    ? chain.segments[0]!.link.baseIndex
    : firstIndex;
  const log = { logId, formatName };
  return yield* start(parts, log, encoder, {
    keeper,
    room,
    repaired,
    firstIndex: first,
    unlink: chain.leftovers.filter((one) => !one.keep).map((one) => one.name),
    closedEnd: verdict.closed ? verdict.end : undefined,
    report: {
      outcome: verdict.outcome,
      segmentsScanned: verdict.segmentsScanned,
      tornBytes: verdict.tornBytes,
      savedPath: repaired.savedPath,
    },
  });
}

function refuseTorn(
  parts: OpenParts,
  chain: Chain,
  verdict: Verdict,
): WalCorruptedError {
  const { name } = chain.segments[verdict.endSegment]!;
  const segment = `${parts.directory.path}/${name}`;
  const { offset } = verdict.end;
  return new WalCorruptedError(
    `Cannot open log: "${segment}" ends in ${verdict.tornBytes} torn bytes ` +
      `at offset ${offset}, expected none with recovery "strict"; recovery ` +
      `"tail" cuts them`,
    {
      segment,
      offset,
      firstLostIndex: verdict.nextIndex,
      lastLostIndex: verdict.nextIndex,
    },
  );
}

/** The encoder for the log's format; refuses another one than it has. */
function chooseEncoder(
  parts: OpenParts,
  found: string,
): Encoder | undefined {
  const { options, directory } = parts;
  const wanted = options.format;
  if (wanted !== undefined && wanted !== found) {
    throw new UnsupportedFormatError(
      `Cannot open log "${directory.path}" as "${wanted}": its format is ` +
        `"${found}", expected that or no format`,
      { found, supported: [wanted] },
    );
  }
  if (found === "binary") return undefined;
  if (found === "json") return new JsonEncoder();
  if (options.encoder !== undefined) return options.encoder;
  throw new UnsupportedFormatError(
    `Cannot open log "${directory.path}": its format is "${found}", expected ` +
      `"binary", "json" or the encoder of that name as the option format`,
    { found, supported: ["binary", "json"] },
  );
}

function* createLog(parts: OpenParts): Steps<Wal> {
  const { storage, directory, options, lock } = parts;
  const formatName = options.format ?? "binary";
  const id = new Uint8Array(LOG_ID_BYTES);
  storage.fillRandom(id);
  const log = { logId: hex(id), formatName };
  lock.verify();
  removeResidue(directory);
  const link = {
    baseIndex: 1,
    previousNumber: 0,
    previousSalt: 0,
    previousEnd: 0,
    previousLastIndex: 0,
    generation: 0,
    mark: NOWHERE,
    cause: CAUSE.filled,
  };
  const size = options.segmentBytes;
  const segment = prepareSegment(storage, directory, log, 1, size, link);
  try {
    // Synced before it has its name: without a manifest nothing else could
    // tell an interrupted creation from a damaged log.
    yield [segment.file];
    placeSegment(directory, segment);
    // The manifest names it: its own name must be on the disk before.
    yield [directory];
  } catch (error) {
    segment.file.close();
    throw error;
  }
  const encoder = formatName === "json" ? new JsonEncoder() : options.encoder;
  return yield* start(parts, log, encoder, {
    keeper: new ManifestKeeper(directory),
    room: undefined,
    repaired: {
      segments: [segment],
      generation: 0,
      nextSegment: 2,
      savedPath: undefined,
      durable: { number: 1, offset: HEADER_BYTES },
    },
    firstIndex: 1,
    unlink: [],
    closedEnd: { number: 1, offset: HEADER_BYTES },
    report: {
      outcome: "created",
      segmentsScanned: 0,
      tornBytes: 0,
      savedPath: undefined,
    },
  });
}

/** An unused first segment and temporary files of a creation that crashed. */
function removeResidue(directory: StorageDirectory): void {
  for (const { name, kind } of directory.list()) {
    if (kind !== "file") continue;
    if (name === segmentName(1) || isTemporaryName(name)) {
      directory.remove(name);
    }
  }
}

interface Found {
  readonly keeper: ManifestKeeper;
  /** Room for its first manifest, where it was made ahead. */
  readonly room: Prepared | undefined;
  readonly repaired: Repaired;
  readonly firstIndex: number;
  readonly unlink: readonly string[];
  readonly closedEnd: Position | undefined;
  readonly report: Pick<
    RecoveryReport,
    "outcome" | "segmentsScanned" | "tornBytes" | "savedPath"
  >;
}

/** Puts the open log together and makes the manifest say that it is open. */
function* start(
  parts: OpenParts,
  log: LogIdentity,
  encoder: Encoder | undefined,
  found: Found,
): Steps<Wal> {
  const { storage, directory, options, lock } = parts;
  const joined = join(parts, log, encoder, found);
  const { state, writer, rounds, rotation, wakeups, holder } = joined;
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
    yield [directory];
    // Only a durable manifest without them lets segments go.
    for (const name of found.unlink) removeQuietly(directory, name);
    if (found.closedEnd === undefined) writer.writeWatermark();
  } catch (error) {
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
  const made = { storage, directory, log, state, segmentBytes };
  const rotation = new Rotation(made);
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
  active.frames.setMark(durable);
  return { state, writer, rounds, rotation, wakeups, holder };
}
