/**
 * ^C and its like, for commands that end well when they are interrupted.
 *
 * @module
 */

import process from "node:process";

const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

/** The first signal ends the work, a second one the process. */
export class Interrupt {
  /** 0 until a signal came. */
  exitCode = 0;
  readonly #aborting = new AbortController();
  readonly #handlers = Object.entries(SIGNALS).map(([name, code]) => {
    const handler = () => {
      this.exitCode = code;
      this.#aborting.abort();
    };
    process.once(name, handler);
    return [name, handler] as const;
  });

  /** Aborted when a signal came. */
  get signal(): AbortSignal {
    return this.#aborting.signal;
  }

  /** From now on signals end the process, as without this. */
  ignore(): void {
    for (const [name, handler] of this.#handlers) process.off(name, handler);
  }
}
