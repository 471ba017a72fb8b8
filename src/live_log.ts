/**
 * A log that somebody else may be writing: this thread, another one, another
 * process, another runtime. It takes no lock and changes nothing.
 *
 * It begins with what lies on the disk, or with what a writer of this boot
 * shows, and from then on goes where the live page says. What the page does
 * not show does not exist yet. docs/architecture.md, "Readers beside a
 * writer".
 *
 * @module
 */

import { closedError } from "./calls.ts";
import type { Consumer, ConsumerOptions } from "./consumer.ts";
import { EntryReader } from "./entry_reader.ts";
import { findLog, type LiveParts, LiveState } from "./live_state.ts";
import { LiveView } from "./live_view.ts";
import { LiveWait } from "./live_wait.ts";
import { openLogFolder } from "./look.ts";
import { type ReaderParts, WalReader } from "./reader.ts";
import type { CheckedReaderOptions } from "./reader_options.ts";
import { ReaderConsumers } from "./reader_consumers.ts";
import type { ConsumerInfo, SegmentInfo } from "./report.ts";
import { encoderFor } from "./still_log.ts";
import type { StoragePort } from "./storage.ts";
import { Wakeups } from "./wakeups.ts";

/** A log that is read while somebody else may write it. */
export class LiveLog extends WalReader {
  readonly #live: LiveState;
  readonly #wait: LiveWait;
  readonly #consumers: ReaderConsumers;
  readonly #wakeups: Wakeups;
  readonly #parts: LiveParts;
  #freed = false;

  /** Made by `openLiveLog`. */
  constructor(parts: LiveParts, reader: ReaderParts, live: LiveState) {
    super(reader);
    this.#live = live;
    this.#parts = parts;
    live.log = this;
    const { folder, storage } = parts;
    this.#wait = new LiveWait({
      folder,
      clock: storage.clock,
      changed: () => live.changed(),
      wake: () => reader.wakeups.wake(),
    });
    reader.wakeups.source = this.#wait;
    this.#wakeups = reader.wakeups;
    this.#consumers = live.consumers = new ReaderConsumers({
      storage,
      path: folder.path,
      logId: parts.manifest.logId,
      followed: {
        bounds: this,
        look: () => {
          const { firstIndex, nextIndex } = live.refreshed();
          return { firstIndex, nextIndex, durableIndex: live.durableIndex };
        },
        cursors: parts.state.cursors,
        wakeups: reader.wakeups,
        isClosed: () => live.closed,
        stuck: () => live.behind,
        read: (index, zeroCopy, run) => live.read(index, zeroCopy, run),
      },
      zeroCopy: reader.zeroCopy,
      logger: parts.logger,
      state: () => live.refreshed(),
    });
  }

  /** "closed" once it was. */
  override get state(): "open" | "closed" {
    return this.#live.closed ? "closed" : "open";
  }

  /** The last entry that no power cut takes back; 0 for none. */
  override get durableIndex(): number {
    const { firstIndex } = this.#live.refreshed();
    const { durableIndex } = this.#live;
    return durableIndex < firstIndex ? 0 : durableIndex;
  }

  /** The segment files that make up the log, in order. */
  override segments(): SegmentInfo[] {
    const segments = super.segments();
    // Read only, the last one is found like the others; it is not sealed.
    const last = segments.length - 1;
    return segments.map((info, i) => ({ ...info, sealed: i < last }));
  }

  /** Opens a consumer, or makes it; no other process may have it open. */
  override consumer(
    name: string,
    options?: ConsumerOptions,
  ): Promise<Consumer> {
    return this.#consumers.open(name, options);
  }

  /** All consumers, by name. */
  override consumers(): ConsumerInfo[] {
    if (this.#live.closed) throw closedError(this.directory);
    return this.#consumers.list();
  }

  /** Ends its followers, waits for its consumers, and frees its files. */
  override async close(): Promise<void> {
    this.#end();
    await this.#consumers.idle();
    this.#free();
  }

  /** The blocking twin of `close`; calls of consumers are not waited for. */
  override closeSync(): void {
    this.#end();
    this.#free();
  }

  #end(): void {
    this.#live.closed = true;
    this.#wait.close();
    this.#wakeups.wake();
  }

  #free(): void {
    if (this.#freed) return;
    this.#freed = true;
    this.#consumers.close();
    super.closeSync();
    this.#parts.view.close();
    this.#parts.folder.close();
  }
}

/** Opens the log in `path` to read it; throws when there is none. */
export function openLiveLog(
  storage: StoragePort,
  path: string,
  options: CheckedReaderOptions,
): LiveLog {
  const startNs = storage.clock.monotonicNs();
  const folder = openLogFolder(storage, path);
  const view = new LiveView(folder, storage.clock);
  try {
    const parts = findLog(storage, folder, view, options.logger);
    const live = new LiveState(parts);
    const { state } = parts;
    const { formatName } = parts.manifest;
    const encoder = encoderFor(formatName, folder.path, options);
    const { verifyReads, zeroCopy } = options;
    live.reader = new EntryReader({
      port: storage,
      state,
      encoder,
      verifyReads,
    });
    const wakeups = live.wakeups = new Wakeups(storage.clock);
    const ms = (storage.clock.monotonicNs() - startNs) / 1e6;
    const reader: ReaderParts = {
      directory: folder.path,
      port: storage,
      state,
      entries: live,
      zeroCopy,
      wakeups,
      refresh: () => live.refresh(),
      stuck: () => live.behind,
      attempt: (work) => live.attempt(work),
      recovery: {
        ...parts.report,
        entryCount: state.entryCount,
        ms,
        savedPath: undefined,
      },
    };
    return new LiveLog(parts, reader, live);
  } catch (error) {
    view.close();
    folder.close();
    throw error;
  }
}
