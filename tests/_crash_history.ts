/**
 * What a log may hold after a crash: every version that it went through, and
 * which of them somebody was promised.
 *
 * A log only ever changes by whole steps (an append, a batch, a truncation),
 * so what recovery gives must be one of its versions, at or after the last
 * acknowledged one: that is "acknowledged ⊆ recovered ⊆ written", batches
 * whole or absent, no gap and no truncated entry back, all at once.
 *
 * @module
 */

import { Buffer } from "node:buffer";

/** One entry as it was handed to the log, or as the log gave it back. */
export interface Written {
  readonly data: Uint8Array;
  readonly term: number;
  /** Undefined while the log's own clock has not been asked yet. */
  timestampNs: bigint | undefined;
}

/** The entries up to one, shared between versions. */
export interface Link {
  readonly entry: Written;
  readonly previous: Link | undefined;
  readonly count: number;
}

/** The log after one step. */
export interface Version {
  readonly number: number;
  readonly what: string;
  readonly last: Link | undefined;
  /** "void": it never was, on no disk. "refused": only remains may be. */
  state: "pending" | "written" | "refused" | "void";
}

/** The versions that one disk may hold, and what the next one may. */
export interface Expected {
  /** After a loss of power. */
  readonly afterPowerLoss: readonly Version[];
  /** As the page cache has it, after the death of the process. */
  readonly afterDeath: readonly Version[];
  /** Every version there ever was: what damage may not go beyond. */
  readonly ever: readonly Version[];
  /** A sync failed: the page cache may fall back to what the disk holds. */
  readonly poisoned: boolean;
}

/** Equal bytes? */
export function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && Buffer.compare(left, right) === 0;
}

/** Equal entries? A time that nobody knows yet equals any. */
export function sameEntry(left: Written, right: Written): boolean {
  return left.term === right.term &&
    (left.timestampNs === right.timestampNs ||
      left.timestampNs === undefined || right.timestampNs === undefined) &&
    sameBytes(left.data, right.data);
}

/** A version's entries behind some others. */
export function extend(
  last: Link | undefined,
  entries: readonly Written[],
): Link | undefined {
  let end = last;
  for (const entry of entries) {
    end = { entry, previous: end, count: (end?.count ?? 0) + 1 };
  }
  return end;
}

/** The first `count` entries. */
export function shorten(
  last: Link | undefined,
  count: number,
): Link | undefined {
  let end = last;
  while (end !== undefined && end.count > count) end = end.previous;
  return end;
}

/** How many entries. */
export function countOf(last: Link | undefined): number {
  return last?.count ?? 0;
}

/** The entries in order. */
export function entriesOf(last: Link | undefined): Written[] {
  const entries: Written[] = [];
  for (let at = last; at !== undefined; at = at.previous) {
    entries.push(at.entry);
  }
  return entries.reverse();
}

/** The versions of one open log, from what it was opened with. */
export class History {
  readonly versions: Version[] = [];
  current: Version;
  /** A sync failed: the page cache may hold what no disk will get. */
  poisoned = false;
  #durable = 0;

  constructor(found: Link | undefined) {
    this.current = {
      number: 0,
      what: `found ${countOf(found)}`,
      last: found,
      state: "written",
    };
    this.versions.push(this.current);
  }

  /** A step is about to be taken: a crash inside it may show it. */
  propose(what: string, last: Link | undefined): Version {
    const number = this.versions.length;
    const version: Version = { number, what, last, state: "pending" };
    this.versions.push(version);
    return version;
  }

  /** The step's call has returned, or thrown after having taken effect. */
  accept(version: Version): void {
    version.state = "written";
    this.current = version;
  }

  /** The call threw and changed nothing. */
  refuse(version: Version, remains: boolean): void {
    version.state = remains ? "refused" : "void";
  }

  /** Somebody was promised that no crash takes this version away. */
  acknowledge(version: Version): void {
    this.#durable = Math.max(this.#durable, version.number);
  }

  /** What a crash at this instant may leave. */
  expected(): Expected {
    const afterPowerLoss = this.versions.slice(this.#durable)
      .filter((version) => version.state !== "void");
    const afterDeath = this.poisoned
      ? afterPowerLoss
      : this.versions.slice(this.current.number).filter((version) =>
        version === this.current || version.state === "pending"
      );
    const { poisoned } = this;
    return {
      afterPowerLoss,
      afterDeath,
      ever: this.versions.slice(),
      poisoned,
    };
  }
}

/** Exactly this and nothing else. */
export function exactly(found: readonly Written[], what: string): Expected {
  const last = extend(undefined, found);
  const version: Version = { number: 0, what, last, state: "written" };
  const versions = [version];
  return {
    afterPowerLoss: versions,
    afterDeath: versions,
    ever: versions,
    poisoned: false,
  };
}

/** The version that `found` is; undefined when it is none of them. */
export function findVersion(
  versions: readonly Version[],
  found: readonly Written[],
): Version | undefined {
  const equal = new Set<Link>();
  for (let nth = versions.length - 1; nth >= 0; nth--) {
    const version = versions[nth] as Version;
    if (countOf(version.last) !== found.length) continue;
    const walked: Link[] = [];
    let at = version.last;
    while (at !== undefined && !equal.has(at)) {
      if (!sameEntry(at.entry, found[at.count - 1] as Written)) break;
      walked.push(at);
      at = at.previous;
    }
    if (at !== undefined && !equal.has(at)) continue;
    for (const link of walked) equal.add(link);
    return version;
  }
  return undefined;
}

/** Says how `found` differs from the versions that were allowed. */
export function explain(
  versions: readonly Version[],
  found: readonly Written[],
): string {
  const show = (entry: Written | undefined) =>
    entry === undefined
      ? "nothing"
      : `${entry.data.length} bytes, term ${entry.term}, time ` +
        `${entry.timestampNs} [${entry.data.subarray(0, 8)}]`;
  const lines = [`found ${found.length} entries, allowed was one of`];
  for (const version of versions.slice(-40)) {
    const entries = entriesOf(version.last);
    const at = entries.findIndex((entry, nth) =>
      found[nth] === undefined || !sameEntry(entry, found[nth] as Written)
    );
    const where = at < 0
      ? `is its first ${entries.length}`
      : `differs at ${at + 1}: ${show(entries[at])}, found ${show(found[at])}`;
    lines.push(
      `  ${version.number} (${version.state}) "${version.what}", ` +
        `${entries.length} entries: ${where}`,
    );
  }
  return lines.join("\n");
}
