/**
 * Descriptors of regular files, and the pair that syncs.
 *
 * Only regular files get through here, whatever somebody put under the name.
 * `O_NOFOLLOW` is not enough: with a path-scoped grant Deno resolves symbolic
 * links itself before it opens. So the name is looked at before, and must be
 * the very file that was opened after.
 *
 * @module
 */

import * as fs from "node:fs";
import { constants } from "node:fs";
import { assert } from "../src/assert.ts";
import type { WalError } from "../src/errors.ts";
import type { SyncDone } from "../src/storage.ts";
import { isSame, type Looks, plainLooks, type Seen } from "./looks.ts";
import {
  type Attempt,
  storageError,
  systemCode,
  systemError,
} from "./system_error.ts";

/** A name may be replaced between two looks; not this often. */
const LOOKS_MAX = 100;

/** An open regular file. */
export interface Opened {
  /** The descriptor. */
  readonly fd: number;
  /** What it is. */
  readonly seen: Seen;
}

/** Opens a regular file, `undefined` when nothing is there. Never waits. */
export function openRegular(
  attempt: Attempt,
  path: string,
  access: "read" | "write",
  looks: Looks = plainLooks,
): Opened | undefined {
  const flags = access === "read" ? constants.O_RDONLY : constants.O_RDWR;
  try {
    for (let look = 0; look < LOOKS_MAX; look++) {
      const seen = looks.at(path);
      if (seen === undefined) return undefined;
      assertRegular(attempt, seen);
      const opened = openSeen(path, flags, seen, looks);
      if (opened !== undefined) return opened;
    }
  } catch (error) {
    throw systemError(attempt, error);
  }
  const found = "the name is replaced all the time";
  throw storageError(attempt, found, "one writer", "EAGAIN");
}

/** Makes a file that was not there. */
export function openNew(path: string, mode: number): number {
  // Somebody's symbolic link counts as a name that is taken.
  if (fs.lstatSync(path, { throwIfNoEntry: false }) !== undefined) {
    throw Object.assign(new Error("the name is taken"), { code: "EEXIST" });
  }
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  return fs.openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
}

/** Closes a descriptor. There is no remedy for a failure, so none is told. */
export function closeQuietly(fd: number): void {
  try {
    fs.closeSync(fd);
  } catch {
    // All that had to reach the disk was synced before, or was never promised.
  }
}

/** Reads until `target` is full or the file ends. */
export function readFully(
  fd: number,
  target: Uint8Array<ArrayBuffer>,
  offset: number,
): number {
  let done = 0;
  while (done < target.length) {
    const rest = target.length - done;
    const bytes = again(() =>
      fs.readSync(fd, target, done, rest, offset + done)
    );
    if (bytes === 0) break;
    done += bytes;
  }
  return done;
}

/** Writes all of `source`. */
export function writeFully(
  fd: number,
  source: Uint8Array<ArrayBuffer>,
  offset: number,
): void {
  let done = 0;
  while (done < source.length) {
    const rest = source.length - done;
    const bytes = again(() =>
      fs.writeSync(fd, source, done, rest, offset + done)
    );
    // Not seen on any system; without this line it would be an endless loop.
    if (bytes === 0) {
      throw Object.assign(new Error("nothing written"), { code: "EIO" });
    }
    done += bytes;
  }
}

/**
 * Two descriptors of one file or folder, opened separately, because the
 * system reports a write error once for each opening: the one that syncs
 * soon must not take the news away from the one that blocks.
 */
export class SyncPair {
  #attempt: Attempt;
  readonly #blocking: number;
  readonly #soon: number;
  readonly #isFolder: boolean;
  #pending = false;
  #closed = false;

  /** Takes both over; they are one where nothing is ever written. */
  constructor(attempt: Attempt, blocking: number, soon: number) {
    this.#attempt = { ...attempt, operation: "sync" };
    this.#blocking = blocking;
    this.#soon = soon;
    this.#isFolder = attempt.object === "folder";
  }

  /** From now on errors say this path. */
  renamed(path: string): void {
    this.#attempt = { ...this.#attempt, path };
  }

  /** See `Syncable.sync`. */
  sync(): void {
    assert(!this.#closed, "sync after close");
    try {
      if (this.#isFolder) fs.fsyncSync(this.#blocking);
      else fs.fdatasyncSync(this.#blocking);
    } catch (error) {
      throw systemError(this.#attempt, error);
    }
  }

  /** See `Syncable.syncSoon`. */
  syncSoon(done: SyncDone): void {
    assert(!this.#closed, "syncSoon after close");
    assert(!this.#pending, "syncSoon while one is outstanding");
    this.#pending = true;
    const ended = (error?: unknown): void => {
      this.#pending = false;
      // A number may be reused at once: closed only when nothing uses it.
      if (this.#closed) closeQuietly(this.#soon);
      const failed = error !== null && error !== undefined;
      done(failed ? systemError(this.#attempt, error) as WalError : undefined);
    };
    try {
      if (this.#isFolder) fs.fsync(this.#soon, ended);
      else fs.fdatasync(this.#soon, ended);
    } catch (error) {
      queueMicrotask(() => ended(error));
    }
  }

  /** Closes both, the second once its sync has ended. */
  close(): void {
    assert(!this.#closed, "closed twice");
    this.#closed = true;
    closeQuietly(this.#blocking);
    if (this.#soon === this.#blocking) return;
    if (!this.#pending) closeQuietly(this.#soon);
  }
}

/** Throws unless it is a regular file. */
function assertRegular(attempt: Attempt, { kind }: Seen): void {
  if (kind === "regular file") return;
  const code = kind === "symbolic link"
    ? "ELOOP"
    : kind === "folder"
    ? "EISDIR"
    : "EINVAL";
  throw storageError(attempt, `found a ${kind}`, "a regular file", code);
}

/** Opens what was seen `before`; `undefined` if the name is another file by now. */
function openSeen(
  path: string,
  flags: number,
  before: Seen,
  looks: Looks,
): Opened | undefined {
  let fd;
  try {
    // Non-blocking, for a FIFO that was put there after the look.
    const { O_NOFOLLOW, O_NONBLOCK } = constants;
    fd = fs.openSync(path, flags | O_NOFOLLOW | O_NONBLOCK);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  }
  const seen = looks.into(fd);
  if (isSame(seen, before)) return { fd, seen };
  closeQuietly(fd);
  return undefined;
}

/** A signal may interrupt a call before it did anything. */
function again(call: () => number): number {
  while (true) {
    try {
      return call();
    } catch (error) {
      const code = systemCode(error);
      if (code !== "EINTR" && code !== "EAGAIN") throw error;
    }
  }
}

/** Clears up after a failure, whose error is the one to tell. */
export function removeQuietly(path: string): void {
  try {
    fs.unlinkSync(path);
  } catch {
    // Unlinking what was made a moment ago fails on a dying disk only.
  }
}
