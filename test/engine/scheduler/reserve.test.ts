/** Slots that long prompts leave to short ones: who gets which, who waits for whom, and what is told of that. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EngineError } from "../../../engine/errors.ts";
import { allowanceOf, checkChoices } from "../../../engine/scheduler/entry.ts";
import { checkPlan, checkState } from "../../../engine/scheduler/invariants.ts";
import { predictedTtftMs } from "../../../engine/scheduler/forecast.ts";
import { DEFAULT_FAIRNESS } from "../../../engine/scheduler/owners.ts";
import { planStep } from "../../../engine/scheduler/plan-step.ts";
import { setPaused } from "../../../engine/scheduler/request-control.ts";
import type { SchedulerConfig, SchedulerState } from "../../../engine/scheduler/types.ts";
import { beginStep } from "../../../engine/scheduler/transitions.ts";
import type { NewRequest } from "../../../engine/scheduler/transitions.ts";
import { addRequest, planMs, runStep, schedulerState } from "../../support/scheduler.ts";

/** Of so many slots one is kept for prompts of fewer than 20 tokens; requests go strictly in order. */
function reserving(slots: number, config: Partial<SchedulerConfig> = {}): SchedulerState {
  const reserve = { slots: 1, promptTokens: 20 };
  return schedulerState({ slots, reserve, prefixFirst: false, keepSlots: false, ...config });
}

function add(
  state: SchedulerState,
  id: string,
  promptTokens: number,
  request: Partial<NewRequest> = {},
  nowMs = 0,
): number {
  const first = 1000 * state.nextArrival;
  const prompt = Uint32Array.from({ length: promptTokens }, (_, i) => first + i);
  return addRequest(state, id, { prompt, maxTokens: 10, ...request }, nowMs);
}

/** Who has slots, by id. */
function holders(state: SchedulerState): string[] {
  return state.slots.flatMap(({ owner }) => owner ?? []).sort();
}

/** @returns When each request had its first token, in ms. */
function runAll(state: SchedulerState, fromMs: number): Map<string, number> {
  const first = new Map<string, number>();
  for (let nowMs = fromMs, i = 0; i < 5000 && state.requests.size > 0; i++) {
    const known = [...state.requests.values()];
    const plan = runStep(state, nowMs);
    nowMs += planMs(plan) + 1;
    for (const { id, output } of known) if (output.length > 0 && !first.has(id)) first.set(id, nowMs);
  }
  expect(state.requests.size).toBe(0);
  return first;
}

describe("a slot that is kept for short prompts", () => {
  test("is left to them, and goes to the next long one when another one has ended", () => {
    const state = reserving(3);
    for (const id of ["long1", "long2", "long3"]) add(state, id, 20);
    runStep(state, 0);
    expect(holders(state)).toEqual(["long1", "long2"]);
    add(state, "short1", 19);
    add(state, "short2", 5);
    runStep(state, 10);
    expect(holders(state)).toEqual(["long1", "long2", "short1"]);
    // In order again: neither the slot of a short one nor that of a long one is kept for anybody.
    let nowMs = 20;
    while (holders(state).includes("long1")) runStep(state, (nowMs += 10));
    runStep(state, (nowMs += 10));
    expect(holders(state)).toContain("long3");
    runAll(state, nowMs);
  });

  test("may be any of them, and short prompts may have all", () => {
    const state = reserving(3);
    for (const id of ["short1", "short2", "short3"]) add(state, id, 5);
    add(state, "long", 30);
    runStep(state, 0);
    expect(holders(state)).toEqual(["short1", "short2", "short3"]);
    runAll(state, 10);
  });

  test("is no reason for a paused long one to keep its own from another", () => {
    const state = reserving(2);
    add(state, "long1", 30);
    runStep(state, 0);
    setPaused(state, "long1", true, 10);
    add(state, "long2", 30);
    expect(planStep(state, 20).evictions).toEqual([
      { kind: "paused", request: "long1", slot: 0, waiter: "long2" },
    ]);
    runStep(state, 20);
    expect(holders(state)).toEqual(["long2"]);
    setPaused(state, "long1", false, 30);
    runAll(state, 30);
  });

  test("is no reason for a long one of a high class to wait for those of lower ones, and takes none from a short one", () => {
    const state = reserving(2, { contextTokens: 400 });
    add(state, "low", 30, { priority: 3, maxTokens: 300 });
    runStep(state, 0);
    add(state, "high", 30, { priority: 0 });
    expect(planStep(state, 20).evictions).toEqual([
      { kind: "class", request: "low", slot: 0, waiter: "high" },
    ]);
    const full = reserving(2, { contextTokens: 400 });
    add(full, "short", 5, { priority: 3, maxTokens: 300 });
    add(full, "long", 30, { priority: 0, maxTokens: 300 });
    runStep(full, 0);
    add(full, "another", 30, { priority: 0 });
    add(full, "tiny", 5, { priority: 1 });
    const { evictions } = planStep(full, 20);
    expect(evictions).toEqual([{ kind: "class", request: "short", slot: 1, waiter: "tiny" }]);
  });

  test("is given to one of its owner's prompts in the same way where the owner may have no more", () => {
    const others = { ...DEFAULT_FAIRNESS.others, maxRunning: 2 };
    const state = reserving(4, {
      contextTokens: 400,
      reserve: { slots: 3, promptTokens: 20 },
      fairness: { ...DEFAULT_FAIRNESS, others },
    });
    add(state, "long", 30, { priority: 1, maxTokens: 300 });
    add(state, "short", 5, { priority: 3, maxTokens: 300 });
    runStep(state, 0);
    add(state, "another", 30, { priority: 0 });
    expect(planStep(state, 20).evictions).toEqual([
      { kind: "own", request: "long", slot: 0, waiter: "another" },
    ]);
  });

  test("is not given to the next turn of a long conversation for its cells", () => {
    const state = reserving(3, { prefixFirst: true });
    const text = (size: number) => Uint32Array.from({ length: size }, (_, i) => 500_000 + i);
    addRequest(state, "turn1", { prompt: text(40), maxTokens: 2 });
    runAll(state, 0);
    for (const id of ["long1", "long2"]) add(state, id, 30, { maxTokens: 100 }, 1000);
    runStep(state, 1000);
    addRequest(state, "turn2", { prompt: text(45), maxTokens: 2 }, 1100);
    expect(state.slots.some(({ followers }) => followers.includes("turn2"))).toBe(true);
    add(state, "short", 5, {}, 1200);
    expect(planStep(state, 1300).assignments.map(({ request }) => request)).toEqual(["short"]);
  });

  test("goes to somebody else in the same step where a long one of its owner has given way to a short one", () => {
    const others = { ...DEFAULT_FAIRNESS.others, maxRunning: 1 };
    const reserve = { slots: 2, promptTokens: 20 };
    const fairness = { ...DEFAULT_FAIRNESS, others };
    const state = reserving(3, { contextTokens: 400, reserve, fairness });
    add(state, "low", 30, { priority: 3, maxTokens: 300 });
    runStep(state, 0);
    add(state, "another's", 30, { tenant: "b", priority: 3 });
    expect(planStep(state, 10).assignments).toEqual([]);
    add(state, "high", 5, { priority: 0 });
    const { evictions, assignments } = planStep(state, 20);
    expect(evictions).toMatchObject([{ request: "low", waiter: "high" }]);
    expect(assignments.map(({ request }) => request)).toEqual(["high", "another's"]);
  });

  test("leaves long ones a slot", () => {
    expect(() => reserving(1)).toThrow("Of 1 slots 1 cannot be kept for short prompts: long ones need one.");
  });

  test("is missed where somebody else has it, or gets it", () => {
    const state = reserving(3);
    add(state, "long1", 20);
    add(state, "long2", 20);
    const plan = planStep(state, 0);
    checkPlan(state, plan);
    Object.assign(state.config, { reserve: { slots: 2, promptTokens: 20 } });
    expect(() => checkPlan(state, plan)).toThrow(
      "slots that are kept for short prompts are given to no long one",
    );
    beginStep(state, plan, 0);
    expect(() => checkState(state)).toThrow("long prompts have no more slots than they may");
  });

  test("never lets a later request go before a long one that may have a slot", () => {
    const request = fc.record({
      long: fc.boolean(),
      maxTokens: fc.integer({ min: 1, max: 12 }),
      atStep: fc.nat(30),
      sameText: fc.boolean(),
    });
    let waited = 0;
    fc.assert(
      fc.property(
        fc.array(request, { minLength: 4, maxLength: 30, size: "max" }),
        fc.integer({ min: 2, max: 5 }),
        fc.integer({ min: 1, max: 4 }),
        (requests, slots, kept) => {
          const reserve = { slots: Math.min(kept, slots - 1), promptTokens: 20 };
          const state = reserving(slots, { reserve });
          const places = slots - reserve.slots;
          for (let step = 0, nowMs = 0; step < 31 || state.requests.size > 0; step++) {
            requests.forEach(({ long, maxTokens, atStep, sameText }, i) => {
              if (atStep !== step) return;
              const size = long ? 25 : 6;
              // As the choices of a request are, which wait for the first one's prefix.
              const prompt = Uint32Array.from({ length: size }, (_, at) => (sameText ? at : 1000 * i + at));
              addRequest(state, `${i}`, { prompt, maxTokens }, nowMs);
            });
            const all = new Map(state.requests);
            const hadSlots = state.slots.flatMap(({ owner }) => owner ?? []);
            const plan = runStep(state, nowMs);
            nowMs += planMs(plan) + 1;
            expect(step).toBeLessThan(5000);
            const given = plan.assignments.map(({ request: id }) => id);
            const last = Math.max(-1, ...given.map((id) => all.get(id)?.arrival ?? -1));
            const passed = [...state.queue.values()].filter(
              ({ id, arrival }) => arrival < last && !plan.held.includes(id),
            );
            if (passed.length === 0) continue;
            waited += 1;
            const isLong = (id: string): boolean => (all.get(id)?.prompt.length ?? 0) >= 20;
            expect(passed.every(({ id }) => isLong(id))).toBe(true);
            expect([...hadSlots, ...given, ...plan.held].filter(isLong)).toHaveLength(places);
          }
        },
      ),
      { numRuns: 60 },
    );
    expect(waited).toBeGreaterThan(50);
  });
});

describe("what is told where slots are kept for short prompts", () => {
  const newcomer = (computedTokens: number) => ({
    tenant: "a",
    priority: 1,
    computedTokens,
    maxNew: 10,
  });

  test("a short prompt does not wait for the long ones that do, a long one waits for their places", () => {
    const state = reserving(3);
    for (let i = 0; i < 8; i++) add(state, `long${i}`, 40);
    runStep(state, 0);
    // Of the others: a free slot, behind the two prompts that are computed.
    const shortMs = predictedTtftMs(state, newcomer(5), 10);
    const longMs = predictedTtftMs(state, newcomer(40), 10);
    add(state, "short", 5, {}, 10);
    add(state, "long", 40, {}, 10);
    const first = runAll(state, 10);
    const real = [first.get("short") ?? 0, first.get("long") ?? 0].map((ms) => ms - 10);
    expect(real[1]).toBeGreaterThan(5 * (real[0] ?? 0));
    for (const [i, toldMs] of [shortMs, longMs].entries()) {
      expect(toldMs).toBeGreaterThan(0.9 * (real[i] ?? 0));
      expect(toldMs).toBeLessThan(1.1 * (real[i] ?? 0));
    }
  });

  test("the times of long and of short ones are learnt apart", () => {
    const state = reserving(2);
    for (let i = 0; i < 4; i++) {
      add(state, `long${i}`, 40, { maxTokens: 100 });
      add(state, `short${i}`, 5, { maxTokens: 2 });
    }
    runAll(state, 0);
    const { long = 0, short = 0 } = state.residenceOf;
    expect(long).toBeGreaterThan(10 * short);
    expect(schedulerState().residenceOf).toEqual({ long: undefined, short: undefined });
  });

  test("a slot that long ones may not have is no sign that they have company to wait for", () => {
    const learnt = (promptTokens: number): number => {
      const state = reserving(2);
      state.residenceMs = 1e6;
      add(state, "only", promptTokens);
      runAll(state, 0);
      return Math.round((100 * (1e6 - state.residenceMs)) / 1e6);
    };
    expect([learnt(20), learnt(19)]).toEqual([10, 2]);
  });

  test("who is refused is asked back when those who wait have slots that they may have", () => {
    const toldMs = (waiting: number): number => {
      const state = reserving(2, { maxQueued: 1 });
      state.residenceMs = 5000;
      add(state, "running", 30, { maxTokens: 150 });
      runStep(state, 0);
      add(state, "waiting", waiting);
      try {
        add(state, "refused", 30);
      } catch (error) {
        return error instanceof EngineError ? (error.details?.["retryAfterMs"] ?? 0) : 0;
      }
      return 0;
    };
    expect(toldMs(30)).toBeGreaterThan(1000);
    // The short one has a slot in the next step; it is the long one's turn to wait.
    expect(toldMs(5)).toBe(0);
  });

  test("who cannot have a free slot waits, and is refused where nobody may", () => {
    const state = reserving(2, { maxQueued: 0 });
    add(state, "long1", 30);
    expect(() => add(state, "long2", 30)).toThrow("0 requests are waiting already.");
    expect(add(state, "short", 5)).toBe(0);
    expect(() => add(state, "another", 5)).toThrow(EngineError);
  });

  test("the last of a key's long prompts has its turn when those have a place", () => {
    const others = { ...DEFAULT_FAIRNESS.others, maxQueuedTokens: 1000 };
    const fairness = { ...DEFAULT_FAIRNESS, others };
    const resetMs = (reserve: SchedulerConfig["reserve"]): number => {
      const state = schedulerState({ slots: 4, fairness, ...(reserve === undefined ? {} : { reserve }) });
      state.residenceMs = 1000;
      for (let i = 0; i < 7; i++) add(state, `long${i}`, 30);
      runStep(state, 0);
      return allowanceOf(state, "a", 0).tokensResetMs ?? 0;
    };
    const all = resetMs(undefined);
    const some = resetMs({ slots: 3, promptTokens: 20 });
    expect(all).toBeLessThan(1000);
    expect(some).toBeGreaterThan(5000);
  });

  test("of long prompts as many choices can be open as have places and may wait", () => {
    const state = reserving(4, { maxQueued: 2 });
    const long = { tenant: "a", promptTokens: 20 };
    checkChoices(state, long, 5);
    expect(() => checkChoices(state, long, 6)).toThrow('Of "a" 5 requests may be open at a time, not 6.');
    checkChoices(state, { tenant: "a", promptTokens: 19 }, 6);
    checkChoices(state, { tenant: "a" }, 6);
  });
});
