/**
 * Taking entries away from an open log: from the end, from the front, or all.
 * Each takes effect in the call; the rest of the steps makes it last.
 * docs/architecture.md, "Life of a truncation".
 *
 * @module
 */

import {
  type Bounds,
  checkBounds,
  checkWhole,
  closedError,
  outOfRange,
} from "./calls.ts";
import type { Consumers } from "./consumers.ts";
import type { Logger } from "./logger.ts";
import type { LogState } from "./log_state.ts";
import type { ManifestKeeper, Prepared } from "./manifest_keeper.ts";
import type { Rotation } from "./rotation.ts";
import type { Segment } from "./segment.ts";
import type { Steps } from "./steps.ts";
import type { Clock, StorageDirectory } from "./storage.ts";
import type { SyncRounds } from "./sync_rounds.ts";
import { beginAnew, cutAfter, type CutOff, discard } from "./truncate.ts";
import type { Wakeups } from "./wakeups.ts";
import type { LogWriter } from "./writer.ts";

/** What taking away works with. */
export interface RemovalParts {
  /** The log's folder. */
  readonly folder: StorageDirectory;
  /** The time of sealing. */
  readonly clock: Clock;
  /** Its segments. */
  readonly state: LogState;
  /** Makes the segment behind a cut. */
  readonly rotation: Rotation;
  /** Forgets the last entry's term. */
  readonly writer: LogWriter;
  /** Makes it durable. */
  readonly rounds: SyncRounds;
  /** Lowered by cuts. */
  readonly consumers: Consumers;
  /** Replaces the manifest. */
  readonly keeper: ManifestKeeper;
  /** Wakes followers. */
  readonly wakeups: Wakeups;
  /** Told what could not be tidied up. */
  readonly logger: Logger | undefined;
}

/** Takes entries away from one open log. */
export class Removal {
  readonly #parts: RemovalParts;
  /** Removals from the front whose manifest is not durable yet. */
  #fronts = 0;

  /** For a log whose manifest was just renewed. */
  constructor(parts: RemovalParts) {
    this.#parts = parts;
  }

  /** Drops the entries above `index`. */
  *truncateAfter(log: Bounds, index: number): Steps<void> {
    const { state, rounds } = this.#parts;
    const { firstIndex, nextIndex } = state;
    checkWhole("truncate", "index", index);
    const bounds = { least: firstIndex - 1, most: nextIndex - 1 };
    checkBounds(log, `truncate after ${index}`, index, bounds);
    if (index === nextIndex - 1) {
      // An earlier truncation to here may still be on its way to the disk.
      if (rounds.pending) yield [rounds];
      return;
    }
    this.#parts.consumers.prepareLower(index);
    yield* this.#settleCut(cutAfter(this.#tools(), index));
  }

  /** Drops all entries; the next one gets `nextIndex`. */
  *reset(log: Bounds, nextIndex: number): Steps<void> {
    checkWhole("reset", "nextIndex", nextIndex);
    const bounds = { least: 1, most: Number.MAX_SAFE_INTEGER };
    checkBounds(log, `reset to ${nextIndex}`, nextIndex, bounds);
    this.#parts.consumers.prepareLower(nextIndex - 1);
    yield* this.#settleCut(beginAnew(this.#tools(), nextIndex, 0));
  }

  #tools(): Parameters<typeof cutAfter>[0] {
    const { state, rotation, clock } = this.#parts;
    return { state, rotation, nowMs: clock.nowMs() };
  }

  *#settleCut(cut: CutOff): Steps<void> {
    const { rounds, keeper, logger, folder, state, writer } = this.#parts;
    writer.forgetTerm();
    writer.publisher.publish();
    this.#parts.wakeups.wake();
    this.#parts.consumers.lower(state.nextIndex - 1, state.generation);
    yield* this.#coverFirst();
    try {
      yield* keeper.replace(false);
      if (keeper.ended) return;
      rounds.touchNames();
      yield [rounds];
    } catch (error) {
      // No crash can undo the cut any more; only the tidying up failed.
      if (rounds.failure !== undefined) throw error;
      logger?.warn("The manifest could not be renewed", error);
      return;
    }
    if (!keeper.ended) discard(folder, cut);
  }

  /** Drops the entries below `index`; at or below the first, none. */
  *truncateBefore(log: Bounds, index: number): Steps<void> {
    const { state, keeper, writer, rounds } = this.#parts;
    // Behind the last possible entry the next index is 2^53.
    if (index !== state.nextIndex) checkWhole("truncate", "index", index);
    if (index > state.nextIndex) {
      throw outOfRange(log, `truncate before ${index}`, index);
    }
    // An earlier call to here may still be on its way to the disk.
    if (index <= state.firstIndex && this.#fronts === 0) {
      // So may the cut with which the log began anew.
      if (!rounds.covers(state.segments[0]!)) yield [rounds];
      return;
    }
    const room = keeper.prepare();
    const gone = index > state.firstIndex ? state.hideBefore(index) : [];
    rounds.removeBefore(state.firstIndex, log);
    writer.publisher.publish();
    this.#parts.wakeups.wake();
    if (state.entryCount === 0) writer.forgetTerm();
    this.#fronts++;
    try {
      yield* this.#settleFront(room, gone);
    } finally {
      this.#fronts--;
    }
  }

  /**
   * The manifest tells the first index, so it is what makes the removal last;
   * until then the hidden segments take part in all syncs [I3].
   */
  *#settleFront(room: Prepared, gone: readonly Segment[]): Steps<void> {
    const { state, rounds, keeper, folder } = this.#parts;
    try {
      try {
        yield* this.#coverFirst();
      } catch (error) {
        keeper.discard(room);
        throw error;
      }
      yield* keeper.install(room, false);
      if (!keeper.ended) {
        rounds.touchNames();
        yield [rounds];
      }
    } catch (error) {
      // The entries are gone for readers here and may come back in a crash.
      rounds.fail(error, "renewing the manifest failed");
      throw rounds.failure ?? error;
    }
    // A close that overtook this has told it in its manifest, if it could.
    if (keeper.ended && !keeper.endedWell) {
      throw rounds.failure ?? closedError(folder.path);
    }
    for (const segment of gone) rounds.forget(segment);
    state.drop(gone);
    if (keeper.ended) return;
    const highestFirst = [...gone].reverse();
    discard(folder, { gone: highestFirst, freed: undefined });
  }

  /**
   * No manifest may name a segment that is not on the disk, and the chain may
   * begin with another one after each wait.
   */
  *#coverFirst(): Steps<void> {
    const { rounds, state } = this.#parts;
    do yield [rounds]; while (!rounds.covers(state.segments[0]!));
  }
}
