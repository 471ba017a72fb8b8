/**
 * Time on a simulated disk.
 *
 * @module
 */

import type { Clock } from "../src/storage.ts";
import { show } from "./checks.ts";

interface Timer {
  readonly ms: number;
  due: number;
  readonly action: () => void;
}

/**
 * Time that only moves when asked, but for 1 ms a look: what waits for the
 * time is tested without waiting.
 *
 * @example Let a second pass
 * ```ts
 * import { openWal } from "@walrus/wal";
 * import { simulatedStorage } from "@walrus/wal/testing";
 *
 * const storage = simulatedStorage();
 * await using wal = await openWal("log", { storage, sync: "interval" });
 * wal.appendSync("soon durable");
 * storage.clock.advance(1000);
 * await wal.flush();
 * ```
 */
export class SimulatedClock implements Clock {
  #elapsedMs = 0;
  #ticks = 0;
  readonly #startMs: number;
  readonly #alive: () => boolean;
  readonly #timers = new Set<Timer>();

  /** Made by the disk; when that is dead nothing falls due any more. */
  constructor(startMs: number, alive: () => boolean) {
    this.#startMs = startMs;
    this.#alive = alive;
  }

  /** Milliseconds since 1970; a different number each time. */
  nowMs(): number {
    return this.#startMs + ++this.#elapsedMs;
  }

  /** The time of before, once more: a look that moves nothing. */
  get lastMs(): number {
    return this.#startMs + this.#elapsedMs;
  }

  /** Nanoseconds since the disk was made; a different number each time. */
  monotonicNs(): number {
    return this.#elapsedMs * 1_000_000 + ++this.#ticks;
  }

  /** Calls `action` every `ms` that pass; the returned function ends it. */
  every(ms: number, action: () => void): () => void {
    const timer = { ms, due: this.#elapsedMs + ms, action };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  /** Virtual time keeps no process alive. */
  keepAlive(): () => void {
    return () => {};
  }

  /**
   * Lets time pass; what falls due is called, the earliest first.
   *
   * @throws {RangeError} when `ms` is negative or not a number
   */
  advance(ms: number): void {
    if (!(ms >= 0 && ms < Infinity)) {
      throw new RangeError(
        `Cannot advance clock: ms is ${show(ms)}, expected a number from 0`,
      );
    }
    const end = this.#elapsedMs + ms;
    while (this.#alive()) {
      const [next] = [...this.#timers].sort((a, b) => a.due - b.due);
      if (next === undefined || next.due > end) break;
      this.#elapsedMs = Math.max(this.#elapsedMs, next.due);
      next.due += Math.max(1, next.ms);
      next.action();
    }
    this.#elapsedMs = Math.max(this.#elapsedMs, end);
  }
}
