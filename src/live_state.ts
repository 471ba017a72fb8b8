/**
 * What a reader knows of a log that somebody else may be writing: begins with
 * what lies on the disk, or with what a writer of this boot shows, and goes
 * where the live page says. What the page does not show does not exist yet.
 * docs/architecture.md, "Readers beside a writer".
 *
 * @module
 */

import { outOfRange } from "./calls.ts";
import { walkBack, type WalkParts } from "./catch_up.ts";
import type { Entry } from "./entry.ts";
import type { EntryReader, EntrySource } from "./entry_reader.ts";
import {
  ChecksumMismatchError,
  SegmentNotFoundError,
  WalError,
} from "./errors.ts";
import { readManifest } from "./folder.ts";
import { LIVE_STATE } from "./format.ts";
import { type FoundLog, type LogFacts, warnOfIndex } from "./found_log.ts";
import type { FrameRun } from "./frame_run.ts";
import { readTail } from "./live_tail.ts";
import type { LiveSnapshot, LiveView } from "./live_view.ts";
import { LogState } from "./log_state.ts";
import type { Logger } from "./logger.ts";
import { missingLog } from "./look.ts";
import type { Manifest } from "./manifest.ts";
import type { WalReader } from "./reader.ts";
import type { ReaderConsumers } from "./reader_consumers.ts";
import { soundLog } from "./still_log.ts";
import type { StorageDirectory, StoragePort } from "./storage.ts";
import type { Wakeups } from "./wakeups.ts";

/** Files come and go while a writer works; not this often in one call. */
const TRIES_MAX = 20;
/** So often a call begins anew because the writer has gone on meanwhile. */
const OVERTAKEN_MAX = 1000;

/** How a log is found whose writer lives. */
const FOUND_LIVE: FoundLog["report"] = {
  outcome: "clean",
  entryCount: 0,
  segmentsScanned: 1,
  tornBytes: 0,
  gaps: [],
};

/** What a live log is made with. */
export interface LiveParts {
  readonly storage: StoragePort;
  readonly folder: StorageDirectory;
  readonly manifest: Manifest;
  readonly view: LiveView;
  readonly logger: Logger | undefined;
  readonly state: LogState;
  /** What the disk says, while no writer shows anything. */
  readonly facts: LogFacts | undefined;
  /** How it was found. */
  readonly report: FoundLog["report"];
  /** The page as it was before the state was made. */
  readonly seen: LiveSnapshot | undefined;
  /** The page that the state was made from, if it was. */
  readonly shown: LiveSnapshot | undefined;
}

/** Keeps a reader's state where the live page is. */
export class LiveState implements EntrySource {
  /** Set once after making. */
  reader!: EntryReader;
  /** What the log says of itself in errors; set once after making. */
  log!: WalReader;
  /** Those who wait; set once after making. */
  wakeups!: Wakeups;
  /** Those that are open here; set once after making. */
  consumers!: ReaderConsumers;
  /** Whether it is closed. */
  closed = false;
  readonly #parts: LiveParts;
  readonly #state: LogState;
  #shown: LiveSnapshot | undefined;
  /** A page of which it is not known whether it is of this boot. */
  #unproven: LiveSnapshot | undefined;
  #diskIndex: number | undefined;
  #behind: WalError | undefined;

  constructor(parts: LiveParts) {
    this.#parts = parts;
    this.#state = parts.state;
    this.#shown = parts.shown;
    this.#unproven = parts.seen;
    if (parts.shown !== undefined) this.#readOn(parts.shown);
  }

  /** The last entry that no power cut takes back, or the one before all. */
  get durableIndex(): number {
    const last = this.#state.nextIndex - 1;
    if (this.#shown !== undefined) {
      return Math.min(this.#shown.durableIndex, last);
    }
    const { facts } = this.#parts;
    if (facts === undefined || facts.closed) return last;
    this.#diskIndex ??= facts.durableIndex();
    return Math.min(this.#diskIndex, last);
  }

  /** Why it cannot read on, if it cannot. */
  get behind(): WalError | undefined {
    return this.#behind;
  }

  /** Whether there is something that `refresh` has not seen. */
  changed(): boolean {
    return !this.closed && this.#parts.view.changed();
  }

  /** The state, where the page is. */
  refreshed(): LogState {
    this.refresh();
    return this.#state;
  }

  /** Goes where the page is. */
  refresh(): void {
    const { view } = this.#parts;
    let failure: WalError | undefined;
    // What could not be followed the time before is tried once more.
    const most = this.#behind === undefined ? TRIES_MAX : 1;
    for (let tries = 0; tries < most; tries++) {
      const due = failure !== undefined || this.#behind !== undefined ||
        this.changed();
      if (this.closed || !due) return;
      const snapshot = view.look();
      // A page that is being changed is looked at again by the next call.
      if (snapshot === undefined || !this.#isTrusted(snapshot)) return;
      try {
        this.#goTo(snapshot);
        // What is gone from a page that is old by now is no damage.
        if (this.#behind === undefined || !this.#isOld()) return;
        this.#behind = undefined;
      } catch (error) {
        if (!(error instanceof WalError)) throw error;
        failure = error;
      }
    }
    // What is known can still be read; whoever waits for more is told.
    this.#behind = failure;
    queueMicrotask(() => this.wakeups.wake());
  }

  /** Whether the page has moved on since the last look. */
  #isOld(): boolean {
    return this.changed() || this.#parts.view.changing;
  }

  /** What another boot has shown may never have reached the disk. */
  #isTrusted(snapshot: LiveSnapshot): boolean {
    const { manifest, storage } = this.#parts;
    const { logId, boot, session } = snapshot.chain;
    if (logId !== manifest.logId) return false;
    const own = storage.bootId();
    if (own !== "") return boot === own;
    // A page that changes is written now.
    const before = this.#unproven ?? this.#shown;
    this.#unproven = snapshot;
    return this.#shown !== undefined || before?.end !== snapshot.end ||
      before?.chain.session !== session;
  }

  #goTo(snapshot: LiveSnapshot): void {
    const { generation, firstIndex } = snapshot.chain;
    const state = this.#state;
    if (!this.#isSameChain(snapshot)) {
      const last = state.nextIndex - 1;
      const before = state.generation;
      const found = walkBack(this.#parts, snapshot, state.segments, before);
      state.adopt(found.segments, { generation, firstIndex });
      if (found.cutAfter < last) state.cursors.cut(found.cutAfter);
      if (generation > before) this.consumers?.lower(state);
      this.#shown = snapshot;
      this.#readOn(snapshot);
      const now = state.nextIndex - 1;
      if (now < last) state.cursors.cut(now);
    } else {
      this.#shown = snapshot;
      this.#readOn(snapshot);
    }
    // Whoever waits may have been overtaken by the call that looked.
    queueMicrotask(() => this.wakeups.wake());
  }

  #isSameChain({ chain, end }: LiveSnapshot): boolean {
    const shown = this.#shown?.chain;
    const { active, firstIndex } = this.#state;
    return shown !== undefined && shown.session === chain.session &&
      chain.generation === shown.generation &&
      chain.number === active.number && chain.salt === active.identity.salt &&
      chain.firstIndex === firstIndex && end >= active.end;
  }

  /** Counts what was published in the growing segment. */
  #readOn({ end }: LiveSnapshot): void {
    const { active } = this.#state;
    this.#behind = undefined;
    // What was found on the disk may be ahead of the page for a moment.
    if (end <= active.end) return;
    active.file.load();
    if (readTail(active, end)) return;
    const { path, lastIndex } = active;
    const index = lastIndex + 1;
    this.#behind = new ChecksumMismatchError(
      `Cannot read entry ${index}: its frame at offset ${active.end} of ` +
        `"${path}" is damaged though it was published, expected sound bytes`,
      { index, segment: path, offset: active.end },
    );
  }

  /** See `EntrySource`. */
  read(index: number, zeroCopy: boolean, run?: FrameRun): Entry {
    return this.attempt(() => {
      const { firstIndex, nextIndex } = this.#state;
      if (index >= firstIndex && index < nextIndex) {
        return this.reader.read(index, zeroCopy, run);
      }
      throw outOfRange(this.log, `read entry ${index}`, index);
    });
  }

  /** Reads what may go while it is read: then the log is another one now. */
  attempt<T>(work: () => T): T {
    for (let tries = 0;; tries++) {
      try {
        return work();
      } catch (error) {
        const gone = error instanceof SegmentNotFoundError ||
          error instanceof ChecksumMismatchError;
        if (!gone || !this.#lookAgain(error, tries)) throw error;
      }
    }
  }

  /** Whether the state may be another one than the time before. */
  #lookAgain(error: WalError, tries: number): boolean {
    // A writer that removes may outrun a reader many times, not for ever.
    const gone = error instanceof SegmentNotFoundError;
    if (this.changed() && tries < (gone ? OVERTAKEN_MAX : TRIES_MAX)) {
      this.refresh();
      return true;
    }
    if (tries > 5 * TRIES_MAX) return false;
    // A page that could not be followed the last time is tried again.
    if (this.#behind !== undefined) {
      this.refresh();
      return true;
    }
    if (this.#parts.view.changing) {
      // A moment, unless a death has left it so: then the disk tells.
      if (tries % TRIES_MAX === TRIES_MAX - 1) this.#followDisk();
      return true;
    }
    // What was found on the disk may be there no more.
    return gone && this.#followDisk();
  }

  /** Goes where the disk is, which a writer may change meanwhile. */
  #followDisk(): boolean {
    try {
      this.#goTo(this.#onDisk());
      return true;
    } catch (error) {
      if (!(error instanceof WalError)) throw error;
      return false;
    }
  }

  /** What a page would show of the log as it lies on the disk. */
  #onDisk(): LiveSnapshot {
    const { folder, logger, manifest } = this.#parts;
    const { state, facts } = soundLog(folder, logger);
    const { active, firstIndex, generation } = state;
    const { number, identity: { salt }, end } = active;
    const { logId } = manifest;
    const { open } = LIVE_STATE;
    const who = { logId, boot: "", session: "", state: open };
    const chain = { ...who, firstIndex, generation, number, salt };
    try {
      return { chain, end, durableIndex: facts.durableIndex() };
    } finally {
      state.close();
    }
  }
}

/** The log as a living writer shows it; else as it lies on the disk. */
export function findLog(
  storage: StoragePort,
  folder: StorageDirectory,
  view: LiveView,
  logger: Logger | undefined,
): LiveParts {
  const base = { storage, folder, view, logger };
  let seen: LiveSnapshot | undefined;
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    seen = view.look();
    const shown = seen !== undefined && isShown(storage, seen);
    const manifest = shown ? readManifest(folder) : undefined;
    if (seen === undefined || seen.chain.logId !== manifest?.logId) break;
    try {
      const state = shownState({ folder, manifest }, seen, logger);
      const found = { facts: undefined, report: FOUND_LIVE, seen, shown: seen };
      return { ...base, manifest, state, ...found };
    } catch (error) {
      // The writer has gone on; or the log is damaged, which the disk tells.
      if (!(error instanceof WalError)) throw error;
    }
  }
  const { state, facts, report } = soundLog(folder, logger);
  const manifest = readManifest(folder);
  if (manifest === undefined) throw missingLog("read", folder.path);
  return { ...base, manifest, state, facts, report, seen, shown: undefined };
}

/** The segments that a page shows, the growing one open to be read on. */
function shownState(
  parts: WalkParts,
  shown: LiveSnapshot,
  logger: Logger | undefined,
): LogState {
  const { segments } = walkBack(parts, shown, [], 0);
  const { firstIndex, generation } = shown.chain;
  const damaged = warnOfIndex(logger);
  const { nextSegment } = parts.manifest;
  const facts = { segments, firstIndex, generation, nextSegment, damaged };
  const state = new LogState(facts);
  state.active.file.load();
  return state;
}

/** Whether a writer of this boot has it open, or died without closing it. */
function isShown(storage: StoragePort, { chain }: LiveSnapshot): boolean {
  const boot = storage.bootId();
  return boot !== "" && chain.boot === boot && chain.state === LIVE_STATE.open;
}
