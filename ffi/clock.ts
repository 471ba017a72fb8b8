/**
 * The clock of all storages that run on a real system.
 *
 * @module
 */

import { clearInterval, setInterval } from "node:timers";
import type { Clock } from "../src/storage.ts";

/** The system's time; its timers never keep the process alive. */
export const systemClock: Clock = {
  nowMs(): number {
    return Date.now();
  },

  monotonicNs(): number {
    return Math.round(performance.now() * 1e6);
  },

  every(ms: number, action: () => void): () => void {
    const timer = setInterval(action, ms);
    timer.unref();
    return (): void => clearInterval(timer);
  },

  keepAlive(): () => void {
    const timer = setInterval(() => {}, 2 ** 30);
    return (): void => clearInterval(timer);
  },
};
