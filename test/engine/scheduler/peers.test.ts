/** What other schedulers' tests ask of theirs and no other test here names. */
import { describe, expect, test } from "vitest";
import { DEFAULT_FAIRNESS } from "../../../engine/scheduler/owners.ts";
import { cancel } from "../../../engine/scheduler/transitions.ts";
import { addRequest, runStep, schedulerState } from "../../support/scheduler.ts";

const text = (first: number, tokens: number): Uint32Array =>
  Uint32Array.from({ length: tokens }, (_, i) => first + i);

describe("as vLLM's tests ask", () => {
  test("adding N requests leaves N waiting, and each that ends is gone from everywhere", () => {
    const state = schedulerState({ slots: 2 });
    for (let i = 0; i < 5; i++) addRequest(state, `r${i}`, { maxTokens: 1 });
    expect([state.queue.size, state.requests.size]).toEqual([5, 5]);
    const open: number[] = [];
    for (let nowMs = 0; state.requests.size > 0; nowMs++) {
      runStep(state, nowMs);
      open.push(state.requests.size);
    }
    expect(open.at(-1)).toBe(0);
    expect([...open].sort((a, b) => b - a)).toEqual(open);
    expect([state.queue.size, state.slots.filter(({ owner }) => owner !== undefined).length]).toEqual([0, 0]);
  });

  test("requests that all fit are all computed in one step, whole and in order", () => {
    const state = schedulerState({ slots: 3, itlTargetMs: 1000 });
    addRequest(state, "decoding", { maxTokens: 9 });
    runStep(state, 0);
    addRequest(state, "a", { prompt: text(1, 9) });
    addRequest(state, "b", { prompt: text(100, 8) });
    const prefills = runStep(state, 1).calls.filter(({ kind }) => kind === "prefill");
    expect(
      prefills.flatMap(({ entries }) => entries.map((e) => [e.request, e.position, e.tokens.length])),
    ).toEqual([
      ["a", 0, 8],
      ["b", 0, 7],
    ]);
  });

  test("a request that lost its slot gets one before newer ones of its class", () => {
    const state = schedulerState({ slots: 1, fairness: { ...DEFAULT_FAIRNESS, agingQuantumMs: 1e9 } });
    addRequest(state, "loser", { priority: 2, maxTokens: 150 });
    for (let nowMs = 0; nowMs < 3; nowMs++) runStep(state, nowMs);
    addRequest(state, "newer", { priority: 2, maxTokens: 1 });
    addRequest(state, "high", { priority: 0, maxTokens: 1 });
    const order: string[] = [];
    for (let nowMs = 3; nowMs < 12; nowMs++)
      order.push(...runStep(state, nowMs).assignments.map(({ request }) => request));
    expect(order.slice(0, 2)).toEqual(["high", "loser"]);
  });

  test("requests of equal classes and owners never take each other's slots", () => {
    const state = schedulerState({ slots: 1 });
    for (const id of ["a", "b", "c"]) addRequest(state, id, { maxTokens: 100 });
    const lost: string[] = [];
    for (let nowMs = 0; nowMs < 200; nowMs++)
      lost.push(...runStep(state, nowMs * 1000).evictions.map(({ request }) => request));
    expect(lost).toEqual([]);
  });

  test("cancelling a request that waits for a prefix frees what was kept for it", () => {
    const state = schedulerState({ slots: 2 });
    const prompt = text(1, 80);
    addRequest(state, "leader", { prompt, maxTokens: 2 });
    addRequest(state, "held", { prompt, maxTokens: 2 });
    runStep(state, 0);
    expect(runStep(state, 1).held).toEqual(["held"]);
    cancel(state, "held", 2);
    addRequest(state, "next", { maxTokens: 2 });
    expect(runStep(state, 2).assignments.map(({ request }) => request)).toEqual(["next"]);
  });
});

test("as mistral.rs's tests ask, a prompt computed again after a lost slot is charged once", () => {
  const state = schedulerState({ slots: 1, fairness: { ...DEFAULT_FAIRNESS, agingQuantumMs: 1e9 } });
  addRequest(state, "loser", { tenant: "a", priority: 2, prompt: text(1, 50), maxTokens: 100 });
  for (let nowMs = 0; nowMs < 8; nowMs++) runStep(state, nowMs);
  const charged = state.owners.get("a")?.served ?? 0;
  const drawn = state.requests.get("loser")?.output.length ?? 0;
  expect(charged).toBe(50 + 2 * drawn);
  addRequest(state, "high", { tenant: "b", priority: 0, maxTokens: 1 });
  for (let nowMs = 8; nowMs < 30; nowMs++) runStep(state, nowMs);
  const loser = state.requests.get("loser");
  expect(loser?.evictions).toBe(1);
  expect(state.owners.get("a")?.served).toBe(50 + 2 * (loser?.output.length ?? 0));
});
