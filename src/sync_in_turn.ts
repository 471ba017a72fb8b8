/**
 * Syncs the segments of a round one after another. Side by side they would
 * end no sooner, since they share a disk, and take the processors from the
 * program meanwhile.
 *
 * @module
 */

import type { WalError } from "./errors.ts";
import type { Segment } from "./segment.ts";
import type { Syncable, SyncDone } from "./storage.ts";

/** The segments as one thing to sync. */
export function inTurn(segments: readonly Segment[]): Syncable {
  return {
    sync(): void {
      for (const { file } of segments) file.sync();
    },
    syncSoon(done: SyncDone): void {
      let at = 0;
      const next = (error?: WalError): void => {
        // One that was closed since is on the disk, or off the chain.
        while (at < segments.length && !segments[at]!.file.writable) at++;
        if (error !== undefined || at === segments.length) done(error);
        else segments[at++]!.file.syncSoon(next);
      };
      // Never inside this call, though none be left to sync.
      if (segments.some(({ file }) => file.writable)) next();
      else queueMicrotask(done);
    },
  };
}
