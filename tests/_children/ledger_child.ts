/**
 * A program that does what the lines of its input say, and reports each step
 * before and after it: `ledger_child.ts KIND FOLDER [OPTIONS]`.
 *
 * A line is `sync VERB …` or `async VERB …`. Entries are named by their
 * numbers: `append`, `note` (an append that waits for no sync), `batch`,
 * `commit` (a transaction). `cut N` drops the last N entries, `behead N` the
 * first, `reset N` all, leaving out N indexes. `loop CALLERS ROUNDS` appends
 * in so many loops at once, `fill VERB N FROM` N entries at a time, until that
 * fails. `open`, `flush`, `rotate`, `read` and `close` are what they are
 * called. `tests/_ledger.ts` reads the report:
 *
 * - `try ID VERB …` before a call, with absolute indexes,
 * - `in ID` or `out ID` when it returned, and the log changed or did not,
 * - `ack ID` or `err ID CODE SYSTEMCODE STATE MESSAGE` when it settled,
 * - `found ID FIRST …`, `read ID FIRST …`: what the log holds, from an index,
 * - `done` after each line.
 *
 * @module
 */
import * as fs from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import {
  filesStorage,
  mappedStorage,
  openWal,
  openWalSync,
  StorageError,
  type Wal,
  WalError,
  type WalOptions,
} from "../../mod.ts";
import { entryOf, serialOf } from "../_serial_entries.ts";

const [kind, path, options = "{}"] = process.argv.slice(2) as [
  string,
  string,
  string?,
];
const given: WalOptions = {
  storage: kind === "mapped" ? mappedStorage() : filesStorage(),
  segmentBytes: 65536,
  ...JSON.parse(options) as WalOptions,
};
/** A fault may hit the first attempts. */
const ATTEMPTS = 3;

let wal: Wal | undefined;
let count = 0;

/** At once, as far as a pipe takes it: what a killed process said is out. */
function say(line: string): void {
  const bytes = new TextEncoder().encode(line + "\n");
  for (let at = 0; at < bytes.length;) {
    try {
      at += fs.writeSync(1, bytes, at, bytes.length - at);
    } catch (error) {
      // A pipe that is full, and that the other side does not let block.
      const { code, name } = error as { code?: string; name?: string };
      if (code !== "EAGAIN" && name !== "WouldBlock") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

function sayError(id: number, error: unknown): void {
  const { state = "none" } = wal ?? {};
  const code = error instanceof WalError ? error.code : "BUG";
  const systemCode = error instanceof StorageError ? error.systemCode : "-";
  const text = error instanceof WalError
    ? error.message
    : String((error as Error)?.stack ?? error).replaceAll("\n", "|");
  say(`err ${id} ${code} ${systemCode} ${state} ${text}`);
}

/** What an outsider sees of a change. */
function extent({ nextIndex, length }: Wal): string {
  return `${nextIndex - length} to ${nextIndex}`;
}

/**
 * One call; a change of the log is told as soon as the call returns. Whether
 * it succeeded.
 */
async function attempt(
  what: string,
  call: (wal: Wal) => unknown,
  changes = false,
): Promise<boolean> {
  const id = ++count;
  if (wal === undefined) {
    say(`none ${id}`);
    return false;
  }
  say(`try ${id} ${what}`);
  const before = extent(wal);
  let result: { value: unknown } | undefined;
  let failure: { error: unknown } | undefined;
  try {
    result = { value: call(wal) };
  } catch (error) {
    failure = { error };
  }
  if (changes) say(`${extent(wal) === before ? "out" : "in"} ${id}`);
  try {
    if (failure !== undefined) throw failure.error;
    // What a blocking call promises it has promised by now.
    const { value } = result!;
    if (value instanceof Promise) await value;
    say(`ack ${id}`);
    return true;
  } catch (error) {
    sayError(id, error);
    return false;
  }
}

/** The first index and the entries; throws if one is damaged. */
function contents(log: Wal): string {
  const serials = Array.from(log, ({ data }) => serialOf(data));
  return [log.nextIndex - log.length, ...serials].join(" ");
}

/** Opens, and opens again if that fails or what is there cannot be read. */
async function open(blocking: boolean): Promise<void> {
  for (let i = 0; wal === undefined && i < ATTEMPTS; i++) {
    const id = ++count;
    say(`try ${id} open`);
    let opened: Wal | undefined;
    try {
      opened = blocking ? openWalSync(path, given) : await openWal(path, given);
      say(`found ${id} ${contents(opened)}`);
      wal = opened;
    } catch (error) {
      sayError(id, error);
      await opened?.close().catch(() => {});
    }
  }
}

/** Reads all, at the second attempt if the first one fails. */
function read(): void {
  for (let i = 0; wal !== undefined && i < ATTEMPTS; i++) {
    const id = ++count;
    say(`try ${id} read`);
    try {
      return say(`read ${id} ${contents(wal)}`);
    } catch (error) {
      sayError(id, error);
    }
  }
}

function append(
  blocking: boolean,
  verb: "append" | "note",
  serials: readonly number[],
): Promise<boolean[]> {
  const options = verb === "note" ? { durable: false } : {};
  return Promise.all(serials.map((serial) => {
    const entry = entryOf(serial);
    return attempt(
      `${verb} ${serial}`,
      (wal) =>
        blocking ? wal.appendSync(entry, options) : wal.append(entry, options),
      true,
    );
  }));
}

function batch(
  blocking: boolean,
  serials: readonly number[],
): Promise<boolean> {
  const entries = serials.map(entryOf);
  return attempt(
    `batch ${serials.join(" ")}`,
    (wal) => blocking ? wal.appendBatchSync(entries) : wal.appendBatch(entries),
    true,
  );
}

function commit(
  blocking: boolean,
  serials: readonly number[],
): Promise<boolean> {
  return attempt(
    `commit ${serials.join(" ")}`,
    (wal) => {
      const transaction = wal.beginTransaction();
      for (const serial of serials) transaction.add(entryOf(serial));
      return blocking ? transaction.commitSync() : transaction.commit();
    },
    true,
  );
}

/** Relative, for after a fault the log may be shorter than was planned. */
function takeAway(
  blocking: boolean,
  verb: "cut" | "behead" | "reset",
  entryCount: number,
): unknown {
  const { nextIndex = 1, length = 0 } = wal ?? {};
  const count = Math.min(entryCount, length);
  if (verb === "cut") {
    const last = nextIndex - 1 - count;
    return attempt(`cut ${last}`, (wal) => {
      return blocking ? wal.truncateAfterSync(last) : wal.truncateAfter(last);
    }, count > 0);
  }
  if (verb === "behead") {
    const first = nextIndex - length + count;
    return attempt(`behead ${first}`, (wal) => {
      return blocking
        ? wal.truncateBeforeSync(first)
        : wal.truncateBefore(first);
    }, count > 0);
  }
  const next = nextIndex + entryCount;
  return attempt(`reset ${next}`, (wal) => {
    return blocking ? wal.resetSync(next) : wal.reset(next);
  }, length > 0 || entryCount > 0);
}

/** Callers that each append the next one when the last one is durable. */
function loop(callers: number, rounds: number): Promise<unknown> {
  let serial = 0;
  return Promise.all(Array.from({ length: callers }, async () => {
    for (let round = 0; round < rounds; round++) {
      const id = ++count;
      say(`try ${id} append ${++serial}`);
      await wal!.append(`loop ${serial}`);
      say(`ack ${id}`);
    }
  }));
}

/** Writes until a call fails; the disk must be small. */
async function fill(
  blocking: boolean,
  verb: string,
  entryCount: number,
  from: number,
): Promise<void> {
  for (let serial = from;; serial += entryCount) {
    const serials = Array.from({ length: entryCount }, (_, i) => serial + i);
    const succeeded = verb === "batch"
      ? [await batch(blocking, serials)]
      : verb === "commit"
      ? [await commit(blocking, serials)]
      : await append(blocking, verb === "note" ? "note" : "append", serials);
    if (succeeded.includes(false)) return;
  }
}

async function run(line: string): Promise<unknown> {
  const [twin, verb, ...args] = line.split(" ");
  const blocking = twin === "sync";
  const numbers = args.map(Number);
  switch (verb) {
    case "open":
      return await open(blocking);
    case "append":
    case "note":
      return await append(blocking, verb, numbers);
    case "batch":
      return await batch(blocking, numbers);
    case "commit":
      return await commit(blocking, numbers);
    case "cut":
    case "behead":
    case "reset":
      return await takeAway(blocking, verb, numbers[0]!);
    case "flush":
      return await attempt(
        verb,
        (wal) => blocking ? wal.flushSync() : wal.flush(),
      );
    case "rotate":
      return await attempt(
        verb,
        (wal) => blocking ? wal.rotateSync() : wal.rotate(),
      );
    case "fill":
      return await fill(blocking, args[0]!, numbers[1]!, numbers[2]!);
    case "loop":
      return await loop(numbers[0]!, numbers[1]!);
    case "read":
      return read();
    case "close":
      await attempt(
        verb,
        (wal) => blocking ? wal.closeSync() : wal.close(),
      );
      wal = undefined;
      return;
    default:
      throw new RangeError(`Cannot do "${line}"`);
  }
}

let running: Promise<unknown> = Promise.resolve();
const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  running = running.then(() => run(line)).then(() => say("done"));
});
input.on("close", () => {
  // A rejection that nobody handles must be seen, so not at once.
  running.then(() => setTimeout(() => process.exit(0), 1));
});
