/**
 * Where recovery keeps what it takes out of the log: nothing is thrown away.
 *
 * @module
 */

import { assert } from "./assert.ts";
import type { Chain } from "./chain.ts";
import { StorageError } from "./errors.ts";
import { removeQuietly } from "./fresh_file.ts";
import { CUT_FOLDER, isTemporaryName, TEMPORARY_EXTENSION } from "./format.ts";
import type { Logger } from "./logger.ts";
import type { Verdict } from "./recovery.ts";
import type { Steps } from "./steps.ts";
import type { StorageDirectory, StorageFile, StoragePort } from "./storage.ts";

/** What the verdict was about, and where it is carried out. */
export interface CutParts {
  /** The storage. */
  readonly storage: StoragePort;
  /** The log's folder. */
  readonly directory: StorageDirectory;
  /** What the folder holds. */
  readonly chain: Chain;
  /** Where the log ends. */
  readonly verdict: Verdict;
  /** Told what cannot be kept. */
  readonly logger: Logger | undefined;
}

/** Where recovery keeps what it takes out of the log. */
export class CutFolder {
  /** The folder's path, once something is in it. */
  path: string | undefined;
  readonly #parts: CutParts;
  #folder: string | undefined;

  /** Nothing is made before it is needed. */
  constructor(parts: CutParts) {
    this.#parts = parts;
  }

  #open(): string {
    if (this.#folder !== undefined) return this.#folder;
    const { directory, storage } = this.#parts;
    const time = new Date(storage.clock.nowMs()).toISOString();
    const folder = `${CUT_FOLDER}/${time.replaceAll(":", "-")}`;
    directory.makeFolder(CUT_FOLDER);
    directory.makeFolder(folder);
    this.#folder = folder;
    return folder;
  }

  /** Something is in it. */
  #used(): void {
    this.path = `${this.#parts.directory.path}/${this.#folder}`;
  }

  /** Copies the torn bytes of the last segment that stays. */
  copyTorn(): void {
    const { directory, chain, verdict, logger } = this.#parts;
    const { endSegment, end, tornEnd } = verdict;
    if (tornEnd <= end.offset) return;
    const { name } = chain.segments[endSegment]!;
    const source = directory.open(name, "read");
    assert(source !== undefined, `segment ${name} was there a moment ago`);
    try {
      const target = `${this.#open()}/${name}.from-${end.offset}`;
      copyRange(directory, source, target, end.offset, tornEnd);
      this.#used();
    } catch (error) {
      // A full disk must not keep the log shut: nobody was promised these.
      if (!(error instanceof StorageError)) throw error;
      logger?.warn("Torn bytes could not be kept aside", error);
    } finally {
      source.close();
    }
  }

  /** Removes files in the making: nobody was told of them. */
  removeTemporary(): void {
    const { directory, chain } = this.#parts;
    for (const { name } of chain.leftovers) {
      if (isTemporaryName(name)) removeQuietly(directory, name);
    }
  }

  /** Moves whole files out of the log, the highest first. */
  *moveAway(): Steps<void> {
    const { directory, chain, verdict, logger } = this.#parts;
    const later = chain.segments.slice(verdict.endSegment + 1);
    const kept: { name: string }[] = [
      ...later,
      ...chain.leftovers.filter((one) => one.keep),
    ].sort((a, b) => a.name < b.name ? 1 : -1);
    try {
      for (const { name } of kept) {
        directory.rename(name, `${this.#open()}/${name}`);
        this.#used();
      }
    } catch (error) {
      // They are off the chain: the next open finds them again.
      if (!(error instanceof StorageError)) throw error;
      logger?.warn("Files could not be moved out of the log", error);
    }
    if (this.#folder === undefined) return;
    directory.syncFolder(this.#folder);
    directory.syncFolder(CUT_FOLDER);
    yield [directory];
  }
}

function copyRange(
  directory: StorageDirectory,
  source: StorageFile,
  name: string,
  from: number,
  to: number,
): void {
  const temporary = name + TEMPORARY_EXTENSION;
  const target = directory.create(temporary, to - from);
  let whole = false;
  try {
    const piece = new Uint8Array(Math.min(to - from, 1024 * 1024));
    for (let at = from; at < to; at += piece.length) {
      const count = source.readAt(piece.subarray(0, to - at), at);
      target.writeAt(piece.subarray(0, count), at - from);
    }
    target.sync();
    directory.rename(temporary, name);
    whole = true;
  } finally {
    target.close();
    // Half a copy is of no use, and may hold the last free space.
    if (!whole) removeQuietly(directory, temporary);
  }
}
