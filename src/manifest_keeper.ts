/**
 * Replaces the manifest atomically, never a newer one by an older one, and
 * renews it in the background when the durable mark enters a new segment.
 *
 * @module
 */

import { MANIFEST_BYTES, MANIFEST_NAME, manifestTurnOf } from "./format.ts";
import { createFresh, removeQuietly } from "./fresh_file.ts";
import { encodeManifest, type Manifest } from "./manifest.ts";
import { runSoon, type Steps } from "./steps.ts";
import type { StorageDirectory, StorageFile } from "./storage.ts";

/** Room for a manifest that will be written. */
export interface Prepared {
  /** Its temporary name. */
  readonly name: string;
  /** Its file. */
  readonly file: StorageFile;
}

/** Writes the manifests of one open log. */
export class ManifestKeeper {
  readonly #directory: StorageDirectory;
  /** How the log is; set once after making. */
  describe!: (closed: boolean) => Manifest;
  #asked: number;
  #installed = 0;
  #segment = 0;
  #renewing: Promise<void> | undefined;
  #ended = false;
  /** Whether the log was closed and its last manifest is durable. */
  endedWell = false;
  readonly #temporary = new Set<string>();

  /**
   * A keeper for the log in `directory`, in which manifests in the making may
   * have been left behind: its own get other names.
   */
  constructor(directory: StorageDirectory, leftovers: readonly string[] = []) {
    this.#directory = directory;
    const turns = leftovers.map((name) => manifestTurnOf(name) ?? 0);
    this.#asked = Math.max(0, ...turns);
  }

  /**
   * Makes room for a manifest, so that a full disk shows before anything has
   * changed. `install` must follow, or `discard`.
   */
  prepare(): Prepared {
    const name = `${MANIFEST_NAME}.${++this.#asked}.tmp`;
    const file = createFresh(this.#directory, name, MANIFEST_BYTES);
    this.#temporary.add(name);
    try {
      file.writeAt(new Uint8Array(MANIFEST_BYTES), 0);
    } catch (error) {
      file.close();
      this.#remove(name);
      throw error;
    }
    return { name, file };
  }

  /** Gives up what was prepared. */
  discard({ name, file }: Prepared): void {
    file.close();
    if (!this.#ended) this.#remove(name);
  }

  /**
   * Writes a manifest beside the old one, syncs it and puts it in place. The
   * folder still has to be synced. What was asked for later wins.
   */
  *replace(closed: boolean): Steps<void> {
    if (this.#ended) return;
    yield* this.install(this.prepare(), closed);
  }

  /** The same with a file that was prepared, as the log is now. */
  *install(prepared: Prepared, closed: boolean): Steps<void> {
    const { name, file } = prepared;
    // What was asked for before this was described knows less.
    const turn = ++this.#asked;
    try {
      if (this.#ended) return;
      const manifest = this.describe(closed);
      file.writeAt(encodeManifest(manifest), 0);
      yield [file];
      if (turn > this.#installed && !this.#ended) {
        this.#directory.rename(name, MANIFEST_NAME);
        this.#temporary.delete(name);
        this.#installed = turn;
        this.#segment = manifest.lastSegment;
      }
    } finally {
      this.discard(prepared);
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
  end(well: boolean): void {
    this.#ended = true;
    this.endedWell = well;
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
