/**
 * A consumer: a named position in the log that outlives the process.
 *
 * @module
 */

import { type Bounds, checkBounds, checkWhole } from "./calls.ts";
import { checkNames, isObject, show } from "./checks.ts";
import { isConsumerName } from "./consumer_record.ts";
import type { Consumers } from "./consumers.ts";
import type { PositionRounds } from "./position_file.ts";
import { lagOf } from "./standing.ts";
import type { Entry } from "./entry.ts";
import { IndexOutOfRangeError, WalClosedError } from "./errors.ts";
import {
  type AskedFollow,
  followBatches,
  type Followed,
  followEntries,
  type FollowOptions,
  readFollow,
  readLimits,
} from "./follow.ts";
import type { LogState } from "./log_state.ts";
import type { PositionFile } from "./position_file.ts";
import type { ConsumerInfo } from "./report.ts";
import type { Steps } from "./steps.ts";

/** How a consumer is made. */
export interface ConsumerOptions {
  /**
   * Where it begins, only when it is new: the first entry that it gets, the
   * log's "start" or its "end". @default {"start"}
   */
  from?: number | "start" | "end" | undefined;
}

/** What consumers ask of the open log. */
export interface ConsumerLog {
  /** What errors say of it. */
  readonly bounds: Bounds;
  /** Its segments. */
  readonly state: LogState;
  /** What makes its positions durable. */
  readonly rounds: PositionRounds;
  /** What its consumers follow. */
  readonly followed: Followed;
  /** Whether reads give views unless told otherwise. */
  readonly zeroCopy: boolean;
  /** All its consumers. */
  readonly consumers: Consumers;
  /** Waits until an entry is durable, and the log's beginning is. */
  reach(index: number): Steps<void>;
  /** Throws when the log is closed. */
  checkOpen(): void;
  /** Throws when the log is closed or failed. */
  checkWritable(): void;
  /** Runs steps that closing the log waits for. */
  start<T>(steps: Steps<T>): Promise<T>;
}

let make: (log: ConsumerLog, file: PositionFile, name: string) => Consumer;

/**
 * A named position in the log, made or opened by `consumer(name)` of a log or
 * of a reader in whatever process. It is kept in a file of its own and survives
 * crashes; truncations lower it, and retention never passes it. Closing the
 * log closes it, too.
 *
 * @example Acknowledge what was worked off
 * ```ts
 * import { memoryStorage, openWal } from "@walrus/wal";
 *
 * await using wal = await openWal("log", { storage: memoryStorage() });
 * await wal.append("job");
 * await using consumer = await wal.consumer("worker");
 * await consumer.ack(1);
 * console.log(consumer.position, consumer.lag); // 1 0
 * ```
 */
export class Consumer implements ConsumerInfo {
  static {
    make = (log, file, name) => new Consumer(log, file, name);
  }

  /** Its name. */
  readonly name: string;
  readonly #log: ConsumerLog;
  readonly #file: PositionFile;
  readonly #tasks = new Set<Promise<unknown>>();
  #closed = false;

  private constructor(log: ConsumerLog, file: PositionFile, name: string) {
    this.#log = log;
    this.#file = file;
    this.name = name;
  }

  /** The last entry that it acknowledged; 0 for none. */
  get position(): number {
    return this.#file.position;
  }

  /** Entries between its position and the log's end. */
  get lag(): number {
    return lagOf(this.position, this.#log.state);
  }

  /**
   * Moves the position up to `index`: the entry is made durable, then the
   * position. On a reader the entry is waited for, since only its writer makes
   * it durable. At or below the position it has no effect.
   * @throws {IndexOutOfRangeError} (rejects) above the last index, or when a
   * truncation takes the entry away meanwhile
   * @throws {WalFailedError} (rejects) when a sync failed, now or before
   * @throws {WalClosedError} (rejects) when the consumer or the log is closed
   */
  ack(index: number): Promise<void> {
    return this.#start(this.#move(index, false));
  }

  /**
   * Moves the position to `index`, also back: the next entry is the one
   * after it. A loop of `follow` that runs already goes on where it is.
   * @throws {IndexOutOfRangeError} (rejects) below `firstIndex - 1` or above
   * the last index, or when a truncation takes the entry away meanwhile
   * @throws {WalFailedError} (rejects) when a sync failed, now or before
   */
  seek(index: number): Promise<void> {
    return this.#start(this.#move(index, true));
  }

  *#move(index: number, back: boolean): Steps<void> {
    const { bounds, state, rounds } = this.#log;
    const verb = back ? "seek" : "acknowledge";
    this.#check();
    checkWhole(verb, "index", index);
    const most = state.nextIndex - 1;
    const least = back ? state.firstIndex - 1 : -Infinity;
    checkBounds(bounds, `${verb} entry ${index}`, index, { least, most });
    const file = this.#file;
    // A cut lowers the position before that is on the disk.
    const told = Math.min(file.position, file.durablePosition);
    const reached = Math.min(told, file.wanted.position);
    if (!back && index <= reached) return;
    file.open();
    if (back) {
      file.seekCount++;
      file.seeking++;
    }
    const { seekCount } = file;
    let seeking = back;
    const sought = () => {
      if (seeking) file.seeking--;
      seeking = false;
    };
    const watch = file.watch(index);
    try {
      yield* this.#log.reach(index);
      if (watch.lost) throw takenAway(bounds, verb, index);
      // close() waits for this, so that being closed is no reason to stop.
      this.#log.consumers.checkOpen();
      if (file.removed) throw this.#closedError();
      // A later seek wins over what was asked for before it; both are done
      // when that is durable.
      if (file.seekCount !== seekCount) {
        sought();
        do yield [rounds]; while (file.seeking > 0);
        return;
      }
      const wanted = !back && index <= file.wanted.position;
      const record = wanted ? undefined : file.write(index, state.generation);
      rounds.touchOther(file);
      yield [rounds];
      if (watch.lost) throw takenAway(bounds, verb, index);
      if (record !== undefined) file.confirm(record);
    } finally {
      sought();
      file.unwatch(watch);
    }
  }

  /**
   * Gives the durable entries behind the position, and every later one as it
   * becomes durable. It acknowledges nothing itself: after a crash, what was
   * given and not acknowledged is given again.
   * @throws {IndexOutOfRangeError} (at a step) as `WalReader.follow`; reason
   * "removed" also when `truncateBefore` has passed the position
   */
  follow(
    options?: {
      signal?: AbortSignal | undefined;
      zeroCopy?: boolean | undefined;
    },
  ): AsyncGenerator<Entry, void, undefined> {
    const asked = this.#readFollow(options, ["signal", "zeroCopy"]);
    return followEntries(this.#followed, asked);
  }

  /**
   * Gives what is there, up to `maxEntries` (1000) and `maxBytes` of data
   * (16 MiB), and waits only when there is nothing. One entry above `maxBytes`
   * is a batch of its own. Durable entries only, as in `follow`.
   *
   * @throws {TypeError | RangeError} when a limit is not 1 or more
   * @throws {IndexOutOfRangeError} (at a step) as `WalReader.follow`
   *
   * @example Work off in batches
   * ```ts
   * import { memoryStorage, openWal } from "@walrus/wal";
   *
   * await using wal = await openWal("log", { storage: memoryStorage() });
   * await wal.appendBatch(["one", "two", "three"]);
   * await using consumer = await wal.consumer("worker");
   * for await (const batch of consumer.batches({ maxEntries: 2 })) {
   *   await consumer.ack(batch.at(-1)!.index);
   *   if (consumer.lag === 0) break;
   * }
   * ```
   */
  batches(
    options?: {
      signal?: AbortSignal | undefined;
      maxEntries?: number | undefined;
      maxBytes?: number | undefined;
    },
  ): AsyncGenerator<Entry[], void, undefined> {
    const names = ["signal", "maxEntries", "maxBytes"];
    const asked = this.#readFollow(options, names);
    const limits = readLimits(options ?? {});
    return followBatches(this.#followed, asked, limits);
  }

  #readFollow(
    options: { signal?: AbortSignal | undefined } | undefined,
    names: readonly string[],
  ): AskedFollow {
    this.#checkOpen();
    if (options !== undefined && !isObject(options)) {
      throw new TypeError(
        `Cannot follow: options is ${show(options)}, expected an object`,
      );
    }
    checkNames("follow options", options ?? {}, names);
    const { signal, zeroCopy } = (options ?? {}) as FollowOptions;
    const { followed, zeroCopy: usual } = this.#log;
    const { position } = this;
    const from = position + 1;
    const given = { signal, zeroCopy, from, durable: true };
    // What it was given in earlier lives may be taken away, too.
    return readFollow(given, followed, {
      zeroCopy: usual,
      delivered: position,
    });
  }

  get #followed(): Followed {
    const { followed } = this.#log;
    return { ...followed, isClosed: () => this.#closed || followed.isClosed() };
  }

  /**
   * Takes the consumer away, with its file; durable when it settles. It cannot
   * be used any more, and its loops end.
   * @throws {WalFailedError} (rejects) when a sync failed, now or before
   */
  remove(): Promise<void> {
    return this.#start(this.#remove());
  }

  *#remove(): Steps<void> {
    this.#check();
    this.#closed = true;
    this.#log.followed.wakeups.wake();
    try {
      yield* this.#log.consumers.remove(this.#file);
    } finally {
      this.#log.consumers.release(this.name);
    }
  }

  /** Lets go of the name and ends its loops; the position stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#log.followed.wakeups.wake();
    await Promise.allSettled([...this.#tasks]);
    this.#log.consumers.release(this.name);
  }

  #check(): void {
    this.#log.checkWritable();
    if (this.#closed) throw this.#closedError();
  }

  #checkOpen(): void {
    this.#log.checkOpen();
    if (this.#closed) throw this.#closedError();
  }

  #closedError(): WalClosedError {
    return new WalClosedError(
      `Cannot use consumer "${this.name}": it is closed, expected an open one`,
    );
  }

  #start<T>(steps: Steps<T>): Promise<T> {
    const task = this.#log.start(steps)
      .finally(() => this.#tasks.delete(task));
    this.#tasks.add(task);
    return task;
  }
}

/** Opens a consumer, or makes it. */
export function* openConsumer(
  log: ConsumerLog,
  name: string,
  options: ConsumerOptions | undefined,
): Steps<Consumer> {
  log.checkWritable();
  checkName(name);
  const from = readFrom(options);
  // Getters of the options are the caller's program.
  log.checkWritable();
  const { consumers, state } = log;
  consumers.take(name);
  try {
    const known = consumers.find(name);
    const position = known?.position ?? startOf(log, from);
    const file = known ?? (yield* consumers.create(name, position, state));
    return make(log, file, name);
  } catch (error) {
    consumers.release(name);
    throw error;
  }
}

function checkName(name: unknown): void {
  const expected = "expected 1 to 64 of A-Z, a-z, 0-9, dot, underscore and " +
    "hyphen, not beginning with a dot";
  const message = `Cannot open consumer: name is ${show(name)}, ${expected}`;
  if (typeof name !== "string") throw new TypeError(message);
  if (!isConsumerName(name)) throw new RangeError(message);
}

function readFrom(
  options: ConsumerOptions | undefined,
): number | "start" | "end" {
  if (options === undefined) return "start";
  if (!isObject(options)) {
    throw new TypeError(
      `Cannot open consumer: options is ${show(options)}, expected an object`,
    );
  }
  checkNames("consumer options", options, ["from"]);
  const { from = "start" } = options;
  if (from === "start" || from === "end") return from;
  if (typeof from === "string") {
    throw new RangeError(
      `Cannot open consumer: from is ${show(from)}, expected an index, ` +
        `"start" or "end"`,
    );
  }
  checkWhole("open consumer", "from", from);
  return from;
}

/** The position before the first entry that a new consumer gets. */
function startOf(log: ConsumerLog, from: number | "start" | "end"): number {
  const { state, bounds } = log;
  if (from === "start") return state.firstIndex - 1;
  if (from === "end") return state.nextIndex - 1;
  const allowed = { least: state.firstIndex, most: state.nextIndex };
  checkBounds(bounds, `begin a consumer at entry ${from}`, from, allowed);
  return from - 1;
}

function takenAway(
  bounds: Bounds,
  verb: string,
  index: number,
): IndexOutOfRangeError {
  const { firstIndex, lastIndex } = bounds;
  return new IndexOutOfRangeError(
    `Cannot ${verb} entry ${index}: it was truncated meanwhile, the log now ` +
      (firstIndex === 0 ? "is empty" : `holds ${firstIndex} to ${lastIndex}`),
    { index, firstIndex, lastIndex, reason: "truncated" },
  );
}
