/** Who asks on behind an answer: for whom a slot is kept, for how long, and what that is worth over many requests. */
import { describe, expect, test } from "vitest";
import { DEVICES } from "../../../engine/simulate/device.ts";
import { defaultConfig } from "../../../engine/simulate/config.ts";
import { givesWay } from "../../../engine/scheduler/returns.ts";
import { simulate } from "../../../engine/simulate/simulator.ts";
import type { LiveRequest, SimulatedRequest, TokenRun } from "../../../engine/simulate/simulator.ts";
import type { SchedulerConfig, SchedulerState } from "../../../engine/scheduler/types.ts";
import { addRequest, DRAWN, runStep, schedulerState } from "../../support/scheduler.ts";

const text = (first: number, tokens: number): Uint32Array =>
  Uint32Array.from({ length: tokens }, (_, i) => first + i);
const END_MS = 1000;

/** One slot decodes; the answer in the other one has just ended, and somebody waits. */
function answered(tenants: { readonly others: string; readonly own: string }, slots = 2): SchedulerState {
  const state = schedulerState({ slots });
  for (let i = 1; i < slots; i++)
    addRequest(state, `busy${i}`, { tenant: tenants.others, prompt: text(300 * i, 40), maxTokens: 150 }, 0);
  runStep(state, 0);
  addRequest(state, "chat", { tenant: tenants.own, prompt: text(1, 80), maxTokens: 3 }, 0);
  while (state.requests.has("chat")) runStep(state, END_MS);
  addRequest(state, "waits", { tenant: tenants.others, prompt: text(5000, 80), maxTokens: 3 }, END_MS + 1);
  return state;
}

function learnt(state: SchedulerState, owner: string, shares: { asked?: number; continued?: number }): void {
  const returns = state.owners.get(owner)?.returns;
  if (returns === undefined) return;
  returns.askedShare = shares.asked ?? 0;
  returns.continuedShare = shares.continued ?? 0;
}

const goesOn = {
  prompt: Uint32Array.from([...text(1, 80), DRAWN, DRAWN, DRAWN, ...text(900, 9)]),
  maxTokens: 1,
};

describe("a slot is kept for its cells", () => {
  const own = { others: "a", own: "a" };

  test("from others of its owner while somebody is likely to go on with them, for twice the usual gap", () => {
    const state = answered(own);
    learnt(state, "a", { continued: 0.9 });
    // The one that waits has asked after a millisecond, which counts for a tenth: 22.6 ms are usual now.
    expect(runStep(state, END_MS + 45)).toMatchObject({ kept: [1], assignments: [] });
    expect(runStep(state, END_MS + 46)).toMatchObject({
      kept: [],
      assignments: [{ request: "waits", slot: 1 }],
    });
  });

  test("and goes to who goes on with them, past the first in line", () => {
    const state = answered(own);
    learnt(state, "a", { continued: 0.9 });
    runStep(state, END_MS + 2);
    addRequest(state, "goes on", goesOn, END_MS + 10);
    expect(runStep(state, END_MS + 12)).toMatchObject({
      assignments: [{ request: "goes on", slot: 1, reuse: 82 }],
      passedOver: ["waits"],
    });
  });

  test.each([
    ["nobody is likely to", { continued: 0.05 }],
    ["nothing is known", {}],
  ])("but not where %s", (_case, shares) => {
    const state = answered(own);
    learnt(state, "a", shares);
    expect(runStep(state, END_MS + 2)).toMatchObject({ kept: [], assignments: [{ request: "waits" }] });
  });

  test("not from an owner who has had less", () => {
    const state = answered(own);
    learnt(state, "a", { continued: 0.9 });
    addRequest(state, "other", { tenant: "b" }, END_MS + 2);
    expect(runStep(state, END_MS + 3).assignments).toMatchObject([{ request: "other", slot: 1 }]);
  });

  test("not where nothing else computes", () => {
    const state = schedulerState({ slots: 1 });
    addRequest(state, "chat", { prompt: text(1, 80), maxTokens: 3 }, 0);
    while (state.requests.has("chat")) runStep(state, END_MS);
    learnt(state, "a", { continued: 1 });
    addRequest(state, "waits", {}, END_MS + 1);
    expect(runStep(state, END_MS + 2)).toMatchObject({ kept: [], assignments: [{ request: "waits" }] });
  });
});

describe("a slot is kept for its owner", () => {
  const two = { others: "many", own: "few" };

  test("who has fewer than those who wait, and asks on at once, whatever it asks", () => {
    const state = answered(two, 4);
    learnt(state, "few", { asked: 0.5 });
    expect(runStep(state, END_MS + 2)).toMatchObject({ kept: [3], assignments: [] });
    addRequest(state, "few again", { tenant: "few", prompt: text(8000, 20) }, END_MS + 10);
    expect(runStep(state, END_MS + 12).assignments).toMatchObject([{ request: "few again", slot: 3 }]);
  });

  test("and the others' prompts wait as long, beside who decodes", () => {
    const state = schedulerState({ slots: 4, itlTargetMs: 50 });
    for (let i = 0; i < 2; i++)
      addRequest(state, `busy${i}`, { tenant: "many", prompt: text(300 * i, 40), maxTokens: 150 }, 0);
    for (let i = 0; i < 9; i++) runStep(state, 0);
    addRequest(state, "few", { tenant: "few", maxTokens: 2 }, 0);
    addRequest(state, "long", { tenant: "many", prompt: text(3000, 180), maxTokens: 15 }, 0);
    while (state.requests.has("few")) runStep(state, END_MS);
    learnt(state, "few", { asked: 0.5 });
    addRequest(state, "waits", { tenant: "many" }, END_MS);
    const kinds = (nowMs: number): string[] => runStep(state, nowMs).calls.map(({ kind }) => kind);
    expect(kinds(END_MS + 2)).toEqual(["decode"]);
    expect(kinds(END_MS + 60)).toEqual(["decode", "prefill"]);
    const [prefill] = runStep(state, END_MS + 61).calls.slice(1);
    const plannedBefore = prefill ?? failed();
    expect(givesWay(state, plannedBefore, END_MS + 62)).toBe(false);
    addRequest(state, "again", { tenant: "few", maxTokens: 1 }, END_MS + 63);
    while (state.requests.has("again")) runStep(state, END_MS + 64);
    addRequest(state, "waits too", { tenant: "many" }, END_MS + 65);
    // A request of few has ended since that was planned.
    expect(givesWay(state, plannedBefore, END_MS + 65)).toBe(true);
  });

  test.each([
    ["it seldom asks on", 0.2, 4],
    ["it has as many as the others", 0.9, 2],
  ])("but not where %s", (_case, asked, slots) => {
    const state = answered(two, slots);
    learnt(state, "few", { asked });
    expect(runStep(state, END_MS + 2)).toMatchObject({ kept: [], assignments: [{ request: "waits" }] });
  });
});

function failed(): never {
  throw new Error("nothing was planned");
}

test("what owners do is learnt whether slots are kept or not", () => {
  const state = schedulerState({ slots: 2, keepSlots: false });
  const share = (): number => state.owners.get("a")?.returns.continuedShare ?? 0;
  let nowMs = 0;
  const turn = (id: string, prompt: Uint32Array, gapMs: number): void => {
    nowMs += gapMs;
    addRequest(state, id, { prompt, maxTokens: 1 }, nowMs);
    while (state.requests.has(id)) runStep(state, nowMs);
  };
  for (let i = 0; i < 20; i++) turn(`goes on ${i}`, text(1, 10 + i), 20);
  expect(share()).toBeGreaterThan(0.8);
  for (let i = 0; i < 20; i++) turn(`new ${i}`, text(1000 * i, 30), 20);
  expect(share()).toBeLessThan(0.2);
  expect(state.owners.get("a")?.returns.askedShare).toBeGreaterThan(0.8);
  for (let i = 0; i < 20; i++) turn(`late ${i}`, text(1000 * i, 30), 1000);
  expect(state.owners.get("a")?.returns.askedShare).toBeLessThan(0.2);
});

/** @returns Times to the first token, by tenant, and the share of prompt tokens that were reused. */
function run(
  trace: readonly SimulatedRequest[],
  knobs: Partial<SchedulerConfig> = {},
  kind: keyof typeof DEVICES = "cpu",
) {
  const ttfts = new Map<string, number[]>();
  let [prompts, reused] = [0, 0];
  const first = (live: LiveRequest): void => {
    if (live.outputTokens !== 1) return;
    const { tenant, arrivalMs } = live.spec;
    ttfts.set(tenant, [...(ttfts.get(tenant) ?? []), (live.lastTokenMs ?? 0) - arrivalMs]);
    prompts += live.promptTokens;
    reused += live.cachedTokens;
  };
  const config = { ...defaultConfig(kind), ...knobs };
  const ends: LiveRequest[] = [];
  const { endMs } = simulate(
    trace,
    { config, device: DEVICES[kind], lasts: (_nowMs, ms) => ms, check: true },
    {
      arrived: () => undefined,
      admitted: () => undefined,
      token: () => undefined,
      ended: (live) => {
        ends.push(live);
        first({ ...live, outputTokens: 1, lastTokenMs: live.firstTokenMs });
      },
      called: () => undefined,
      stepped: () => undefined,
    },
  );
  return { ttfts, reused: reused / prompts, endMs };
}

let tokens = 1;
const fresh = (count: number): TokenRun => ({ first: (tokens += count) - count, tokens: count });

function request(fields: Partial<SimulatedRequest>): SimulatedRequest {
  return {
    arrivalMs: 0,
    tenant: "a",
    priority: 1,
    prompt: [fresh(128)],
    output: fresh(64),
    maxTokens: 64,
    patienceMs: undefined,
    ...fields,
  };
}

/** @param lengthOf Of an answer, and of the message behind it. */
function conversation(
  turns: number,
  prompt: readonly TokenRun[],
  arrivalMs: number,
  lengthOf = (): number => 32,
): SimulatedRequest {
  const output = fresh(lengthOf());
  const next = [...prompt, output, fresh(lengthOf())];
  return request({
    arrivalMs,
    prompt,
    output,
    ...(turns > 1 ? { next: (endMs: number) => conversation(turns - 1, next, endMs + 10, lengthOf) } : {}),
  });
}

test("three times as many chats as slots, each asking on at once, keep theirs: twice the work for most of them", () => {
  const chats = (): SimulatedRequest[] => Array.from({ length: 24 }, () => conversation(4, [fresh(200)], 0));
  const kept = run(chats());
  const given = run(chats(), { keepSlots: false, prefixFirst: false });
  expect(kept.reused).toBeGreaterThan(0.5);
  expect(given.reused).toBeLessThan(0.2);
  expect(kept.endMs).toBeLessThan(0.6 * given.endMs);
});

/** Evenly drawn numbers, the same in every run. */
function evenly(): (from: number, to: number) => number {
  let random = 1;
  return (from, to) => {
    random = (random * 48_271) % 2_147_483_647;
    return from + (random % (to - from));
  };
}

test.each([
  ["cpu", 0.8],
  ["gpu", 0.96],
] as const)("chats whose answers are of all lengths end sooner on a %s, too", (kind, share) => {
  const chats = (): SimulatedRequest[] => {
    const draw = evenly();
    return Array.from({ length: 24 }, () => conversation(4, [fresh(draw(100, 400))], 0, () => draw(16, 80)));
  };
  const kept = run(chats(), {}, kind);
  const given = run(chats(), { keepSlots: false }, kind);
  expect(kept.reused).toBeGreaterThan(0.6);
  expect(kept.endMs).toBeLessThan(share * given.endMs);
});

test("an owner whose prompts are all new loses next to nothing until that is known", () => {
  const client = (left: number, arrivalMs: number): SimulatedRequest =>
    request({ arrivalMs, ...(left > 1 ? { next: (endMs: number) => client(left - 1, endMs + 5) } : {}) });
  const clients = (): SimulatedRequest[] => Array.from({ length: 16 }, () => client(4, 0));
  expect(run(clients()).endMs).toBeLessThan(1.01 * run(clients(), { keepSlots: false }).endMs);
});

test("a key that asks one after the other hardly notices another one's two hundred", () => {
  const small = (left: number, arrivalMs: number): SimulatedRequest =>
    request({
      tenant: "small",
      arrivalMs,
      ...(left > 1 ? { next: (endMs: number) => small(left - 1, endMs + 10) } : {}),
    });
  const greedy = Array.from({ length: 200 }, () => request({ tenant: "greedy" }));
  const slowest = (trace: readonly SimulatedRequest[], knobs = {}): number =>
    Math.max(...(run(trace, knobs).ttfts.get("small") ?? []).slice(1));
  const alone = slowest([small(8, 0)]);
  const beside = slowest([...greedy, small(8, 5000)]);
  expect(beside).toBeLessThanOrEqual(1.5 * alone);
  expect(beside).toBeLessThan(slowest([...greedy, small(8, 5000)], { keepSlots: false }));
});
