/**
 * A disk that can crash, in memory and from a seed: the storage with which
 * Walrus is tested, for the tests of programs that use it.
 *
 * @module
 */

export { checkEveryCrash, CrashCheckError } from "./crash_check.ts";
export type { CrashCheck, CrashPoint, CrashTally } from "./crash_check.ts";
export { SimulatedClock } from "./clock.ts";
export { CrashNow } from "./faults.ts";
export type {
  FailOptions,
  Operation,
  PortCall,
  WritebackFailure,
} from "./faults.ts";
export type { Fate } from "./fates.ts";
export type {
  CrashOptions,
  DirtyPage,
  Garbage,
  PendingSize,
  SimulatedOptions,
} from "./options.ts";
export { Random } from "./random.ts";
export { SimulatedStorage, simulatedStorage } from "./simulated_storage.ts";
