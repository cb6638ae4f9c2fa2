/** More requests than can be served, in simulated time: those let in are answered in time, the others are told when to come back. */
import { describe, expect, test } from "vitest";
import { EngineError } from "../../../engine/errors.ts";
import { takeExpired } from "../../../engine/scheduler/deadlines.ts";
import { noteFirstToken } from "../../../engine/scheduler/forecast-margin.ts";
import { release } from "../../../engine/scheduler/transitions.ts";
import type { SchedulerState } from "../../../engine/scheduler/types.ts";
import { addRequest, planMs, runStep, schedulerState } from "../../support/scheduler.ts";
import { SimulatedWorker } from "../../support/simulated-worker.ts";

/** What a client of the simulation sees. */
interface Seen {
  readonly owner: string;
  readonly arrivalMs: number;
  /** Since it was sent last. */
  ttftMs: number | undefined;
  /** Of each refusal when it came and when it said to come back, since then. */
  readonly refusals: { readonly atMs: number; readonly toldMs: number }[];
  letInMs: number | undefined;
  refusal: EngineError | undefined;
}

interface Traffic {
  readonly owner: string;
  readonly atMs: readonly number[];
  readonly promptTokens: number;
  readonly maxTokens: number;
  readonly firstTokenWithinMs?: number;
  /** Whether those who are refused come back when they are told to; absent is no. */
  readonly returns?: boolean;
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

interface Machine {
  /** What steps take, over what is predicted of them. */
  readonly slowness?: (nowMs: number) => number;
  readonly worker?: SimulatedWorker;
}

function simulate(
  state: SchedulerState,
  traffic: readonly Traffic[],
  untilMs: number,
  { slowness = () => 1, worker }: Machine = {},
): Seen[] {
  const seen: Seen[] = [];
  const due = traffic.flatMap((line) =>
    line.atMs.map((atMs) => ({ ...line, atMs, one: undefined as Seen | undefined })),
  );
  const inOrder = (): void => void due.sort((a, b) => a.atMs - b.atMs);
  inOrder();
  let nowMs = 0;
  while (nowMs < untilMs && (due.length > 0 || state.requests.size > 0)) {
    for (let line = due[0]; line !== undefined && line.atMs <= nowMs; line = due[0]) {
      due.shift();
      const { owner, promptTokens, maxTokens, firstTokenWithinMs, atMs } = line;
      const one: Seen = line.one ?? {
        owner,
        arrivalMs: atMs,
        ttftMs: undefined,
        refusals: [],
        letInMs: undefined,
        refusal: undefined,
      };
      if (line.one === undefined) seen.push(one);
      const id = String(seen.indexOf(one));
      const prompt = Uint32Array.from({ length: promptTokens }, (_, i) => 1000 * Number(id) + i);
      const request = { tenant: owner, prompt, maxTokens, firstTokenWithinMs };
      try {
        addRequest(state, id, request, nowMs);
        one.letInMs = nowMs;
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        one.refusal = error;
        const toldMs = error.details?.["retryAfterMs"] ?? 0;
        one.refusals.push({ atMs: nowMs, toldMs });
        if (line.returns !== true) continue;
        due.push({ ...line, atMs: nowMs + toldMs, one });
        inOrder();
      }
    }
    for (const request of takeExpired(state, nowMs)) release(state, request, nowMs);
    const plan = runStep(state, nowMs, false);
    const stepMs = planMs(plan) * slowness(nowMs);
    const restMs = worker?.rest(stepMs) ?? 0;
    // A step that does nothing waits for the next arrival.
    nowMs = stepMs + restMs === 0 ? (due[0]?.atMs ?? untilMs) : nowMs + stepMs + restMs;
    for (const { entries } of plan.calls)
      for (const { request, sample } of entries) {
        const one = seen[Number(request ?? -1)];
        if (one === undefined || !sample || one.ttftMs !== undefined) continue;
        one.ttftMs = nowMs - (one.letInMs ?? 0);
        const scheduled = state.requests.get(request ?? "");
        if (scheduled !== undefined) noteFirstToken(state, scheduled, nowMs);
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
  const traffic: Traffic = {
    owner: "a",
    atMs: arrivals(3 * full, UNTIL_MS / (3 * full), 7),
    ...WORK,
    firstTokenWithinMs: WITHIN_MS,
  };
  const seen = simulate(schedulerState(sizes), [traffic], UNTIL_MS);
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

  test("all of the refused are told a time, which is ten minutes at most", () => {
    const times = refused.map(({ details }) => details?.["retryAfterMs"] ?? 0);
    expect(Math.min(...times)).toBeGreaterThanOrEqual(1);
    expect(Math.max(...times)).toBeLessThanOrEqual(600_000);
  });

  describe("who come back when they are told to", () => {
    const returning = simulate(schedulerState(sizes), [{ ...traffic, returns: true }], 4 * UNTIL_MS);

    test("nine tenths of what can be served is served in time, and nobody for nothing", () => {
      const whileArriving = returning.filter(
        ({ letInMs, ttftMs }) =>
          letInMs !== undefined && ttftMs !== undefined && letInMs + ttftMs <= UNTIL_MS,
      );
      const inTime = whileArriving.filter(({ ttftMs }) => (ttftMs ?? Infinity) <= WITHIN_MS).length;
      expect(inTime).toBeGreaterThanOrEqual(0.9 * full);
      expect(whileArriving.length - inTime).toBeLessThanOrEqual(0.05 * full);
    });

    test("what they were told is right within three tenths for nine of ten, and all are let in in the end", () => {
      const refusals = returning.flatMap(({ refusals: all, letInMs }) =>
        all.map(({ atMs, toldMs }) => ({ toldMs, tookMs: (letInMs ?? Infinity) - atMs })),
      );
      expect(Math.max(...refusals.map(({ toldMs }) => toldMs))).toBeGreaterThan(60_000);
      const right = refusals.filter(({ toldMs, tookMs }) => Math.abs(toldMs - tookMs) <= 0.3 * tookMs);
      expect(right.length).toBeGreaterThanOrEqual(0.9 * refusals.length);
      // Most of them once.
      expect(refusals.length).toBeLessThanOrEqual(1.2 * returning.length);
      expect(returning.every(({ letInMs }) => letInMs !== undefined)).toBe(true);
    });
  });
});

/** Of those let in, how many were not answered in time, and how many were. */
function outcome(seen: readonly Seen[], { firstTokenWithinMs = 0 }: Traffic, untilMs: number) {
  const letIn = seen.filter(({ letInMs = Infinity }) => letInMs < untilMs - firstTokenWithinMs);
  const good = letIn.filter(({ ttftMs = Infinity }) => ttftMs <= firstTokenWithinMs).length;
  return { late: letIn.length - good, good };
}

test("on a machine that is held up every now and then, those let in are answered in time nearly always", () => {
  const UNTIL_MS = 120_000;
  const slowness = (nowMs: number): number => (Math.floor(nowMs / 2000) % 4 === 0 ? 1.4 : 1);
  const traffic = (atMs: readonly number[], firstTokenWithinMs: number): Traffic => ({
    owner: "a",
    atMs,
    ...WORK,
    firstTokenWithinMs,
  });
  const all = traffic(
    Array.from({ length: 1000 }, () => 0),
    Infinity,
  );
  const full = simulate(schedulerState(sizes), [all], UNTIL_MS, { slowness }).filter(
    ({ ttftMs }) => ttftMs !== undefined,
  ).length;
  const many = traffic(arrivals(3 * full, UNTIL_MS / (3 * full), 7), 2000);
  const { late, good } = outcome(
    simulate(schedulerState(sizes), [many], UNTIL_MS, { slowness }),
    many,
    UNTIL_MS,
  );
  expect(good).toBeGreaterThanOrEqual(0.9 * full);
  expect(late).toBeLessThanOrEqual(0.02 * good);
});

test.each([4000, 8000])(
  "beside a slow prefill worker, too, of those let in for %i ms",
  (firstTokenWithinMs) => {
    const UNTIL_MS = 120_000;
    const state = schedulerState({ ...sizes, contextTokens: 2000, spillBytes: 1e9 });
    const worker = new SimulatedWorker(state, 2);
    const few = { owner: "a", ...WORK, atMs: arrivals(477, 250, 7), firstTokenWithinMs };
    const long = { ...few, promptTokens: 300, atMs: arrivals(80, 1500, 11) };
    const { late, good } = outcome(simulate(state, [few, long], UNTIL_MS, { worker }), few, UNTIL_MS);
    expect(late).toBeLessThanOrEqual(0.02 * good);
    expect(worker.computed).toBeGreaterThan(0);
  },
);

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
