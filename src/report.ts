/**
 * What an open log tells of itself: public shapes only.
 *
 * @module
 */

import type { Percentiles } from "./percentiles.ts";

/** One segment file. */
export interface SegmentInfo {
  /** Its running number. */
  readonly number: number;
  /** Its file. */
  readonly path: string;
  /** Its first entry; 0 while it has none. */
  readonly firstIndex: number;
  /** Its last entry; 0 while it has none. */
  readonly lastIndex: number;
  /** The file's size in bytes. */
  readonly bytes: number;
  /** Whether a successor has ended it. */
  readonly sealed: boolean;
  /** When it was made. */
  readonly createdAt: Date;
}

/** A named position. */
export interface ConsumerInfo {
  /** The consumer's name. */
  readonly name: string;
  /** The last entry that it acknowledged. */
  readonly position: number;
  /** Entries between that and the log's end. */
  readonly lag: number;
}

/** Counts and latencies of an open log. */
export interface WalStats {
  /** Which storage is in use. */
  readonly storage: "mapped" | "files" | "memory" | "simulated";
  /** Entries in the log. */
  readonly entryCount: number;
  /** Segment files of the log. */
  readonly segmentCount: number;
  /** Bytes of all segment files. */
  readonly bytes: number;
  /** Entries appended since opening. */
  readonly appendCount: number;
  /** Syncs asked of the system since opening. */
  readonly syncCount: number;
  /** Bytes of frames written since opening. */
  readonly bytesWritten: number;
  /** Bytes of frames that no sync has made durable yet. */
  readonly unsyncedBytes: number;
  /** Entries that no sync has made durable yet. */
  readonly unsyncedCount: number;
  /** How long one call of 64 took to write, in nanoseconds. */
  readonly appendNs: Percentiles;
  /** How long rounds of syncs took, in nanoseconds. */
  readonly syncNs: Percentiles;
  /** Named positions. */
  readonly consumers: readonly ConsumerInfo[];
}

/** What opening found and did. */
export interface RecoveryReport {
  /** How the log was found. */
  readonly outcome: "created" | "clean" | "torn" | "salvaged";
  /** Entries in the log after opening. */
  readonly entryCount: number;
  /** Segments that had to be read through. */
  readonly segmentsScanned: number;
  /** How long opening took, in milliseconds. */
  readonly ms: number;
  /** Bytes of unfinished writes that were cut. */
  readonly tornBytes: number;
  /** Where those are kept. */
  readonly savedPath: string | undefined;
  /** What cannot be read; empty unless salvaged. */
  readonly gaps: readonly {
    /** The damaged segment's path. */
    segment: string;
    /** Where the damage begins. */
    offset: number;
    /** The first entry that cannot be read. */
    firstLostIndex: number;
    /** The last entry that cannot be read. */
    lastLostIndex: number;
  }[];
}
