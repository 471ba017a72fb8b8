/**
 * What can be aimed at, and how it fails: the calls of the port, the errors
 * that they may end with, and the throw that is a crash.
 *
 * @module
 */

import { StorageError } from "../src/errors.ts";
import {
  checkCode,
  checkObject,
  checkText,
  checkWhole,
  checkWord,
  show,
} from "./checks.ts";

/**
 * The calls that a log makes: what a hook sees and a fault aims at. `sync` and
 * `syncSoon` are of files, the one blocks and the other does not;
 * `directorySync` is both of them for the names in a folder.
 */
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

const OPERATIONS: readonly Operation[] = [
  "openDirectory",
  "list",
  "create",
  "open",
  "rename",
  "remove",
  "makeFolder",
  "directorySync",
  "lock",
  "read",
  "write",
  "map",
  "sync",
  "syncSoon",
  "punchHole",
  "dropCache",
];

/** One call of a log, about to happen. */
export interface PortCall {
  /** What is asked of the disk. */
  readonly operation: Operation;
  /** The path of the file or folder. */
  readonly name: string;
  /** Which call of this disk it is, from 1. */
  readonly count: number;
}

/** Which calls of an operation fail. */
export interface FailOptions {
  /** How many fail one after the other; `Infinity` is all. @default {1} */
  readonly count?: number | undefined;
  /** How many pass before the first that fails. @default {0} */
  readonly after?: number | undefined;
  /** Only calls whose path ends so; the others are not counted. */
  readonly name?: string | undefined;
}

/** Which files the kernel fails to write back. */
export interface WritebackFailure {
  /** What the next syncs of such a file report. @default {"EIO"} */
  readonly code?: string | undefined;
  /** Only files whose path ends so. */
  readonly name?: string | undefined;
}

/**
 * The power is off or the process dead: the program must not go on. A hook
 * of `onCall` throws it, and so do calls on a dead disk; but what a dead
 * program awaits never ends.
 *
 * @example Die at the third call
 * ```ts
 * import { openWalSync } from "@walrus/wal";
 * import { CrashNow, simulatedStorage } from "@walrus/wal/testing";
 *
 * const storage = simulatedStorage();
 * storage.onCall(({ count }) => {
 *   if (count === 3) throw new CrashNow("the plug was pulled");
 * });
 * try {
 *   openWalSync("log", { storage });
 * } catch (error) {
 *   console.log(error instanceof CrashNow, storage.dead); // true true
 * }
 * ```
 */
export class CrashNow extends Error {
  /** The class's name. */
  override readonly name = "CrashNow";
}

/** A fault that waits for its call. */
export class Rule {
  readonly #operation: Operation | "any";
  readonly #code: string;
  readonly #name: string;
  #count: number;
  #after: number;

  constructor(
    operation: Operation | "any",
    code: string,
    options: FailOptions,
  ) {
    const doing = "let calls fail";
    checkObject(doing, options, ["count", "after", "name"]);
    if (operation === undefined) {
      throw new TypeError(`Cannot ${doing}: operation is ${show(operation)}`);
    }
    checkWord(doing, "operation", operation, [...OPERATIONS, "any"]);
    checkCode(doing, code);
    checkWhole(doing, "count", options.count, 1, Infinity);
    checkWhole(doing, "after", options.after, 0);
    checkText(doing, "name", options.name);
    this.#operation = operation;
    this.#code = code;
    this.#name = options.name ?? "";
    this.#count = options.count ?? 1;
    this.#after = options.after ?? 0;
  }

  /** The fault of this call, if it is its turn. */
  meet(operation: Operation, path: string): StorageError | undefined {
    const aimed = this.#operation === "any" || this.#operation === operation;
    if (!aimed || !path.endsWith(this.#name) || this.#count === 0) {
      return undefined;
    }
    if (this.#after-- > 0) return undefined;
    this.#count--;
    return failure(operation, path, this.#code);
  }
}

/** Throws unless they name files and an error. */
export function checkWritebackFailure(options: WritebackFailure): void {
  const doing = "let writeback fail";
  checkObject(doing, options, ["code", "name"]);
  checkText(doing, "name", options.name);
  if (options.code !== undefined) checkCode(doing, options.code);
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
