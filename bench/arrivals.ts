/** When the requests of an open loop are sent: whatever becomes of the ones before, as from users who do not know of each other. */
import { createDraws } from "./simulate/random.ts";

export interface ArrivalRate {
  /** Requests a second, on average. */
  readonly perSecond: number;
  /** Shape of the gamma law of the gaps: 1 is a Poisson process, less comes in bursts, more is more even. */
  readonly burstiness: number;
}

/** @returns The time of each request in ms after the start, by its index from 0; ascending, the same for the same seed. */
export function arrivalTimes(
  { perSecond, burstiness }: ArrivalRate,
  seed: number,
): (index: number) => number {
  const draws = createDraws(seed);
  const cv = 1 / Math.sqrt(burstiness);
  const times: number[] = [];
  return (index) => {
    while (times.length <= index) times.push((times.at(-1) ?? 0) + (1000 / perSecond) * draws.gap(cv));
    return times[index] ?? 0;
  };
}
