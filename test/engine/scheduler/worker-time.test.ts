/** What is foreseen of first tokens while the prefill worker has part of the device, or computes the prompt in question. */
import { expect, test } from "vitest";
import { predictedTtftMs } from "../../../engine/scheduler/forecast.ts";
import type { SchedulerState } from "../../../engine/scheduler/types.ts";
import { workerForecast } from "../../../engine/scheduler/worker-time.ts";
import { addRequest, planMs, runStep, schedulerState } from "../../support/scheduler.ts";
import { SimulatedWorker } from "../../support/simulated-worker.ts";

const prompt = (first: number, length: number): Uint32Array =>
  Uint32Array.from({ length }, (_, i) => first + i);

class Run {
  readonly state: SchedulerState = schedulerState({ slots: 5, contextTokens: 2000, spillBytes: 1e9 });
  readonly worker: SimulatedWorker;
  nowMs = 0;

  /** Three streams. */
  constructor(scale: number) {
    this.worker = new SimulatedWorker(this.state, scale);
    for (const id of ["s1", "s2", "s3"]) addRequest(this.state, id, { maxTokens: 1900 });
    while (this.state.requests.get("s3")?.output.length === 0) this.step();
  }

  step(): void {
    const stepMs = planMs(runStep(this.state, this.nowMs));
    this.nowMs += stepMs + this.worker.rest(stepMs);
  }

  /** What is foreseen of a prompt, and what it takes. */
  ask(id: string, tokens: number): [foreseenMs: number, tookMs: number] {
    const { state, nowMs } = this;
    const newcomer = { tenant: "a", priority: 1, computedTokens: tokens, maxNew: 10 };
    const foreseenMs = predictedTtftMs(state, newcomer, nowMs);
    addRequest(state, id, { prompt: prompt(10_000 * state.nextArrival, tokens), maxTokens: 10 }, nowMs);
    while (state.requests.get(id)?.output.length === 0) this.step();
    return [foreseenMs, this.nowMs - nowMs];
  }
}

/** Within so much of what it took. */
function expectForeseen([foreseenMs, tookMs]: readonly [number, number], within: number): void {
  expect(Math.abs(foreseenMs - tookMs) / tookMs).toBeLessThan(within);
}

test.each([0.7, 1, 3])(
  "of a prompt that goes to a worker %f times as fast, once it is known how fast that is",
  (scale) => {
    const run = new Run(scale);
    for (let i = 0; i < 16; i++) {
      run.ask(`long ${i}`, 150);
      while (run.state.requests.has(`long ${i}`)) run.step();
    }
    expect(run.state.offload.scale).toBeCloseTo(scale, 1);
    const computed = run.worker.computed;
    expectForeseen(run.ask("long", 300), 0.1);
    expect(run.worker.computed).toBe(computed + 1);
  },
);

test("of a short prompt while the worker has most of the time", () => {
  const run = new Run(1);
  const alone = run.ask("alone", 40);
  expectForeseen(alone, 0.1);
  while (run.state.requests.has("alone")) run.step();
  addRequest(run.state, "long", { prompt: prompt(5000, 900), maxTokens: 10 }, run.nowMs);
  for (let i = 0; i < 5; i++) run.step();
  expect(run.state.offload.current?.request).toBe("long");
  const beside = run.ask("beside", 40);
  expectForeseen(beside, 0.25);
  expect(beside[1]).toBeGreaterThan(1.2 * alone[1]);
});

test("what the worker still takes is lost once, whenever it is had", () => {
  const run = new Run(1);
  addRequest(run.state, "long", { prompt: prompt(5000, 900), maxTokens: 10 }, run.nowMs);
  for (let i = 0; i < 5; i++) run.step();
  const { stretchedMs } = workerForecast(run.state, 10);
  const allMs = stretchedMs(1e6) - 1e6;
  expect(allMs).toBeGreaterThan(50);
  expect(stretchedMs(1e6, 50) - 1e6).toBeCloseTo(allMs - 50, 5);
  expect(stretchedMs(1e6, allMs + 50)).toBe(1e6);
});

test.each([false, true])(
  "of a prompt that gets no time beside streams, with a worker: %s, is that it is not soon there",
  (employed) => {
    const state = schedulerState({
      slots: 5,
      contextTokens: 2000,
      spillBytes: 1e9,
      minPrefillShare: 0,
      itlTargetMs: 1,
    });
    for (const id of ["s1", "s2", "s3"]) addRequest(state, id, { maxTokens: 1900 });
    for (let i = 0; i < 30; i++) runStep(state, i);
    Object.assign(state.offload, { employed, ready: employed });
    const newcomer = { tenant: "a", priority: 1, maxNew: 10 };
    for (const computedTokens of [0, 5, 800]) {
      const foreseenMs = predictedTtftMs(state, { ...newcomer, computedTokens }, 50);
      expect(foreseenMs).toBeLessThan(Infinity);
      if (computedTokens > 0) expect(foreseenMs).toBeGreaterThan(60_000);
    }
    expect(() => addRequest(state, "d", { firstTokenWithinMs: 500 }, 50)).toThrow(
      "The first token would come",
    );
  },
);
