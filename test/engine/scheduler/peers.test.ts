/** What other schedulers' tests ask of theirs and no other test here names. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EngineError } from "../../../engine/errors.ts";
import { DEFAULT_FAIRNESS } from "../../../engine/scheduler/owners.ts";
import { planStep } from "../../../engine/scheduler/plan-step.ts";
import { cancel } from "../../../engine/scheduler/transitions.ts";
import type { NewRequest } from "../../../engine/scheduler/transitions.ts";
import type { SchedulerState, StepPlan } from "../../../engine/scheduler/types.ts";
import { addRequest, DRAWN, planMs, runStep, schedulerState } from "../../support/scheduler.ts";

const text = (first: number, tokens: number): Uint32Array =>
  Uint32Array.from({ length: tokens }, (_, i) => first + i);

const joined = (...texts: readonly Uint32Array[]): Uint32Array =>
  Uint32Array.from(texts.flatMap((tokens) => [...tokens]));

/** Steps until nobody is left, a millisecond apart. */
function runAll(state: SchedulerState, fromMs = 0): StepPlan[] {
  const plans: StepPlan[] = [];
  for (let nowMs = fromMs; state.requests.size > 0; nowMs++) plans.push(runStep(state, nowMs));
  return plans;
}

/** Lets a request leave its cells behind in a slot. */
function leaveResident(state: SchedulerState, prompt: Uint32Array, atMs = 0): void {
  addRequest(state, `resident ${atMs}`, { prompt, maxTokens: 1 }, atMs);
  runAll(state, atMs);
}

/** Slot and reused tokens of each admission. */
const placed = (plan: StepPlan): [string, number, number][] =>
  plan.assignments.map(({ request, slot, reuse }) => [request, slot, reuse]);

describe("as vLLM's tests ask", () => {
  test("adding N requests leaves N waiting, and each that ends is gone from everywhere", () => {
    const state = schedulerState({ slots: 2 });
    for (let i = 0; i < 5; i++) addRequest(state, `r${i}`, { maxTokens: 1 });
    expect([state.queue.size, state.requests.size]).toEqual([5, 5]);
    const open: number[] = [];
    for (let nowMs = 0; state.requests.size > 0; nowMs++) {
      runStep(state, nowMs);
      open.push(state.requests.size);
    }
    expect(open.at(-1)).toBe(0);
    expect([...open].sort((a, b) => b - a)).toEqual(open);
    expect([state.queue.size, state.slots.filter(({ owner }) => owner !== undefined).length]).toEqual([0, 0]);
  });

  test("requests that all fit are all computed in one step, whole and in order", () => {
    const state = schedulerState({ slots: 3, itlTargetMs: 1000 });
    addRequest(state, "decoding", { maxTokens: 9 });
    runStep(state, 0);
    addRequest(state, "a", { prompt: text(1, 9) });
    addRequest(state, "b", { prompt: text(100, 8) });
    const prefills = runStep(state, 1).calls.filter(({ kind }) => kind === "prefill");
    expect(
      prefills.flatMap(({ entries }) => entries.map((e) => [e.request, e.position, e.tokens.length])),
    ).toEqual([
      ["a", 0, 8],
      ["b", 0, 7],
    ]);
  });

  test("a request that lost its slot gets one before newer ones of its class", () => {
    const state = schedulerState({ slots: 1, fairness: { ...DEFAULT_FAIRNESS, agingQuantumMs: 1e9 } });
    addRequest(state, "loser", { priority: 2, maxTokens: 150 });
    for (let nowMs = 0; nowMs < 3; nowMs++) runStep(state, nowMs);
    addRequest(state, "newer", { priority: 2, maxTokens: 1 });
    addRequest(state, "high", { priority: 0, maxTokens: 1 });
    const order: string[] = [];
    for (let nowMs = 3; nowMs < 12; nowMs++)
      order.push(...runStep(state, nowMs).assignments.map(({ request }) => request));
    expect(order.slice(0, 2)).toEqual(["high", "loser"]);
  });

  test("requests of equal classes and owners never take each other's slots", () => {
    const state = schedulerState({ slots: 1 });
    for (const id of ["a", "b", "c"]) addRequest(state, id, { maxTokens: 100 });
    const lost: string[] = [];
    for (let nowMs = 0; nowMs < 200; nowMs++)
      lost.push(...runStep(state, nowMs * 1000).evictions.map(({ request }) => request));
    expect(lost).toEqual([]);
  });

  test("cancelling a request that waits for a prefix frees what was kept for it", () => {
    const state = schedulerState({ slots: 2 });
    const prompt = text(1, 80);
    addRequest(state, "leader", { prompt, maxTokens: 2 });
    addRequest(state, "held", { prompt, maxTokens: 2 });
    runStep(state, 0);
    expect(runStep(state, 1).held).toEqual(["held"]);
    cancel(state, "held", 2);
    addRequest(state, "next", { maxTokens: 2 });
    expect(runStep(state, 2).assignments.map(({ request }) => request)).toEqual(["next"]);
  });
});

test("as mistral.rs's tests ask, a prompt computed again after a lost slot is charged once", () => {
  const state = schedulerState({ slots: 1, fairness: { ...DEFAULT_FAIRNESS, agingQuantumMs: 1e9 } });
  addRequest(state, "loser", { tenant: "a", priority: 2, prompt: text(1, 50), maxTokens: 100 });
  for (let nowMs = 0; nowMs < 8; nowMs++) runStep(state, nowMs);
  const charged = state.owners.get("a")?.served ?? 0;
  const drawn = state.requests.get("loser")?.output.length ?? 0;
  expect(charged).toBe(50 + 2 * drawn);
  addRequest(state, "high", { tenant: "b", priority: 0, maxTokens: 1 });
  for (let nowMs = 8; nowMs < 30; nowMs++) runStep(state, nowMs);
  const loser = state.requests.get("loser");
  expect(loser?.evictions).toBe(1);
  expect(state.owners.get("a")?.served).toBe(50 + 2 * (loser?.output.length ?? 0));
});

describe("as SGLang's tests ask", () => {
  test("a prefix is looked for when a slot is given, and exactly what was found is kept", () => {
    const state = schedulerState({ slots: 1 });
    addRequest(state, "first", { prompt: text(1, 40), maxTokens: 1 });
    // Nothing of it is computed when it comes.
    addRequest(state, "second", { prompt: joined(text(1, 27), text(900, 9)), maxTokens: 1 });
    const plans = runAll(state);
    const admission = plans.find(({ assignments }) => assignments[0]?.request === "second");
    expect(admission?.boundary).toEqual([{ type: "truncate", slot: 0, length: 27 }]);
    expect(
      admission?.calls.flatMap(({ entries }) => entries.map((e) => [e.position, e.tokens.length])),
    ).toEqual([[27, 3]]);
  });

  test("what was there when a request came is not taken for there when it gets its slot", () => {
    const state = schedulerState({ slots: 1, prefixFirst: false });
    leaveResident(state, text(1, 40));
    addRequest(state, "other", { prompt: text(500, 30), maxTokens: 1 }, 10);
    addRequest(state, "again", { prompt: text(1, 40), maxTokens: 1 }, 10);
    const plans = runAll(state, 10);
    expect(plans.flatMap(placed)).toEqual([
      ["other", 0, 0],
      ["again", 0, 0],
    ]);
  });

  test("after any number of lost slots, copies and reused cells every slot holds the tokens of its owner", () => {
    const state = schedulerState({ slots: 2, contextTokens: 400 });
    let lost = 0;
    let copied = 0;
    let drawn = 0;
    for (let round = 0; round < 60; round++) {
      const nowMs = round * 20_000;
      const prompt = joined(text(1, 20 + (round % 3) * 10), text(1000 * round, 5));
      addRequest(state, `low${round}`, { priority: 3, prompt, maxTokens: 90 }, nowMs);
      if (round % 2 === 0) addRequest(state, `high${round}`, { priority: 0, prompt, maxTokens: 3 }, nowMs);
      for (let i = 0; i < 9; i++) {
        const plan = runStep(state, nowMs + i);
        lost += plan.evictions.length;
        copied += plan.boundary.filter(({ type }) => type === "copy").length;
        drawn += plan.calls.flatMap(({ entries }) => entries.filter(({ sample }) => sample)).length;
      }
    }
    const rest = runAll(state, 60 * 20_000);
    drawn += rest.flatMap(({ calls }) =>
      calls.flatMap(({ entries }) => entries.filter((e) => e.sample)),
    ).length;
    expect([lost > 20, copied > 10]).toEqual([true, true]);
    // What was lost was computed again and not drawn again.
    expect(drawn).toBe(60 * 90 + 30 * 3);
  });
});

describe("as TGI's tests ask", () => {
  test("with nobody there nothing is planned", () => {
    const plan = planStep(schedulerState(), 0);
    expect(plan).toMatchObject({
      evictions: [],
      assignments: [],
      held: [],
      boundary: [],
      calls: [],
      why: [],
    });
  });

  test("no call has more tokens than a batch or more entries than slots, guesses included", () => {
    let widest = 0;
    const sizes = fc.record({
      slots: fc.integer({ min: 1, max: 6 }),
      more: fc.nat(30),
      prompts: fc.array(fc.integer({ min: 2, max: 30 }), { minLength: 1, maxLength: 10 }),
    });
    fc.assert(
      fc.property(sizes, ({ slots, more, prompts }) => {
        const batchTokens = Math.max(10, slots) + more;
        const state = schedulerState({ slots, batchTokens, speculate: true });
        // Nothing but what will be drawn, so that every guess is right.
        prompts.forEach((length, i) =>
          addRequest(state, `r${i}`, { prompt: new Uint32Array(length).fill(DRAWN), maxTokens: 60 }),
        );
        for (let nowMs = 0; state.requests.size > 0; nowMs += 10) {
          const plan = runStep(state, nowMs);
          for (const call of plan.calls) {
            widest = Math.max(widest, call.drafts);
            const tokens = call.entries.reduce((sum, entry) => sum + entry.tokens.length, 0);
            expect(tokens).toBe(call.tokens);
            expect(tokens).toBeLessThanOrEqual(batchTokens);
            expect(call.entries.length).toBeLessThanOrEqual(slots);
          }
        }
      }),
      { numRuns: 40 },
    );
    expect(widest).toBe(32);
  });

  test("of two prefixes that are worth the same the older one gives way", () => {
    const state = schedulerState({ slots: 2 });
    addRequest(state, "a", { prompt: text(1, 40), maxTokens: 60 }, 0);
    addRequest(state, "b", { prompt: text(500, 40), maxTokens: 1 }, 0);
    for (let nowMs = 0; state.requests.has("b"); nowMs++) runStep(state, nowMs);
    cancel(state, "a", 100_000);
    runStep(state, 100_000);
    expect(state.slots.map(({ lastUseMs }) => lastUseMs > 50_000)).toEqual([true, false]);
    addRequest(state, "cold", { prompt: text(900, 30), maxTokens: 1 }, 100_001);
    expect(placed(runStep(state, 100_001))).toEqual([["cold", 1, 0]]);
  });

  test("a prompt that shares half of another one's prefix leaves the other half to it", () => {
    const state = schedulerState({ slots: 2 });
    leaveResident(state, text(1, 60));
    addRequest(state, "half", { prompt: joined(text(1, 30), text(900, 30)), maxTokens: 1 }, 100);
    const plans = runAll(state, 100);
    expect(plans.flatMap(placed)).toEqual([["half", 1, 30]]);
    addRequest(state, "whole", { prompt: text(1, 60), maxTokens: 1 }, 200);
    expect(placed(runStep(state, 200))).toEqual([["whole", 0, 59]]);
  });
});

describe("as mistral.rs's tests ask", () => {
  test("whoever decodes does so in every step, and first, however many prompts wait for their turn", () => {
    const state = schedulerState({ slots: 4, itlTargetMs: 60 });
    for (const id of ["a", "b"]) addRequest(state, id, { maxTokens: 60 });
    for (let nowMs = 0; nowMs < 3; nowMs++) runStep(state, nowMs);
    for (let i = 0; i < 6; i++) addRequest(state, `long${i}`, { prompt: text(1000 * i, 100), maxTokens: 1 });
    let prefilled = 0;
    for (let nowMs = 3; nowMs < 30; nowMs++) {
      const [first, ...others] = runStep(state, nowMs).calls;
      expect(first?.kind).toBe("decode");
      expect(first?.entries.map(({ request }) => request)).toEqual(expect.arrayContaining(["a", "b"]));
      expect(others.every(({ kind }) => kind === "prefill")).toBe(true);
      prefilled += others.length;
    }
    expect(prefilled).toBeGreaterThanOrEqual(20);
  });

  test("a prompt without a slot changes nothing of what the others compute", () => {
    const steps = (waiting: boolean): unknown[] => {
      const state = schedulerState({ slots: 2, fairness: { ...DEFAULT_FAIRNESS, evict: false } });
      for (const id of ["a", "b"]) addRequest(state, id, { maxTokens: 20 });
      if (waiting) addRequest(state, "waiting", { prompt: text(1000, 190), maxTokens: 1 });
      return Array.from({ length: 20 }, (_, i) => runStep(state, i).calls);
    };
    expect(steps(true)).toEqual(steps(false));
  });
});

describe("as LMDeploy's tests ask", () => {
  const prompt = joined(text(1, 150), text(900, 10));

  test("a prefix that is there lets a request in that would come too late without it", () => {
    const request: Partial<NewRequest> = { prompt, maxTokens: 1, firstTokenWithinMs: 300 };
    const cold = schedulerState({ slots: 2 });
    // 16 cells of 30 ms and a decode.
    expect(() => addRequest(cold, "late", request)).toThrow(
      expect.objectContaining({ code: "first_token_too_late" }),
    );
    const warm = schedulerState({ slots: 2 });
    leaveResident(warm, text(1, 160));
    addRequest(warm, "in time", request, 1000);
    const plans = runAll(warm, 1000);
    expect(placed(plans[0] ?? failed())).toEqual([["in time", 1, 150]]);
    expect(plans.reduce((sum, plan) => sum + planMs(plan), 0)).toBeLessThan(300);
  });

  test("what is planned and not done, and who is refused, leave no trace", () => {
    const state = schedulerState({ slots: 1, maxQueued: 0 });
    leaveResident(state, text(1, 40));
    const seen = (): unknown => ({
      slots: structuredClone(state.slots),
      sizes: [state.requests.size, state.queue.size, state.nextArrival, state.deadlines.length],
      owners: [...state.owners.values()].map(({ served, running, waiting }) => [served, running, waiting]),
      waiting: state.lines.map(({ waiting }) => waiting),
    });
    const refused = (request: Partial<NewRequest>): void => {
      const before = seen();
      expect(() => addRequest(state, "refused", request, 50)).toThrow(EngineError);
      expect(seen()).toEqual(before);
    };
    refused({ prompt: text(1, 200) });
    refused({ prompt: joined(text(1, 40), text(900, 100)), firstTokenWithinMs: 1 });
    addRequest(state, "next", { prompt: text(1, 40), maxTokens: 5 }, 50);
    refused({ prompt: text(1, 40) });
    const before = seen();
    expect(placed(planStep(state, 50))).toEqual([["next", 0, 39]]);
    expect(seen()).toEqual(before);
  });
});

function failed(): never {
  throw new Error("no plan");
}
