/**
 * A file without its name: the page cache, which programs see, over the
 * platter, which a power cut leaves.
 *
 * @module
 */

export const PAGE_BYTES = 4096;
export const PAGE_WORDS: number = PAGE_BYTES / 4;
export const SECTOR_WORDS: number = 512 / 4;

/** Pages are compared as words, and never changed once on the platter. */
export type Words = Int32Array<ArrayBuffer>;
export const ZERO_PAGE: Words = new Int32Array(PAGE_WORDS);

/** A file without its name: page cache over platter. */
export class Inode {
  readonly bytes: number;
  /** The platter. */
  readonly pages: Words[];
  /** What a failed sync left in the cache as clean, though never written. */
  readonly forgotten: Map<number, Words> = new Map<number, Words>();
  /** What each asynchronous sync under way still owes the platter. */
  readonly owed: Set<Set<number>> = new Set<Set<number>>();
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
