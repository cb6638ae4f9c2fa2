/** Who of many goes first, and who gives way: owners, classes, pauses, evictions, in literals and for random traffic. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkState } from "../../../engine/scheduler/invariants.ts";
import { noteOffloaded } from "../../../engine/scheduler/offload.ts";
import { planStep } from "../../../engine/scheduler/plan-step.ts";
import { DEFAULT_FAIRNESS } from "../../../engine/scheduler/owners.ts";
import { setPaused, setPriority } from "../../../engine/scheduler/request-control.ts";
import { cancel, releaseCancelled } from "../../../engine/scheduler/transitions.ts";
import type { FairnessConfig, OwnerPolicy } from "../../../engine/sharing.ts";
import type { SchedulerState } from "../../../engine/scheduler/types.ts";
import { addRequest, planMs, runStep, schedulerState } from "../../support/scheduler.ts";

function fairness(
  owners: Readonly<Record<string, Partial<OwnerPolicy>>>,
  more: Partial<FairnessConfig> = {},
): FairnessConfig {
  const { others } = DEFAULT_FAIRNESS;
  const policies = Object.entries(owners).map(([name, policy]) => [name, { ...others, ...policy }] as const);
  return { ...DEFAULT_FAIRNESS, owners: new Map(policies), ...more };
}

/** Ids in the order in which they get slots, one request at a time. */
function admissions(state: SchedulerState, nowMs = 0): string[] {
  const order: string[] = [];
  while (state.requests.size > 0) order.push(...runStep(state, nowMs).assignments.map((a) => a.request));
  return order;
}

const admitted = (state: SchedulerState, nowMs: number): string[] =>
  runStep(state, nowMs).assignments.map((a) => a.request);

const one = { slots: 1, fairness: fairness({}, { evict: false }) };

describe("a prompt of an owner who has no stream", () => {
  const kinds = (state: SchedulerState): string =>
    runStep(state, 0)
      .calls.map(({ kind, entries: [first] }) => `${kind} ${first?.request}`)
      .join(", ");
  const tokens = (length: number, first: number): Uint32Array =>
    Uint32Array.from({ length }, (_, i) => first + i);
  // A step of one stream and a cell takes 41 ms, with a second cell 71.
  const config = { slots: 3, prefillChunk: 10, itlTargetMs: 50 };
  const streaming = (more: Parameters<typeof schedulerState>[0] = {}): SchedulerState => {
    const state = schedulerState({ ...config, ...more });
    addRequest(state, "stream", { tenant: "others", prompt: tokens(1, 0) });
    expect([kinds(state), kinds(state)]).toEqual(["decode stream", "decode stream"]);
    return state;
  };

  test("begins right behind a decode, and the streams of others rest for it once", () => {
    const state = streaming();
    addRequest(state, "new", { tenant: "new", prompt: tokens(25, 100) });
    expect([kinds(state), kinds(state), kinds(state), kinds(state)]).toEqual([
      "prefill new",
      "decode stream, prefill new",
      "decode stream, prefill new",
      "decode stream",
    ]);
  });

  test("does not go before the streams of its own owner, nor before somebody's first token", () => {
    const state = streaming();
    addRequest(state, "own", { tenant: "others", prompt: tokens(12, 100) });
    expect(kinds(state)).toBe("decode stream, prefill own");
    const both = streaming();
    addRequest(both, "first", { tenant: "third", prompt: tokens(1, 200) });
    addRequest(both, "new", { tenant: "new", prompt: tokens(25, 100) });
    expect(kinds(both)).toBe("decode stream, prefill new");
  });

  test("does not where the step would be longer than the inter-token target", () => {
    const state = streaming({ itlTargetMs: 40 });
    addRequest(state, "new", { tenant: "new", prompt: tokens(25, 100) });
    expect([kinds(state), kinds(state)]).toEqual(["decode stream", "decode stream, prefill new"]);
  });
});

describe("order", () => {
  test("of one owner and class is that of arrival", () => {
    const state = schedulerState(one);
    for (const id of ["1", "2", "3", "4"]) addRequest(state, id, { maxTokens: 2 });
    cancel(state, "2", 0);
    addRequest(state, "5", { maxTokens: 2 });
    expect(admissions(state)).toEqual(["1", "3", "4", "5"]);
  });

  test("between owners is by the service they have had, so that few requests go ahead of many", () => {
    const state = schedulerState(one);
    for (let i = 0; i < 6; i++) addRequest(state, `many${i}`, { tenant: "many", maxTokens: 3 });
    runStep(state, 0);
    addRequest(state, "few0", { tenant: "few", maxTokens: 3 });
    addRequest(state, "few1", { tenant: "few", maxTokens: 3 });
    expect(admissions(state)).toEqual(["few0", "many1", "few1", "many2", "many3", "many4", "many5"]);
  });

  test("of owners with weights gives the heavier one more turns", () => {
    const state = schedulerState({ ...one, fairness: fairness({ big: { weight: 3 } }, { evict: false }) });
    for (let i = 0; i < 6; i++) {
      addRequest(state, `big${i}`, { tenant: "big", maxTokens: 1 });
      addRequest(state, `small${i}`, { tenant: "small", maxTokens: 1 });
    }
    const turns = admissions(state).slice(0, 8);
    expect(turns.filter((id) => id.startsWith("big"))).toHaveLength(6);
  });

  test("of classes is strict, whoever asks, and within a class by service", () => {
    const state = schedulerState(one);
    addRequest(state, "low", { priority: 2, maxTokens: 1 });
    addRequest(state, "background", { priority: 3, maxTokens: 1 });
    addRequest(state, "normal", { tenant: "b", maxTokens: 1 });
    addRequest(state, "high", { priority: 0, maxTokens: 1 });
    expect(admissions(state)).toEqual(["high", "normal", "low", "background"]);
  });

  test("row 80: of classes gives way to age: after a quantum a class competes with the one above it", () => {
    const state = schedulerState({ ...one, fairness: fairness({}, { evict: false, agingQuantumMs: 1000 }) });
    addRequest(state, "low", { priority: 2, maxTokens: 1 }, 0);
    addRequest(state, "normal", { tenant: "b", maxTokens: 1 }, 999);
    expect(planStep(state, 999).assignments[0]?.request).toBe("normal");
    expect(planStep(state, 1000).assignments[0]?.request).toBe("low");
  });

  test.each([
    ["is paused and resumed again and again", 1],
    ["has come back with many others", 10],
  ])("of classes gives way to the age of who waits behind one that %s", (_, others) => {
    const state = schedulerState({ ...one, fairness: fairness({}, { evict: false, agingQuantumMs: 1000 }) });
    addRequest(state, "runs", { tenant: "c", priority: 0, maxTokens: 100 });
    runStep(state, 0);
    const back = Array.from({ length: others }, (_unused, i) => `back${i}`);
    for (const id of [...back, "behind"]) addRequest(state, id, { priority: 1 }, 0);
    for (const nowMs of [300, 600, 900])
      for (const id of back) for (const paused of [true, false]) setPaused(state, id, paused, nowMs);
    addRequest(state, "high", { tenant: "b", priority: 0 }, 950);
    checkState(state);
    cancel(state, "runs", 950);
    releaseCancelled(state, 950);
    expect(planStep(state, 999).assignments[0]?.request).toBe("high");
    // The class has its turn, and in it who has come first.
    expect(planStep(state, 1000).assignments[0]?.request).toBe("back0");
  });

  test("of classes knows how long those have waited who are left behind what a plan has given away", () => {
    const state = schedulerState({
      slots: 3,
      prefixFirst: false,
      fairness: fairness({}, { evict: false, agingQuantumMs: 1000 }),
    });
    addRequest(state, "first", { priority: 1 }, 0);
    for (const id of ["back", "behind"]) addRequest(state, id, { priority: 1 }, 0);
    for (const paused of [true, false]) setPaused(state, "back", paused, 900);
    for (const id of ["high0", "high1"]) addRequest(state, id, { priority: 0 }, 950);
    expect(planStep(state, 1000).assignments.map(({ request }) => request)).toEqual([
      "first",
      "back",
      "behind",
    ]);
  });

  test("of prompts gives way to age, too: who has a slot is computed though higher classes keep coming", () => {
    const state = schedulerState({
      slots: 3,
      fairness: fairness({}, { evict: false, agingQuantumMs: 1000 }),
    });
    const tokens = (length: number, first: number): Uint32Array =>
      Uint32Array.from({ length }, (_, i) => first + i);
    addRequest(state, "old", { tenant: "b", priority: 3, prompt: tokens(30, 0), maxTokens: 1 });
    let nowMs = 0;
    for (let i = 1; state.requests.has("old") && nowMs < 10_000; i++) {
      while (state.requests.size < 4)
        addRequest(
          state,
          `high${i}.${state.requests.size}`,
          { priority: 0, prompt: tokens(50, 100 * state.nextArrival), maxTokens: 1 },
          nowMs,
        );
      nowMs += planMs(runStep(state, nowMs));
    }
    // Three quanta, and what has been begun by then.
    expect(nowMs).toBeGreaterThan(3000);
    expect(nowMs).toBeLessThan(4000);
  });

  test("knows no age of those who had a slot meanwhile, or were paused", () => {
    const state = schedulerState({ slots: 2, fairness: fairness({}, { agingQuantumMs: 1000 }) });
    for (const id of ["ran", "paused"]) addRequest(state, id, { tenant: id, priority: 3 });
    setPaused(state, "paused", true, 0);
    addRequest(state, "fills", { priority: 0 });
    for (let i = 0; i < 5; i++) runStep(state, 0);
    addRequest(state, "high", { priority: 0 }, 5000);
    expect(runStep(state, 5000).evictions).toMatchObject([{ request: "ran" }]);
    setPaused(state, "paused", false, 5000);
    addRequest(state, "next", { priority: 0 }, 5999);
    cancel(state, "fills", 5999);
    expect(admitted(state, 5999)).toEqual(["next"]);
  });

  test("of prompts knows no age within a class: of an owner that comes later one is computed before those that waited", () => {
    const state = schedulerState({ slots: 3, fairness: fairness({}, { evict: false, agingQuantumMs: 10 }) });
    const tokens = (length: number, first: number): Uint32Array =>
      Uint32Array.from({ length }, (_, i) => first + i);
    for (let i = 0; i < 2; i++)
      addRequest(state, `many${i}`, { tenant: "many", prompt: tokens(50, 100 * i) }, 0);
    runStep(state, 0);
    addRequest(state, "few", { tenant: "few", prompt: tokens(30, 1000) }, 100_000);
    expect(runStep(state, 100_000).calls[0]?.entries[0]?.request).toBe("few");
  });

  test("within a class knows no age: a long line does not get ahead of an owner that comes later", () => {
    const state = schedulerState({ ...one, fairness: fairness({}, { evict: false, agingQuantumMs: 10 }) });
    for (let i = 0; i < 4; i++) addRequest(state, `many${i}`, { tenant: "many", maxTokens: 3 }, 0);
    runStep(state, 0);
    addRequest(state, "few", { tenant: "few", maxTokens: 3 }, 100_000);
    expect(admissions(state, 100_000)[0]).toBe("few");
  });

  test("changes with the class of a request, which keeps its place by arrival", () => {
    const state = schedulerState(one);
    for (const id of ["1", "2", "3"]) addRequest(state, id, { maxTokens: 1 });
    for (const id of ["4", "5"]) addRequest(state, id, { priority: 0, maxTokens: 1 });
    expect([setPriority(state, "3", 0), setPriority(state, "nobody", 0)]).toEqual([true, false]);
    expect(admissions(state)).toEqual(["3", "4", "5", "1", "2"]);
  });

  test("nobody saves up service while idle", () => {
    const state = schedulerState(one);
    addRequest(state, "early", { tenant: "rare", maxTokens: 1 });
    for (let i = 0; i < 8; i++) addRequest(state, `busy${i}`, { tenant: "busy", maxTokens: 20 });
    for (let i = 0; i < 100; i++) runStep(state, 0);
    for (let i = 0; i < 4; i++) addRequest(state, `rare${i}`, { tenant: "rare", maxTokens: 20 });
    const order = admissions(state).map((id) => id.slice(0, -1));
    expect(order.slice(0, 4)).toEqual(["rare", "busy", "rare", "busy"]);
  });

  test("an owner at its cap waits, and nobody waits for it", () => {
    const state = schedulerState({ fairness: fairness({ capped: { maxRunning: 1 } }) });
    for (let i = 0; i < 3; i++) addRequest(state, `capped${i}`, { tenant: "capped" });
    addRequest(state, "free", { tenant: "free" });
    expect(admitted(state, 0)).toEqual(["capped0", "free"]);
  });

  test("prompts of different owners are computed in turn", () => {
    const state = schedulerState();
    for (let i = 0; i < 3; i++) {
      const prompt = Uint32Array.from({ length: 11 }, (_, k) => 100 * i + k);
      addRequest(state, `many${i}`, { tenant: "many", prompt });
    }
    addRequest(state, "few", { tenant: "few", prompt: Uint32Array.from({ length: 11 }, (_, k) => 900 + k) });
    const prefilled: (string | undefined)[] = [];
    for (let i = 0; i < 8; i++)
      for (const call of runStep(state, 0).calls)
        if (call.kind === "prefill") prefilled.push(call.entries[0]?.request);
    expect(prefilled).toEqual(["many0", "few", "many1", "many2"]);
  });
});

describe("prompts", () => {
  const words = (first: number, tokens: number): Uint32Array =>
    Uint32Array.from({ length: tokens }, (_, i) => first + i);
  /** Whose cells are computed, step by step. */
  const cells = (state: SchedulerState, steps: number): string[] =>
    Array.from({ length: steps }, () => runStep(state, 0).calls)
      .flat()
      .flatMap(({ kind, entries }) => (kind === "prefill" ? [entries[0]?.request ?? ""] : []));

  test("of an owner that comes to a busy server do not wait for the long ones that others have begun", () => {
    const state = schedulerState({ slots: 4 });
    for (const [i, id] of ["many0", "many1", "many2"].entries())
      addRequest(state, id, { tenant: "many", prompt: words(1000 * i, 51) });
    expect(cells(state, 2)).toEqual(["many0", "many0"]);
    addRequest(state, "few", { tenant: "few", prompt: words(9000, 21) });
    expect(cells(state, 3).slice(0, 3)).toEqual(["few", "few", "many0"]);
  });

  /** From the arrival of each to its first token, in ms, by id. */
  const firstTokens = (
    config: Parameters<typeof schedulerState>[0],
    arrivals: readonly { id: string; tenant: string; tokens: number; atMs: number; maxTokens?: number }[],
  ): Record<string, number> => {
    const state = schedulerState({ slots: 8, contextTokens: 2100, itlTargetMs: 60, ...config });
    const coming = [...arrivals];
    const came: Record<string, number> = {};
    const first: Record<string, number> = {};
    let nowMs = 0;
    while (Object.keys(first).length < arrivals.length) {
      for (let next = coming[0]; next !== undefined && next.atMs <= nowMs; next = coming[0]) {
        coming.shift();
        const prompt = words(10_000 * arrivals.indexOf(next), next.tokens);
        came[next.id] = nowMs;
        addRequest(state, next.id, { tenant: next.tenant, prompt, maxTokens: next.maxTokens ?? 5 }, nowMs);
      }
      const waiting = [...state.requests.values()].filter(({ output }) => output.length === 0);
      nowMs += planMs(runStep(state, nowMs));
      for (const { id, output } of waiting) if (output.length > 0) first[id] = nowMs - (came[id] ?? 0);
    }
    return first;
  };
  const long = { id: "long", tenant: "a", tokens: 2000, atMs: 0 };
  const short = { id: "short", tenant: "b", tokens: 30, atMs: 100 };

  test("that are short do not wait for another owner's long one, with streams beside them or without", () => {
    expect(firstTokens({}, [long, short])).toEqual({ short: 129, long: 6152 });
    const stream = { id: "stream", tenant: "c", tokens: 5, atMs: 0, maxTokens: 1000 };
    expect(firstTokens({}, [stream, long, short])).toEqual({ stream: 59, short: 164, long: 8386 });
  });

  test("that are short do not wait where their owner has had some more than who asks for a long one", () => {
    const before = { id: "before", tenant: "b", tokens: 100, atMs: 0, maxTokens: 1 };
    const times = firstTokens({}, [before, { ...long, atMs: 1 }, { ...short, atMs: 400 }]);
    expect(times).toEqual({ before: 339, short: 129, long: 6431 });
  });

  test("of one owner that are far shorter go past a long one, four times, and it goes by arrival where that is asked for", () => {
    const timesOf = (prefillOrder: "arrival" | "shortest"): Record<string, number> => {
      const shorts = Array.from({ length: 6 }, (_, i) => ({ ...short, id: `short${i}`, atMs: 100 + i }));
      const same = [long, ...shorts].map((request) => ({ ...request, tenant: "a" }));
      return firstTokens({ prefillOrder }, same);
    };
    expect(timesOf("arrival")).toEqual({
      long: 6039,
      short0: 6041,
      short1: 6164,
      short2: 6287,
      short3: 6410,
      short4: 6533,
      short5: 6626,
    });
    expect(timesOf("shortest")).toEqual({
      short0: 129,
      short1: 251,
      short2: 374,
      short3: 497,
      long: 6551,
      short4: 6557,
      short5: 6654,
    });
  });

  test("of one owner and size are computed in the order in which they came, and with a deadline none is passed", () => {
    const [first, second] = [300, 280].map((tokens, i) => ({ ...long, id: `${i}`, tokens, atMs: i }));
    expect(Object.keys(firstTokens({}, [first ?? long, second ?? long]))).toEqual(["0", "1"]);
    const state = schedulerState({ contextTokens: 600, itlTargetMs: 60 });
    addRequest(state, "timed", { prompt: words(0, 500), firstTokenWithinMs: 1e6 });
    runStep(state, 0);
    addRequest(state, "short", { prompt: words(1000, 30) });
    expect(cells(state, 2)).toEqual(["timed", "timed"]);
  });

  test("of an owner without a stream wait for none that an owner with streams has begun, though it is no longer", () => {
    const many = Array.from({ length: 7 }, (_, i) => ({
      id: `many${i}`,
      tenant: "many",
      tokens: 201,
      atMs: i < 6 ? 0 : 5000,
      maxTokens: 200,
    }));
    const few = { id: "few", tenant: "few", tokens: 201, atMs: 5100 };
    const { few: fewMs, many6 } = firstTokens({}, [...many, few]);
    expect([fewMs, many6]).toEqual([968, 1867]);
  });

  test("that are long are computed one after the other, not in pieces in turn", () => {
    const longs = ["a", "b", "c"].map((tenant) => ({ ...long, id: tenant, tenant, tokens: 301 }));
    expect(firstTokens({}, longs)).toEqual({ a: 941, b: 1896, c: 2821 });
  });

  test("that are long get their turn though other owners' short ones keep coming", () => {
    const shorts = Array.from({ length: 400 }, (_, i) => ({ ...short, id: `short${i}`, atMs: 100 * i }));
    expect(firstTokens({}, [{ ...long, tokens: 501 }, ...shorts])["long"]).toBe(3240);
  });

  test("of an owner with few slots and nothing but prompts leave the others their turns", () => {
    const state = schedulerState({ slots: 4 });
    for (let i = 0; i < 3; i++)
      addRequest(state, `many${i}`, { tenant: "many", prompt: words(1000 * i, 51) });
    const computed = Array.from({ length: 40 }, (_, i) => {
      if (![...state.requests.values()].some(({ tenant }) => tenant === "few"))
        addRequest(state, `few${i}`, { tenant: "few", prompt: words(5000 + 100 * i, 21), maxTokens: 1 });
      return cells(state, 1).map((id) => id.slice(0, 3));
    }).flat();
    expect(computed.filter((id) => id === "man").length).toBeGreaterThanOrEqual(15);
  });
});

describe("pause", () => {
  test("leaves a request out of the steps and keeps its slot while nobody needs it", () => {
    const state = schedulerState({ slots: 2 });
    addRequest(state, "a");
    addRequest(state, "b");
    for (let i = 0; i < 5; i++) runStep(state, 0);
    const before = state.requests.get("a")?.output.length;
    expect(setPaused(state, "a", true, 0)).toBe(true);
    for (let i = 0; i < 5; i++) runStep(state, 0);
    expect([state.requests.get("a")?.output.length, state.slots[0]?.owner]).toEqual([before, "a"]);
    setPaused(state, "a", false, 0);
    runStep(state, 0);
    expect(state.requests.get("a")?.output.length).toBe((before ?? 0) + 1);
  });

  test("gives the slot to whoever waits, and the request goes on behind its output", () => {
    const state = schedulerState({ slots: 1 });
    addRequest(state, "a", { maxTokens: 10 });
    for (let i = 0; i < 4; i++) runStep(state, 0);
    const output = [...(state.requests.get("a")?.output ?? [])];
    setPaused(state, "a", true, 0);
    addRequest(state, "b", { maxTokens: 2 });
    expect(runStep(state, 0)).toMatchObject({
      evictions: [{ request: "a", slot: 0 }],
      assignments: [{ request: "b", slot: 0 }],
    });
    while (state.requests.has("b")) runStep(state, 0);
    expect(planStep(state, 0).calls).toEqual([]);
    expect(state.requests.get("a")?.output).toEqual(output);
    setPaused(state, "a", false, 0);
    let steps = 0;
    while (state.requests.has("a")) steps += runStep(state, 0).calls[0]?.entries[0]?.sample === true ? 1 : 0;
    expect(output.length + steps).toBe(10);
  });

  test("of a waiting request keeps its place", () => {
    const state = schedulerState(one);
    for (const id of ["1", "2", "3"]) addRequest(state, id, { maxTokens: 1 });
    setPaused(state, "1", true, 0);
    expect(admitted(state, 0)).toEqual(["2"]);
    setPaused(state, "1", false, 0);
    expect(admissions(state)).toEqual(["1", "3"]);
  });

  test.each([1, 3])("of a key's only request makes room for its next one, of %i slots", (slots) => {
    const state = schedulerState({ slots, fairness: fairness({ a: { maxRunning: 1 } }) });
    addRequest(state, "paused", { maxTokens: 9 });
    for (let i = 0; i < 4; i++) runStep(state, 0);
    setPaused(state, "paused", true, 0);
    addRequest(state, "next", { maxTokens: 2 });
    expect(runStep(state, 0)).toMatchObject({
      evictions: [{ kind: "paused", request: "paused", slot: 0, waiter: "next" }],
      assignments: [{ request: "next" }],
    });
    setPaused(state, "paused", false, 0);
    expect(admissions(state)).toEqual(["paused"]);
  });

  test("of several of a key's requests makes room for as many of its next ones in one step", () => {
    const state = schedulerState({ fairness: fairness({ a: { maxRunning: 2 } }) });
    for (const id of ["p0", "p1"]) addRequest(state, id, { maxTokens: 9 });
    for (let i = 0; i < 6; i++) runStep(state, 0);
    for (const id of ["p0", "p1"]) setPaused(state, id, true, 0);
    for (const id of ["n0", "n1", "n2"]) addRequest(state, id, { maxTokens: 9 });
    expect(runStep(state, 0).evictions).toMatchObject([
      { request: "p0", waiter: "n0" },
      { request: "p1", waiter: "n1" },
    ]);
  });

  test("can be asked for from the start, and nobody waits for a paused one's prefix", () => {
    const state = schedulerState({ slots: 2 });
    const prompt = Uint32Array.from({ length: 35 }, (_, i) => i);
    addRequest(state, "paused", { paused: true });
    addRequest(state, "a", { prompt });
    runStep(state, 0);
    setPaused(state, "a", true, 0);
    addRequest(state, "b", { prompt });
    expect(admitted(state, 0)).toEqual(["b"]);
  });
});

describe("eviction", () => {
  const full = (): SchedulerState => {
    const state = schedulerState();
    for (let i = 0; i < 4; i++) addRequest(state, `normal${i}`, {});
    for (let i = 0; i < 6; i++) runStep(state, 0);
    return state;
  };

  test("makes room for a higher class of an owner that has all it may, beside free slots too", () => {
    const state = schedulerState({ slots: 3, fairness: fairness({ a: { maxRunning: 1 } }) });
    addRequest(state, "low", { priority: 3 });
    for (let i = 0; i < 4; i++) runStep(state, 0);
    addRequest(state, "same", { priority: 3 });
    expect(runStep(state, 0).evictions).toEqual([]);
    addRequest(state, "high", { priority: 0, maxTokens: 3 });
    expect(runStep(state, 0)).toMatchObject({
      evictions: [{ request: "low", waiter: "high" }],
      assignments: [{ request: "high" }],
    });
    // What has the slot ends soon.
    addRequest(state, "higher", { priority: 0 });
    expect(runStep(state, 0).evictions).toEqual([]);
  });

  test("a strictly higher class takes the slot that is cheapest to compute again, of the latest among equals", () => {
    const state = full();
    addRequest(state, "equal", {});
    expect(runStep(state, 0).evictions).toEqual([]);
    const kept = [...(state.requests.get("normal3")?.output ?? [])];
    addRequest(state, "high", { priority: 0 });
    expect(runStep(state, 0)).toMatchObject({
      evictions: [{ kind: "class", request: "normal3", slot: 3 }],
      assignments: [{ request: "high", slot: 3 }],
    });
    expect(state.requests.get("normal3")).toMatchObject({ phase: "queued", output: kept, evictions: 1 });
    // It has come before the one that has waited beside it.
    cancel(state, "high", 0);
    expect(admitted(state, 0)).toEqual(["normal3"]);
  });

  test.each([
    [20, "away"],
    [60, "here"],
  ])(
    "a prompt of which the prefill worker has %i tokens is as dear as those: %s loses its slot",
    (computed, id) => {
      const state = schedulerState({ slots: 2, contextTokens: 400, spillBytes: 10_000, itlTargetMs: 50 });
      const prompt = (tokens: number): Uint32Array => Uint32Array.from({ length: tokens }, (_, i) => 9 * i);
      addRequest(state, "here", { priority: 3, prompt: prompt(30), maxTokens: 300 });
      for (let i = 0; state.requests.get("here")?.phase !== "decode"; i++) runStep(state, i);
      Object.assign(state.offload, { employed: true, ready: true });
      addRequest(state, "away", { priority: 3, prompt: prompt(100).reverse(), maxTokens: 250 });
      expect(runStep(state, 10).offload?.request).toBe("away");
      noteOffloaded(state, computed);
      addRequest(state, "high", { priority: 0 });
      expect(runStep(state, 11).evictions).toMatchObject([{ request: id, waiter: "high" }]);
    },
  );

  test("nobody loses a slot while one is free", () => {
    const state = schedulerState({ slots: 2 });
    addRequest(state, "low", { priority: 3, maxTokens: 150 });
    for (let i = 0; i < 3; i++) runStep(state, i);
    addRequest(state, "high", { priority: 0 });
    expect(runStep(state, 3)).toMatchObject({ evictions: [], assignments: [{ request: "high", slot: 1 }] });
    expect(state.requests.get("low")?.evictions).toBe(0);
  });

  test("an owner with less than its share takes slots of one with more, down to equal shares and no further", () => {
    const state = full();
    for (let i = 0; i < 4; i++) addRequest(state, `few${i}`, { tenant: "few" });
    expect(runStep(state, 0).evictions).toHaveLength(2);
    for (let i = 0; i < 50; i++) expect(runStep(state, i).evictions).toEqual([]);
    expect(state.slots.map(({ owner }) => owner?.slice(0, 3))).toEqual(["nor", "nor", "few", "few"]);
  });

  test.each([
    ["it is switched off", { fairness: fairness({}, { evict: false }) }, {}],
    ["a slot comes free sooner than the output could be computed again", {}, { maxTokens: 8 }],
  ])("nobody is evicted where %s", (_case, config, request) => {
    const state = schedulerState(config);
    for (let i = 0; i < 4; i++) addRequest(state, `n${i}`, request);
    while ((state.requests.get("n0")?.output.length ?? 0) < 7) runStep(state, 0);
    addRequest(state, "high", { priority: 0 });
    expect(runStep(state, 0).evictions).toEqual([]);
  });

  test("who is evicted for may get a slot that was kept for somebody else, who gets the other one then", () => {
    const state = schedulerState({ slots: 3 });
    const prompt = Uint32Array.from({ length: 90 }, (_, i) => 5000 + i);
    addRequest(state, "low", { priority: 3, maxTokens: 150 });
    runStep(state, 0);
    addRequest(state, "leader", { priority: 0, prompt });
    addRequest(state, "held", { priority: 0, prompt });
    runStep(state, 1);
    addRequest(state, "another", { priority: 0 });
    // The empty slot, so that what is computed in the other one is not lost.
    expect(runStep(state, 2)).toMatchObject({
      held: ["held"],
      evictions: [{ kind: "class", request: "low", slot: 0, waiter: "another" }],
      assignments: [{ request: "another", slot: 2 }],
    });
    expect(state.slots.map(({ owner }) => owner)).toEqual([undefined, "leader", "another"]);
    while (state.requests.get("held")?.slot === undefined) runStep(state, 3);
    expect(state.requests.get("held")?.slot).toBe(0);
  });

  test("who has lost a slot keeps the next one for a while, and who is nearly done keeps it", () => {
    const state = schedulerState({ slots: 1, contextTokens: 2000 });
    addRequest(state, "low", { priority: 3, maxTokens: 1000 }, 0);
    runStep(state, 0);
    for (const atMs of [0, 100, 20_000]) {
      addRequest(state, `high${atMs}`, { priority: 0, maxTokens: 1 }, atMs);
      const { evictions } = runStep(state, atMs);
      expect([atMs, evictions.length]).toEqual([atMs, atMs === 100 ? 0 : 1]);
      cancel(state, `high${atMs}`, atMs);
      for (let i = 0; i < 4; i++) runStep(state, atMs);
    }
    const nearly = schedulerState({ slots: 1 });
    addRequest(nearly, "low", { priority: 3, maxTokens: 10 });
    while ((nearly.requests.get("low")?.output.length ?? 0) < 9) runStep(nearly, 0);
    addRequest(nearly, "high", { priority: 0 });
    expect(runStep(nearly, 0).evictions).toEqual([]);
  });
});

type Command =
  | { readonly type: "submit"; readonly owner: number; readonly priority: number; readonly size: number }
  | { readonly type: "cancel" | "pause" | "resume"; readonly which: number }
  | { readonly type: "class"; readonly which: number; readonly priority: number }
  | { readonly type: "step"; readonly count: number };

const which = fc.nat(30);
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant("submit" as const),
      owner: fc.nat(3),
      priority: fc.nat(3),
      size: fc.integer({ min: 1, max: 40 }),
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
    weight: 4,
    arbitrary: fc.record({ type: fc.constant("step" as const), count: fc.integer({ min: 1, max: 6 }) }),
  },
);

describe("for any traffic", () => {
  test("every plan and state keeps the invariants, planning is pure, and everybody ends", () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 40 }), fc.boolean(), (commands, canRewind) => {
        const policies = fairness({ o1: { maxRunning: 1 }, o2: { weight: 3 } }, { agingQuantumMs: 500 });
        const state = schedulerState({ slots: 3, canRewind, fairness: policies });
        let nowMs = 0;
        let serial = 0;
        const at = (index: number): string => [...state.requests.keys()][index] ?? "";
        const step = (): void => {
          expect(planStep(state, nowMs)).toEqual(planStep(state, nowMs));
          nowMs += planMs(runStep(state, nowMs)) + 1;
        };
        for (const given of commands) {
          if (given.type === "submit") {
            const { priority, size } = given;
            const prompt = Uint32Array.from({ length: size }, (_, i) => i % 7);
            const request = { tenant: `o${given.owner}`, priority, prompt, maxTokens: size };
            addRequest(state, `r${serial++}`, request, nowMs);
          } else if (given.type === "cancel") cancel(state, at(given.which), nowMs);
          else if (given.type === "class") setPriority(state, at(given.which), given.priority);
          else if (given.type === "step") for (let i = 0; i < given.count; i++) step();
          else setPaused(state, at(given.which), given.type === "pause", nowMs);
        }
        for (const id of state.requests.keys()) setPaused(state, id, false, nowMs);
        for (let i = 0; i < 5000 && state.requests.size > 0; i++) step();
        expect([state.requests.size, state.queue.size]).toEqual([0, 0]);
        expect(state.slots.every(({ owner }) => owner === undefined)).toBe(true);
        const owners = [...state.owners.values()];
        expect(
          owners.every(({ running, waiting, heaps }) => running + waiting + heaps.flat().length === 0),
        ).toBe(true);
      }),
      { numRuns: 40 },
    );
  });

  test("owners that always have something waiting get the same service, whatever they ask for", () => {
    const size = fc.integer({ min: 1, max: 60 });
    fc.assert(
      fc.property(size, size, size, size, (promptA, outA, promptB, outB) => {
        const state = schedulerState();
        const work = { a: 0, b: 0 };
        let serial = 0;
        let nowMs = 0;
        const fill = (tenant: "a" | "b", prompt: number, maxTokens: number): void => {
          while ((state.owners.get(tenant)?.waiting ?? 0) < 5) {
            const tokens = Uint32Array.from({ length: prompt }, (_, i) => 100 * serial + i);
            addRequest(state, `${tenant}${serial++}`, { tenant, prompt: tokens, maxTokens }, nowMs);
          }
        };
        for (let i = 0; i < 200; i++) {
          fill("a", promptA, outA);
          fill("b", promptB, outB);
          const plan = runStep(state, nowMs);
          nowMs += planMs(plan);
          for (const { request } of plan.assignments) {
            const owner = request.startsWith("a") ? "a" : "b";
            work[owner] += owner === "a" ? promptA : promptB;
          }
          for (const { entries } of plan.calls)
            for (const entry of entries)
              if (entry.sample) work[entry.request?.startsWith("a") === true ? "a" : "b"] += 2;
        }
        // Twice what all slots may have in work of one owner while the other one is not looked at.
        const bound = 2 * 4 * (60 + 2 * 60);
        expect(Math.abs(work.a - work.b)).toBeLessThanOrEqual(bound);
      }),
      { numRuns: 8 },
    );
  });
});
