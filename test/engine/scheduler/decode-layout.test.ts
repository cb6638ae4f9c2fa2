/** Which gaps are closed: the cheapest layout of all, found without trying all. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { calibratedCostModel, decodeCallMs, decodePassMs } from "../../../engine/scheduler/cost-model.ts";
import { decodeLayout } from "../../../engine/scheduler/decode-layout.ts";
import { adjacentRuns } from "../../../engine/scheduler/passes.ts";
import type { CostModel } from "../../../engine/scheduler/types.ts";

const SLOTS = 10;

const costModel: fc.Arbitrary<CostModel> = fc
  .array(fc.integer({ min: 0, max: 30 }), { minLength: SLOTS, maxLength: SLOTS })
  .map((rises) => {
    let ms = 1;
    const decode = rises.map((rise, i) => ({ width: i + 1, ms: (ms += rise) }));
    return calibratedCostModel({ decode, prefill: [{ tokens: 1, ms: 1 }], copyMs: 0, check: [] });
  });

const slotSet = fc
  .uniqueArray(fc.integer({ min: 0, max: SLOTS - 1 }), { minLength: 1 })
  .map((slots) => slots.sort((a, b) => a - b));

/** Every set of idle slots that may be plugged, tried. */
function cheapestMs(slots: readonly number[], pluggable: readonly number[], cost: CostModel): number {
  let best = Infinity;
  for (let mask = 0; mask < 1 << pluggable.length; mask++) {
    const plugs = pluggable.filter((_, i) => (mask & (1 << i)) !== 0);
    const runs = adjacentRuns([...slots, ...plugs].sort((a, b) => a - b));
    best = Math.min(
      best,
      decodeCallMs(
        cost,
        runs.map(({ first, last }) => last - first + 1),
        0,
        0,
      ),
    );
  }
  return best;
}

test("no other choice of plugs is cheaper, and the layout is what its plugs make of the slots", () => {
  fc.assert(
    fc.property(
      slotSet,
      fc.uniqueArray(fc.integer({ min: 0, max: SLOTS - 1 })),
      costModel,
      (slots, allowed, cost) => {
        const pluggable = allowed.filter((slot) => !slots.includes(slot));
        const { plugs, passWidths } = decodeLayout(
          slots,
          (slot) => pluggable.includes(slot),
          (width) => decodePassMs(cost, width, 0),
        );
        expect(plugs.every((slot) => pluggable.includes(slot))).toBe(true);
        const runs = adjacentRuns([...slots, ...plugs].sort((a, b) => a - b));
        expect(passWidths).toEqual(runs.map(({ first, last }) => last - first + 1));
        expect(decodeCallMs(cost, passWidths, 0, 0)).toBeCloseTo(cheapestMs(slots, pluggable, cost), 9);
      },
    ),
  );
});

test("the cost of widths between two measured ones lies on a line, and a wider pass is never cheaper", () => {
  const decode = [
    { width: 1, ms: 10 },
    { width: 2, ms: 14 },
    { width: 6, ms: 12 },
    { width: 8, ms: 34 },
  ];
  const cost = calibratedCostModel({
    copyMs: 0,
    check: [],
    decode,
    prefill: [
      { tokens: 16, ms: 42 },
      { tokens: 64, ms: 138 },
    ],
  });
  expect(cost.decodePassMs).toEqual([0, 10, 14, 14, 14, 14, 14, 24, 34]);
  expect([cost.prefillCallMs, cost.prefillTokenMs]).toEqual([10, 2]);
});
