/**
 * Following a log: its history, then what comes, in order, without a gap and
 * without another history.
 *
 * @module
 */

import { type Bounds, checkWhole, outOfRange } from "./calls.ts";
import {
  checkNames,
  checkWholeIn,
  checkZeroCopy,
  isObject,
  show,
} from "./checks.ts";
import type { Cursor, Cursors } from "./cursor.ts";
import type { Entry } from "./entry.ts";
import { IndexOutOfRangeError } from "./errors.ts";
import { FrameRun } from "./frame_run.ts";
import type { Wakeups } from "./wakeups.ts";

/** How to follow. */
export interface FollowOptions {
  /**
   * The index of the first entry, which may not be there yet; the log's
   * "start"; or its "end": what comes after the call. @default {"start"}
   */
  from?: number | "start" | "end" | undefined;
  /** Ends it: the loop throws the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Each entry only once no power cut takes it back. @default {false} */
  durable?: boolean | undefined;
  /** Views instead of copies; as the log was opened. */
  zeroCopy?: boolean | undefined;
}

/** A log at one moment: several looks may see several logs. */
export interface Moment {
  /** The first entry, or the one that comes first. */
  readonly firstIndex: number;
  /** The entry that comes next. */
  readonly nextIndex: number;
  /** The last durable entry, or one before the first. */
  readonly durableIndex: number;
}

/** What following asks of the log. */
export interface Followed {
  /** What errors say of it. */
  readonly bounds: Bounds;
  /** How it is now. */
  look(): Moment;
  /** Where followers stand. */
  readonly cursors: Cursors;
  /** Tells of changes. */
  readonly wakeups: Wakeups;
  /** Whether the log is closed. */
  isClosed(): boolean;
  /** Why no entry comes any more, if none can. */
  readonly stuck?: (() => Error | undefined) | undefined;
  /** Entry `index`, which must exist. */
  read(index: number, zeroCopy: boolean, run: FrameRun): Entry;
}

/** Follow options, checked and filled in. */
export interface AskedFollow {
  /** Where it stands, from the call on. */
  readonly cursor: Cursor;
  /** Ends it. */
  readonly signal: AbortSignal | undefined;
  /** Only what is durable. */
  readonly durable: boolean;
  /** Views instead of copies. */
  readonly zeroCopy: boolean;
  /** It ends behind this entry. */
  readonly until: number;
}

/** A place that the first step gives: the log's first entry then. */
const UNPLACED = -Infinity;
const FOLLOW_OPTIONS = ["from", "signal", "durable", "zeroCopy"];

/** Reads and checks the options of following. */
export function readFollow(
  options: FollowOptions & { live?: boolean | undefined } | undefined,
  log: Followed,
  usual: { zeroCopy: boolean; stream?: boolean; delivered?: number },
): AskedFollow {
  const fail = (name: string, value: unknown, expected: string) =>
    new TypeError(
      `Cannot follow: ${name} is ${show(value)}, expected ${expected}`,
    );
  if (options !== undefined && !isObject(options)) {
    throw fail("options", options, "an object");
  }
  const given = options ?? {};
  const known = usual.stream ? [...FOLLOW_OPTIONS, "live"] : FOLLOW_OPTIONS;
  checkNames("follow options", given, known);
  const { from = "start", signal, durable = false, live = true } = given;
  if (signal !== undefined && typeof signal?.throwIfAborted !== "function") {
    throw fail("signal", signal, "an AbortSignal");
  }
  if (typeof durable !== "boolean") {
    throw fail("durable", durable, "true or false");
  }
  if (typeof live !== "boolean") throw fail("live", live, "true or false");
  const now = log.look();
  const next = readFrom(from, now);
  const before = from === "end" ? now.nextIndex - 1 : usual.delivered ?? 0;
  return {
    cursor: log.cursors.open(next ?? UNPLACED, before),
    signal,
    durable,
    zeroCopy: checkZeroCopy(given.zeroCopy) ?? usual.zeroCopy,
    until: live ? Infinity : now.nextIndex - 1,
  };
}

function readFrom(from: unknown, log: Moment): number | undefined {
  if (from === "start") return undefined;
  if (from === "end") return log.nextIndex;
  if (typeof from === "string") {
    throw new RangeError(
      `Cannot follow: from is ${show(from)}, expected an index, "start" or ` +
        `"end"`,
    );
  }
  checkWhole("follow", "from", from);
  return from as number;
}

/** Gives the entries one by one; waits for those that are not there yet. */
export async function* followEntries(
  log: Followed,
  asked: AskedFollow,
): AsyncGenerator<Entry, void, undefined> {
  const { signal, cursor } = asked;
  const run = new FrameRun(asked.until);
  try {
    for (;;) {
      const state = stepOf(log, asked, cursor);
      if (state === "end") return;
      if (state === "wait") {
        await log.wakeups.wait(signal);
        continue;
      }
      const entry = tryRead(log, cursor.next, asked.zeroCopy, run);
      // A reader may have found out only now that it was cut off.
      if (entry === undefined || cursor.lost) continue;
      cursor.delivered = cursor.next++;
      yield entry;
    }
  } finally {
    log.cursors.close(cursor);
  }
}

/** An entry that is there; undefined when it went while it was read. */
function tryRead(
  log: Followed,
  index: number,
  zeroCopy: boolean,
  run: FrameRun,
): Entry | undefined {
  try {
    return log.read(index, zeroCopy, run);
  } catch (error) {
    if (error instanceof IndexOutOfRangeError) return undefined;
    throw error;
  }
}

/**
 * The entries from `first` to `last`, which exist; throws when the log is cut
 * below one of them meanwhile, for the rest would be another history.
 */
export function readTogether(
  log: Followed,
  first: number,
  last: number,
  zeroCopy: boolean,
): Entry[] {
  const cursor = log.cursors.open(first, last);
  const entries: Entry[] = [];
  const run = new FrameRun(last);
  try {
    for (let index = first; index <= last && !cursor.lost; index++) {
      entries.push(log.read(index, zeroCopy, run));
    }
  } catch (error) {
    if (!cursor.lost) throw error;
  } finally {
    log.cursors.close(cursor);
  }
  if (cursor.lost) throw truncatedError(log.bounds, last);
  return entries;
}

/** How large a batch may be. */
export interface BatchLimits {
  /** Entries in one. */
  readonly maxEntries: number;
  /** Bytes of data in one, unless a single entry has more. */
  readonly maxBytes: number;
}

/** Reads and checks the limits of batches. */
export function readLimits(
  given: { maxEntries?: unknown; maxBytes?: unknown },
): BatchLimits {
  const { maxEntries = 1000, maxBytes = 16 * 1024 * 1024 } = given;
  const what = "Cannot follow in batches";
  const range = { least: 1, most: Number.MAX_SAFE_INTEGER };
  return {
    maxEntries: checkWholeIn(what, "maxEntries", maxEntries, range),
    maxBytes: checkWholeIn(what, "maxBytes", maxBytes, range),
  };
}

/** Gives what is there in batches; waits only when there is nothing. */
export async function* followBatches(
  log: Followed,
  asked: AskedFollow,
  limits: BatchLimits,
): AsyncGenerator<Entry[], void, undefined> {
  const { cursor } = asked;
  const run = new FrameRun(asked.until);
  try {
    for (;;) {
      const state = stepOf(log, asked, cursor);
      if (state === "end") return;
      if (state === "wait") {
        await log.wakeups.wait(asked.signal);
        continue;
      }
      const batch = readBatch(log, asked, cursor, limits, run);
      if (cursor.lost || batch.length === 0) continue;
      yield batch;
    }
  } finally {
    log.cursors.close(cursor);
  }
}

function readBatch(
  log: Followed,
  asked: AskedFollow,
  cursor: Cursor,
  limits: BatchLimits,
  run: FrameRun,
): Entry[] {
  const batch: Entry[] = [];
  let bytes = 0;
  const { durableIndex, nextIndex } = log.look();
  const last = asked.durable ? durableIndex : nextIndex - 1;
  while (batch.length < limits.maxEntries && cursor.next <= last) {
    const entry = tryRead(log, cursor.next, asked.zeroCopy, run);
    if (entry === undefined || cursor.lost) break;
    bytes += entry.data.length;
    if (bytes > limits.maxBytes && batch.length > 0) break;
    batch.push(entry);
    cursor.delivered = cursor.next++;
  }
  return batch;
}

/** What the next step of a follower is; throws when there can be none. */
export function stepOf(
  log: Followed,
  asked: AskedFollow,
  cursor: Cursor,
): "entry" | "wait" | "end" {
  if (asked.signal?.aborted) throw asked.signal.reason;
  if (log.isClosed()) return "end";
  const { bounds } = log;
  // This look at a log that somebody else writes may find it cut.
  const { firstIndex, nextIndex, durableIndex } = log.look();
  if (cursor.next === UNPLACED) cursor.next = firstIndex;
  const { next } = cursor;
  if (cursor.lost) throw truncatedError(bounds, cursor.delivered);
  if (next > asked.until) return "end";
  if (next < firstIndex) {
    const now = boundsOf(firstIndex, nextIndex);
    throw outOfRange(now, `follow from entry ${next}`, next);
  }
  if (next <= (asked.durable ? durableIndex : nextIndex - 1)) return "entry";
  const stuck = log.stuck?.();
  if (stuck !== undefined) throw stuck;
  return next >= nextIndex && asked.until < Infinity ? "end" : "wait";
}

/** What errors say of a log at the moment of a look. */
function boundsOf(firstIndex: number, nextIndex: number): Bounds {
  const empty = firstIndex === nextIndex;
  const ends = { firstIndex, lastIndex: nextIndex - 1 };
  return { ...(empty ? { firstIndex: 0, lastIndex: 0 } : ends), nextIndex };
}

function truncatedError(log: Bounds, index: number): IndexOutOfRangeError {
  const { firstIndex, lastIndex } = log;
  return new IndexOutOfRangeError(
    `Cannot follow on from entry ${index}: the log was truncated before it, ` +
      `what follows is another history; begin again at a sound entry`,
    { index, firstIndex, lastIndex, reason: "truncated" },
  );
}

/** The same as a stream of the web platform, one entry at a time. */
export function streamEntries(
  log: Followed,
  asked: AskedFollow,
): ReadableStream<Entry> {
  const ending = new AbortController();
  const { signal } = asked;
  const both = signal === undefined
    ? ending.signal
    : AbortSignal.any([signal, ending.signal]);
  const entries = followEntries(log, { ...asked, signal: both });
  return new ReadableStream<Entry>({
    async pull(controller) {
      const { done, value } = await entries.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      ending.abort();
      await entries.return();
    },
  }, { highWaterMark: 0 });
}
