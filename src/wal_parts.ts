/**
 * What an open log is made of, as opening hands it to the public object.
 *
 * @module
 */

import type { Appends } from "./appends.ts";
import type { Consumers } from "./consumers.ts";
import type { WalFailedError } from "./errors.ts";
import type { ManifestKeeper } from "./manifest_keeper.ts";
import type { Position } from "./mark.ts";
import type { Durability } from "./options.ts";
import type { Logger } from "./logger.ts";
import type { ReaderParts } from "./reader.ts";
import type { RetentionOptions } from "./retention_options.ts";
import type { Rotation } from "./rotation.ts";
import type { StorageDirectory, StorageLock } from "./storage.ts";
import type { SyncRounds } from "./sync_rounds.ts";
import type { LogWriter } from "./writer.ts";

/** What an open log is made of. */
export interface WalParts extends ReaderParts {
  /** The log's folder. */
  readonly folder: StorageDirectory;
  /** The writer's lock. */
  readonly lock: StorageLock;
  /** Writes entries. */
  readonly writer: LogWriter;
  /** Begins segments. */
  readonly rotation: Rotation;
  /** Makes them durable. */
  readonly rounds: SyncRounds;
  /** Named positions. */
  readonly consumers: Consumers;
  /** Replaces the manifest. */
  readonly keeper: ManifestKeeper;
  /** When an append counts as done. */
  readonly sync: Durability;
  /** Time between syncs with `sync: "interval"`. */
  readonly syncIntervalMs: number;
  /** The size of a new segment. */
  readonly segmentBytes: number;
  /** Told what the log does unasked. */
  readonly logger: Logger | undefined;
  /** How much of the log is kept. */
  readonly retention: RetentionOptions | undefined;
  /** What transactions are held to. */
  readonly limits: TransactionLimits;
  /** The end when it was closed last; nothing is to be sealed before it. */
  readonly closedEnd: Position | undefined;
}

/** What transactions are held to. */
export interface TransactionLimits {
  /** How long one may stay pending. */
  readonly timeoutMs: number;
  /** How often expired ones are looked for. */
  readonly cleanupIntervalMs: number;
  /** The most entries of one. */
  readonly entriesMax: number;
  /** The largest data of one entry. */
  readonly maxEntryBytes: number;
}

/** What only this library does with the public object. */
export interface WalInternals<Wal> {
  /** Makes it. */
  make(parts: WalParts): Wal;
  /** Tells that the durable mark is in this segment now. */
  markMoved(wal: Wal, segment: number): void;
  /** Tells that a sync has failed. */
  failed(wal: Wal, error: WalFailedError): void;
  /** Its appending calls: a salvage writes transactions with their ids. */
  appendsOf(wal: Wal): Appends;
}
