/**
 * Begins segments: the next one when the growing one is full, and the one
 * that a truncation puts behind its cut. Successor first, then the old one is
 * sealed; no sync. docs/architecture.md, "Life of an append".
 *
 * @module
 */

import { SegmentFullError, StorageError } from "./errors.ts";
import { CAUSE, SEGMENT_BYTES_MAX } from "./format.ts";
import type { LogIdentity, LogState } from "./log_state.ts";
import { batchBytesMax, makeSegment, segmentBytesFor } from "./make_segment.ts";
import type { Position } from "./mark.ts";
import type { Segment } from "./segment.ts";
import type { Spare } from "./spare.ts";
import type { StorageDirectory, StorageFile, StoragePort } from "./storage.ts";
import type { SyncRounds } from "./sync_rounds.ts";

/** What segments are made with. */
export interface RotationParts {
  /** The storage. */
  readonly storage: StoragePort;
  /** The log's folder. */
  readonly directory: StorageDirectory;
  /** The log's id and format. */
  readonly log: LogIdentity;
  /** Its segments. */
  readonly state: LogState;
  /** The size of a new segment. */
  readonly segmentBytes: number;
  /** The file of the next one, made ahead. */
  readonly spare: Spare;
}

/** Where a new segment's predecessor ends. */
export interface Predecessor {
  /** The predecessor; without one the chain begins anew. */
  readonly segment: Segment | undefined;
  /** Where its frames end. */
  readonly end: number;
  /** Its last entry; the index before the chain's first one. */
  readonly lastIndex: number;
  /** The durable mark that the link vouches for. */
  readonly mark: Position;
}

/**
 * Syncs of less each spare the journal more than zeros cost: a new page makes
 * a sync write some 12 KiB more, and take half as long again.
 */
const OFTEN_BYTES = 32 * 1024;

/** Begins the segments of one open log. */
export class Rotation {
  /** The rounds that make them durable; set once after making. */
  rounds!: SyncRounds;
  /** Told when a full segment was ended. */
  onRotated: (() => void) | undefined;
  readonly #parts: RotationParts;
  readonly #state: LogState;
  /** When a spare was asked for last. */
  #asked: { readonly bytes: number; readonly roundCount: number };

  /** For a log that recovery has made ready. */
  constructor(parts: RotationParts) {
    this.#parts = parts;
    this.#state = parts.state;
    const { active } = parts.state;
    const { segmentBytes } = active.identity;
    const bytes = active.number * segmentBytes + active.end;
    this.#asked = { bytes, roundCount: 0 };
    parts.spare.watch(active);
  }

  /** The segment that takes `bytes` more, a new one if need be. */
  room(bytes: number, entryCount: number): Segment {
    const { active } = this.#state;
    if (active.fits(bytes, entryCount)) return active;
    const usual = this.#state.nextSegmentBytes(this.#parts.segmentBytes);
    if (active.limit < active.identity.segmentBytes) {
      active.limit = active.identity.segmentBytes;
      if (active.fits(bytes, entryCount)) {
        this.#parts.spare.ask(usual, this.#syncsOften(usual));
        return active;
      }
    }
    const segmentBytes = segmentBytesFor(bytes, entryCount, usual);
    if (segmentBytes > SEGMENT_BYTES_MAX) {
      const bytesMax = batchBytesMax(entryCount);
      throw new SegmentFullError(
        `Cannot append: the entries take ${bytes} bytes with their headers, ` +
          `a segment holds at most ${bytesMax}; append them in smaller batches`,
        { bytes, bytesMax },
      );
    }
    return this.rotate(segmentBytes);
  }

  /** Whether the log is synced often, for what was written since the last. */
  #syncsOften(segmentBytes: number): boolean {
    const { active } = this.#state;
    const bytes = active.number * segmentBytes + active.end;
    const { roundCount } = this.rounds;
    const last = this.#asked;
    this.#asked = { bytes, roundCount };
    const rounds = roundCount - last.roundCount;
    return rounds > 0 && (bytes - last.bytes) / rounds <= OFTEN_BYTES;
  }

  /** Ends the growing segment and begins the next one, successor first. */
  rotate(segmentBytes: number): Segment {
    const previous = this.#state.active;
    const segment = this.begin(segmentBytes, CAUSE.filled, {
      segment: previous,
      end: previous.end,
      lastIndex: previous.lastIndex,
      mark: this.rounds.durable,
    });
    previous.seal(this.#parts.storage.clock.nowMs());
    this.rounds.touch(previous);
    this.rounds.boundSoon();
    this.onRotated?.();
    return segment;
  }

  /**
   * Begins a segment behind entry `lastIndex` of `previous`, which ends at
   * `end`; with no predecessor the chain begins with it. `mark` is what the
   * link vouches for.
   */
  begin(
    segmentBytes: number,
    cause: number,
    previous: Predecessor,
  ): Segment {
    const { storage, directory, log, spare } = this.#parts;
    const number = this.#state.nextSegment;
    const before = previous.segment?.identity;
    const link = {
      baseIndex: previous.lastIndex + 1,
      previousNumber: before?.number ?? 0,
      previousSalt: before?.salt ?? 0,
      previousEnd: before === undefined ? 0 : previous.end,
      previousLastIndex: previous.lastIndex,
      generation: this.#state.generation + (cause === CAUSE.filled ? 0 : 1),
      mark: previous.mark,
      cause,
    };
    const make = (file?: StorageFile) =>
      // deno-fmt-ignore
      makeSegment(storage, directory, log, number, segmentBytes, link, file);
    const segment = withoutIfNeeded(spare.take(segmentBytes), make);
    spare.watch(segment);
    segment.frames.setMark(previous.mark);
    this.#state.push(segment);
    this.rounds.touch(segment);
    this.rounds.touchNames();
    return segment;
  }

  /** Begins no more: what was made ahead is removed. */
  end(): void {
    this.#parts.spare.end();
  }
}

/** The spare may have been taken away, or its device be at fault. */
function withoutIfNeeded(
  spare: StorageFile | undefined,
  make: (spare?: StorageFile) => Segment,
): Segment {
  try {
    return make(spare);
  } catch (error) {
    if (spare === undefined || !(error instanceof StorageError)) throw error;
    return make();
  }
}
