/**
 * A storage that tells of each call made through it, before the call, and
 * whose user can die while others go on using what lies below.
 *
 * @module
 */

import type { Clock, StorageLock, StoragePort } from "../src/storage.ts";

/** One call of the storage that is about to be made. */
export interface TappedCall {
  /** The method's name. */
  readonly operation: string;
  /** The file or folder; empty for the storage itself. */
  readonly name: string;
  /** From 1. */
  readonly count: number;
  /** What is written, in a call of `writeAt`. */
  readonly bytes: Uint8Array<ArrayBuffer> | undefined;
}

/** Thrown out of a program that has died. */
export class Death extends Error {
  override readonly name = "Death";
}

/** What a hook may ask for: the call is made, or the caller dies. */
export type TapAnswer = undefined | {
  /** How many bytes of a write still get through. */
  readonly dieAfterBytes: number;
};

/** Calls that are told; all others pass. */
const TOLD = new Set([
  "openDirectory",
  "list",
  "create",
  "open",
  "rename",
  "remove",
  "makeFolder",
  "syncFolder",
  "sync",
  "syncSoon",
  "lock",
  "verify",
  "readAt",
  "writeAt",
  "map",
  "mapForGood",
  "punchHole",
]);

// deno-lint-ignore no-explicit-any
type Method = (...args: any[]) => unknown;

/** One user's way into a storage that others use, too. */
export class Tap {
  /** Give it to `openWal` or `openReader`. */
  readonly port: StoragePort;
  calls = 0;
  hook: ((call: TappedCall) => TapAnswer) | undefined;
  #dead = false;
  #telling = false;
  readonly #locks = new Set<StorageLock>();

  constructor(base: StoragePort) {
    this.port = this.#wrap(base, "") as StoragePort;
  }

  /** `kill -9`: every later call throws; the locks are free. */
  die(): void {
    this.#dead = true;
    for (const lock of this.#locks) lock.release();
    this.#locks.clear();
  }

  #wrap(target: object, name: string): object {
    return new Proxy(target, {
      get: (_, key) => {
        const value = (target as Record<string | symbol, unknown>)[key];
        if (key === "clock") return this.#wrapClock(value as Clock);
        if (typeof value !== "function") return value;
        return (...args: unknown[]) =>
          this.#call(target, value as Method, String(key), name, args);
      },
    });
  }

  /** Nothing falls due for the dead. */
  #wrapClock(clock: Clock): Clock {
    return {
      nowMs: () => clock.nowMs(),
      monotonicNs: () => clock.monotonicNs(),
      every: (ms, action) => clock.every(ms, () => this.#dead || action()),
      keepAlive: () => clock.keepAlive(),
    };
  }

  #call(
    target: object,
    method: Method,
    operation: string,
    name: string,
    args: unknown[],
  ): unknown {
    if (this.#dead) {
      // What frees things must never throw.
      if (!TOLD.has(operation)) return undefined;
      throw new Death(`${operation} of a dead program`);
    }
    const named = typeof args[0] === "string" ? args[0] : name;
    if (TOLD.has(operation)) this.#tell(target, method, operation, named, args);
    const result = method.apply(target, args);
    return this.#wrapResult(target, operation, named, result);
  }

  #tell(
    target: object,
    method: Method,
    operation: string,
    name: string,
    args: unknown[],
  ): void {
    this.calls++;
    if (this.hook === undefined || this.#telling) return;
    this.#telling = true;
    const bytes = operation === "writeAt" ? args[0] as Uint8Array : undefined;
    const call = { operation, name, count: this.calls, bytes };
    try {
      const answer = this.hook(call as TappedCall);
      if (answer === undefined) return;
      const { dieAfterBytes } = answer;
      if (bytes !== undefined && dieAfterBytes > 0) {
        const part = bytes.subarray(0, Math.min(bytes.length, dieAfterBytes));
        method.apply(target, [part, args[1]]);
      }
      this.die();
      throw new Death(`killed in ${operation} of "${name}"`);
    } finally {
      this.#telling = false;
    }
  }

  #wrapResult(
    target: object,
    operation: string,
    name: string,
    result: unknown,
  ): unknown {
    switch (operation) {
      case "openDirectory":
      case "create":
      case "open":
        return result && this.#wrap(result as object, name);
      case "lock":
        this.#locks.add(result as StorageLock);
        return this.#wrap(result as StorageLock, name);
      case "release":
        this.#locks.delete(target as StorageLock);
        return result;
      default:
        return result;
    }
  }
}
