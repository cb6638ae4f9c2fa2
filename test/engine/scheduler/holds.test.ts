/** Who waits for a prefix that another request computes waits no longer for it than computing it anew takes. */
import { describe, expect, test } from "vitest";
import { DEFAULT_FAIRNESS } from "../../../engine/scheduler/owners.ts";
import type { SchedulerState } from "../../../engine/scheduler/types.ts";
import { addRequest, planMs, runStep, schedulerState } from "../../support/scheduler.ts";

const text = (first: number, tokens: number): Uint32Array =>
  Uint32Array.from({ length: tokens }, (_, i) => first + i);

const SHARED = text(1, 200);

function sharing(tokens: number, first: number): Uint32Array {
  return Uint32Array.of(...SHARED, ...text(first, tokens - SHARED.length));
}

interface Traffic {
  readonly leader: { readonly tenant?: string; readonly priority: number };
  /** Prompts of 30 tokens, of which there is always one that is computed. */
  readonly others: { readonly tenant?: string; readonly priority: number };
  /** Whether the prompt begins as the leader's does. */
  readonly shares: boolean;
}

/** From the request's arrival to its first token, in ms, and how many prompt tokens were computed for it. */
function waited(state: SchedulerState, { leader, others, shares }: Traffic): [ms: number, computed: number] {
  let nowMs = 0;
  addRequest(state, "stream", { ...others, maxTokens: 1000 }, nowMs);
  addRequest(state, "before", { ...leader, maxTokens: 1 }, nowMs);
  while (state.requests.has("before")) nowMs += planMs(runStep(state, nowMs));
  addRequest(state, "leader", { ...leader, prompt: sharing(1000, 10_000), maxTokens: 5 }, nowMs);
  nowMs += planMs(runStep(state, nowMs));
  const startMs = nowMs;
  const prompt = shares ? sharing(210, 20_000) : text(20_000, 210);
  addRequest(state, "asks", { tenant: "asks", priority: 0, prompt, maxTokens: 2 }, nowMs);
  let computed = 0;
  for (let serial = 0; (state.requests.get("asks")?.output.length ?? 0) === 0;) {
    if (![...state.requests.values()].some(({ id, phase }) => id.startsWith("other") && phase !== "decode"))
      addRequest(
        state,
        `other${serial++}`,
        { ...others, prompt: text(100_000 * serial, 30), maxTokens: 2 },
        nowMs,
      );
    const plan = runStep(state, nowMs);
    for (const { kind, entries } of plan.calls)
      for (const { request, tokens } of entries)
        if (kind === "prefill" && request === "asks") computed += tokens.length;
    nowMs += planMs(plan);
    if (nowMs > 100_000) break;
  }
  return [nowMs - startMs, computed];
}

const busy = (weights: Readonly<Record<string, number>> = {}): SchedulerState => {
  const { others } = DEFAULT_FAIRNESS;
  const owners = new Map(Object.entries(weights).map(([name, weight]) => [name, { ...others, weight }]));
  const fairness = { ...DEFAULT_FAIRNESS, owners };
  return schedulerState({ slots: 6, contextTokens: 1100, itlTargetMs: 60, fairness });
};

describe("a request that waits for a prefix", () => {
  test("lends its class to who computes it, as far as that", () => {
    const traffic = { leader: { priority: 3 }, others: { priority: 0 } };
    // Ten tokens of the prompt are its own, of which the last is fed as the first decode token.
    expect(waited(busy(), { ...traffic, shares: true })).toEqual([862, 9]);
    expect(waited(busy(), { ...traffic, shares: false })).toEqual([1442, 209]);
  });

  test("computes the rest itself where the turn of who computes it does not come", () => {
    const traffic = { leader: { tenant: "slow", priority: 0 }, others: { tenant: "heavy", priority: 0 } };
    const weights = { slow: 0.001, heavy: 100, asks: 100 };
    expect(waited(busy(weights), { ...traffic, shares: true })).toEqual([2045, 199]);
    expect(waited(busy(weights), { ...traffic, shares: false })).toEqual([902, 209]);
  });
});
