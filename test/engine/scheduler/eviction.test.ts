/** Which running request loses its slot, to whom, and how often. */
import { describe, expect, test } from "vitest";
import { planStep } from "../../../engine/scheduler/plan-step.ts";
import type { SchedulerConfig, SchedulerState } from "../../../engine/scheduler/types.ts";
import { addRequest, planMs, runStep, schedulerState } from "../../support/scheduler.ts";

/** Steps until somebody holds every slot that is asked for and decodes. @returns The time. */
function settle(state: SchedulerState, fromMs: number): number {
  let nowMs = fromMs;
  for (let i = 0; i < 40; i++) nowMs += planMs(runStep(state, nowMs)) + 1;
  return nowMs;
}

describe("the victim of a higher class", () => {
  /** Two of the lowest class: one with a short prompt that may say little, one with a longer prompt that may say much. */
  const victimOf = (config: Partial<SchedulerConfig>): string | undefined => {
    const state = schedulerState({ slots: 2, contextTokens: 2000, ...config });
    const prompt = (tokens: number, first: number) =>
      Uint32Array.from({ length: tokens }, (_, i) => first + i);
    addRequest(state, "little", { priority: 3, prompt: prompt(40, 1000), maxTokens: 200 });
    addRequest(state, "much", { priority: 3, prompt: prompt(60, 5000), maxTokens: 1500 });
    const nowMs = settle(state, 0);
    addRequest(state, "urgent", { priority: 0 }, nowMs);
    return planStep(state, nowMs).evictions[0]?.request;
  };

  test("is whoever has least to compute again", () => {
    expect(victimOf({})).toBe("little");
    expect(victimOf({ victim: "least-sunk" })).toBe("little");
  });

  test("may be weighed against what it may still say, to compare with", () => {
    expect(victimOf({ victim: "least-sunk-per-token" })).toBe("much");
  });
});
