/** How much earlier than it has to a first token must be foreseen for its request to be let in. */
import { expect, test } from "vitest";
import { EngineError } from "../../../engine/errors.ts";
import { noteFirstToken } from "../../../engine/scheduler/forecast-margin.ts";
import { setPaused, setPriority } from "../../../engine/scheduler/request-control.ts";
import { cancel, release } from "../../../engine/scheduler/transitions.ts";
import type { SchedulerState } from "../../../engine/scheduler/types.ts";
import { addRequest, runStep, schedulerState } from "../../support/scheduler.ts";

/** All slots are taken, for about a second from now on. */
function busy(): SchedulerState {
  const state = schedulerState({ slots: 1, contextTokens: 4096 });
  addRequest(state, "runs", { maxTokens: 4000 });
  runStep(state, 0);
  Object.assign(state, { residenceMs: 1000, tokenMs: 10, computedShare: 1 });
  return state;
}

/** What is foreseen of a request that allows so much; undefined where it is refused. */
function foreseen(
  state: SchedulerState,
  id: string,
  firstTokenWithinMs: number,
  nowMs = 0,
): number | undefined {
  try {
    addRequest(state, id, { firstTokenWithinMs, maxTokens: 5 }, nowMs);
  } catch (error) {
    if (error instanceof EngineError && error.code === "first_token_too_late") return undefined;
    throw error;
  }
  return state.requests.get(id)?.forecastMs;
}

/** The margin after so many requests that were answered after so many times what was foreseen. */
function marginAfter(state: SchedulerState, count: number, late: number, firstTokenWithinMs = 2000): number {
  for (let i = 0; i < count; i++) {
    const forecastMs = foreseen(state, `r${i}`, firstTokenWithinMs) ?? NaN;
    expect(forecastMs).toBeGreaterThan(900);
    const request = state.requests.get(`r${i}`);
    if (request === undefined) throw new Error("It is gone.");
    noteFirstToken(state, request, late * forecastMs);
    cancel(state, request.id, 0);
  }
  return state.margin;
}

test("it grows quickly with those that come late, and shrinks slowly with those in time, within bounds", () => {
  const state = busy();
  const first = state.margin;
  const after = marginAfter(state, 1, 1.5);
  expect(after - first).toBeGreaterThan(0.05);
  expect(marginAfter(state, 1, 1)).toBeLessThan(after);
  expect(marginAfter(state, 1, 1)).toBeGreaterThan(first);
  expect(marginAfter(state, 50, 3)).toBeLessThanOrEqual(1.8);
  expect(marginAfter(state, 1000, 1)).toBe(1.1);
});

test("who is refused is told of a time that would have been enough", () => {
  const state = busy();
  const forecastMs = foreseen(state, "asks", 20_000) ?? NaN;
  cancel(state, "asks", 0);
  // What is foreseen would do, but for the margin.
  const askedMs = forecastMs * 1.05;
  let details: EngineError["details"];
  try {
    addRequest(state, "refused", { firstTokenWithinMs: askedMs, maxTokens: 5 });
  } catch (error) {
    if (error instanceof EngineError) ({ details } = error);
  }
  expect(details?.["predictedMs"]).toBeCloseTo(forecastMs, 6);
  const enoughMs = details?.["enoughMs"] ?? NaN;
  expect(enoughMs).toBeGreaterThan(askedMs);
  expect(foreseen(busy(), "asks", enoughMs)).toBeDefined();
  expect(foreseen(busy(), "asks", 0.999 * enoughMs)).toBeUndefined();
});

test("one in thirty that comes later leaves it where it is", () => {
  const state = busy();
  marginAfter(state, 1, 1.5);
  const first = state.margin;
  for (let i = 0; i < 10; i++) {
    marginAfter(state, 1, 1.75);
    marginAfter(state, 32, 1);
  }
  expect(Math.abs(state.margin - first)).toBeLessThan(0.05);
});

test("what was foreseen long before it had to be teaches nothing, nor does who leaves by itself", () => {
  const state = busy();
  const first = state.margin;
  expect(marginAfter(state, 10, 1.9, 20_000)).toBe(first);
  expect(foreseen(state, "leaves", 2000)).toBeDefined();
  cancel(state, "leaves", 5000);
  expect(state.margin).toBe(first);
});

test("who was paused or moved to another class since then teaches nothing", () => {
  const state = busy();
  const first = state.margin;
  const changes = [
    (id: string): void => void [setPaused(state, id, true, 0), setPaused(state, id, false, 1900)],
    (id: string): void => void setPriority(state, id, 2),
  ];
  changes.forEach((change, i) => {
    expect(foreseen(state, `r${i}`, 2000)).toBeDefined();
    change(`r${i}`);
    const request = state.requests.get(`r${i}`);
    if (request === undefined) throw new Error("It is gone.");
    noteFirstToken(state, request, 1950);
    cancel(state, request.id, 1950);
  });
  expect(state.margin).toBe(first);
});

test("it comes back where it lets in nobody who could teach it, on a server that is never idle", () => {
  const state = busy();
  const forecastMs = foreseen(state, "asks", 100_000) ?? NaN;
  cancel(state, "asks", 0);
  state.margin = 1.8;
  const isLetIn = (nowMs: number, times = 1.4): boolean => {
    const id = `at${nowMs}`;
    // Its slot is always taken by somebody new.
    Object.assign(state.requests.get("runs") ?? {}, { admittedMs: nowMs });
    const isIn = foreseen(state, id, times * forecastMs, nowMs) !== undefined;
    cancel(state, id, nowMs);
    return isIn;
  };
  // However often they ask.
  for (let i = 0; i < 100; i++) expect(isLetIn(20_000 + i)).toBe(false);
  expect(state.margin).toBeGreaterThan(1.7);
  let nowMs = 20_100;
  while (nowMs < 180_000 && !isLetIn(nowMs)) nowMs += 1000;
  expect(nowMs).toBeLessThan(180_000);
  // Who could not be let in by the least margin changes nothing.
  const before = state.margin;
  expect(isLetIn(300_000, 1.05)).toBe(false);
  expect(state.margin).toBe(before);
});

test("who has no first token in the time it allowed counts as late, once", () => {
  const state = busy();
  const first = state.margin;
  expect(foreseen(state, "late", 2000)).toBeDefined();
  const request = state.requests.get("late");
  if (request === undefined) throw new Error("It is gone.");
  release(state, request, 2001);
  expect(state.margin).toBeGreaterThan(first);
  const after = state.margin;
  release(state, request, 2001);
  expect(state.margin).toBe(after);
});

test("who would be let in by the forecast alone is refused, unless the engine has nothing to do", () => {
  const state = busy();
  const forecastMs = foreseen(state, "asks", 100_000) ?? NaN;
  cancel(state, "asks", 0);
  state.margin = 1.5;
  expect(foreseen(state, "further", 1.55 * forecastMs)).toBeDefined();
  cancel(state, "further", 0);
  expect(foreseen(state, "near", 1.45 * forecastMs)).toBeUndefined();
  const idle = schedulerState();
  idle.margin = 1.8;
  const aloneMs = foreseen(idle, "alone", 100_000) ?? NaN;
  cancel(idle, "alone", 0);
  expect(foreseen(idle, "tries", 1.2 * aloneMs)).toBeDefined();
});
