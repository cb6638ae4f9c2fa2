/** How long requests are expected to wait before any request has come to its end. */
import { expect, test } from "vitest";
import { leastPromptMs, predictedTtftMs } from "../../../engine/scheduler/forecast.ts";
import type { SchedulerState } from "../../../engine/scheduler/types.ts";
import { addRequest, runStep, schedulerState } from "../../support/scheduler.ts";

/** What a newcomer of one token is told while the only slot has a request that may say so much. */
function toldBehind(maxTokens: number | undefined, steps: number): number {
  const state = schedulerState({ slots: 1, contextTokens: 512 });
  addRequest(state, "runs", { maxTokens }, 0);
  for (let step = 0; step < steps; step++) runStep(state, 11 * step);
  return predictedTtftMs(state, { tenant: "b", priority: 1, computedTokens: 4, maxNew: 1 }, 11 * steps);
}

test("until something has been measured, whoever has a slot is expected to say what it may, within reason", () => {
  const [few, many, any] = [10, 100, undefined].map((tokens) => toldBehind(tokens, 4));
  expect(few).toBeLessThan(200);
  expect(many).toBeGreaterThan(900);
  // Nobody says how much: no more than most say.
  expect(any).toBeGreaterThan(1000);
  expect(any).toBeLessThan(1700);
  // What it has said already is behind it.
  expect(toldBehind(100, 60)).toBeLessThan(600);
});

test("slots are gone through as often beside many begun prompts as beside one, and not for a prompt alone", () => {
  const newcomer = { tenant: "b", priority: 1, computedTokens: 4, maxNew: 1 };
  const lookedAt = (requests: number, forecast: (state: SchedulerState) => number): number => {
    const state = schedulerState({ slots: 8, contextTokens: 512 });
    for (let i = 0; i < requests; i++)
      addRequest(state, `r${i}`, { prompt: Uint32Array.from({ length: 60 }, (_, at) => 100 * i + at) });
    runStep(state, 0);
    const slot = state.slots[7];
    if (slot === undefined) throw new Error("There are fewer slots.");
    const { owner } = slot;
    let times = 0;
    Object.defineProperty(slot, "owner", { get: () => (times++, owner) });
    forecast(state);
    return times;
  };
  const ttft = (state: SchedulerState): number => predictedTtftMs(state, newcomer, 10);
  expect(lookedAt(1, ttft)).toBeGreaterThan(0);
  expect(lookedAt(7, ttft)).toBe(lookedAt(1, ttft));
  expect(lookedAt(7, (state) => leastPromptMs(state, newcomer))).toBe(0);
});
