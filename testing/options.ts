/**
 * What users say to a simulated disk: how it behaves, and how it crashes.
 *
 * @module
 */

import {
  checkBoolean,
  checkChance,
  checkFunction,
  checkObject,
  checkWhole,
  checkWord,
  show,
} from "./checks.ts";
import type { Fate } from "./fates.ts";

/**
 * Where a power cut may leave garbage: nowhere; in sectors of unsynced pages
 * that held no synced byte, as disks do; or in any sector of an unsynced
 * page, as no disk should: a log must report that, and never serve it.
 */
export type Garbage = "none" | "unsynced-sectors" | "anywhere";

/** How a simulated disk behaves. */
export interface SimulatedOptions {
  /** Where all that looks random comes from. @default {1} */
  readonly seed?: number | undefined;
  /** Files can be mapped into memory; else they are written. @default {true} */
  readonly mapped?: boolean | undefined;
  /** When the disk is full, in bytes. @default {Infinity} */
  readonly capacityBytes?: number | undefined;
  /** Where a power cut may leave garbage. @default {"unsynced-sectors"} */
  readonly garbage?: Garbage | undefined;
  /**
   * Chance at each call that the kernel writes pages back by itself, 0 to 1;
   * drawn from the seed when not given.
   */
  readonly writeback?: number | undefined;
  /** Asynchronous syncs end by themselves, else by `settle`. @default {true} */
  readonly autoSettle?: boolean | undefined;
  /**
   * A power cut may leave a file shorter than it was made, if it was never
   * synced, as where metadata is not journaled in order. @default {false}
   */
  readonly shortFiles?: boolean | undefined;
  /**
   * False makes each sync succeed and do nothing: a test that still passes
   * tests nothing. @default {true}
   */
  readonly honestSyncs?: boolean | undefined;
}

/** How a power cut goes; what is left out is drawn from the seed. */
export interface CrashOptions {
  /** Where the fates come from; a new one with each crash by default. */
  readonly seed?: number | undefined;
  /** Where to leave garbage; the disk's own, but "none" beside `pages`. */
  readonly garbage?: Garbage | undefined;
  /** Decides over every dirty page, in the order of `dirtyPages()`. */
  readonly pages?: ((page: DirtyPage, nth: number) => Fate) | undefined;
  /** Which of `pendingNames()` survive. */
  readonly names?: ((change: string, nth: number) => boolean) | undefined;
  /** How long each file of `pendingSizes()` is found, from 0 to its size. */
  readonly sizes?: ((file: PendingSize, nth: number) => number) | undefined;
}

/** A page of a file that a power cut could take back to what it was. */
export interface DirtyPage {
  /** The file's path. */
  readonly path: string;
  /** Which page of 4096 bytes, from 0. */
  readonly page: number;
}

/** A file that was never synced. */
export interface PendingSize {
  /** The file's path. */
  readonly path: string;
  /** Its size now. */
  readonly bytes: number;
}

const GARBAGE: readonly Garbage[] = ["none", "unsynced-sectors", "anywhere"];
const FATES: readonly Fate[] = ["old", "new", "torn"];
const FATE_WORDS = '"old", "new" or "torn"';

/** Throws unless they are what a disk can be made with. */
export function checkSimulatedOptions(options: SimulatedOptions): void {
  const doing = "make a simulated disk";
  checkObject(doing, options, [
    "seed",
    "mapped",
    "capacityBytes",
    "garbage",
    "writeback",
    "autoSettle",
    "shortFiles",
    "honestSyncs",
  ]);
  checkWhole(doing, "seed", options.seed, 0);
  checkBoolean(doing, "mapped", options.mapped);
  checkWhole(doing, "capacityBytes", options.capacityBytes, 0, Infinity);
  checkWord(doing, "garbage", options.garbage, GARBAGE);
  checkChance(doing, "writeback", options.writeback);
  checkBoolean(doing, "autoSettle", options.autoSettle);
  checkBoolean(doing, "shortFiles", options.shortFiles);
  checkBoolean(doing, "honestSyncs", options.honestSyncs);
}

/** The same for a crash; what the functions return is checked as well. */
export function checkCrashOptions(options: CrashOptions): CrashOptions {
  const doing = "crash";
  const known = ["seed", "garbage", "pages", "names", "sizes"];
  checkObject(doing, options, known);
  checkWhole(doing, "seed", options.seed, 0);
  checkWord(doing, "garbage", options.garbage, GARBAGE);
  const { pages, names, sizes } = options;
  for (const [name, given] of Object.entries({ pages, names, sizes })) {
    checkFunction(doing, name, given);
  }
  return {
    ...options,
    pages: pages && ((page, nth) => {
      const fate = pages(page, nth);
      return expectAnswer("pages", fate, FATES.includes(fate), FATE_WORDS);
    }),
    names: names && ((change, nth) => {
      const kept = names(change, nth);
      const answered = typeof kept === "boolean";
      return expectAnswer("names", kept, answered, "true or false");
    }),
    sizes: sizes && ((file, nth) => {
      const bytes = sizes(file, nth);
      const within = Number.isInteger(bytes) && bytes >= 0 &&
        bytes <= file.bytes;
      const expected = `a whole number from 0 to ${file.bytes}`;
      return expectAnswer("sizes", bytes, within, expected);
    }),
  };
}

function expectAnswer<T>(
  name: string,
  answer: T,
  right: boolean,
  expected: string,
): T {
  if (right) return answer;
  throw new TypeError(
    `Cannot crash: ${name} returned ${show(answer)}, expected ${expected}`,
  );
}
