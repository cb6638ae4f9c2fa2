/** Percentiles of any number of times in little memory: counts in buckets that are 1 % wide. */

/** The smallest time that is told from zero, in ms. */
const LEAST_MS = 1e-3;
const GROWTH = 1.01;
const LOG_GROWTH = Math.log(GROWTH);
/** Times beyond 10^8 ms share the last bucket. */
const BUCKETS = Math.ceil(Math.log(1e8 / LEAST_MS) / LOG_GROWTH) + 2;

function bucketOf(ms: number): number {
  const place = ms <= LEAST_MS ? 0 : 1 + Math.floor(Math.log(ms / LEAST_MS) / LOG_GROWTH);
  return Math.min(BUCKETS - 1, place);
}

export class Histogram {
  readonly #counts = new Float64Array(BUCKETS);
  #count = 0;
  #sum = 0;
  #max = 0;
  #lastMs = 0;
  #lastBucket = 0;

  add(ms: number): void {
    // Tokens that are drawn together have mostly waited as long.
    if (ms !== this.#lastMs) {
      this.#lastMs = ms;
      this.#lastBucket = bucketOf(ms);
    }
    this.#counts[this.#lastBucket] = (this.#counts[this.#lastBucket] ?? 0) + 1;
    this.#count += 1;
    this.#sum += ms;
    if (ms > this.#max) this.#max = ms;
  }

  get count(): number {
    return this.#count;
  }

  /** Exact. Undefined without samples, as the others. */
  get mean(): number | undefined {
    return this.#count === 0 ? undefined : this.#sum / this.#count;
  }

  /** Exact. */
  get max(): number | undefined {
    return this.#count === 0 ? undefined : this.#max;
  }

  /**
   * The middle of the bucket in which the sample of this rank lies: wrong by 0.5 % at the most.
   * @param p 0-1.
   */
  percentile(p: number): number | undefined {
    if (this.#count === 0) return undefined;
    let left = Math.max(1, Math.ceil(p * this.#count));
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      left -= this.#counts[bucket] ?? 0;
      if (left > 0) continue;
      if (bucket === 0) return 0;
      return Math.min(this.#max, LEAST_MS * GROWTH ** (bucket - 0.5));
    }
    return this.#max;
  }
}
