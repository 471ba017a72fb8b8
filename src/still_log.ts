/**
 * A log seen without opening it for writing: no lock, no repair, not a byte
 * changed. It shows what recovery would keep; with `recovery: "salvage"` what
 * can be read of a damaged log. `openReader`, `walrus dump` and `stat` use it.
 *
 * It shows the log as it was when it was opened. A writer may go on meanwhile:
 * what it appends is not seen, and entries that it removes throw when they
 * are read.
 *
 * @module
 */

import { beginsAnew } from "./chain.ts";
import { EntryReader } from "./entry_reader.ts";
import type { Encoder } from "./encoder.ts";
import { UnsupportedFormatError } from "./errors.ts";
import { HEADER_BYTES } from "./format.ts";
import { type FoundLog, type LogFacts, warnOfIndex } from "./found_log.ts";
import { JsonEncoder } from "./json_encoder.ts";
import { LogState } from "./log_state.ts";
import type { Logger } from "./logger.ts";
import { type Look, lookAtLog, openLogFolder } from "./look.ts";
import { type ReaderParts, WalReader } from "./reader.ts";
import type { CheckedReaderOptions } from "./reader_options.ts";
import { chainSegments } from "./repair.ts";
import type { SegmentInfo } from "./report.ts";
import { salvageLog } from "./salvage.ts";
import { FrameScanner } from "./scan.ts";
import type { StorageDirectory, StoragePort } from "./storage.ts";
import { Wakeups } from "./wakeups.ts";
import type { SurveyProgress } from "./survey.ts";

/** A salvage holds the event loop for so long at a time. */
const TURN_NS = 10_000_000;

/** What a reader is asked for; all of it is optional. */
export interface StillOptions extends Partial<CheckedReaderOptions> {
  /** Opens logs of formats that cannot be decoded, too: only reading throws. */
  readonly anyFormat?: boolean | undefined;
}

/** A log that is only looked at. */
export class StillLog extends WalReader {
  /** What was found. */
  readonly facts: LogFacts;
  readonly #folder: StorageDirectory;
  #durableIndex: number | undefined;
  #closed = false;

  /** Made by `openStillLog`. */
  constructor(parts: ReaderParts, facts: LogFacts, folder: StorageDirectory) {
    super(parts);
    this.facts = facts;
    this.#folder = folder;
  }

  /** "closed" once it was. */
  override get state(): "open" | "closed" {
    return this.#closed ? "closed" : "open";
  }

  /** The last entry that no power cut takes back; 0 for none. */
  override get durableIndex(): number {
    const { lastIndex } = this;
    if (this.facts.closed || this.#closed) return lastIndex;
    this.#durableIndex ??= this.facts.durableIndex();
    const durable = Math.min(this.#durableIndex, lastIndex);
    return durable < this.firstIndex ? 0 : durable;
  }

  /** The segment files that make up the log, in order. */
  override segments(): SegmentInfo[] {
    const segments = super.segments();
    // Read only, the last one is found like the others; it is not sealed.
    const last = segments.length - 1;
    return segments.map((info, i) => ({ ...info, sealed: i < last }));
  }

  /** Frees its files. */
  override close(): Promise<void> {
    this.closeSync();
    return Promise.resolve();
  }

  /** The blocking twin of `close`. */
  override closeSync(): void {
    if (this.#closed) return;
    super.closeSync();
    this.#closed = true;
    this.#folder.close();
  }
}

/**
 * Opens the log in `path` to look at it; throws when there is none or, unless
 * it is to be salvaged, no sound one.
 */
export function openStillLog(
  storage: StoragePort,
  path: string,
  options: StillOptions = {},
): StillLog {
  const steps = openingSteps(storage, path, options);
  let step = steps.next();
  while (!step.done) step = steps.next();
  return step.value;
}

/** As `openStillLog`; a salvage lets other work run in between. */
export async function openStillLogSoon(
  storage: StoragePort,
  path: string,
  options: StillOptions,
): Promise<StillLog> {
  const { clock } = storage;
  const steps = openingSteps(storage, path, options);
  let sinceNs = clock.monotonicNs();
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    if (clock.monotonicNs() - sinceNs < TURN_NS) continue;
    await new Promise((resolve) => setTimeout(resolve, 0));
    sinceNs = clock.monotonicNs();
  }
}

function* openingSteps(
  storage: StoragePort,
  path: string,
  options: StillOptions,
): Generator<SurveyProgress, StillLog> {
  const startNs = storage.clock.monotonicNs();
  const folder = openLogFolder(storage, path);
  try {
    const found = options.salvage === true
      ? yield* salvageLog(folder, options.logger)
      : soundLog(folder, options.logger);
    return openFound(storage, folder, found, options, startNs);
  } catch (error) {
    folder.close();
    throw error;
  }
}

/** The reader of a log that was found; it takes the folder over. */
export function openFound(
  storage: StoragePort,
  folder: StorageDirectory,
  found: FoundLog,
  options: StillOptions,
  startNs: number,
): StillLog {
  const ms = (storage.clock.monotonicNs() - startNs) / 1e6;
  const parts: ReaderParts = {
    directory: folder.path,
    port: storage,
    state: found.state,
    entries: new EntryReader({
      port: storage,
      state: found.state,
      encoder: encoderFor(found.facts.formatName, folder.path, options),
      verifyReads: options.verifyReads ?? true,
    }),
    zeroCopy: options.zeroCopy ?? false,
    wakeups: new Wakeups(storage.clock),
    recovery: { ...found.report, ms, savedPath: undefined },
  };
  return new StillLog(parts, found.facts, folder);
}

/** The log as recovery would leave it. */
export function soundLog(
  folder: StorageDirectory,
  logger: Logger | undefined,
): FoundLog {
  const look = lookAtLog(folder);
  const { chain, verdict } = look;
  const { manifest } = chain;
  const segments = chainSegments(folder, chain, verdict);
  const { outcome, segmentsScanned, tornBytes, closed } = verdict;
  const state = new LogState({
    segments,
    firstIndex: beginsAnew(chain)
      ? segments[0]!.baseIndex
      : manifest.firstIndex,
    generation: manifest.generation,
    nextSegment: chain.nextSegment,
    damaged: warnOfIndex(logger),
  });
  const { entryCount } = state;
  const { logId, formatName } = manifest;
  const durableIndex = () => durableIndexOf(folder, look);
  return {
    state,
    facts: { logId, formatName, closed, durableIndex },
    report: { outcome, entryCount, segmentsScanned, tornBytes, gaps: [] },
  };
}

/** The last entry before the durable mark, found by reading its segment. */
function durableIndexOf(
  folder: StorageDirectory,
  { chain, verdict }: Look,
): number {
  const { segments } = chain;
  const { number, offset } = verdict.durable;
  const i = segments.findIndex((one) => one.identity.number === number);
  const next = segments[i + 1]?.link;
  if (next !== undefined && offset >= next.previousEnd) {
    return next.previousLastIndex;
  }
  const member = segments[i];
  const file = member && folder.open(member.name, "read");
  if (member === undefined || file === undefined) return 0;
  try {
    const start = { offset: HEADER_BYTES, nextIndex: member.link.baseIndex };
    const { identity } = member;
    const scanner = new FrameScanner(file, identity, start, offset);
    while (scanner.next());
    return scanner.nextIndex - 1;
  } finally {
    file.close();
  }
}

/** The format's encoder; refuses another one than the log has. */
export function encoderFor(
  found: string,
  path: string,
  { format, encoder, anyFormat }: StillOptions,
): Encoder | undefined {
  if (format !== undefined && format !== found) {
    throw new UnsupportedFormatError(
      `Cannot open log "${path}" as "${format}": its format is "${found}", ` +
        `expected that or no format`,
      { found, supported: [format] },
    );
  }
  if (found === "binary") return undefined;
  if (found === "json") return new JsonEncoder();
  if (encoder !== undefined) return encoder;
  const refuse = (): never => {
    throw new UnsupportedFormatError(
      `Cannot read log "${path}": its format is "${found}", expected ` +
        `"binary", "json" or the encoder of that name as the option format`,
      { found, supported: ["binary", "json"] },
    );
  };
  if (anyFormat !== true) refuse();
  return {
    name: found,
    byteLength: refuse,
    encode: refuse,
    encodeInto: refuse,
    decode: refuse,
    decodeView: refuse,
  };
}
