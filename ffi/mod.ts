/**
 * The storages of this runtime: the only file that asks which one it is.
 *
 * Nothing happens at import; the C library is opened when a storage is made.
 *
 * @module
 */

import process from "node:process";
import { StorageError } from "../src/errors.ts";
import type { StoragePort } from "../src/storage.ts";
import { bunBackend } from "./bun.ts";
import { denoBackend } from "./deno.ts";
import { DiskStorage, plainCalls } from "./files.ts";
import { MemoryStorage } from "./memory.ts";
import { nodeBackend } from "./node.ts";
import { PosixCalls } from "./posix.ts";
import { LIBC_NAME } from "./symbols.ts";
import { systemError } from "./system_error.ts";
import type { Backend } from "./types.ts";

/** Machines on which the numbers of `symbols.ts` are right. */
const MAPPED_MACHINES: readonly string[] = ["x64", "arm64"];

/** One C library is enough for a thread. */
let mappedCalls: PosixCalls | undefined;

/** Memory-mapped files. Throws `StorageError` where FFI is not to be had. */
export function mappedStorage(): StoragePort {
  const backend = currentBackend();
  const missing = mappedMissing(backend);
  if (missing !== undefined) {
    throw new StorageError(`Cannot map files: ${missing}`, {
      operation: "map",
      path: LIBC_NAME,
      systemCode: undefined,
    });
  }
  try {
    mappedCalls ??= new PosixCalls(
      backend.open(),
      backend.openBackground(),
    );
  } catch (error) {
    const attempt = { operation: "load", object: "library", path: LIBC_NAME };
    throw systemError(attempt, error);
  }
  return new DiskStorage("mapped", backend, mappedCalls);
}

/** Plain reads and writes; the same bytes on the disk. Works everywhere. */
export function filesStorage(): StoragePort {
  const backend = currentBackend();
  return new DiskStorage("files", backend, plainCalls(backend));
}

/** A disk in memory, its own world; nothing survives the process. */
export function memoryStorage(): StoragePort {
  return new MemoryStorage();
}

/** Mapped where that is possible without asking, else files. */
export function defaultStorage(): StoragePort {
  const missing = mappedMissing(currentBackend());
  return missing === undefined ? mappedStorage() : filesStorage();
}

function currentBackend(): Backend {
  if ("Deno" in globalThis) return denoBackend;
  return process.versions.bun === undefined ? nodeBackend : bunBackend;
}

function mappedMissing(backend: Backend): string | undefined {
  const { arch, platform } = process;
  if (platform !== "linux" || !MAPPED_MACHINES.includes(arch)) {
    return `this is ${platform} on ${arch}, expected linux on x64 or arm64`;
  }
  return backend.missing();
}
