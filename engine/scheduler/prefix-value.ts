/** What computed prefixes are worth: the time to compute them again, times the chance that they are wanted again. */
import { prefillCallMs } from "./cost-model.ts";
import type { SchedulerState } from "./types.ts";

/** After this long unused, the chance that a prefix is wanted again has fallen to a third. */
const DECAY_MS = 10 * 60_000;
/** Chance that a prefix nobody has come back to yet is not wanted again: most requests are asked once. */
const NOT_WANTED_AGAIN = 0.8;

/** Chance that a prefix is wanted again, 0-1. */
export function reuseChance(
  { lastUseMs, hits }: { readonly lastUseMs: number; readonly hits: number },
  nowMs: number,
): number {
  const ageMs = Math.max(0, nowMs - lastUseMs);
  return Math.exp(-ageMs / DECAY_MS) * (1 - NOT_WANTED_AGAIN ** (hits + 1));
}

/** Time to compute so many prompt tokens, cell by cell. */
export function prefillTokensMs({ config, cost }: SchedulerState, tokens: number): number {
  if (tokens <= 0) return 0;
  const grid = config.prefillChunk;
  const whole = Math.floor(tokens / grid);
  const rest = tokens - whole * grid;
  return whole * prefillCallMs(cost, grid) + (rest > 0 ? prefillCallMs(cost, rest) : 0);
}
