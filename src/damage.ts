/**
 * What holes mean, once all segments are read: which are damage, because a
 * durable mark vouches for what is missing, and which one is the log's end.
 * Pure: what was read in, gaps and findings out. docs/format.md §7, steps 6
 * to 9.
 *
 * @module
 */

import { damage, type Finding } from "./finding.ts";
import { HEADER_BYTES } from "./format.ts";
import type { Piece, WalkBounds, WalkHole } from "./frame_walk.ts";
import { comparePositions, type Position } from "./mark.ts";
import type { Member } from "./remains.ts";
import type { RecoveryReport } from "./report.ts";

/** Entries that cannot be read. */
export type Gap = RecoveryReport["gaps"][number];

/** A segment as it was read. */
export interface Reading {
  /** The segment. */
  readonly member: Member;
  /** Its file's path. */
  readonly path: string;
  /** What can be read of it and what not, in order. */
  readonly parts: (Piece | WalkHole)[];
  /** How it was read; undefined when it could not be. */
  readonly bounds: WalkBounds | undefined;
  /** Whether something tells where its frames end. */
  readonly endKnown: boolean;
}

/** What the holes are judged by. */
export interface Evidence {
  /** The segments in order. */
  readonly readings: readonly Reading[];
  /** The highest durable mark; without a manifest nobody knows it. */
  readonly durable: Position | undefined;
  /** The first entry that was not removed. */
  readonly firstIndex: number;
  /** The log's next index is this one or a later one. */
  readonly nextIndexMin: number;
  /** Whether it is exactly this one. */
  readonly closed: boolean;
  /** Why a later segment must have been there that nothing names. */
  readonly lostSuccessor: string | undefined;
}

/** What a segment gives to the log. */
export interface Kept {
  /** The segment as it was read. */
  readonly reading: Reading;
  /** Its first piece's first index. */
  readonly firstIndex: number;
  /** The index after its last entry that can be read. */
  readonly nextIndex: number;
  /** Where that ends. */
  readonly end: number;
}

/** What is left of the log, and what is not. */
export interface Judgement {
  /** What cannot be read, in order. */
  readonly gaps: readonly Gap[];
  /** The same in words, and damage that loses no entry. */
  readonly findings: readonly Finding[];
  /** Segments with something that can be read. */
  readonly kept: readonly Kept[];
  /** The index that the next entry gets. */
  readonly nextIndex: number;
  /** Whether anything is damaged. */
  readonly damaged: boolean;
  /** The last thing that can be read before the first damage. */
  readonly beforeDamage: Kept | undefined;
}

/** Bytes that are missing, until it is known which entries they held. */
interface Loss {
  readonly segment: string;
  readonly offset: number;
  readonly message: string;
  /** Whether it is damage even if no entry is lost. */
  readonly certain: boolean;
  /** Whether it is the whole file that is wrong. */
  readonly whole: boolean;
}

/** Tells damage from the log's end. */
export function judgeHoles(evidence: Evidence): Judgement {
  return new Judge(evidence).judge();
}

class Judge {
  readonly #evidence: Evidence;
  readonly #gaps: Gap[] = [];
  readonly #findings: Finding[] = [];
  readonly #kept: Kept[] = [];
  #expected: number;
  #pending: Loss | undefined;
  #beforeDamage: { kept: Kept | undefined } | undefined;
  #ended = false;

  constructor(evidence: Evidence) {
    this.#evidence = evidence;
    this.#expected = evidence.firstIndex;
  }

  judge(): Judgement {
    for (const reading of this.#evidence.readings) {
      this.#judgeSegment(reading);
      if (this.#ended) break;
    }
    this.#judgeEnd();
    return {
      gaps: this.#gaps,
      findings: this.#findings,
      kept: this.#kept,
      nextIndex: this.#expected,
      damaged: this.#beforeDamage !== undefined,
      beforeDamage: this.#beforeDamage?.kept,
    };
  }

  #judgeSegment(reading: Reading): void {
    const { member, path, parts, endKnown } = reading;
    if (member.fault !== undefined) {
      const loss = {
        segment: path,
        offset: 0,
        message: member.fault,
        certain: true,
        whole: true,
      };
      if (this.#isEnd({ number: member.number, offset: 0 })) return;
      this.#pending ??= loss;
    }
    for (const part of parts) {
      if (part.kind === "piece") this.#takePiece(reading, part);
      else if (this.#isHoleAtEnd(reading, part)) return;
      else if (part.blank && !endKnown && this.#unvouched) continue;
      else {
        const { offset, message } = part;
        // Without a successor's word frames may simply end there.
        const certain = endKnown || !part.last || !this.#hasSuccessor(reading);
        const loss = { segment: path, offset, message, certain, whole: false };
        this.#pending ??= loss;
      }
    }
  }

  /** Whether nobody knows the durable mark: the manifest is lost. */
  get #unvouched(): boolean {
    return this.#evidence.durable === undefined;
  }

  #hasSuccessor(reading: Reading): boolean {
    return this.#evidence.readings.at(-1) !== reading;
  }

  /** Whether nobody vouches for what lies behind this place. */
  #isEnd(place: Position): boolean {
    const { durable } = this.#evidence;
    this.#ended = durable !== undefined &&
      comparePositions(durable, place) <= 0;
    return this.#ended;
  }

  #isHoleAtEnd({ member, path }: Reading, hole: WalkHole): boolean {
    const { offset, vouchedFrom, decided } = hole;
    if (!this.#isEnd({ number: member.number, offset: vouchedFrom })) {
      return false;
    }
    if (decided) return true;
    const message = "so many frame-like bytes follow that it cannot be " +
      "decided what they are, expected frames or zeros";
    const loss = { segment: path, offset, message, certain: true };
    this.#pending ??= { ...loss, whole: false };
    return true;
  }

  #takePiece(reading: Reading, piece: Piece): void {
    const { firstIndex, nextIndex, end } = piece;
    const pending = this.#pending;
    this.#pending = undefined;
    if (firstIndex > this.#expected) {
      const { path } = reading;
      const message = `entry ${firstIndex} comes next, expected entry ` +
        `${this.#expected}`;
      const offset = piece.offset;
      const whole = false;
      const loss = { segment: path, offset, message, certain: true, whole };
      this.#lose(pending ?? loss, firstIndex - 1);
    } else if (pending?.certain) {
      // What was removed from the front may be damaged.
      const removed = this.#expected === this.#evidence.firstIndex &&
        firstIndex < this.#expected;
      if (!removed || pending.whole) this.#lose(pending, undefined);
    }
    this.#expected = Math.max(this.#expected, nextIndex);
    const last = this.#kept.at(-1);
    const merged = last?.reading === reading ? this.#kept.pop() : undefined;
    const first = merged?.firstIndex ?? firstIndex;
    this.#kept.push({ reading, firstIndex: first, nextIndex, end });
  }

  /** The entries up to `lastIndex` are lost; undefined: none is. */
  #lose(loss: Loss, lastIndex: number | undefined, atLeast = false): void {
    const { segment, offset, message } = loss;
    this.#beforeDamage ??= { kept: this.#kept.at(-1) };
    if (lastIndex === undefined) {
      this.#findings.push(damage({ segment, offset, message }, undefined));
      return;
    }
    const firstLostIndex = this.#expected;
    const lost = { firstLostIndex, lastLostIndex: lastIndex };
    this.#gaps.push({ segment, offset, ...lost });
    const found = { segment, offset, message };
    this.#findings.push(damage(found, { ...lost, atLeast }));
    this.#expected = lastIndex + 1;
  }

  /** What follows the last piece, and what the manifest says of the end. */
  #judgeEnd(): void {
    const { nextIndexMin, closed, readings } = this.#evidence;
    const pending = this.#pending;
    if (nextIndexMin > this.#expected) {
      const last = this.#kept.at(-1);
      const { path } = last?.reading ?? readings.at(-1)!;
      const message = `the frames end before entry ${this.#expected}, ` +
        `expected entries up to ${nextIndexMin - 1} as the manifest says`;
      const place = { segment: path, offset: last?.end ?? 0, message };
      const loss = { ...place, certain: true, whole: false };
      this.#lose(pending ?? loss, nextIndexMin - 1, !closed);
    } else if (pending?.certain) {
      const none = closed || (pending.whole && !this.#vouchesForFrames());
      if (none) this.#lose(pending, undefined);
      else this.#lose(pending, this.#expected, true);
    } else this.#judgeSuccessor();
  }

  #judgeSuccessor(): void {
    const { lostSuccessor: message, readings } = this.#evidence;
    const last = this.#kept.at(-1);
    if (message === undefined || last?.reading !== readings.at(-1)) return;
    const { path: segment } = last!.reading;
    const place = { segment, offset: last!.end, message };
    this.#lose({ ...place, certain: true, whole: false }, this.#expected, true);
  }

  /** Whether the durable mark lies behind a frame of the last segment. */
  #vouchesForFrames(): boolean {
    const { durable, readings } = this.#evidence;
    const { number } = readings.at(-1)!.member;
    const begun = { number, offset: HEADER_BYTES };
    return durable === undefined || comparePositions(durable, begun) > 0;
  }
}
