/**
 * Files in the making, which only the holder of the writer's lock touches.
 *
 * @module
 */

import { StorageError } from "./errors.ts";
import type { StorageDirectory, StorageFile } from "./storage.ts";

/** Makes a temporary file, in the place of what a crash left of one. */
export function createFresh(
  directory: StorageDirectory,
  name: string,
  bytes: number,
): StorageFile {
  try {
    return directory.create(name, bytes);
  } catch (error) {
    const there = error instanceof StorageError &&
      error.systemCode === "EEXIST";
    if (!there) throw error;
    directory.remove(name);
    return directory.create(name, bytes);
  }
}

/** Removes a file; one that cannot be removed is left for the next open. */
export function removeQuietly(
  directory: StorageDirectory,
  name: string,
): void {
  try {
    directory.remove(name);
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
  }
}
