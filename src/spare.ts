/**
 * The spare: the file of the next segment, made while the growing one fills,
 * so that no append waits for the disk to make it. One that is not ready in
 * time is made in the call. docs/architecture.md, "What is made ahead".
 *
 * The writer tells where it stands by running into the growing segment's
 * limit, which is then raised: the path of an append has no check more.
 *
 * @module
 */

import { StorageError } from "./errors.ts";
import { SPARE_NAME } from "./format.ts";
import { removeQuietly } from "./fresh_file.ts";
import type { Segment } from "./segment.ts";
import type { StorageDirectory, StorageFile } from "./storage.ts";

/** A log that grows for the first time needs none before so much is used. */
const ASK_PART = 1 / 8;

/** The spare of one open log. */
export class Spare {
  readonly #directory: StorageDirectory;
  #file: StorageFile | undefined;
  /** Gives up the file in the making. */
  #giveUp: (() => void) | undefined;
  #grown = false;

  /** For a log that is open to write. */
  constructor(directory: StorageDirectory) {
    this.#directory = directory;
  }

  /** This segment grows from now on: its limit says when to ask. */
  watch(segment: Segment): void {
    if (this.#directory.createSoon === undefined) return;
    const part = this.#grown ? 0 : segment.limit * ASK_PART;
    this.#grown = true;
    segment.limit = Math.max(segment.end, part);
  }

  /**
   * Asks for a file, unless one is there or in the making. With `written`
   * for zeros in it, for a log that syncs often.
   */
  ask(bytes: number, written: boolean): void {
    if (this.#giveUp !== undefined || this.#file?.bytes === bytes) return;
    this.end();
    try {
      const made = (file?: StorageFile): void => {
        this.#giveUp = undefined;
        this.#file = file;
      };
      const directory = this.#directory;
      this.#giveUp = directory.createSoon?.(SPARE_NAME, bytes, written, made);
    } catch (error) {
      // The one who makes it in time says what is wrong, if it still is.
      if (!(error instanceof StorageError)) throw error;
    }
  }

  /** A file of just this size, if one is ready; it is the caller's then. */
  take(bytes: number): StorageFile | undefined {
    const file = this.#file;
    if (file?.bytes !== bytes) return undefined;
    this.#file = undefined;
    return file;
  }

  /** Removes what was not used. */
  end(): void {
    this.#giveUp?.();
    this.#giveUp = undefined;
    const file = this.#file;
    this.#file = undefined;
    if (file === undefined) return;
    file.close();
    removeQuietly(this.#directory, SPARE_NAME);
  }
}
