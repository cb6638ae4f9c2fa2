/** When slots come free, by how long they were held lately or by what requests say that they want. */
import { expect, test } from "vitest";
import { createRng } from "../../../bench/rng.ts";
import { noteFirstToken } from "../../../engine/scheduler/forecast-margin.ts";
import { predictedWaitMs } from "../../../engine/scheduler/forecast.ts";
import { setPaused } from "../../../engine/scheduler/request-control.ts";
import { cancel, release, releaseCancelled } from "../../../engine/scheduler/transitions.ts";
import type { SchedulerState } from "../../../engine/scheduler/types.ts";
import { addRequest, planMs, runStep, schedulerState } from "../../support/scheduler.ts";

const ANYBODY = { tenant: "a", priority: 1, computedTokens: 5, maxNew: 1 };

/** How far forecasts of the next free slot are off, on average and relative to what it takes; of requests that say so much of what they may. */
function averageMiss(state: SchedulerState, says: (maxTokens: number) => number): number {
  const rng = createRng(5);
  const ends = new Map<string, number>();
  let [nowMs, next, miss, count] = [0, 0, 0, 0];
  let open: { readonly atMs: number; readonly saidMs: number } | undefined;
  while (next < 300) {
    while (state.requests.size < 4) {
      const id = String(next++);
      const maxTokens = 10 + Math.floor(90 * rng.next());
      ends.set(id, Math.round(says(maxTokens)));
      addRequest(state, id, { maxTokens }, nowMs);
    }
    const plan = runStep(state, nowMs);
    nowMs += planMs(plan);
    let isFree = state.requests.size < 4;
    for (const request of state.requests.values()) {
      if (request.output.length > 0 && request.firstTokenMs === undefined)
        noteFirstToken(state, request, nowMs);
      if (request.output.length < (ends.get(request.id) ?? 0)) continue;
      release(state, request, nowMs);
      isFree = true;
    }
    if (open !== undefined && isFree) {
      if (next > 100) miss += Math.abs(nowMs - open.atMs - open.saidMs) / (nowMs - open.atMs);
      if (next > 100) count += 1;
      open = undefined;
    }
    if (state.requests.size === 4) open ??= { atMs: nowMs, saidMs: predictedWaitMs(state, ANYBODY, nowMs) };
  }
  return miss / count;
}

test("of requests that say all they ask for, each has its slot until it has said it", () => {
  const state = schedulerState();
  const miss = averageMiss(state, (most) => most);
  expect(state.outputMiss).toBeLessThan(0.01);
  expect(state.residenceMiss).toBeGreaterThan(0.2);
  expect(miss).toBeLessThan(0.25);
  // By how long others had theirs alone it is off by much.
  const blind = schedulerState();
  Object.defineProperty(blind, "outputMiss", {
    get: () => Infinity,
    set: () => {
      // Whatever is learned.
    },
  });
  expect(averageMiss(blind, (most) => most)).toBeGreaterThan(2 * miss);
});

test("of requests that ask for more than they say, the share that they say counts", () => {
  const state = schedulerState();
  averageMiss(state, (most) => most / 2);
  expect(state.outputShare).toBeCloseTo(0.5, 1);
  expect(state.outputMiss).toBeLessThan(0.1);
});

test("where what they ask for tells nothing, slots are held as long as lately", () => {
  const state = schedulerState();
  expect(averageMiss(state, () => 8)).toBeLessThan(0.5);
  expect(state.residenceMiss).toBeLessThan(0.1);
  expect(state.outputMiss).toBeGreaterThan(state.residenceMiss);
});

test("for how long a request was paused in its slot says nothing of how long others will have theirs", () => {
  const times = [0, 600_000].map((pausedMs) => {
    const state = schedulerState();
    addRequest(state, "reads", { maxTokens: 10 });
    for (let nowMs = 0; nowMs < 50; nowMs += 10) runStep(state, nowMs);
    const request = state.requests.get("reads");
    if (request === undefined) throw new Error("It is gone.");
    noteFirstToken(state, request, 20);
    setPaused(state, "reads", true, 50);
    setPaused(state, "reads", true, 50 + pausedMs / 2);
    setPaused(state, "reads", false, 50 + pausedMs);
    runStep(state, 60 + pausedMs);
    release(state, request, 70 + pausedMs);
    return [state.residenceMs, state.tokenMs];
  });
  expect(times[1]).toEqual(times[0]);
  expect(times[0]?.[0]).toBe(70);
});

test("nor does an eviction between its tokens say anything of the time between those of others", () => {
  const state = schedulerState({ slots: 1 });
  addRequest(state, "low", { maxTokens: 10, priority: 2 });
  for (let nowMs = 0; nowMs < 30; nowMs += 10) runStep(state, nowMs);
  const request = state.requests.get("low");
  if (request === undefined) throw new Error("It is gone.");
  noteFirstToken(state, request, 20);
  addRequest(state, "high", { maxTokens: 4000, priority: 0 }, 30);
  for (let nowMs = 30; nowMs < 60; nowMs += 10) runStep(state, nowMs);
  expect(request.evictions).toBe(1);
  // Nor does a pause while it has no slot.
  setPaused(state, "low", true, 100);
  setPaused(state, "low", false, 50_000);
  cancel(state, "high", 100_000);
  releaseCancelled(state, 100_000);
  for (let i = 0; i < 3; i++) runStep(state, 100_000 + 10 * i);
  expect(request.output.length).toBeGreaterThan(1);
  release(state, request, 100_030);
  expect([state.itlMs, state.residenceMs]).toEqual([undefined, 30]);
});
