/**
 * Where a repair keeps what it takes out of a log: a folder of its own in
 * `cut`. Nothing is taken away before its copy is on the disk.
 *
 * @module
 */

import { assert } from "./assert.ts";
import { CUT_FOLDER, TEMPORARY_EXTENSION } from "./format.ts";
import { removeQuietly } from "./fresh_file.ts";
import type { Steps } from "./steps.ts";
import type { StorageDirectory, StorageFile } from "./storage.ts";

const PIECE_BYTES = 1024 * 1024;

/** One repair's folder in `cut`; made when something is put there. */
export class SavedFolder {
  /** What is in it, by name. */
  readonly names: string[] = [];
  readonly #directory: StorageDirectory;
  readonly #nowMs: number;
  #folder: string | undefined;

  /** For a repair of the log in `directory` that began at `nowMs`. */
  constructor(directory: StorageDirectory, nowMs: number) {
    this.#directory = directory;
    this.#nowMs = nowMs;
  }

  /** Its path; undefined while nothing is in it. */
  get path(): string | undefined {
    if (this.#folder === undefined) return undefined;
    return `${this.#directory.path}/${this.#folder}`;
  }

  /** A folder that nothing was ever put into: names must not meet. */
  #open(): string {
    if (this.#folder !== undefined) return this.#folder;
    const directory = this.#directory;
    directory.makeFolder(CUT_FOLDER);
    const there = new Set(directory.list(CUT_FOLDER).map(({ name }) => name));
    const time = new Date(this.#nowMs).toISOString().replaceAll(":", "-");
    let name = time;
    for (let i = 2; there.has(name); i++) name = `${time}.${i}`;
    this.#folder = `${CUT_FOLDER}/${name}`;
    directory.makeFolder(this.#folder);
    return this.#folder;
  }

  /** Makes the folder, durably: only then may names be moved into it. */
  *prepare(): Steps<void> {
    this.#open();
    yield* this.settle();
  }

  /** Copies the bytes of a file from `from` to `to`, on the disk when done. */
  *copy(name: string, saved: string, from: number, to: number): Steps<void> {
    const directory = this.#directory;
    const source = directory.open(name, "read");
    assert(source !== undefined, `"${name}" was there a moment ago`);
    try {
      const place = `${this.#open()}/${saved}`;
      const temporary = place + TEMPORARY_EXTENSION;
      const target = directory.create(temporary, to - from);
      try {
        copyBytes(source, target, from, to);
        yield [target];
      } catch (error) {
        removeQuietly(directory, temporary);
        throw error;
      } finally {
        target.close();
      }
      directory.rename(temporary, place);
      this.names.push(saved);
    } finally {
      source.close();
    }
  }

  /** Moves a whole file here; `prepare` comes before. */
  move(name: string): void {
    this.#directory.rename(name, `${this.#open()}/${name}`);
    this.names.push(name);
  }

  /** Makes all that was put here durable, names included. */
  *settle(): Steps<void> {
    if (this.#folder === undefined) return;
    this.#directory.syncFolder(this.#folder);
    this.#directory.syncFolder(CUT_FOLDER);
    yield [this.#directory];
  }
}

function copyBytes(
  source: StorageFile,
  target: StorageFile,
  from: number,
  to: number,
): void {
  const piece = new Uint8Array(Math.min(to - from, PIECE_BYTES));
  for (let at = from; at < to;) {
    const want = Math.min(piece.length, to - at);
    const count = source.readAt(piece.subarray(0, want), at);
    assert(count > 0, "a file does not shrink");
    target.writeAt(piece.subarray(0, count), at - from);
    at += count;
  }
}
