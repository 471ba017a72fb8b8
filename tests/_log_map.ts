/**
 * Where each entry of a log lies, read from its files by docs/format.md's
 * offsets alone: what damage to some bytes must cost, and what it must not.
 *
 * @module
 */
import { type Files, getU32, getU64, segmentFile } from "./_log_bytes.ts";

/** One entry's frame. */
export interface Place {
  readonly index: number;
  readonly file: string;
  readonly from: number;
  readonly to: number;
  /** The index of the first entry of its batch. */
  readonly batch: number;
}

/** The numbers of the chain's segments, in order. */
export function chainNumbers(files: Files): number[] {
  const names = [...files.keys()].filter((name) => name.endsWith(".wal"));
  const numbers: number[] = [];
  let number = Number(names.sort().at(-1)!.slice(8, 28));
  while (number > 0) {
    numbers.unshift(number);
    number = Number(getU64(files.get(segmentFile(number))!, 128 + 8));
    if (!files.has(segmentFile(number))) break;
  }
  return numbers;
}

/** Where every entry of a sound log lies. */
export function mapEntries(files: Files): Place[] {
  const numbers = chainNumbers(files);
  const places: Place[] = [];
  for (const [i, number] of numbers.entries()) {
    const file = segmentFile(number);
    const bytes = files.get(file)!;
    const next = numbers[i + 1];
    const end = next === undefined
      ? bytes.length - 64
      : getU32(files.get(segmentFile(next))!, 128 + 20);
    let batch = 0;
    for (let from = 4096; from + 40 <= end;) {
      const length = getU32(bytes, from + 4);
      const flags = bytes[from + 16]!;
      if (length < 40 || flags === 0) break;
      const to = from + length;
      if ((flags & 1) !== 0) {
        const index = Number(getU64(bytes, from + 8));
        if (batch === 0) batch = index;
        places.push({ index, file, from, to, batch });
        if ((flags & 2) === 0) batch = 0;
      }
      from += Math.ceil(length / 8) * 8;
    }
  }
  return places;
}

/** The entries whose batches have a byte in the range. */
export function touched(
  places: readonly Place[],
  file: string,
  from: number,
  to: number,
): Set<number> {
  const batches = new Set(
    places
      .filter((one) => one.file === file && one.from < to && one.to > from)
      .map((one) => one.batch),
  );
  return new Set(
    places.filter((one) => batches.has(one.batch)).map((one) => one.index),
  );
}
