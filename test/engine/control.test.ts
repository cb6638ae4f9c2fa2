/** Requests that are paused, moved to another class or give way, through the whole engine and over the death of one. */
import { expect, test } from "vitest";
import { fakeOutput } from "../../engine/fake/backend.ts";
import { DEFAULT_FAIRNESS } from "../../engine/scheduler/owners.ts";
import { DEFAULT_POLICY, PriorityClass } from "../../engine/sharing.ts";
import { fakeEngine, submitCommand } from "../support/engine.ts";
import { CRASH, mortalEngines } from "../support/mortal-engines.ts";

const prompt = (length: number, first = 0): number[] => Array.from({ length }, (_, i) => (first + i) % 90);

test("a request that gives way to a higher class gets all its tokens, each once, and is told its start once", async () => {
  let calls = 0;
  let engine: Awaited<ReturnType<typeof fakeEngine>> | undefined = undefined;
  const onRun = (): void => {
    if (calls++ === 5)
      engine?.send({ ...submitCommand("high", prompt(9, 40)), priority: PriorityClass.high });
  };
  engine = await fakeEngine({ slots: 1, onRun: () => engine && onRun() });
  engine.send({ ...submitCommand("low", prompt(9), { maxTokens: 60 }), priority: PriorityClass.low });
  await expect.poll(() => engine?.outputs("low").at(-1)?.finish).toBeDefined();
  await engine.drained();
  expect(engine.tokens("low")).toEqual(fakeOutput(prompt(9), 60));
  expect(engine.tokens("high")).toEqual(fakeOutput(prompt(9, 40), 8));
  expect(engine.outputs("low").filter(({ start }) => start !== undefined)).toHaveLength(1);
  const steps = engine.events.filter((event) => event.type === "step");
  expect(steps.flatMap(({ report }) => report.evictions ?? [])).toEqual([{ class: 1 }]);
  const finished = steps.flatMap(({ outputs }) => outputs.filter(({ finish }) => finish).map(({ id }) => id));
  expect(finished).toEqual(["high", "low"]);
  await engine.stop();
});

test("a paused request is silent and shown as paused until it is resumed; draining resumes it", async () => {
  let calls = 0;
  let engine: Awaited<ReturnType<typeof fakeEngine>> | undefined = undefined;
  const onRun = (): void => {
    if (++calls === 6) engine?.send({ type: "control", id: "b", change: { paused: true } });
  };
  engine = await fakeEngine({ slots: 2, onRun: () => engine && onRun() });
  engine.send({ ...submitCommand("a", prompt(9)), paused: true });
  engine.send(submitCommand("b", prompt(9, 40), { maxTokens: 100 }));
  await expect.poll(() => calls).toBe(6);
  const { slots, queued, running } = await engine.stats();
  expect([queued, running]).toEqual([1, 1]);
  expect(slots.filter(({ state }) => state === "paused").map(({ requestId }) => requestId)).toEqual(["b"]);
  expect(engine.outputs("a")).toEqual([]);
  engine.send({ type: "control", id: "nobody", change: { paused: true, priority: PriorityClass.high } });
  await engine.drained();
  expect(engine.tokens("a")).toEqual(fakeOutput(prompt(9), 8));
  expect(engine.tokens("b")).toEqual(fakeOutput(prompt(9, 40), 100));
  await engine.stop();
});

test("a request that is paused stays so over the death of its engine, whose silence is none", async () => {
  const engines = await mortalEngines({ stuckAfterMs: 3000 });
  const answer = engines.submit("a", prompt(9), { maxTokens: 40 });
  engines.client.control("a", { paused: true, priority: PriorityClass.low });
  for (let second = 1; second <= 100; second++) engines.supervisor.tick(1000);
  expect(engines.events).toEqual([]);
  engines.current().die(CRASH);
  await expect.poll(() => engines.current().submits.length).toBe(1);
  expect(engines.engines).toHaveLength(2);
  expect(engines.current().submits[0]).toMatchObject({ paused: true, priority: PriorityClass.low });
  engines.client.control("a", { paused: false });
  const outputs = await answer;
  expect(outputs.flatMap(({ tokens }) => [...tokens])).toEqual(fakeOutput(prompt(9), 40));
  engines.client.control("a", { paused: true });
  expect(engines.current().commands.at(-1)).toMatchObject({ change: { paused: false } });
  await engines.stop();
});

test("row 83: a request without a token by its deadline fails, one with tokens ends with them, one with time is untouched", async () => {
  const engine = await fakeEngine({ slots: 1 });
  engine.send({ ...submitCommand("running", prompt(9), { maxTokens: 100 }), endWithinMs: 30_000 });
  engine.send({ ...submitCommand("held", prompt(9, 40)), paused: true, endWithinMs: 20 });
  engine.send({ ...submitCommand("calm", prompt(9, 50)), firstTokenWithinMs: 1e6, endWithinMs: 1e6 });
  await expect.poll(() => engine.events.filter(({ type }) => type === "failed")).toHaveLength(1);
  expect(engine.events.find(({ type }) => type === "failed")).toMatchObject({
    id: "held",
    code: "deadline_exceeded",
  });
  await engine.drained();
  expect(engine.tokens("running")).toEqual(fakeOutput(prompt(9), 100));
  expect(engine.tokens("calm")).toEqual(fakeOutput(prompt(9, 50), 8));
  await engine.stop();
});

test("row 83: a request that runs out of time keeps its tokens and ends with `length`", async () => {
  let calls = 0;
  let engine: Awaited<ReturnType<typeof fakeEngine>> | undefined = undefined;
  const onRun = (): void => {
    if (++calls === 6) engine?.send({ type: "control", id: "a", change: { paused: true } });
  };
  engine = await fakeEngine({ slots: 1, onRun: () => engine && onRun() });
  engine.send({ ...submitCommand("a", prompt(9), { maxTokens: 100 }), endWithinMs: 500 });
  await expect
    .poll(() => engine?.outputs("a").at(-1)?.finish)
    .toEqual({ reason: "length", stopToken: undefined });
  const tokens = engine.tokens("a");
  expect(tokens.length).toBeGreaterThan(0);
  expect(tokens).toEqual(fakeOutput(prompt(9), 100).slice(0, tokens.length));
  expect((await engine.stats()).running).toBe(0);
  await engine.stop();
});

test("caps of an owner refuse its requests and nobody else's", async () => {
  const capped = { ...DEFAULT_POLICY, maxQueued: 1, maxQueuedTokens: 30 };
  const fairness = { ...DEFAULT_FAIRNESS, owners: new Map([["capped", capped]]) };
  const engine = await fakeEngine({ slots: 1 }, { fairness });
  const submit = (id: string, owner: string, length: number): void =>
    engine.send({ ...submitCommand(id, prompt(length)), owner, paused: true });
  submit("a", "other", 20);
  submit("b", "capped", 20);
  submit("c", "capped", 5);
  submit("d", "capped", 5);
  submit("e", "other", 20);
  const refused = engine.events.filter((event) => event.type === "failed");
  expect(refused).toMatchObject([
    {
      id: "d",
      code: "owner_queue_full",
      details: { limit: 1, requests: 2, requestsLeft: 0, tokens: 30, tokensLeft: 5 },
    },
  ]);
  const accepted = engine.events.filter((event) => event.type === "accepted");
  expect(accepted.map(({ id }) => id)).toEqual(["a", "b", "c", "e"]);
  expect(accepted[1]).toMatchObject({
    allowance: { requests: 2, requestsLeft: 1, tokens: 30, tokensLeft: 10 },
  });
  await engine.stop();
});

test("choices of one answer have to find room together, and their prompt counts once", async () => {
  const capped = { ...DEFAULT_POLICY, maxRunning: 1, maxQueued: 2, maxQueuedTokens: 30 };
  const fairness = { ...DEFAULT_FAIRNESS, owners: new Map([["capped", capped]]) };
  const engine = await fakeEngine({ slots: 2 }, { fairness, maxQueued: 3 });
  const submit = (id: string, owner: string, of: number): void => {
    for (let k = 0; k < of; k++) {
      const choice = { of, repeatsPrompt: k > 0 };
      engine.send({ ...submitCommand(`${id}${k}`, prompt(20), { maxTokens: 2 }), owner, choice });
    }
  };
  // Forty waiting tokens would be too many, and so are four requests, or six of anybody's.
  submit("fits", "capped", 3);
  submit("never", "capped", 4);
  submit("nobody", "other", 6);
  await engine.drained();
  const refused = engine.events.filter((event) => event.type === "failed");
  expect(new Set(refused.map(({ code }) => code))).toEqual(new Set(["too_many_choices"]));
  expect(refused.map(({ id }) => id)).toHaveLength(10);
  expect(refused.map(({ details }) => details)).toContainEqual({ choices: 4, most: 3 });
  expect(refused.map(({ details }) => details)).toContainEqual({ choices: 6, most: 5 });
  for (const id of ["fits0", "fits1", "fits2"]) expect(engine.tokens(id)).toEqual(fakeOutput(prompt(20), 2));
  await engine.stop();
});

test("choices whose prompt is let in alone, since it is larger than all may be, are let in with it", async () => {
  const capped = { ...DEFAULT_POLICY, maxQueuedTokens: 10 };
  const fairness = { ...DEFAULT_FAIRNESS, owners: new Map([["capped", capped]]) };
  const engine = await fakeEngine({ slots: 2 }, { fairness });
  for (const k of [0, 1]) {
    const choice = { of: 2, repeatsPrompt: k > 0 };
    engine.send({ ...submitCommand(`${k}`, prompt(20), { maxTokens: 2 }), owner: "capped", choice });
  }
  await engine.drained();
  for (const id of ["0", "1"]) expect(engine.tokens(id)).toEqual(fakeOutput(prompt(20), 2));
  await engine.stop();
});
