/** How long requests are expected to wait before any request has come to its end. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { leastPromptMs, predictedTtftMs } from "../../../engine/scheduler/forecast.ts";
import type { SchedulerState } from "../../../engine/scheduler/types.ts";
import { EngineError } from "../../../engine/errors.ts";
import { allowanceOf } from "../../../engine/scheduler/entry.ts";
import { nthTurnMs } from "../../../engine/scheduler/own-turns.ts";
import { DEFAULT_FAIRNESS } from "../../../engine/scheduler/owners.ts";
import { release } from "../../../engine/scheduler/transitions.ts";
import { DEFAULT_POLICY } from "../../../engine/sharing.ts";
import { addRequest, runStep, schedulerState } from "../../support/scheduler.ts";

/** What a newcomer of one token is told while the only slot has a request that may say so much. */
function toldBehind(maxTokens: number | undefined, steps: number): number {
  const state = schedulerState({ slots: 1, contextTokens: 4096 });
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
  // A client that allows for much is not behind more than one that does not say: most do not need what they may have.
  expect(toldBehind(3000, 4)).toBe(any);
});

test("until something has been measured, nobody is refused for a deadline because others may say much", () => {
  const state = schedulerState({ slots: 1, contextTokens: 4096 });
  addRequest(state, "runs", { maxTokens: 3000 }, 0);
  for (let step = 0; step < 4; step++) runStep(state, 11 * step);
  const asks = (firstTokenWithinMs: number) => (): unknown =>
    addRequest(state, "asks", { tenant: "b", maxTokens: 1, firstTokenWithinMs }, 44);
  expect(asks(1000)).toThrow("The first token would come after");
  expect(asks(3000)).not.toThrow();
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

/** A key that may have one request running and so many waiting, with all, after so many steps of 11 ms. */
function fullKey(maxTokens: number | undefined, steps = 2, maxQueued = 1) {
  const capped = { ...DEFAULT_POLICY, maxRunning: 1, maxQueued, maxQueuedTokens: 1000 };
  const fairness = { ...DEFAULT_FAIRNESS, owners: new Map([["capped", capped]]) };
  const state = schedulerState({ slots: 4, contextTokens: 4096, fairness });
  for (let i = 0; i <= maxQueued; i++) addRequest(state, `r${i}`, { tenant: "capped", maxTokens }, 0);
  for (let step = 0; step < steps; step++) runStep(state, 11 * step);
  return { state, nowMs: 11 * steps };
}

/** When one more of the key is asked to come back, in ms. */
function askedBackMs({ state, nowMs }: ReturnType<typeof fullKey>): number {
  try {
    addRequest(state, "refused", { tenant: "capped", maxTokens: 5 }, nowMs);
  } catch (error) {
    if (error instanceof EngineError && error.code === "owner_queue_full")
      return error.details?.["retryAfterMs"] ?? 0;
  }
  throw new Error("it was let in");
}

test("until something has been measured, who is refused is asked back when its key's running request may end", () => {
  // A pass of one slot takes 11 ms.
  expect(askedBackMs(fullKey(1000))).toBeGreaterThan(10_000);
  expect(askedBackMs(fullKey(1000))).toBeLessThan(11_500);
  expect(askedBackMs(fullKey(1000, 500))).toBeLessThan(5700);
  expect(askedBackMs(fullKey(20))).toBeLessThan(250);
  // Nobody says how much: what most say at most.
  expect(askedBackMs(fullKey(undefined))).toBeGreaterThan(1000);
  expect(askedBackMs(fullKey(undefined))).toBeLessThan(2500);
});

/** When all limits of the key are free again, in ms. */
function freeInMs({ state, nowMs }: ReturnType<typeof fullKey>): number {
  return allowanceOf(state, "capped", nowMs).requestsResetMs;
}

test("and is told that its limits are free again when those that wait may have ended as well", () => {
  const both = freeInMs(fullKey(1000));
  expect(both).toBeGreaterThan(21_000);
  expect(both).toBeLessThan(23_000);
  // The one that runs is nearly through; the one that waits has all of it before it.
  const nearlyOne = freeInMs(fullKey(1000, 990));
  expect(nearlyOne).toBeGreaterThan(10_900);
  expect(nearlyOne).toBeLessThan(11_600);
  // One behind the other, where no more may run.
  const three = fullKey(1000, 990, 2);
  expect(freeInMs(three)).toBeGreaterThan(21_900);
  expect(freeInMs(three)).toBeLessThan(23_200);
});

test("a request that waits takes the place of the first of its key's requests to end, not of the last", () => {
  const state = schedulerState({ slots: 2, contextTokens: 4096 });
  for (const maxTokens of [2000, 100, 1000])
    addRequest(state, `says ${maxTokens}`, { tenant: "capped", maxTokens }, 0);
  for (let step = 0; step < 2; step++) runStep(state, 12 * step);
  const beside = freeInMs({ state, nowMs: 24 });
  expect(beside).toBeGreaterThan(20_000);
  expect(beside).toBeLessThan(27_000);
});

test("behind another key's requests its own have all before them", () => {
  const state = schedulerState({ slots: 1, contextTokens: 4096 });
  addRequest(state, "runs", { tenant: "b", maxTokens: 100 }, 0);
  for (let step = 0; step < 2; step++) runStep(state, 11 * step);
  addRequest(state, "waits", { tenant: "capped", maxTokens: 1000 }, 22);
  expect(freeInMs({ state, nowMs: 22 })).toBeGreaterThan(12_000);
});

/** The same of its waiting tokens alone: when the last of those that wait has a slot. */
function tokensFreeInMs({ state, nowMs }: ReturnType<typeof fullKey>): number {
  return allowanceOf(state, "capped", nowMs).tokensResetMs ?? 0;
}

test("a key that waits for its own cap alone has its waiting tokens free when its running requests have ended", () => {
  const full = fullKey(1000);
  expect(tokensFreeInMs(full)).toBeGreaterThan(10_900);
  expect(tokensFreeInMs(full)).toBeLessThan(11_500);
  const three = fullKey(1000, 2, 2);
  expect(tokensFreeInMs(three)).toBeGreaterThan(21_900);
  expect(tokensFreeInMs(three)).toBeLessThan(23_200);
  // Slots were held for a second lately, of which the running one has had a tenth.
  full.state.residenceMs = 1000;
  expect(tokensFreeInMs({ state: full.state, nowMs: 100 })).toBe(900);
  expect(freeInMs({ state: full.state, nowMs: 100 })).toBe(1900);
  expect(tokensFreeInMs(fullKey(1000, 2, 0))).toBe(0);
});

test("what a key is told behind its own line looks at none of those that wait", () => {
  const full = fullKey(1000, 2, 50);
  const before = freeInMs(full);
  let looked = 0;
  for (const request of full.state.queue.values()) {
    const { maxNew } = request;
    Object.defineProperty(request, "maxNew", { get: () => (looked++, maxNew) });
  }
  expect(freeInMs(full)).toBe(before);
  expect(looked).toBe(0);
});

test("turns that take as long each are dealt out one after the other", () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(1000), { minLength: 1, maxLength: 6 }),
      fc.integer({ min: 1, max: 500 }),
      fc.integer({ min: 1, max: 40 }),
      (freeMs, eachMs, n) => {
        const ends = [...freeMs];
        let startMs = 0;
        for (let turn = 0; turn < n; turn++) {
          startMs = Math.min(...ends);
          ends[ends.indexOf(startMs)] = startMs + eachMs;
        }
        expect(nthTurnMs(freeMs, eachMs, n)).toBe(startMs);
      },
    ),
  );
});

test("who is refused waits for the first of its key's requests, and its limits are free behind the last", () => {
  const capped = { ...DEFAULT_POLICY, maxQueued: 0 };
  const fairness = { ...DEFAULT_FAIRNESS, owners: new Map([["capped", capped]]) };
  const state = schedulerState({ slots: 2, contextTokens: 4096, fairness });
  addRequest(state, "long", { tenant: "capped", maxTokens: 2000 }, 0);
  addRequest(state, "short", { tenant: "capped", maxTokens: 100 }, 0);
  for (let step = 0; step < 2; step++) runStep(state, 12 * step);
  expect(allowanceOf(state, "capped", 24).requestsResetMs).toBeGreaterThan(20_000);
  expect(askedBackMs({ state, nowMs: 24 })).toBeLessThan(1500);
});

test("once something has been measured, that counts", () => {
  const full = fullKey(1000);
  const { state } = full;
  const runs = state.requests.get("r0");
  if (runs === undefined) throw new Error("not there");
  release(state, runs, 50);
  addRequest(state, "waits too", { tenant: "capped", maxTokens: 1000 }, 50);
  runStep(state, 50);
  expect(askedBackMs({ state, nowMs: 61 })).toBeLessThan(100);
});
