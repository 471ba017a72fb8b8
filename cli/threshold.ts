/**
 * Where to begin by time or term: `--since` and `--term`.
 *
 * @module
 */

import type { Entry, WalReader } from "../mod.ts";
import type { Arguments } from "./arguments.ts";

/** The options of it. */
export const THRESHOLD_OPTIONS = { since: "string", term: "string" } as const;

/** Where the printing begins. */
export interface Beginning {
  /** The first entry that may be printed. */
  readonly from: number;
  /** Asked of each entry from there in turn: whether it is to be printed. */
  readonly hasBegun: (entry: Entry) => boolean;
}

/** What the log must have reached for the printing to begin. */
export class Threshold {
  readonly #since: bigint | undefined;
  readonly #term: number | undefined;

  /** As the options say; without them the printing begins with the log. */
  constructor(given: Arguments) {
    this.#since = given.time("since");
    this.#term = given.count("term", 0);
  }

  /** Finds it; what is not there yet may come behind the log's end. */
  find(log: WalReader): Beginning {
    const { nextIndex } = log;
    const since = this.#since;
    const term = this.#term;
    const never = Infinity;
    const sinceIndex = since === undefined ? 0 : log.findByTime(since) ?? never;
    const termIndex = term === undefined ? 0 : log.findByTerm(term) ?? never;
    const from = Math.max(sinceIndex, termIndex);
    if (from < nextIndex) return { from, hasBegun: () => true };
    const found = {
      since: sinceIndex < nextIndex,
      term: termIndex < nextIndex,
    };
    return { from: nextIndex, hasBegun: this.#gate(found) };
  }

  /** Finds the index by reading all these entries; undefined for none. */
  scan(entries: Iterable<Entry>): number | undefined {
    if (this.#since === undefined && this.#term === undefined) return 0;
    const hasBegun = this.#gate({ since: false, term: false });
    for (const entry of entries) {
      if (hasBegun(entry)) return entry.index;
    }
    return undefined;
  }

  #gate(reached: { since: boolean; term: boolean }): Beginning["hasBegun"] {
    const since = this.#since;
    const term = this.#term;
    let { since: sinceReached, term: termReached } = reached;
    return (entry) => {
      sinceReached ||= since === undefined || entry.timestampNs >= since;
      termReached ||= term === undefined || entry.term >= term;
      return sinceReached && termReached;
    };
  }
}
