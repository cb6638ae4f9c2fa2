import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { deriveSeed, createRng } from "../../bench/rng.ts";
import {
  median,
  percentile,
  ratioSpread,
  samplesNeeded,
  spreadOf,
  standardDeviation,
  summarize,
} from "../../bench/stats.ts";

const oneToHundred = Array.from({ length: 100 }, (_, index) => 100 - index);

describe("percentiles", () => {
  it.each([
    { samples: [7], p: 0.5, value: 7 },
    { samples: [1, 2], p: 0.5, value: 1.5 },
    { samples: [3, 1, 2], p: 0.5, value: 2 },
    { samples: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], p: 0.9, value: 9.1 },
    { samples: oneToHundred, p: 0.5, value: 50.5 },
    { samples: oneToHundred, p: 0.9, value: 90.1 },
    { samples: oneToHundred, p: 0.99, value: 99.01 },
  ])("p$p of $samples.length samples interpolates to $value", ({ samples, p, value }) => {
    expect(percentile(samples, p)).toBeCloseTo(value, 10);
  });

  it.each([
    { p: 0.5, needed: 1 },
    { p: 0.9, needed: 10 },
    { p: 0.99, needed: 100 },
    { p: 0.999, needed: 1000 },
  ])("p$p needs $needed samples", ({ p, needed }) => {
    expect(samplesNeeded(p)).toBe(needed);
    expect(
      percentile(
        Array.from({ length: needed - 1 }, () => 1),
        p,
      ),
    ).toBeUndefined();
    expect(
      percentile(
        Array.from({ length: needed }, () => 1),
        p,
      ),
    ).toBe(1);
  });

  it("a percentile lies between the smallest and the largest sample and grows with p", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ noNaN: true, min: -1e6, max: 1e6 }), { minLength: 100, maxLength: 200 }),
        (samples) => {
          const values = [0.1, 0.5, 0.9, 0.99].map((p) => percentile(samples, p) ?? Number.NaN);
          const sorted = [...values].sort((a, b) => a - b);
          expect(values).toEqual(sorted);
          expect(values[0]).toBeGreaterThanOrEqual(Math.min(...samples));
          expect(values[3]).toBeLessThanOrEqual(Math.max(...samples));
        },
      ),
    );
  });
});

describe("summaries", () => {
  it("a summary of nothing has no numbers", () => {
    expect(summarize([])).toEqual({
      count: 0,
      mean: undefined,
      p50: undefined,
      p90: undefined,
      p99: undefined,
      max: undefined,
    });
    expect(median([])).toBeUndefined();
    expect(spreadOf([undefined])).toBeUndefined();
    expect(standardDeviation([])).toBeUndefined();
  });

  it("four samples have a mean, a median and a maximum, but no p90", () => {
    expect(summarize([4, 1, 3, 2])).toEqual({
      count: 4,
      mean: 2.5,
      p50: 2.5,
      p90: undefined,
      p99: undefined,
      max: 4,
    });
  });

  it("the standard deviation is that of the whole set", () => {
    expect(standardDeviation([2, 4, 4, 4, 5, 5, 7, 9])).toBe(2);
  });

  it("ratios are taken round by round, not between the medians", () => {
    expect(ratioSpread([10, 20, 90], [10, 40, 30])).toEqual({ median: 1, min: 0.5, max: 3 });
  });

  it("a round that one side lacks, or in which B is zero, has no ratio", () => {
    expect(ratioSpread([10, undefined, 5], [5, 5, 0])).toEqual({ median: 2, min: 2, max: 2 });
  });
});

describe("random numbers", () => {
  it("the same seed gives the same sequence on every machine", () => {
    const rng = createRng(1);
    expect([rng.below(1000), rng.below(1000), rng.below(1000)]).toEqual([627, 2, 527]);
  });

  it("labels in another order give another seed", () => {
    expect(deriveSeed(1, 2, 3)).not.toBe(deriveSeed(1, 3, 2));
    expect(deriveSeed(1, 0)).not.toBe(deriveSeed(1));
  });
});
