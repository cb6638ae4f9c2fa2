/**
 * Users at three times what a machine can do, simulated: how right the times are that the refused are told, while the
 * machine is as fast as it was, slower for a while or faster, fresh and behind other traffic.
 */
import { describe, expect, test } from "vitest";
import { defaultConfig } from "../../../engine/simulate/config.ts";
import { DEVICES } from "../../../engine/simulate/device.ts";
import { simulate } from "../../../engine/simulate/simulator.ts";
import type { SimulatedRequest } from "../../../engine/simulate/simulator.ts";

const OUTPUT_TOKENS = 64;
const TTFT_MS = 2000;
/** Eight slots serve three requests in four seconds, and users come three times as often. */
const GAP_MS = 440;
const ARRIVING_MS = 64_000;
const RETURN_MS = 5;

interface User {
  readonly refusals: { readonly atMs: number; readonly toldMs: number }[];
  letInMs: number | undefined;
  ttftMs: number | undefined;
  endMs: number | undefined;
}

/** Uniform numbers from 0 to 1, the same in every run. */
function uniform(seed: number): () => number {
  let state = 7919 * seed + 17;
  return () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
}

/** Texts of their own behind a system message that all have. */
function prompts(): (tokens: number) => SimulatedRequest["prompt"] {
  let first = 1000;
  return (tokens) => {
    first += tokens;
    return [
      { first: 1, tokens: 24 },
      { first: first - tokens, tokens },
    ];
  };
}

interface Surroundings {
  readonly seed: number;
  /** What calls take, in times of the device's, by the time since the first user came, in ms. */
  readonly slowness: (ms: number) => number;
  /** Whether another key has sent long prompts, and a third one more than was ever answered. */
  readonly behindOthers: boolean;
}

function run({ seed, slowness, behindOthers }: Surroundings) {
  const draw = uniform(seed);
  const prompt = prompts();
  const users: User[] = [];
  const trace: SimulatedRequest[] = [];
  const answer = { first: 3_000_000_000, tokens: OUTPUT_TOKENS };
  const request = (arrivalMs: number, tenant: string, tokens: number): SimulatedRequest => ({
    arrivalMs,
    tenant,
    priority: 1,
    prompt: prompt(tokens),
    output: answer,
    maxTokens: OUTPUT_TOKENS,
    patienceMs: undefined,
  });
  let fromMs = 0;
  if (behindOthers) {
    for (let i = 0; i < 100; i++) trace.push({ ...request(0, "greedy", 134), patienceMs: 30_000 });
    for (let i = 0; i < 6; i++) trace.push(request(30_000 + i, "long", 800));
    fromMs = 55_000;
  }
  // Eight clients, each of which asks again when it is answered.
  const usersFromMs = fromMs + 36_000;
  const client = (arrivalMs: number): SimulatedRequest => ({
    ...request(arrivalMs, "users", 134),
    next: (endMs) => (endMs < usersFromMs - 9000 ? client(endMs) : undefined),
  });
  for (let i = 0; i < 8; i++) trace.push(client(fromMs + i));
  const ask = (user: User, first: SimulatedRequest, arrivalMs: number): SimulatedRequest => ({
    ...first,
    arrivalMs,
    next: (endMs, end, toldMs = 0) => {
      if (end === "done") user.endMs = endMs;
      else user.refusals.push({ atMs: arrivalMs, toldMs });
      const backMs = arrivalMs + toldMs + RETURN_MS;
      return end === "done" || backMs > usersFromMs + 2 * ARRIVING_MS ? undefined : ask(user, first, backMs);
    },
  });
  let atMs = 0;
  while ((atMs -= GAP_MS * Math.log(draw())) < ARRIVING_MS) {
    const user: User = { refusals: [], letInMs: undefined, ttftMs: undefined, endMs: undefined };
    const visitor = String(users.push(user));
    const own = { ...request(0, "users", 134), firstTokenWithinMs: TTFT_MS, visitor };
    trace.push(ask(user, own, usersFromMs + atMs));
  }
  let drift = 0;
  const options = {
    config: defaultConfig("cpu"),
    device: DEVICES.cpu,
    // A little more and a little less from call to call, and what goes up and down in seconds.
    lasts: (nowMs: number, ms: number) => {
      drift = 0.99 * drift + 0.02 * (2 * draw() - 1);
      const noise = Math.exp(drift) * (1 + 0.08 * (2 * draw() - 1));
      return 1.35 * ms * noise * slowness(nowMs - usersFromMs);
    },
    check: false,
  };
  simulate(trace, options, {
    arrived: () => undefined,
    admitted: () => undefined,
    token: ({ spec, outputTokens }, gapMs) => {
      const user = users[Number(spec.visitor ?? 0) - 1];
      if (user === undefined || outputTokens > 1) return;
      user.letInMs = spec.arrivalMs;
      user.ttftMs = gapMs;
    },
    ended: () => undefined,
    called: () => undefined,
    stepped: () => undefined,
  });
  return { users, usersFromMs };
}

/** Of refusals of those who were let in, whose told time was within three tenths of what it took. */
function rightOf(users: readonly User[]): boolean[] {
  return users.flatMap(({ refusals, letInMs }) => {
    if (letInMs === undefined) return [];
    return refusals.map(({ atMs, toldMs }) => Math.abs(toldMs - (letInMs - atMs)) <= 0.3 * (letInMs - atMs));
  });
}

describe.each([
  { machine: "as fast as it was", slowness: () => 1, least: 46 },
  {
    machine: "slower for a while",
    slowness: (ms: number) => (ms > 20_000 && ms < 55_000 ? 1.35 : 1),
    least: 38,
  },
  { machine: "faster", slowness: (ms: number) => (ms > 10_000 ? 0.75 : 1), least: 58 },
])("a machine that is $machine", ({ slowness, least }) => {
  test.each([false, true])("behind other traffic: %s", (behindOthers) => {
    const runs = [1, 2, 3].map((seed) => run({ seed, slowness, behindOthers }));
    const right = runs.flatMap(({ users }) => rightOf(users));
    expect(right.length).toBeGreaterThan(300);
    expect(right.filter(Boolean).length / right.length).toBeGreaterThanOrEqual(0.9);
    const good = runs.map(
      ({ users, usersFromMs }) =>
        users.filter(
          ({ endMs = Infinity, ttftMs = Infinity }) =>
            endMs <= usersFromMs + ARRIVING_MS && ttftMs <= TTFT_MS,
        ).length,
    );
    // What is right could be had by serving nobody, too.
    expect(good.reduce((sum, one) => sum + one, 0) / good.length).toBeGreaterThanOrEqual(least);
  });
});
