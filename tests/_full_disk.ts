/**
 * A small disk that can be full: a tmpfs in a mount namespace of its own, so
 * that no crash of a test leaves anything mounted.
 *
 * @module
 */
import { spawn, spawnSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { temporaryFolder } from "./_storages.ts";

/** `$0` is where, `$1` how large; it goes when its input ends. */
const HOLD = 'mount -t tmpfs -o "size=$1" none "$0" && echo ready && exec cat';
const NAMESPACE = ["--mount", "--propagation", "private"];

/** A page of the file system: the least that a file takes. */
export const PAGE_BYTES = 4096;

/** Why there is no such disk here; false where there is. */
export function whyNoSmallDisk(): string | false {
  if (process.platform !== "linux") return "needs Linux";
  if (process.getuid?.() !== 0) return "needs root, to mount a small disk";
  using folder = temporaryFolder();
  const probe = spawnSync(
    "unshare",
    [...NAMESPACE, "sh", "-c", HOLD, folder.path, "64k"],
    { encoding: "utf8", input: "" },
  );
  if (probe.status === 0) return false;
  const why = probe.error?.message ?? probe.stderr.trim().split("\n")[0];
  return `cannot mount a small disk: ${why}`;
}

/** A disk with little room. */
export class SmallDisk implements AsyncDisposable {
  /** Where every process sees it, whatever namespace it is in. */
  readonly path: string;
  readonly #release: () => Promise<void>;

  private constructor(path: string, release: () => Promise<void>) {
    this.path = path;
    this.#release = release;
  }

  /** Makes one. */
  static async make(bytes: number): Promise<SmallDisk> {
    const folder = temporaryFolder();
    const args = [...NAMESPACE, "sh", "-c", HOLD, folder.path, String(bytes)];
    const holder = spawn("unshare", args, {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const gone = new Promise<void>((resolve) => holder.once("exit", resolve));
    const output = createInterface({ input: holder.stdout! });
    await new Promise<void>((resolve, reject) => {
      output.once("line", () => resolve());
      holder.once("exit", () => reject(new Error("The disk is gone")));
    });
    return new SmallDisk(
      `/proc/${holder.pid}/root${folder.path}`,
      async () => {
        holder.stdin!.end();
        await gone;
        folder[Symbol.dispose]();
      },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#release();
  }
}

/** Files that only take space. */
export class Ballast {
  readonly #folder: string;
  readonly #prefix: string;
  readonly #names: string[] = [];
  #count = 0;

  /** Takes no space yet. */
  constructor(folder: string, prefix = "ballast") {
    this.#folder = folder;
    this.#prefix = prefix;
  }

  /** Takes so much, or all there is; in pieces that are freed one by one. */
  take(bytes: number, pieceBytes: number): void {
    for (let taken = 0; taken < bytes; taken += pieceBytes) {
      const name = join(this.#folder, `${this.#prefix}${this.#count++}`);
      this.#names.push(name);
      try {
        writeFileSync(name, new Uint8Array(pieceBytes));
      } catch (error) {
        const { code } = error as { code?: string };
        if (code !== "ENOSPC") throw error;
        if (pieceBytes <= PAGE_BYTES) return this.free(1);
        // What is left, page by page.
        this.free(1);
        return this.take(Infinity, PAGE_BYTES);
      }
    }
  }

  /** Frees the last pieces; all of them without a count. */
  free(count: number = this.#names.length): void {
    const from = Math.max(0, this.#names.length - count);
    for (const name of this.#names.splice(from)) rmSync(name);
  }
}
