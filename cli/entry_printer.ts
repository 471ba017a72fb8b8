/**
 * Prints entries, each on a line of its own.
 *
 * @module
 */

import type { Entry } from "../mod.ts";
import { type WriteOptions, writeOut } from "./output.ts";

const CHUNK_BYTES = 64 * 1024;
const NEWLINE: Uint8Array = new Uint8Array([10]);

/** Collects lines for few writes. */
export class EntryPrinter {
  readonly #json: boolean;
  readonly #target: WriteOptions;
  readonly #encoder = new TextEncoder();
  #pieces: Uint8Array[] = [];
  #bytes = 0;

  /** Prints data as it is, or whole entries as JSON. */
  constructor(json: boolean, target: WriteOptions = {}) {
    this.#json = json;
    this.#target = target;
  }

  /** Adds an entry; it is printed with the next flush. */
  add(entry: Entry): void {
    const line = this.#json
      ? this.#encoder.encode(JSON.stringify(entry))
      : entry.data;
    this.#pieces.push(line, NEWLINE);
    this.#bytes += line.length + NEWLINE.length;
  }

  /** Whether a flush is worth a write. */
  get full(): boolean {
    return this.#bytes >= CHUNK_BYTES;
  }

  /** Prints what was added. */
  async flush(): Promise<void> {
    const joined = new Uint8Array(this.#bytes);
    let at = 0;
    for (const piece of this.#pieces) {
      joined.set(piece, at);
      at += piece.length;
    }
    this.#pieces = [];
    this.#bytes = 0;
    await writeOut(joined, this.#target);
  }
}
