/** How sure a median over few rounds is, without a law for how they scatter. */
import { createRng } from "./rng.ts";
import { median } from "./stats.ts";

export interface Interval {
  readonly low: number;
  readonly high: number;
}

const RESAMPLES = 2000;
/** Of two rounds any resample is one of three numbers. */
const FEWEST_SAMPLES = 3;

/**
 * The middle 95 % of the medians of so many sets drawn with replacement from the samples; the same for the same samples.
 *
 * @returns Undefined for fewer than three samples.
 */
export function medianInterval(samples: readonly number[]): Interval | undefined {
  if (samples.length < FEWEST_SAMPLES) return undefined;
  const rng = createRng(samples.length);
  const medians = Array.from(
    { length: RESAMPLES },
    () => median(samples.map(() => samples[rng.below(samples.length)] ?? 0)) ?? 0,
  ).sort((a, b) => a - b);
  return { low: medians[RESAMPLES * 0.025] ?? 0, high: medians[RESAMPLES * 0.975 - 1] ?? 0 };
}
