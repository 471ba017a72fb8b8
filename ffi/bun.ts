/**
 * The backend for Bun.
 *
 * `bun:ffi` is asked for only when called: a static import of it would break
 * Deno and Node at load.
 *
 * @module
 */

import process from "node:process";
import { markAsUntransferable } from "node:worker_threads";
import { CallThread } from "./call_thread.ts";
import { plainLooks } from "./looks.ts";
import type { Backend, BackgroundCalls, Libc } from "./types.ts";
import {
  BACKGROUND_SYMBOLS,
  LIBC_NAME,
  LIBC_SYMBOLS,
  type LibcSymbols,
  type NativeFunction,
} from "./symbols.ts";
import { atLeast } from "./version.ts";

/** Before it, opening a library in two workers at once crashed. */
const BUN_LEAST = [1, 4, 0];

interface BunFfi {
  dlopen(path: string, symbols: unknown): { readonly symbols: unknown };
  /** With `destructor`, C calls `destructor(address, context)` at the end. */
  toArrayBuffer(
    address: number,
    offset: number,
    bytes: number,
    context?: number,
    destructor?: unknown,
  ): ArrayBuffer;
}

/** Bun's way to libc. */
export const bunBackend: Backend = {
  missing(): string | undefined {
    const version = process.versions.bun ?? "";
    if (!atLeast(version, BUN_LEAST)) {
      return `this is Bun ${version}, expected 1.4.0 or newer`;
    }
    return undefined;
  },

  open(): Libc {
    const ffi = process.getBuiltinModule("bun:ffi") as unknown as BunFfi;
    const symbols = ffi.dlopen(LIBC_NAME, tableOf(LIBC_SYMBOLS))
      .symbols as LibcSymbols;
    const location = Number(symbols.__errno_location());
    const errno = new Int32Array(ffi.toArrayBuffer(location, 0, 4));
    // munmap(address, bytes) has just the shape of a destructor, and Bun runs
    // it when the memory dies, even after a transfer.
    const munmap = (symbols.munmap as unknown as { ptr: unknown }).ptr;
    return {
      symbols,
      looks: plainLooks,
      errno: (): number => errno[0],
      own(address: bigint, bytes: number): ArrayBuffer {
        const start = Number(address);
        const memory = ffi.toArrayBuffer(start, 0, bytes, bytes, munmap);
        markAsUntransferable(memory);
        return memory;
      },
    };
  },

  openBackground(): BackgroundCalls {
    const table = tableOf(BACKGROUND_SYMBOLS);
    return new CallThread({ module: "bun:ffi", functions: "symbols", table });
  },

  tryFlock: undefined,

  looks: plainLooks,

  mayRead(): boolean {
    return true;
  },

  mayInspect(): boolean {
    return true;
  },
};

/** A table in Bun's words. */
function tableOf(
  functions: Record<string, NativeFunction>,
): Record<string, unknown> {
  const table: Record<string, unknown> = {};
  for (const [name, { parameters, result }] of Object.entries(functions)) {
    table[name] = { args: parameters, returns: result };
  }
  return table;
}
