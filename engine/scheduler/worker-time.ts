/**
 * How the prefill worker and the engine's own steps share the device, and what comes of it for the times of both.
 */
import { prefillTokensMs } from "./cost-model.ts";
import { isLong, landingMs } from "./offload.ts";
import type { SchedulerConfig, SchedulerState } from "./types.ts";

/**
 * Time of the worker behind a step that brought streams their tokens, relative to it, within half of the inter-token
 * target: a step of three streams takes 25 ms on 2 cores (135M model), so that each has a token every 175.
 */
const TIMES_STEP = 6;
/** Of each step, what prompts are taken to get where they get nothing beside streams: it takes very long, and is a number. */
export const HARDLY_MS = 0.001;
/** Weight of its newest prompt in how fast it is, and the most that one says of that. */
const NEWEST = 0.25;
const MOST_SCALE = 5;

/**
 * How long the worker has the device behind a step, in ms.
 * @param decoded Whether the step brought streams their tokens.
 */
export function workerRestMs(state: SchedulerState, stepMs: number, decoded: boolean): number {
  const { config, offload, requests, slots } = state;
  const leastMs = config.minPrefillShare * stepMs;
  const away = requests.get(offload.current?.request ?? "");
  // What nobody wants any more, or not now, need not be quick, and whoever is of a higher class goes before.
  if (away === undefined || away.paused) return leastMs;
  for (const { holder: other } of slots)
    if (other?.phase === "prefill" && other.priority < away.priority) return leastMs;
  return fullRestMs(config, stepMs, decoded);
}

/** The same where it is to be quick and nobody goes before. */
function fullRestMs(
  { itlTargetMs, minPrefillShare }: SchedulerConfig,
  stepMs: number,
  decoded: boolean,
): number {
  const roomMs = Math.max(itlTargetMs / 2 - stepMs, Math.min(stepMs, itlTargetMs - stepMs));
  return Math.max(Math.min((decoded ? TIMES_STEP : 1) * stepMs, roomMs), minPrefillShare * stepMs);
}

/** The worker has computed a prompt of so many tokens, for which it had the device for so long. */
export function noteWorkerTime({ config, cost, offload }: SchedulerState, tokens: number, ms: number): void {
  const hereMs = prefillTokensMs(cost, config.prefillChunk, tokens, 0);
  if (hereMs > 0) offload.scale += NEWEST * (Math.min(MOST_SCALE, ms / hereMs) - offload.scale);
}

/** What of a prompt has to be computed, and what of it is there already. */
interface Prompt {
  readonly computedTokens: number;
  readonly reusedTokens?: number;
}

/** What the worker does to the times of others, and would do for a prompt. All in ms. */
export interface WorkerForecast {
  /** Until it has computed what it computes now; 0 where that is nothing. */
  readonly busyMs: number;
  /**
   * How long the engine takes for what it would take so long for if it had the device for itself.
   * @param lostMs What the worker has had of the device by then; absent is nothing.
   */
  readonly stretchedMs: (ms: number, lostMs?: number) => number;
  /** Until it has computed a prompt, and its cells are in the slot; undefined where it would not be given that. */
  readonly promptMs: (prompt: Prompt) => number | undefined;
}

/** @param stepMs What a step takes beside it that brings streams their tokens; 0 where there are none. */
export function workerForecast(state: SchedulerState, stepMs: number): WorkerForecast {
  const { config, cost, offload, requests } = state;
  const { current, computed, scale, employed } = offload;
  const deviceMs = (tokens: number, before: number): number =>
    scale * prefillTokensMs(cost, config.prefillChunk, tokens, before);
  const lastsMs = (ms: number, restMs: number): number =>
    stepMs === 0 ? ms : (ms * (stepMs + restMs)) / Math.max(HARDLY_MS, restMs);
  const isWanted = current !== undefined && requests.get(current.request)?.cancelled === false;
  const leftMs = isWanted ? deviceMs(current.tokens.length - computed, computed) : 0;
  const restMs = workerRestMs(state, stepMs, true);
  return {
    busyMs: leftMs === 0 ? 0 : lastsMs(leftMs, restMs),
    // What the worker takes is lost once, however it is dealt out.
    stretchedMs: (ms, lostMs = 0) =>
      stepMs === 0 ? ms : Math.min(ms * (1 + restMs / stepMs), ms + Math.max(0, leftMs - lostMs)),
    promptMs: ({ computedTokens, reusedTokens = 0 }) => {
      const tokens = computedTokens + reusedTokens;
      const landMs = employed && stepMs > 0 ? landingMs(state, tokens) : undefined;
      if (landMs === undefined || computedTokens < 2 * reusedTokens) return undefined;
      if (!isLong(state, computedTokens, reusedTokens)) return undefined;
      return lastsMs(deviceMs(tokens, 0), fullRestMs(config, stepMs, true)) + landMs;
    },
  };
}
