/**
 * One writer for a folder.
 *
 * `LOCK` carries the system's file lock where it can be had; it ends with the
 * process, whatever happens. `LOCK.owner` names the writer and excludes those
 * that cannot ask for the file lock. It appears by a link, which fails if one
 * is there, and so is always whole.
 *
 * An owner file whose process is gone is renamed aside, never just unlinked:
 * between reading and renaming it may have become somebody else's. So what
 * was renamed is read again, and put back if it is not what was read. Whoever
 * claims the name meanwhile looks, once he has it, for a living owner that
 * was set aside, and steps back. Readers never come here.
 *
 * @module
 */

import { randomUUID } from "node:crypto";
import * as fs from "node:fs";
import { constants } from "node:fs";
import { assert } from "../src/assert.ts";
import { WalLockedError } from "../src/errors.ts";
import type { StorageLock } from "../src/storage.ts";
import { closeQuietly, type Opened, openRegular } from "./descriptors.ts";
import {
  flockHolder,
  type FoundOwner,
  type Liveness,
  livenessOf,
  type OwnerRecord,
  OwnOwner,
  ownRecord,
  readOwner,
} from "./owner.ts";
import type { Looks } from "./looks.ts";
import { storageError, systemCode, systemError } from "./system_error.ts";
import type { TryFlock } from "./types.ts";

/** The file that carries the lock. */
export const LOCK_NAME = "LOCK";

/** Writing an owner file takes no longer, whatever the disk does. */
const YOUNG_MS = 60_000;

/** Others come and go at the same moment; not this often. */
const ATTEMPTS_MAX = 100;

/** What a lock needs to know. */
export interface LockMeans {
  /** Permission bits of the lock files. */
  readonly fileMode: number;
  /** The file lock, where it can be had. */
  readonly tryFlock: TryFlock | undefined;
  /** Whether other processes may be looked at. */
  readonly mayInspect: boolean;
  /** How to look at files. */
  readonly looks: Looks;
}

/** The lock of a folder, held from its making to `release`. */
export class FolderLock implements StorageLock {
  readonly #folder: string;
  /** What the names of all its files begin with. */
  readonly #name: string;
  readonly #means: LockMeans;
  readonly #own: OwnerRecord;
  readonly #unlock: () => void;
  #owner: OwnOwner | undefined;
  #asideCount = 0;
  #released = false;

  /** Takes it, or throws `WalLockedError`. */
  constructor(folder: string, means: LockMeans, name: string = LOCK_NAME) {
    this.#folder = folder;
    this.#name = name;
    this.#means = means;
    const how = means.tryFlock === undefined ? "owner" : "flock";
    const attempt = { operation: "lock", object: "folder", path: folder };
    try {
      const { unlock, inode } = this.#takeFlock();
      this.#unlock = unlock;
      this.#own = ownRecord(how, randomUUID(), inode, means.mayInspect);
    } catch (error) {
      throw systemError(attempt, error);
    }
    try {
      this.#sweep(this.#claim());
    } catch (error) {
      this.#withdraw();
      this.#unlock();
      throw systemError(attempt, error);
    }
  }

  /** See the port. */
  verify(): void {
    assert(!this.#released, "verify after release");
    try {
      this.#verify();
    } catch (error) {
      const path = this.#folder;
      throw systemError({ operation: "lock", object: "folder", path }, error);
    }
  }

  #verify(): void {
    let found: FoundOwner | undefined;
    // Between the look at the name and the look beside it the file may be
    // put back: what is not found once has not been taken away yet.
    for (let i = 0; i < ATTEMPTS_MAX; i++) {
      found = readOwner(this.#ownerPath);
      if (this.#isOwn(found)) return;
      // Set aside by mistake, by one who is about to notice.
      const aside = this.#besides("stale").find(({ owner }) =>
        this.#isOwn(owner)
      );
      if (aside !== undefined) return this.#putBack(aside.path);
    }
    throw this.#locked(found, "alive");
  }

  /** See the port. */
  release(): void {
    assert(!this.#released, "released twice");
    this.#released = true;
    // Before the file lock, so that the next one finds nothing to judge.
    this.#withdraw();
    this.#unlock();
  }

  get #ownerPath(): string {
    return `${this.#folder}/${this.#name}.owner`;
  }

  /** Takes the file lock or looks who has it; returns what frees it. */
  #takeFlock(): { unlock: () => void; inode: string } {
    const path = `${this.#folder}/${this.#name}`;
    const { fd, seen } = openLockFile(path, this.#means.fileMode);
    const inode = String(seen.ino);
    try {
      const { tryFlock, mayInspect } = this.#means;
      const free = tryFlock?.(fd, path);
      if (free !== undefined) {
        const unlock = (): void => {
          free();
          closeQuietly(fd);
        };
        return { unlock, inode };
      }
      const pid = mayInspect ? flockHolder(seen) : undefined;
      if (tryFlock !== undefined || pid !== undefined) {
        throw this.#locked(readOwner(this.#ownerPath), "alive", pid);
      }
      closeQuietly(fd);
      return { unlock: (): void => {}, inode };
    } catch (error) {
      closeQuietly(fd);
      throw error;
    }
  }

  /**
   * Puts our owner file in place, or throws because somebody lives. Returns
   * the folder's names, listed once it was there.
   */
  #claim(): string[] {
    const path = this.#besidePath("new");
    this.#owner = new OwnOwner(path, this.#means.fileMode, this.#own);
    try {
      for (let i = 0; i < ATTEMPTS_MAX; i++) {
        if (linkNew(path, this.#ownerPath)) return this.#yieldToAside();
        const found = readOwner(this.#ownerPath);
        if (found === undefined) continue;
        const liveness = this.#livenessOf(found);
        if (liveness !== "gone") throw this.#locked(found, liveness);
        this.#setAside(found);
      }
      throw this.#locked(undefined, "alive");
    } finally {
      removeIfThere(path);
    }
  }

  /** Gives the name back to a living owner that was set aside by mistake. */
  #yieldToAside(): string[] {
    const names = this.#names();
    for (const { path, owner } of this.#besides("stale", names)) {
      const liveness = this.#livenessOf(owner);
      if (liveness === "gone") continue;
      this.#withdraw();
      this.#putBack(path);
      throw this.#locked(owner, liveness);
    }
    return names;
  }

  /** Takes an owner file that was read away, and only that. */
  #setAside(read: FoundOwner): void {
    const path = this.#besidePath("stale");
    this.#asideCount++;
    try {
      fs.renameSync(this.#ownerPath, path);
    } catch (error) {
      if (systemCode(error) === "ENOENT") return;
      throw error;
    }
    const moved = readOwner(path);
    if (moved === undefined || moved.text === read.text) removeIfThere(path);
    else this.#putBack(path);
  }

  /** If the name is taken, its new owner will find the one set aside. */
  #putBack(path: string): void {
    try {
      if (linkNew(path, this.#ownerPath)) removeIfThere(path);
    } catch (error) {
      // Another one has put it back, or its owner has released it.
      if (systemCode(error) !== "ENOENT") throw error;
    }
  }

  /**
   * Ends our ownership, if it has begun. At this very moment another one may
   * set our file aside by mistake and put it back: so it is disowned, too.
   */
  #withdraw(): void {
    if (this.#owner === undefined) return;
    try {
      const found = readOwner(this.#ownerPath);
      if (this.#isOwn(found)) this.#setAside(found);
      for (const { path, owner } of this.#besides("stale")) {
        if (this.#isOwn(owner)) removeIfThere(path);
      }
    } catch {
      // What is disowned holds nothing, and the next one removes it.
    }
    this.#owner.disown();
    this.#owner = undefined;
  }

  #isOwn(found: FoundOwner | undefined): found is FoundOwner {
    return found !== undefined && found.text === this.#owner?.text;
  }

  /** Removes what killed processes left beside the owner file. */
  #sweep(names: readonly string[]): void {
    for (const kind of ["new", "stale"] as const) {
      for (const { path, owner } of this.#besides(kind, names)) {
        // Without a record it may be one that is being written.
        const unwritten = kind === "new" && owner.record === undefined;
        if (unwritten && isYoung(path)) continue;
        if (this.#livenessOf(owner) === "gone") removeIfThere(path);
      }
    }
  }

  #names(): string[] {
    return this.#means.looks.list(this.#folder).map(({ name }) => name);
  }

  /** The files `LOCK.owner.*.<kind>` and what they say. */
  #besides(
    kind: "new" | "stale",
    names: readonly string[] = this.#names(),
  ): { path: string; owner: FoundOwner }[] {
    const found = [];
    for (const name of names) {
      const mine = name.startsWith(`${this.#name}.owner.`);
      if (!mine || !name.endsWith(`.${kind}`)) continue;
      const path = `${this.#folder}/${name}`;
      const owner = readOwner(path);
      if (owner !== undefined) found.push({ path, owner });
    }
    return found;
  }

  /**
   * A new name each time: a living owner's file may still lie under the last
   * one, and a rename would put an end to it.
   */
  #besidePath(kind: "new" | "stale"): string {
    const nth = this.#asideCount;
    return `${this.#ownerPath}.${this.#own.token}-${nth}.${kind}`;
  }

  #livenessOf(found: FoundOwner): Liveness {
    return livenessOf(found, this.#own, this.#means.mayInspect);
  }

  #locked(
    found: FoundOwner | undefined,
    liveness: Liveness,
    flockPid?: number,
  ): WalLockedError {
    const { pid = flockPid, host } = found?.record ?? {};
    const who = pid === undefined ? "another process" : `process ${pid}`;
    const where = host === undefined ? "" : ` on "${host}"`;
    // Never sent away without a way out.
    const remedy = liveness === "unknown"
      ? `; if that process is gone, remove "${this.#ownerPath}"`
      : "";
    return new WalLockedError(
      `Cannot lock folder "${this.#folder}": ${who}${where} has it open to ` +
        `write, expected no other writer${remedy}`,
      { pid },
    );
  }
}

/** Whether a file was changed a moment ago; unknown counts as young. */
function isYoung(path: string): boolean {
  const stat = fs.lstatSync(path, { throwIfNoEntry: false });
  return stat === undefined || Date.now() - stat.mtimeMs < YOUNG_MS;
}

/** Opens `LOCK`, made when missing; it is never removed. */
function openLockFile(path: string, mode: number): Opened {
  const attempt = { operation: "lock", object: "file", path };
  for (let i = 0; i < ATTEMPTS_MAX; i++) {
    const opened = openRegular(attempt, path, "write");
    if (opened !== undefined) return opened;
    try {
      const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
      const flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW;
      closeQuietly(fs.openSync(path, flags, mode));
    } catch (error) {
      if (systemCode(error) !== "EEXIST") throw systemError(attempt, error);
    }
  }
  throw storageError(attempt, "it goes again and again", "one", "EAGAIN");
}

/** Gives a file a second name; false if the name is taken. */
function linkNew(source: string, target: string): boolean {
  try {
    fs.linkSync(source, target);
    return true;
  } catch (error) {
    if (systemCode(error) === "EEXIST") return false;
    throw error;
  }
}

function removeIfThere(path: string): void {
  try {
    fs.unlinkSync(path);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
}
