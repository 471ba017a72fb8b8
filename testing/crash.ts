/**
 * What a power cut leaves of a disk: pages by their fates, sizes and names by
 * theirs.
 *
 * @module
 */

import { type Disk, Folder } from "./disk.ts";
import { catchStore, type Fate, plan, STYLES, tear } from "./fates.ts";
import { Inode, PAGE_BYTES, type Words, ZERO_PAGE } from "./inode.ts";
import type { CrashOptions, Garbage } from "./options.ts";
import { Random } from "./random.ts";

/** What was found, and how it came to be so. */
export interface Found {
  readonly disk: Disk;
  /** What became of each page, size and name that was not durable. */
  readonly report: readonly string[];
}

/** What a disk may do to what is not durable, unless decided by hand. */
export interface Habits {
  readonly garbage: Garbage;
  readonly shortFiles: boolean;
}

/** What a power cut leaves of a disk, which stays as it is. */
export function crash(
  before: Disk,
  seed: number,
  options: CrashOptions & Habits,
): Found {
  const report: string[] = [];
  const random = new Random(seed, 4);
  const late = new Random(seed, 6);
  const found = crashPages(before, random, options, report);
  if (options.pages === undefined) catchStores(before, late, found, report);
  const sizes = crashSizes(before, late, options, report);
  const disk = before.copy((inode) => {
    const pages = found.get(inode) ?? [...inode.pages];
    const bytes = sizes.get(inode) ?? inode.bytes;
    pages.length = Math.ceil(bytes / PAGE_BYTES);
    const left = new Inode(bytes, pages);
    left.taken.set(inode.taken.subarray(0, left.taken.length));
    return left;
  });
  crashNames(disk, random, options, report);
  return { disk, report };
}

function crashPages(
  before: Disk,
  random: Random,
  options: CrashOptions & Habits,
  report: string[],
): Map<Inode, Words[]> {
  const found = new Map<Inode, Words[]>();
  const { garbage } = options;
  let nth = 0;
  const general = random.chance(0.5) ? random.pick(STYLES) : undefined;
  // Garbage is rare, so that it hides nothing else.
  const spoilt = garbage !== "none" && random.chance(1 / 8);
  for (const [inode, { path, pages }] of before.dirty()) {
    const style = general ?? random.pick(STYLES);
    const fates = plan(random, style, pages.length);
    const images = [...inode.pages];
    const outcomes: [string, number][] = [];
    for (const [at, page] of pages.entries()) {
      const fate = options.pages?.({ path, page }, nth++) ??
        fates[at] as Fate;
      if (fate === "new") images[page] = inode.cached(page);
      const old = inode.pages[page] as Words;
      const spoil = spoilt && random.chance(0.5);
      if (fate === "torn" || spoil) {
        const base = fate === "torn" ? undefined : images[page];
        const kind = spoil ? garbage : "none";
        const lead = inode.pages[page - 1] ?? ZERO_PAGE;
        const now = inode.cached(page);
        images[page] = tear(random, lead, old, now, base, kind);
      }
      outcomes.push([spoil ? `${fate} or garbage` : fate, page]);
    }
    report.push(`${path}: ${inWords(outcomes)}`);
    found.set(inode, images);
  }
  return found;
}

/** "new page 0-3, torn page 4". */
function inWords(outcomes: readonly [string, number][]): string {
  const ranges: { outcome: string; first: number; last: number }[] = [];
  for (const [outcome, page] of outcomes) {
    const range = ranges.at(-1);
    if (range?.outcome === outcome && range.last === page - 1) {
      range.last = page;
    } else ranges.push({ outcome, first: page, last: page });
  }
  return ranges.map(({ outcome, first, last }) =>
    `${outcome} page ${first === last ? first : `${first}-${last}`}`
  ).join(", ");
}

/** Pages of mappings that were written back in the middle of a store. */
function catchStores(
  before: Disk,
  random: Random,
  found: Map<Inode, Words[]>,
  report: string[],
): void {
  if (!random.chance(1 / 4)) return;
  for (const [inode, { path, pages }] of before.dirty()) {
    const images = found.get(inode);
    if (!inode.mapped || images === undefined) continue;
    const page = random.pick(pages);
    const old = inode.pages[page] as Words;
    const base = images[page] as Words;
    const caught = catchStore(random, old, inode.cached(page), base);
    if (caught === base) continue;
    images[page] = caught;
    report.push(`${path}: page ${page} caught between two stores`);
  }
}

/** A file whose size was never synced may be shorter, if it has a name. */
function crashSizes(
  before: Disk,
  random: Random,
  options: CrashOptions & Habits,
  report: string[],
): Map<Inode, number> {
  const sizes = new Map<Inode, number>();
  const kept = !options.shortFiles || random.chance(0.5);
  let nth = 0;
  for (const [inode, path] of before.unsized()) {
    const pages = Math.floor(inode.bytes / PAGE_BYTES);
    const less = random.chance(0.5) ? 0 : random.int(pages + 1) * PAGE_BYTES;
    const drawn = kept || random.chance(0.5) ? inode.bytes : less;
    const file = { path, bytes: inode.bytes };
    const bytes = options.sizes?.(file, nth++) ?? drawn;
    sizes.set(inode, bytes);
    if (bytes < inode.bytes) {
      report.push(`${path}: cut short, ${bytes} of ${inode.bytes} bytes`);
    }
  }
  return sizes;
}

function crashNames(
  disk: Disk,
  random: Random,
  options: CrashOptions,
  report: string[],
): void {
  const count = disk.changes.length;
  const prefix = random.chance(0.5);
  const share = random.pick([0, 0.2, 0.5, 0.8, 1]);
  const kept = random.pick([0, count, random.int(count + 1)]);
  for (const [nth, change] of disk.changes.entries()) {
    const survives = options.names?.(change.text, nth) ??
      (prefix ? nth < kept : random.chance(share));
    const { add, drop, added, dropped } = change;
    const apart = add?.folder !== drop?.folder && add !== undefined;
    const both = apart && !added && !dropped && !prefix && random.chance(0.5);
    if (survives) disk.apply(change, both);
    report.push(`${survives ? "kept" : "lost"}: ${change.text}`);
  }
  disk.changes = [];
  settle(disk.root);
}

/** What the platter has is what the next process sees. */
function settle(folder: Folder): void {
  folder.live.clear();
  for (const [name, node] of folder.durable) {
    folder.live.set(name, node);
    if (node instanceof Folder) settle(node);
  }
}
