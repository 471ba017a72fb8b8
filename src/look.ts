/**
 * What a folder holds and what recovery would decide, found out without the
 * lock and without changing a byte. Readers and `verify` look before they
 * read.
 *
 * Somebody may be writing meanwhile: a look is then the log as it was at one
 * moment of the look.
 *
 * @module
 */

import { AssertionError } from "./assert.ts";
import { type Chain, readChain } from "./chain.ts";
import { SegmentNotFoundError, WalCorruptedError } from "./errors.ts";
import { FOOTER_BYTES, HEADER_BYTES } from "./format.ts";
import { decide, type Verdict } from "./recovery.ts";
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

/** Opens the folder of a log to look at it; makes nothing. */
export function openLogFolder(
  storage: StoragePort,
  path: string,
): StorageDirectory {
  const modes = { create: false, directoryMode: 0, fileMode: 0 };
  const folder = storage.openDirectory(path, modes);
  if (folder !== undefined) return folder;
  throw missingLog("read", path);
}

/** The error for a place where no log is. */
export function missingLog(verb: string, path: string): SegmentNotFoundError {
  return new SegmentNotFoundError(
    `Cannot ${verb} log "${path}": nothing is there, expected a log's folder`,
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
