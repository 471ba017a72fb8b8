/**
 * The watermark of an idle log: the last sync has no frame behind it that
 * vouches for it, so one is written when nobody appends for a while. It asks
 * for no sync of its own: the system writes it back in its own time, or the
 * next round does, which must not count it as durable before.
 *
 * @module
 */

import { comparePositions, NOWHERE, type Position } from "./mark.ts";
import type { Clock } from "./storage.ts";
import type { SyncRounds } from "./sync_rounds.ts";
import type { LogWriter } from "./writer.ts";

/** A log is idle when nothing was written for one to two of these. */
const IDLE_MS = 1000;

/** Writes the watermarks of one open log. */
export class IdleMark {
  readonly #clock: Clock;
  readonly #writer: LogWriter;
  readonly #rounds: SyncRounds;
  #seen: Position = NOWHERE;
  #written: Position = NOWHERE;
  #stopTimer: (() => void) | undefined;

  /** For a log that is open. */
  constructor(
    parts: { clock: Clock; writer: LogWriter; rounds: SyncRounds },
  ) {
    this.#clock = parts.clock;
    this.#writer = parts.writer;
    this.#rounds = parts.rounds;
  }

  /** The durable mark has moved: it wants a voucher once the log is idle. */
  arm(): void {
    this.#stopTimer ??= this.#clock.every(IDLE_MS, () => this.#look());
  }

  #look(): void {
    const end = this.#writer.end();
    const moved = comparePositions(end, this.#seen) !== 0;
    this.#seen = end;
    if (moved || this.#rounds.pending) return;
    this.end();
    const { durable, failure } = this.#rounds;
    if (failure !== undefined || comparePositions(durable, end) !== 0) return;
    // Behind a watermark of its own there is nothing to vouch for.
    if (comparePositions(end, this.#written) === 0) return;
    this.#writer.writeWatermark();
    this.#written = this.#writer.end();
  }

  /** Writes no more. */
  end(): void {
    this.#stopTimer?.();
    this.#stopTimer = undefined;
  }
}
