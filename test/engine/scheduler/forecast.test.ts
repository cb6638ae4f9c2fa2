/** How long requests are expected to wait before any request has come to its end. */
import { expect, test } from "vitest";
import { predictedTtftMs } from "../../../engine/scheduler/forecast.ts";
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
