/** What steps are counted by beside their calls: holds, copies, prefixes that slots lose, tokens computed again, slots that come free. */
import { expect, test } from "vitest";
import { StepCounts } from "../../engine/step-counts.ts";
import { lostPrefixes, tokensAgain } from "../../engine/scheduler/step-effects.ts";
import { planStep } from "../../engine/scheduler/plan-step.ts";
import { PriorityClass } from "../../engine/sharing.ts";
import type { StepReport } from "../../engine/step-report.ts";
import { addRequest, runStep, schedulerState } from "../support/scheduler.ts";
import { fakeEngine, submitCommand } from "../support/engine.ts";
import type { FakeEngine } from "../support/engine.ts";

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const text = (first: number, length: number): number[] => Array.from({ length }, (_, i) => first + (i % 7));

const reportsOf = ({ events }: FakeEngine): StepReport[] =>
  events.flatMap((event) => (event.type === "step" ? [event.report] : []));

const sum = (numbers: readonly (number | undefined)[]): number =>
  numbers.reduce<number>((total, next = 0) => total + next, 0);

test("who waits for a prefix in the making is told how long, and from where it had it", async () => {
  const engine = await fakeEngine({ onRun: turn });
  const prompt = text(40, 60);
  for (const id of ["first", "second"])
    engine.send({ ...submitCommand(id, prompt, { maxTokens: 2 }), cacheScope: "s" });
  await engine.drained();
  const [first, second] = ["first", "second"].map((id) => engine.outputs(id)[0]?.start);
  expect(first).toMatchObject({ cachedTokens: 0, cachedFrom: "slot" });
  expect(first).not.toHaveProperty("heldMs");
  expect(second).toMatchObject({ cachedTokens: 59, cachedFrom: "copy" });
  expect(second?.heldMs).toBeGreaterThan(0);
  expect(second?.heldMs).toBeLessThanOrEqual(second?.queueMs ?? 0);
  expect(sum(reportsOf(engine).map(({ copies }) => copies))).toBe(1);
  expect(reportsOf(engine).every(({ lost }) => lost === undefined)).toBe(true);
  await engine.stop();
});

test("those that are held are counted while they are", async () => {
  const engine = await fakeEngine({ onRun: turn });
  for (const id of ["first", "second", "third"])
    engine.send({ ...submitCommand(id, text(40, 90), { maxTokens: 2 }), cacheScope: "s" });
  await turn();
  await turn();
  expect(await engine.stats()).toMatchObject({ byClass: { held: [0, 2, 0, 0] }, queued: 2 });
  await engine.drained();
  expect((await engine.stats()).byClass?.held).toEqual([0, 0, 0, 0]);
  await engine.stop();
});

test("who gets a slot is told as its first call begins", async () => {
  const engine = await fakeEngine({ slots: 1, onRun: turn });
  const told = (): unknown[] =>
    engine.events.flatMap((event) => (event.type === "step" ? (event.moves ?? []) : []));
  engine.send(submitCommand("first", text(40, 100), { maxTokens: 3 }));
  engine.send(submitCommand("second", text(60, 9), { maxTokens: 1 }));
  for (let i = 0; i < 1000 && told().length === 0; i++) await turn();
  expect(told()).toEqual([{ id: "first", to: "prefill" }]);
  // Nothing has been computed yet.
  expect(sum(reportsOf(engine).map(({ passes }) => passes))).toBe(0);
  await engine.drained();
  expect(told()).toEqual([
    { id: "first", to: "prefill" },
    { id: "second", to: "prefill" },
  ]);
  await engine.stop();
});

test("who has a token is told of none", async () => {
  const engine = await fakeEngine({ slots: 1 });
  engine.send({ ...submitCommand("goes on", text(40, 9), { maxTokens: 5 }), resume: [50, 51] });
  await engine.drained();
  expect(engine.events.filter((event) => event.type === "step" && event.moves !== undefined)).toEqual([]);
  await engine.stop();
});

test("between two calls there is a gap, and none behind a rest", async () => {
  const engine = await fakeEngine({ onRun: turn });
  for (const [id, first] of [
    ["a", 40],
    ["b", 80],
  ] as const) {
    // So that its first call has something to tell as it begins.
    engine.send({ ...submitCommand(id, text(first, 3), { maxTokens: 4 }), reportsPrefill: true });
    while (engine.tokens(id).length < 4 || (await engine.stats()).running > 0) await turn();
    for (let i = 0; i < 3; i++) await turn();
  }
  const calls = reportsOf(engine).filter(({ passes }) => passes > 0).length;
  // Of five calls each: the prompt's, and four tokens.
  expect(calls).toBe(10);
  const gaps = reportsOf(engine).flatMap(({ gapMs }) => gapMs ?? []);
  expect(gaps).toHaveLength(8);
  expect(gaps.every((ms) => ms >= 0)).toBe(true);
  expect(reportsOf(engine).flatMap(({ stepMs }) => stepMs ?? []).length).toBeGreaterThanOrEqual(8);
  await engine.stop();
});

test("a gap is told once, and a rest is none", () => {
  const state = schedulerState();
  const counts = new StepCounts(state);
  addRequest(state, "a");
  const [call] = planStep(state, 0).calls;
  const gaps = [0, 30, 45, 500].map((atMs) => {
    if (atMs === 500) counts.rests();
    if (call !== undefined) counts.callBegins(call, atMs);
    counts.callEnded(atMs + 10);
    return counts.take().gapMs;
  });
  expect(gaps).toEqual([undefined, 20, 5, undefined]);
});

test("whose client leaves is told by the time until its slot was free", async () => {
  const engine = await fakeEngine({ slots: 1, onRun: turn });
  engine.send(submitCommand("leaves", text(40, 3), { maxTokens: 500 }));
  engine.send(submitCommand("waits", text(50, 3), { maxTokens: 2 }));
  while (engine.tokens("leaves").length === 0) await turn();
  engine.send({ type: "cancel", id: "waits" });
  engine.send({ type: "cancel", id: "leaves" });
  engine.send({ type: "cancel", id: "leaves" });
  await engine.drained();
  // Who waits has no slot.
  expect(reportsOf(engine).flatMap(({ freedMs = [] }) => freedMs)).toHaveLength(1);
  await engine.stop();
});

test("also where the call fails in which a leaving client's request was", async () => {
  let fails = false;
  const engine = await fakeEngine({
    slots: 1,
    onRun: async () => {
      await turn();
      await turn();
      if (fails) throw new Error("On purpose.");
    },
  });
  engine.send(submitCommand("leaves", text(40, 3), { maxTokens: 500 }));
  while (engine.tokens("leaves").length === 0) await turn();
  fails = true;
  engine.send({ type: "cancel", id: "leaves" });
  while ((await engine.stats()).running > 0) await turn();
  fails = false;
  engine.send(submitCommand("next", text(50, 3), { maxTokens: 1 }));
  await engine.drained();
  const reports = reportsOf(engine);
  expect(reports.flatMap(({ freedMs = [] }) => freedMs)).toHaveLength(1);
  await engine.stop();
});

test("a slot loses its prefix to another prompt, and not to one that goes on with it", () => {
  const state = schedulerState({ slots: 1 });
  const prompt = (first: number, length: number): Uint32Array => Uint32Array.from(text(first, length));
  const lost: unknown[] = [];
  for (const [i, next] of [prompt(40, 30), prompt(40, 50), prompt(90, 30)].entries()) {
    addRequest(state, `${i}`, { prompt: next, maxTokens: 1 });
    lost.push(lostPrefixes(state, planStep(state, i)));
    while (state.requests.size > 0) runStep(state, i);
  }
  expect(lost).toEqual([undefined, undefined, { prompt: 1 }]);
});

test("a slot loses its prefix to a copy", () => {
  const state = schedulerState({ slots: 2 });
  const long = Uint32Array.from({ length: 100 }, (_, i) => i);
  addRequest(state, "long", { prompt: long, maxTokens: 50 });
  addRequest(state, "other", { prompt: Uint32Array.of(900, 901, 902), maxTokens: 1 });
  while (state.requests.get("long")?.phase !== "decode") runStep(state, 0);
  while (state.requests.has("other")) runStep(state, 0);
  addRequest(state, "like", { prompt: long.slice(0, 90), maxTokens: 1 });
  expect(lostPrefixes(state, planStep(state, 1))).toEqual({ copy: 1 });
});

test("a slot that comes back to a checkpoint of its own has lost nothing, and another one has", () => {
  const checkpoints = { needs: "none", bytes: 10_000 } as const;
  const state = schedulerState({ slots: 2, canRewind: false, checkpoints });
  for (const [id, first] of [
    ["a", 100],
    ["b", 500],
  ] as const) {
    const prompt = Uint32Array.from({ length: 60 }, (_, i) => first + i);
    addRequest(state, id, { prompt, maxTokens: 1 });
  }
  while (state.requests.size > 0) runStep(state, 0);
  const [own] = state.slots[0]?.checkpoints ?? [];
  const plan = planStep(state, 1);
  const assignment = {
    request: "c",
    reuse: own?.length ?? 0,
    copyFrom: undefined,
    checkpoint: own?.id ?? -1,
  };
  const lostIn = (slot: number): unknown =>
    lostPrefixes(state, { ...plan, assignments: [{ ...assignment, slot }] });
  expect([lostIn(0), lostIn(1)]).toEqual([undefined, { checkpoint: 1 }]);
});

test("what a request has had is computed again when it has lost its slot", () => {
  const state = schedulerState({ slots: 1, contextTokens: 2000 });
  const prompt = Uint32Array.from({ length: 30 }, (_, i) => i);
  addRequest(state, "low", { prompt, priority: PriorityClass.background, maxTokens: 1000 });
  let again = 0;
  const step = (nowMs: number): void => {
    for (const call of planStep(state, nowMs).calls) again += tokensAgain(state, call);
    runStep(state, nowMs);
  };
  while ((state.requests.get("low")?.output.length ?? 0) < 6) step(0);
  expect(again).toBe(0);
  Object.assign(state.requests.get("low") ?? {}, { heldSinceMs: 0 });
  addRequest(state, "high", { priority: PriorityClass.high, maxTokens: 1 });
  step(1);
  expect(state.requests.get("low")?.phase).toBe("queued");
  // Nor does it count as held any more since before it had its slot.
  expect(state.requests.get("low")?.heldSinceMs).toBeUndefined();
  while (state.requests.has("high")) step(2);
  while ((state.requests.get("low")?.output.length ?? 0) < 8) step(3);
  // The prompt and the output but its last token, which had never been fed.
  expect(again).toBe(30 + 5);
});
