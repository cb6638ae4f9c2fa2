/** The only source of time in the benchmark, so that its tests need none. */

export interface BenchClock {
  /** Monotonic, ms. */
  nowMs(): number;
  /** Runs `callback` once after `delayMs`; the returned function takes it back. */
  after(delayMs: number, callback: () => void): () => void;
}

export const realClock: BenchClock = {
  nowMs: () => performance.now(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};
