/** A draft model that follows a slot which is far ahead of it: what the next cell of that is expected to take. */
import { expect, test } from "vitest";
import { createDraftModel, noteFed } from "../../../engine/scheduler/draft-model.ts";
import { addRequest, runStep, schedulerState } from "../../support/scheduler.ts";

test("a cell behind others is expected to take what is learned from it, its depth counted", () => {
  const state = schedulerState({ slots: 1, contextTokens: 4000, speculate: true, itlTargetMs: 1e6 });
  const cost = {
    ...state.cost,
    prefillCallMs: 1,
    prefillTokenMs: 0.01,
    prefillCellsMs: 0.2,
    prefillScale: 2,
    decodePassMs: [0, 0.01],
  };
  state.draft = createDraftModel({ contextTokens: 4000, batchTokens: 64, prefillChunk: 10 }, 1, cost);
  addRequest(state, "a", { prompt: Uint32Array.from({ length: 500 }, (_, i) => i), maxTokens: 1000 });
  const positions: number[] = [];
  for (let step = 0; step < 90; step++) {
    const { prefillScale, decodeScale } = state.draft.cost;
    for (const { drafting } of runStep(state, step).calls) {
      if (drafting?.catchUp === undefined) continue;
      const { slot, position, tokens, unscaledMs } = drafting.catchUp;
      positions.push(position);
      expect(unscaledMs).toBeCloseTo(1 + tokens.length * (0.01 + 0.0002 * position));
      expect(drafting.predictedMs - decodeScale * drafting.unscaledMs).toBeCloseTo(prefillScale * unscaledMs);
      noteFed(state.draft, slot, position, tokens);
    }
  }
  expect(positions.slice(0, 3)).toEqual([0, 10, 20]);
});
