/**
 * A seeded generator: the same words in, the same numbers out, everywhere.
 *
 * sfc32, 128 bits of state. Printing the seed is the caller's business.
 *
 * @module
 */

import { checkWhole } from "./checks.ts";

/**
 * Numbers that only look random: what a workload needs in order to do the
 * same each time.
 *
 * @example The same seed, the same numbers
 * ```ts
 * import { Random } from "@walrus/wal/testing";
 *
 * const [one, other] = [new Random(7), new Random(7)];
 * console.log(one.int(100) === other.int(100)); // true
 * ```
 */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** More words name more streams: `new Random(seed, round)`. */
  constructor(seed: number, stream: number = 0, substream: number = 0) {
    checkWhole("make a Random", "seed", seed ?? null, 0);
    // Seeds above 32 bits count whole; sfc32 asks for 12 rounds of mixing.
    this.#a = seed | 0;
    this.#b = (stream ^ Math.floor(seed / 2 ** 32)) | 0;
    this.#c = substream | 0;
    for (let round = 0; round < 15; round++) this.uint32();
  }

  /** 0 … 2³² − 1. */
  uint32(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** 0 ≤ x < 1. */
  fraction(): number {
    return this.uint32() / 2 ** 32;
  }

  /** A whole number, 0 ≤ x < `count`. */
  int(count: number): number {
    return Math.floor(this.fraction() * count);
  }

  /** A whole number, `first` ≤ x ≤ `last`. */
  between(first: number, last: number): number {
    return first + this.int(last - first + 1);
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.fraction() < probability;
  }

  /**
   * One of them.
   *
   * @throws {RangeError} when there is none
   */
  pick<T>(items: readonly T[]): T {
    if (items.length === 0) {
      throw new RangeError("Cannot pick: there are no items, expected one");
    }
    return items[this.int(items.length)] as T;
  }

  /** Puts them into another order, in place, and returns them. */
  shuffle<T>(items: T[]): T[] {
    for (let last = items.length - 1; last > 0; last--) {
      const other = this.int(last + 1);
      const item = items[last] as T;
      items[last] = items[other] as T;
      items[other] = item;
    }
    return items;
  }

  /** Fills it and returns it. */
  fill(target: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    for (let offset = 0; offset < target.length; offset++) {
      target[offset] = this.uint32() >>> 24;
    }
    return target;
  }

  /** That many bytes. */
  bytes(count: number): Uint8Array<ArrayBuffer> {
    return this.fill(new Uint8Array(count));
  }

  /** That many hexadecimal digits. */
  hex(count: number): string {
    const digits = [...this.bytes(count)].map((byte) =>
      (byte & 15).toString(16)
    );
    return digits.join("");
  }
}
