/**
 * Work that has to wait for syncs, written once for both twins of a call.
 *
 * Such work is a generator that yields what must be on the disk before it may
 * go on. The blocking twin syncs in place; the asynchronous one starts the
 * syncs and goes on when all have ended, so no sync holds the event loop.
 *
 * @module
 */

import type { WalError } from "./errors.ts";
import type { Syncable } from "./storage.ts";

/** Work that yields what it needs synced before it goes on. */
export type Steps<T> = Generator<readonly Syncable[], T, void>;

/** Runs the work to its end on this thread. */
export function runBlocking<T>(steps: Steps<T>): T {
  let state = steps.next();
  while (!state.done) {
    const wanted = state.value;
    let failure: { error: unknown } | undefined;
    try {
      for (const syncable of wanted) syncable.sync();
    } catch (error) {
      failure = { error };
    }
    state = failure === undefined ? steps.next() : steps.throw(failure.error);
  }
  return state.value;
}

/**
 * Runs the work up to its first wait inside this call, and the rest later.
 * Never throws: a failure, even of the first part, rejects.
 */
export function runSoon<T>(steps: Steps<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const advance = (step: () => IteratorResult<readonly Syncable[], T>) => {
      let state: IteratorResult<readonly Syncable[], T>;
      try {
        state = step();
      } catch (error) {
        reject(error);
        return;
      }
      if (state.done) resolve(state.value);
      else syncAll(state.value, resume);
    };
    const resume = (error?: WalError) => {
      advance(() => error === undefined ? steps.next() : steps.throw(error));
    };
    advance(() => steps.next());
  });
}

/** Starts all syncs; `done` gets the first error after all have ended. */
export function syncAll(
  wanted: readonly Syncable[],
  done: (error?: WalError) => void,
): void {
  let running = wanted.length;
  let first: WalError | undefined;
  if (running === 0) {
    queueMicrotask(done);
    return;
  }
  const ended = (error?: WalError) => {
    first ??= error;
    if (--running === 0) done(first);
  };
  for (const syncable of wanted) syncable.syncSoon(ended);
}
