/**
 * A running `_children/hostile_child.ts`: it may be lost to a log that is
 * waited for, the tests may not.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { THIS } from "./_storages.ts";

const SCRIPT = join(import.meta.dirname!, "_children", "hostile_child.ts");

/** Generous: only what waits for ever takes so long. */
const HANG_MS = 120_000;

/** One child of this runtime. */
export class HostileProcess implements AsyncDisposable {
  readonly #child: ReturnType<typeof spawn>;
  readonly #ended: Promise<string>;
  #answer: ((line: string) => void) | undefined;

  /** `before` is what its command begins with, as `setpriv …`. */
  constructor(
    kind: "mapped" | "files",
    before: readonly string[] = [],
    environment: Record<string, string> = {},
  ) {
    const command = [...before, THIS.path, ...THIS.args, SCRIPT, kind];
    const child = spawn(command[0]!, command.slice(1), {
      stdio: ["pipe", "pipe", "inherit"],
      cwd: "/",
      env: { ...process.env, NO_COLOR: "1", ...environment },
    });
    this.#child = child;
    child.stdin!.on("error", () => {});
    const output = createInterface({ input: child.stdout! });
    output.on("line", (line) => {
      if (line.startsWith("= ")) this.#answer?.(JSON.parse(line.slice(2)));
    });
    this.#ended = new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => resolve(`${code ?? signal}`));
    });
  }

  /** Has it use a log, and says what came of it. */
  async ask(verb: string, path: string): Promise<string> {
    const answer = new Promise<string>((resolve) => this.#answer = resolve);
    this.#child.stdin!.write(`${verb} ${JSON.stringify(path)}\n`);
    let timer;
    const hangs = new Promise<string>((resolve) => {
      timer = setTimeout(() => {
        this.#child.kill("SIGKILL");
        resolve(`BUG - it waits for ever: ${verb}`);
      }, HANG_MS);
    });
    const died = this.#ended.then((how) => `BUG - it ended by ${how}: ${verb}`);
    try {
      return await Promise.race([answer, hangs, died]);
    } finally {
      clearTimeout(timer);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin!.end();
    await this.#ended;
  }
}
