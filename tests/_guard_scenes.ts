/**
 * What the guard of system calls has its child do, how often, and what it may
 * ask of the system meanwhile.
 *
 * @module
 */

/** Calls of each kind. */
export interface Counts {
  /** Forcing bytes or names to the disk. */
  readonly sync: number;
  /** Handing bytes to the system. */
  readonly write: number;
  readonly read: number;
  /** Opening, closing, asking, naming, allocating, mapping. */
  readonly other: number;
}

/** What one piece of work may cost, and how often it is done. */
export interface Scene extends Counts {
  readonly times: number;
}

/** The kinds of calls, in the order in which they are told. */
export const KINDS_OF_CALLS = ["sync", "write", "read", "other"] as const;

const NOTHING: Counts = { sync: 0, write: 0, read: 0, other: 0 };

/** Deno gives each sync that it does not wait for a descriptor of its own. */
const SYNC_SOON: Counts = { ...NOTHING, sync: 1, other: 2 };

/** With memory-mapped files. */
const MAPPED = {
  "append": { times: 10_000, ...NOTHING },
  "append soon": { times: 1000, ...NOTHING },
  "append beside a reader": { times: 1000, ...NOTHING },
  "batch of 1000": { times: 4, ...NOTHING, write: 1 },
  "get": { times: 1000, ...NOTHING },
  "view": { times: 1000, ...NOTHING },
  "scan of 2000": { times: 4, ...NOTHING },
  "durable append": { times: 40, ...NOTHING, sync: 1 },
  "durable append soon": { times: 40, ...SYNC_SOON },
  "64 durable appends": { times: 10, ...NOTHING, sync: 2, other: 4 },
  "idle second": { times: 1, ...NOTHING, other: 2 },
  // Sealed, made, named, its append synced; of these 4 syncs 3 are of segments.
  "rotation": { times: 4, sync: 4, write: 3, read: 0, other: 14 },
  "opening and closing 8 segments": {
    ...{ times: 2, sync: 4, write: 6, read: 25 },
    other: 156,
  },
  // The first one wakes it; Deno's watch then looks at the file by itself.
  "1000 appends past a waiting reader": {
    ...{ times: 1, ...NOTHING, write: 1 },
    other: 20,
  },
};

/**
 * With plain files. A segment gets each frame and the index block of each
 * 64th entry, and the live page its end, and what is durable.
 */
const FILES = {
  "append": { times: 2000, ...NOTHING, write: 2.02 },
  "append soon": { times: 500, ...NOTHING, write: 2.02 },
  "append beside a reader": { times: 500, ...NOTHING, write: 2.02 },
  "batch of 1000": { times: 4, ...NOTHING, write: 18 },
  "get": { times: 500, ...NOTHING, read: 2 },
  "view": { times: 500, ...NOTHING, read: 2 },
  "scan of 2000": { times: 4, ...NOTHING, read: 44 },
  "durable append": { times: 40, ...NOTHING, sync: 1, write: 3.02 },
  "durable append soon": { times: 40, ...SYNC_SOON, write: 3.02 },
  "64 durable appends": { times: 10, sync: 2, write: 131, read: 0, other: 4 },
  "idle second": { times: 1, ...NOTHING, write: 2, other: 2 },
  "rotation": { times: 4, sync: 4, write: 13, read: 0, other: 12 },
  "opening and closing 8 segments": {
    ...{ times: 2, sync: 4, write: 18, read: 25 },
    other: 146,
  },
};

/** The scenes of each storage, in the order in which the child plays them. */
export const SCENES: Readonly<
  Record<"mapped" | "files", Readonly<Record<string, Scene>>>
> = { mapped: MAPPED, files: FILES };
