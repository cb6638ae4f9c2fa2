/**
 * Predicts what a call will cost, from two or three measurements at warm-up and every call since.
 *
 * `T(decode) = passes · pass + tokens · decodeToken` and `T(prefill) = pass + tokens · prefillToken`, each times
 * a smoothed ratio of observed to predicted time, which follows growing contexts and other load on the machine.
 */
import type { CostModel } from "./types.ts";

/** Weight of the newest observation: a long prompt's cells grow slowly, so a few calls are enough to follow. */
const SMOOTHING = 0.25;
/** One stalled call must not make the next thousand look unaffordable. */
const MIN_SCALE = 0.2;
const MAX_SCALE = 5;

export interface Calibration {
  /** A decode call of one sequence. */
  readonly decodeOneMs: number;
  /** A decode call of `sequences` adjacent sequences. */
  readonly decodeAllMs: number;
  readonly sequences: number;
  /** A prefill call of `prefillTokens` tokens. */
  readonly prefillMs: number;
  readonly prefillTokens: number;
}

export function calibratedCostModel(measured: Calibration): CostModel {
  const { decodeOneMs, decodeAllMs, sequences, prefillMs, prefillTokens } = measured;
  const slope = sequences > 1 ? (decodeAllMs - decodeOneMs) / (sequences - 1) : 0;
  const decodeTokenMs = Math.min(Math.max(slope, 0), decodeOneMs);
  const passMs = decodeOneMs - decodeTokenMs;
  return {
    passMs,
    decodeTokenMs,
    prefillTokenMs: Math.max(prefillMs - passMs, prefillMs * 0.1) / prefillTokens,
    decodeScale: 1,
    prefillScale: 1,
  };
}

/** In ms, for `tokens` sequences in `passes` device passes. */
export function decodeCallMs(cost: CostModel, tokens: number, passes: number): number {
  return cost.decodeScale * (passes * cost.passMs + tokens * cost.decodeTokenMs);
}

/** In ms, for one sequence's `tokens` prompt tokens in one device pass. */
export function prefillCallMs(cost: CostModel, tokens: number): number {
  return cost.prefillScale * (cost.passMs + tokens * cost.prefillTokenMs);
}

/** The model after a call of this kind took `observedMs` where `predictedMs` was expected. */
export function refinedCostModel(
  cost: CostModel,
  kind: "decode" | "prefill",
  observedMs: number,
  predictedMs: number,
): CostModel {
  if (!(predictedMs > 0)) return cost;
  const ratio = observedMs / predictedMs;
  const next = (scale: number): number =>
    Math.min(MAX_SCALE, Math.max(MIN_SCALE, scale * (1 + SMOOTHING * (ratio - 1))));
  return kind === "decode"
    ? { ...cost, decodeScale: next(cost.decodeScale) }
    : { ...cost, prefillScale: next(cost.prefillScale) };
}
