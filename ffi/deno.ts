/**
 * The backend for Deno.
 *
 * Touches the `Deno` global only when called, and declares the few shapes it
 * uses, so that it also type-checks where Deno's types are not there. It
 * never causes a permission prompt: it asks what is granted, and does without.
 *
 * @module
 */

import { fstatSync } from "node:fs";
import {
  type DenoDirEntry,
  type DenoFileInfo,
  list,
  lookAt,
  lookIntoBy,
  type Statx,
  STATX_SYMBOLS,
} from "./deno_looks.ts";
import { type Looks, plainLooks } from "./looks.ts";
import type { Backend, BackgroundCalls, Libc, TryFlock } from "./types.ts";
import {
  BACKGROUND_SYMBOLS,
  LIBC_NAME,
  LIBC_SYMBOLS,
  type LibcSymbols,
} from "./symbols.ts";
import { UnmapRegistry } from "./unmap.ts";
import { atLeast } from "./version.ts";

/** The first version whose `node:fs` gives out the system's descriptors. */
const DENO_LEAST = [2, 7, 12];

/** All of these granted is what `--allow-all` looks like from inside. */
const EVERY_PERMISSION = ["read", "write", "net", "env", "sys", "run", "ffi"];

interface DenoGlobal {
  readonly version: { readonly deno: string };
  readonly permissions: {
    querySync(descriptor: { name: string; path?: string }): { state: string };
  };
  readonly UnsafePointer: { create(address: bigint): unknown };
  readonly UnsafePointerView: {
    getArrayBuffer(pointer: unknown, bytes: number): ArrayBuffer;
  };
  readonly FsFile: { readonly prototype: object };
  dlopen(path: string, symbols: unknown): { readonly symbols: unknown };
  openSync(path: string, options: { read: true; write: true }): DenoFile;
  lstatSync(path: string): DenoFileInfo;
  readDirSync(path: string): Iterable<DenoDirEntry>;
}

/** As Deno has them with `nonblocking`: on a thread of its pool. */
interface BackgroundSymbols {
  fallocate(
    fd: number,
    mode: number,
    offset: bigint,
    bytes: bigint,
  ): Promise<number>;
  madvise(address: bigint, bytes: bigint, advice: number): Promise<number>;
}

interface DenoFile {
  tryLockSync(exclusive: boolean): boolean;
  statSync(): { dev: number; ino: number | null };
  close(): void;
}

const looks: Looks = {
  ...plainLooks,
  at: (path: string) => lookAt(deno().lstatSync, path),
  list: (path: string) => list(deno().readDirSync, path),
};

/** Deno's way to libc. */
export const denoBackend: Backend = {
  missing(): string | undefined {
    const { version } = deno();
    if (!atLeast(version.deno, DENO_LEAST)) {
      return `this is Deno ${version.deno}, expected 2.7.12 or newer`;
    }
    // A grant for one path says "prompt" here, and cannot map memory.
    if (!granted("ffi")) {
      return "FFI is not granted, expected --allow-ffi without a path";
    }
    return undefined;
  },

  open(): Libc {
    const table = { ...LIBC_SYMBOLS, ...STATX_SYMBOLS };
    const symbols = deno().dlopen(LIBC_NAME, table)
      .symbols as LibcSymbols & { readonly statx: Statx | null };
    const { statx } = symbols;
    const unmap = new UnmapRegistry(symbols);
    const errno = new Int32Array(view(symbols.__errno_location(), 4));
    return {
      symbols,
      looks: statx === null ? looks : { ...looks, into: lookIntoBy(statx) },
      errno: (): number => errno[0],
      own: (address: bigint, bytes: number): ArrayBuffer =>
        unmap.watch(view(address, bytes), address, BigInt(bytes)),
    };
  },

  openBackground(): BackgroundCalls {
    const table: Record<string, unknown> = {};
    for (const [name, symbol] of Object.entries(BACKGROUND_SYMBOLS)) {
      table[name] = { ...symbol, nonblocking: true };
    }
    const symbols = deno().dlopen(LIBC_NAME, table)
      .symbols as BackgroundSymbols;
    return {
      fallocate: (fd, bytes) => symbols.fallocate(fd, 0, 0n, bytes),
      madvise: (address, bytes, advice) =>
        symbols.madvise(address, bytes, advice),
      // The threads are Deno's own.
      ready: true,
      broken: false,
      use: (): void => {},
      leave: (): void => {},
    };
  },

  get tryFlock(): TryFlock | undefined {
    return "tryLockSync" in deno().FsFile.prototype ? tryFlock : undefined;
  },

  looks,

  mayRead(path: string): boolean {
    return granted("read", path);
  },

  mayInspect(): boolean {
    // Deno opens /proc for nobody but --allow-all, and asks otherwise.
    return EVERY_PERMISSION.every((name) => granted(name));
  },
};

function deno(): DenoGlobal {
  return (globalThis as unknown as { Deno: DenoGlobal }).Deno;
}

function granted(name: string, path?: string): boolean {
  const descriptor = path === undefined ? { name } : { name, path };
  return deno().permissions.querySync(descriptor).state === "granted";
}

function view(address: bigint, bytes: number): ArrayBuffer {
  const { UnsafePointer, UnsafePointerView } = deno();
  return UnsafePointerView.getArrayBuffer(UnsafePointer.create(address), bytes);
}

/** Deno locks its own files only, so the same file is opened once more. */
function tryFlock(fd: number, path: string): (() => void) | undefined {
  const file = deno().openSync(path, { read: true, write: true });
  let locked = false;
  try {
    const own = file.statSync();
    const asked = fstatSync(fd);
    // Another file by now: whoever put it there is the other writer.
    const same = own.dev === asked.dev && own.ino === asked.ino;
    locked = same && file.tryLockSync(true);
  } finally {
    if (!locked) file.close();
  }
  return locked ? () => file.close() : undefined;
}
