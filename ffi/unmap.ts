/**
 * Unmapping by the garbage collector, for Deno and Node.
 *
 * The registry watches the `ArrayBuffer`, never a view of it: every view
 * keeps its buffer alive, but not the view it was made from. A transferred
 * buffer would leave an unmapped alias behind, so transfers are refused.
 *
 * @module
 */

import { markAsUntransferable } from "node:worker_threads";
import type { LibcSymbols } from "./symbols.ts";

/** A range of addresses. */
interface Range {
  readonly address: bigint;
  readonly bytes: bigint;
}

/** Unmaps what the buffers given to it stood for. */
export class UnmapRegistry {
  readonly #registry: FinalizationRegistry<Range>;

  /** Keeps the C library's munmap. */
  constructor(symbols: LibcSymbols) {
    this.#registry = new FinalizationRegistry((range) => {
      symbols.munmap(range.address, range.bytes);
    });
  }

  /** From now on the range lives as long as the buffer; returns the buffer. */
  watch(buffer: ArrayBuffer, address: bigint, bytes: bigint): ArrayBuffer {
    markAsUntransferable(buffer);
    this.#registry.register(buffer, { address, bytes });
    return buffer;
  }
}
