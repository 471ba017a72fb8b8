/**
 * What can be aimed at, and how it fails: the calls of the port, the errors
 * that they may end with, and the throw that is a crash.
 *
 * @module
 */

import { StorageError } from "../src/errors.ts";

/** What a hook or a rule can aim at. */
export type Operation =
  | "openDirectory"
  | "list"
  | "create"
  | "open"
  | "rename"
  | "remove"
  | "makeFolder"
  | "directorySync"
  | "lock"
  | "read"
  | "write"
  | "map"
  | "sync"
  | "syncSoon"
  | "punchHole"
  | "dropCache";

/** One call of the port, about to happen; `count` begins at 1. */
export interface PortCall {
  readonly operation: Operation;
  readonly name: string;
  readonly count: number;
}

/** Which calls of an operation fail. */
export interface FailOptions {
  /** How many fail. @default {1} */
  readonly count?: number;
  /** How many pass before. @default {0} */
  readonly after?: number;
  /** Only calls whose path ends so. */
  readonly name?: string;
}

/** The power is off or the process dead: the workload must not go on. */
export class CrashNow extends Error {
  override readonly name = "CrashNow";
}

/** The error of a system that refused. */
export function failure(
  operation: string,
  path: string,
  code: string,
): StorageError {
  const detail = { operation, path, systemCode: code };
  return new StorageError(`Cannot ${operation} "${path}": ${code}`, detail);
}
