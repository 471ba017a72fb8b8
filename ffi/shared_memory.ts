/**
 * Memory for many small copies, in Deno and Node.
 *
 * V8 gives every array above 64 bytes an allocation of its own: 250 to 650
 * ns, against 50 to 130 for a piece of a larger one. Transferring such a
 * piece would take the others along, so the memory is marked untransferable.
 * JavaScriptCore makes small arrays as fast and cannot refuse `transfer()`.
 *
 * @module
 */

import { versions } from "node:process";
import { markAsUntransferable } from "node:worker_threads";

/** Untransferable memory; `undefined` on Bun. */
export function sharedMemory(
  bytes: number,
): Uint8Array<ArrayBuffer> | undefined {
  if (versions.bun !== undefined) return undefined;
  const memory = new Uint8Array(bytes);
  markAsUntransferable(memory.buffer);
  return memory;
}
