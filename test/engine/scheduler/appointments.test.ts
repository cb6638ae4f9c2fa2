/** Who is refused has a place until it was told to come back: before whom, how long, and what no place does to others. */
import { describe, expect, test } from "vitest";
import { EngineError } from "../../../engine/errors.ts";
import { MOST_APPOINTMENTS } from "../../../engine/scheduler/appointments.ts";
import { checkRoom } from "../../../engine/scheduler/entry.ts";
import { DEFAULT_FAIRNESS } from "../../../engine/scheduler/owners.ts";
import { checkState } from "../../../engine/scheduler/invariants.ts";
import type { NewRequest } from "../../../engine/scheduler/transitions.ts";
import type { SchedulerConfig, SchedulerState } from "../../../engine/scheduler/types.ts";
import { addRequest, runStep, schedulerState } from "../../support/scheduler.ts";

/** One slot that is taken, and one that waits for it, after which the queue is full. */
function full(config: Partial<SchedulerConfig> = {}): SchedulerState {
  const state = schedulerState({ slots: 1, maxQueued: 1, ...config });
  addRequest(state, "runs", { maxTokens: 10, accepted: true });
  runStep(state, 0);
  addRequest(state, "waits", { maxTokens: 10, accepted: true });
  return state;
}

/** Steps until the request has gone, as if they took no time. */
function finish(state: SchedulerState, id: string, nowMs: number): void {
  while (state.requests.has(id)) runStep(state, nowMs);
}

/** @returns When to come back, in ms; undefined for who is let in. */
function ask(
  state: SchedulerState,
  id: string,
  nowMs: number,
  request: Partial<NewRequest> = {},
): number | undefined {
  try {
    addRequest(state, id, { maxTokens: 10, ...request }, nowMs);
    return undefined;
  } catch (error) {
    checkState(state);
    if (!(error instanceof EngineError)) throw error;
    return error.details?.["retryAfterMs"];
  }
}

test("who was refused is let in before who comes later, when it comes back", () => {
  const state = full();
  const toldMs = ask(state, "1", 0, { visitor: "early" }) ?? 0;
  expect(toldMs).toBeGreaterThan(0);
  finish(state, "runs", 0);
  // There is room for one, and one is due.
  expect(ask(state, "2", toldMs, { visitor: "late" })).toBeGreaterThan(0);
  expect(ask(state, "3", toldMs, { visitor: "early" })).toBeUndefined();
});

test("until it is due, what is free is for whoever is there", () => {
  const state = full();
  const toldMs = ask(state, "1", 0, { visitor: "early" }) ?? 0;
  finish(state, "runs", 0);
  finish(state, "waits", 0);
  expect(ask(state, "2", toldMs / 10, { visitor: "late" })).toBeUndefined();
});

test("who is refused again keeps its place", () => {
  const state = full();
  const firstMs = ask(state, "1", 0, { visitor: "early" }) ?? 0;
  const secondMs = ask(state, "2", 0, { visitor: "second" }) ?? 0;
  expect(secondMs).toBeGreaterThan(firstMs);
  const againMs = firstMs + (ask(state, "3", firstMs, { visitor: "early" }) ?? 0);
  expect(againMs).toBeGreaterThan(firstMs);
  finish(state, "runs", firstMs);
  expect(ask(state, "4", againMs, { visitor: "second" })).toBeGreaterThan(0);
  expect(ask(state, "5", againMs, { visitor: "early" })).toBeUndefined();
});

test("places of clients that cannot be told apart are as many as they are", () => {
  const state = full();
  const [first = 0, second = 0] = [1, 2].map((i) => ask(state, String(i), 0, { visitor: "same" }));
  // The second one is taken for the first one that asks again.
  expect([first, second, state.appointments.list.length]).toEqual([first, first, 1]);
});

test("another owner has places of its own", () => {
  const state = full();
  expect(ask(state, "1", 0, { visitor: "v", tenant: "a" })).toBe(
    ask(state, "2", 0, { visitor: "v", tenant: "b" }),
  );
  expect(state.appointments.list.map(({ tenant }) => tenant)).toEqual(["a", "b"]);
});

test("whoever does not come is waited for for a while, forgotten later, and counts less the next time", () => {
  const state = full();
  const toldMs = ask(state, "1", 0, { visitor: "early" }) ?? 0;
  finish(state, "runs", 0);
  const newcomer = { tenant: "a", priority: 1, visitor: "late" };
  expect(() => checkRoom(state, newcomer, toldMs + 300)).toThrow(EngineError);
  expect(() => checkRoom(state, newcomer, toldMs + 301)).not.toThrow();
  checkRoom(state, newcomer, toldMs + 5000 + 600);
  expect(state.appointments.list).toEqual([]);
  expect(state.appointments.keptShare).toBeLessThan(1);
  for (let i = 0; i < 40; i++)
    ask(state, `no show ${i}`, 20_000, { visitor: `no show ${i}`, firstTokenWithinMs: 1 });
  expect(state.appointments.list.length).toBeGreaterThan(1);
  checkRoom(state, newcomer, 2_000_000);
  expect(state.appointments.list).toEqual([]);
  expect(state.appointments.keptShare).toBeLessThan(0.2);
});

test("an owner that was refused a hundred times keeps no other one from its turn", () => {
  const state = full({ fairness: { ...DEFAULT_FAIRNESS, ttftLimitMs: 1 }, maxQueued: 1000 });
  const greedy = Array.from({ length: 100 }, (_, i) => ask(state, `greedy${i}`, 0, { visitor: `${i}` }) ?? 0);
  const small = ask(state, "small", 0, { tenant: "small", visitor: "small" }) ?? 0;
  expect(small).toBeGreaterThan(0);
  expect(small).toBeLessThanOrEqual(greedy[2] ?? 0);
  expect(greedy.at(-1)).toBeGreaterThan(10 * small);
});

test("a higher class does not wait for the places of lower ones", () => {
  const state = full({ fairness: { ...DEFAULT_FAIRNESS, ttftLimitMs: 1 }, maxQueued: 1000 });
  const [first = 0] = Array.from({ length: 20 }, (_, i) => ask(state, `n${i}`, 0, { visitor: `${i}` }));
  expect(ask(state, "high", 0, { priority: 0, visitor: "high" })).toBeLessThanOrEqual(first);
});

test("places are bounded, and who has none is told a time as well", () => {
  const state = full();
  for (let i = 0; i < MOST_APPOINTMENTS; i++) checkedRefusal(state, `v${i}`);
  expect(state.appointments.list).toHaveLength(MOST_APPOINTMENTS);
  expect(checkedRefusal(state, "one more")).toBeGreaterThan(0);
  expect(state.appointments.list).toHaveLength(MOST_APPOINTMENTS);
});

function checkedRefusal(state: SchedulerState, visitor: string): number {
  try {
    checkRoom(state, { tenant: "a", priority: 1, visitor }, 0);
  } catch (error) {
    return error instanceof EngineError ? (error.details?.["retryAfterMs"] ?? 0) : 0;
  }
  return 0;
}

describe("after calls that took much longer than they should", () => {
  const stalled = (): SchedulerState => {
    const state = schedulerState();
    state.cost = { ...state.cost, decodeScale: 5, prefillScale: 5 };
    return state;
  };
  // Three cells of 30 ms, and a decode of 11.
  const request = { prompt: Uint32Array.from({ length: 31 }, (_, i) => i), firstTokenWithinMs: 150 };

  test("an idle engine tries again instead of refusing everybody for ever", () => {
    const state = stalled();
    expect(ask(state, "1", 0, request)).toBeUndefined();
    expect(runStep(state, 0).assignments).toHaveLength(1);
  });

  test("and refuses what could not be done in time without a stall either", () => {
    expect(ask(stalled(), "1", 0, { ...request, firstTokenWithinMs: 100 })).toBeGreaterThan(0);
  });
});
