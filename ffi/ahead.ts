/**
 * Makes a file ahead of its use: what waits for the disk is done by other
 * threads, a step at a time. The steps of `StorageDirectory.createSoon`.
 *
 * @module
 */

import type { StorageFile } from "../src/storage.ts";
import { closeQuietly, removeQuietly } from "./descriptors.ts";
import type { DiskFile } from "./file.ts";
import { SystemCallError } from "./system_error.ts";
import type { AheadRegion, BackgroundCalls } from "./types.ts";

/** What its owner stores into first, at both ends, waits for nothing either. */
const READY_BYTES = 64 * 1024;
/** So much is written at once, not to hold up the syncs of others. */
const WRITTEN_BYTES = 256 * 1024;
/** So much is read at once of what is stored into later. */
const READ_BYTES = 2 * 1024 * 1024;

/** A new file, still empty. */
export interface Begun {
  /** Where it is. */
  readonly path: string;
  /** Open to read and write. */
  readonly fd: number;
  /** What it shall have. */
  readonly bytes: number;
  /** Whether pages are kept small: then they are not read ahead. */
  readonly smallSyncs: boolean;
  /** Whether zeros are to be on the disk for all of it. */
  readonly written: boolean;
  /** Makes the file of the descriptor once it has its size. */
  readonly open: () => DiskFile;
}

/** Goes on with a file; the returned function gives it up. */
export function makeAhead(
  background: BackgroundCalls,
  begun: Begun,
  done: (file?: StorageFile) => void,
): () => void {
  let given = false;
  const isGiven = () => given;
  // The log may be closed meanwhile, and the thread is still needed.
  background.use();
  make(background, begun, isGiven).catch(() => undefined).then((file) => {
    background.leave();
    if (given) file?.close();
    else if (file === undefined) removeQuietly(begun.path);
    if (!given) done(file);
    given = true;
  });
  return () => {
    if (given) return;
    given = true;
    // Its descriptors go when nothing uses them any more.
    removeQuietly(begun.path);
  };
}

async function make(
  background: BackgroundCalls,
  { fd, bytes, smallSyncs, written, open }: Begun,
  isGiven: () => boolean,
): Promise<DiskFile> {
  let file;
  try {
    const result = await background.fallocate(fd, BigInt(bytes));
    // Why it failed is told by the one who makes the file in time.
    if (result !== 0) throw new SystemCallError("fallocate", 0);
    if (isGiven()) throw new SystemCallError("fallocate", 0);
    file = open();
  } catch (error) {
    closeQuietly(fd);
    throw error;
  }
  try {
    const region = file.mapAhead();
    await region.readySoon(0, READY_BYTES, true);
    if (!isGiven()) {
      await region.readySoon(bytes - READY_BYTES, READY_BYTES, true);
      await synced(file);
    }
    const end = written && smallSyncs ? bytes : 0;
    for (let at = 0; at < end && !isGiven(); at += WRITTEN_BYTES) {
      await region.readySoon(at, Math.min(WRITTEN_BYTES, bytes - at), true);
      await synced(file);
    }
    if (!smallSyncs && !isGiven()) readOn(background, region);
    return file;
  } catch (error) {
    file.close();
    throw error;
  }
}

/**
 * Has the rest of it in the page cache before it is stored into: the kernel
 * would read megabytes ahead at the first store into each, which takes
 * milliseconds, though there is nothing to read but zeros.
 */
async function readOn(
  background: BackgroundCalls,
  region: AheadRegion,
): Promise<void> {
  const { length } = region.bytes;
  let isMapped = true;
  background.use();
  for (let at = 0; at < length && isMapped; at += READ_BYTES) {
    const bytes = Math.min(READ_BYTES, length - at);
    isMapped = await region.readySoon(at, bytes, false);
  }
  background.leave();
}

function synced(file: DiskFile): Promise<void> {
  return new Promise((resolve, reject) => {
    file.syncSoon((error) => error === undefined ? resolve() : reject(error));
  });
}
