/**
 * `walrus truncate`: takes entries away from the end or the front of a log,
 * after saying which.
 *
 * @module
 */

import { type Encoder, openWal, UnsupportedFormatError } from "../mod.ts";
import { type Bounds, checkBounds, outOfRange } from "../src/calls.ts";
import { openStillLog } from "../src/still_log.ts";
import type { StoragePort } from "../src/storage.ts";
import { Arguments, UsageError } from "./arguments.ts";
import { ask, canAsk } from "./ask.ts";
import { type Position, readPositions } from "./positions.ts";
import { formatCount, printOut, say } from "./output.ts";

const OPTIONS = {
  after: "string",
  before: "string",
  yes: "boolean",
  json: "boolean",
  storage: "string",
} as const;

/** What the command was told to do. */
interface Order {
  readonly storage: StoragePort;
  readonly directory: string;
  readonly end: "after" | "before";
  readonly index: number;
}

/** Runs the command; returns its exit code. */
export async function truncate(args: readonly string[]): Promise<number> {
  const given = new Arguments(args, OPTIONS);
  const order = orderOf(given);
  const confirmed = given.flag("yes");
  if (!confirmed && !canAsk()) {
    throw new UsageError(
      `A truncation takes entries away, and there is no terminal to ask: ` +
        `expected --yes`,
    );
  }
  const plan = readPlan(order);
  const { cut } = plan;
  const json = given.flag("json");
  if (cut.removedCount > 0) {
    if (!confirmed && !await ask(question(order, plan))) {
      say("Nothing was changed.");
      return 1;
    }
    // Who was asked has agreed to this cut and no other.
    return await carryOut(order, plan, { json, agreed: !confirmed });
  }
  await printOut(
    json ? toJson(order, cut, 0) : "Nothing to do: there are no such entries.",
  );
  return 0;
}

function orderOf(given: Arguments): Order {
  const directory = given.onlyDirectory();
  given.conflict("after", ["before"]);
  const after = given.count("after", 0);
  const before = given.count("before", 0);
  const index = after ?? before;
  if (index === undefined) {
    throw new UsageError("Which entries is missing: --after N or --before N");
  }
  const end = after === undefined ? "before" : "after";
  return { storage: given.storage(), directory, end, index };
}

/** What a truncation takes away and leaves. */
interface Cut {
  readonly removedCount: number;
  readonly firstRemoved: number;
  readonly lastRemoved: number;
  /** The log's bounds afterwards. */
  readonly left: Bounds;
}

interface Plan {
  readonly formatName: string;
  readonly cut: Cut;
  readonly consumers: readonly Position[];
}

/** What would be done to the log as it is now; changes nothing. */
function readPlan(order: Order): Plan {
  const { storage, directory } = order;
  using log = openStillLog(storage, directory, { anyFormat: true });
  return {
    formatName: log.facts.formatName,
    cut: planCut(order, log),
    consumers: readPositions(storage, directory, log),
  };
}

/** Throws `IndexOutOfRangeError` as the truncation itself would. */
function planCut({ end, index }: Order, log: Bounds): Cut {
  const { nextIndex } = log;
  const first = log.firstIndex === 0 ? nextIndex : log.firstIndex;
  const what = `truncate ${end} ${index}`;
  if (end === "after") {
    const bounds = { least: first - 1, most: nextIndex - 1 };
    checkBounds(log, what, index, bounds);
    return cutOf(index + 1, nextIndex - 1, first, index);
  }
  if (index > nextIndex) throw outOfRange(log, what, index);
  return cutOf(first, index - 1, Math.max(first, index), nextIndex - 1);
}

function cutOf(
  firstRemoved: number,
  lastRemoved: number,
  first: number,
  last: number,
): Cut {
  const isEmpty = first > last;
  return {
    removedCount: Math.max(0, lastRemoved - firstRemoved + 1),
    firstRemoved,
    lastRemoved,
    left: {
      firstIndex: isEmpty ? 0 : first,
      lastIndex: isEmpty ? 0 : last,
      nextIndex: last + 1,
    },
  };
}

function question(order: Order, { cut, consumers }: Plan): string {
  const lines = [
    `${describe(cut, "Removes", "leaves")} This cannot be undone.`,
    ...consumers.flatMap((consumer) => effectOn(consumer, order)),
    `Type "yes" to do it: `,
  ];
  return lines.join("\n");
}

function describe(cut: Cut, removes: string, leaves: string): string {
  const { removedCount, firstRemoved, lastRemoved, left } = cut;
  const entries = formatCount(removedCount, "entry", "entries");
  const rest = left.firstIndex === 0
    ? `none, the next is ${left.nextIndex}`
    : `${left.firstIndex} to ${left.lastIndex}`;
  return `${removes} ${entries}, ${rangeOf(firstRemoved, lastRemoved)}; ` +
    `${leaves} ${rest}.`;
}

function rangeOf(first: number, last: number): string {
  return first === last ? `${first}` : `${first} to ${last}`;
}

/** What a truncation means to a consumer. */
function effectOn(consumer: Position, { end, index }: Order): string[] {
  const { name, position } = consumer;
  if (position === undefined) return [];
  if (end === "after") {
    return position > index
      ? [`Consumer "${name}" at ${position} moves back to ${index}.`]
      : [];
  }
  return position < index - 1
    ? [
      `Consumer "${name}" has not acknowledged ` +
      `${rangeOf(position + 1, index - 1)}: it will be told that entries are ` +
      `gone.`,
    ]
    : [];
}

async function carryOut(
  order: Order,
  plan: Plan,
  { json, agreed }: { json: boolean; agreed: boolean },
): Promise<number> {
  const { storage, directory, end, index } = order;
  const format = encoderFor(plan.formatName);
  const wal = await openWal(directory, { storage, format });
  let cut: Cut;
  try {
    const { outcome, tornBytes } = wal.recovery;
    if (outcome === "torn") {
      const bytes = formatCount(tornBytes, "byte", "bytes");
      say(`walrus: Opening has cut ${bytes} of unfinished writes`);
    }
    cut = planCut(order, wal);
    const { removedCount, firstRemoved } = plan.cut;
    const same = cut.removedCount === removedCount &&
      (removedCount === 0 || cut.firstRemoved === firstRemoved);
    if (agreed && !same) {
      say("The log has changed meanwhile: nothing was truncated.");
      return 1;
    }
    if (end === "after") await wal.truncateAfter(index);
    else await wal.truncateBefore(index);
  } finally {
    await wal.close();
  }
  await printOut(
    json
      ? toJson(order, cut, cut.removedCount)
      : describe(cut, "Removed", "the log has"),
  );
  return 0;
}

function toJson(order: Order, { left }: Cut, removedCount: number): string {
  const { directory } = order;
  return JSON.stringify({ directory, removedCount, ...left });
}

/** No entry is read or written: the log's format needs not be known. */
function encoderFor(name: string): Encoder | undefined {
  if (name === "binary" || name === "json") return undefined;
  const refuse = (): never => {
    throw new UnsupportedFormatError(
      `Cannot use an entry: its format is "${name}", expected none`,
      { found: name, supported: ["binary", "json"] },
    );
  };
  return {
    name,
    byteLength: refuse,
    encode: refuse,
    encodeInto: refuse,
    decode: refuse,
    decodeView: refuse,
  };
}
