/** Requests with different adapters: each set gets its part of the device, whoever comes, whatever its calls take. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { AdapterSet } from "../../../engine/adapters.ts";
import { chargeTurn, nextTurn } from "../../../engine/scheduler/adapter-turns.ts";
import type { Running } from "../../../engine/scheduler/admission.ts";
import { DEFAULT_FAIRNESS } from "../../../engine/scheduler/owners.ts";
import { planStep } from "../../../engine/scheduler/plan-step.ts";
import { setPaused } from "../../../engine/scheduler/request-control.ts";
import type { SchedulerState, StepPlan } from "../../../engine/scheduler/types.ts";
import { addRequest, planMs, runStep, schedulerState } from "../../support/scheduler.ts";

const ITL_TARGET_MS = 100;

const setOf = (key: string): AdapterSet | undefined =>
  key === "" ? undefined : { key, uses: [{ adapter: 0, scale: 1 }] };

/** A state whose slots are held by a request of each of these sets. */
function stateWith(keys: readonly string[], switchMs: number): { state: SchedulerState; running: Running[] } {
  const state = schedulerState({ slots: Math.max(1, keys.length), itlTargetMs: ITL_TARGET_MS });
  state.cost = { ...state.cost, switchMs };
  keys.forEach((key, i) => addRequest(state, `r${i}`, { adapters: setOf(key), cacheKey: key }));
  const running = [...state.requests.values()].map((request, slot) => ({ request, slot, length: 0 }));
  return { state, running };
}

/** Takes a step of the turn as a plan does; returns whose it was. */
function step(state: SchedulerState, running: readonly Running[], takesMs: (key: string) => number): string {
  const { turns } = nextTurn(state, running, []);
  state.turns = turns;
  const adapters = setOf(turns.current);
  const call = adapters === undefined ? {} : { adapters };
  chargeTurn(state, call, takesMs(turns.current));
  return turns.current;
}

describe("device time", () => {
  test("is shared equally among sets that always have something to compute, to a turn and a step each", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 6 }),
        fc.constantFrom(0, 0.5, 3, 50),
        fc.array(fc.double({ min: 0.01, max: 400, noNaN: true }), { minLength: 50, maxLength: 300 }),
        (sets, switchMs, times) => {
          const keys = Array.from({ length: sets }, (_, i) => (i === 0 ? "" : `set${i}`));
          const { state, running } = stateWith(keys, switchMs);
          const quantumMs = Math.max(0.1, Math.min(10 * switchMs, ITL_TARGET_MS / (sets - 1)));
          const spentMs = new Map(keys.map((key) => [key, 0]));
          let longestMs = 0;
          for (const ms of times) {
            const key = step(state, running, () => ms);
            spentMs.set(key, (spentMs.get(key) ?? 0) + ms);
            longestMs = Math.max(longestMs, ms);
            const all = [...spentMs.values()];
            expect(Math.max(...all) - Math.min(...all)).toBeLessThanOrEqual(quantumMs + 2 * longestMs + 1e-6);
          }
        },
      ),
    );
  });

  test("is not starved by sets that come and go, and is not saved up by them", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            others: fc.subarray(["", "set1", "set2", "set3"]),
            ms: fc.double({ min: 0.01, max: 50, noNaN: true }),
          }),
          { minLength: 50, maxLength: 300 },
        ),
        (steps) => {
          const keys = ["steady", "", "set1", "set2", "set3"];
          const { state, running } = stateWith(keys, 1);
          let waitedMs = 0;
          let owedMs = 0;
          for (const { others, ms } of steps) {
            const active = running.filter(({ request: { adapters } }) =>
              ["steady", ...others].includes(adapters?.key ?? ""),
            );
            const key = step(state, active, () => ms);
            if (key === "steady") {
              waitedMs = 0;
              owedMs = ms;
            } else waitedMs += ms;
            // Of each other set a turn and a step, as often as its own last step was longer than a turn.
            const rounds = 1 + Math.ceil(owedMs / 10);
            expect(waitedMs).toBeLessThanOrEqual(4 * (10 + 50) * rounds);
          }
        },
      ),
    );
  });

  test("goes to a set in turns that are ten switches long", () => {
    const { state, running } = stateWith(["", "set1"], 2);
    const turns = Array.from({ length: 16 }, () => step(state, running, () => 5));
    expect(turns.map((key) => key.at(-1) ?? "-").join("")).toBe("1111----1111----");
  });

  test("is never kept from the others for longer than a token may take", () => {
    const { state, running } = stateWith(["", "set1", "set2"], 1000);
    const turns = Array.from({ length: 12 }, () => step(state, running, () => 25));
    expect(turns.map((key) => key.at(-1) ?? "-").join("")).toBe("1122--1122--");
  });

  test("is an owner's by its weight, into however many sets it divides what it has", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({ sets: fc.integer({ min: 1, max: 5 }), weight: fc.integer({ min: 1, max: 4 }) }),
          {
            minLength: 2,
            maxLength: 3,
          },
        ),
        fc.array(fc.double({ min: 0.01, max: 40, noNaN: true }), { minLength: 100, maxLength: 300 }),
        (owners, times) => {
          const policies = owners.map(
            ({ weight }, owner) => [`o${owner}`, { ...DEFAULT_FAIRNESS.others, weight }] as const,
          );
          const fairness = { ...DEFAULT_FAIRNESS, owners: new Map(policies) };
          const state = schedulerState({ slots: 15, itlTargetMs: ITL_TARGET_MS, fairness });
          state.cost = { ...state.cost, switchMs: 1 };
          const held = owners.flatMap(({ sets }, owner) =>
            Array.from({ length: sets }, (_, set) => ({ tenant: `o${owner}`, key: `o${owner}s${set}` })),
          );
          for (const { tenant, key } of held)
            addRequest(state, key, { tenant, adapters: setOf(key), cacheKey: key });
          const running = [...state.requests.values()].map((request, slot) => ({ request, slot, length: 0 }));
          const spentMs = owners.map(() => 0);
          for (const ms of times) {
            const owner = Number(step(state, running, () => ms).charAt(1));
            spentMs[owner] = (spentMs[owner] ?? 0) + ms;
          }
          const perWeight = owners.map(({ weight }, owner) => (spentMs[owner] ?? 0) / weight);
          const longestMs = Math.max(...times);
          // Each of its sets is at most a turn and two steps from what it should have had.
          const most = Math.max(
            ...owners.map(({ sets, weight }) => (sets * (held.length * 10 + 2 * longestMs)) / weight),
          );
          expect(Math.max(...perWeight) - Math.min(...perWeight)).toBeLessThanOrEqual(most);
        },
      ),
    );
  });

  test("is not to be had by asking for another set each time", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4 }),
        fc.array(
          fc.record({
            steadyMs: fc.double({ min: 1, max: 50, noNaN: true }),
            freshMs: fc.double({ min: 1, max: 200, noNaN: true }),
          }),
          { minLength: 100, maxLength: 200 },
        ),
        (atOnce, steps) => {
          const state = schedulerState({ slots: 5, itlTargetMs: ITL_TARGET_MS });
          state.cost = { ...state.cost, switchMs: 0.1 };
          addRequest(state, "steady", { tenant: "a", adapters: setOf("steady") });
          addRequest(state, "fresh", { tenant: "b" });
          const [steady, fresh] = [...state.requests.values()];
          if (steady === undefined || fresh === undefined) throw new Error("two requests were added");
          let made = 0;
          const another = (): Running => ({
            request: { ...fresh, adapters: setOf(`fresh${made++}`) },
            slot: 1,
            length: 0,
          });
          let others = Array.from({ length: atOnce }, another);
          const spentMs = { steady: 0, fresh: 0 };
          for (const { steadyMs, freshMs } of steps) {
            const active = [{ request: steady, slot: 0, length: 0 }, ...others];
            const key = step(state, active, (of) => (of === "steady" ? steadyMs : freshMs));
            if (key === "steady") spentMs.steady += steadyMs;
            else spentMs.fresh += freshMs;
            // Whoever has had a step is done, and asks again with a set of its own.
            others = others.map((running) => (running.request.adapters?.key === key ? another() : running));
          }
          // A step for nothing for each that comes before the first has gone, and one that is on its way.
          expect(spentMs.fresh - spentMs.steady).toBeLessThanOrEqual((atOnce + 1) * (200 + 50));
        },
      ),
    );
  });

  test("is halved between two keys, though one of them asks for four sets", () => {
    const state = schedulerState({ slots: 5, itlTargetMs: ITL_TARGET_MS });
    state.cost = { ...state.cost, switchMs: 1 };
    for (const key of ["b1", "b2", "b3", "b4"]) addRequest(state, key, { tenant: "b", adapters: setOf(key) });
    addRequest(state, "a", { tenant: "a", adapters: setOf("a1") });
    const running = [...state.requests.values()].map((request, slot) => ({ request, slot, length: 0 }));
    const turns = Array.from({ length: 400 }, () => step(state, running, () => 5));
    expect(turns.filter((key) => key === "a1").length).toBeGreaterThanOrEqual(196);
    expect(turns.filter((key) => key === "a1").length).toBeLessThanOrEqual(204);
  });
});

interface Planned {
  readonly atStep: number;
  readonly promptLength: number;
  readonly family: number;
  readonly maxTokens: number;
  readonly pausedFor: number;
}

const planned: fc.Arbitrary<Planned> = fc.record({
  atStep: fc.nat(30),
  promptLength: fc.integer({ min: 1, max: 80 }),
  family: fc.nat(2),
  maxTokens: fc.integer({ min: 1, max: 12 }),
  pausedFor: fc.constantFrom(0, 0, 0, 4),
});

function submitDue(
  state: SchedulerState,
  due: number,
  requests: readonly (Planned & { key: string })[],
): void {
  requests.forEach(({ atStep, promptLength, family, maxTokens, pausedFor, key }, i) => {
    const prompt = Uint32Array.from({ length: promptLength }, (_, at) => family * 500 + at);
    const asked = { prompt, maxTokens, adapters: setOf(key), cacheKey: key };
    if (atStep === due) addRequest(state, `r${i}`, asked, due);
    if (pausedFor > 0 && atStep + 2 === due) setPaused(state, `r${i}`, true, due);
    if (pausedFor > 0 && atStep + 2 + pausedFor === due) setPaused(state, `r${i}`, false, due);
  });
}

test("requests of one set are planned like requests without adapters", () => {
  const withoutSet = ({ turns: _turns, calls, why, ...plan }: StepPlan): object => ({
    ...plan,
    calls: calls.map(({ adapters: _adapters, ...call }) => call),
    why: why.filter((reason) => !reason.includes("turn")),
  });
  fc.assert(
    fc.property(fc.array(planned, { minLength: 1, maxLength: 10 }), (requests) => {
      const states = ["", "set1"].map((key) => ({
        key,
        state: schedulerState({ slots: 3, itlTargetMs: 30 }),
      }));
      for (let now = 0; now < 120; now++) {
        const plans = states.map(({ key, state }) => {
          submitDue(
            state,
            now,
            requests.map((request) => ({ ...request, key })),
          );
          return withoutSet(runStep(state, now));
        });
        expect(plans[1]).toEqual(plans[0]);
      }
    }),
  );
});

test("requests of all sets come to their end, each call with the adapters of its requests", () => {
  const mixed = fc
    .tuple(planned, fc.constantFrom("", "set1", "set2"))
    .map(([request, key]) => ({ ...request, key }));
  fc.assert(
    fc.property(
      fc.array(mixed, { minLength: 1, maxLength: 12 }),
      fc.constantFrom(0, 0.5, 20),
      (requests, switchMs) => {
        const state = schedulerState({ slots: 3, itlTargetMs: 30 });
        state.cost = { ...state.cost, switchMs };
        let now = 0;
        let computed = 0;
        // `runStep` holds every plan and state against the invariants.
        for (; now < 2000 && (now <= 40 || state.requests.size > 0); now++) {
          submitDue(state, now, requests);
          const plan = runStep(state, now);
          computed += planMs(plan);
          for (const { adapters, entries } of plan.calls)
            for (const { request } of entries)
              if (request !== undefined)
                expect(adapters?.key ?? "").toBe(requests[Number(request.slice(1))]?.key);
        }
        expect(state.requests.size).toBe(0);
        expect(computed).toBeGreaterThan(0);
        expect(planStep(state, now).calls).toEqual([]);
      },
    ),
  );
});

test("what changing the adapters takes is expected of the first call, and teaches nothing", () => {
  const state = schedulerState({ slots: 2 });
  state.cost = { ...state.cost, switchMs: 4 };
  addRequest(state, "base", { prompt: Uint32Array.of(1), maxTokens: 9 });
  addRequest(state, "tuned", {
    prompt: Uint32Array.of(1),
    maxTokens: 9,
    adapters: setOf("set1"),
    cacheKey: "set1",
  });
  const calls = Array.from({ length: 3 }, (_, i) => runStep(state, i).calls);
  expect(calls.map(([call]) => [call?.adapters?.key, call?.predictedMs, call?.unscaledMs])).toEqual([
    ["set1", 15, 0],
    ["set1", 11, 11],
    ["set1", 11, 11],
  ]);
});

test("prefill's credit is that of the requests whose turn it is", () => {
  // A cell of 10 tokens takes 30 ms, of which a step with a decode leaves 9: it is saved up for.
  const state = schedulerState({ slots: 3, itlTargetMs: 20, minPrefillShare: 0.1 });
  state.cost = { ...state.cost, switchMs: 1 };
  addRequest(state, "talker", { prompt: Uint32Array.of(1), maxTokens: 100 });
  addRequest(state, "reader", { prompt: Uint32Array.from({ length: 90 }, (_, i) => 100 + i), maxTokens: 2 });
  addRequest(state, "tuned", {
    prompt: Uint32Array.of(1),
    maxTokens: 100,
    adapters: setOf("set1"),
    cacheKey: "set1",
  });
  const read: number[] = [];
  for (let now = 0; now < 110; now++) {
    const plan = runStep(state, now);
    if (plan.calls.some(({ kind }) => kind === "prefill")) read.push(now);
  }
  // Nine cells, as if nobody else were there but for the turns between.
  expect(read).toHaveLength(9);
});

test.each([
  [true, undefined, true],
  [true, false, false],
  [false, false, true],
])(
  "with adapters (%s) and guesses for them (%s), tokens are guessed: %s",
  (adapted, speculateAdapted, guessed) => {
    const state = schedulerState({
      slots: 1,
      speculate: true,
      ...(speculateAdapted === undefined ? {} : { speculateAdapted }),
    });
    const prompt = Uint32Array.from({ length: 9 }, () => 7);
    addRequest(state, "a", adapted ? { prompt, adapters: setOf("set1"), cacheKey: "set1" } : { prompt });
    const drafts: number[] = [];
    for (let now = 0; now < 12 && !drafts.some((count) => count > 0); now++)
      drafts.push(Math.max(0, ...runStep(state, now, false).calls.map((call) => call.drafts)));
    expect(drafts.some((count) => count > 0)).toBe(guessed);
  },
);
