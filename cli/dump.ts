/**
 * `walrus dump`: prints entries without opening the log for writing.
 *
 * @module
 */

import { basename } from "node:path";
import { openStillLog, type StillLog } from "../src/still_log.ts";
import { Arguments } from "./arguments.ts";
import { say, writeOut } from "./output.ts";

const CHUNK_BYTES = 64 * 1024;
const NEWLINE: Uint8Array = new Uint8Array([10]);

const OPTIONS = {
  json: "boolean",
  from: "string",
  to: "string",
  limit: "string",
  reverse: "boolean",
  salvage: "boolean",
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
    salvage: given.flag("salvage"),
  });
  const encoder = new TextEncoder();
  const chunk = new Chunk();
  const { parts, lost } = readableParts(log, range);
  let left = range.limit ?? Infinity;
  try {
    for (const part of parts) {
      const options = { ...part, reverse: range.reverse };
      for (const entry of log.entries(options)) {
        if (left-- <= 0) break;
        chunk.add(asJson ? encoder.encode(JSON.stringify(entry)) : entry.data);
        chunk.add(NEWLINE);
        if (chunk.bytes >= CHUNK_BYTES) await writeOut(chunk.take());
      }
    }
  } finally {
    // What was read before an error is printed before the error is.
    await writeOut(chunk.take());
  }
  for (const text of lost) say(`walrus: ${text}`);
  return lost.length > 0 ? 1 : 0;
}

/** What of a range lies between gaps, in the order asked for; and the gaps. */
function readableParts(
  log: StillLog,
  range: {
    from: number | undefined;
    to: number | undefined;
    reverse: boolean;
  },
): { parts: { from: number; to: number }[]; lost: string[] } {
  let from = range.from ?? 1;
  const last = range.to ?? Number.MAX_SAFE_INTEGER;
  const parts: { from: number; to: number }[] = [];
  const lost: string[] = [];
  for (const { segment, firstLostIndex, lastLostIndex } of log.recovery.gaps) {
    if (lastLostIndex < from || firstLostIndex > last) continue;
    parts.push({ from, to: firstLostIndex - 1 });
    from = lastLostIndex + 1;
    const entries = firstLostIndex === lastLostIndex
      ? `Entry ${firstLostIndex} is lost`
      : `Entries ${firstLostIndex} to ${lastLostIndex} are lost`;
    lost.push(`${entries}: ${basename(segment)} is damaged`);
  }
  parts.push({ from, to: last });
  if (range.reverse) parts.reverse();
  return { parts, lost };
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
