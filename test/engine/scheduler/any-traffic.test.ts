/**
 * Whatever happens to a scheduler: every plan and state keeps the invariants, every token is computed once, everybody
 * ends, and nothing is left. Calls fail, times run out, adapters differ, guesses come true or not.
 */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { takeExpired } from "../../../engine/scheduler/deadlines.ts";
import { promptBesideMs } from "../../../engine/scheduler/forecast.ts";
import { checkPlan, checkState } from "../../../engine/scheduler/invariants.ts";
import { DEFAULT_FAIRNESS } from "../../../engine/scheduler/owners.ts";
import { planStep } from "../../../engine/scheduler/plan-step.ts";
import { setPaused, setPriority } from "../../../engine/scheduler/request-control.ts";
import { cancel, release, releaseCancelled, truncateSlot } from "../../../engine/scheduler/transitions.ts";
import type {
  Hold,
  PlannedCall,
  SchedulerConfig,
  SchedulerState,
  StepPlan,
} from "../../../engine/scheduler/types.ts";
import { addRequest, planMs, runStep, schedulerState } from "../../support/scheduler.ts";

interface Submit {
  readonly type: "submit";
  readonly owner: number;
  readonly priority: number;
  readonly size: number;
  readonly adapter: number;
  readonly withinMs: number | undefined;
  readonly resumed: boolean;
  readonly reads: boolean;
}
type Command =
  | Submit
  | { readonly type: "cancel" | "pause" | "resume"; readonly which: number }
  | { readonly type: "class"; readonly which: number; readonly priority: number }
  | { readonly type: "step"; readonly count: number }
  | { readonly type: "fail" };

const which = fc.nat(20);
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      type: fc.constant("submit" as const),
      owner: fc.nat(3),
      priority: fc.nat(3),
      size: fc.integer({ min: 1, max: 40 }),
      adapter: fc.nat(2),
      withinMs: fc.option(fc.integer({ min: 1, max: 2000 }), { nil: undefined, freq: 3 }),
      resumed: fc.boolean(),
      reads: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constantFrom("cancel" as const, "pause" as const, "resume" as const),
      which,
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("class" as const), which, priority: fc.nat(3) }) },
  {
    weight: 5,
    arbitrary: fc.record({ type: fc.constant("step" as const), count: fc.integer({ min: 1, max: 6 }) }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("fail" as const) }) },
);

const settings = fc.record({
  slots: fc.integer({ min: 1, max: 4 }),
  itlTargetMs: fc.constantFrom(5, 60, 1000),
  deterministic: fc.boolean(),
  speculate: fc.boolean(),
  exactCells: fc.boolean(),
  joinedCells: fc.boolean(),
  memory: fc.constantFrom<Partial<SchedulerConfig>>(
    {},
    { canRewind: false },
    { canRewind: false, checkpoints: { needs: "none", bytes: 600 } },
    { canRewind: false, checkpoints: { needs: "cells", bytes: 300 } },
    { canRewind: false, checkpoints: { needs: "own-cells", bytes: 600 }, windowTokens: 6 },
  ),
  plugGaps: fc.boolean(),
  prefixFirst: fc.boolean(),
  keepSlots: fc.boolean(),
  prefixHolds: fc.boolean(),
  prefillOrder: fc.constantFrom("arrival" as const, "shortest" as const),
  prefixTreeSlots: fc.constantFrom(1, 64),
  reserved: fc.nat(3),
});

/** Follows what plans compute: how many tokens each request has been fed since it got its slot, reused ones included. */
class Tally {
  readonly #fed = new Map<string, number>();
  /** Tokens that were fed twice or left out. */
  readonly wrong: string[] = [];

  follow({ assignments, calls }: StepPlan): void {
    for (const { request, reuse } of assignments) this.#fed.set(request, reuse);
    for (const { entries, drafts } of calls) {
      for (const { request, position, tokens } of entries) {
        if (request === undefined) continue;
        if (position !== this.#fed.get(request)) this.wrong.push(`${request} at ${position}`);
        if (drafts === 0) this.#fed.set(request, position + tokens.length);
      }
    }
  }

  /** After guesses only the cells tell how many were right. */
  recount({ calls }: StepPlan, state: SchedulerState): void {
    for (const { entries, drafts } of calls) {
      if (drafts === 0) continue;
      for (const { slot, request } of entries)
        if (request !== undefined) this.#fed.set(request, state.slots[slot]?.length ?? 0);
    }
  }
}

/** A step whose first call fails for all of its requests. */
function failStep(state: SchedulerState, nowMs: number): void {
  releaseCancelled(state, nowMs);
  const plan = planStep(state, nowMs);
  checkPlan(state, plan);
  const [call]: readonly (PlannedCall | undefined)[] = plan.calls;
  for (const { request: id, slot } of call?.entries ?? []) {
    const request = state.requests.get(id ?? "");
    const cells = state.slots[slot];
    // What is admitted in this very plan has no slot to fail in.
    if (request?.slot !== slot || cells === undefined) continue;
    truncateSlot(cells, 0);
    release(state, request, nowMs);
  }
  checkState(state);
}

function add(state: SchedulerState, id: string, given: Submit, nowMs: number): void {
  const { size, adapter } = given;
  const key = adapter === 0 ? "" : `set${adapter}`;
  const reads = given.reads && size % 3 === 0;
  addRequest(
    state,
    id,
    {
      tenant: `o${given.owner}`,
      priority: given.priority,
      // The same words for many, so that there is something to reuse and to guess.
      prompt: Uint32Array.from({ length: size }, (_, i) => 7 - (i % 4) * (size % 2)),
      maxTokens: 4 * size,
      adapters: adapter === 0 ? undefined : { key, uses: [{ adapter: 0, scale: adapter }] },
      cacheKey: key,
      resume: given.resumed && !reads ? new Uint32Array(Math.floor(size / 2)).fill(7) : new Uint32Array(0),
      readsPrompt: reads,
      reusePrefix: !reads,
      endWithinMs: given.withinMs,
    },
    nowMs,
  );
}

/** Whoever is held for a prefix could not have had all of its prompt computed anew twice meanwhile. */
function checkHold(state: SchedulerState, hold: Hold | undefined, nowMs: number): void {
  if (hold === undefined) return;
  const prompt = { computedTokens: state.requests.get(hold.request)?.prompt.length ?? 0 };
  expect(nowMs - hold.sinceMs).toBeLessThanOrEqual(2 * promptBesideMs(state, prompt));
}

test("every plan and state keeps the invariants, every token is computed once, and everybody ends", () => {
  const seen = { failed: 0, expired: 0, guessed: 0, evicted: 0, copied: 0, back: 0 };
  fc.assert(
    fc.property(
      settings,
      fc.array(command, { maxLength: 50, size: "max" }),
      ({ memory, reserved, ...config }, commands) => {
        const kept = Math.min(reserved, config.slots - 1);
        const { others } = DEFAULT_FAIRNESS;
        const owners = new Map([
          ["o1", { ...others, maxRunning: 1 }],
          ["o2", { ...others, weight: 3 }],
        ]);
        const state = schedulerState({
          ...config,
          ...memory,
          ...(kept === 0 ? {} : { reserve: { slots: kept, promptTokens: 15 } }),
          fairness: { ...DEFAULT_FAIRNESS, owners, agingQuantumMs: 500 },
        });
        state.cost = { ...state.cost, switchMs: 2 };
        const tally = new Tally();
        let nowMs = 0;
        let serial = 0;
        const at = (index: number): string => [...state.requests.keys()][index] ?? "";
        const step = (): void => {
          for (const request of takeExpired(state, nowMs)) {
            release(state, request, nowMs);
            seen.expired += 1;
          }
          releaseCancelled(state, nowMs);
          // Whether prompts are looked for in the tree or in each slot.
          if (state.prefixes !== undefined)
            expect(planStep(state, nowMs)).toEqual(planStep({ ...state, prefixes: undefined }, nowMs));
          const plan = runStep(state, nowMs);
          for (const id of plan.held) checkHold(state, state.requests.get(id)?.hold, nowMs);
          tally.follow(plan);
          tally.recount(plan, state);
          seen.evicted += plan.evictions.length;
          seen.copied += plan.boundary.filter(({ type }) => type === "copy").length;
          seen.back += plan.boundary.filter(({ type }) => type === "rewind").length;
          seen.guessed += plan.calls.filter(({ drafts }) => drafts > 0).length;
          nowMs += planMs(plan) + 1;
        };
        for (const given of commands) {
          if (given.type === "submit") {
            // Whoever cannot be in time any more is refused.
            const before = state.requests.size;
            try {
              add(state, `r${serial++}`, given, nowMs);
            } catch {
              expect([state.requests.size, given.withinMs !== undefined]).toEqual([before, true]);
            }
          } else if (given.type === "cancel") cancel(state, at(given.which), nowMs);
          else if (given.type === "class") setPriority(state, at(given.which), given.priority);
          else if (given.type === "step") for (let i = 0; i < given.count; i++) step();
          else if (given.type === "fail") {
            const before = state.requests.size;
            failStep(state, nowMs);
            seen.failed += before - state.requests.size;
          } else setPaused(state, at(given.which), given.type === "pause", nowMs);
        }
        for (const id of state.requests.keys()) setPaused(state, id, false, nowMs);
        for (let i = 0; i < 5000 && state.requests.size > 0; i++) step();
        expect([state.requests.size, state.queue.size, state.busyOwners.size]).toEqual([0, 0, 0]);
        expect(state.slots.every(({ owner }) => owner === undefined)).toBe(true);
        expect(tally.wrong).toEqual([]);
        expect(state.lines.every(({ waiting }) => waiting === 0)).toBe(true);
      },
    ),
    { numRuns: 80 },
  );
  // All of it came up.
  for (const [what, count] of Object.entries(seen)) expect([what, count > 10]).toEqual([what, true]);
});

test("owners that ask once and never come back are forgotten", () => {
  const state = schedulerState({ slots: 1 });
  for (let i = 0; i < 2500; i++) {
    addRequest(state, `r${i}`, { tenant: `once ${i}`, maxTokens: 1 }, i);
    cancel(state, `r${i}`, i);
  }
  expect(state.owners.size).toBeLessThanOrEqual(1000);
  expect([state.owners.size, state.busyOwners.size]).toEqual([state.idleOwners.size, 0]);
  checkState(state);
});

test("with one slot more nobody waits longer for one, where all of them are one owner's and have nothing in common", () => {
  const request = fc.record({
    promptTokens: fc.integer({ min: 1, max: 30 }),
    maxTokens: fc.integer({ min: 1, max: 12 }),
    atStep: fc.nat(20),
  });
  fc.assert(
    fc.property(
      fc.array(request, { minLength: 1, maxLength: 12 }),
      fc.integer({ min: 1, max: 4 }),
      (requests, slots) => {
        const admittedAt = (count: number): number[] => {
          // So long a target that a step has room for all cells there are: time is counted in steps here.
          const state = schedulerState({ slots: count, itlTargetMs: 1e9, prefillChunk: 32 });
          const steps: number[] = requests.map(() => Infinity);
          for (let step = 0; step < 400; step++) {
            requests.forEach(({ atStep, maxTokens, promptTokens }, i) => {
              if (atStep !== step) return;
              const prompt = Uint32Array.from({ length: promptTokens }, (_, at) => 1000 * i + at);
              addRequest(state, `${i}`, { prompt, maxTokens }, step);
            });
            for (const { request: id } of runStep(state, step).assignments) steps[Number(id)] = step;
          }
          return steps;
        };
        const [fewer, more] = [admittedAt(slots), admittedAt(slots + 1)];
        more.forEach((step, i) => expect(step).toBeLessThanOrEqual(fewer[i] ?? 0));
      },
    ),
    { numRuns: 60 },
  );
});
