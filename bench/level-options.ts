/** The options of levels: clients that ask again when they are answered, or an open loop; and the scenarios that are made of levels. */
import type { ArrivalRate } from "./arrivals.ts";
import { MOST_OPEN } from "./closed-loop.ts";
import type { LevelLength } from "./closed-loop.ts";
import { OptionsExit } from "./option-values.ts";
import type { Objective } from "./simulate/collector.ts";

/** As given; undefined where they are not. */
export interface LevelFlags {
  readonly concurrency?: readonly number[];
  readonly requests?: number;
  /** In seconds. */
  readonly duration?: number;
  readonly rate?: number;
  readonly burstiness?: number;
  readonly isl?: number;
  readonly osl?: number;
  readonly sharedPrefix?: number;
  /** In ms. */
  readonly ttft?: number;
  readonly itl?: number;
}

/** What levels consist of. */
export interface LevelPlan {
  readonly concurrency: readonly number[];
  /** Undefined: as many requests as `defaultRequests` says. */
  readonly length: LevelLength | undefined;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly sharedPrefixTokens: number;
  /** Present: requests within it are counted. */
  readonly objective?: Objective;
  /** Present: an open loop, with the one level of `concurrency` as the most open requests. */
  readonly arrivals?: ArrivalRate;
  /** Whether the levels end where more clients do not get more. */
  readonly untilSaturated?: boolean;
}

export const DEFAULT_LEVELS = [1, 4, 8, 16];

const LEVELS = ["requests", "duration", "isl", "osl", "sharedPrefix", "ttft", "itl"] as const;

export const LEVELS_TAKE = [...LEVELS, "concurrency", "rate", "burstiness"] as const;

interface LevelScenario {
  readonly name: string;
  readonly about: string;
  readonly takes: readonly (keyof LevelFlags)[];
  /** What it sets of the flags that it does not take, or where they are not given. */
  readonly flags: (given: LevelFlags) => LevelFlags;
  readonly untilSaturated?: boolean;
}

/** Clients of `saturate`. */
const DOUBLING = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const DEFAULT_RATE = 1;
const BURSTS = 0.25;

export const LEVEL_SCENARIOS: readonly LevelScenario[] = [
  {
    name: "saturate",
    about:
      "1, 2, 4, ... clients (at most 256), until twice as many get less than 5 % more tokens of --isl (128) and --osl (128) a second",
    takes: LEVELS,
    flags: (given) => ({ ...given, concurrency: DOUBLING }),
    untilSaturated: true,
  },
  {
    name: "poisson",
    about: "--rate requests a second (1) that come independently of each other, answered or not",
    takes: [...LEVELS, "rate"],
    flags: (given) => ({ ...given, rate: given.rate ?? DEFAULT_RATE, burstiness: 1 }),
  },
  {
    name: "burst",
    about: "--rate requests a second (1) that come in bursts, the sharper the smaller --burstiness (0.25) is",
    takes: [...LEVELS, "rate", "burstiness"],
    flags: (given) => ({
      ...given,
      rate: given.rate ?? DEFAULT_RATE,
      burstiness: given.burstiness ?? BURSTS,
    }),
  },
];

/** Undefined for what is no scenario of levels. */
export function levelScenario(name: string | undefined): LevelScenario | undefined {
  return LEVEL_SCENARIOS.find((known) => known.name === name);
}

/**
 * @param scenario Undefined for levels by themselves.
 * @throws {OptionsExit} When they contradict each other.
 */
export function levelPlan(given: LevelFlags, scenario?: LevelScenario): LevelPlan {
  const flags = scenario?.flags(given) ?? given;
  const { rate, burstiness = 1, concurrency = DEFAULT_LEVELS, ttft, itl } = flags;
  if (rate === undefined && flags.burstiness !== undefined)
    throw new OptionsExit(2, "error: --burstiness has no meaning without --rate");
  const promptTokens = flags.isl ?? 128;
  const sharedPrefixTokens = flags.sharedPrefix ?? 0;
  if (sharedPrefixTokens >= promptTokens)
    throw new OptionsExit(2, "error: --shared-prefix must be smaller than --isl, so that prompts differ");
  const levels = {
    promptTokens,
    outputTokens: flags.osl ?? 128,
    sharedPrefixTokens,
    // What is not given is not asked for.
    ...(ttft === undefined && itl === undefined
      ? {}
      : { objective: { ttftMs: ttft ?? Infinity, itlMs: itl ?? Infinity } }),
  };
  const untilSaturated = scenario?.untilSaturated === true ? { untilSaturated: true } : {};
  if (rate === undefined) return { ...levels, ...untilSaturated, concurrency, length: levelLength(flags) };
  return {
    ...levels,
    concurrency: [MOST_OPEN],
    length: levelLength(flags) ?? { requests: Math.max(8, Math.ceil(60 * rate)) },
    arrivals: { perSecond: rate, burstiness },
  };
}

export function levelLength({ requests, duration: length }: LevelFlags): LevelLength | undefined {
  if (length !== undefined) return { durationMs: length * 1000 };
  return requests === undefined ? undefined : { requests };
}
