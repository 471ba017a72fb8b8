/**
 * Copies for the caller: small ones share memory where that is faster, large
 * ones get their own.
 *
 * @module
 */

/** From here on a copy has memory of its own. */
const OWN_BYTES = 1024;
const MEMORY_BYTES = 64 * 1024;

/** Makes copies of parts of larger memory. */
export class Copier {
  readonly #allocate: (bytes: number) => Uint8Array<ArrayBuffer> | undefined;
  #memory: Uint8Array<ArrayBuffer> | undefined;
  #used = MEMORY_BYTES;
  #sharing = true;

  /** `allocate` gives memory to share, or `undefined` where none is. */
  constructor(
    allocate: (bytes: number) => Uint8Array<ArrayBuffer> | undefined,
  ) {
    this.#allocate = allocate;
  }

  /** A copy of `source` from `start` to `end`. */
  copy(
    source: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
  ): Uint8Array<ArrayBuffer> {
    const bytes = end - start;
    if (bytes >= OWN_BYTES || !this.#sharing) return source.slice(start, end);
    let offset = this.#used;
    if (this.#memory === undefined || offset + bytes > MEMORY_BYTES) {
      this.#memory = this.#allocate(MEMORY_BYTES);
      this.#sharing = this.#memory !== undefined;
      if (this.#memory === undefined) return source.slice(start, end);
      offset = 0;
    }
    // Aligned, so that typed arrays can be laid over the copy.
    this.#used = (offset + bytes + 7) & -8;
    const memory = this.#memory!;
    const from = source.byteOffset + start;
    memory.set(new Uint8Array(source.buffer, from, bytes), offset);
    return new Uint8Array(memory.buffer, offset, bytes);
  }
}
