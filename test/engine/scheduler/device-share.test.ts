/** What turns of others on the device do to the forecast of a first token. */
import { expect, test } from "vitest";

import { deviceStretch, noteDeviceShare } from "../../../engine/scheduler/device-share.ts";
import { leastPromptMs, predictedTtftMs } from "../../../engine/scheduler/forecast.ts";

import { schedulerState } from "../../support/scheduler.ts";

const NEWCOMER = { tenant: "t", priority: 1, visitor: () => "v", computedTokens: 20, maxNew: 8 } as const;

test("a first token takes as many times as long as turns have made the engine's own work lately", () => {
  const state = schedulerState();
  const aloneMs = predictedTtftMs(state, NEWCOMER, 0);
  const leastMs = leastPromptMs(state, NEWCOMER);
  for (let i = 0; i < 100; i++) noteDeviceShare(state, 100, 200);
  expect(deviceStretch(state)).toBeCloseTo(3);
  expect(predictedTtftMs(state, NEWCOMER, 0)).toBeCloseTo(3 * aloneMs);
  // At best it is alone.
  expect(leastPromptMs(state, NEWCOMER)).toBe(leastMs);
  for (let i = 0; i < 100; i++) noteDeviceShare(state, 100, 0);
  expect(predictedTtftMs(state, NEWCOMER, 0)).toBeLessThan(1.2 * aloneMs);
});
