/**
 * Latencies in buckets: constant memory, a few nanoseconds per sample.
 *
 * Buckets are an eighth of a power of two wide, so a percentile is at most
 * 12.5 % too high.
 *
 * @module
 */

/** Percentiles of a set of samples, in nanoseconds. */
export interface Percentiles {
  /** How many samples were taken. */
  readonly count: number;
  /** Half of the samples took at most this long, in nanoseconds. */
  readonly p50: number;
  /** 99 % of the samples took at most this long, in nanoseconds. */
  readonly p99: number;
  /** 99.9 % of the samples took at most this long, in nanoseconds. */
  readonly p999: number;
  /** The longest, in nanoseconds. */
  readonly max: number;
}

const STEPS = 8;
const BUCKETS = 48 * STEPS;

/** Collects samples. */
export class LatencyHistogram {
  readonly #buckets = new Uint32Array(BUCKETS);
  #count = 0;
  #max = 0;

  /** Adds one sample. */
  add(ns: number): void {
    this.#count++;
    if (ns > this.#max) this.#max = ns;
    const bucket = ns <= 1 ? 0 : Math.floor(Math.log2(ns) * STEPS);
    this.#buckets[Math.min(bucket, BUCKETS - 1)]!++;
  }

  /** What was collected so far. */
  percentiles(): Percentiles {
    return {
      count: this.#count,
      p50: this.#at(0.5),
      p99: this.#at(0.99),
      p999: this.#at(0.999),
      max: this.#max,
    };
  }

  #at(share: number): number {
    let left = Math.ceil(this.#count * share);
    if (left === 0) return 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      left -= this.#buckets[bucket]!;
      if (left > 0) continue;
      return Math.min(this.#max, Math.ceil(2 ** ((bucket + 1) / STEPS)));
    }
    return this.#max;
  }
}
