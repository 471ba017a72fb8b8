/**
 * What a power cut leaves of a disk: pages by their fates, names by theirs.
 *
 * @module
 */

import { type Disk, Folder } from "./disk.ts";
import { type Fate, plan, STYLES, tear } from "./fates.ts";
import { Inode, type Words, ZERO_PAGE } from "./inode.ts";
import type { Garbage } from "./options.ts";
import type { Random } from "./random.ts";

/** Leaves nothing to the seed that is given here. */
export interface CrashOptions {
  readonly seed?: number;
  readonly garbage?: Garbage;
  /** Decides over every dirty page, in the order of `dirtyPages()`. */
  readonly pages?: (page: DirtyPage, nth: number) => Fate;
  /** Which of `pendingNames()` survive. */
  readonly names?: (change: string, nth: number) => boolean;
}

/** A page whose loss a power cut could mean. */
export interface DirtyPage {
  readonly path: string;
  readonly page: number;
}

/** What a power cut leaves of a disk. */
export function crashed(
  before: Disk,
  random: Random,
  garbage: Garbage,
  options: CrashOptions,
): Disk {
  const found = new Map<Inode, Inode>();
  let nth = 0;
  const general = random.chance(0.5) ? random.pick(STYLES) : undefined;
  // Garbage is rare, so that it hides nothing else.
  const spoilt = garbage !== "none" && random.chance(1 / 8);
  for (const [inode, { path, pages }] of before.dirty()) {
    const style = general ?? random.pick(STYLES);
    const fates = plan(random, style, pages.length);
    const images = [...inode.pages];
    for (const [at, page] of pages.entries()) {
      const fate = options.pages?.({ path, page }, nth++) ?? fates[at];
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
    }
    found.set(inode, new Inode(inode.bytes, images));
  }
  const disk = before.copy((inode) =>
    found.get(inode) ?? new Inode(inode.bytes, [...inode.pages])
  );
  crashNames(disk, random, options);
  return disk;
}

function crashNames(
  disk: Disk,
  random: Random,
  options: CrashOptions,
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
  }
  disk.changes = [];
  const settle = (folder: Folder): void => {
    folder.live.clear();
    for (const [name, node] of folder.durable) {
      folder.live.set(name, node);
      if (node instanceof Folder) settle(node);
    }
  };
  settle(disk.root);
}
