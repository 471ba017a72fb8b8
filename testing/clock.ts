/**
 * Time on a simulated disk.
 *
 * @module
 */

import type { Clock } from "../src/storage.ts";

/** Time that only moves when asked, but for 1 ms a look. */
export class SimulatedClock implements Clock {
  #elapsedMs = 0;
  #ticks = 0;
  readonly #startMs: number;
  readonly #timers = new Set<
    { ms: number; due: number; action: () => void }
  >();

  constructor(startMs: number) {
    this.#startMs = startMs;
  }

  nowMs(): number {
    return this.#startMs + ++this.#elapsedMs;
  }

  monotonicNs(): number {
    return this.#elapsedMs * 1_000_000 + ++this.#ticks;
  }

  every(ms: number, action: () => void): () => void {
    const timer = { ms, due: this.#elapsedMs + ms, action };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  /** Lets time pass; what falls due is called, the earliest first. */
  advance(ms: number): void {
    const end = this.#elapsedMs + ms;
    for (;;) {
      const [next] = [...this.#timers].sort((a, b) => a.due - b.due);
      if (next === undefined || next.due > end) break;
      this.#elapsedMs = Math.max(this.#elapsedMs, next.due);
      next.due += Math.max(1, next.ms);
      next.action();
    }
    this.#elapsedMs = Math.max(this.#elapsedMs, end);
  }

  /** The process is dead: no action is called any more. */
  stop(): void {
    this.#timers.clear();
  }
}
