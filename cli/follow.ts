/**
 * `walrus dump --follow`: prints what is there, then what comes.
 *
 * @module
 */

import { openReader, type WalReader } from "../mod.ts";
import type { StoragePort } from "../src/storage.ts";
import { EntryPrinter } from "./entry_printer.ts";
import { Interrupt } from "./interrupt.ts";
import { openUnblocked } from "./output.ts";
import type { Threshold } from "./threshold.ts";

/** What is to be followed. */
export interface FollowOrder {
  /** The storage to read with. */
  readonly storage: StoragePort;
  /** The log's folder. */
  readonly directory: string;
  /** The first entry, the log's "start", or its "end" as of now. */
  readonly from: number | "start" | "end";
  /** The last entry to wait for. */
  readonly to: number;
  /** How many entries to wait for. */
  readonly limit: number;
  /** The time and term to begin with. */
  readonly threshold: Threshold;
  /** Whole entries instead of their data. */
  readonly json: boolean;
}

/** Runs until all that was asked for is printed; returns the exit code. */
export async function followLog(order: FollowOrder): Promise<number> {
  const interrupt = new Interrupt();
  const { signal } = interrupt;
  const descriptor = openUnblocked();
  const { storage, directory } = order;
  await using log = await openReader(directory, { storage });
  const printer = new EntryPrinter(order.json, { descriptor, signal });
  try {
    await printFrom(log, order, printer, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    interrupt.ignore();
  }
  return interrupt.exitCode;
}

async function printFrom(
  log: WalReader,
  order: FollowOrder,
  printer: EntryPrinter,
  signal: AbortSignal,
): Promise<void> {
  const { to, limit } = order;
  const { from, hasBegun } = firstOf(log, order);
  if (limit === 0 || from > to) return;
  let left = limit;
  try {
    // What is gone before the first step is left out, as without --follow.
    const start = from <= log.firstIndex ? "start" : from;
    for await (const entry of log.follow({ from: start, signal })) {
      if (hasBegun(entry)) {
        printer.add(entry);
        left--;
      }
      if (left === 0 || entry.index >= to) break;
      // Nothing is held back while the next entry is waited for.
      if (printer.full || entry.index >= log.lastIndex) await printer.flush();
    }
  } finally {
    // What was read before an error is printed before the error is.
    await printer.flush();
  }
}

function firstOf(
  log: WalReader,
  { from, threshold }: FollowOrder,
): ReturnType<Threshold["find"]> {
  const asked = from === "start" ? 0 : from === "end" ? log.nextIndex : from;
  const beginning = threshold.find(log);
  return { ...beginning, from: Math.max(asked, beginning.from) };
}
