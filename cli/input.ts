/**
 * Lines of standard input and of files, as bytes, in bounded memory.
 *
 * @module
 */

import { createReadStream, fstatSync, statSync } from "node:fs";
import process from "node:process";
import { InputError } from "./arguments.ts";

const CHUNK_BYTES = 256 * 1024;
const NEWLINE = 10;
const STANDARD_INPUT = 0;

/** Something with lines in it. */
export interface Input {
  /** What messages call it. */
  readonly name: string;
  /** Begins to read it. */
  open(): ChunkReader;
}

/** The inputs that the arguments name, all of which can be opened. */
export function inputsOf(names: readonly string[]): Input[] {
  const chosen = names.length === 0 ? ["-"] : names;
  return chosen.map((name) => {
    if (name === "-") {
      checkStandardInput();
      const open = () => new ChunkReader("standard input", process.stdin);
      return { name: "standard input", open };
    }
    const quoted = JSON.stringify(name);
    checkFile(name, quoted);
    const open = () => {
      const stream = createReadStream(name, { highWaterMark: CHUNK_BYTES });
      return new ChunkReader(quoted, stream);
    };
    return { name: quoted, open };
  });
}

/** The runtimes take a folder for an empty input, or fail later. */
function checkStandardInput(): void {
  const name = "standard input";
  let folder: boolean;
  try {
    folder = fstatSync(STANDARD_INPUT).isDirectory();
  } catch (error) {
    throw unreadable(name, error);
  }
  if (folder) throw new InputError(`Cannot read ${name}: it is a folder`);
}

function checkFile(path: string, quoted: string): void {
  let folder: boolean;
  try {
    folder = statSync(path).isDirectory();
  } catch (error) {
    throw unreadable(quoted, error);
  }
  if (folder) throw new InputError(`Cannot read ${quoted}: it is a folder`);
}

function unreadable(name: string, error: unknown): InputError {
  const { code } = error as { code?: string };
  const reasons: Record<string, string> = {
    EACCES: "permission denied",
    ENOENT: "there is no such file",
    EBADF: "it is closed",
    EISDIR: "it is a folder",
  };
  const reason = reasons[code ?? ""] ?? (error as Error).message;
  return new InputError(`Cannot read ${name}: ${reason}`);
}

/** Takes chunks off a stream one by one, and can be stopped while it waits. */
export class ChunkReader {
  readonly #stream: NodeJS.ReadableStream;
  readonly #ready: Uint8Array[] = [];
  #ended = false;
  #failure: InputError | undefined;
  #wake: (() => void) | undefined;

  /** Reads `stream`, which errors call `name`. */
  constructor(name: string, stream: NodeJS.ReadableStream) {
    this.#stream = stream;
    const wake = () => this.#wake?.();
    stream.on("data", (chunk: Uint8Array) => {
      this.#ready.push(chunk);
      stream.pause();
      wake();
    });
    stream.on("end", () => {
      this.#ended = true;
      wake();
    });
    stream.on("close", () => {
      this.#ended = true;
      wake();
    });
    stream.on("error", (error: unknown) => {
      this.#failure ??= unreadable(name, error);
      wake();
    });
  }

  /** The next chunk; undefined at the end, or when it was stopped. */
  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      const chunk = this.#ready.shift();
      if (chunk !== undefined) return chunk;
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        this.#stream.resume();
      });
      this.#wake = undefined;
    }
  }

  /** Lets `next` end now. */
  stop(): void {
    this.#ended = true;
    this.#ready.length = 0;
    this.#stream.pause();
    this.#wake?.();
  }
}

/** Cuts chunks into lines; keeps what has no end yet. */
export class LineSplitter {
  /** Lines given out so far. */
  lineCount = 0;
  readonly #bytesMax: number;
  #pieces: Uint8Array[] = [];
  #pieceBytes = 0;

  /** A splitter that refuses lines above `bytesMax`. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Gives every line that ends in `chunk`; false at one that is too long. */
  feed(chunk: Uint8Array, take: (line: Uint8Array) => void): boolean {
    let from = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, from);
      const piece = chunk.subarray(from, end < 0 ? chunk.length : end);
      if (this.#pieceBytes + piece.length > this.#bytesMax) return false;
      if (end < 0) {
        if (piece.length > 0) this.#pieces.push(piece.slice());
        this.#pieceBytes += piece.length;
        return true;
      }
      this.lineCount++;
      take(this.#pieceBytes === 0 ? piece : this.#join(piece));
      from = end + 1;
    }
  }

  /** Gives what follows the last line's end, if anything does. */
  end(take: (line: Uint8Array) => void): void {
    if (this.#pieceBytes === 0) return;
    this.lineCount++;
    take(this.#join(new Uint8Array(0)));
  }

  #join(last: Uint8Array): Uint8Array {
    const line = new Uint8Array(this.#pieceBytes + last.length);
    let at = 0;
    for (const piece of this.#pieces) {
      line.set(piece, at);
      at += piece.length;
    }
    line.set(last, at);
    this.#pieces = [];
    this.#pieceBytes = 0;
    return line;
  }
}
