/**
 * A file without its name: the page cache, which programs see, over the
 * platter, which a power cut leaves.
 *
 * Pages that both have in common are kept once, so that copies of a disk,
 * one for each crash, cost little.
 *
 * @module
 */

/** The unit of the page cache. */
export const PAGE_BYTES = 4096;
/** The same in words. */
export const PAGE_WORDS: number = PAGE_BYTES / 4;
/** The unit of the platter, in words. */
export const SECTOR_WORDS: number = 512 / 4;

/** Pages are compared as words, and never changed once on the platter. */
export type Words = Int32Array<ArrayBuffer>;

/** What was never written. */
export const ZERO_PAGE: Words = new Int32Array(PAGE_WORDS);

/** A file without its name. */
export class Inode {
  /** Its size as programs see it. */
  readonly bytes: number;
  /** The platter. */
  readonly pages: Words[];
  /** The size on the platter: nothing until somebody syncs the file. */
  bytesDurable: number;
  /** What a failed sync left in the cache as clean, though never written. */
  readonly forgotten: Map<number, Words> = new Map();
  /** What each asynchronous sync under way still owes the platter. */
  readonly owed: Set<Set<number>> = new Set();
  /** Which pages take space. */
  readonly taken: Uint8Array<ArrayBuffer>;
  /** Failed syncs so far; each open file reports them once. */
  errors = 0;
  /** What the last one failed with. */
  errorCode = "EIO";
  /** The last one was told to nobody: who opens the file now is told too. */
  errorUnseen = false;
  mappings = 0;
  /** Stores reached it through a mapping, so some may have been caught. */
  mapped = false;
  /** The whole page cache; undefined while it was never mapped. */
  #words: Words | undefined;
  /** Without `#words`: the pages of the cache that the platter has not. */
  readonly #ahead: Map<number, Words> = new Map();

  constructor(bytes: number, pages?: Words[]) {
    this.bytes = bytes;
    const count = Math.ceil(bytes / PAGE_BYTES);
    this.pages = pages ?? new Array<Words>(count).fill(ZERO_PAGE);
    this.bytesDurable = pages === undefined ? 0 : bytes;
    this.taken = new Uint8Array(count).fill(1);
  }

  /** The page cache as bytes; a store into it is a write. */
  live(): Uint8Array<ArrayBuffer> {
    if (this.#words === undefined) {
      const words = new Int32Array(this.pages.length * PAGE_WORDS);
      for (let page = 0; page < this.pages.length; page++) {
        const cached = this.cached(page);
        if (cached !== ZERO_PAGE) words.set(cached, page * PAGE_WORDS);
      }
      this.#words = words;
      this.#ahead.clear();
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
      const { buffer } = this.cached(page);
      target.set(new Uint8Array(buffer, from, to - at), at - offset);
      at = to;
    }
    return Math.max(0, end - offset);
  }

  write(source: Uint8Array<ArrayBuffer>, offset: number): void {
    const end = offset + source.length;
    for (let at = offset; at < end;) {
      const page = Math.floor(at / PAGE_BYTES);
      const to = Math.min(end, (page + 1) * PAGE_BYTES);
      this.#writePage(page, source.subarray(at - offset, to - offset), at);
      this.forgotten.delete(page);
      this.taken[page] = 1;
      at = to;
    }
  }

  #writePage(
    page: number,
    bytes: Uint8Array<ArrayBuffer>,
    offset: number,
  ): void {
    if (this.#words !== undefined) {
      this.live().set(bytes, offset);
      return;
    }
    // A page that others may hold is never changed.
    const words = this.cached(page).slice();
    new Uint8Array(words.buffer).set(bytes, offset - page * PAGE_BYTES);
    this.#ahead.set(page, words);
  }

  /** Zeros; the pages that lie wholly inside take no space any more. */
  punch(offset: number, end: number): void {
    this.write(new Uint8Array(end - offset), offset);
    const first = Math.ceil(offset / PAGE_BYTES);
    this.taken.fill(0, first, Math.max(first, Math.floor(end / PAGE_BYTES)));
  }

  /** The space that a write would take in addition. */
  spaceFor(bytes: number, offset: number): number {
    if (bytes === 0) return 0;
    const first = Math.floor(offset / PAGE_BYTES);
    const end = Math.floor((offset + bytes - 1) / PAGE_BYTES) + 1;
    const pages = this.taken.subarray(first, end);
    return pages.reduce((sum, taken) => sum + 1 - taken, 0) * PAGE_BYTES;
  }

  /** The space that it takes, in whole pages. */
  spaceBytes(): number {
    let pages = 0;
    for (const taken of this.taken) pages += taken;
    return pages * PAGE_BYTES;
  }

  dirtyPages(): number[] {
    const pages = this.#words === undefined
      ? [...this.#ahead.keys()].sort((a, b) => a - b)
      : [...this.pages.keys()];
    return pages.filter((page) => {
      if (this.#holds(page, this.pages[page] as Words)) return false;
      const clean = this.forgotten.get(page);
      return clean === undefined || !this.#holds(page, clean);
    });
  }

  /** The page as the cache has it; a copy, or never to be changed. */
  cached(page: number): Words {
    if (this.#words === undefined) {
      return this.#ahead.get(page) ?? this.pages[page] as Words;
    }
    return this.#words.slice(page * PAGE_WORDS, (page + 1) * PAGE_WORDS);
  }

  writeBack(page: number): void {
    this.pages[page] = this.cached(page);
    this.#ahead.delete(page);
    this.forgotten.delete(page);
    for (const owed of this.owed) owed.delete(page);
  }

  /** A write failed: the cache keeps the pages and calls them clean. */
  forget(pages: Iterable<number>, code: string): number {
    for (const page of [...pages]) {
      this.forgotten.set(page, this.cached(page));
      for (const owed of this.owed) owed.delete(page);
    }
    this.errorCode = code;
    return ++this.errors;
  }

  /** Clean pages leave the cache; what comes back is the platter's. */
  evict(): void {
    if (this.mappings > 0) return;
    for (const [page, clean] of this.forgotten) {
      if (!this.#holds(page, clean)) continue;
      this.#words?.set(this.pages[page] as Words, page * PAGE_WORDS);
      this.#ahead.delete(page);
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

  /** The same file for another process; descriptors are not copied. */
  clone(): Inode {
    const copy = new Inode(this.bytes, [...this.pages]);
    copy.bytesDurable = this.bytesDurable;
    copy.taken.set(this.taken);
    copy.mapped = this.mapped;
    copy.errors = this.errors;
    copy.errorCode = this.errorCode;
    copy.errorUnseen = this.errorUnseen;
    const pages = this.#words === undefined
      ? this.#ahead.keys()
      : this.pages.keys();
    for (const page of pages) {
      if (this.#holds(page, this.pages[page] as Words)) continue;
      copy.#ahead.set(page, this.cached(page));
    }
    for (const mark of this.forgotten) copy.forgotten.set(...mark);
    return copy;
  }

  #holds(page: number, content: Words): boolean {
    const words = this.#words ?? this.cached(page);
    if (words === content) return true;
    const base = words === this.#words ? page * PAGE_WORDS : 0;
    return sameWords(words.subarray(base, base + PAGE_WORDS), content);
  }
}

/** Four words at a time: most of what a crash costs is comparing pages. */
function sameWords(left: Words, right: Words): boolean {
  for (let word = 0; word < PAGE_WORDS; word += 4) {
    const differs = (left[word]! ^ right[word]!) |
      (left[word + 1]! ^ right[word + 1]!) |
      (left[word + 2]! ^ right[word + 2]!) |
      (left[word + 3]! ^ right[word + 3]!);
    if (differs !== 0) return false;
  }
  return true;
}
