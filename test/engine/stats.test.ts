/** What the engine tells of those who wait, and of how near its calls come to what was expected of them. */
import { expect, test } from "vitest";
import { engineStats } from "../../engine/stats.ts";
import { StepRecord } from "../../engine/step-record.ts";
import { setPaused } from "../../engine/scheduler/request-control.ts";
import { cancel } from "../../engine/scheduler/transitions.ts";
import { PriorityClass } from "../../engine/sharing.ts";
import { ownerOf } from "../../engine/scheduler/owners.ts";
import type { EngineEvent } from "../../engine/protocol.ts";
import type { StepReport } from "../../engine/step-report.ts";
import type { PlannedCall } from "../../engine/scheduler/types.ts";
import { addRequest, runStep, schedulerState } from "../support/scheduler.ts";

test("tokens that wait are counted, and service is compared between those alone who wait", () => {
  const state = schedulerState({ slots: 1 });
  const stats = () => engineStats({ state, record: new StepRecord(state), hasDraftModel: false });
  expect(stats()).toMatchObject({ queuedTokens: 0, serviceGap: 0 });
  addRequest(state, "runs", { tenant: "rich", prompt: new Uint32Array(30) }, 0);
  runStep(state, 0);
  expect(stats()).toMatchObject({ queuedTokens: 0, serviceGap: 0 });
  addRequest(state, "a", { tenant: "rich", prompt: new Uint32Array(5) }, 1);
  addRequest(state, "b", { tenant: "poor", prompt: new Uint32Array(7) }, 1);
  const gap = ownerOf(state, "rich").served - ownerOf(state, "poor").served;
  expect(gap).toBeGreaterThan(0);
  expect(stats()).toMatchObject({ queuedTokens: 12, serviceGap: gap });
});

test("who waits is counted by class, long prompts with the others where slots are kept for short ones", () => {
  for (const reserve of [undefined, { slots: 1, promptTokens: 20 }]) {
    const state = schedulerState({ slots: 2, ...(reserve === undefined ? {} : { reserve }) });
    const record = new StepRecord(state);
    for (const [i, priority] of [0, 1, 1, 3].entries())
      addRequest(state, `r${i}`, { priority, prompt: new Uint32Array(i % 2 === 0 ? 30 : 5) }, 0);
    expect(engineStats({ state, record, hasDraftModel: false }).byClass?.waiting).toEqual([1, 2, 0, 1]);
  }
});

test("requests are counted by what they do and their class, those that are paused wherever they are", () => {
  const state = schedulerState({ slots: 3 });
  const counts = () =>
    engineStats({ state, record: new StepRecord(state), hasDraftModel: false }).byClass ?? {};
  const none = [0, 0, 0, 0];
  const nobody = { waiting: none, held: none, prefilling: none, decoding: none, paused: none };
  expect(counts()).toEqual(nobody);
  addRequest(state, "streams", { priority: PriorityClass.high, maxTokens: 50 });
  for (let ms = 0; state.requests.get("streams")?.phase !== "decode"; ms++) runStep(state, ms);
  addRequest(state, "stops", { priority: PriorityClass.low, prompt: new Uint32Array(90), maxTokens: 5 }, 5);
  addRequest(state, "long", { prompt: new Uint32Array(150).fill(3), maxTokens: 5 }, 5);
  addRequest(state, "waits", { priority: PriorityClass.background }, 5);
  addRequest(state, "rests", { priority: PriorityClass.background, paused: true }, 5);
  runStep(state, 5);
  setPaused(state, "stops", true, 6);
  expect(counts()).toEqual({
    ...nobody,
    waiting: [0, 0, 0, 1],
    prefilling: [0, 1, 0, 0],
    decoding: [1, 0, 0, 0],
    paused: [0, 0, 1, 1],
  });
});

test("who was held by the last plan counts as held for as long as it waits", () => {
  const state = schedulerState({ slots: 3 });
  const record = new StepRecord(state);
  const prompt = Uint32Array.from({ length: 90 }, (_, i) => i);
  for (const [i, priority] of [0, 1, 1].entries())
    addRequest(state, `r${i}`, { priority, prompt, maxTokens: 2 });
  record.counts.planned(runStep(state, 0), 0);
  const held = () => engineStats({ state, record, hasDraftModel: false }).byClass?.held;
  expect(held()).toEqual([0, 2, 0, 0]);
  cancel(state, "r1", 1);
  expect(held()).toEqual([0, 1, 0, 0]);
  setPaused(state, "r2", true, 2);
  expect(held()).toEqual([0, 0, 0, 0]);
});

test("what calls took is compared with what was expected of those that ran as planned, by kind", () => {
  const record = new StepRecord(schedulerState());
  const call = (kind: PlannedCall["kind"], predictedMs: number, unscaledMs = predictedMs): PlannedCall => {
    const entry = {
      slot: 0,
      request: "a",
      position: 0,
      tokens: Uint32Array.of(1),
      sample: kind === "decode",
    };
    return { kind, entries: [entry], tokens: 1, drafts: 0, passes: 1, predictedMs, unscaledMs };
  };
  const reportOf = (event: EngineEvent | undefined): StepReport | undefined =>
    event?.type === "step" ? event.report : undefined;
  const decode = call("decode", 10);
  record.addCall(decode, 15);
  const plug = { slot: 1, request: undefined, position: 0, tokens: Uint32Array.of(1), sample: false };
  record.addCall({ ...decode, entries: [...decode.entries, plug] }, 5);
  record.addCall(call("prefill", 100), 50);
  // Not as it was planned.
  record.addCall(call("prefill", 100, 0), 1000);
  expect(reportOf(record.takeStep())).toMatchObject({ decodeRatio: 1, prefillRatio: 0.5, plugs: 1 });
  record.addCall(call("decode", 10), 40);
  const next = reportOf(record.takeStep());
  expect(next).toMatchObject({ decodeRatio: 4, plugs: 0 });
  expect(next).not.toHaveProperty("prefillRatio");
});
