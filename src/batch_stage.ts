/**
 * Entries of a batch on their way into the log. They are used again, so that
 * a batch leaves no garbage but what its call returns.
 *
 * @module
 */

import type { EntryInput } from "./entry.ts";
import { NO_BYTES, Staged, stageEntry } from "./input.ts";

/** Of a longer batch none is kept: some 200 bytes each would stay for ever. */
const KEPT_MAX = 1024;

/** Stages batches. */
export class BatchStage {
  #kept: Staged[] = [];

  /** Checks all entries of a batch; throws at the first that is wrong. */
  stage(inputs: readonly EntryInput[], maxEntryBytes: number): Staged[] {
    const batch = this.#kept;
    // A getter may append a batch itself, which must not use these.
    this.#kept = [];
    const { length } = inputs;
    if (batch.length > length) batch.length = length;
    for (let i = 0; i < length; i++) {
      const staged = batch[i] ?? new Staged();
      stageEntry(inputs[i]!, maxEntryBytes, staged);
      batch[i] = staged;
    }
    return batch;
  }

  /** The batch is written: its entries can be used again. */
  release(batch: Staged[]): void {
    if (batch.length > KEPT_MAX || batch.length < this.#kept.length) return;
    // The caller's bytes are not held longer than the call.
    for (let i = 0; i < batch.length; i++) {
      const staged = batch[i]!;
      staged.data = staged.payload = NO_BYTES;
    }
    this.#kept = batch;
  }
}
