/**
 * Predicts what a call will cost, from a few measurements at warm-up and every call since.
 *
 * Decode is a table by width of the device pass, because kernels step rather than slope; prefill is a line.
 * Both are times a smoothed ratio of observed to predicted time, which follows growing contexts and other load.
 */
import type { CostModel } from "./types.ts";

/** Weight of the newest observation: a long prompt's cells grow slowly, so a few calls are enough to follow. */
const SMOOTHING = 0.25;
/** One stalled call must not make the next thousand look unaffordable. */
const MIN_SCALE = 0.2;
const MAX_SCALE = 5;

export interface Calibration {
  /** Decode passes over adjacent slots, by ascending width; the first of width 1, the last of all slots. */
  readonly decode: readonly { readonly width: number; readonly ms: number }[];
  /** Two prefill calls of different length, the shorter first. */
  readonly prefill: readonly { readonly tokens: number; readonly ms: number }[];
  readonly copyMs: number;
}

export function calibratedCostModel({ decode, prefill, copyMs }: Calibration): CostModel {
  const [short, long] = [prefill[0], prefill.at(-1)];
  const shortMs = short?.ms ?? 0;
  const longMs = Math.max(long?.ms ?? 0, shortMs);
  const tokensBetween = (long?.tokens ?? 0) - (short?.tokens ?? 0);
  const slope = tokensBetween > 0 ? (longMs - shortMs) / tokensBetween : 0;
  // Where the two do not tell call from token, all of it is put on the tokens.
  const prefillTokenMs = slope > 0 ? slope : longMs / Math.max(1, long?.tokens ?? 1);
  return {
    decodePassMs: interpolated(decode),
    prefillCallMs: Math.max(0, longMs - prefillTokenMs * (long?.tokens ?? 0)),
    prefillTokenMs,
    copyMs,
    decodeScale: 1,
    prefillScale: 1,
  };
}

/** In ms, for device passes over so many adjacent slots each. */
export function decodeCallMs(cost: CostModel, passWidths: readonly number[]): number {
  let ms = 0;
  for (const width of passWidths) ms += cost.decodePassMs[width] ?? 0;
  return cost.decodeScale * ms;
}

/** In ms, for one sequence's `tokens` prompt tokens in one device pass. */
export function prefillCallMs(cost: CostModel, tokens: number): number {
  return cost.prefillScale * (cost.prefillCallMs + tokens * cost.prefillTokenMs);
}

/**
 * The model after a call of this kind took `observedMs`.
 * @param unscaledMs What the model expects of it without its scale; 0 teaches nothing. The scale moves towards
 * the ratio of the two rather than by it, so that many calls planned together do not overshoot.
 */
export function refinedCostModel(
  cost: CostModel,
  kind: "decode" | "prefill",
  observedMs: number,
  unscaledMs: number,
): CostModel {
  if (!(unscaledMs > 0)) return cost;
  const ratio = Math.min(MAX_SCALE, Math.max(MIN_SCALE, observedMs / unscaledMs));
  const next = (scale: number): number => scale + SMOOTHING * (ratio - scale);
  return kind === "decode"
    ? { ...cost, decodeScale: next(cost.decodeScale) }
    : { ...cost, prefillScale: next(cost.prefillScale) };
}

/** A value for every width, straight lines between the measured ones; a wider pass is never cheaper. */
function interpolated(measured: Calibration["decode"]): number[] {
  const table = [0];
  let from = { width: 0, ms: 0 };
  for (const { width, ms } of measured) {
    const to = { width, ms: Math.max(ms, from.ms) };
    for (let w = from.width + 1; w <= to.width; w++)
      table[w] = from.ms + ((to.ms - from.ms) * (w - from.width)) / (to.width - from.width);
    from = to;
  }
  return table;
}
