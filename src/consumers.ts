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
  encodePosition,
  isConsumerName,
  type PositionOwner,
  type PositionRecord,
} from "./consumer_record.ts";
import { closedError } from "./calls.ts";
import {
  StorageError,
  UnsupportedFormatError,
  WalCorruptedError,
  WalLockedError,
} from "./errors.ts";
import {
  CONSUMER_FILE_BYTES,
  CONSUMERS_FOLDER,
  TEMPORARY_EXTENSION,
} from "./format.ts";
import { createFresh, removeQuietly } from "./fresh_file.ts";
import type { LogState } from "./log_state.ts";
import type { Logger } from "./logger.ts";
import { PositionFile, type PositionRounds } from "./position_file.ts";
import {
  damagedFile,
  lockConsumer,
  lockedError,
  lockName,
  readPositionFile,
} from "./position_folder.ts";
import { keptOf, lagOf } from "./standing.ts";
import type { ConsumerInfo } from "./report.ts";
import type { Steps } from "./steps.ts";
import type {
  DirectoryEntry,
  DirectoryOptions,
  StorageDirectory,
  StorageLock,
  StoragePort,
} from "./storage.ts";

/** Files that are written and synced together at opening. */
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
  rounds!: PositionRounds;
  readonly #parts: ConsumersParts;
  readonly #files = new Map<string, PositionFile>();
  readonly #damaged = new Map<string, unknown>();
  readonly #locks = new Map<string, StorageLock>();
  readonly #making = new Set<PositionFile>();
  #directory: StorageDirectory | undefined;
  #closed = false;

  /** Reads what is there; changes nothing. */
  constructor(parts: ConsumersParts) {
    this.#parts = parts;
    try {
      this.look();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * Looks what others have done: consumers are used, made and taken away in
   * other processes, too. What is used here is known.
   */
  look(): void {
    if (this.#closed || !this.#isThere()) return;
    const directory = this.#openFolder();
    const listed = new Set<string>();
    for (const { name, kind } of directory.list()) {
      if (!isConsumerName(name)) continue;
      listed.add(name);
      if (this.#files.get(name)?.idle ?? true) {
        this.#read(directory, name, kind);
      }
    }
    for (const [name, file] of this.#files) {
      if (file.idle && !listed.has(name)) this.#files.delete(name);
    }
    for (const name of [...this.#damaged.keys()]) {
      if (!listed.has(name)) this.#damaged.delete(name);
    }
  }

  #isThere(): boolean {
    return this.#directory !== undefined ||
      this.#parts.folder.list().some(({ name, kind }) =>
        name === CONSUMERS_FOLDER && kind === "directory"
      );
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
      const found = readPositionFile(directory, this.#ownerOf(name));
      const known = this.#files.get(name)?.wanted.sequence;
      if (known !== found.wanted.sequence) this.#files.set(name, found);
      this.#damaged.delete(name);
    } catch (error) {
      // What the system refuses to read is not damaged.
      const unusable = error instanceof WalCorruptedError ||
        error instanceof UnsupportedFormatError;
      if (!unusable) throw error;
      // It holds nobody back but itself: the log can be opened without it.
      if (this.#damaged.has(name)) return;
      this.#files.delete(name);
      this.#damaged.set(name, error);
      this.#parts.logger?.warn(`Consumer "${name}" cannot be read`, error);
    }
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
      // One that a reader in another process uses is lowered there.
      if (!this.#tryLock(file)) continue;
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
    this.look();
    for (const file of this.#files.values()) {
      if (file.isAbove(index) && this.#tryLock(file)) file.open();
    }
  }

  /** Keeps others from a file while it is written; false: it is used. */
  #tryLock(file: PositionFile): boolean {
    if (file.lock !== undefined) return true;
    try {
      file.lock = lockConsumer(this.#openFolder(), file.name);
      return true;
    } catch (error) {
      if (error instanceof WalLockedError) return false;
      throw error;
    }
  }

  /** A truncation took everything above `index` away: durable with its round. */
  lower(index: number, generation: number): void {
    try {
      for (const file of this.#files.values()) {
        if (file.lock === undefined && file.isAbove(index)) continue;
        if (file.lower(index, generation)) this.rounds.touchOther(file);
        else if (file.resting) file.rest();
      }
      // Those in the making are written when they have their name.
      for (const file of this.#making) file.lower(index, generation);
    } catch (error) {
      // The cut has happened: no append may be acknowledged before them.
      this.rounds.fail(error, "lowering a consumer failed");
      throw this.rounds.failure ?? error;
    }
  }

  /** What is used here is lowered by what the chain tells of cuts. */
  lowerBy({ segments, generation }: LogState): void {
    for (const file of this.#files.values()) {
      if (file.lock === undefined) continue;
      const kept = keptOf(Infinity, file.wanted.generation, segments);
      if (file.lower(kept, generation)) this.rounds.touchOther(file);
    }
  }

  /** Where each stands, by name. */
  list(log: LogState): ConsumerInfo[] {
    try {
      this.look();
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      this.#parts.logger?.warn("Consumers are shown as last seen", error);
    }
    const files = [...this.#files.values()]
      .sort((a, b) => a.name < b.name ? -1 : 1);
    return files.map((file) => {
      const position = this.#keptOf(file, log);
      return { name: file.name, position, lag: lagOf(position, log) };
    });
  }

  /** Who uses it elsewhere may not know of a cut yet. */
  #keptOf({ position, wanted }: PositionFile, log: LogState): number {
    return keptOf(position, wanted.generation, log.segments);
  }

  /** The one that stands lowest; nobody is at infinity. */
  slowest(log: LogState): { name: string; position: number } {
    this.look();
    let slowest = { name: "", position: Infinity };
    for (const file of [...this.#files.values(), ...this.#making]) {
      const least = Math.min(this.#keptOf(file, log), file.wanted.position);
      if (least < slowest.position) {
        slowest = { name: file.name, position: least };
      }
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

  /** Takes a name for one user, or throws `WalLockedError`. */
  take(name: string): void {
    if (this.#locks.has(name)) throw lockedError(name, undefined);
    if (!this.#isThere()) this.#makeFolder();
    const directory = this.#openFolder();
    const lock = this.#files.get(name)?.lock ?? lockConsumer(directory, name);
    this.#locks.set(name, lock);
    try {
      this.look();
    } catch (error) {
      this.release(name);
      throw error;
    }
    const file = this.#files.get(name);
    if (file !== undefined) this.#use(file, lock);
  }

  #use(file: PositionFile, lock: StorageLock): void {
    file.resting = false;
    file.lock = lock;
  }

  /** Lets a name go. */
  release(name: string): void {
    const lock = this.#locks.get(name);
    this.#locks.delete(name);
    const file = this.#files.get(name);
    if (file === undefined || file.lock === undefined) lock?.release();
    else file.rest();
  }

  #makeFolder(): void {
    this.#parts.folder.makeFolder(CONSUMERS_FOLDER);
    this.rounds.touchNames();
  }

  /** Makes a consumer that stands at `position`; durable when done. */
  *create(
    name: string,
    position: number,
    state: LogState,
  ): Steps<PositionFile> {
    this.#makeFolder();
    const directory = this.#openFolder();
    const owner = this.#ownerOf(name);
    const { generation } = state;
    const record = { sequence: 1, position, generation };
    const file = new PositionFile(directory, owner, { record, slot: 0 });
    this.#use(file, this.#locks.get(name)!);
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
    const { name } = file;
    directory.remove(name);
    // The name is free when the removal is durable.
    file.lock = undefined;
    file.remove();
    this.#files.delete(name);
    this.rounds.touchOther(directory);
    yield [this.rounds];
    if (!this.#closed) removeQuietly(directory, lockName(name));
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
    for (const file of [...this.#files.values(), ...this.#making]) {
      this.#locks.delete(file.name);
      file.resting = true;
      file.close();
    }
    for (const lock of this.#locks.values()) lock.release();
    this.#locks.clear();
    this.#directory?.close();
    this.#directory = undefined;
  }
}
