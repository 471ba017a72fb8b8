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

/** A log of which nothing was ever removed from the front. */
export class Model {
  #entries: ModelEntry[] = [];

  get length(): number {
    return this.#entries.length;
  }

  get firstIndex(): number {
    return this.length === 0 ? 0 : 1;
  }

  get lastIndex(): number {
    return this.length;
  }

  get nextIndex(): number {
    return this.length + 1;
  }

  /** Adds entries; a term that is not given is the last one's, or 0. */
  append(inputs: readonly ModelInput[]): number[] {
    return inputs.map(({ data, term, timestampNs }) => {
      const index = this.nextIndex;
      const copy = data.slice();
      const last = this.#entries.at(-1)?.term ?? 0;
      this.#entries.push({
        index,
        term: term ?? last,
        data: copy,
        timestampNs,
      });
      return index;
    });
  }

  at(index: number): ModelEntry | undefined {
    return this.#entries[index - 1];
  }

  range(
    { from = 1, to = Infinity, reverse = false, limit = Infinity }: ModelRange,
  ): ModelEntry[] {
    const within = this.#entries.filter(({ index }) =>
      index >= from && index <= to
    );
    if (reverse) within.reverse();
    return within.slice(0, Math.min(limit, within.length));
  }

  truncateAfter(index: number): void {
    this.#entries.length = index;
  }
}
