/** How samples are distributed, as a plot shows it. */
import { sideName } from "./format.ts";
import type { Series } from "./svg-plot.ts";

/** The share of samples up to each value. */
export function cumulative(side: number, samples: readonly number[]): Series {
  const sorted = [...samples].sort((a, b) => a - b);
  const points = sorted.map((sample, i) => [sample, (i + 1) / sorted.length] as const);
  const [least] = sorted;
  const begin = least === undefined ? [] : [[least, 0] as const];
  return { name: sideName(side), colour: side, kind: "steps", points: [...begin, ...points] };
}
