/**
 * Which segments make up the open log: finds the one that holds an entry,
 * begins new ones, forgets what is off the chain, and keeps few of them open.
 *
 * @module
 */

import { assert } from "./assert.ts";
import { Cursors } from "./cursor.ts";
import { HEADER_BYTES, SEGMENT_BYTES_MIN } from "./format.ts";
import type { Manifest } from "./manifest.ts";
import type { Position } from "./mark.ts";
import type { Segment } from "./segment.ts";

/** Segments kept open for reading besides those that are written. */
const OPEN_SEGMENTS_MAX = 8;

/** What every segment of the log has in common. */
export interface LogIdentity {
  /** The log's random id, hex. */
  readonly logId: string;
  /** The log's format name. */
  readonly formatName: string;
}

/** The segments of an open log. */
export class LogState {
  /** In order; the last one grows, if the log is open for writing. */
  segments: Segment[];
  /** The first entry that is not removed. */
  firstIndex: number;
  /** How often the log's end was cut back. */
  generation: number;
  /** The number of the next segment. */
  nextSegment: number;
  /** Where followers stand. */
  readonly cursors: Cursors = new Cursors();
  readonly #damaged: ((path: string) => void) | undefined;
  readonly #open = new Set<Segment>();
  readonly #hidden = new Set<Segment>();
  /** Where the log begins, as manifests tell it. */
  #told: { firstIndex: number; firstSegment: number };
  /** Later beginnings, oldest first, that no manifest has told of yet. */
  #untold: { firstIndex: number; firstSegment: number }[] = [];
  #current: Segment | undefined;

  /** The log's state as recovery found or made it. */
  constructor(state: {
    segments: Segment[];
    firstIndex: number;
    generation: number;
    nextSegment: number;
    /** Told when a segment's index turns out to be damaged. */
    damaged?: ((path: string) => void) | undefined;
  }) {
    assert(state.segments.length > 0, "a log has at least one segment");
    this.segments = state.segments;
    this.firstIndex = state.firstIndex;
    this.generation = state.generation;
    this.nextSegment = state.nextSegment;
    this.#damaged = state.damaged;
    const firstSegment = state.segments[0]!.number;
    this.#told = { firstIndex: state.firstIndex, firstSegment };
    for (const one of state.segments) one.onDamagedIndex = state.damaged;
  }

  /** The last segment. */
  get active(): Segment {
    return this.segments[this.segments.length - 1]!;
  }

  /** The index that the next entry gets. */
  get nextIndex(): number {
    return this.active.lastIndex + 1;
  }

  /** How many entries there are. */
  get entryCount(): number {
    return this.nextIndex - this.firstIndex;
  }

  /** The segment that holds entry `index`, which must exist, ready to read. */
  holding(index: number): Segment {
    const current = this.#current;
    if (
      current !== undefined && index >= current.baseIndex &&
      index <= current.lastIndex && current.file.loaded
    ) return current;
    const segment = this.segments[this.#position(index)]!;
    this.#use(segment);
    return segment;
  }

  /** The position of the last segment that begins at or below `index`. */
  #position(index: number): number {
    let low = 0;
    let high = this.segments.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.segments[middle]!.baseIndex <= index) low = middle;
      else high = middle - 1;
    }
    // Empty segments begin where their successor begins, too.
    while (low > 0 && this.segments[low]!.entryCount === 0) low--;
    return low;
  }

  /** Ends the writing side of a sealed segment; it is only read from now on. */
  retire(segment: Segment): void {
    segment.file.endWriting();
    if (this.segments.includes(segment)) this.#keepOpen(segment);
    else segment.file.close();
  }

  #use(segment: Segment): void {
    segment.file.load();
    this.#current = segment;
    this.#keepOpen(segment);
  }

  /** Counts a segment as used; the one unused for longest is closed. */
  #keepOpen(segment: Segment): void {
    this.#open.delete(segment);
    this.#open.add(segment);
    if (this.#open.size <= OPEN_SEGMENTS_MAX) return;
    for (const oldest of this.#open) {
      this.#open.delete(oldest);
      oldest.file.unload();
      break;
    }
  }

  /** Puts a new segment at the end of the chain. */
  push(segment: Segment): void {
    this.segments.push(segment);
    segment.onDamagedIndex = this.#damaged;
    this.nextSegment = Math.max(this.nextSegment, segment.number + 1);
  }

  /** The growing segment begins the chain anew: what was before is gone. */
  beginAt(index: number): void {
    this.firstIndex = index;
    // Manifests must not tell of segments that this chain never had.
    this.#told = { firstIndex: index, firstSegment: this.active.number };
    this.#untold = [];
  }

  /**
   * Hides the entries below `index` and takes the segments off the chain that
   * have only such; their files stay open until `drop`, for syncs that cover
   * them. The growing segment always stays.
   */
  hideBefore(index: number): Segment[] {
    this.firstIndex = index;
    const kept = this.segments.findIndex((one, i) =>
      one.lastIndex >= index || i === this.segments.length - 1
    );
    const gone = this.segments.slice(0, kept);
    this.segments = this.segments.slice(kept);
    const firstSegment = this.segments[0]!.number;
    this.#untold.push({ firstIndex: index, firstSegment });
    for (const segment of gone) {
      this.#hidden.add(segment);
      if (this.#current === segment) this.#current = undefined;
    }
    return gone;
  }

  /** Takes segments off the chain; their files are closed. */
  drop(gone: readonly Segment[]): void {
    this.segments = this.segments.filter((one) => !gone.includes(one));
    for (const segment of gone) {
      this.#open.delete(segment);
      this.#hidden.delete(segment);
      if (this.#current === segment) this.#current = undefined;
      segment.file.close();
    }
  }

  /** A reader has found out which segments make up the log now. */
  adopt(
    segments: readonly Segment[],
    facts: { readonly firstIndex: number; readonly generation: number },
  ): void {
    const gone = this.segments.filter((one) => !segments.includes(one));
    this.segments = [...segments];
    this.firstIndex = facts.firstIndex;
    this.generation = facts.generation;
    for (const one of segments) one.onDamagedIndex = this.#damaged;
    this.drop(gone);
    this.drop(this.hideBefore(facts.firstIndex));
    this.#untold = [];
  }

  /** Closes all files. */
  close(): void {
    this.#current = undefined;
    this.#open.clear();
    for (const segment of this.segments) segment.file.close();
    for (const segment of this.#hidden) segment.file.close();
  }

  /** The segment that holds the last entry; undefined in an empty log. */
  lastFilled(): Segment | undefined {
    return this.entryCount === 0 ? undefined : this.holding(this.nextIndex - 1);
  }

  /** How large the next segment is: cut logs begin small and double. */
  nextSegmentBytes(segmentBytes: number): number {
    const doubled = 2 * this.active.identity.segmentBytes;
    return Math.min(segmentBytes, Math.max(SEGMENT_BYTES_MIN, doubled));
  }

  /** Bytes of frames behind `mark`. */
  bytesAfter(mark: Position): number {
    let sum = 0;
    for (const { number, end } of this.segments) {
      if (number === mark.number) sum += end - mark.offset;
      else if (number > mark.number) sum += end - HEADER_BYTES;
    }
    return sum;
  }

  /** Bytes of all segment files. */
  get bytes(): number {
    let sum = 0;
    for (const segment of this.segments) sum += segment.identity.segmentBytes;
    return sum;
  }

  /**
   * The manifest of what is on the disk: only what surely is
   * there may be claimed. With `closed`, of the whole log.
   */
  describe(
    log: LogIdentity,
    synced: {
      readonly durable: Position;
      readonly durableIndex: number;
      readonly coveredSegment: number;
      readonly coveredIndex: number;
    },
    closed: boolean,
  ): Manifest {
    const { durableIndex, coveredSegment, coveredIndex } = synced;
    const { active } = this;
    // Closing has synced all, whatever a sync still in flight will say.
    const mark = closed
      ? { number: active.number, offset: active.end }
      : synced.durable;
    const last = this.segments.findLast((one) =>
      one.number <= Math.max(mark.number, coveredSegment)
    );
    assert(last !== undefined, "a manifest names what is on the disk");
    // Entries that were hidden before a sync covered them may be lost: a
    // first index above the log's end would look like damage. Until then
    // that removal is not told of; an earlier one may be.
    while (closed || coveredIndex + 1 >= (this.#untold[0]?.firstIndex ?? NaN)) {
      const next = this.#untold.shift();
      if (next === undefined) break;
      this.#told = next;
    }
    const { firstIndex, firstSegment } = this.#told;
    return {
      ...log,
      firstIndex,
      firstSegment,
      lastSegment: last.number,
      nextSegment: Math.max(this.nextSegment, last.number + 1),
      nextIndex: closed
        ? this.nextIndex
        : Math.max(durableIndex + 1, firstIndex),
      generation: last.link.generation,
      mark,
      closed,
    };
  }
}
