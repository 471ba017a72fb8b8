/**
 * The consumers of a log: where each stands, and what truncations and
 * recovery do to them. One file each in the folder `consumers`.
 *
 * A position names the generation that it was written in. A cut with a later
 * generation lowers it, also when only the cut is on the disk: then opening
 * does it. docs/format.md §9.
 *
 * @module
 */

import {
  decodePosition,
  encodePosition,
  isConsumerName,
  type PositionOwner,
  type PositionRecord,
} from "./consumer_record.ts";
import { closedError } from "./calls.ts";
import { UnsupportedFormatError, WalCorruptedError } from "./errors.ts";
import {
  CAUSE,
  CONSUMER_FILE_BYTES,
  CONSUMERS_FOLDER,
  FORMAT_VERSION,
  TEMPORARY_EXTENSION,
} from "./format.ts";
import { createFresh, removeQuietly } from "./fresh_file.ts";
import type { LogState } from "./log_state.ts";
import type { Logger } from "./logger.ts";
import { PositionFile } from "./position_file.ts";
import type { ConsumerInfo } from "./report.ts";
import type { Segment } from "./segment.ts";
import type { Steps } from "./steps.ts";
import type {
  DirectoryEntry,
  DirectoryOptions,
  StorageDirectory,
  StoragePort,
} from "./storage.ts";
import type { SyncRounds } from "./sync_rounds.ts";

/** So many files are written and synced together when a log is opened. */
const SYNCED_AT_ONCE = 16;

/** What consumers are kept with. */
export interface ConsumersParts {
  /** The storage. */
  readonly storage: StoragePort;
  /** The log's folder. */
  readonly folder: StorageDirectory;
  /** The log's id, hex. */
  readonly logId: string;
  /** Permissions of what is made. */
  readonly modes: Omit<DirectoryOptions, "create">;
  /** Told of files that cannot be read. */
  readonly logger: Logger | undefined;
}

/** The consumers of one open log. */
export class Consumers {
  /** The rounds that make positions durable; set once after making. */
  rounds!: SyncRounds;
  readonly #parts: ConsumersParts;
  readonly #files = new Map<string, PositionFile>();
  readonly #damaged = new Map<string, unknown>();
  readonly #taken = new Set<string>();
  readonly #making = new Set<PositionFile>();
  #directory: StorageDirectory | undefined;
  #closed = false;

  /** Reads what is there; changes nothing. */
  constructor(parts: ConsumersParts) {
    this.#parts = parts;
    const isThere = parts.folder.list().some(({ name, kind }) =>
      name === CONSUMERS_FOLDER && kind === "directory"
    );
    if (!isThere) return;
    try {
      const directory = this.#openFolder();
      for (const { name, kind } of directory.list()) {
        if (isConsumerName(name)) this.#read(directory, name, kind);
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #openFolder(): StorageDirectory {
    const { storage, folder, modes } = this.#parts;
    const path = `${folder.path}/${CONSUMERS_FOLDER}`;
    this.#directory ??= storage.openDirectory(path, { ...modes, create: true });
    return this.#directory!;
  }

  #ownerOf(name: string): PositionOwner {
    return { logId: this.#parts.logId, name };
  }

  #read(
    directory: StorageDirectory,
    name: string,
    kind: DirectoryEntry["kind"],
  ): void {
    try {
      if (kind !== "file") {
        throw damagedFile(directory, name, `it is not a file`);
      }
      this.#files.set(name, this.#readFile(directory, name));
    } catch (error) {
      // What the system refuses to read is not damaged.
      const unusable = error instanceof WalCorruptedError ||
        error instanceof UnsupportedFormatError;
      if (!unusable) throw error;
      // It holds nobody back but itself: the log can be opened without it.
      this.#damaged.set(name, error);
      this.#parts.logger?.warn(`Consumer "${name}" cannot be read`, error);
    }
  }

  #readFile(directory: StorageDirectory, name: string): PositionFile {
    const owner = this.#ownerOf(name);
    const file = directory.open(name, "read");
    const bytes = new Uint8Array(CONSUMER_FILE_BYTES);
    let count = 0;
    try {
      if (file?.bytes === bytes.length) count = file.readAt(bytes, 0);
    } finally {
      file?.close();
    }
    const verdict = decodePosition(bytes.subarray(0, count), owner);
    if (verdict.kind === "valid") {
      return new PositionFile(directory, owner, verdict);
    }
    if (verdict.kind === "invalid") {
      throw damagedFile(directory, name, "it is damaged");
    }
    const version = `version ${verdict.version}`;
    throw new UnsupportedFormatError(
      `Cannot use consumer "${name}": "${directory.path}/${name}" has ` +
        `${version}, expected version ${FORMAT_VERSION}; a newer release of ` +
        `this library reads it`,
      { found: version, supported: [`version ${FORMAT_VERSION}`] },
    );
  }

  /**
   * Lowers, durably, what recovery or an earlier cut took the ground from.
   * Unless the log was closed every position is written again: after a failed
   * sync the page cache holds what the disk does not [I6]. Runs before
   * anything is appended.
   */
  *settle(state: LogState, closed: boolean): Steps<void> {
    const { segments, generation, nextIndex } = state;
    const changed: PositionFile[] = [];
    for (const file of this.#files.values()) {
      const { position, wanted } = file;
      const kept = keptOf(position, wanted.generation, segments);
      const index = Math.min(kept, nextIndex - 1);
      if (closed && index === position) continue;
      file.confirm(file.write(index, generation));
      changed.push(file);
    }
    // Each closes when it is synced: there may be more than descriptors.
    for (let i = 0; i < changed.length; i += SYNCED_AT_ONCE) {
      yield changed.slice(i, i + SYNCED_AT_ONCE);
    }
    // What is there, or is gone, may be so in the page cache alone.
    if (!closed && this.#directory !== undefined) yield [this.#directory];
    this.#removeTemporary();
  }

  #removeTemporary(): void {
    for (const { name, kind } of this.#directory?.list() ?? []) {
      const inner = name.slice(1, -TEMPORARY_EXTENSION.length);
      const mine = name === `.${inner}${TEMPORARY_EXTENSION}` &&
        isConsumerName(inner);
      if (mine && kind === "file") removeQuietly(this.#directory!, name);
    }
  }

  /** Opens the files that a cut will lower, before anything has changed. */
  prepareLower(index: number): void {
    for (const file of this.#files.values()) {
      if (file.isAbove(index)) file.open();
    }
  }

  /** A truncation took everything above `index` away: durable with its round. */
  lower(index: number, generation: number): void {
    try {
      for (const file of this.#files.values()) {
        if (file.lower(index, generation)) this.rounds.touchOther(file);
      }
      // Those in the making are written when they have their name.
      for (const file of this.#making) file.lower(index, generation);
    } catch (error) {
      // The cut has happened: no append may be acknowledged before them.
      this.rounds.fail(error, "lowering a consumer failed");
      throw this.rounds.failure ?? error;
    }
  }

  /** Where each stands, by name. */
  list(log: LogState): ConsumerInfo[] {
    const files = [...this.#files.values()]
      .sort((a, b) => a.name < b.name ? -1 : 1);
    return files.map(({ name, position }) => ({
      name,
      position,
      lag: lagOf(position, log),
    }));
  }

  /** The one that stands lowest; nobody is at infinity. */
  slowest(): { name: string; position: number } {
    let slowest = { name: "", position: Infinity };
    const all = [...this.#files.values(), ...this.#making];
    for (const { name, position, wanted } of all) {
      const least = Math.min(position, wanted.position);
      if (least < slowest.position) slowest = { name, position: least };
    }
    // Where a damaged one stands is not known: it may need everything.
    for (const name of this.#damaged.keys()) slowest = { name, position: 0 };
    return slowest;
  }

  /** A consumer's file; throws when there is one that cannot be read. */
  find(name: string): PositionFile | undefined {
    if (this.#damaged.has(name)) throw this.#damaged.get(name);
    return this.#files.get(name);
  }

  /** Takes a name for one user; false when it is taken. */
  take(name: string): boolean {
    if (this.#taken.has(name)) return false;
    this.#taken.add(name);
    const file = this.#files.get(name);
    if (file !== undefined) file.resting = false;
    return true;
  }

  /** Lets a name go. */
  release(name: string): void {
    this.#taken.delete(name);
    this.#files.get(name)?.rest();
  }

  /** Makes a consumer that stands at `position`; durable when done. */
  *create(
    name: string,
    position: number,
    state: LogState,
  ): Steps<PositionFile> {
    this.#parts.folder.makeFolder(CONSUMERS_FOLDER);
    this.rounds.touchNames();
    const directory = this.#openFolder();
    const owner = this.#ownerOf(name);
    const { generation } = state;
    const record = { sequence: 1, position, generation };
    const file = new PositionFile(directory, owner, { record, slot: 0 });
    file.resting = false;
    const temporary = `.${name}${TEMPORARY_EXTENSION}`;
    const made = createFresh(directory, temporary, CONSUMER_FILE_BYTES);
    // A truncation may take the ground away meanwhile.
    this.#making.add(file);
    try {
      // The whole file: no later position needs space.
      const bytes = new Uint8Array(CONSUMER_FILE_BYTES);
      let written: PositionRecord;
      do {
        written = file.wanted;
        bytes.set(encodePosition(written, owner));
        made.writeAt(bytes, 0);
        yield [made];
        this.checkOpen();
        // It gets its name when no cut has lowered it meanwhile: a later
        // removal may take the segment away that tells of the cut.
      } while (file.wanted !== written);
      directory.rename(temporary, name);
    } catch (error) {
      if (!this.#closed) removeQuietly(directory, temporary);
      throw error;
    } finally {
      made.close();
      this.#making.delete(file);
    }
    this.#files.set(name, file);
    if (file.wanted !== record) this.rounds.touchOther(file);
    this.rounds.touchOther(directory);
    yield [this.rounds];
    return file;
  }

  /** Takes a consumer away; durable when done. */
  *remove(file: PositionFile): Steps<void> {
    const directory = this.#openFolder();
    directory.remove(file.name);
    file.remove();
    this.#files.delete(file.name);
    this.rounds.touchOther(directory);
    yield [this.rounds];
  }

  /**
   * Throws once it is closed: what a blocking close overtook must touch the
   * folder no more, for it may have another writer by then.
   */
  checkOpen(): void {
    if (this.#closed) throw closedError(this.#parts.folder.path);
  }

  /** Frees everything. */
  close(): void {
    this.#closed = true;
    for (const file of this.#files.values()) file.close();
    this.#directory?.close();
    this.#directory = undefined;
  }
}

function damagedFile(
  directory: StorageDirectory,
  name: string,
  found: string,
): WalCorruptedError {
  const segment = `${directory.path}/${name}`;
  return new WalCorruptedError(
    `Cannot use consumer "${name}": "${segment}" holds no position that can ` +
      `be read, ${found}, expected a position of this log; remove it to ` +
      `begin anew`,
    { segment, offset: 0, firstLostIndex: 0, lastLostIndex: 0 },
  );
}

/** How many of the log's entries are behind a position. */
export function lagOf(position: number, log: LogState): number {
  const from = Math.max(position, log.firstIndex - 1);
  return Math.max(0, log.nextIndex - 1 - from);
}

/** What cuts later than a position's generation have left of it. */
function keptOf(
  position: number,
  generation: number,
  segments: readonly Segment[],
): number {
  let kept = position;
  for (const { link } of segments) {
    const later = link.generation > generation;
    if (!later || link.cause === CAUSE.filled) continue;
    kept = Math.min(kept, link.baseIndex - 1);
  }
  return kept;
}
