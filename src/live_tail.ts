/**
 * Reads on in a segment that somebody else writes: published frames are
 * checked and counted, whole batches only. docs/format.md §10.
 *
 * @module
 */

import { alignFrame, FLAG, FRAME, FRAME_HEADER_BYTES } from "./format.ts";
import {
  frameFlags,
  frameIndex,
  frameLength,
  frameTerm,
  isFrameSound,
  isPlausibleFrame,
} from "./frame.ts";
import type { Segment } from "./segment.ts";

/** An entry of a batch whose end was not read yet. */
interface Found {
  readonly offset: number;
  readonly term: number;
  readonly low: number;
  readonly high: number;
}

/**
 * Counts the entries of the frames up to `end`, which were published; false
 * when one of them is not sound.
 */
export function readTail(segment: Segment, end: number): boolean {
  if (end > segment.identity.segmentBytes) return false;
  const batch: Found[] = [];
  let offset = segment.end;
  while (offset < end) {
    const next = segment.lastIndex + 1 + batch.length;
    const at = locateSound(segment, offset, end, next);
    if (at < 0) return false;
    const { view } = segment.file.window;
    const flags = frameFlags(view, at);
    const frameEnd = offset + alignFrame(frameLength(view, at));
    if ((flags & FLAG.entry) !== 0) {
      batch.push({
        offset,
        term: frameTerm(view, at),
        low: view.getUint32(at + FRAME.timestamp, true),
        high: view.getInt32(at + FRAME.timestamp + 4, true),
      });
    }
    offset = frameEnd;
    if ((flags & FLAG.batchContinues) !== 0) continue;
    for (const one of batch) segment.noteEntry(one.offset, one.term, one);
    batch.length = 0;
    segment.end = offset;
  }
  return segment.end === end;
}

function locateSound(
  segment: Segment,
  offset: number,
  end: number,
  index: number,
): number {
  const { file, identity } = segment;
  const { number, salt } = identity;
  let at = file.locate(offset, FRAME_HEADER_BYTES, end);
  if (at < 0) return -1;
  let { view } = file.window;
  if (!isPlausibleFrame(view, at, offset, end, number)) return -1;
  if (frameIndex(view, at) !== index) return -1;
  at = file.locate(offset, frameLength(view, at), end);
  if (at < 0) return -1;
  ({ view } = file.window);
  return isFrameSound(file.window, at, offset, salt) ? at : -1;
}
