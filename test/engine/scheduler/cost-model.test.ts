/** What calls teach the cost model: how fast the machine is now, and how widths differ from what was measured. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  calibratedCostModel,
  decodeCallMs,
  decodePassMs,
  refinedByDecode,
  withDrawMs,
} from "../../../engine/scheduler/cost-model.ts";
import type { CostModel } from "../../../engine/scheduler/types.ts";

const SLOTS = 8;
const WIDTHS = [1, 2, 3, 4, 5, 6, 7, 8];

/** Of a device whose passes take 10 ms and 2 ms a slot, as measured beside load that slowed some of the measurements. */
function measured(slowed: Readonly<Record<number, number>> = {}): CostModel {
  const ms = (width: number): number => (10 + 2 * width) * (slowed[width] ?? 1);
  return calibratedCostModel({
    decode: [1, 2, 4, SLOTS].map((width) => ({ width, ms: ms(width) })),
    prefill: [
      { tokens: 16, ms: 40 },
      { tokens: 64, ms: 130 },
    ],
    check: [2, 4, 8, 16].map((width) => ({ width, tokens: width, ms: ms(width) })),
    copyMs: 5,
  });
}

const trueMs = (width: number): number => 10 + 2 * width;
const plain = (width: number): { passWidths: number[]; drafts: number } => ({
  passWidths: [width],
  drafts: 0,
});

/** How dear a step of one width is against one of another. */
const relation = (cost: CostModel, width: number, other: number): number =>
  decodePassMs(cost, width, 0) / decodePassMs(cost, other, 0);

describe("calls of different widths", () => {
  test("put right what was measured beside other load, whatever the machine's speed is by then", () => {
    const slowed = fc.record({
      1: fc.double({ min: 1, max: 2, noNaN: true }),
      4: fc.double({ min: 1, max: 2, noNaN: true }),
      [SLOTS]: fc.double({ min: 1, max: 2, noNaN: true }),
    });
    const widths = fc.infiniteStream(fc.constantFrom(...WIDTHS));
    fc.assert(
      fc.property(slowed, widths, fc.double({ min: 0.5, max: 2, noNaN: true }), (factors, stream, speed) => {
        let cost = measured(factors);
        for (let i = 0; i < 600; i++) {
          const width = stream.next().value;
          cost = refinedByDecode(cost, plain(width), speed * trueMs(width));
        }
        for (const width of WIDTHS) {
          const error = decodeCallMs(cost, [width], 0, 0) / (speed * trueMs(width));
          expect(Math.abs(error - 1)).toBeLessThan(0.08);
        }
      }),
      { numRuns: 30 },
    );
  });

  test("keep the tables positive and ascending, and change them by a bounded step", () => {
    const calls = fc.array(
      fc.record({
        width: fc.integer({ min: 1, max: SLOTS }),
        drafts: fc.constantFrom(0, 0, 0, 1, 4, 16, 32),
        ms: fc.oneof(
          fc.double({ min: 0, max: 1e6, noNaN: true }),
          fc.double({ min: 5, max: 50, noNaN: true }),
        ),
      }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(calls, (made) => {
        let cost = measured();
        for (const { width, drafts, ms } of made) {
          const next = refinedByDecode(cost, { passWidths: [width], drafts }, ms);
          for (const table of [next.decodePassMs, next.checkPassMs])
            for (let at = 1; at < table.length; at++) {
              expect(table[at]).toBeGreaterThan(0);
              expect(table[at]).toBeGreaterThanOrEqual((table[at - 1] ?? 0) * (1 - 1e-9));
            }
          next.decodePassMs.slice(1).forEach((after, i) => {
            const factor = after / (cost.decodePassMs[i + 1] ?? 0);
            expect(Math.abs(Math.log(factor))).toBeLessThan(0.25);
          });
          for (const scale of [next.decodeScale, next.draftScale]) {
            expect(scale).toBeGreaterThanOrEqual(0.2);
            expect(scale).toBeLessThanOrEqual(5);
          }
          cost = next;
        }
      }),
    );
  });

  test("teach what more guesses cost, beyond the measured numbers too", () => {
    let cost = measured();
    // A row costs 4 ms, not 2.
    const checkedMs = (rows: number): number => 12 + 4 * (rows - 1);
    for (let i = 0; i < 600; i++) {
      const drafts = [1, 3, 8, 24, 32][i % 5] ?? 0;
      cost = refinedByDecode(cost, { passWidths: [1], drafts }, checkedMs(1 + drafts));
      if (i % 3 === 0) cost = refinedByDecode(cost, plain(1), trueMs(1));
    }
    for (const drafts of [1, 3, 8, 24, 32]) {
      const error = decodeCallMs(cost, [1], drafts, 0) / checkedMs(1 + drafts);
      expect(Math.abs(error - 1)).toBeLessThan(0.1);
    }
    expect(decodeCallMs(cost, [1], 0, 0)).toBeCloseTo(trueMs(1), 0);
  });
});

test("checks that were measured beside other load come to what prompts say, while none are made", () => {
  const before = measured();
  let cost: CostModel = {
    ...before,
    checkPassMs: before.checkPassMs.map((ms, tokens) => (tokens > 1 ? 15 * ms : ms)),
  };
  for (let i = 0; i < 800; i++) cost = refinedByDecode(cost, plain(1), 12);
  // A prompt token takes 1.9 ms here.
  expect(decodeCallMs(cost, [1], 8, 0)).toBeLessThan(12 + 8 * 3);
  expect(decodeCallMs(cost, [1], 8, 0)).toBeGreaterThan(12 + 8 * 1.9);
  let unharmed = before;
  for (let i = 0; i < 800; i++) unharmed = refinedByDecode(unharmed, plain(1), 12);
  expect(unharmed.checkPassMs).toEqual(before.checkPassMs);
});

test("calls that take more or less by chance do not carry the tables away", () => {
  fc.assert(
    fc.property(
      fc.infiniteStream(
        fc.record({
          width: fc.constantFrom(...WIDTHS),
          noise: fc.double({ min: 0.9, max: 1.1, noNaN: true }),
        }),
      ),
      (stream) => {
        const before = measured();
        let cost = before;
        for (let i = 0; i < 2000; i++) {
          const { width, noise } = stream.next().value;
          cost = refinedByDecode(cost, plain(width), trueMs(width) * noise);
        }
        for (const width of WIDTHS) {
          const drift = (cost.decodePassMs[width] ?? 0) / (before.decodePassMs[width] ?? 1);
          expect(Math.abs(Math.log(drift))).toBeLessThan(0.15);
        }
      },
    ),
    { numRuns: 20 },
  );
});

test("calls of one width say how fast the machine is, and nothing of other widths", () => {
  const before = measured({ 4: 1.5 });
  let cost = before;
  for (let i = 0; i < 50; i++) cost = refinedByDecode(cost, plain(4), 30);
  expect(cost.decodePassMs).toEqual(before.decodePassMs);
  expect(decodeCallMs(cost, [4], 0, 0)).toBeCloseTo(30, 2);
});

test("calls of several passes leave the table alone, and those after them", () => {
  let cost = refinedByDecode(measured(), plain(1), 12);
  const before = cost.decodePassMs;
  for (let i = 0; i < 10; i++) {
    cost = refinedByDecode(cost, { passWidths: [1, 2], drafts: 0 }, 80);
    cost = refinedByDecode(cost, plain(8), 90);
    cost = refinedByDecode(cost, { passWidths: [1, 2], drafts: 0 }, 80);
  }
  expect(cost.decodePassMs).toEqual(before);
  expect(relation(cost, 8, 1)).toBeCloseTo(26 / 12, 9);
});

test("calls with other adapters say nothing of each other's widths", () => {
  let cost = measured();
  const before = cost.decodePassMs;
  for (let i = 0; i < 30; i++) {
    cost = refinedByDecode(cost, plain(1), trueMs(1));
    cost = refinedByDecode(cost, { ...plain(4), adapters: "pirate*1" }, 2 * trueMs(4));
  }
  expect(cost.decodePassMs).toEqual(before);
});

test("a call with guesses that stalled is not the last one", () => {
  const cost = refinedByDecode(measured(), { passWidths: [1], drafts: 4 }, 1e5);
  expect(cost.draftScale).toBeLessThanOrEqual(1.25);
});

test("a draw's time is followed slowly, whatever one of them took", () => {
  let cost = withDrawMs(measured(), 0.5);
  expect(cost.drawMs).toBe(0.5);
  cost = withDrawMs(cost, 1000);
  expect(cost.drawMs).toBeCloseTo(0.7, 9);
  expect(withDrawMs(withDrawMs(measured(), 0), 1).drawMs).toBeGreaterThan(0);
});
