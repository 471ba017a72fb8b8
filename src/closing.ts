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
  /** The blocking twin may overtake steps that wait: these then stop. */
  #turn = 0;
  #done = false;
  #failure: { error: unknown } | undefined;

  /** For a log that refuses every call before this is used. */
  constructor(parts: WalParts) {
    this.#parts = parts;
  }

  /** Closes it when what is running has ended; the same promise each time. */
  soon(running: readonly Promise<unknown>[]): Promise<void> {
    this.#soon ??= Promise.allSettled(running).then(async () => {
      if (!this.#done) await runSoon(this.#run());
      if (this.#failure !== undefined) throw this.#failure.error;
    });
    return this.#soon;
  }

  /** Closes it at once. */
  now(): void {
    if (!this.#done) runBlocking(this.#run());
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Ends with an outcome, its own or that of the twin that overtook it. */
  *#run(): Steps<void> {
    const turn = ++this.#turn;
    const isOvertaken = () => turn !== this.#turn;
    try {
      yield* closeSteps(this.#parts, isOvertaken);
      if (isOvertaken()) return;
      this.#free(true);
    } catch (error) {
      if (isOvertaken()) return;
      this.#failure = { error };
      this.#free(false);
    }
  }

  #free(well: boolean): void {
    const { keeper, rounds, state, consumers, folder, lock } = this.#parts;
    this.#done = true;
    this.#parts.rotation.end();
    keeper.end(well);
    rounds.end();
    this.#parts.writer.publisher.end();
    state.close();
    consumers.close();
    folder.close();
    lock.release();
  }
}

/** No call comes any more, and nothing but rounds is running. */
function* closeSteps(
  parts: WalParts,
  isOvertaken: () => boolean,
): Steps<void> {
  const { rounds, keeper } = parts;
  if (rounds.failure !== undefined) throw rounds.failure;
  if (rounds.pending) yield [rounds];
  if (isOvertaken()) return;
  yield* writeLastWatermark(parts);
  if (isOvertaken()) return;
  // On a full disk the manifest may need what the spare takes.
  parts.rotation.end();
  yield* keeper.replace(true);
  if (isOvertaken()) return;
  rounds.touchNames();
  yield [rounds];
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
