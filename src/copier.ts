/**
 * Copies for the caller: small ones share memory where that is faster, large
 * ones get their own.
 *
 * @module
 */

/** From here on a copy has memory of its own. */
const OWN_BYTES = 1024;
const MEMORY_BYTES = 64 * 1024;

/** Bytes, and a view of the same. */
interface Memory {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
}

/** Makes copies of parts of larger memory. */
export class Copier {
  /** The memory that `share` has copied into the last time. */
  memory: Memory | undefined;
  readonly #allocate: (bytes: number) => Uint8Array<ArrayBuffer> | undefined;
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
    const at = bytes < OWN_BYTES ? this.share(source, start, bytes) : -1;
    if (at < 0) return source.slice(start, end);
    return new Uint8Array(this.memory!.bytes.buffer, at, bytes);
  }

  /**
   * Copies `bytes` bytes from `start` on into `memory`, from which they may be
   * handed out in parts; returns where. -1 where memory cannot be shared.
   */
  share(
    source: Uint8Array<ArrayBuffer>,
    start: number,
    bytes: number,
  ): number {
    if (!this.#sharing) return -1;
    let at = this.#used;
    if (this.memory === undefined || at + bytes > MEMORY_BYTES) {
      const memory = this.#allocate(MEMORY_BYTES);
      this.#sharing = memory !== undefined;
      if (memory === undefined) return -1;
      const view = new DataView(memory.buffer);
      this.memory = { bytes: memory, view };
      at = 0;
    }
    // Aligned, so that typed arrays can be laid over the copy.
    this.#used = (at + bytes + 7) & -8;
    const from = source.byteOffset + start;
    this.memory.bytes.set(new Uint8Array(source.buffer, from, bytes), at);
    return at;
  }

  /** A part of what `share` has copied: itself, or a copy if it is large. */
  part(
    shared: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
  ): Uint8Array<ArrayBuffer> {
    const bytes = end - start;
    if (bytes >= OWN_BYTES || !this.#sharing) return shared.slice(start, end);
    return new Uint8Array(shared.buffer, start, bytes);
  }
}
