/**
 * A disk that can crash, in memory and from a seed: the storage with which
 * Walrus is tested, for the tests of programs that use it.
 *
 * @module
 */

export { SimulatedClock } from "./clock.ts";
export type { CrashOptions, DirtyPage } from "./crash.ts";
export { CrashNow } from "./faults.ts";
export type { FailOptions, Operation, PortCall } from "./faults.ts";
export type { Fate } from "./fates.ts";
export type { Garbage, SimulatedOptions } from "./options.ts";
export { Random } from "./random.ts";
export { SimulatedStorage } from "./simulated_storage.ts";
