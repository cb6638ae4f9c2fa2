/** A small seeded random source, so that a benchmark's prompts are the same on every machine. */

export interface Rng {
  /** 0 inclusive to 1 exclusive. */
  next(): number;
  /** Whole number, 0 inclusive to `limit` exclusive. */
  below(limit: number): number;
}

/**
 * Mixes labels (round, level, index) into a seed, so that each gets its own unrelated stream.
 *
 * @returns Unsigned 32-bit.
 */
export function deriveSeed(seed: number, ...labels: readonly number[]): number {
  let state = seed >>> 0;
  for (const label of labels) state = scramble((state ^ Math.imul(label + 1, 0x9e3779b1)) >>> 0);
  return state;
}

/** The generator is mulberry32: 32 bits of state, far more than prompts need. */
export function createRng(seed: number): Rng {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return { next, below: (limit) => Math.floor(next() * limit) };
}

/** Finaliser of MurmurHash3: every input bit reaches every output bit. */
function scramble(value: number): number {
  let mixed = value;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
