/** What tokens cost behind many others, of prompts and decoded ones: measured at warm-up, refined by calls, and what is planned by it. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  calibratedCostModel,
  decodeCallMs,
  prefillCallMs,
  prefillTokensMs,
  refinedByDecode,
  refinedByPrefill,
} from "../../../engine/scheduler/cost-model.ts";
import { createRng } from "../../../bench/rng.ts";
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
    expect([cost.prefillCellsMs, cost.prefillDepths]).toEqual([undefined, undefined]);
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

describe("a token of a stream", () => {
  /** About that of 135M parameters on 2 cores: 7 ms a pass, 5 ms a slot, and 5 ms for every 1000 cells. */
  const passMs = (width: number, cells: number): number => 7 + 5 * width + (5 * cells) / 1000;
  const warmedUp = (deepMs: number): CostModel =>
    calibratedCostModel({
      decode: [1, 2, 4].map((width) => ({ width, ms: passMs(width, 0) })),
      prefill: [16, GRID].map((tokens) => ({ tokens, ms: trueMs(tokens, 0) })),
      deepDecode: { cells: 256, ms: deepMs },
      copyMs: 5,
      check: [],
    });

  /** Streams of prompts of all lengths come and go; how far predictions are off on average, once some have. */
  function meanError(start: CostModel, speed: number, random: () => number): number {
    let cost = start;
    const streams = [1, 2, 3].map(() => ({ cells: 0, left: 0 }));
    let [sum, count] = [0, 0];
    for (let call = 0; call < 1500; call++) {
      for (const stream of streams) {
        if (stream.left <= 0)
          Object.assign(stream, { cells: Math.round(50 * 70 ** random()), left: 10 + 60 * random() });
        stream.cells += 1;
        stream.left -= 1;
      }
      const width = 1 + (Math.floor(call / 25) % streams.length);
      const cells = streams.slice(0, width).reduce((all, stream) => all + stream.cells, 0);
      const usualMs = speed * passMs(width, cells);
      if (call >= 200) {
        sum += Math.abs(decodeCallMs(cost, [width], 0, cells) / usualMs - 1);
        count += 1;
      }
      const observedMs = usualMs * (0.97 + 0.06 * random());
      cost = refinedByDecode(cost, { passWidths: [width], drafts: 0, tokenCells: cells }, observedMs);
    }
    return sum / count;
  }

  test("costs what the cells before it do, whatever warm-up has said of them and however fast the machine is", () => {
    const speed = fc.double({ min: 0.5, max: 3, noNaN: true });
    fc.assert(
      fc.property(fc.double({ min: 0, max: 3, noNaN: true }), speed, fc.nat(), (deeperMs, factor, seed) => {
        const rng = createRng(seed);
        const random = (): number => rng.next();
        const known = warmedUp(passMs(1, 0) + deeperMs);
        const { decodeCellsMs: _none, ...flat } = known;
        const [before, after] = [meanError(flat, factor, random), meanError(known, factor, random)];
        expect(after).toBeLessThan(0.015);
        expect(after).toBeLessThan(before / 3);
      }),
      { numRuns: 20 },
    );
  });

  test("is not taken for deeper than it is on a machine that gets slower while streams go on", () => {
    let cost = warmedUp(passMs(1, 256));
    for (let call = 0; call < 1000; call++) {
      const cells = 2000 + 4 * call;
      const observedMs = passMs(4, cells) * (1 + call / 1000);
      cost = refinedByDecode(cost, { passWidths: [4], drafts: 0, tokenCells: cells }, observedMs);
    }
    expect(cost.decodeCellsMs).toBeCloseTo(5, 6);
  });

  test("is planned for with the cells of all slots in the call", () => {
    const sizes = { slots: 2, contextTokens: 4096, batchTokens: GRID, prefillChunk: GRID };
    const state = schedulerState({ ...sizes, prefillOrder: "arrival" });
    state.cost = warmedUp(passMs(1, 256));
    const prompt = Uint32Array.from({ length: 3001 }, (_, i) => i);
    addRequest(state, "long", { prompt, maxTokens: 50 }, 0);
    addRequest(state, "short", { prompt: prompt.slice(2000, 2101), maxTokens: 50 }, 0);
    let nowMs = 0;
    while (state.slots.some(({ owner }) => state.requests.get(owner ?? "")?.phase !== "decode"))
      runStep(state, nowMs++);
    const cells = (state.slots[0]?.length ?? 0) + (state.slots[1]?.length ?? 0);
    expect(cells).toBeGreaterThan(3100);
    const scale = state.cost.decodeScale;
    const [call] = runStep(state, nowMs).calls;
    expect(call).toMatchObject({ kind: "decode", tokenCells: cells });
    expect(call?.predictedMs).toBeCloseTo(scale * passMs(2, cells), 6);
    // It has taken as long, which says nothing new of the machine, and something of depth.
    expect(state.cost.decodeScale).toBeCloseTo(scale, 6);
    expect(state.cost.decodeDepths?.x).toBeGreaterThan(0.1);
  });
});
