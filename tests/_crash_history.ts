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
import { Uncertain } from "./_crash_uncertain.ts";

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
  readonly index: number;
}

/** What a log holds: the entries from `firstIndex` to below `nextIndex`. */
export interface Contents {
  /** The first entry that was not removed, or the next index. */
  readonly firstIndex: number;
  readonly nextIndex: number;
  /** The last entry; what lies before the first one does not count. */
  readonly last: Link | undefined;
}

/** What a log was found to hold. */
export interface Found {
  readonly firstIndex: number;
  readonly nextIndex: number;
  readonly entries: readonly Written[];
}

/** The same, and where its consumers stand. */
export interface FoundLog extends Found {
  readonly consumers: ReadonlyMap<string, number>;
}

/** The log after one step. */
export interface Version extends Contents {
  /** As it was last; the front moves apart from the end. */
  firstIndex: number;
  readonly number: number;
  readonly what: string;
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
  /** What its first index may be. */
  readonly front: Uncertain<number>;
  /** Where its consumers may stand; `undefined`: there may be none. */
  readonly consumers: ReadonlyMap<string, Uncertain<number | undefined>>;
}

/** A log that nobody wrote to yet. */
export const NOTHING: Contents = restart(1);

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

/** Some entries behind the others. */
export function extend(
  { firstIndex, nextIndex, last }: Contents,
  entries: readonly Written[],
): Contents {
  let [end, index] = [last, nextIndex];
  for (const entry of entries) end = { entry, previous: end, index: index++ };
  return { firstIndex, nextIndex: index, last: end };
}

/** The entries up to one; `firstIndex - 1` leaves none. */
export function shorten(contents: Contents, lastIndex: number): Contents {
  let end = contents.last;
  while (end !== undefined && end.index > lastIndex) end = end.previous;
  const { firstIndex } = contents;
  return { firstIndex, nextIndex: lastIndex + 1, last: end };
}

/** None, and the next one gets this index. */
export function restart(nextIndex: number): Contents {
  return { firstIndex: nextIndex, nextIndex, last: undefined };
}

function linkOf({ last }: Contents, index: number): Link | undefined {
  let at = last;
  while (at !== undefined && at.index > index) at = at.previous;
  return at?.index === index ? at : undefined;
}

/** How many entries. */
export function countOf({ firstIndex, nextIndex }: Contents): number {
  return nextIndex - firstIndex;
}

/** The entries in order. */
export function entriesOf({ firstIndex, last }: Contents): Written[] {
  const entries: Written[] = [];
  let at = last;
  for (; at !== undefined && at.index >= firstIndex; at = at.previous) {
    entries.push(at.entry);
  }
  return entries.reverse();
}

/** What was found, as what the next life of the log begins with. */
export function contentsOf({ firstIndex, entries }: Found): Contents {
  return extend(restart(firstIndex), entries);
}

/** The versions of one open log, from what it was opened with. */
export class History {
  readonly versions: Version[] = [];
  current: Version;
  /** A sync failed: the page cache may hold what no disk will get. */
  poisoned = false;
  /** Rises with everything that changes what is expected. */
  revision = 0;
  readonly #front: Uncertain<number>;
  readonly #consumers = new Map<string, Uncertain<number | undefined>>();
  #durable = 0;

  constructor(found: Contents, consumers: FoundLog["consumers"] = new Map()) {
    for (const [name, position] of consumers) {
      this.#consumers.set(name, new Uncertain<number | undefined>(position));
    }
    this.#front = new Uncertain(found.firstIndex);
    const what = `found ${countOf(found)}`;
    this.current = { ...found, number: 0, what, state: "written" };
    this.versions.push(this.current);
  }

  /** A step is about to be taken: a crash inside it may show it. */
  propose(what: string, contents: Contents): Version {
    const number = this.versions.length;
    const version: Version = { ...contents, number, what, state: "pending" };
    this.versions.push(version);
    this.revision++;
    return version;
  }

  /** The step's call has returned, or thrown after having taken effect. */
  accept(version: Version): void {
    version.state = "written";
    this.current = version;
    this.revision++;
  }

  /** The call threw and changed nothing. */
  refuse(version: Version, remains: boolean): void {
    version.state = remains ? "refused" : "void";
    this.revision++;
  }

  /** Somebody was promised that no crash takes this version away. */
  acknowledge(version: Version): void {
    this.#durable = Math.max(this.#durable, version.number);
    for (const one of this.#consumers.values()) one.settle(this.#durable);
    this.revision++;
  }

  /** A step that takes away all above `lastIndex`. */
  proposeCut(what: string, lastIndex: number): Version {
    const version = this.propose(what, shorten(this.current, lastIndex));
    this.#lower(version, lastIndex, false);
    return version;
  }

  /** A step that takes away all; the next entry gets `nextIndex`. */
  proposeReset(what: string, nextIndex: number): Version {
    const version = this.propose(what, restart(nextIndex));
    this.#lower(version, nextIndex - 1, true);
    const options = { ahead: false, anew: true };
    this.#front.changeWith(version, () => nextIndex, options);
    return version;
  }

  #lower(version: Version, lastIndex: number, anew: boolean): void {
    for (const one of this.#consumers.values()) {
      const lower = (position: number | undefined) =>
        position === undefined ? undefined : Math.min(position, lastIndex);
      // A position that is lowered before the log is cut loses nothing.
      one.changeWith(version, lower, { ahead: true, anew });
    }
  }

  /**
   * All below `index` is taken away; the returned function says that no crash
   * brings it back.
   */
  raiseFront(index: number): () => void {
    const { current } = this;
    current.firstIndex = Math.max(current.firstIndex, index);
    return this.#revised(
      this.#front.change((first) => Math.max(first, index)),
    );
  }

  /** An opening has found this first index, and made it last. */
  settleFront(index: number): void {
    this.current.firstIndex = index;
    this.#revised(this.#front.change(() => index))();
  }

  /** A consumer is about to be made or moved, or to be taken away. */
  moveConsumer(name: string, position: number | undefined): () => void {
    const known = this.#consumers.get(name) ??
      new Uncertain<number | undefined>(undefined);
    this.#consumers.set(name, known);
    return this.#revised(known.change(() => position));
  }

  /** A consumer is about to acknowledge all up to `index`. */
  moveUp(name: string, index: number): () => void {
    const known = this.#consumers.get(name)!;
    const up = (position: number | undefined) => Math.max(position ?? 0, index);
    return this.#revised(known.change(up));
  }

  #revised(done: () => void): () => void {
    this.revision++;
    return () => {
      this.revision++;
      done();
    };
  }

  /** The version that brought an entry; none when it is not there. */
  versionOf(index: number): Version | undefined {
    const link = linkOf(this.current, index);
    if (link === undefined) return undefined;
    return this.versions.find((version) => linkOf(version, index) === link);
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
    const front = this.#front.snapshot();
    const consumers = new Map(
      [...this.#consumers].map(([name, one]) => [name, one.snapshot()]),
    );
    return {
      afterPowerLoss,
      afterDeath,
      ever: this.versions.slice(),
      poisoned,
      front,
      consumers,
    };
  }
}

/** Exactly this and nothing else. */
export function exactly(
  found: FoundLog,
  what: string,
  number = 0,
): Expected {
  const contents = contentsOf(found);
  const version: Version = { ...contents, number, what, state: "written" };
  const versions = [version];
  const consumers = new Map(
    [...found.consumers].map(([name, position]) => [
      name,
      new Uncertain<number | undefined>(position),
    ]),
  );
  return {
    afterPowerLoss: versions,
    afterDeath: versions,
    ever: versions,
    poisoned: false,
    front: new Uncertain(found.firstIndex),
    consumers,
  };
}

/** Where a consumer may stand in a version; never above its end. */
export function placesOf(
  one: Uncertain<number | undefined> | undefined,
  { number, nextIndex }: Version,
): Set<number | undefined> {
  const places = one?.allowed(number) ?? [undefined];
  return new Set(
    [...places].map((place) => place && Math.min(place, nextIndex - 1)),
  );
}

/** What is wrong with where the consumers stand, if anything. */
export function checkConsumers(
  { consumers: expected, front }: Expected,
  versions: readonly Version[],
  found: FoundLog,
): string | undefined {
  const equal = versions.filter((one) => findVersion([one], found, front));
  const names = new Set([...expected.keys(), ...found.consumers.keys()]);
  for (const name of names) {
    const place = found.consumers.get(name);
    const allowed = new Set(
      equal.flatMap((version) => [...placesOf(expected.get(name), version)]),
    );
    if (allowed.has(place)) continue;
    const places = [...allowed].map((one) => one ?? "nowhere").join(", ");
    return `consumer "${name}" stands at ${place ?? "nowhere"}, allowed was ` +
      places;
  }
  return undefined;
}

/**
 * The version that `found` is; undefined when it is none of them. With `front`
 * it tells what the first index may be, else the versions do.
 */
export function findVersion(
  versions: readonly Version[],
  { firstIndex, nextIndex, entries }: Found,
  front?: Uncertain<number>,
): Version | undefined {
  const equal = new Set<Link>();
  for (let nth = versions.length - 1; nth >= 0; nth--) {
    const version = versions[nth] as Version;
    if (version.nextIndex !== nextIndex) continue;
    const begins = front === undefined
      ? version.firstIndex === firstIndex
      : front.allowed(version.number).has(firstIndex);
    if (!begins) continue;
    const walked: Link[] = [];
    let [at, index] = [version.last, nextIndex];
    while (index > firstIndex && at !== undefined && !equal.has(at)) {
      const entry = entries[at.index - firstIndex] as Written;
      if (!sameEntry(at.entry, entry)) break;
      walked.push(at);
      index = at.index;
      at = at.previous;
    }
    const same = index === firstIndex || (at !== undefined && equal.has(at));
    if (!same) continue;
    for (const link of walked) equal.add(link);
    return version;
  }
  return undefined;
}

/** Says how `found` differs from the versions that were allowed. */
export function explain(versions: readonly Version[], found: Found): string {
  const show = (entry: Written | undefined) =>
    entry === undefined
      ? "nothing"
      : `${entry.data.length} bytes, term ${entry.term}, time ` +
        `${entry.timestampNs} [${entry.data.subarray(0, 8)}]`;
  const range = (from: Contents | Found) =>
    `${from.firstIndex} to ${from.nextIndex - 1}`;
  const lines = [`found ${range(found)}, allowed was one of`];
  for (const version of versions.slice(-40)) {
    const skipped = found.firstIndex - version.firstIndex;
    const written = entriesOf(version);
    const at = written.findIndex((entry, nth) =>
      nth >= skipped &&
      (found.entries[nth - skipped] === undefined ||
        !sameEntry(entry, found.entries[nth - skipped] as Written))
    );
    const what = show(found.entries[at - skipped]);
    const where = at < 0
      ? "the same as far as it goes"
      : `differs at ${version.firstIndex + at}: ${show(written[at])}, ` +
        `found ${what}`;
    lines.push(
      `  ${version.number} (${version.state}) "${version.what}", ` +
        `${range(version)}: ${where}`,
    );
  }
  return lines.join("\n");
}

/** Which promise was broken, in a word or two. */
export function blame(
  ever: readonly Version[],
  allowed: readonly Version[],
  found: Found,
  front?: Uncertain<number>,
): string {
  const version = findVersion(ever, found, front);
  if (version === undefined) return "NEVER WRITTEN";
  const least = Math.min(...allowed.map(({ number }) => number));
  return version.number < least
    ? `LOST what was promised (version ${version.number} "${version.what}", ` +
      `promised ${least})`
    : `version ${version.number} "${version.what}", ${version.state}`;
}
