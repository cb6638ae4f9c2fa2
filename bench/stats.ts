/**
 * What a percentile, a median and a summary of samples are in every report of the benchmark.
 *
 * A percentile interpolates linearly between the two closest ranks (rank `p * (n - 1)`, counted from 0), as
 * NumPy and therefore vLLM's benchmark do. One that would rest on the largest sample alone is not given.
 */

export interface Summary {
  readonly count: number;
  readonly mean: number | undefined;
  readonly p50: number | undefined;
  readonly p90: number | undefined;
  readonly p99: number | undefined;
  readonly max: number | undefined;
}

/** The median over rounds, with the extremes beside it: a ratio of medians alone hides its spread. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/**
 * Fewest samples for which percentile `p` says something: one of them must lie beyond it, so p90 needs 10 and
 * p99 needs 100. The median needs one.
 *
 * @param p 0-1.
 */
export function samplesNeeded(p: number): number {
  // Rounded first: 1 / (1 - 0.9) is 10.000000000000002 in binary.
  return p <= 0.5 ? 1 : Math.ceil(Number((1 / (1 - p)).toFixed(6)));
}

/**
 * @param p 0-1.
 * @returns Undefined when there are fewer than `samplesNeeded(p)` samples.
 */
export function percentile(samples: readonly number[], p: number): number | undefined {
  return percentileOfSorted(ascending(samples), p);
}

/** As `percentile`, of however few samples; for a figure that says so. */
export function quantile(samples: readonly number[], p: number): number | undefined {
  return interpolated(ascending(samples), p);
}

/** Undefined without samples. */
export function median(samples: readonly number[]): number | undefined {
  return percentile(samples, 0.5);
}

export function summarize(samples: readonly number[]): Summary {
  const sorted = ascending(samples);
  return {
    count: sorted.length,
    mean: sorted.length === 0 ? undefined : sum(sorted) / sorted.length,
    p50: percentileOfSorted(sorted, 0.5),
    p90: percentileOfSorted(sorted, 0.9),
    p99: percentileOfSorted(sorted, 0.99),
    max: sorted.at(-1),
  };
}

/** Undefined without samples; missing samples do not count. */
export function spreadOf(samples: readonly (number | undefined)[]): Spread | undefined {
  const sorted = ascending(samples.filter((sample) => sample !== undefined));
  const middle = percentileOfSorted(sorted, 0.5);
  const min = sorted[0];
  const max = sorted.at(-1);
  if (middle === undefined || min === undefined || max === undefined) return undefined;
  return { median: middle, min, max };
}

/** `a[i] / b[i]`: rounds are compared pair by pair, because both of a pair saw the same machine. */
export function ratiosOf(a: readonly (number | undefined)[], b: readonly (number | undefined)[]): number[] {
  return a.flatMap((value, index) => {
    const other = b[index];
    return value === undefined || other === undefined || other === 0 ? [] : [value / other];
  });
}

export function ratioSpread(
  a: readonly (number | undefined)[],
  b: readonly (number | undefined)[],
): Spread | undefined {
  return spreadOf(ratiosOf(a, b));
}

/** Standard deviation of the whole set (divided by n); undefined without samples. */
export function standardDeviation(samples: readonly number[]): number | undefined {
  if (samples.length === 0) return undefined;
  const mean = sum(samples) / samples.length;
  return Math.sqrt(sum(samples.map((sample) => (sample - mean) ** 2)) / samples.length);
}

export function sum(samples: readonly number[]): number {
  let total = 0;
  for (const sample of samples) total += sample;
  return total;
}

function ascending(samples: readonly number[]): number[] {
  return [...samples].sort((a, b) => a - b);
}

function percentileOfSorted(sorted: readonly number[], p: number): number | undefined {
  return sorted.length < samplesNeeded(p) ? undefined : interpolated(sorted, p);
}

function interpolated(sorted: readonly number[], p: number): number | undefined {
  const rank = p * (sorted.length - 1);
  const below = sorted[Math.floor(rank)];
  const above = sorted[Math.ceil(rank)];
  if (below === undefined || above === undefined) return undefined;
  return below + (above - below) * (rank - Math.floor(rank));
}
