/**
 * A running `_children/ledger_child.ts` that is told line by line what to do.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { assert } from "./_assert.ts";
import type { Ledger } from "./_ledger.ts";
import type { Runtime } from "./_storages.ts";

const SCRIPT = join(import.meta.dirname!, "_children", "ledger_child.ts");

/** How a process ended: its exit code, or the signal that ended it. */
export type Ending = number | string;

/** One child; what it reports goes into a ledger. */
export class LedgerProcess implements Disposable {
  /** Settles when it is gone and all that it said was read. */
  readonly ended: Promise<Ending>;
  readonly #child: ReturnType<typeof spawn>;
  readonly #ledger: Ledger;
  #lines: string[] = [];
  #done: (() => void) | undefined;
  #broken: unknown;

  /** Starts it; it opens nothing before it is told to. */
  constructor(
    ledger: Ledger,
    runtime: Runtime,
    kind: "mapped" | "files",
    path: string,
    options: object,
  ) {
    ledger.nextChild();
    this.#ledger = ledger;
    const args = [...runtime.args, SCRIPT, kind, path, JSON.stringify(options)];
    const child = spawn(runtime.path, args, {
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#child = child;
    child.stdin!.on("error", () => {});
    const output = createInterface({ input: child.stdout! });
    output.on("line", (line) => this.#hear(line));
    this.ended = Promise.all([
      new Promise<Ending>((resolve) =>
        child.once("exit", (code, signal) => resolve(code ?? signal!))
      ),
      new Promise((resolve) => output.once("close", resolve)),
    ]).then(([ending]) => {
      this.#done?.();
      return ending;
    });
  }

  #hear(line: string): void {
    this.#lines.push(line);
    try {
      this.#ledger.feed(line);
    } catch (error) {
      this.#broken ??= error;
    }
    if (line === "done") this.#done?.();
  }

  /** Has it do one line, to its end; what it reported of it. */
  async tell(line: string): Promise<readonly string[]> {
    this.#lines = [];
    const done = new Promise<void>((resolve) => this.#done = resolve);
    this.#child.stdin!.write(line + "\n");
    await done;
    this.#check();
    const said = this.#lines;
    if (said.at(-1) !== "done") {
      throw new Error(`"${line}" ended the process: ${await this.ended}`);
    }
    return said;
  }

  #check(): void {
    if (this.#broken !== undefined) throw this.#broken;
  }

  /** Lets it go; it has closed the log, or not. */
  async end(): Promise<void> {
    this.#child.stdin!.end();
    const ending = await this.ended;
    this.#check();
    assert(ending === 0, `the process ended by ${ending}`);
  }

  /** Kills it where it stands. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.ended;
    this.#check();
  }

  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
  }
}
