/** How samples are distributed, as a plot shows it. */
import { sideName } from "./format.ts";
import type { Series } from "./svg-plot.ts";

/** More steps than this are finer than a page can show, and would make it megabytes large. */
const MOST_STEPS = 2000;

/** The share of samples up to each value. */
export function cumulative(side: number, samples: readonly number[]): Series {
  const sorted = [...samples].sort((a, b) => a - b);
  const every = Math.ceil(sorted.length / MOST_STEPS);
  const points = sorted.flatMap((sample, i) =>
    // The largest one among them.
    (sorted.length - 1 - i) % every === 0 ? [[sample, (i + 1) / sorted.length] as const] : [],
  );
  const [least] = sorted;
  const begin = least === undefined ? [] : [[least, 0] as const];
  return { name: sideName(side), colour: side, kind: "steps", points: [...begin, ...points] };
}
