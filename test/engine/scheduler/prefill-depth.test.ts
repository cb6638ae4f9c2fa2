/** What prompt tokens cost behind many others: measured at warm-up, refined by calls, and what is planned by it. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  calibratedCostModel,
  prefillCallMs,
  prefillTokensMs,
  refinedByPrefill,
} from "../../../engine/scheduler/cost-model.ts";
import { predictedTtftMs } from "../../../engine/scheduler/forecast.ts";
import type { CostModel } from "../../../engine/scheduler/types.ts";
import { addRequest, runStep, schedulerState } from "../../support/scheduler.ts";

const GRID = 64;
/** 5 ms a call, 3 ms a token, and for every 1000 cells before it 1.5 ms more. */
const trueMs = (tokens: number, cells: number): number => 5 + tokens * (3 + (1.5 * cells) / 1000);

function measured(deepMs = trueMs(GRID, 4 * GRID)): CostModel {
  return calibratedCostModel({
    decode: [1, 2].map((width) => ({ width, ms: 10 })),
    prefill: [16, GRID].map((tokens) => ({ tokens, ms: trueMs(tokens, 0) })),
    deep: { cells: 4 * GRID, ms: deepMs },
    copyMs: 5,
    check: [],
  });
}

/** The model after a call of a prompt, and how far its prediction was off. */
function afterCall(
  cost: CostModel,
  tokens: number,
  cells: number,
  observedMs: number,
): { readonly cost: CostModel; readonly error: number } {
  const predictedMs = prefillCallMs(cost, tokens, cells);
  const call = { unscaledMs: predictedMs / cost.prefillScale, tokenCells: tokens * cells };
  return { cost: refinedByPrefill(cost, call, observedMs), error: Math.abs(predictedMs / observedMs - 1) };
}

describe("what depth costs", () => {
  test("is known from warm-up on, for any call of any prompt", () => {
    const cost = measured();
    fc.assert(
      fc.property(fc.integer({ min: 16, max: GRID }), fc.nat(4000), (tokens, cells) => {
        expect(prefillCallMs(cost, tokens, cells)).toBeCloseTo(trueMs(tokens, cells), 6);
      }),
    );
  });

  test("adds up over the calls of a prompt, from wherever it begins", () => {
    const cost = { ...measured(), prefillScale: 1.25 };
    fc.assert(
      fc.property(fc.nat(3000), fc.nat(3000), (tokens, before) => {
        let ms = 0;
        for (let at = 0; at < tokens; at += GRID)
          ms += prefillCallMs(cost, Math.min(GRID, tokens - at), before + at);
        expect(prefillTokensMs(cost, GRID, tokens, before)).toBeCloseTo(ms, 4);
      }),
    );
  });

  test("is put right by the calls of long prompts, whatever the machine's speed", () => {
    const noise = fc.infiniteStream(fc.double({ min: 0.97, max: 1.03, noNaN: true }));
    const start = fc.double({ min: 0, max: 80, noNaN: true });
    fc.assert(
      fc.property(start, fc.double({ min: 0.5, max: 3, noNaN: true }), noise, (deeperMs, speed, factors) => {
        let cost = measured(trueMs(GRID, 0) + deeperMs);
        for (let prompt = 0; prompt < 4; prompt++)
          for (let cells = 0; cells < 2500; cells += GRID)
            cost = afterCall(cost, GRID, cells, speed * trueMs(GRID, cells) * factors.next().value).cost;
        for (const cells of [0, 1000, 2500]) {
          const ratio = prefillCallMs(cost, GRID, cells) / (speed * trueMs(GRID, cells));
          expect(Math.abs(ratio - 1)).toBeLessThan(0.15);
        }
      }),
      { numRuns: 40 },
    );
  });

  test("is not forgotten while all prompts are short, nor learned from a stall", () => {
    const before = measured();
    let cost = before;
    for (let i = 0; i < 200; i++) cost = afterCall(cost, GRID, 0, trueMs(GRID, 0) * (i % 2 ? 1.1 : 0.9)).cost;
    expect(cost.prefillCellsMs).toBe(before.prefillCellsMs);
    for (let i = 0; i < 20; i++) cost = afterCall(cost, GRID, 64 * i, 10 * trueMs(GRID, 64 * i)).cost;
    expect(cost.prefillCellsMs).toBe(before.prefillCellsMs);
  });

  test("keeps the next short prompt from being taken for as slow as the end of a long one", () => {
    let cost = measured();
    for (let cells = 0; cells < 3000; cells += GRID)
      cost = afterCall(cost, GRID, cells, trueMs(GRID, cells)).cost;
    expect(prefillCallMs(cost, GRID, 0)).toBeCloseTo(trueMs(GRID, 0), 3);
  });

  test("is not learned where warm-up did not measure it", () => {
    const { prefillCellsMs: _none, ...flat } = measured();
    const { cost } = afterCall(flat, GRID, 1000, 500);
    expect([cost.prefillCellsMs, cost.depths]).toEqual([undefined, undefined]);
  });
});

describe("a long prompt", () => {
  const config = { slots: 2, contextTokens: 4096, batchTokens: GRID, prefillChunk: GRID, itlTargetMs: 400 };
  const prompt = Uint32Array.from({ length: 3001 }, (_, i) => i);

  test("is told the time that its calls take, one after the other", () => {
    const state = schedulerState(config);
    state.cost = measured();
    let ms = 10;
    for (let cells = 0; cells < 3000; cells += GRID) ms += trueMs(Math.min(GRID, 3000 - cells), cells);
    const newcomer = { tenant: "a", priority: 1, computedTokens: 3000, maxNew: 1 };
    expect(predictedTtftMs(state, newcomer, 0) / ms).toBeCloseTo(1, 1);
  });

  test("has each of its calls planned for what stands before it", () => {
    const state = schedulerState(config);
    state.cost = measured();
    addRequest(state, "long", { prompt, maxTokens: 1 }, 0);
    for (let cells = 0; cells < 3000; cells += GRID) {
      const [call] = runStep(state, cells).calls;
      expect(call?.predictedMs).toBeCloseTo(trueMs(Math.min(GRID, 3000 - cells), cells), 3);
    }
  });
});
