/**
 * Everything that a crash or a death hands to the next process: files, and
 * their names apart from them, as the running system sees both and as the
 * platter has them.
 *
 * @module
 */

import { Inode } from "./inode.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** Names, as the running system sees them and as the platter has them. */
export class Folder {
  readonly live: Map<string, Node> = new Map<string, Node>();
  readonly durable: Map<string, Node> = new Map<string, Node>();
  readonly holders: Map<string, object> = new Map();
}

/** What a name stands for. */
export type Node = Inode | Folder;

/** Where a name stands. */
export interface Place {
  readonly folder: Folder;
  readonly name: string;
}

/** A create (add), a remove (drop) or a rename (both), not durable yet. */
export interface NameChange {
  readonly text: string;
  readonly node: Node;
  readonly add: Place | undefined;
  readonly drop: Place | undefined;
  /** The folder of that place was synced. */
  added: boolean;
  dropped: boolean;
}

/** Everything that a crash or a death hands to the next process. */
export class Disk {
  root: Folder = new Folder();
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

  /** The folder of a path; `make` makes it, durable, with its parents. */
  openFolder(path: string, make: boolean): Node | undefined {
    let folder = this.root;
    for (const name of path.split("/")) {
      if (name === "" || name === ".") continue;
      const node = folder.live.get(name);
      if (node instanceof Inode) return node;
      if (node === undefined && !make) return undefined;
      const next = node ?? new Folder();
      if (make) {
        for (const table of [folder.live, folder.durable]) {
          table.set(name, next);
        }
      }
      folder = next;
    }
    return folder;
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

  /** Every file whose size a power cut could lose, with its name. */
  unsized(): Map<Inode, string> {
    const files = [...this.files()];
    return new Map(
      files.filter(([inode]) => inode.bytesDurable < inode.bytes),
    );
  }

  /** Puts a file there, all of it durable, or takes it away. */
  plant({ folder, name }: Place, bytes: Bytes | undefined): void {
    for (const table of [folder.live, folder.durable]) table.delete(name);
    if (bytes === undefined) return;
    const inode = new Inode(bytes.length);
    inode.write(bytes, 0);
    for (const page of inode.dirtyPages()) inode.writeBack(page);
    inode.bytesDurable = inode.bytes;
    for (const table of [folder.live, folder.durable]) table.set(name, inode);
  }

  /** What is there and what is not durable of it, in words. */
  describe(): string[] {
    const dirty = this.dirty();
    const unsized = this.unsized();
    const lines: string[] = [];
    for (const [inode, path] of this.files()) {
      const pages = dirty.get(inode)?.pages ?? [];
      const forgotten = [...inode.forgotten.keys()];
      lines.push(
        `${path}: ${inode.bytes} bytes, dirty [${pages}]` +
          (forgotten.length > 0 ? `, forgotten [${forgotten}]` : "") +
          (unsized.has(inode) ? ", size not durable" : ""),
      );
    }
    return [...lines, ...this.changes.map(({ text }) => `pending: ${text}`)];
  }

  /** Bytes taken by files with a name, and by those that `held` keeps. */
  space(held: Iterable<Inode>): number {
    const taken = new Set(held);
    for (const node of liveNodes(this.root)) {
      if (node instanceof Inode) taken.add(node);
    }
    return [...taken].reduce((sum, inode) => sum + inode.spaceBytes(), 0);
  }
}

function* liveNodes(folder: Folder): Generator<Node> {
  for (const node of folder.live.values()) {
    yield node;
    if (node instanceof Folder) yield* liveNodes(node);
  }
}
