/**
 * The backend for Node.
 *
 * `node:ffi` is there since 26.1 and prints an ExperimentalWarning when it is
 * loaded, so it is asked for only when called.
 *
 * @module
 */

import process from "node:process";
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
import { UnmapRegistry } from "./unmap.ts";

interface NodeFfi {
  dlopen(path: string, symbols: unknown): { readonly functions: unknown };
  /** Without a copy, the buffer is the memory itself. */
  toArrayBuffer(address: bigint, bytes: number, copy: boolean): ArrayBuffer;
}

interface NodePermission {
  has(scope: string): boolean;
}

/** Node's way to libc. */
export const nodeBackend: Backend = {
  missing(): string | undefined {
    const { permission } = process as unknown as {
      permission?: NodePermission;
    };
    // Under --permission loading would succeed and dlopen throw.
    if (permission !== undefined && !permission.has("ffi")) {
      return "FFI is not permitted, expected --allow-ffi";
    }
    if (!("getBuiltinModule" in process) || nodeFfi() === undefined) {
      const { version } = process;
      return `Node ${version} runs without node:ffi, expected 26.1 or newer`;
    }
    return undefined;
  },

  open(): Libc {
    const ffi = nodeFfi() as NodeFfi;
    const symbols = ffi.dlopen(LIBC_NAME, tableOf(LIBC_SYMBOLS))
      .functions as LibcSymbols;
    const unmap = new UnmapRegistry(symbols);
    const location = symbols.__errno_location();
    const errno = new Int32Array(ffi.toArrayBuffer(location, 4, false));
    return {
      symbols,
      looks: plainLooks,
      errno: (): number => errno[0],
      own(address: bigint, bytes: number): ArrayBuffer {
        const memory = ffi.toArrayBuffer(address, bytes, false);
        return unmap.watch(memory, address, BigInt(bytes));
      },
    };
  },

  openBackground(): BackgroundCalls {
    const table = tableOf(BACKGROUND_SYMBOLS);
    return new CallThread({
      module: "node:ffi",
      functions: "functions",
      table,
    });
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

function nodeFfi(): NodeFfi | undefined {
  return process.getBuiltinModule("node:ffi") as unknown as NodeFfi | undefined;
}

/** A table in Node's words. */
function tableOf(
  functions: Record<string, NativeFunction>,
): Record<string, unknown> {
  const table: Record<string, unknown> = {};
  for (const [name, { parameters, result }] of Object.entries(functions)) {
    table[name] = { arguments: parameters, return: result };
  }
  return table;
}
