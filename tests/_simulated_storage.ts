/**
 * A disk that can crash, in memory and from a seed.
 *
 * Every file has two images: the page cache, which programs see, and the
 * platter, which a power cut leaves. Names live apart from files, in a live
 * and a durable table. `crash()` and `processDeath()` give the storage that
 * the next process finds; the old one is dead.
 *
 * @module
 */

import type {
  Clock,
  DirectoryEntry,
  DirectoryOptions,
  MappedRegion,
  StorageDirectory,
  StorageFile,
  StorageLock,
  StoragePort,
  SyncDone,
} from "../src/storage.ts";
import { assert } from "../src/assert.ts";
import { StorageError, WalLockedError } from "../src/errors.ts";
import { Random } from "./_random.ts";

const PAGE_BYTES = 4096;
const PAGE_WORDS = PAGE_BYTES / 4;
const SECTOR_WORDS = 512 / 4;
/** No file is larger; the largest segment is half of it. */
const BYTES_MAX = 2 ** 31;
const START_MS = 1_700_000_000_000;

/** Pages are compared as words, and never changed once on the platter. */
type Words = Int32Array<ArrayBuffer>;
const ZERO_PAGE: Words = new Int32Array(PAGE_WORDS);

/** What a hook or a rule can aim at. */
export type Operation =
  | "openDirectory"
  | "list"
  | "create"
  | "open"
  | "rename"
  | "remove"
  | "makeFolder"
  | "directorySync"
  | "lock"
  | "read"
  | "write"
  | "map"
  | "sync"
  | "syncSoon"
  | "punchHole"
  | "dropCache";

/** One call of the port, about to happen; `count` begins at 1. */
export interface PortCall {
  readonly operation: Operation;
  readonly name: string;
  readonly count: number;
}

/** Where a crash may leave garbage. */
export type Garbage = "none" | "unsynced-sectors" | "anywhere";

/** What a power cut makes of a page that was not synced. */
export type Fate = "old" | "new" | "torn";

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

/** Which calls of an operation fail. */
export interface FailOptions {
  /** How many fail. @default {1} */
  readonly count?: number;
  /** How many pass before. @default {0} */
  readonly after?: number;
  /** Only calls whose path ends so. */
  readonly name?: string;
}

/** The power is off or the process dead: the workload must not go on. */
export class CrashNow extends Error {
  override readonly name = "CrashNow";
}

/** A file without its name: page cache over platter. */
class Inode {
  readonly bytes: number;
  /** The platter. */
  readonly pages: Words[];
  /** What a failed sync left in the cache as clean, though never written. */
  readonly forgotten = new Map<number, Words>();
  /** What each asynchronous sync under way still owes the platter. */
  readonly owed = new Set<Set<number>>();
  /** Failed syncs so far; each open file reports them once. */
  errors = 0;
  mappings = 0;
  /** The page cache; undefined while nobody changed anything. */
  #words: Words | undefined;

  constructor(bytes: number, pages?: Words[], words?: Words) {
    this.bytes = bytes;
    const count = Math.ceil(bytes / PAGE_BYTES);
    this.pages = pages ?? new Array<Words>(count).fill(ZERO_PAGE);
    this.#words = words;
  }

  /** The page cache as bytes; a store into it is a write. */
  live(): Uint8Array<ArrayBuffer> {
    if (this.#words === undefined) {
      const words = new Int32Array(this.pages.length * PAGE_WORDS);
      for (const [page, stored] of this.pages.entries()) {
        if (stored !== ZERO_PAGE) words.set(stored, page * PAGE_WORDS);
      }
      this.#words = words;
    }
    return new Uint8Array(this.#words.buffer, 0, this.bytes);
  }

  read(target: Uint8Array<ArrayBuffer>, offset: number): number {
    const end = Math.min(this.bytes, offset + target.length);
    if (this.#words !== undefined) {
      if (end > offset) target.set(this.live().subarray(offset, end));
      return Math.max(0, end - offset);
    }
    for (let at = offset; at < end;) {
      const page = Math.floor(at / PAGE_BYTES);
      const to = Math.min(end, (page + 1) * PAGE_BYTES);
      const from = at - page * PAGE_BYTES;
      const stored = this.pages[page] as Words;
      target.set(new Uint8Array(stored.buffer, from, to - at), at - offset);
      at = to;
    }
    return Math.max(0, end - offset);
  }

  write(source: Uint8Array<ArrayBuffer>, offset: number): void {
    this.live().set(source, offset);
    const last = Math.floor((offset + source.length - 1) / PAGE_BYTES);
    for (let page = Math.floor(offset / PAGE_BYTES); page <= last; page++) {
      this.forgotten.delete(page);
    }
  }

  dirtyPages(): number[] {
    const dirty: number[] = [];
    if (this.#words === undefined) return dirty;
    for (let page = 0; page < this.pages.length; page++) {
      const clean = this.forgotten.get(page);
      if (this.#holds(page, this.pages[page] as Words)) continue;
      if (clean === undefined || !this.#holds(page, clean)) dirty.push(page);
    }
    return dirty;
  }

  /** The page as the cache has it, a copy. */
  cached(page: number): Words {
    if (this.#words === undefined) return this.pages[page] as Words;
    return this.#words.slice(page * PAGE_WORDS, (page + 1) * PAGE_WORDS);
  }

  writeBack(page: number): void {
    this.pages[page] = this.cached(page);
    this.forgotten.delete(page);
    for (const owed of this.owed) owed.delete(page);
  }

  /** A write failed: the cache keeps the pages and calls them clean. */
  forget(pages: Iterable<number>): number {
    for (const page of [...pages]) {
      this.forgotten.set(page, this.cached(page));
      for (const owed of this.owed) owed.delete(page);
    }
    return ++this.errors;
  }

  /** Clean pages leave the cache; what comes back is the platter's. */
  evict(): void {
    if (this.mappings > 0) return;
    for (const [page, clean] of this.forgotten) {
      if (!this.#holds(page, clean)) continue;
      this.#words?.set(this.pages[page] as Words, page * PAGE_WORDS);
      this.forgotten.delete(page);
    }
  }

  /** The last mapping is gone: its memory is zeros, the cache is not. */
  unmap(): void {
    if (--this.mappings > 0 || this.#words === undefined) return;
    const mapped = this.#words;
    this.#words = mapped.slice();
    mapped.fill(0);
  }

  clone(): Inode {
    const copy = new Inode(this.bytes, [...this.pages], this.#words?.slice());
    for (const mark of this.forgotten) copy.forgotten.set(...mark);
    return copy;
  }

  #holds(page: number, content: Words): boolean {
    const words = this.#words as Words;
    const base = page * PAGE_WORDS;
    for (let word = 0; word < PAGE_WORDS; word++) {
      if (words[base + word] !== content[word]) return false;
    }
    return true;
  }
}

/** Names, as the running system sees them and as the platter has them. */
class Folder {
  readonly live = new Map<string, Node>();
  readonly durable = new Map<string, Node>();
  holder: object | undefined;
}

type Node = Inode | Folder;

interface Place {
  readonly folder: Folder;
  readonly name: string;
}

/** A create (add), a remove (drop) or a rename (both), not durable yet. */
interface NameChange {
  readonly text: string;
  readonly node: Node;
  readonly add: Place | undefined;
  readonly drop: Place | undefined;
  /** The folder of that place was synced. */
  added: boolean;
  dropped: boolean;
}

/** Everything that a crash or a death hands to the next process. */
class Disk {
  root = new Folder();
  changes: NameChange[] = [];

  /** Walks names as they are now; undefined when one is missing. */
  find(path: string, from: Folder = this.root): Node | undefined {
    let node: Node | undefined = from;
    for (const name of path.split("/")) {
      if (name === "" || name === ".") continue;
      if (!(node instanceof Folder)) return undefined;
      node = node.live.get(name);
    }
    return node;
  }

  change(text: string, node: Node, add?: Place, drop?: Place): void {
    drop?.folder.live.delete(drop.name);
    add?.folder.live.set(add.name, node);
    const state = { added: false, dropped: false };
    this.changes.push({ text, node, add, drop, ...state });
  }

  /** Makes the names in one folder durable, as far as `upTo` changed them. */
  syncNames(folder: Folder, upTo: readonly NameChange[]): void {
    for (const change of upTo) {
      if (!this.changes.includes(change)) continue;
      const { add, drop } = change;
      if (add?.folder === folder && !change.added) this.#add(change);
      if (drop?.folder === folder) change.dropped = true;
      // A rename between folders never loses the file: the old name goes
      // only when the new one is durable.
      if (change.dropped && (add === undefined || change.added)) {
        this.#drop(change);
      }
    }
    this.changes = this.changes.filter(({ add, drop, added, dropped }) =>
      (add !== undefined && !added) || (drop !== undefined && !dropped)
    );
  }

  /** One change reaches the platter by itself. */
  apply(change: NameChange, both: boolean): void {
    if (change.add !== undefined && !change.added) this.#add(change);
    if (change.drop === undefined || both) return;
    // A file has one name; an earlier rename that was skipped left another.
    for (const other of this.changes) {
      if (other.node === change.node) this.#drop(other, change.add);
      if (other === change) break;
    }
  }

  #add(change: NameChange): void {
    const { folder, name } = change.add as Place;
    folder.durable.set(name, change.node);
    change.added = true;
  }

  #drop(change: NameChange, except?: Place): void {
    for (const place of except ? [change.add, change.drop] : [change.drop]) {
      if (place === undefined) continue;
      if (place.folder === except?.folder && place.name === except.name) {
        continue;
      }
      const { durable } = place.folder;
      if (durable.get(place.name) === change.node) durable.delete(place.name);
    }
  }

  /** Every file with a name, now or on the platter, and that name. */
  files(): Map<Inode, string> {
    const files = new Map<Inode, string>();
    const walk = (folder: Folder, table: "live" | "durable", path: string) => {
      for (const [name, node] of folder[table]) {
        const full = path === "" ? name : `${path}/${name}`;
        if (node instanceof Folder) walk(node, table, full);
        else if (!files.has(node)) files.set(node, full);
      }
    };
    walk(this.root, "live", "");
    walk(this.root, "durable", "");
    for (const { node, add, drop } of this.changes) {
      if (node instanceof Folder || files.has(node)) continue;
      files.set(node, (add ?? drop as Place).name);
    }
    return files;
  }

  dirty(): Map<Inode, { path: string; pages: number[] }> {
    const dirty = new Map<Inode, { path: string; pages: number[] }>();
    for (const [inode, path] of this.files()) {
      const pages = inode.dirtyPages();
      if (pages.length > 0) dirty.set(inode, { path, pages });
    }
    return dirty;
  }

  /** The same names over other files. */
  copy(inodeOf: (inode: Inode) => Inode): Disk {
    const nodes = new Map<Node, Node>();
    const copyNode = (node: Node): Node => {
      const known = nodes.get(node);
      if (known !== undefined) return known;
      if (node instanceof Inode) {
        const inode = inodeOf(node);
        nodes.set(node, inode);
        return inode;
      }
      const folder = new Folder();
      nodes.set(node, folder);
      for (const [name, at] of node.live) folder.live.set(name, copyNode(at));
      for (const [name, at] of node.durable) {
        folder.durable.set(name, copyNode(at));
      }
      return folder;
    };
    const copyPlace = (place: Place | undefined) =>
      place && { ...place, folder: copyNode(place.folder) as Folder };
    const disk = new Disk();
    disk.root = copyNode(this.root) as Folder;
    disk.changes = this.changes.map((change) => ({
      ...change,
      node: copyNode(change.node),
      add: copyPlace(change.add),
      drop: copyPlace(change.drop),
    }));
    return disk;
  }

  /** What a power cut leaves of it. */
  crashed(random: Random, garbage: Garbage, options: CrashOptions): Disk {
    const found = new Map<Inode, Inode>();
    let nth = 0;
    const general = random.chance(0.5) ? random.pick(STYLES) : undefined;
    // Garbage is rare, so that it hides nothing else.
    const spoilt = garbage !== "none" && random.chance(1 / 8);
    for (const [inode, { path, pages }] of this.dirty()) {
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
    const disk = this.copy((inode) =>
      found.get(inode) ?? new Inode(inode.bytes, [...inode.pages])
    );
    disk.#crashNames(random, options);
    return disk;
  }

  #crashNames(random: Random, options: CrashOptions): void {
    const count = this.changes.length;
    const prefix = random.chance(0.5);
    const share = random.pick([0, 0.2, 0.5, 0.8, 1]);
    const kept = random.pick([0, count, random.int(count + 1)]);
    for (const [nth, change] of this.changes.entries()) {
      const survives = options.names?.(change.text, nth) ??
        (prefix ? nth < kept : random.chance(share));
      const { add, drop, added, dropped } = change;
      const apart = add?.folder !== drop?.folder && add !== undefined;
      const both = apart && !added && !dropped && !prefix && random.chance(0.5);
      if (survives) this.apply(change, both);
    }
    this.changes = [];
    const settle = (folder: Folder): void => {
      folder.live.clear();
      for (const [name, node] of folder.durable) {
        folder.live.set(name, node);
        if (node instanceof Folder) settle(node);
      }
    };
    settle(this.root);
  }
}

const STYLES = [
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
function plan(
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
function tear(
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

/** What all objects of one storage share: faults, syncs under way, death. */
class Control {
  readonly options: SimulatedOptions;
  readonly random: Random;
  readonly writeback: number;
  readonly clock: SimulatedClock;
  disk: Disk;
  /** Open files and mappings keep the space of an unlinked file. */
  readonly held = new Map<Inode, number>();
  calls = 0;
  stopped = false;
  hook: ((call: PortCall) => void) | undefined;
  rules: {
    operation: Operation | "any";
    code: string;
    count: number;
    after: number;
    name: string;
  }[] = [];
  pending: (() => void)[] = [];

  constructor(options: SimulatedOptions, disk: Disk, nowMs: number) {
    this.options = options;
    this.disk = disk;
    this.clock = new SimulatedClock(nowMs);
    this.random = new Random(options.seed, 1);
    const chances = [0, 0.02, 0.1, 0.5];
    this.writeback = options.writeback ?? this.random.pick(chances);
  }

  /** Every call comes by here; what it returns is the fault to report. */
  enter(operation: Operation, name: string): StorageError | undefined {
    if (this.stopped) throw new CrashNow(`Cannot ${operation}: crashed`);
    this.calls++;
    try {
      this.hook?.({ operation, name, count: this.calls });
    } catch (reason) {
      this.stop();
      throw reason;
    }
    if (this.random.chance(this.writeback)) this.writeSome();
    for (const rule of this.rules) {
      if (rule.operation !== "any" && rule.operation !== operation) continue;
      if (!name.endsWith(rule.name) || rule.count === 0) continue;
      if (rule.after-- > 0) continue;
      rule.count--;
      return failure(operation, name, rule.code);
    }
    return undefined;
  }

  /** `enter` for calls that a fault simply ends. */
  check(operation: Operation, name: string): void {
    const fault = this.enter(operation, name);
    if (fault !== undefined) throw fault;
  }

  /** The kernel writes back what it likes, and commits names in order. */
  writeSome(): void {
    const { disk, random } = this;
    for (const [inode, { pages }] of disk.dirty()) {
      const fates = plan(random, random.pick(STYLES), pages.length);
      for (const [at, page] of pages.entries()) {
        if (fates[at] === "new") inode.writeBack(page);
      }
    }
    if (disk.changes.length === 0 || random.chance(0.7)) return;
    const kept = random.int(disk.changes.length + 1);
    for (const change of disk.changes.slice(0, kept)) disk.apply(change, false);
    disk.changes.splice(0, kept);
  }

  later(complete: () => void): void {
    this.pending.push(complete);
    if (this.options.autoSettle) setTimeout(() => this.settle(1), 0);
  }

  settle(limit: number): number {
    let settled = 0;
    for (let left = Math.min(limit, this.pending.length); left > 0; left--) {
      const nth = this.random.int(this.pending.length);
      const [complete] = this.pending.splice(nth, 1);
      if (complete === undefined) break;
      complete();
      settled++;
    }
    return settled;
  }

  hold(inode: Inode, change: 1 | -1): void {
    const holders = (this.held.get(inode) ?? 0) + change;
    if (holders === 0) this.held.delete(inode);
    else this.held.set(inode, holders);
  }

  /** Nothing the dead program stores into its mappings counts any more. */
  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    this.pending = [];
    this.clock.stop();
    this.disk = this.disk.copy((inode) => inode.clone());
  }
}

function failure(operation: string, path: string, code: string): StorageError {
  const detail = { operation, path, systemCode: code };
  return new StorageError(`Cannot ${operation} "${path}": ${code}`, detail);
}

/** Time that only moves when asked, but for 1 ms a look. */
export class SimulatedClock implements Clock {
  #elapsedMs = 0;
  #ticks = 0;
  readonly #startMs: number;
  readonly #timers = new Set<
    { ms: number; due: number; action: () => void }
  >();

  constructor(startMs: number) {
    this.#startMs = startMs;
  }

  nowMs(): number {
    return this.#startMs + ++this.#elapsedMs;
  }

  monotonicNs(): number {
    return this.#elapsedMs * 1_000_000 + ++this.#ticks;
  }

  every(ms: number, action: () => void): () => void {
    const timer = { ms, due: this.#elapsedMs + ms, action };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  /** Lets time pass; what falls due is called, the earliest first. */
  advance(ms: number): void {
    const end = this.#elapsedMs + ms;
    for (;;) {
      const [next] = [...this.#timers].sort((a, b) => a.due - b.due);
      if (next === undefined || next.due > end) break;
      this.#elapsedMs = Math.max(this.#elapsedMs, next.due);
      next.due += Math.max(1, next.ms);
      next.action();
    }
    this.#elapsedMs = Math.max(this.#elapsedMs, end);
  }

  /** The process is dead: no action is called any more. */
  stop(): void {
    this.#timers.clear();
  }
}

class SimulatedFile implements StorageFile {
  readonly name: string;
  readonly bytes: number;
  readonly #path: string;
  readonly #inode: Inode;
  readonly #control: Control;
  readonly #writable: boolean;
  /** How many of the file's failed syncs this descriptor has reported. */
  #blockingSeen: number;
  #soonSeen: number;
  #mapped = false;
  #syncing = false;
  #closed = false;

  constructor(
    control: Control,
    place: { name: string; path: string; writable: boolean },
    inode: Inode,
  ) {
    this.name = place.name;
    this.bytes = inode.bytes;
    this.#path = place.path;
    this.#writable = place.writable;
    this.#inode = inode;
    this.#control = control;
    // The file has two descriptors, and each is told of an error once.
    this.#blockingSeen = inode.errors;
    this.#soonSeen = inode.errors;
    control.hold(inode, 1);
  }

  readAt(target: Uint8Array<ArrayBuffer>, offset: number): number {
    this.#check("read", offset);
    return this.#inode.read(target, offset);
  }

  writeAt(source: Uint8Array<ArrayBuffer>, offset: number): void {
    assert(this.#writable, `${this.#path} is open for reading`);
    const fault = this.#enter("write", offset);
    assert(offset + source.length <= this.bytes, "files are never resized");
    const kept = fault === undefined
      ? source.length
      : this.#control.random.int(source.length + 1);
    if (kept > 0) this.#inode.write(source.subarray(0, kept), offset);
    if (fault !== undefined) throw fault;
  }

  map(): MappedRegion | undefined {
    this.#check("map");
    assert(!this.#mapped, `${this.#path} is mapped twice`);
    // Arrays cannot share memory privately: what only reads gets no map.
    if (this.#control.options.mapped === false) return undefined;
    if (!this.#writable) return undefined;
    this.#mapped = true;
    const inode = this.#inode;
    const control = this.#control;
    inode.mappings++;
    control.hold(inode, 1);
    let released = false;
    return {
      bytes: inode.live(),
      release: () => {
        if (released) return;
        released = true;
        inode.unmap();
        control.hold(inode, -1);
      },
    };
  }

  sync(): void {
    const fault = this.#enter("sync");
    const inode = this.#inode;
    const dirty = inode.dirtyPages();
    if (fault !== undefined) {
      this.#blockingSeen = inode.forget(dirty);
      throw fault;
    }
    for (const page of dirty) inode.writeBack(page);
    const { errors } = inode;
    if (this.#blockingSeen === errors) return;
    this.#blockingSeen = errors;
    throw failure("sync", this.#path, "EIO");
  }

  syncSoon(done: SyncDone): void {
    assert(!this.#syncing, `two asynchronous syncs of ${this.#path}`);
    let fault = this.#enter("syncSoon");
    const { random } = this.#control;
    const inode = this.#inode;
    const owed = new Set(inode.dirtyPages());
    const fail = () => void (this.#soonSeen = inode.forget(owed));
    this.#syncing = true;
    inode.owed.add(owed);
    // The disk works before anybody is told: some pages, or the error.
    const early = random.chance(0.5);
    if (fault !== undefined && early) fail();
    if (fault === undefined) {
      const fates = plan(random, random.pick(STYLES), owed.size);
      for (const [nth, page] of [...owed].entries()) {
        if (fates[nth] === "new") inode.writeBack(page);
      }
    }
    this.#control.later(() => {
      this.#syncing = false;
      inode.owed.delete(owed);
      if (fault === undefined) {
        for (const page of owed) inode.writeBack(page);
        fault = this.#unreported();
      } else if (!early) fail();
      done(fault);
    });
  }

  punchHole(offset: number, bytes: number): void {
    assert(this.#writable, `${this.#path} is open for reading`);
    this.#check("punchHole", offset);
    const end = Math.min(this.bytes, offset + bytes);
    if (end > offset) this.#inode.write(new Uint8Array(end - offset), offset);
  }

  dropCache(): void {
    this.#check("dropCache");
    this.#inode.evict();
  }

  close(): void {
    if (this.#control.stopped) return;
    assert(!this.#closed, `${this.#path} is closed twice`);
    this.#closed = true;
    this.#control.hold(this.#inode, -1);
  }

  /** Another descriptor saw a sync fail; this one says so once as well. */
  #unreported(): StorageError | undefined {
    if (this.#soonSeen === this.#inode.errors) return undefined;
    this.#soonSeen = this.#inode.errors;
    return failure("sync", this.#path, "EIO");
  }

  #enter(operation: Operation, offset = 0): StorageError | undefined {
    assert(!this.#closed || this.#control.stopped, `${this.#path} is closed`);
    assert(offset >= 0 && Number.isInteger(offset), `offset is ${offset}`);
    return this.#control.enter(operation, this.#path);
  }

  #check(operation: Operation, offset = 0): void {
    const fault = this.#enter(operation, offset);
    if (fault !== undefined) throw fault;
  }
}

class SimulatedDirectory implements StorageDirectory {
  readonly path: string;
  readonly #folder: Folder;
  readonly #control: Control;
  #syncing = false;
  #closed = false;

  constructor(control: Control, path: string, folder: Folder) {
    this.path = path;
    this.#folder = folder;
    this.#control = control;
  }

  list(folder = ""): DirectoryEntry[] {
    this.#check("list", folder);
    const entries = [...this.#folderAt("list", folder).live].map(
      ([name, node]): DirectoryEntry => ({
        name,
        kind: node instanceof Folder ? "directory" : "file",
      }),
    );
    return this.#control.random.shuffle(entries);
  }

  create(name: string, bytes: number): StorageFile {
    this.#check("create", name);
    const place = this.#place("create", name);
    if (place.folder.live.has(place.name)) {
      throw this.#failure("create", name, "EEXIST");
    }
    if (bytes > BYTES_MAX) throw this.#failure("create", name, "EFBIG");
    const inode = new Inode(bytes);
    const capacity = this.#control.options.capacity ?? Infinity;
    if (this.#space() + spaceOf(inode) > capacity) {
      throw this.#failure("create", name, "ENOSPC");
    }
    const text = `create ${this.#full(name)}`;
    this.#control.disk.change(text, inode, place);
    return this.#file(name, inode, true);
  }

  open(name: string, access: "read" | "write"): StorageFile | undefined {
    this.#check("open", name);
    const node = this.#control.disk.find(name, this.#folder);
    if (node === undefined) return undefined;
    if (node instanceof Folder) throw this.#failure("open", name, "EISDIR");
    return this.#file(name, node, access === "write");
  }

  rename(source: string, target: string): void {
    this.#check("rename", source);
    const from = this.#place("rename", source);
    const to = this.#place("rename", target);
    const node = from.folder.live.get(from.name);
    if (node === undefined) throw this.#failure("rename", source, "ENOENT");
    const there = to.folder.live.get(to.name);
    if (there === node) return;
    if (there instanceof Folder) {
      throw this.#failure("rename", target, "EISDIR");
    }
    const text = `rename ${this.#full(source)} ${this.#full(target)}`;
    this.#control.disk.change(text, node, to, from);
  }

  remove(name: string): void {
    this.#check("remove", name);
    const place = this.#place("remove", name);
    const node = place.folder.live.get(place.name);
    if (node === undefined) throw this.#failure("remove", name, "ENOENT");
    if (node instanceof Folder) throw this.#failure("remove", name, "EISDIR");
    const text = `remove ${this.#full(name)}`;
    this.#control.disk.change(text, node, undefined, place);
  }

  makeFolder(name: string): void {
    this.#check("makeFolder", name);
    const place = this.#place("makeFolder", name);
    const there = place.folder.live.get(place.name);
    if (there instanceof Folder) return;
    if (there !== undefined) throw this.#failure("makeFolder", name, "EEXIST");
    const text = `makeFolder ${this.#full(name)}`;
    this.#control.disk.change(text, new Folder(), place);
  }

  sync(): void {
    this.#syncNames("");
  }

  syncFolder(name: string): void {
    this.#syncNames(name);
  }

  syncSoon(done: SyncDone): void {
    assert(!this.#syncing, `two asynchronous syncs of ${this.path}`);
    this.#assertOpen();
    const fault = this.#control.enter("directorySync", this.path);
    const upTo = [...this.#control.disk.changes];
    this.#syncing = true;
    this.#control.later(() => {
      this.#syncing = false;
      if (fault === undefined) {
        this.#control.disk.syncNames(this.#folder, upTo);
      }
      done(fault);
    });
  }

  lock(): StorageLock {
    this.#check("lock", "");
    const folder = this.#folder;
    const control = this.#control;
    const path = this.path;
    const locked = (found: string) =>
      new WalLockedError(`Cannot lock "${path}": ${found}`, {
        pid: undefined,
      });
    if (folder.holder !== undefined) {
      throw locked("another writer has it, expected none");
    }
    const holder = {};
    folder.holder = holder;
    return {
      verify(): void {
        control.check("lock", path);
        if (folder.holder !== holder) throw locked("it was taken away");
      },
      release(): void {
        if (folder.holder === holder) folder.holder = undefined;
      },
    };
  }

  close(): void {
    if (this.#control.stopped) return;
    assert(!this.#closed, `${this.path} is closed twice`);
    this.#closed = true;
  }

  #syncNames(name: string): void {
    this.#check("directorySync", name);
    const { disk } = this.#control;
    disk.syncNames(this.#folderAt("directorySync", name), disk.changes);
  }

  #check(operation: Operation, name: string): void {
    this.#assertOpen();
    this.#control.check(operation, this.#full(name));
  }

  #assertOpen(): void {
    assert(!this.#closed || this.#control.stopped, `${this.path} is closed`);
  }

  #full(name: string): string {
    return name === "" ? this.path : `${this.path}/${name}`;
  }

  #failure(operation: Operation, name: string, code: string): StorageError {
    return failure(operation, this.#full(name), code);
  }

  #folderAt(operation: Operation, name: string): Folder {
    const node = this.#control.disk.find(name, this.#folder);
    if (node instanceof Folder) return node;
    const code = node === undefined ? "ENOENT" : "ENOTDIR";
    throw this.#failure(operation, name, code);
  }

  #place(operation: Operation, path: string): Place {
    const name = path.slice(path.lastIndexOf("/") + 1);
    assert(name !== "" && name !== "." && name !== "..", `name "${path}"`);
    const parent = path.slice(0, path.length - name.length);
    return { folder: this.#folderAt(operation, parent), name };
  }

  #file(name: string, inode: Inode, writable: boolean): StorageFile {
    const place = { name, path: this.#full(name), writable };
    return new SimulatedFile(this.#control, place, inode);
  }

  #space(): number {
    const taken = new Set(this.#control.held.keys());
    for (const node of liveNodes(this.#control.disk.root)) {
      if (node instanceof Inode) taken.add(node);
    }
    return [...taken].reduce((sum, inode) => sum + spaceOf(inode), 0);
  }
}

function spaceOf(inode: Inode): number {
  return inode.pages.length * PAGE_BYTES;
}

function* liveNodes(folder: Folder): Generator<Node> {
  for (const node of folder.live.values()) {
    yield node;
    if (node instanceof Folder) yield* liveNodes(node);
  }
}

/** A storage whose power can fail. One object is one process's world. */
export class SimulatedStorage implements StoragePort {
  readonly kind = "simulated";
  readonly volatile = false;
  /** Of this storage; a found one has another. */
  readonly seed: number;
  readonly clock: SimulatedClock;
  readonly #control: Control;
  readonly #salts: Random;
  readonly #seeds: Random;

  /** An empty disk; only `crash` and its siblings give what was found. */
  constructor(
    options: SimulatedOptions,
    found?: unknown,
    nowMs: number = START_MS,
  ) {
    const disk = found instanceof Disk ? found : new Disk();
    this.seed = options.seed;
    this.#control = new Control(options, disk, nowMs);
    this.clock = this.#control.clock;
    this.#salts = new Random(options.seed, 2);
    this.#seeds = new Random(options.seed, 3);
  }

  /** The clock by its simulated face. */
  get clockSim(): SimulatedClock {
    return this.clock;
  }

  /** Calls of the port so far. */
  get callCount(): number {
    return this.#control.calls;
  }

  /** True after a crash, a death, or a hook that threw. */
  get dead(): boolean {
    return this.#control.stopped;
  }

  /** Syncs that `settle` would complete. */
  get pendingSyncs(): number {
    return this.#control.pending.length;
  }

  /** Copies of their own: nothing is shared. */
  sharedMemory(): undefined {
    return undefined;
  }

  fillRandom(target: Uint8Array<ArrayBuffer>): void {
    this.#salts.fill(target);
  }

  openDirectory(
    path: string,
    options: DirectoryOptions,
  ): StorageDirectory | undefined {
    this.#control.check("openDirectory", path);
    let folder = this.#control.disk.root;
    for (const name of path.split("/")) {
      if (name === "" || name === ".") continue;
      const node = folder.live.get(name);
      if (node instanceof Inode) {
        throw failure("openDirectory", path, "ENOTDIR");
      }
      if (node === undefined && !options.create) return undefined;
      const next = node ?? new Folder();
      if (options.create) {
        folder.live.set(name, next);
        folder.durable.set(name, next);
      }
      folder = next;
    }
    return new SimulatedDirectory(this.#control, path, folder);
  }

  /** Completes up to `limit` pending syncs in seeded order; says how many. */
  settle(limit: number = Infinity): number {
    return this.#control.settle(limit);
  }

  /** The one hook, called before every call; its throw is the crash. */
  onCall(hook: ((call: PortCall) => void) | undefined): void {
    this.#control.hook = hook;
  }

  /** Lets calls fail that match. */
  failNext(
    operation: Operation | "any",
    code: string,
    { count = 1, after = 0, name = "" }: FailOptions = {},
  ): void {
    this.#control.rules.push({ operation, code, count, after, name });
  }

  /** Power loss: what the next boot finds. This storage is dead. */
  crash(options: CrashOptions = {}): SimulatedStorage {
    this.#control.stop();
    return this.image(options);
  }

  /** What a power loss at this instant would leave; this one lives on. */
  image(options: CrashOptions = {}): SimulatedStorage {
    const seed = this.#childSeed(options.seed);
    const chosen = options.pages === undefined
      ? this.#control.options.garbage ?? "unsynced-sectors"
      : "none";
    const garbage = options.garbage ?? chosen;
    const random = new Random(seed, 4);
    return this.#next(
      seed,
      this.#control.disk.crashed(random, garbage, options),
    );
  }

  /** `kill -9`: the page cache stays, and stays dirty. This one is dead. */
  processDeath(seed?: number): SimulatedStorage {
    this.#control.stop();
    return this.fork(seed);
  }

  /** A copy of cache, platter and names; this one lives on. */
  fork(seed?: number): SimulatedStorage {
    const disk = this.#control.disk.copy((inode) => inode.clone());
    return this.#next(this.#childSeed(seed), disk);
  }

  /** Every page that a power cut could lose, in a fixed order. */
  dirtyPages(): DirtyPage[] {
    return [...this.#control.disk.dirty().values()].flatMap(
      ({ path, pages }) => pages.map((page) => ({ path, page })),
    );
  }

  /** Every change of names that a power cut could lose, oldest first. */
  pendingNames(): string[] {
    return this.#control.disk.changes.map((change) => change.text);
  }

  /** A file as programs see it now, a copy; no call of the port. */
  peek(path: string): Uint8Array<ArrayBuffer> | undefined {
    const node = this.#control.disk.find(path);
    if (!(node instanceof Inode)) return undefined;
    const bytes = new Uint8Array(node.bytes);
    node.read(bytes, 0);
    return bytes;
  }

  /** Puts a file there, name and bytes durable, or takes it away. */
  plant(path: string, bytes: Uint8Array<ArrayBuffer> | undefined): void {
    const name = path.slice(path.lastIndexOf("/") + 1);
    const parent = path.slice(0, path.length - name.length);
    const folder = this.#control.disk.find(parent);
    assert(folder instanceof Folder, `there is no folder "${parent}"`);
    for (const table of [folder.live, folder.durable]) table.delete(name);
    if (bytes === undefined) return;
    const inode = new Inode(bytes.length);
    if (bytes.length > 0) inode.write(bytes, 0);
    for (const page of inode.dirtyPages()) inode.writeBack(page);
    for (const table of [folder.live, folder.durable]) table.set(name, inode);
  }

  /** The disk in words, for failure messages. */
  describe(): string {
    const { disk, options } = this.#control;
    const dirty = disk.dirty();
    const lines = [`seed ${options.seed}, ${this.callCount} calls`];
    for (const [inode, path] of disk.files()) {
      const pages = dirty.get(inode)?.pages ?? [];
      const forgotten = [...inode.forgotten.keys()];
      lines.push(
        `${path}: ${inode.bytes} bytes, dirty [${pages}]` +
          (forgotten.length > 0 ? `, forgotten [${forgotten}]` : ""),
      );
    }
    for (const text of this.pendingNames()) lines.push(`not durable: ${text}`);
    return lines.join("\n");
  }

  #next(seed: number, disk: Disk): SimulatedStorage {
    const options = { ...this.#control.options, seed };
    return new SimulatedStorage(options, disk, this.clock.nowMs() + 1000);
  }

  /** Never a seed of before, or ids and salts would come again. */
  #childSeed(seed = this.#seeds.uint32()): number {
    return new Random(this.seed, seed, 5).uint32();
  }
}
