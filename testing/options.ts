/**
 * How a simulated disk behaves.
 *
 * @module
 */

/** Where a crash may leave garbage. */
export type Garbage = "none" | "unsynced-sectors" | "anywhere";

/** How a `SimulatedStorage` behaves. */
export interface SimulatedOptions {
  readonly seed: number;
  /** False: `map()` returns undefined. @default {true} */
  readonly mapped?: boolean;
  /** Bytes of space in all. @default {Infinity} */
  readonly capacity?: number;
  /** @default {"unsynced-sectors"} */
  readonly garbage?: Garbage;
  /** Chance of spontaneous writeback at a call; by seed when not given. */
  readonly writeback?: number;
  /** Syncs complete on timers, without `settle()`. @default {false} */
  readonly autoSettle?: boolean;
}
