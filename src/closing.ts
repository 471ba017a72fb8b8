/**
 * Closing a log: all is made durable, the manifest says so last of all, and
 * everything is freed, also when that fails.
 *
 * @module
 */

import { comparePositions } from "./mark.ts";
import { runBlocking, runSoon, type Steps } from "./steps.ts";
import type { WalParts } from "./wal_parts.ts";

/** Closes one log, whichever twin comes first and however often. */
export class Closing {
  readonly #parts: WalParts;
  #soon: Promise<void> | undefined;
  #begun = false;
  #failure: { error: unknown } | undefined;

  /** For a log that refuses every call before this is used. */
  constructor(parts: WalParts) {
    this.#parts = parts;
  }

  /** Closes it when what is running has ended; the same promise each time. */
  soon(running: readonly Promise<unknown>[]): Promise<void> {
    this.#soon ??= Promise.allSettled(running).then(() => {
      // The blocking twin may have been first, or may have overtaken us.
      if (!this.#begun) return runSoon(this.#run());
      if (this.#failure !== undefined) throw this.#failure.error;
      return undefined;
    });
    return this.#soon;
  }

  /** Closes it at once. */
  now(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
    if (!this.#begun) runBlocking(this.#run());
  }

  *#run(): Steps<void> {
    this.#begun = true;
    try {
      yield* closeSteps(this.#parts);
    } catch (error) {
      this.#failure = { error };
      throw error;
    }
  }
}

/** No call comes any more, and nothing but rounds is running. */
function* closeSteps(parts: WalParts): Steps<void> {
  const { rounds, state, keeper, consumers, folder, lock } = parts;
  try {
    if (rounds.failure !== undefined) throw rounds.failure;
    if (rounds.pending) yield [rounds];
    yield* writeLastWatermark(parts);
    yield* keeper.replace(true);
    rounds.touchNames();
    yield [rounds];
  } finally {
    keeper.end();
    rounds.end();
    state.close();
    consumers.close();
    folder.close();
    lock.release();
  }
}

/** Unless the log is as it was found, a mark vouches for its last entry. */
function* writeLastWatermark(parts: WalParts): Steps<void> {
  const { rounds, state, writer, closedEnd } = parts;
  const unchanged = closedEnd !== undefined &&
    comparePositions(writer.end(), closedEnd) === 0;
  if (unchanged) return;
  writer.writeWatermark();
  state.active.writeBlock();
  yield [rounds];
}
