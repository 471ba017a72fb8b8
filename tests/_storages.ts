/**
 * The storages of this runtime, and other processes to share a folder with.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import {
  defaultStorage,
  filesStorage,
  mappedStorage,
  memoryStorage,
} from "../ffi/mod.ts";
import type { StoragePort } from "../src/storage.ts";
import { SimulatedStorage } from "../testing/mod.ts";

/** One storage that the contract suite runs on. */
export interface StorageCase {
  readonly kind: "mapped" | "files" | "memory" | "simulated";
  /** Folders are the system's, and other processes see them. */
  readonly real: boolean;
  make(): StoragePort;
}

/** Whether FFI is to be had here. */
export const HAS_FFI: boolean = defaultStorage().kind === "mapped";

/** All storages of this runtime. */
export const STORAGES: readonly StorageCase[] = [
  ...(HAS_FFI
    ? [{ kind: "mapped", real: true, make: mappedStorage } as const]
    : []),
  { kind: "files", real: true, make: filesStorage },
  { kind: "memory", real: false, make: memoryStorage },
  {
    kind: "simulated",
    real: false,
    make: () =>
      new SimulatedStorage({ seed: 1, autoSettle: true, writeback: 0 }),
  },
];

/** A folder of its own for a test; `using` removes it. */
export interface TemporaryFolder extends Disposable {
  readonly path: string;
}

/** Makes a folder in the system's place for temporary ones. */
export function temporaryFolder(): TemporaryFolder {
  const path = mkdtempSync(join(tmpdir(), "walrus-"));
  return {
    path,
    [Symbol.dispose](): void {
      rmSync(path, { recursive: true, force: true });
    },
  };
}

/** A runtime to start other processes with. */
export interface Runtime {
  readonly name: "deno" | "bun" | "node";
  readonly path: string;
  /** What comes before the script. */
  readonly args: readonly string[];
}

/** The name of this runtime. */
export const THIS_RUNTIME: Runtime["name"] = "Deno" in globalThis
  ? "deno"
  : process.versions.bun === undefined
  ? "node"
  : "bun";

const RUNTIME_ARGS: Record<Runtime["name"], readonly string[]> = {
  deno: ["run", "-A", "--no-check"],
  bun: [],
  node: ["--disable-warning=ExperimentalWarning"],
};

/** The runtimes that `WALRUS_DENO`, …_BUN, …_NODE name, and this one. */
export const RUNTIMES: readonly Runtime[] = (["deno", "bun", "node"] as const)
  .flatMap((name) => {
    const given = process.env[`WALRUS_${name.toUpperCase()}`];
    const path = given ?? (name === THIS_RUNTIME ? process.execPath : "");
    return path === "" ? [] : [{ name, path, args: RUNTIME_ARGS[name] }];
  });

/** This runtime, for children. */
export const THIS: Runtime = RUNTIMES.find((runtime) =>
  runtime.name === THIS_RUNTIME
)!;

/** Another process that runs `_lock_child.ts`. */
export interface Child extends Disposable {
  readonly process: ChildProcess;
  /** Sends a command and gives the answer. */
  ask(command: string): Promise<string>;
  /** Ends it at once and waits until it is gone. */
  kill(): Promise<void>;
}

/** Starts `_lock_child.ts`. */
export function startChild(runtime: Runtime, ...args: string[]): Child {
  const script = join(import.meta.dirname!, "_lock_child.ts");
  const child = spawn(runtime.path, [...runtime.args, script, ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = new Promise<void>((resolve) => child.once("exit", resolve));
  const answers: string[] = [];
  const waiting: ((answer: string) => void)[] = [];
  const answer = (line: string): void => {
    const next = waiting.shift();
    if (next === undefined) answers.push(line);
    else next(line);
  };
  createInterface({ input: child.stdout! }).on("line", answer);
  ended.then(() => waiting.splice(0).forEach((next) => next("ended")));
  return {
    process: child,
    ask(command: string): Promise<string> {
      child.stdin!.write(command + "\n");
      const ready = answers.shift();
      if (ready !== undefined) return Promise.resolve(ready);
      return new Promise((resolve) => waiting.push(resolve));
    },
    async kill(): Promise<void> {
      child.kill("SIGKILL");
      await ended;
    },
    [Symbol.dispose](): void {
      child.kill("SIGKILL");
    },
  };
}
