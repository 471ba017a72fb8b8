/**
 * Sync rounds: group commit without timers, and the durable mark.
 *
 * A round syncs every segment with unsynced bytes and, when a name is new,
 * the folder; it succeeds only if all do. While one runs the next collects.
 * A failed sync is final. docs/architecture.md, "Life of an append".
 *
 * @module
 */

import { type Cut, removedError, takenAway } from "./cut.ts";
import { type WalError, WalFailedError } from "./errors.ts";
import { earlierOf, laterOf, type Position } from "./mark.ts";
import { LatencyHistogram } from "./percentiles.ts";
import type { Segment } from "./segment.ts";
import { syncAll } from "./steps.ts";
import { inTurn } from "./sync_in_turn.ts";
import type { Clock, StorageDirectory, Syncable, SyncDone } from "./storage.ts";

/** From so many unsynced segments on, a round starts in the background … */
const UNSYNCED_SEGMENTS = 4;
/** … and if none ever gets to end, appends settle with one. */
const UNSYNCED_SEGMENTS_MAX = 64;

/** Where the log stands. */
interface Place {
  position: Position;
  index: number;
}

interface Round {
  readonly number: number;
  readonly segments: readonly Segment[];
  readonly others: readonly Syncable[];
  readonly directory: boolean;
  readonly place: Place;
  readonly startedNs: number;
}

interface Waiter {
  /** The first round that covers it. */
  readonly round: number;
  /** The entry that waits; 0 for one that no truncation takes away. */
  readonly index: number;
  readonly resolve: (index: number) => void;
  readonly reject: (error: unknown) => void;
}

/** What the rounds ask of the log. */
export interface SyncedLog {
  /** Where the log ends now. */
  end(): Position;
  /** The last entry now; `nextIndex - 1` while the log is empty. */
  lastIndex(): number;
  /** Called when a sealed segment is durable: it is only read from now on. */
  retire(segment: Segment): void;
  /** Called when the durable mark has moved. */
  markMoved(mark: Position): void;
  /** Called once, when a sync has failed. */
  failed(error: WalFailedError): void;
}

/** Runs the rounds of one log. */
export class SyncRounds implements Syncable {
  /** All before it is on the disk. */
  durable: Position;
  /** The last entry that is on the disk. */
  durableIndex: number;
  /** Set once a sync has failed. */
  failure: WalFailedError | undefined;
  /** How many syncs the system was asked for. */
  syncCount = 0;
  /** How long rounds took. */
  readonly latency: LatencyHistogram = new LatencyHistogram();
  readonly #directory: StorageDirectory;
  readonly #clock: Clock;
  readonly #log: SyncedLog;
  #dirty = new Set<Segment>();
  #others = new Set<Syncable>();
  #namesDirty = false;
  #started = 0;
  #running: Round | undefined;
  #blocked: Round | undefined;
  #scheduled = false;
  #ended = false;
  #waiters: Waiter[] = [];

  /** Rounds for a log of which all before `durable` is on the disk. */
  constructor(
    directory: StorageDirectory,
    clock: Clock,
    log: SyncedLog,
    durable: Position,
    durableIndex: number,
  ) {
    this.#directory = directory;
    this.#clock = clock;
    this.#log = log;
    this.durable = durable;
    this.durableIndex = durableIndex;
  }

  /** A segment got bytes that no sync covers yet. */
  touch(segment: Segment): void {
    if (segment.unsynced) return;
    segment.unsynced = true;
    this.#dirty.add(segment);
  }

  /** Another file of the log got bytes: no round succeeds without them. */
  touchOther(file: Syncable): void {
    this.#others.add(file);
  }

  /** A name in the folder is new or gone. */
  touchNames(): void {
    this.#namesDirty = true;
  }

  /** Forgets a segment that is off the chain. */
  forget(segment: Segment): void {
    this.#dirty.delete(segment);
    segment.unsynced = false;
  }

  /**
   * The segment up to which all is on the disk, names included: a blocking
   * sync tells it before the one in flight has returned.
   */
  get coveredSegment(): number {
    const blocked = this.#blocked?.place.position.number ?? 0;
    return Math.max(this.durable.number, blocked);
  }

  /** The last entry for which the same is true. */
  get coveredIndex(): number {
    return Math.max(this.durableIndex, this.#blocked?.place.index ?? 0);
  }

  /** How many rounds there were. */
  get roundCount(): number {
    return this.#started;
  }

  /** Whether anything waits for a sync, or one runs. */
  get pending(): boolean {
    return this.#running !== undefined || this.#dirty.size > 0 ||
      this.#others.size > 0 || this.#namesDirty;
  }

  /**
   * Sealed segments keep their descriptors until they are durable: a log that
   * nobody syncs must not run out of them, nor recovery have it all to scan.
   */
  boundSoon(): void {
    if (this.#dirty.size > UNSYNCED_SEGMENTS) this.startIfDirty();
  }

  /**
   * Whether so many wait that the program must let a round end: a blocking
   * call then syncs, and an asynchronous one settles with a round.
   */
  get crowded(): boolean {
    return this.#dirty.size > UNSYNCED_SEGMENTS_MAX;
  }

  /** Whether a segment and its name are on the disk, as far as is known. */
  covers(segment: Segment): boolean {
    return this.coveredSegment >= segment.number;
  }

  /** Whether a segment's bytes wait for a sync, or one of it runs. */
  #awaits(segment: Segment): boolean {
    return this.#dirty.has(segment) ||
      this.#running?.segments.includes(segment) === true;
  }

  /** Settles with `index` after a sync that began after this call. */
  wait(index: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#enqueue(index, resolve, reject);
    });
  }

  /** As a Syncable: all that was written, in whatever segments. */
  syncSoon(done: SyncDone): void {
    this.#enqueue(0, () => done(), (error) => done(error as WalError));
  }

  #enqueue(
    index: number,
    resolve: (index: number) => void,
    reject: (error: unknown) => void,
  ): void {
    if (this.failure !== undefined) {
      const { failure } = this;
      queueMicrotask(() => reject(failure));
      return;
    }
    this.#waiters.push({ round: this.#started + 1, index, resolve, reject });
    this.#schedule();
  }

  /**
   * Starts the next round when the continuations of the last one have run:
   * their appends then share it. Three hops reach an `await` in a loop.
   */
  #schedule(): void {
    if (this.#scheduled || this.#running !== undefined) return;
    this.#scheduled = true;
    queueMicrotask(() =>
      queueMicrotask(() =>
        queueMicrotask(() => {
          this.#scheduled = false;
          const wanted = this.#waiters.length > 0;
          if (wanted && this.#running === undefined) this.#start();
        })
      )
    );
  }

  /** Starts a round for whatever is dirty, unless one runs or none is. */
  startIfDirty(): void {
    if (this.#running !== undefined || this.failure !== undefined) return;
    if (this.pending) this.#start();
  }

  /** No round begins any more: the log was closed, which has synced all. */
  end(): void {
    this.#ended = true;
  }

  #start(): void {
    if (this.failure !== undefined) return;
    if (this.#ended) {
      // Closing has synced all that anybody still waits for.
      this.#settle(Infinity);
      return;
    }
    const round = this.#begin();
    this.#running = round;
    try {
      syncAll(this.#syncables(round), (error) => {
        this.#running = undefined;
        if (error === undefined) this.#succeed(round);
        else this.fail(error);
      });
    } catch (error) {
      // Nobody stands above a round to whom it could be thrown.
      this.#running = undefined;
      this.fail(error);
    }
  }

  #begin(): Round {
    const round: Round = {
      number: ++this.#started,
      segments: [...this.#dirty],
      others: [...this.#others],
      directory: this.#namesDirty,
      place: { position: this.#log.end(), index: this.#log.lastIndex() },
      startedNs: this.#clock.monotonicNs(),
    };
    for (const segment of this.#dirty) segment.unsynced = false;
    this.#dirty = new Set();
    this.#others = new Set();
    this.#namesDirty = false;
    return round;
  }

  #syncables(round: Round): Syncable[] {
    const { segments } = round;
    const wanted: Syncable[] = [...round.others];
    if (segments.length === 1) wanted.push(segments[0]!.file);
    else if (segments.length > 1) wanted.push(inTurn(segments));
    if (round.directory) wanted.push(this.#directory);
    const more = segments.length > 1 ? segments.length - 1 : 0;
    this.syncCount += wanted.length + more;
    return wanted;
  }

  #succeed(round: Round): void {
    if (this.failure !== undefined) return;
    this.latency.add(this.#clock.monotonicNs() - round.startedNs);
    this.#raise(round.place);
    let settled = round.number;
    if (this.#blocked !== undefined) {
      this.#raise(this.#blocked.place);
      settled = Math.max(settled, this.#blocked.number);
      this.#blocked = undefined;
    }
    for (const segment of round.segments) this.#retire(segment);
    this.#settle(settled);
    if (this.#waiters.length > 0) this.#schedule();
  }

  /** A sealed segment that is durable needs no writing side any more. */
  #retire(segment: Segment): void {
    if (segment.sealed && !this.#awaits(segment)) this.#log.retire(segment);
  }

  #raise(place: Place): void {
    this.durable = laterOf(this.durable, place.position);
    this.durableIndex = Math.max(this.durableIndex, place.index);
    this.#log.markMoved(this.durable);
  }

  #settle(round: number): void {
    const waiters = this.#waiters;
    let count = 0;
    while (count < waiters.length && waiters[count]!.round <= round) count++;
    if (count === 0) return;
    this.#waiters = waiters.slice(count);
    for (let i = 0; i < count; i++) {
      const waiter = waiters[i]!;
      waiter.resolve(waiter.index);
    }
  }

  /**
   * Blocks until all that was written is on the disk. What a sync in flight
   * covers too is not settled before that one has returned.
   */
  sync(): void {
    if (this.failure !== undefined) throw this.failure;
    const running = this.#running;
    for (const segment of running?.segments ?? []) {
      // One that a truncation dropped may be closed by now; nobody needs it.
      if (segment.file.writable) this.touch(segment);
    }
    for (const file of running?.others ?? []) this.touchOther(file);
    if (running?.directory) this.#namesDirty = true;
    const round = this.#begin();
    try {
      for (const syncable of this.#syncables(round)) syncable.sync();
    } catch (error) {
      this.fail(error);
      throw this.failure ?? error;
    }
    if (running === undefined) {
      this.#succeed(round);
      return;
    }
    this.latency.add(this.#clock.monotonicNs() - round.startedNs);
    this.#blocked = round;
    // What no sync in flight covers is durable now.
    for (const segment of round.segments) this.#retire(segment);
  }

  /** Ends all writing: what a failed sync left on the disk is not known. */
  fail(cause: unknown, what = "a sync failed"): void {
    if (this.failure !== undefined) return;
    const why = cause instanceof Error ? cause.message : String(cause);
    this.failure = new WalFailedError(
      `Cannot write to the log: ${what} (${why}), so what is on the ` +
        `disk is not known; close the log and open it again`,
      { cause },
    );
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { reject } of waiters) reject(this.failure);
    this.#log.failed(this.failure);
  }

  /** Appends that wait for an entry below `index` are rejected. */
  removeBefore(
    index: number,
    log: { readonly firstIndex: number; readonly lastIndex: number },
  ): void {
    const isGone = (one: Waiter) => one.index > 0 && one.index < index;
    const gone = this.#waiters.filter(isGone);
    this.#waiters = this.#waiters.filter((one) => !isGone(one));
    for (const one of gone) one.reject(removedError(one.index, log));
  }

  /**
   * The log now ends as `cut` says: marks and rounds in flight count up to
   * there only, and appends that it took away are rejected.
   */
  clamp(cut: Cut): void {
    const { position, index, lostAbove } = cut;
    const places = [this.#running?.place, this.#blocked?.place];
    for (const place of places) {
      if (place === undefined) continue;
      place.position = earlierOf(place.position, position);
      place.index = Math.min(place.index, index);
    }
    this.durable = earlierOf(this.durable, position);
    // In an empty log nothing before the next index waits for a sync.
    const empty = index < cut.firstIndex;
    this.durableIndex = empty ? index : Math.min(this.durableIndex, index);
    const lost = this.#waiters.filter((waiter) => waiter.index > lostAbove);
    this.#waiters = this.#waiters.filter((waiter) => waiter.index <= lostAbove);
    for (const waiter of lost) waiter.reject(takenAway(waiter.index, cut));
  }
}
