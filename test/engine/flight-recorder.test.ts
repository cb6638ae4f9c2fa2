/** What the flight recorder tells of steps that have run, that it tells nothing of texts, and that it stays small. */
import { expect, test } from "vitest";
import { NO_TURNS } from "../../engine/scheduler/adapter-turns.ts";
import { FlightRecorder } from "../../engine/flight-recorder.ts";
import { createState } from "../../engine/scheduler/transitions.ts";
import { FakeBackend } from "../../engine/fake/backend.ts";
import { ENTRY_NUMBERS } from "../../engine/timeline.ts";
import type { PlannedCall, SchedulerConfig, StepPlan } from "../../engine/scheduler/types.ts";
import { EngineError } from "../../engine/errors.ts";
import { traceEvents } from "../../src/routes/trace-events.ts";
import { PriorityClass } from "../../engine/sharing.ts";
import { fakeEngine, submitCommand } from "../support/engine.ts";
import { traceFaults } from "../support/trace-form.ts";

const PROMPT = Array.from({ length: 20 }, (_, i) => 65 + i);

test("tells the class that a request came with, whatever it was moved to", async () => {
  const engine = await fakeEngine({ slots: 1 }, { speculate: false });
  engine.send({ ...submitCommand("job", PROMPT, { maxTokens: 3 }), priority: PriorityClass.background });
  engine.send(submitCommand("question", PROMPT, { maxTokens: 3 }));
  engine.send({ type: "control", id: "job", change: { priority: PriorityClass.high } });
  await engine.drained();
  const { requests } = await engine.timeline();
  await engine.stop();
  expect(new Map(requests.map(({ id, priority }) => [id, priority]))).toEqual(
    new Map([
      ["job", 3],
      ["question", 1],
    ]),
  );
});

test("tells who was in which call, where it began, and why", async () => {
  const engine = await fakeEngine({ slots: 2, prefillChunk: 8 }, { speculate: false });
  engine.send(submitCommand("one", PROMPT, { maxTokens: 3 }));
  await engine.drained();
  const { steps, requests, config } = await engine.timeline();
  await engine.stop();

  expect(config.slots).toBe(2);
  expect(requests).toMatchObject([
    {
      request: 0,
      id: "one",
      owner: "tester",
      promptTokens: 20,
      maxNewTokens: 3,
      outputTokens: 3,
      end: "length",
    },
  ]);
  const calls = steps.flatMap((step) => step.calls.map(({ kind, entries }) => [kind, ...entries]));
  expect(calls).toEqual([
    ["prefill", 0, 0, 0, 8],
    ["prefill", 0, 0, 8, 8],
    ["prefill", 0, 0, 16, 3],
    ["decode", 0, 0, 19, 1],
    ["decode", 0, 0, 20, 1],
    ["decode", 0, 0, 21, 1],
  ]);
  expect(steps.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(steps[0]?.admitted).toEqual([0, 0, 0, -1]);
  expect(steps[0]?.why).toEqual(["admit one to slot 0, reuse 0"]);
  expect(steps[0]?.calls[0]?.predictedMs).toBe(26);
  expect(steps.every(({ calls: [call] }) => (call?.ms ?? -1) >= 0)).toBe(true);
  const [request] = requests;
  expect(request?.endMs).toBeGreaterThanOrEqual(request?.arrivalMs ?? Infinity);
});

test("holds no token of a prompt or an output", async () => {
  const engine = await fakeEngine({ contextTokens: 4096, batchTokens: 64 }, { speculate: true });
  // Larger than every count and position here, and unlike every time.
  const secret = 251;
  engine.send(
    submitCommand(
      "one",
      Array.from({ length: 12 }, () => secret),
    ),
  );
  await engine.drained();
  const { steps } = await engine.timeline();
  await engine.stop();
  expect(steps.length).toBeGreaterThan(0);
  expect(steps.flatMap(({ calls }) => calls.flatMap(({ entries }) => [...entries]))).not.toContain(secret);
  expect(JSON.stringify(steps)).not.toContain("tokens");
});

test("tells how requests ended: cancelled ones while they wait too, and failed ones", async () => {
  const engine = await fakeEngine(
    {
      slots: 1,
      onRun: () => {
        engine.send({ type: "cancel", id: "waiting" });
        throw new EngineError("decode_failed", "No.");
      },
    },
    { speculate: false },
  );
  engine.send(submitCommand("running", PROMPT));
  engine.send(submitCommand("waiting", PROMPT));
  await engine.drained();
  const { requests, steps } = await engine.timeline();
  await engine.stop();
  expect(requests.map(({ id, end }) => [id, end])).toEqual([
    ["running", "failed"],
    ["waiting", "cancelled"],
  ]);
  expect(steps.at(-1)?.calls.at(-1)?.ms).toBeUndefined();
});

test("tells who lost a slot to whom, and a trace how long each of them waited", async () => {
  const engine = await fakeEngine(
    { slots: 1, onRun: () => new Promise((resolve) => setImmediate(resolve)) },
    { speculate: false },
  );
  const low = { ...submitCommand("low", PROMPT, { maxTokens: 30 }), priority: PriorityClass.low };
  engine.send(low);
  while (engine.outputs("low").length === 0) await new Promise((resolve) => setImmediate(resolve));
  const high = submitCommand("high", PROMPT.slice(3), { maxTokens: 2 });
  engine.send({ ...high, priority: PriorityClass.high });
  await engine.drained();
  const timeline = await engine.timeline();
  await engine.stop();
  const losses = timeline.steps.filter(({ evicted }) => evicted !== undefined);
  expect(losses.map(({ evicted }) => evicted)).toEqual([[{ request: 0, slot: 0, waiter: 1, kind: "class" }]]);
  const admissions = timeline.steps.filter(({ admitted }) => admitted.length > 0);
  expect(admissions.map(({ admitted }) => admitted[0])).toEqual([0, 1, 0]);
  const [first, second, third] = admissions.map(({ startMs }) => startMs);
  const [arrived] = timeline.requests.map(({ arrivalMs }) => arrivalMs);
  const events = traceEvents(timeline);
  expect(traceFaults(events)).toEqual([]);
  const waited = events.filter(({ cat, id }) => cat === "wait" && id === 0);
  const nanos = (ms = NaN): number => Math.round(ms * 1e6);
  expect(waited.map(({ ph }) => ph)).toEqual(["b", "e", "b", "e"]);
  expect(waited.map(({ ts = NaN }) => nanos(ts / 1000))).toEqual(
    [arrived, first, second, third].map((ms) => nanos(ms)),
  );
  expect(losses[0]?.startMs).toBe(second);
});

test("keeps the newest steps only, and answers with fewer when asked", async () => {
  const engine = await fakeEngine({ slots: 1 }, { speculate: false, timelineSteps: 5 });
  engine.send(submitCommand("one", PROMPT, { maxTokens: 30 }));
  await engine.drained();
  const all = await engine.timeline();
  const two = await engine.timeline(2);
  await engine.stop();
  expect(all.capacity).toBe(5);
  expect(all.steps.map(({ step }) => step)).toEqual([29, 30, 31, 32, 33]);
  expect(two.steps.map(({ step }) => step)).toEqual([32, 33]);
});

test("records nothing when it is off", async () => {
  const engine = await fakeEngine({ slots: 1 }, { timelineSteps: 0 });
  engine.send(submitCommand("one", PROMPT));
  await engine.drained();
  const timeline = await engine.timeline();
  await engine.stop();
  expect(timeline).toMatchObject({ capacity: 0, steps: [], requests: [] });
});

const CONFIG: SchedulerConfig = {
  slots: 256,
  contextTokens: 16,
  batchTokens: 256,
  prefillChunk: 8,
  itlTargetMs: 100,
  minPrefillShare: 0.3,
  maxQueued: 10,
  deterministic: false,
  speculate: false,
  speculateAloneTokens: 0,
  canRewind: true,
};

test("drops old steps when their calls are wide, however many steps it may keep", () => {
  const recorder = new FlightRecorder(100_000);
  const state = createState(CONFIG, new FakeBackend({ slots: 256 }).cost);
  const call: PlannedCall = {
    kind: "decode",
    entries: Array.from({ length: 256 }, (_, slot) => ({
      slot,
      request: undefined,
      position: 0,
      tokens: Uint32Array.of(1),
      sample: false,
    })),
    tokens: 256,
    drafts: 0,
    passes: 1,
    predictedMs: 1,
    unscaledMs: 1,
  };
  const plan: StepPlan = {
    evictions: [],
    assignments: [],
    held: [],
    kept: [],
    passedOver: [],
    branches: [],
    boundary: [],
    keepingMs: 0,
    calls: [call],
    turns: NO_TURNS,
    prefillCreditMs: 0,
    why: [],
  };
  for (let i = 0; i < 5000; i++) {
    recorder.beginStep(state, plan, i);
    recorder.beginCall(state, call, i);
    recorder.endCall(1);
    recorder.endStep(0);
  }
  const { steps } = recorder.timeline(state, Infinity);
  const entries = steps.reduce((sum, { calls }) => sum + (calls[0]?.entries.length ?? 0) / ENTRY_NUMBERS, 0);
  expect(entries).toBeLessThanOrEqual(1 << 19);
  expect(steps.length).toBe(2048);
  expect(steps.at(-1)?.step).toBe(5000);
});
