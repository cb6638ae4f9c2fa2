/** The pass model: how a native call is split into device passes. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { adjacentRuns, devicePasses } from "../../../engine/scheduler/passes.ts";

const one = (...slots: number[]): { slot: number; tokens: number }[] =>
  slots.map((slot) => ({ slot, tokens: 1 }));

describe("devicePasses", () => {
  test.each([
    ["adjacent ascending slots share a pass", one(0, 1, 2, 3, 4, 5, 6, 7), [[[0, 1, 2, 3, 4, 5, 6, 7], 1]]],
    [
      "descending slots take a pass each",
      one(3, 2, 1, 0),
      [
        [[3], 1],
        [[2], 1],
        [[1], 1],
        [[0], 1],
      ],
    ],
    [
      "a gap ends a pass",
      one(0, 2, 3, 5),
      [
        [[0], 1],
        [[2, 3], 1],
        [[5], 1],
      ],
    ],
    [
      "a long prompt beside decodes is cut in two",
      [...one(0, 1, 2), { slot: 3, tokens: 64 }],
      [
        [[0, 1, 2, 3], 1],
        [[3], 63],
      ],
    ],
    [
      "unequal lengths shatter",
      [
        { slot: 0, tokens: 5 },
        { slot: 1, tokens: 3 },
        { slot: 2, tokens: 1 },
        { slot: 3, tokens: 5 },
      ],
      [
        [[0, 1, 2, 3], 1],
        [[0, 1], 2],
        [[0], 2],
        [[3], 4],
      ],
    ],
  ] as const)("%s", (_name, entries, expected) => {
    expect(devicePasses(entries, 512).map((pass) => [pass.slots, pass.tokensEach])).toEqual(expected);
  });

  test("a pass never exceeds the batch and every token is in exactly one pass", () => {
    const entries = fc
      .uniqueArray(fc.integer({ min: 0, max: 40 }), { minLength: 1, maxLength: 12 })
      .chain((slots) =>
        fc.tuple(
          ...slots.map((slot) =>
            fc.record({ slot: fc.constant(slot), tokens: fc.integer({ min: 1, max: 40 }) }),
          ),
        ),
      );
    fc.assert(
      fc.property(entries, fc.integer({ min: 1, max: 64 }), (list, batchTokens) => {
        const passes = devicePasses(list, batchTokens);
        for (const entry of list) {
          const computed = passes
            .filter((pass) => pass.slots.includes(entry.slot))
            .reduce((sum, pass) => sum + pass.tokensEach, 0);
          expect(computed).toBe(entry.tokens);
        }
        for (const pass of passes) {
          expect(pass.slots.length * pass.tokensEach).toBeLessThanOrEqual(batchTokens);
          for (let i = 1; i < pass.slots.length; i++)
            expect(pass.slots[i]).toBe((pass.slots[i - 1] ?? 0) + 1);
        }
      }),
    );
  });

  test("adjacent runs are the passes of one token per slot", () => {
    const slots = fc.uniqueArray(fc.integer({ min: 0, max: 30 }), { maxLength: 20 });
    fc.assert(
      fc.property(slots, (list) => {
        const ascending = list.sort((a, b) => a - b);
        const runs = adjacentRuns(ascending).map(({ first, last }) => [first, last]);
        const passes = devicePasses(one(...ascending), 512);
        expect(runs).toEqual(passes.map((pass) => [pass.slots[0], pass.slots.at(-1)]));
      }),
    );
  });
});
