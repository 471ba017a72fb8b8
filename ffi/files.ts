/**
 * Storage on a real disk, and the calls of its plain form: `node:fs` alone.
 *
 * The mapped form differs in its `DiskCalls` only.
 *
 * @module
 */

import { randomFillSync } from "node:crypto";
import { ftruncateSync } from "node:fs";
import { resolve } from "node:path";
import { assert } from "../src/assert.ts";
import type {
  DirectoryOptions,
  StorageDirectory,
  StoragePort,
} from "../src/storage.ts";
import { systemClock } from "./clock.ts";
import { DiskDirectory } from "./directory.ts";
import { readBootId } from "./owner.ts";
import type { Backend, DiskCalls } from "./types.ts";
import { sharedMemory } from "./shared_memory.ts";

/** It lasts longer than this process. */
let bootId: string | undefined;

/** The port over a real disk. */
export class DiskStorage implements StoragePort {
  /** Which form. */
  readonly kind: "mapped" | "files";
  /** The system's clock. */
  readonly clock: typeof systemClock = systemClock;
  /** A disk keeps what it is given. */
  readonly volatile = false;
  readonly #backend: Backend;
  readonly #calls: DiskCalls;

  /** Joins a runtime and the calls of a form. */
  constructor(kind: "mapped" | "files", backend: Backend, calls: DiskCalls) {
    this.kind = kind;
    this.#backend = backend;
    this.#calls = calls;
  }

  /** See the port. */
  sharedMemory(bytes: number): Uint8Array<ArrayBuffer> | undefined {
    return sharedMemory(bytes);
  }

  /** See the port. */
  bootId(): string {
    bootId ??= this.#backend.mayInspect() ? readBootId() : "";
    return bootId;
  }

  /** See the port. */
  fillRandom(target: Uint8Array<ArrayBuffer>): void {
    randomFillSync(target);
  }

  /** See the port. */
  openDirectory(
    path: string,
    options: DirectoryOptions,
  ): StorageDirectory | undefined {
    // Absolute, so that a later change of the working folder does not matter.
    const absolute = resolve(path);
    return DiskDirectory.open(absolute, options, this.#backend, this.#calls);
  }
}

/** The calls of files storage: what `node:fs` cannot do is not done. */
export function plainCalls(backend: Backend): DiskCalls {
  return {
    looks: backend.looks,

    allocate(fd: number, bytes: number): void {
      // Sparse: a full disk then fails the write, which can be reported.
      ftruncateSync(fd, bytes);
    },

    map(): undefined {
      return undefined;
    },

    mapAllocated(): never {
      assert(false, "files storage maps nothing");
    },

    background: undefined,

    mapForGood(): undefined {
      return undefined;
    },

    punchHole(): void {},

    dropCache(): void {},

    tryFlock: backend.tryFlock,
  };
}
