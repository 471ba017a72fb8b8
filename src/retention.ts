/**
 * Retention: takes whole segments away from the front when the log has more,
 * or older ones, than it was told to keep. It looks at rotations and on a
 * timer, never passes a consumer, and says what it did.
 *
 * @module
 */

import type { Consumers } from "./consumers.ts";
import type { Logger } from "./logger.ts";
import type { LogState } from "./log_state.ts";
import type { RetentionOptions } from "./retention_options.ts";
import type { Segment } from "./segment.ts";
import type { Clock } from "./storage.ts";

/** What retention works with. */
export interface RetentionParts {
  /** What is to be kept. */
  readonly rules: RetentionOptions;
  /** The log's segments. */
  readonly state: LogState;
  /** Whom it never passes. */
  readonly consumers: Consumers;
  /** Tells ages. */
  readonly clock: Clock;
  /** Told what was removed, and what held it back. */
  readonly logger: Logger | undefined;
  /** Drops the entries below an index. */
  readonly remove: (index: number) => Promise<void>;
}

/** How often ages are looked at, unless they are shorter. */
const LOOK_MS = 60_000;
const LOOK_LEAST_MS = 1000;

/** Keeps one open log within its limits. */
export class Retention {
  readonly #parts: RetentionParts;
  #stopTimer: (() => void) | undefined;
  #running = false;
  #again = false;
  #told = "";
  #ended = false;

  /** Begins to look now and then. */
  constructor(parts: RetentionParts) {
    this.#parts = parts;
    const { maxAgeMs = LOOK_MS } = parts.rules;
    const everyMs = Math.max(LOOK_LEAST_MS, Math.min(LOOK_MS, maxAgeMs));
    this.#stopTimer = parts.clock.every(everyMs, () => this.look());
  }

  /** Looks when the call that has rotated is done. */
  soon(): void {
    queueMicrotask(() => this.look());
  }

  /** Removes what is too much. */
  look(): void {
    if (this.#ended) return;
    // What is rotated meanwhile is looked at when the removal is done.
    this.#again = this.#running;
    if (this.#running) return;
    const { state } = this.#parts;
    const excess = this.#excess();
    if (excess === 0) return;
    let free: number;
    try {
      free = Math.min(excess, this.#unheld());
    } catch (error) {
      // Whoever cannot be asked may need everything.
      this.#parts.logger?.warn("Retention could not see consumers", error);
      return;
    }
    if (free < excess) this.#tellHeld(excess - free);
    const last = state.segments[free - 1];
    // A segment that was ended without an entry goes with the next one.
    if (last === undefined || last.lastIndex < state.firstIndex) return;
    const segments = free === 1 ? "1 segment" : `${free} segments`;
    const what = `${segments}, up to entry ${last.lastIndex}`;
    const { logger, remove } = this.#parts;
    this.#running = true;
    remove(last.lastIndex + 1)
      .then(() => logger?.info(`Retention removed ${what}`))
      .catch((error) =>
        logger?.warn(`Retention could not remove ${what}`, error)
      )
      .then(() => {
        this.#running = false;
        if (this.#again) this.look();
      });
  }

  /** How many segments at the front the rules do not want. */
  #excess(): number {
    const { rules, state, clock } = this.#parts;
    const { segments } = state;
    let bytes = state.bytes;
    let count = 0;
    // The growing segment always stays.
    while (count < segments.length - 1) {
      const unwanted =
        segments.length - count > (rules.maxSegments ?? Infinity) ||
        bytes > (rules.maxBytes ?? Infinity) ||
        clock.nowMs() - endedAtMs(segments, count) >
          (rules.maxAgeMs ?? Infinity);
      if (!unwanted) break;
      bytes -= segments[count]!.identity.segmentBytes;
      count++;
    }
    return count;
  }

  /** How many segments at the front no consumer needs any more. */
  #unheld(): number {
    const { state, consumers } = this.#parts;
    const slowest = consumers.slowest(state);
    let count = 0;
    for (const { lastIndex } of state.segments) {
      if (lastIndex > slowest.position) break;
      count++;
    }
    return count;
  }

  #tellHeld(count: number): void {
    const { consumers, state } = this.#parts;
    const { name, position } = consumers.slowest(state);
    // Once for each place where one stands: it may stand there for ever.
    const place = `"${name}" at ${position}`;
    if (place === this.#told) return;
    this.#told = place;
    const segments = count === 1 ? "1 segment" : `${count} segments`;
    this.#parts.logger?.warn(
      `Retention is held back: consumer ${place} needs ${segments} that ` +
        `would be removed`,
    );
  }

  /** Looks no more. */
  end(): void {
    this.#ended = true;
    this.#stopTimer?.();
    this.#stopTimer = undefined;
  }
}

/** A segment ends when its successor is made. */
function endedAtMs(segments: readonly Segment[], i: number): number {
  return segments[i + 1]!.identity.createdAtMs;
}
