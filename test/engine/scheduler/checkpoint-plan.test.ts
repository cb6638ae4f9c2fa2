/** Which checkpoints are planned, and who waits or goes first for them. */
import { describe, expect, test } from "vitest";
import { MOST_CHECKPOINTS } from "../../../engine/scheduler/checkpoint-transitions.ts";
import type { BoundaryOperation, SchedulerConfig, StepPlan } from "../../../engine/scheduler/types.ts";
import { addRequest, runStep, schedulerState, SPILL_COST } from "../../support/scheduler.ts";

const text = (first: number, tokens: number): Uint32Array =>
  Uint32Array.from({ length: tokens }, (_, i) => first + i);
const joined = (...texts: readonly Uint32Array[]): Uint32Array =>
  Uint32Array.from(texts.flatMap((tokens) => [...tokens]));

const memory = (
  needs: "none" | "cells" | "own-cells",
  bytes: number,
  config: Partial<SchedulerConfig> = {},
): Partial<SchedulerConfig> => ({ canRewind: false, checkpoints: { needs, bytes }, ...config });

const typesOf = ({ boundary }: StepPlan): BoundaryOperation["type"][] => boundary.map(({ type }) => type);

describe.each(["none", "cells"] as const)("prompts that open alike and come together, needs: %s", (needs) => {
  const prompts = [500, 600, 700].map((tail) => joined(text(1, 34), text(tail, 20)));

  test.each([10_000, 1])("wait no longer than for what they get: room for %d bytes", (bytes) => {
    const state = schedulerState({ ...memory(needs, bytes), slots: 3 });
    prompts.forEach((prompt, i) => addRequest(state, `r${i}`, { prompt, maxTokens: 2 }));
    const plans = Array.from({ length: 4 }, (_, step) => runStep(state, step));
    expect(plans.map(({ held }) => held.length)).toEqual([2, 2, 2, 0]);
    // The first one stands where they part, and is copied there whether or not that is kept.
    expect(plans[3]?.assignments.map(({ reuse, copyFrom }) => [reuse, copyFrom])).toEqual([
      [30, 0],
      [30, 0],
    ]);
    expect(plans.some((plan) => typesOf(plan).includes("checkpoint"))).toBe(bytes > 1);
  });

  test.each([{ slotChoice: "oldest" }, { prefixHolds: false }] as const)("do not wait with %j", (policy) => {
    const state = schedulerState({ ...memory(needs, 10_000, policy), slots: 3 });
    prompts.forEach((prompt, i) => addRequest(state, `r${i}`, { prompt, maxTokens: 2 }));
    const plans = Array.from({ length: 8 }, (_, step) => runStep(state, step));
    expect(plans.flatMap(({ held }) => held)).toEqual([]);
  });
});

test("of one owner who has a checkpoint to come back to goes before who has nothing, also where its slot is gone", () => {
  const state = schedulerState({ ...memory("none", 10_000), slots: 1 });
  let nowMs = 0;
  const finish = (): string[] => {
    const admitted: string[] = [];
    while (state.requests.size > 0)
      admitted.push(...runStep(state, (nowMs += 10)).assignments.map(({ request }) => request));
    return admitted;
  };
  addRequest(state, "first", { prompt: text(1, 80), maxTokens: 1 });
  finish();
  addRequest(state, "other", { prompt: text(3000, 40), maxTokens: 1 }, nowMs);
  finish();
  addRequest(state, "cold", { prompt: text(5000, 40), maxTokens: 1 }, nowMs);
  addRequest(state, "warm", { prompt: joined(text(1, 79), text(900, 5)), maxTokens: 1 }, nowMs);
  expect(finish()).toEqual(["warm", "cold"]);
});

test("files and checkpoints of a step have one share of its time, beside which prefill has what is left", () => {
  const slow = { callMs: 40, byteMs: 0, scale: 1 };
  const both = new Set<string>();
  for (const itlTargetMs of [45, 60, 90, 130]) {
    const state = schedulerState({
      ...memory("cells", 100_000, { spillBytes: 100_000, itlTargetMs }),
      slots: 3,
    });
    const spill = { ...SPILL_COST, save: slow, restore: slow };
    const checkpoint = { fileBytes: 20, tokenBytes: 0, save: slow, restore: slow };
    state.cost = { ...state.cost, prefillTokenMs: 20, spill, checkpoint };
    let nowMs = 0;
    addRequest(state, "stream", { maxTokens: 150 }, nowMs);
    for (let round = 0; round < 25; round++) {
      for (const i of [0, 1, 2])
        addRequest(state, `r${round} ${i}`, {
          prompt: joined(text(1000 * ((round + i) % 4), 60), text(10_000 * round + 100 * i, 11)),
          maxTokens: 1,
        });
      for (let step = 0; step < 20; step++) {
        // Invariants say that what is kept is counted and fits.
        const plan = runStep(state, (nowMs += 100));
        const kinds = new Set(typesOf(plan).filter((type) => type !== "truncate" && type !== "copy"));
        if (plan.calls[0]?.kind === "decode") both.add([...kinds].sort().join(" "));
      }
    }
  }
  expect([...both].filter((kinds) => kinds.includes("checkpoint")).length).toBeGreaterThan(0);
  expect([...both].filter((kinds) => /checkpoint.*save|rewind.*save/.test(kinds)).length).toBeGreaterThan(0);
});

test("they are never more than a plan can look at, and what is worth least goes", () => {
  const state = schedulerState({ ...memory("none", 1e9), slots: 4 });
  let nowMs = 0;
  let forgotten = 0;
  addRequest(state, "wanted", { prompt: text(1, 150), maxTokens: 1 });
  for (let i = 0; i < 2 * MOST_CHECKPOINTS; i++) {
    addRequest(state, `r${i}`, { prompt: text(1000 * (i + 1), 25), maxTokens: 1 }, nowMs);
    for (let step = 0; step < 6; step++) {
      const plan = runStep(state, (nowMs += 10));
      forgotten += typesOf(plan).filter((type) => type === "forget").length;
    }
    expect(state.checkpoints?.kept.size).toBeLessThanOrEqual(MOST_CHECKPOINTS);
  }
  expect([state.checkpoints?.kept.size, forgotten > MOST_CHECKPOINTS]).toEqual([MOST_CHECKPOINTS, true]);
  // Worth six times as much as each of the others.
  addRequest(state, "again", { prompt: text(1, 150), maxTokens: 1 }, nowMs);
  expect(runStep(state, nowMs).assignments[0]?.reuse).toBeGreaterThanOrEqual(120);
});

test("of a prompt that is to be kept they are taken also where they would not pay otherwise", () => {
  for (const [keepMs, taken] of [
    [0, 1],
    [86_400_000, 3],
  ] as const) {
    const state = schedulerState({ ...memory("none", 10_000), slots: 1 });
    const slow = { callMs: 5, byteMs: 0, scale: 1 };
    state.cost = {
      ...state.cost,
      checkpoint: { fileBytes: 20, tokenBytes: 0, save: slow, restore: slow },
    };
    addRequest(state, "r", { prompt: text(1, 31), maxTokens: 1, keepMs });
    for (let step = 0; step < 8; step++) runStep(state, step);
    expect(state.checkpoints?.kept.size).toBe(taken);
  }
});
