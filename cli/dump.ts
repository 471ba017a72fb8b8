/**
 * `walrus dump`: prints entries without opening the log for writing.
 *
 * @module
 */

import { openStillLog } from "../src/still_log.ts";
import { Arguments } from "./arguments.ts";
import { writeOut } from "./output.ts";

const CHUNK_BYTES = 64 * 1024;
const NEWLINE: Uint8Array = new Uint8Array([10]);

const OPTIONS = {
  json: "boolean",
  from: "string",
  to: "string",
  limit: "string",
  reverse: "boolean",
  storage: "string",
} as const;

/** Runs the command; returns its exit code. */
export async function dump(args: readonly string[]): Promise<number> {
  const given = new Arguments(args, OPTIONS);
  const directory = given.onlyDirectory();
  const range = {
    from: given.count("from", 0),
    to: given.count("to", 0),
    limit: given.count("limit", 0),
    reverse: given.flag("reverse"),
  };
  const asJson = given.flag("json");
  using log = openStillLog(given.storage(), directory, {
    anyFormat: true,
  });
  const encoder = new TextEncoder();
  const chunk = new Chunk();
  try {
    for (const entry of log.entries(range)) {
      chunk.add(asJson ? encoder.encode(JSON.stringify(entry)) : entry.data);
      chunk.add(NEWLINE);
      if (chunk.bytes >= CHUNK_BYTES) await writeOut(chunk.take());
    }
  } finally {
    // What was read before an error is printed before the error is.
    await writeOut(chunk.take());
  }
  return 0;
}

/** Collects small pieces for one write. */
class Chunk {
  bytes = 0;
  #pieces: Uint8Array[] = [];

  add(piece: Uint8Array): void {
    this.#pieces.push(piece);
    this.bytes += piece.length;
  }

  take(): Uint8Array {
    const joined = new Uint8Array(this.bytes);
    let at = 0;
    for (const piece of this.#pieces) {
      joined.set(piece, at);
      at += piece.length;
    }
    this.#pieces = [];
    this.bytes = 0;
    return joined;
  }
}
