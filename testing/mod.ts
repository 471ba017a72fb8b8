/**
 * A disk that can crash, in memory and from a seed: the storage with which
 * Walrus is tested, for the tests of programs that use it.
 *
 * `simulatedStorage()` makes such a disk, `checkEveryCrash()` crashes a whole
 * program on one; docs/testing-your-program.md is the guide.
 *
 * @example Pull the plug
 * ```ts
 * import { openWal } from "@walrus/wal";
 * import { simulatedStorage } from "@walrus/wal/testing";
 *
 * const storage = simulatedStorage({ seed: 7 });
 * const wal = await openWal("log", { storage });
 * await wal.append("Hello World!");
 *
 * const found = storage.crash();
 * await using again = await openWal("log", { storage: found });
 * console.log(again.get(1).text()); // Hello World!
 * ```
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
