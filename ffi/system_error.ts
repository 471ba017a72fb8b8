/**
 * What the system says, as `StorageError`.
 *
 * @module
 */

import { constants } from "node:os";
import { StorageError, WalError } from "../src/errors.ts";
import { AssertionError } from "../src/assert.ts";

/** What was tried: `Cannot <operation> <object> "<path>"`. */
export interface Attempt {
  /** The verb, such as "open". */
  readonly operation: string;
  /** The noun: "file" or "folder". */
  readonly object: string;
  /** The name that the caller knows it by. */
  readonly path: string;
}

/** What a code means, and what was expected instead. */
const MEANINGS: Readonly<Record<string, readonly [string, string]>> = {
  EACCES: ["permission denied", "permission for this process"],
  EDQUOT: ["the disk quota is used up", "enough free space"],
  EEXIST: ["the name is taken", "a new name"],
  EFBIG: ["the file would be too large", "a size the file system can hold"],
  EINVAL: ["the system finds it invalid", "a range inside the file"],
  EIO: ["the device failed", "a working device"],
  EISDIR: ["found a folder", "a regular file"],
  ELOOP: ["found a symbolic link", "a regular file"],
  EMFILE: ["this process has too many open files", "a higher limit"],
  ENAMETOOLONG: ["the name is too long", "a shorter one"],
  ENFILE: ["the system has too many open files", "a higher limit"],
  ENODEV: ["its file system cannot map files", "filesStorage()"],
  ENOENT: ["nothing is there", "an existing file or folder"],
  ENOMEM: ["no memory or address space left", "more of it"],
  ENOSPC: ["no space left on the device", "enough free space"],
  ENOTDIR: ["a part of the path is not a folder", "a folder"],
  ENXIO: ["found a device or socket", "a regular file"],
  EPERM: ["the system does not permit it", "permission for this process"],
  EROFS: ["the file system is read-only", "a writable one"],
};

/** A failed C function, for `cause`. */
export class SystemCallError extends Error {
  /** The class's name. */
  override readonly name = "SystemCallError";
  /** The system's name of the error. */
  readonly code: string;

  /** `errno` is the number that the function left. */
  constructor(call: string, errno: number) {
    const code = errnoName(errno);
    super(`${call}: ${code}`);
    this.code = code;
  }
}

/**
 * Wraps what a call threw. Mistakes of this library and errors that are
 * wrapped already come back as they are.
 */
export function systemError(attempt: Attempt, cause: unknown): Error {
  if (isMistake(cause)) return cause;
  const code = systemCode(cause);
  const text = cause instanceof Error ? cause.message : String(cause);
  const [found, expected] = isRuntimeRefusal(cause)
    ? ["the runtime does not permit it", `a grant: ${text}`]
    : MEANINGS[code ?? ""] ?? [text, "the system to do it"];
  const named = code === undefined ? found : `${found} (${code})`;
  return storageError(attempt, named, expected, code, cause);
}

/** The error of something that is not what it must be. */
export function storageError(
  attempt: Attempt,
  found: string,
  expected: string,
  code: string | undefined,
  cause?: unknown,
): StorageError {
  const { operation, object, path } = attempt;
  const tried = `Cannot ${operation} ${object} "${path}"`;
  return new StorageError(
    `${tried}: ${found}, expected ${expected}`,
    { operation, path, systemCode: code },
    cause === undefined ? undefined : { cause },
  );
}

/** The system's name of what a call threw, if the system threw it. */
export function systemCode(cause: unknown): string | undefined {
  if (isRuntimeRefusal(cause)) return "EACCES";
  const { code, message } = Object(cause) as Partial<
    { code: unknown; message: string }
  >;
  if (typeof code === "string" && /^E[A-Z0-9]+$/.test(code)) return code;
  // Deno gives some errors no code: "File too large (os error 27)".
  const errno = /\(os error (\d+)\)/.exec(message ?? "")?.[1];
  return errno === undefined ? undefined : errnoName(Number(errno));
}

/** Deno, or Node under `--permission`, refused in the system's place. */
function isRuntimeRefusal(cause: unknown): boolean {
  const { name, code } = Object(cause) as { name?: string; code?: string };
  return name === "NotCapable" || code === "ERR_ACCESS_DENIED";
}

/** "ENOSPC" for 28. */
function errnoName(errno: number): string {
  for (const [name, value] of Object.entries(constants.errno)) {
    if (value === errno) return name;
  }
  return `errno ${errno}`;
}

function isMistake(cause: unknown): cause is Error {
  return cause instanceof WalError || cause instanceof AssertionError ||
    cause instanceof TypeError || cause instanceof RangeError;
}
