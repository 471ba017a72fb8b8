/**
 * What becomes of pages that were not synced, from a seed: which of them reach
 * the platter, and how one is torn by sectors of 512 bytes.
 *
 * @module
 */

import { PAGE_WORDS, SECTOR_WORDS, type Words } from "./inode.ts";
import type { Garbage } from "./options.ts";
import type { Random } from "./random.ts";

/**
 * What a power cut makes of a page that was not synced: as it was, as it is,
 * or some of its sectors of 512 bytes as they were and the others as they are.
 */
export type Fate = "old" | "new" | "torn";

/** How a file's dirty pages fare together. */
export const STYLES = [
  "lost",
  "kept",
  "some",
  "first",
  "last",
  "edge",
  "alternating",
  "torn",
] as const;

/** The fates of one file's dirty pages; extremes come often. */
export function plan(
  random: Random,
  style: typeof STYLES[number],
  count: number,
): Fate[] {
  const edge = random.int(count + 1);
  const share = random.pick([0.1, 0.5, 0.9]);
  const parity = random.int(2);
  return Array.from({ length: count }, (_, nth): Fate => {
    switch (style) {
      case "lost":
        return "old";
      case "kept":
        return "new";
      case "some":
        return random.chance(share) ? "new" : "old";
      case "first":
        return nth < edge ? "new" : "old";
      case "last":
        return nth < edge ? "old" : "new";
      case "edge":
        return nth < edge ? "new" : nth === edge ? "torn" : "old";
      case "alternating":
        return nth % 2 === parity ? "new" : "old";
      case "torn":
        return random.pick(["old", "new", "torn", "torn"]);
    }
  });
}

/** Words of a frame that holds no data: it may end in zeros. */
const FRAME_WORDS = 10;

/**
 * Mixes a page by sectors; one of them is garbage where that is allowed. What
 * was synced as zeros is no fresh sector: a frame that ends in zeros may reach
 * into it from right before, be it in the page before, `lead`.
 */
export function tear(
  random: Random,
  lead: Words,
  before: Words,
  after: Words,
  base: Words | undefined,
  garbage: Garbage,
): Words {
  const page = (base ?? before).slice();
  const may: number[] = [];
  const share = random.pick([0.2, 0.5, 0.8]);
  for (let word = 0; word < PAGE_WORDS; word += SECTOR_WORDS) {
    const old = before.subarray(word, word + SECTOR_WORDS);
    const sector = after.subarray(word, word + SECTOR_WORDS);
    if (sector.every((value, at) => value === old[at])) continue;
    if (base === undefined && random.chance(share)) page.set(sector, word);
    const front = word === 0
      ? lead.subarray(-FRAME_WORDS)
      : before.subarray(word - FRAME_WORDS, word);
    const fresh = [...front, ...old].every((value) => value === 0);
    if (garbage === "anywhere" || (fresh && garbage !== "none")) {
      may.push(word);
    }
  }
  if (may.length === 0) return page;
  // Half of it looks like data: another sector of the same page.
  const junk = random.chance(0.5)
    ? Int32Array.from({ length: SECTOR_WORDS }, () => random.uint32() | 0)
    : after.slice(random.int(8) * SECTOR_WORDS).subarray(0, SECTOR_WORDS);
  page.set(junk, random.pick(may));
  return page;
}

/**
 * A page that was written back between two stores of a program: one sector
 * holds a part of the words that changed, in the order of the stores, in the
 * other one, or in none. What did not change is whole.
 */
export function catchStore(
  random: Random,
  before: Words,
  after: Words,
  base: Words,
): Words {
  const changed: number[][] = [];
  for (let word = 0; word < PAGE_WORDS; word += SECTOR_WORDS) {
    const words = Array.from({ length: SECTOR_WORDS }, (_, at) => word + at);
    const differing = words.filter((at) => before[at] !== after[at]);
    if (differing.length > 1) changed.push(differing);
  }
  if (changed.length === 0) return base;
  const page = base.slice();
  const words = random.pick(changed);
  const order = random.pick(["up", "down", "any"]);
  if (order === "down") words.reverse();
  const cut = random.between(1, words.length - 1);
  for (const [nth, word] of words.entries()) {
    const stored = order === "any" ? random.chance(0.5) : nth < cut;
    page[word] = (stored ? after : before)[word] as number;
  }
  return page;
}
