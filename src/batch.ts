/**
 * A list of entries to append together.
 *
 * @module
 */

import type { EntryFields, EntryInput } from "./entry.ts";
import { checkFields, noData } from "./input.ts";
import { show } from "./checks.ts";

/**
 * Entries collected for one `appendBatch`. Data is copied when added.
 *
 * @example Append three entries at once
 * ```ts
 * import { Batch, memoryStorage, openWal } from "@walrus/wal";
 *
 * await using wal = await openWal("log", { storage: memoryStorage() });
 * const batch = new Batch().add("one").add("two").add({ data: "three" });
 * console.log(await wal.appendBatch(batch)); // [ 1, 2, 3 ]
 * ```
 */
export class Batch implements Iterable<EntryFields> {
  #entries: EntryFields[] = [];

  /** Makes an empty batch. */
  constructor() {}

  /** How many entries it holds. */
  get length(): number {
    return this.#entries.length;
  }

  /**
   * Adds an entry; the log checks it when the batch is appended.
   * @throws {EmptyDataError} when there is no data
   * @throws {TypeError} when the data is neither text nor bytes
   */
  add(entry: EntryInput): this {
    const fields = typeof entry === "string" || entry instanceof Uint8Array
      ? { data: entry }
      : entry;
    checkFields(fields, "add");
    const data = fields.data;
    if (data === undefined || data === null) throw noData(data, "add");
    if (typeof data !== "string" && !(data instanceof Uint8Array)) {
      throw new TypeError(
        `Cannot add entry: data is ${show(data)}, expected a string or a ` +
          `Uint8Array`,
      );
    }
    const copy = typeof data === "string" ? data : new Uint8Array(data);
    // Field by field: an Entry passed on has its time behind getters.
    const { term, timestamp, timestampNs } = fields;
    this.#entries.push({ data: copy, term, timestamp, timestampNs });
    return this;
  }

  /** Empties it for the next use. */
  clear(): void {
    this.#entries = [];
  }

  /** The entries in the order of adding. */
  *[Symbol.iterator](): Generator<EntryFields, void, undefined> {
    yield* this.#entries;
  }
}
