/**
 * Replaces the manifest atomically, never a newer one by an older one, and
 * renews it in the background when the durable mark enters a new segment.
 *
 * @module
 */

import { MANIFEST_BYTES, MANIFEST_NAME } from "./format.ts";
import { createFresh, removeQuietly } from "./fresh_file.ts";
import { encodeManifest, type Manifest } from "./manifest.ts";
import { runSoon, type Steps } from "./steps.ts";
import type { StorageDirectory } from "./storage.ts";

/** Writes the manifests of one open log. */
export class ManifestKeeper {
  readonly #directory: StorageDirectory;
  readonly #describe: (closed: boolean) => Manifest;
  #asked = 0;
  #installed = 0;
  #segment = 0;
  #renewing: Promise<void> | undefined;
  #ended = false;
  readonly #temporary = new Set<string>();

  /** A keeper for the log in `directory`, as `describe` says it is. */
  constructor(
    directory: StorageDirectory,
    describe: (closed: boolean) => Manifest,
  ) {
    this.#directory = directory;
    this.#describe = describe;
  }

  /**
   * Writes a manifest beside the old one, syncs it and puts it in place. The
   * folder still has to be synced. What was asked for later wins.
   */
  *replace(closed: boolean): Steps<void> {
    if (this.#ended) return;
    const turn = ++this.#asked;
    const manifest = this.#describe(closed);
    const temporary = `${MANIFEST_NAME}.${turn}.tmp`;
    const file = createFresh(this.#directory, temporary, MANIFEST_BYTES);
    this.#temporary.add(temporary);
    try {
      file.writeAt(encodeManifest(manifest), 0);
      yield [file];
      if (turn > this.#installed && !this.#ended) {
        this.#directory.rename(temporary, MANIFEST_NAME);
        this.#temporary.delete(temporary);
        this.#installed = turn;
        this.#segment = manifest.lastSegment;
      }
    } finally {
      file.close();
      if (!this.#ended) this.#remove(temporary);
    }
  }

  #remove(name: string): void {
    if (this.#temporary.delete(name)) removeQuietly(this.#directory, name);
  }

  /** Whether the log was closed. */
  get ended(): boolean {
    return this.#ended;
  }

  /**
   * Ends it while the lock is still held: what a blocking close overtook
   * touches the folder no more, for it may have another writer by then.
   */
  end(): void {
    this.#ended = true;
    for (const name of this.#temporary) this.#remove(name);
  }

  /**
   * Renews the manifest in the background if `segment` is a later one than
   * it names. One renewal runs at a time; failing is no failure of the log.
   */
  renewSoon(segment: number, failed: (error: unknown) => void): void {
    if (segment <= this.#segment || this.#renewing !== undefined) return;
    this.#renewing = runSoon(this.replace(false))
      .catch(failed)
      .then(() => {
        this.#renewing = undefined;
      });
  }

  /** Settles when no renewal runs in the background. */
  idle(): Promise<void> {
    return this.#renewing ?? Promise.resolve();
  }
}
