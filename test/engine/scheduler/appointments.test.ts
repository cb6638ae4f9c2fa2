/** Who is refused has a place until it was told to come back: before whom, how long, and what no place does to others. */
import { describe, expect, test } from "vitest";
import { EngineError } from "../../../engine/errors.ts";
import {
  MOST_APPOINTMENTS,
  MOST_OF_VISITOR,
  makeAppointment,
} from "../../../engine/scheduler/appointments.ts";
import type { Appointment } from "../../../engine/scheduler/appointments.ts";
import { checkRoom } from "../../../engine/scheduler/entry.ts";
import { predictedTtftMs, ttftOfReturnMs } from "../../../engine/scheduler/forecast.ts";
import { DEFAULT_FAIRNESS } from "../../../engine/scheduler/owners.ts";
import { checkState } from "../../../engine/scheduler/invariants.ts";
import { cancel } from "../../../engine/scheduler/transitions.ts";
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
  { visitor = id, ...request }: Omit<Partial<NewRequest>, "visitor"> & { visitor?: string } = {},
): number | undefined {
  try {
    addRequest(state, id, { maxTokens: 10, visitor: () => visitor, ...request }, nowMs);
    return undefined;
  } catch (error) {
    checkState(state);
    if (!(error instanceof EngineError)) throw error;
    return error.details?.["retryAfterMs"];
  }
}

function placesIn({ appointments }: SchedulerState, tenant = "a"): readonly Appointment[] {
  return appointments.owners.get(tenant)?.list ?? [];
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

describe("a newcomer beside those who are away", () => {
  const newcomer = { tenant: "a", priority: 1, visitor: () => "new", computedTokens: 4, maxNew: 1 };
  /** Four slots that are held for a second each, and places that are due after so many ms. */
  const state = (running: number, dueMs: readonly number[]): SchedulerState => {
    const some = schedulerState({ slots: 4 });
    for (let i = 0; i < running; i++) addRequest(some, `runs ${i}`, { maxTokens: 100, accepted: true });
    if (running > 0) runStep(some, 0);
    some.residenceMs = 1000;
    for (const [i, inMs] of dueMs.entries()) {
      const who = { tenant: "a", priority: 1, visitor: () => `away ${i}` };
      makeAppointment(some, who, { nowMs: 0, inMs, retryAfterMs: inMs, ofOwner: false });
    }
    return some;
  };

  test("takes no free slot from one who would come in vain", () => {
    expect(predictedTtftMs(state(3, [500]), newcomer, 0)).toBeGreaterThan(1000);
    expect(predictedTtftMs(state(3, []), newcomer, 0)).toBeLessThan(200);
  });

  test("takes one that comes free again in time", () => {
    expect(predictedTtftMs(state(3, [1500]), newcomer, 0)).toBeLessThan(200);
    expect(predictedTtftMs(state(2, [500]), newcomer, 0)).toBeLessThan(200);
  });

  test("takes one that those far behind would miss, but is not asked back for it", () => {
    expect(predictedTtftMs(state(0, [500, 500, 500, 500]), newcomer, 0)).toBeLessThan(200);
    expect(ttftOfReturnMs(state(0, [500, 500, 500, 500]), newcomer, 0)).toBeGreaterThan(1000);
    expect(ttftOfReturnMs(state(0, [500, 500, 500]), newcomer, 0)).toBeLessThan(200);
    // Refused for a time that nothing could keep.
    const toldMs = (dueMs: readonly number[]): number | undefined =>
      ask(state(0, dueMs), "new", 0, { firstTokenWithinMs: 10 });
    expect(toldMs([500, 500, 500, 500])).toBeGreaterThan(1000);
    expect(toldMs([])).toBeLessThan(200);
  });
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

test("clients that cannot be told apart have a place each", () => {
  const state = full();
  const [first = 0, second = 0] = [1, 2].map((i) => ask(state, String(i), 0, { visitor: "same" }));
  expect(second).toBeGreaterThan(first);
  // There is room for one, and one is due, twice.
  for (const [gone, atMs] of [
    ["runs", first],
    ["waits", second],
  ] as const) {
    finish(state, gone, atMs);
    expect(ask(state, `late, ${gone}`, atMs, { visitor: "late" })).toBeGreaterThan(0);
    expect(ask(state, `in for ${gone}`, atMs, { visitor: "same" })).toBeUndefined();
  }
});

test("who does not wait until it is told to has no more places than that", () => {
  const state = full();
  for (let i = 0; i < 2 * MOST_OF_VISITOR; i++) ask(state, String(i), 0, { visitor: "same" });
  expect(placesIn(state)).toHaveLength(MOST_OF_VISITOR);
  expect(state.appointments.owners.get("a")?.keptShare).toBe(1);
});

test("who is let in before its time has no place any more", () => {
  const state = full();
  const toldMs = ask(state, "1", 0, { visitor: "early" }) ?? 0;
  finish(state, "runs", 0);
  finish(state, "waits", 0);
  expect(ask(state, "2", toldMs / 10, { visitor: "early" })).toBeUndefined();
  expect(ask(state, "3", toldMs, { visitor: "late" })).toBeUndefined();
});

describe("a request of several choices", () => {
  const choices = (state: SchedulerState, attempt: number, nowMs: number): (number | undefined)[] =>
    ["x", "y", "z"].map((choice) => ask(state, `${choice}${attempt}`, nowMs, { visitor: "several" }));

  test("goes by one place with all of them", () => {
    const state = full({ maxQueued: 3 });
    const toldMs = Math.max(
      ...[1, 2].map((i) => (addRequest(state, `more${i}`, { accepted: true }), 0)),
      ask(state, "first", 0, { visitor: "several" }) ?? 0,
    );
    const latestMs = toldMs + (ask(state, "other", 0, { visitor: "other" }) ?? 0);
    for (const id of ["runs", "waits"]) finish(state, id, 0);
    for (const id of ["more1", "more2"]) cancel(state, id, 0);
    runStep(state, 0);
    expect(choices(state, 1, latestMs)).toEqual([undefined, undefined, undefined]);
  });

  test("keeps its place when the last one of them is refused", () => {
    const state = full({ maxQueued: 2 });
    addRequest(state, "more", { maxTokens: 10, accepted: true });
    const toldMs = ask(state, "first", 0, { visitor: "several" }) ?? 0;
    const [mine] = placesIn(state);
    ask(state, "other", 0, { visitor: "other" });
    finish(state, "runs", 0);
    cancel(state, "more", 0);
    // Room for one.
    const answers = choices(state, 1, toldMs);
    expect(answers.filter((told) => told === undefined).length).toBeGreaterThan(0);
    expect(answers.at(-1)).toBeGreaterThan(0);
    expect(placesIn(state).map(({ order, cameMs }) => [order, cameMs])).toContainEqual([
      mine?.order,
      undefined,
    ]);
  });

  test("has all of its places back when one of them is refused", () => {
    const state = full({ maxQueued: 2 });
    addRequest(state, "more", { maxTokens: 10, accepted: true });
    const [, laterMs = 0] = [1, 2].map((i) => ask(state, `first${i}`, 0, { visitor: "several" }));
    const orders = placesIn(state).map(({ order }) => order);
    for (const id of ["runs", "waits"]) finish(state, id, 0);
    // Room for two.
    expect(choices(state, 1, laterMs).map((told) => told === undefined)).toEqual([true, true, false]);
    expect(placesIn(state).map(({ order, cameMs }) => [order, cameMs])).toEqual(
      expect.arrayContaining(orders.map((order) => [order, undefined])),
    );
  });
});

test("clients of an owner that do not come back take nothing from those of another one", () => {
  const state = full();
  for (let i = 0; i < 40; i++) ask(state, `no show ${i}`, 0, { tenant: "careless" });
  const laterMs = 1_000_000;
  const toldMs = laterMs + (ask(state, "1", laterMs, { visitor: "early" }) ?? 0);
  expect(state.appointments.owners.get("careless")?.keptShare).toBeLessThan(0.2);
  finish(state, "runs", laterMs);
  expect(ask(state, "2", toldMs, { visitor: "late" })).toBeGreaterThan(0);
  expect(ask(state, "3", toldMs, { visitor: "early" })).toBeUndefined();
});

test("who is refused for what its owner has is in the way of no other owner", () => {
  const fairness = {
    ...DEFAULT_FAIRNESS,
    owners: new Map([["capped", { ...DEFAULT_FAIRNESS.others, maxQueued: 0, maxRunning: 1 }]]),
  };
  const state = full({ fairness, maxQueued: 3 });
  addRequest(state, "own", { tenant: "capped", accepted: true });
  const toldMs = ask(state, "1", 0, { tenant: "capped" }) ?? 0;
  expect(placesIn(state, "capped")).toHaveLength(1);
  addRequest(state, "more", { accepted: true });
  finish(state, "runs", 0);
  expect(ask(state, "2", toldMs, { visitor: "other" })).toBeUndefined();
});

test("who comes back within 59 seconds alone is told no more, and keeps its place when that is before its turn", () => {
  const state = full();
  state.residenceMs = 100_000;
  state.slots.forEach((slot) => expect(slot.owner).toBe("runs"));
  Object.assign(state.requests.get("runs") ?? {}, { maxNew: 1_000_000 });
  state.tokenMs = 1000;
  const early = { visitor: "early", returnsWithinMs: 59_000 };
  expect(ask(state, "1", 0, early)).toBe(59_000);
  const [first] = placesIn(state);
  expect(first?.dueMs).toBeGreaterThan(59_000);
  ask(state, "2", 1000, { visitor: "second" });
  expect(ask(state, "3", 59_000, early)).toBeLessThan(59_000);
  expect(placesIn(state).find(({ visitor }) => visitor === "early")?.order).toBe(first?.order);
  // Who says nothing of itself is told the truth.
  expect(ask(state, "4", 0, { visitor: "patient" })).toBeGreaterThan(100_000);
});

test("a request that goes on takes nobody's place", () => {
  const state = full();
  ask(state, "1", 0, { visitor: "same" });
  ask(state, "2", 0, { visitor: "same", accepted: true });
  expect(placesIn(state)).toMatchObject([{ cameMs: undefined }]);
});

test("who a client is is worked out only when somebody has been refused", () => {
  const state = schedulerState();
  const visitor = (): string => {
    throw new Error("It was.");
  };
  expect(() => addRequest(state, "1", { visitor })).not.toThrow();
  expect(() => addRequest(full(), "2", { visitor, accepted: true })).not.toThrow();
});

test("another owner has places of its own", () => {
  const state = full();
  expect(ask(state, "1", 0, { visitor: "v", tenant: "a" })).toBe(
    ask(state, "2", 0, { visitor: "v", tenant: "b" }),
  );
  expect([...state.appointments.owners.keys()]).toEqual(["a", "b"]);
});

test("whoever does not come is waited for for a while, forgotten later, and counts less the next time", () => {
  const state = full();
  const toldMs = ask(state, "1", 0, { visitor: "early" }) ?? 0;
  finish(state, "runs", 0);
  const newcomer = { tenant: "a", priority: 1, visitor: () => "late" };
  // Whoever knows the time in whole seconds alone comes then.
  const lateMs = Math.ceil(toldMs / 1000) * 1000 + 300;
  expect(lateMs).toBeGreaterThan(toldMs + 300);
  expect(() => checkRoom(state, newcomer, lateMs)).toThrow(EngineError);
  expect(() => checkRoom(state, newcomer, lateMs + 1)).not.toThrow();
  checkRoom(state, newcomer, toldMs + 59_000 + 5600);
  expect(placesIn(state)).toEqual([]);
  expect(state.appointments.owners.get("a")?.keptShare).toBeLessThan(1);
  for (let i = 0; i < 40; i++) ask(state, `no show ${i}`, 200_000, { firstTokenWithinMs: 1 });
  expect(placesIn(state).length).toBeGreaterThan(1);
  checkRoom(state, newcomer, 2_000_000);
  expect(placesIn(state)).toEqual([]);
  expect(state.appointments.owners.get("a")?.keptShare).toBeLessThan(0.2);
});

test("an owner that was refused a hundred times keeps no other one from its turn", () => {
  const state = full({ fairness: { ...DEFAULT_FAIRNESS, ttftLimitMs: 1 }, maxQueued: 1000 });
  const greedy = Array.from({ length: 100 }, (_, i) => ask(state, `greedy${i}`, 0, { visitor: `${i}` }) ?? 0);
  const small = ask(state, "small", 0, { tenant: "small", visitor: "small" }) ?? 0;
  expect(small).toBeGreaterThan(0);
  expect(small).toBeLessThanOrEqual(greedy[2] ?? 0);
  expect(greedy.at(-1)).toBeGreaterThan(10 * small);
});

test("a prompt that takes longer than anybody may wait is let in where nobody is in its way", () => {
  const config = { slots: 2, fairness: { ...DEFAULT_FAIRNESS, ttftLimitMs: 1 } };
  const long = Uint32Array.from({ length: 100 }, (_, i) => i);
  const state = schedulerState(config);
  expect(ask(state, "alone", 0, { prompt: long, firstTokenWithinMs: 1 })).toBeGreaterThan(0);
  expect(ask(schedulerState(config), "alone", 0, { prompt: long })).toBeUndefined();
  // Nor has it anything to wait for beside a stream; behind two of them it has.
  for (const id of ["one", "two"]) addRequest(state, id, { maxTokens: 10, accepted: true });
  runStep(state, 0);
  expect(ask(state, "behind", 0, { prompt: long })).toBeGreaterThan(0);
  finish(state, "one", 0);
  addRequest(state, "stream", { maxTokens: 10, accepted: true });
  runStep(state, 0);
  expect(ask(state, "beside", 0, { prompt: long })).toBeUndefined();
});

test("a higher class does not wait for the places of lower ones", () => {
  const state = full({ fairness: { ...DEFAULT_FAIRNESS, ttftLimitMs: 1 }, maxQueued: 1000 });
  const [first = 0] = Array.from({ length: 20 }, (_, i) => ask(state, `n${i}`, 0, { visitor: `${i}` }));
  expect(ask(state, "high", 0, { priority: 0, visitor: "high" })).toBeLessThanOrEqual(first);
});

test("places are bounded, who has none is told a time as well, and the owner with most makes room", () => {
  const state = full();
  for (let i = 0; i < MOST_APPOINTMENTS; i++) checkedRefusal(state, `v${i}`);
  expect(placesIn(state)).toHaveLength(MOST_APPOINTMENTS);
  expect(checkedRefusal(state, "one more")).toBeGreaterThan(0);
  expect(placesIn(state)).toHaveLength(MOST_APPOINTMENTS);
  expect(checkedRefusal(state, "one", "b")).toBeGreaterThan(0);
  expect([placesIn(state).length, placesIn(state, "b").length]).toEqual([MOST_APPOINTMENTS - 1, 1]);
  expect(placesIn(state).some(({ visitor }) => visitor === "v0")).toBe(true);
  checkState(state);
});

function checkedRefusal(state: SchedulerState, visitor: string, tenant = "a"): number {
  try {
    checkRoom(state, { tenant, priority: 1, visitor: () => visitor }, 0);
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
