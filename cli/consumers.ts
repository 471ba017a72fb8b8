/**
 * `walrus consumers`: who reads a log and how far, and taking away those that
 * nobody uses any more.
 *
 * @module
 */

import { isConsumerName } from "../src/consumer_record.ts";
import { CONSUMERS_FOLDER } from "../src/format.ts";
import { missingLog } from "../src/look.ts";
import { readRemains } from "../src/remains.ts";
import { REPAIR_MODES } from "../src/repair_log.ts";
import { openStillLog } from "../src/still_log.ts";
import type { StorageLock, StoragePort } from "../src/storage.ts";
import { Arguments, InputError, UsageError } from "./arguments.ts";
import { ask, canAsk } from "./ask.ts";
import { formatCount, printOut, say } from "./output.ts";
import { type Position, readPositions } from "./positions.ts";

const OPTIONS = {
  remove: "string",
  yes: "boolean",
  json: "boolean",
  storage: "string",
} as const;

/** Runs the command; returns its exit code. */
export async function consumers(args: readonly string[]): Promise<number> {
  const given = new Arguments(args, OPTIONS);
  const directory = given.onlyDirectory();
  const name = given.text("remove");
  const storage = given.storage();
  const json = given.flag("json");
  if (name !== undefined) {
    const order = { storage, directory, name, json };
    return await remove(order, given.flag("yes"));
  }
  if (given.flag("yes")) {
    throw new UsageError(
      "Option --yes is alone, expected what to do with it: --remove NAME",
    );
  }
  const found = readAll(storage, directory);
  await printOut(
    json ? JSON.stringify({ directory, consumers: found }) : layOut(found),
  );
  return found.some(({ problem }) => problem !== undefined) ? 1 : 0;
}

function readAll(storage: StoragePort, directory: string): Position[] {
  using log = openStillLog(storage, directory, { anyFormat: true });
  return readPositions(storage, directory, log);
}

function layOut(found: readonly Position[]): string {
  if (found.length === 0) return "no consumers";
  const width = Math.max(...found.map(({ name }) => name.length));
  return found.map(({ name, ...rest }) =>
    `${name.padEnd(width)}  ${describe(rest)}`
  ).join("\n");
}

function describe({ position, lag, problem }: Omit<Position, "name">): string {
  if (problem !== undefined) return `cannot be read: ${problem}`;
  return `at ${position}, ${formatCount(lag, "entry", "entries")} behind`;
}

/** Which consumer is to go. */
interface Removal {
  readonly storage: StoragePort;
  readonly directory: string;
  readonly name: string;
  readonly json: boolean;
}

async function remove(order: Removal, confirmed: boolean): Promise<number> {
  const { storage, directory, name, json } = order;
  if (!isConsumerName(name)) {
    throw new UsageError(
      `Option --remove is "${name}", expected a consumer's name: 1 to 64 of ` +
        `letters, digits, ".", "_" and "-"`,
    );
  }
  if (!confirmed && !canAsk()) {
    throw new UsageError(
      `A consumer's position is lost with it, and there is no terminal to ` +
        `ask: expected --yes`,
    );
  }
  const found = readAll(storage, directory).find((one) => one.name === name);
  if (found === undefined) throw missing(order);
  if (!confirmed && !await ask(question(found))) {
    say("Nothing was changed.");
    return 1;
  }
  removeFile(order);
  await printOut(
    json
      ? JSON.stringify({ directory, removed: found })
      : `Removed "${name}", ${describe(found)}.`,
  );
  return 0;
}

function question(found: Position): string {
  return [
    `Consumer "${found.name}" ${describe(found)}. With it goes its position,`,
    `and it holds back no retention any more. This cannot be undone.`,
    `Type "yes" to do it: `,
  ].join("\n");
}

function missing({ directory, name }: Removal): InputError {
  return new InputError(
    `Cannot remove consumer "${name}" of log "${directory}": there is none ` +
      `of this name`,
  );
}

/**
 * Under the writer's lock, but without opening the log: what is wrong with
 * the consumer, or with the log, does not matter.
 */
function removeFile(order: Removal): void {
  const { storage, directory, name } = order;
  const folder = storage.openDirectory(directory, REPAIR_MODES);
  if (folder === undefined) throw missingLog("use", directory);
  let lock: StorageLock | undefined;
  try {
    // Folders of others are refused before a lock file is made in them.
    if (readRemains(folder) === undefined) throw missingLog("use", directory);
    lock = folder.lock();
    const names = folder.list(CONSUMERS_FOLDER).map((one) => one.name);
    if (!names.includes(name)) throw missing(order);
    lock.verify();
    folder.remove(`${CONSUMERS_FOLDER}/${name}`);
    folder.syncFolder(CONSUMERS_FOLDER);
  } finally {
    lock?.release();
    folder.close();
  }
}
