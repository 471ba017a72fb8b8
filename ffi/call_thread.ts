/**
 * A thread that makes C calls for another one, where the runtime's FFI cannot
 * make them without waiting: Bun and Node.
 *
 * It is started by the first call, never keeps the process alive, and ends
 * with the last log that uses it. Where none can be started every call fails,
 * and the log does without: nothing depends on these calls but speed.
 *
 * @module
 */

import process from "node:process";
import { type MessagePort, Worker } from "node:worker_threads";
import type { BackgroundCalls } from "./types.ts";
import { type BackgroundName, LIBC_NAME } from "./symbols.ts";

/** Node warns of its FFI once already. Bun takes no flags here. */
const QUIET = process.versions.bun === undefined
  ? ["--disable-warning=ExperimentalWarning"]
  : [];

/** What a call that was not made returns. */
const FAILED = -1;

/** The part of the global `process` that the thread uses. */
interface ThreadProcess {
  getBuiltinModule(name: "node:worker_threads"): { parentPort: MessagePort };
  getBuiltinModule(name: ThreadFfi["module"]): {
    dlopen(
      name: string,
      table: unknown,
    ): Record<string, Record<string, (...values: unknown[]) => number>>;
  };
}

/** What the thread is asked: a call by its number. */
interface Asked {
  readonly id: number;
  readonly name: BackgroundName;
  readonly values: readonly (number | bigint)[];
}

/** How the thread opens the C library: the part that runtimes differ in. */
export interface ThreadFfi {
  /** The builtin module. */
  readonly module: "bun:ffi" | "node:ffi";
  /** The member of an opened library with its functions. */
  readonly functions: "symbols" | "functions";
  /** The functions in the runtime's own words. */
  readonly table: Record<string, unknown>;
}

/** Somebody who waits for an answer of a thread. */
interface Waiting {
  readonly worker: Worker;
  readonly resolve: (result: number) => void;
}

/** The thread, while there is one. */
export class CallThread implements BackgroundCalls {
  readonly #ffi: ThreadFfi;
  #worker: Worker | undefined;
  #broken = false;
  #users = 0;
  #lastId = 0;
  readonly #waiting = new Map<number, Waiting>();

  /** Nothing is started yet. */
  constructor(ffi: ThreadFfi) {
    this.#ffi = ffi;
  }

  /** See `BackgroundCalls`. */
  fallocate(fd: number, bytes: bigint): Promise<number> {
    return this.#call("fallocate", [fd, 0, 0n, bytes]);
  }

  /** See `BackgroundCalls`. */
  madvise(address: bigint, bytes: bigint, advice: number): Promise<number> {
    return this.#call("madvise", [address, bytes, advice]);
  }

  /** See `BackgroundCalls`. */
  get ready(): boolean {
    return this.#worker !== undefined;
  }

  /** See `BackgroundCalls`. */
  get broken(): boolean {
    return this.#broken;
  }

  /** See `BackgroundCalls`. */
  use(): void {
    this.#users++;
  }

  /** See `BackgroundCalls`. */
  leave(): void {
    this.#users--;
    if (this.#users > 0) return;
    const worker = this.#worker;
    this.#worker = undefined;
    // It ends by itself, after the calls that it was asked for.
    worker?.postMessage(undefined);
  }

  #call(name: Asked["name"], values: Asked["values"]): Promise<number> {
    return new Promise((resolve) => {
      const worker = this.#running();
      if (worker === undefined) return resolve(FAILED);
      const id = ++this.#lastId;
      this.#waiting.set(id, { worker, resolve });
      worker.postMessage({ id, name, values } satisfies Asked);
    });
  }

  #running(): Worker | undefined {
    if (this.#worker !== undefined || this.#broken) return this.#worker;
    // Nobody would end it.
    if (this.#users === 0) return undefined;
    try {
      const source = `(${serve})(${JSON.stringify(this.#ffi)}, "${LIBC_NAME}")`;
      const worker = new Worker(source, { eval: true, execArgv: QUIET });
      worker.on("message", ({ id, result }) => this.#answer(id, result));
      worker.on("error", () => this.#gone(worker));
      worker.on("exit", () => this.#gone(worker));
      // After the listeners: in Node a listener for messages takes hold of it.
      worker.unref();
      this.#worker = worker;
    } catch {
      this.#broken = true;
    }
    return this.#worker;
  }

  #answer(id: number, result: number): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    waiting?.resolve(result);
  }

  /** A thread has ended; one that nobody told to is not started again. */
  #gone(worker: Worker): void {
    if (worker === this.#worker) {
      this.#broken = true;
      this.#worker = undefined;
    }
    for (const [id, waiting] of [...this.#waiting]) {
      if (waiting.worker === worker) this.#answer(id, FAILED);
    }
  }
}

/**
 * What the thread runs. Its text is sent there, so it may name nothing of this
 * file: a module of its own would have to be found again, in whatever bundle,
 * and read, which Deno asks about.
 */
function serve(ffi: ThreadFfi, libc: string): void {
  const { process } = globalThis as unknown as { process: ThreadProcess };
  const { parentPort } = process.getBuiltinModule("node:worker_threads");
  const { dlopen } = process.getBuiltinModule(ffi.module);
  const functions = dlopen(libc, ffi.table)[ffi.functions];
  parentPort.on("message", (asked: Asked | undefined) => {
    if (asked === undefined) return parentPort.close();
    let result = -1;
    try {
      result = functions[asked.name](...asked.values);
    } catch {
      // The one who asked is told that it failed, and not how.
    }
    parentPort.postMessage({ id: asked.id, result });
  });
}
