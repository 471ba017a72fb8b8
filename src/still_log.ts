/**
 * A log seen without opening it for writing: no lock, no repair, not a byte
 * changed. It shows what recovery would keep. `walrus dump` and `stat` use it.
 *
 * Nobody needs to be writing. While somebody is, it is best effort: it ends
 * where the log ended at the look, and entries that are removed meanwhile
 * throw when they are read.
 *
 * @module
 */

import { AssertionError } from "./assert.ts";
import { beginsAnew, type Chain, readChain } from "./chain.ts";
import type { Encoder } from "./encoder.ts";
import {
  SegmentNotFoundError,
  UnsupportedFormatError,
  WalCorruptedError,
} from "./errors.ts";
import { FOOTER_BYTES, HEADER_BYTES } from "./format.ts";
import { JsonEncoder } from "./json_encoder.ts";
import { LogState } from "./log_state.ts";
import { type ReaderParts, WalReader } from "./reader.ts";
import { decide, type Verdict } from "./recovery.ts";
import { chainSegments } from "./repair.ts";
import type { SegmentInfo } from "./report.ts";
import { FrameScanner } from "./scan.ts";
import type { StorageDirectory, StoragePort } from "./storage.ts";

/** A writer that keeps writing makes every look differ: so many are taken. */
const LOOKS_MAX = 5;

/** What a folder holds, and what recovery would decide. */
export interface Look {
  /** The log's files. */
  readonly chain: Chain;
  /** Where it ends. */
  readonly verdict: Verdict;
}

/** A log that is only looked at. */
export class StillLog extends WalReader {
  /** The log's format name. */
  readonly formatName: string;
  /** What was found. */
  readonly look: Look;
  readonly #folder: StorageDirectory;
  #closed = false;

  /** Made by `openStillLog`. */
  constructor(parts: ReaderParts, look: Look, folder: StorageDirectory) {
    super(parts);
    this.look = look;
    this.formatName = look.chain.manifest.formatName;
    this.#folder = folder;
  }

  /** "closed" once it was. */
  override get state(): "open" | "closed" {
    return this.#closed ? "closed" : "open";
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

/** Looks at the log in `path`; throws when there is none, or no sound one. */
export function openStillLog(storage: StoragePort, path: string): StillLog {
  const startNs = storage.clock.monotonicNs();
  const folder = openLogFolder(storage, path);
  try {
    const look = lookAtLog(folder);
    const { chain, verdict } = look;
    const { manifest } = chain;
    const segments = chainSegments(folder, chain, verdict);
    const firstIndex = beginsAnew(chain)
      ? segments[0]!.baseIndex
      : manifest.firstIndex;
    const state = new LogState({
      segments,
      firstIndex,
      generation: manifest.generation,
      nextSegment: chain.nextSegment,
    });
    const parts: ReaderParts = {
      directory: folder.path,
      port: storage,
      state,
      encoder: encoderFor(manifest.formatName, folder.path),
      verifyReads: true,
      recovery: {
        outcome: verdict.outcome,
        entryCount: state.entryCount,
        segmentsScanned: verdict.segmentsScanned,
        ms: (storage.clock.monotonicNs() - startNs) / 1e6,
        tornBytes: verdict.tornBytes,
        savedPath: undefined,
        gaps: [],
      },
    };
    return new StillLog(parts, look, folder);
  } catch (error) {
    folder.close();
    throw error;
  }
}

/** Opens the folder of a log to look at it; makes nothing. */
export function openLogFolder(
  storage: StoragePort,
  path: string,
): StorageDirectory {
  const modes = { create: false, directoryMode: 0, fileMode: 0 };
  const folder = storage.openDirectory(path, modes);
  if (folder !== undefined) return folder;
  throw new SegmentNotFoundError(
    `Cannot read log "${path}": nothing is there, expected a log's folder`,
    { path },
  );
}

/**
 * Reads the folder until two looks agree, or one finds a clean log. A hole
 * that has healed at the next look was a writer at work, not damage.
 */
export function lookAtLog(folder: StorageDirectory): Look {
  let earlier: string | undefined;
  for (let i = 0; i < LOOKS_MAX; i++) {
    const found = tryLook(folder);
    if (found.look?.verdict.outcome === "clean") return found.look;
    if (found.place === earlier) {
      if (found.look === undefined) throw found.error;
      return found.look;
    }
    earlier = found.place;
  }
  return lookAtTail(folder);
}

interface Attempt {
  readonly look: Look | undefined;
  readonly error: unknown;
  /** Where the log seemed to end; equal when nothing has changed. */
  readonly place: string;
}

function tryLook(folder: StorageDirectory): Attempt {
  try {
    const chain = chainOf(folder);
    const verdict = decide(folder, chain);
    const { number, offset } = verdict.end;
    const place = `${number}:${offset}`;
    return { look: { chain, verdict }, error: undefined, place };
  } catch (error) {
    // A segment that was there and is gone breaks an assertion of recovery,
    // which relies on the lock.
    const changing = error instanceof WalCorruptedError ||
      error instanceof AssertionError;
    if (!changing) throw error;
    return { look: undefined, error, place: error.message };
  }
}

/** What is there when a writer never rests: all up to the first hole. */
function lookAtTail(folder: StorageDirectory): Look {
  const chain = chainOf(folder);
  const { name, identity, link } = chain.segments.at(-1)!;
  const file = folder.open(name, "read");
  const start = { offset: HEADER_BYTES, nextIndex: link.baseIndex };
  if (file === undefined) {
    const path = `${folder.path}/${name}`;
    throw new SegmentNotFoundError(
      `Cannot read log: "${path}" was removed meanwhile, expected it to stay`,
      { path },
    );
  }
  try {
    const limit = identity.segmentBytes - FOOTER_BYTES;
    const scanner = new FrameScanner(file, identity, start, limit);
    while (scanner.next());
    const end = { number: identity.number, offset: scanner.completeEnd };
    return {
      chain,
      verdict: {
        outcome: "clean",
        closed: false,
        durable: chain.manifest.mark,
        end,
        nextIndex: scanner.completeNextIndex,
        endSegment: chain.segments.length - 1,
        tornEnd: end.offset,
        tornBytes: 0,
        segmentsScanned: 1,
      },
    };
  } finally {
    file.close();
  }
}

function chainOf(folder: StorageDirectory): Chain {
  const chain = readChain(folder);
  if (chain !== undefined) return chain;
  const { path } = folder;
  throw new SegmentNotFoundError(
    `Cannot read log "${path}": there is no manifest, expected a log's folder`,
    { path },
  );
}

/** The format's encoder; one that cannot be had refuses every entry. */
function encoderFor(formatName: string, path: string): Encoder | undefined {
  if (formatName === "binary") return undefined;
  if (formatName === "json") return new JsonEncoder();
  const refuse = (): never => {
    throw new UnsupportedFormatError(
      `Cannot read log "${path}": its format is "${formatName}", expected ` +
        `"binary" or "json"; only the program that wrote it can decode it`,
      { found: formatName, supported: ["binary", "json"] },
    );
  };
  return {
    name: formatName,
    byteLength: refuse,
    encode: refuse,
    encodeInto: refuse,
    decode: refuse,
    decodeView: refuse,
  };
}
