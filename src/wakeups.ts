/**
 * Wakes those who wait for the log to change: entries, syncs, truncations,
 * the end. While somebody waits the process is kept alive.
 *
 * @module
 */

import type { Clock } from "./storage.ts";

/** Where changes come from that this thread does not make itself. */
export interface WakeSource {
  /** Somebody has begun to wait: told at each wait. */
  arm(): void;
  /** Nobody waits any more. */
  disarm(): void;
}

/** Who waits for one open log. */
export class Wakeups {
  /** Asked to wake those who wait, in a reader of somebody else's log. */
  source: WakeSource | undefined;
  readonly #clock: Clock;
  readonly #waiting = new Set<() => void>();
  #letGo: (() => void) | undefined;

  /** Nobody waits yet. */
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Settles at the next change, or when the signal is aborted. */
  wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake);
        signal?.removeEventListener("abort", wake);
        // Those who go on waiting ask again; else the process may end.
        queueMicrotask(() => queueMicrotask(() => this.#release()));
        resolve();
      };
      this.#letGo ??= this.#clock.keepAlive();
      this.#waiting.add(wake);
      signal?.addEventListener("abort", wake);
      this.source?.arm();
      if (signal?.aborted) wake();
    });
  }

  /** Something has changed. Cheap when nobody waits. */
  wake(): void {
    if (this.#letGo === undefined) return;
    for (const wake of [...this.#waiting]) wake();
  }

  #release(): void {
    if (this.#waiting.size > 0 || this.#letGo === undefined) return;
    this.source?.disarm();
    this.#letGo?.();
    this.#letGo = undefined;
  }
}
