/** More requests than can be served, in simulated time: those let in are answered in time, the others are told when to come back. */
import { describe, expect, test } from "vitest";
import { EngineError } from "../../../engine/errors.ts";
import { takeExpired } from "../../../engine/scheduler/deadlines.ts";
import { release } from "../../../engine/scheduler/transitions.ts";
import type { SchedulerState } from "../../../engine/scheduler/types.ts";
import { addRequest, planMs, runStep, schedulerState } from "../../support/scheduler.ts";

/** What a client of the simulation sees. */
interface Seen {
  readonly owner: string;
  readonly arrivalMs: number;
  ttftMs: number | undefined;
  refusal: EngineError | undefined;
}

interface Traffic {
  readonly owner: string;
  readonly atMs: readonly number[];
  readonly promptTokens: number;
  readonly maxTokens: number;
  readonly firstTokenWithinMs?: number;
}

/** Evenly drawn gaps around a mean, the same in every run. */
function arrivals(count: number, meanGapMs: number, seed: number): number[] {
  let atMs = 0;
  let random = seed;
  return Array.from({ length: count }, () => {
    random = (random * 48_271) % 2_147_483_647;
    return (atMs += (2 * meanGapMs * random) / 2_147_483_647);
  });
}

function simulate(state: SchedulerState, traffic: readonly Traffic[], untilMs: number): Seen[] {
  const due = traffic
    .flatMap((line) => line.atMs.map((atMs) => ({ ...line, atMs })))
    .sort((a, b) => a.atMs - b.atMs);
  const seen: Seen[] = [];
  let nowMs = 0;
  let next = 0;
  while (nowMs < untilMs && (next < due.length || state.requests.size > 0)) {
    for (let line = due[next]; line !== undefined && line.atMs <= nowMs; line = due[++next]) {
      const { owner, promptTokens, maxTokens, firstTokenWithinMs } = line;
      const one: Seen = { owner, arrivalMs: line.atMs, ttftMs: undefined, refusal: undefined };
      seen.push(one);
      const prompt = Uint32Array.from({ length: promptTokens }, (_, i) => 1000 * next + i);
      const request = { tenant: owner, prompt, maxTokens, firstTokenWithinMs };
      try {
        addRequest(state, String(seen.length - 1), request, nowMs);
      } catch (error) {
        one.refusal = error instanceof EngineError ? error : undefined;
      }
    }
    for (const request of takeExpired(state, nowMs)) release(state, request, nowMs);
    const plan = runStep(state, nowMs, false);
    // A step that does nothing waits for the next arrival.
    nowMs = plan.calls.length === 0 ? (due[next]?.atMs ?? untilMs) : nowMs + planMs(plan);
    for (const { entries } of plan.calls)
      for (const { request, sample } of entries) {
        const one = seen[Number(request ?? -1)];
        if (one !== undefined && sample) one.ttftMs ??= nowMs - one.arrivalMs;
      }
  }
  return seen;
}

const sizes = { slots: 8, contextTokens: 400, prefillChunk: 16, maxQueued: 100_000 };
const WORK = { promptTokens: 48, maxTokens: 40 };

describe("three times as many requests as can be served", () => {
  const UNTIL_MS = 60_000;
  const WITHIN_MS = 2000;
  const full = simulate(
    schedulerState(sizes),
    [{ owner: "a", atMs: Array.from({ length: 1000 }, () => 0), ...WORK }],
    UNTIL_MS,
  ).filter(({ ttftMs }) => ttftMs !== undefined).length;
  const seen = simulate(
    schedulerState(sizes),
    [
      {
        owner: "a",
        atMs: arrivals(3 * full, UNTIL_MS / (3 * full), 7),
        ...WORK,
        firstTokenWithinMs: WITHIN_MS,
      },
    ],
    UNTIL_MS,
  );
  const settled = seen.filter(({ arrivalMs }) => arrivalMs < UNTIL_MS - WITHIN_MS);
  const refused = seen.flatMap(({ refusal }) => refusal ?? []);

  test("nine tenths of what can be served is served in time", () => {
    const inTime = seen.filter(({ ttftMs }) => ttftMs !== undefined && ttftMs <= WITHIN_MS).length;
    expect(inTime).toBeGreaterThanOrEqual(0.9 * full);
  });

  test("hardly any request is let in and then late; the others are refused when they come", () => {
    const late = settled.filter(
      ({ ttftMs, refusal }) => refusal === undefined && !(ttftMs !== undefined && ttftMs <= WITHIN_MS),
    );
    expect(late.length).toBeLessThan(0.05 * seen.length);
    expect(new Set(refused.map(({ code }) => code))).toEqual(new Set(["first_token_too_late"]));
    expect(refused.length).toBeGreaterThan(seen.length / 2);
  });

  test("all of the refused are told a time between a millisecond and a minute", () => {
    const times = refused.map(({ details }) => details?.["retryAfterMs"] ?? 0);
    expect(Math.min(...times)).toBeGreaterThanOrEqual(1);
    expect(Math.max(...times)).toBeLessThanOrEqual(60_000);
  });
});

test("row 82: a key with a few requests hardly notices one with two hundred", () => {
  const few = { owner: "few", atMs: [20_000, 24_000, 28_000, 32_000, 36_000], ...WORK };
  const many = {
    owner: "many",
    atMs: Array.from({ length: 200 }, () => 0),
    promptTokens: 48,
    maxTokens: 150,
  };
  const slowest = (seen: readonly Seen[]): number =>
    Math.max(...seen.filter(({ owner }) => owner === "few").map(({ ttftMs }) => ttftMs ?? Infinity));
  // Room for a prompt of this size in one step.
  const roomy = { ...sizes, itlTargetMs: 200 };
  const alone = slowest(simulate(schedulerState(roomy), [few], 60_000));
  const beside = slowest(simulate(schedulerState(roomy), [few, many], 60_000));
  expect(beside).toBeLessThanOrEqual(1.5 * alone);
});
