/**
 * Every disk that a power cut could leave at one instant: each page that no
 * sync covers old or new, each change of names made or not. An image has a
 * key, so that equal ones are judged once; it is built only when it is new.
 *
 * What lies in `cut/` is no part of the log, and left out.
 *
 * @module
 */

import { Disk, Folder, type NameChange, type Node } from "../testing/disk.ts";
import { Inode, type Words, ZERO_PAGE } from "../testing/inode.ts";
import { logFolder, type SteadyControl } from "./_exhaustive_disk.ts";

/** All subsets of so many pages are tried; of more, a sample. */
const PAGES_MAX = 8;
/** Likewise of changes of names. */
const NAMES_MAX = 6;
/** Where recovery keeps what it cut: nobody reads it. */
const ASIDE = "cut";

/** Which image of an instant: a table of names, and a version of each page. */
export interface Choice {
  readonly table: number;
  readonly pages: number;
}

/** Names and what they stand for; folders stand for nothing. */
type Table = ReadonlyMap<string, Inode | undefined>;

/** A page that may be found in several versions, the platter's first. */
interface Loose {
  readonly inode: Inode;
  readonly page: number;
  readonly versions: readonly Words[];
}

/** Two sums of 32 bits make a key of 53. */
interface Sum {
  readonly high: number;
  readonly low: number;
}

/** One table's share of an instant. */
interface Plane {
  readonly table: Table;
  readonly base: Sum;
  readonly loose: readonly Loose[];
  /** What each version of each page adds to the key. */
  readonly deltas: readonly (readonly Sum[])[];
}

/** What was enumerated, for the report. */
export interface ImageCounts {
  /** Instants with more pages, or names, than are tried in all subsets. */
  widePages: number;
  wideNames: number;
}

/** An instant of a disk. */
export class Instant {
  /** The same for the same disk: platter, page cache and names. */
  readonly signature: number;
  readonly #planes: readonly Plane[];
  readonly #counts: ImageCounts;

  constructor(control: SteadyControl, counts: ImageCounts) {
    this.#counts = counts;
    const loose = looseVersions(control);
    const planes = new Map<number, Plane>();
    let signature = 0;
    for (const table of tablesOf(control.disk)) {
      const plane = planeOf(table, loose);
      const key = planeKey(plane);
      signature = (signature * 31 + key) % 2 ** 53;
      if (!planes.has(key)) planes.set(key, plane);
    }
    this.signature = signature;
    this.#planes = [...planes.values()];
    if (relevantChanges(control.disk).length > NAMES_MAX) counts.wideNames++;
  }

  /** Tells every image: its key, and how to build it. */
  visit(tell: (key: number, choice: Choice) => void): void {
    for (const [table, { base, deltas }] of this.#planes.entries()) {
      let count = 1;
      for (const versions of deltas) count *= versions.length;
      if (count <= 2 ** PAGES_MAX) {
        visitAll(deltas, base, (key, pages) => tell(key, { table, pages }));
        continue;
      }
      this.#counts.widePages++;
      for (const pages of sample(deltas.map((versions) => versions.length))) {
        tell(keyOf(deltas, base, pages), { table, pages });
      }
    }
  }

  /** The disk of a choice. */
  build({ table, pages }: Choice): Disk {
    const plane = this.#planes[table] as Plane;
    const chosen = new Map<Inode, Words[]>();
    let rest = pages;
    for (const { inode, page, versions } of plane.loose.toReversed()) {
      const version = versions[rest % versions.length] as Words;
      rest = Math.floor(rest / versions.length);
      const images = chosen.get(inode) ?? [...inode.pages];
      images[page] = version;
      chosen.set(inode, images);
    }
    return diskOf(
      plane.table,
      (inode) => new Inode(inode.bytes, chosen.get(inode) ?? [...inode.pages]),
    );
  }

  /** A choice in words. */
  describe({ table, pages }: Choice): string {
    const plane = this.#planes[table] as Plane;
    const pathOf = new Map<Inode | undefined, string>();
    for (const [path, inode] of plane.table) pathOf.set(inode, path);
    const told: string[] = [];
    let rest = pages;
    for (const { inode, page, versions } of plane.loose.toReversed()) {
      const nth = rest % versions.length;
      const fate = nth === 0
        ? "old"
        : nth === versions.length - 1
        ? "new"
        : `version ${nth}`;
      told.push(`  ${pathOf.get(inode)} page ${page}: ${fate}`);
      rest = Math.floor(rest / versions.length);
    }
    const names = [...plane.table.keys()].sort();
    return `  names: ${names.join(", ")}\n${told.reverse().join("\n")}`;
  }
}

/** A disk of these names, all durable. */
function diskOf(table: Table, inodeOf: (inode: Inode) => Inode): Disk {
  const disk = new Disk();
  const root = logFolder(disk);
  for (const [path, inode] of [...table].sort(([a], [b]) => a < b ? -1 : 1)) {
    const names = path.split("/");
    const name = names.pop() as string;
    const folder = names.reduce(
      (at, step) => at.live.get(step) as Folder,
      root,
    );
    const node = inode === undefined ? new Folder() : inodeOf(inode);
    folder.live.set(name, node);
    folder.durable.set(name, node);
  }
  return disk;
}

// ---- pages

/** Copies of pages as the cache had them last, so that few are hashed anew. */
const lastSeen = new WeakMap<Inode, Map<number, Words>>();
const hashes = new WeakMap<Words, Sum>();

function looseVersions(control: SteadyControl): Map<Inode, Loose[]> {
  const loose = new Map<Inode, Loose[]>();
  for (const inode of control.disk.files().keys()) {
    const pages = new Set(inode.dirtyPages());
    const flights = control.flights.filter((one) => one.inode === inode);
    for (const { owed } of flights) for (const page of owed) pages.add(page);
    if (pages.size === 0) continue;
    const found: Loose[] = [];
    for (const page of [...pages].sort((a, b) => a - b)) {
      const versions = [inode.pages[page] as Words];
      for (const { owed, pages: begun } of flights) {
        if (owed.has(page)) addNew(versions, begun.get(page) as Words);
      }
      addNew(versions, seen(inode, page));
      if (versions.length > 1) found.push({ inode, page, versions });
    }
    loose.set(inode, found);
  }
  return loose;
}

function addNew(versions: Words[], version: Words): void {
  if (!versions.some((other) => sameWords(other, version))) {
    versions.push(version);
  }
}

/** The page as it is now; the same object as long as it is the same. */
function seen(inode: Inode, page: number): Words {
  let pages = lastSeen.get(inode);
  if (pages === undefined) lastSeen.set(inode, pages = new Map());
  const now = inode.cached(page);
  const before = pages.get(page);
  if (before !== undefined && sameWords(before, now)) return before;
  pages.set(page, now);
  return now;
}

function sameWords(left: Words, right: Words): boolean {
  if (left === right) return true;
  for (let word = 0; word < left.length; word++) {
    if (left[word] !== right[word]) return false;
  }
  return true;
}

// ---- names

function relevantChanges(disk: Disk): NameChange[] {
  const aside = asideFolders(disk);
  const isAside = (folder: Folder | undefined) =>
    folder === undefined || aside.has(folder);
  return disk.changes.filter(({ node, add, drop }) =>
    !(node instanceof Folder && aside.has(node)) &&
    !(isAside(add?.folder) && isAside(drop?.folder))
  );
}

function asideFolders(disk: Disk): Set<Folder> {
  const aside = new Set<Folder>();
  const enter = (node: Node | undefined): void => {
    if (!(node instanceof Folder) || aside.has(node)) return;
    aside.add(node);
    for (const inner of node.live.values()) enter(inner);
    for (const inner of node.durable.values()) enter(inner);
  };
  const folder = logFolder(disk);
  enter(folder.live.get(ASIDE));
  enter(folder.durable.get(ASIDE));
  return aside;
}

/** The last tables of a disk, and the names that they were made of. */
const lastTables = new WeakMap<
  Disk,
  { made: readonly unknown[]; tables: Table[] }
>();

/** The names that a power cut could leave, each table once or more often. */
function tablesOf(disk: Disk): Table[] {
  const made = [
    ...disk.changes.flatMap((one) => [one, one.added, one.dropped]),
    ...[...readTable(logFolder(disk))].flat(),
  ];
  const last = lastTables.get(disk);
  const same = last?.made.length === made.length &&
    made.every((part, nth) => part === last.made[nth]);
  if (same) return last.tables;
  const tables = makeTables(disk);
  lastTables.set(disk, { made, tables });
  return tables;
}

function makeTables(disk: Disk): Table[] {
  const relevant = relevantChanges(disk).map((one) =>
    disk.changes.indexOf(one)
  );
  return subsetsOf(relevant.length).map((kept) => {
    const copy = disk.copy((inode) => inode);
    const [...changes] = copy.changes;
    for (const [nth, at] of relevant.entries()) {
      if (kept[nth]) copy.apply(changes[at] as NameChange, false);
    }
    return readTable(logFolder(copy));
  });
}

function readTable(root: Folder): Map<string, Inode | undefined> {
  const table = new Map<string, Inode | undefined>();
  const walk = (folder: Folder, before: string) => {
    for (const [name, node] of folder.durable) {
      if (before === "" && name === ASIDE) continue;
      const path = before + name;
      table.set(path, node instanceof Folder ? undefined : node);
      if (node instanceof Folder) walk(node, `${path}/`);
    }
  };
  walk(root, "");
  return table;
}

/** All subsets of few; of many, beginnings, single ones and all but one. */
function subsetsOf(count: number): boolean[][] {
  const subset = (holds: (nth: number) => boolean) =>
    Array.from({ length: count }, (_, nth) => holds(nth));
  const subsets: boolean[][] = [];
  if (count <= NAMES_MAX) {
    for (let bits = 0; bits < 2 ** count; bits++) {
      subsets.push(subset((nth) => (bits >> nth) % 2 === 1));
    }
    return subsets;
  }
  for (let at = 0; at <= count; at++) {
    subsets.push(subset((nth) => nth < at));
    if (at === count) break;
    subsets.push(subset((nth) => nth === at), subset((nth) => nth !== at));
  }
  return subsets;
}

// ---- keys

function planeOf(table: Table, loose: Map<Inode, Loose[]>): Plane {
  let [high, low] = [0, 0];
  const found = new Map<Loose, Sum[]>();
  for (const [path, inode] of table) {
    const name = nameHash(path);
    const size = mix(name, inode?.bytes ?? -1, 0);
    high = high + size.high | 0;
    low = low + size.low | 0;
    if (inode === undefined) continue;
    for (const [page, words] of inode.pages.entries()) {
      if (words === ZERO_PAGE) continue;
      const part = pageSum(name, page, words);
      high = high + part.high | 0;
      low = low + part.low | 0;
    }
    for (const one of loose.get(inode) ?? []) {
      const sums = one.versions.map((words) => pageSum(name, one.page, words));
      const old = sums[0] as Sum;
      const before = found.get(one);
      found.set(
        one,
        sums.map((sum, nth) => ({
          high: sum.high - old.high + (before?.[nth]?.high ?? 0) | 0,
          low: sum.low - old.low + (before?.[nth]?.low ?? 0) | 0,
        })),
      );
    }
  }
  const base = { high, low };
  return { table, base, loose: [...found.keys()], deltas: [...found.values()] };
}

/** Planes of one key have the same images. */
function planeKey({ base, deltas }: Plane): number {
  let { high, low } = base;
  for (const versions of deltas) {
    for (const sum of versions) {
      high = Math.imul(high, 31) + sum.high | 0;
      low = Math.imul(low, 37) + sum.low | 0;
    }
  }
  return pack(high, low);
}

function pageSum(name: number, page: number, words: Words): Sum {
  if (words === ZERO_PAGE) return { high: 0, low: 0 };
  const { high, low } = hashOf(words);
  // A page of zeros is the same whether it was ever written.
  if (high === 0 && low === 0) return { high, low };
  return mix(name + Math.imul(page, 0x9e3779b1) | 0, high, low);
}

function hashOf(words: Words): Sum {
  const known = hashes.get(words);
  if (known !== undefined) return known;
  let [high, low, any] = [0x811c9dc5, 0x1b873593, 0];
  for (const word of words) {
    any |= word;
    high = Math.imul(high ^ word, 0x85ebca6b);
    high ^= high >>> 15;
    low = Math.imul(low + word | 0, 0xc2b2ae35);
    low ^= low >>> 13;
  }
  const sum = any === 0 ? { high: 0, low: 0 } : { high, low };
  hashes.set(words, sum);
  return sum;
}

function mix(name: number, one: number, two: number): Sum {
  return { high: scramble(name, one, two), low: scramble(~name, two, one) };
}

function scramble(seed: number, one: number, two: number): number {
  let hash = Math.imul(seed ^ one, 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 15) ^ two, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

function nameHash(name: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < name.length; at++) {
    hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193);
  }
  return hash;
}

function pack(high: number, low: number): number {
  return (high >>> 0) * 2 ** 21 + (low >>> 11);
}

// ---- subsets of pages

function visitAll(
  deltas: readonly (readonly Sum[])[],
  base: Sum,
  tell: (key: number, pages: number) => void,
): void {
  const go = (nth: number, high: number, low: number, pages: number): void => {
    const versions = deltas[nth];
    if (versions === undefined) return tell(pack(high, low), pages);
    for (let at = 0; at < versions.length; at++) {
      const sum = versions[at] as Sum;
      const next = pages * versions.length + at;
      go(nth + 1, high + sum.high | 0, low + sum.low | 0, next);
    }
  };
  go(0, base.high, base.low, 0);
}

function keyOf(
  deltas: readonly (readonly Sum[])[],
  { high, low }: Sum,
  pages: number,
): number {
  let rest = pages;
  for (const versions of deltas.toReversed()) {
    const sum = versions[rest % versions.length] as Sum;
    rest = Math.floor(rest / versions.length);
    high = high + sum.high | 0;
    low = low + sum.low | 0;
  }
  return pack(high, low);
}

/**
 * Of many pages: none, all, one and two alone, all but one and but two, the
 * first ones and the last ones; by the numbers that `build` takes.
 */
function sample(radixes: readonly number[]): Set<number> {
  const count = radixes.length;
  const chosen = new Set<number>();
  const add = (isNew: (nth: number) => boolean) => {
    let pages = 0;
    for (const [nth, radix] of radixes.entries()) {
      pages = pages * radix + (isNew(nth) ? radix - 1 : 0);
    }
    chosen.add(pages);
  };
  for (let one = 0; one <= count; one++) {
    add((nth) => nth < one);
    add((nth) => nth >= one);
    for (let two = one; two < count; two++) {
      add((nth) => nth === one || nth === two);
      add((nth) => nth !== one && nth !== two);
    }
  }
  return chosen;
}
