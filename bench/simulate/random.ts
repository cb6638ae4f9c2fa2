/** Draws that traces are made of: lengths and times between arrivals, from a seeded source. */
import { createRng } from "../rng.ts";
import type { Rng } from "../rng.ts";

export interface Draws {
  readonly rng: Rng;
  /** Mean 0, standard deviation 1. */
  normal(): number;
  /** Of mean 1, by a gamma law; `cv` is its standard deviation: 0 is even, 1 is Poisson's, more comes in bursts. */
  gap(cv: number): number;
}

export function createDraws(seed: number): Draws {
  const rng = createRng(seed);
  const uniform = (): number => Math.max(rng.next(), 2 ** -33);
  const normal = (): number => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * rng.next());
  return {
    rng,
    normal,
    gap(cv) {
      const shape = 1 / (cv * cv);
      // The limit of the law, and near it no number of its own.
      if (shape === Infinity) return 1;
      return gamma(shape, normal, uniform) / shape;
    },
  };
}

/**
 * By G. Marsaglia and W. W. Tsang, A simple method for generating gamma variables, ACM Transactions on Mathematical
 * Software 26 (2000); a shape below 1 is had from one above it.
 */
function gamma(shape: number, normal: () => number, uniform: () => number): number {
  if (shape < 1) return gamma(shape + 1, normal, uniform) * uniform() ** (1 / shape);
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = normal();
    const v = (1 + c * x) ** 3;
    if (v > 0 && Math.log(uniform()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
  }
}

/** How many tokens a text has: a lognormal law by its median and 90th percentile, or two of them. */
export interface LengthLaw {
  readonly p50: number;
  readonly p90: number;
  /** Share of texts of another law. */
  readonly other?: { readonly share: number; readonly law: LengthLaw };
}

/** 90 % of a normal law lie below so many standard deviations. */
const P90 = 1.2816;

/** With the mean and the median of a lognormal law. */
export function byMean(mean: number, p50: number): LengthLaw {
  return { p50, p90: p50 * Math.exp(P90 * Math.sqrt(2 * Math.log(mean / p50))) };
}

export function drawLength(law: LengthLaw, draws: Draws): number {
  if (law.other !== undefined && draws.rng.next() < law.other.share) return drawLength(law.other.law, draws);
  const sigma = Math.log(law.p90 / law.p50) / P90;
  return Math.max(1, Math.round(law.p50 * Math.exp(sigma * draws.normal())));
}

export function meanLength({ p50, p90, other }: LengthLaw): number {
  const sigma = Math.log(p90 / p50) / P90;
  const own = p50 * Math.exp(sigma ** 2 / 2);
  return other === undefined ? own : own * (1 - other.share) + meanLength(other.law) * other.share;
}
