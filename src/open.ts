/**
 * Opening a log: lock, chain, verdict, repair, manifest; written once for
 * both twins.
 *
 * @module
 */

import { assert } from "./assert.ts";
import { beginsAnew, type Chain, readChain } from "./chain.ts";
import { JsonEncoder } from "./json_encoder.ts";
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
import { placeSegment, prepareSegment } from "./make_segment.ts";
import { ManifestKeeper } from "./manifest_keeper.ts";
import { NOWHERE } from "./mark.ts";
import type { CheckedOptions } from "./options.ts";
import { decide, type Verdict } from "./recovery.ts";
import { repair, type Repaired } from "./repair.ts";
import type { Steps } from "./steps.ts";
import type { StorageDirectory, StorageLock, StoragePort } from "./storage.ts";
import { type OpenParts, start } from "./start.ts";
import type { Wal } from "./wal.ts";

/** Opens or makes the log in `path` for writing. */
export function* openSteps(
  storage: StoragePort,
  path: string,
  options: CheckedOptions,
): Steps<Wal> {
  const startNs = storage.clock.monotonicNs();
  const { directoryMode, fileMode } = options;
  const smallSyncs = options.sync === "always";
  const directory = storage.openDirectory(path, {
    create: true,
    directoryMode,
    fileMode,
    smallSyncs,
    lowLatency: options.sync !== "never",
  });
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
  // A log of ours is told by its manifest: no need to list its segments.
  const manifest = directory.open(MANIFEST_NAME, "read");
  manifest?.close();
  if (manifest !== undefined) return;
  const names = directory.list().map((entry) => entry.name);
  if (names.includes("LOCK")) return;
  if (names.some((name) => segmentNumberOf(name) !== undefined)) {
    readChain(directory);
  }
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
