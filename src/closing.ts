/**
 * Closing a log: all is made durable, the manifest says so last of all, and
 * everything is freed, also when that fails.
 *
 * @module
 */

import { comparePositions } from "./mark.ts";
import type { Steps } from "./steps.ts";
import type { WalParts } from "./wal_parts.ts";

/** Closes the log; no call comes any more, and none but rounds is running. */
export function* closeSteps(parts: WalParts): Steps<void> {
  const { rounds, state, keeper, folder, lock } = parts;
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
