/** Medians and what surrounds them. */

/** The value below which `part` of the sorted list lies. */
export function quantile(sorted, part) {
  if (sorted.length === 0) return NaN;
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
}

/** The median and two high percentiles of single times. */
export function summarize(times) {
  const sorted = [...times].sort((a, b) => a - b);
  return {
    p50: quantile(sorted, 0.5),
    p99: quantile(sorted, 0.99),
    worst: sorted.at(-1),
  };
}

/** The median of rounds and how far the farthest is from it, as a part. */
export function medianOfRounds(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (sorted.length === 0) return undefined;
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1
    ? sorted[middle]
    : (sorted[middle - 1] + sorted[middle]) / 2;
  const farthest = Math.max(median - sorted[0], sorted.at(-1) - median);
  const spread = median === 0 ? 0 : farthest / Math.abs(median);
  return { median, spread, rounds: sorted.length };
}
