/** Which running request loses its slot, to whom, and how often. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DEFAULT_FAIRNESS } from "../../../engine/scheduler/owners.ts";
import { planStep } from "../../../engine/scheduler/plan-step.ts";
import { setPaused } from "../../../engine/scheduler/request-control.ts";
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

describe("a slot is taken", () => {
  const longOnes = (state: SchedulerState, request = {}): number => {
    for (const id of ["a0", "a1"]) addRequest(state, id, { maxTokens: 1000, ...request });
    return settle(state, 0);
  };

  test("for a class, for an owner with less than its share, or because somebody waits for who is paused", () => {
    const kinds = (["class", "share", "paused"] as const).map((kind) => {
      const state = schedulerState({ slots: 2, contextTokens: 2000 });
      const nowMs = longOnes(state);
      if (kind === "paused") setPaused(state, "a0", true, nowMs);
      const who = kind === "class" ? { priority: 0 } : { tenant: kind === "share" ? "b" : "a" };
      addRequest(state, "waits", who, nowMs);
      return planStep(state, nowMs).evictions.map((eviction) => eviction.kind);
    });
    expect(kinds.flat()).toEqual(["class", "share", "paused"]);
  });

  test("within an owner that has all it may", () => {
    const state = capped(4, 2);
    const nowMs = longOnes(state, { priority: 3 });
    addRequest(state, "urgent", { priority: 0 }, nowMs);
    expect(planStep(state, nowMs).evictions).toMatchObject([{ kind: "own", waiter: "urgent" }]);
  });
});

/** Of each owner so many slots at most. */
function capped(slots: number, maxRunning: number, config: Partial<SchedulerConfig> = {}): SchedulerState {
  const others = { ...DEFAULT_FAIRNESS.others, maxRunning };
  return schedulerState({ slots, fairness: { ...DEFAULT_FAIRNESS, others }, contextTokens: 4000, ...config });
}

describe("an owner that has all the slots it may", () => {
  test("gives none of its requests' slots away again within ten seconds, however often they are paused and resumed", () => {
    const action = fc.record({
      which: fc.nat(3),
      paused: fc.boolean(),
      steps: fc.integer({ min: 1, max: 4 }),
      idleMs: fc.constantFrom(0, 10, 100, 3000, 20_000),
    });
    let evictions = 0;
    fc.assert(
      fc.property(
        fc.array(action, { minLength: 10, maxLength: 60, size: "max" }),
        fc.integer({ min: 1, max: 2 }),
        fc.integer({ min: 2, max: 4 }),
        (actions, maxRunning, slots) => {
          const state = capped(slots, maxRunning);
          addRequest(state, "another", { tenant: "b", priority: 0, maxTokens: 3900 });
          for (let i = 0; i < 4; i++) addRequest(state, `a${i}`, { priority: i % 3, maxTokens: 1000 });
          const lostMs = new Map<string, number>();
          let nowMs = 0;
          for (const { which, paused, steps, idleMs } of actions) {
            setPaused(state, `a${which}`, paused, nowMs);
            for (let i = 0; i < steps; i++) {
              const plan = runStep(state, nowMs);
              expect(state.requests.get("another")?.slot).toBeDefined();
              for (const { request } of plan.evictions) {
                expect(nowMs - (lostMs.get(request) ?? -Infinity)).toBeGreaterThanOrEqual(10_000);
                lostMs.set(request, nowMs);
                evictions += 1;
              }
              nowMs += planMs(plan) + 1;
            }
            nowMs += idleMs;
          }
        },
      ),
      { numRuns: 60 },
    );
    expect(evictions).toBeGreaterThan(50);
  });

  test("has who is paused give way at once where nobody else computes", () => {
    const state = capped(2, 1);
    addRequest(state, "a0", { maxTokens: 1000 });
    addRequest(state, "a1", { maxTokens: 1000 });
    const taken: (string | undefined)[] = [];
    for (let i = 0; i < 6; i++) {
      setPaused(state, `a${i % 2}`, true, 10 * i);
      setPaused(state, `a${(i + 1) % 2}`, false, 10 * i);
      taken.push(runStep(state, 10 * i).assignments[0]?.request);
    }
    expect(taken).toEqual(["a1", "a0", "a1", "a0", "a1", "a0"]);
  });

  test("does not keep another one from its exchange where its own has to wait", () => {
    const state = capped(4, 1);
    const prompt = Uint32Array.from({ length: 600 }, (_, i) => 70_000 + i);
    addRequest(state, "a low", { priority: 3, maxTokens: 3000 });
    addRequest(state, "c low", { tenant: "c", priority: 3, maxTokens: 3000 });
    let nowMs = settle(state, 0);
    addRequest(state, "leader", { tenant: "b", prompt }, nowMs);
    nowMs += planMs(runStep(state, nowMs)) + 1;
    addRequest(state, "a high", { priority: 0, prompt }, nowMs);
    // For the prefix that the leader computes.
    expect(planStep(state, nowMs).evictions).toEqual([]);
    addRequest(state, "c high", { tenant: "c", priority: 0 }, nowMs);
    expect(planStep(state, nowMs).evictions).toMatchObject([{ request: "c low", waiter: "c high" }]);
  });
});
