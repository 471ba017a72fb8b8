/**
 * The log as a plain array: what every answer is compared with.
 *
 * @module
 */

/** An entry of the model. */
export interface ModelEntry {
  readonly index: number;
  readonly term: number;
  readonly data: Uint8Array;
  readonly timestampNs: bigint;
  /** Undefined for an entry that no transaction wrote. */
  readonly transactionId: string | undefined;
}

/** What a caller gives; what is left out is filled in as the log promises. */
export interface ModelInput {
  readonly data: Uint8Array;
  readonly term: number | undefined;
  readonly timestampNs: bigint;
}

/** How entries are asked for. */
export interface ModelRange {
  readonly from?: number;
  readonly to?: number;
  readonly reverse?: boolean;
  readonly limit?: number;
}

/** The log as an array, and where it begins. */
export class Model {
  #entries: ModelEntry[] = [];
  /** The index that the first entry has, or will have. */
  #base = 1;
  /** Where each consumer stands. */
  readonly positions: Map<string, number> = new Map();

  get length(): number {
    return this.#entries.length;
  }

  get firstIndex(): number {
    return this.length === 0 ? 0 : this.#base;
  }

  get lastIndex(): number {
    return this.length === 0 ? 0 : this.nextIndex - 1;
  }

  get nextIndex(): number {
    return this.#base + this.length;
  }

  /** What `firstIndex` would be with an entry in the log. */
  get base(): number {
    return this.#base;
  }

  /** Adds entries; a term that is not given is the last one's, or 0. */
  append(inputs: readonly ModelInput[], transactionId?: string): number[] {
    return inputs.map(({ data, term, timestampNs }) => {
      const index = this.nextIndex;
      const copy = data.slice();
      const last = this.#entries.at(-1)?.term ?? 0;
      this.#entries.push({
        index,
        term: term ?? last,
        data: copy,
        timestampNs,
        transactionId,
      });
      return index;
    });
  }

  at(index: number): ModelEntry | undefined {
    return this.#entries[index - this.#base];
  }

  range(
    { from = 1, to = Infinity, reverse = false, limit = Infinity }: ModelRange,
  ): ModelEntry[] {
    const start = Math.max(0, from - this.#base);
    const end = Math.max(start, to - this.#base + 1);
    const within = this.#entries.slice(start, end);
    if (reverse) within.reverse();
    return within.slice(0, Math.min(limit, within.length));
  }

  truncateAfter(index: number): void {
    this.#entries.length = index - this.#base + 1;
    this.#lower(index);
  }

  truncateBefore(index: number): void {
    if (index <= this.#base) return;
    this.#entries.splice(0, index - this.#base);
    this.#base = index;
  }

  reset(nextIndex: number): void {
    this.#entries = [];
    this.#base = nextIndex;
    this.#lower(nextIndex - 1);
  }

  #lower(index: number): void {
    for (const [name, position] of this.positions) {
      this.positions.set(name, Math.min(position, index));
    }
  }

  /** Every consumer by name, with its position and lag. */
  consumers(): { name: string; position: number; lag: number }[] {
    return [...this.positions].sort(([a], [b]) => a < b ? -1 : 1).map(
      ([name, position]) => ({
        name,
        position,
        // Entries that were removed are not waited for.
        lag: this.nextIndex - 1 - Math.max(position, this.#base - 1),
      }),
    );
  }
}
