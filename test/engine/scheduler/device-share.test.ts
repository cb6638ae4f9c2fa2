/** What turns of others on the device do to the forecast of a first token. */
import { expect, test } from "vitest";
import { EngineError } from "../../../engine/errors.ts";
import { deviceStretch, noteDeviceShare } from "../../../engine/scheduler/device-share.ts";
import { leastPromptMs, predictedTtftMs } from "../../../engine/scheduler/forecast.ts";
import type { SchedulerState } from "../../../engine/scheduler/types.ts";
import { addRequest, schedulerState } from "../../support/scheduler.ts";

const NEWCOMER = { tenant: "t", priority: 1, visitor: () => "v", computedTokens: 20, maxNew: 8 } as const;

/** The engine has worked and waited, one after the other, so many times. */
function noteRounds(state: SchedulerState, rounds: number, workedMs: number, waitedMs: number): number {
  for (let i = 1; i <= rounds; i++) {
    const nowMs = Math.max(0, state.deviceShare.notedMs) + workedMs + waitedMs;
    noteDeviceShare(state, { workedMs, waitedMs }, nowMs);
  }
  return state.deviceShare.notedMs;
}

test("a first token takes as many times as long as turns have made the engine's own work lately", () => {
  const state = schedulerState();
  const aloneMs = predictedTtftMs(state, NEWCOMER, 0);
  const leastMs = leastPromptMs(state, NEWCOMER);
  const nowMs = noteRounds(state, 100, 100, 200);
  expect(deviceStretch(state)).toBeCloseTo(3);
  expect(predictedTtftMs(state, NEWCOMER, nowMs)).toBeCloseTo(3 * aloneMs);
  // At best it is alone.
  expect(leastPromptMs(state, NEWCOMER)).toBe(leastMs);
  noteRounds(state, 100, 100, 0);
  expect(predictedTtftMs(state, NEWCOMER, state.deviceShare.notedMs)).toBeLessThan(1.2 * aloneMs);
});

test("one long wait is forgotten as soon as any other time", () => {
  const state = schedulerState();
  noteRounds(state, 1, 30, 20_000);
  expect(deviceStretch(state)).toBeGreaterThan(600);
  noteRounds(state, 60, 100, 0);
  expect(deviceStretch(state)).toBeLessThan(1.2);
});

test("time in which nothing was computed is time, too", () => {
  const state = schedulerState();
  noteRounds(state, 100, 100, 200);
  noteDeviceShare(state, { workedMs: 1, waitedMs: 0 }, state.deviceShare.notedMs + 3000);
  expect(deviceStretch(state)).toBe(1);
});

/** What a prompt that wants its first token soon is told; undefined: it is let in. */
function refusalOf(state: SchedulerState, nowMs: number): string | undefined {
  try {
    addRequest(state, "r", { firstTokenWithinMs: 3000 }, nowMs);
    return undefined;
  } catch (error) {
    return error instanceof EngineError ? error.code : String(error);
  }
}

test("who asks for a time is refused for what turns cost now, and not for what they once did", () => {
  const state = schedulerState();
  addRequest(state, "other");
  const nowMs = noteRounds(state, 1, 30, 20_000);
  expect(refusalOf(state, nowMs)).toBe("first_token_too_late");
  expect(refusalOf(state, nowMs + 3001)).toBe(undefined);
});

test("where nobody is there, who asks for a time is let in whatever turns have cost", () => {
  const state = schedulerState();
  expect(refusalOf(state, noteRounds(state, 1, 30, 20_000))).toBe(undefined);
});
