/**
 * Replaces the manifest atomically, and never a newer one by an older one.
 *
 * @module
 */

import { MANIFEST_BYTES, MANIFEST_NAME } from "./format.ts";
import { encodeManifest, type Manifest } from "./manifest.ts";
import type { Steps } from "./steps.ts";
import type { StorageDirectory } from "./storage.ts";

/** Writes the manifests of one open log. */
export class ManifestKeeper {
  readonly #directory: StorageDirectory;
  #asked = 0;
  #installed = 0;

  /** A keeper for the log in `directory`. */
  constructor(directory: StorageDirectory) {
    this.#directory = directory;
  }

  /**
   * Writes a manifest beside the old one, syncs it and puts it in place. The
   * folder still has to be synced. What was asked for later wins.
   */
  *replace(manifest: Manifest): Steps<void> {
    const turn = ++this.#asked;
    const temporary = `${MANIFEST_NAME}.${turn}.tmp`;
    const file = this.#directory.create(temporary, MANIFEST_BYTES);
    let placed = false;
    try {
      file.writeAt(encodeManifest(manifest), 0);
      yield [file];
      if (turn > this.#installed) {
        this.#directory.rename(temporary, MANIFEST_NAME);
        this.#installed = turn;
        placed = true;
      }
    } finally {
      file.close();
      if (!placed) this.#removeQuietly(temporary);
    }
  }

  #removeQuietly(name: string): void {
    try {
      this.#directory.remove(name);
    } catch {
      // The next open removes what is left of it.
    }
  }
}
