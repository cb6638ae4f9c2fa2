/** What computed prefixes are worth: the time to compute them again, times the chance that they are wanted again. */
import type { ScheduledRequest, Slot } from "./types.ts";

/** After this long unused, the chance that a prefix is wanted again has fallen to a third. */
const DECAY_MS = 10 * 60_000;
/** Chance that a prefix nobody has come back to yet is wanted again, where it is not learned: most requests are asked once. */
export const UNUSED_WANTED = 0.2;
/** Of a prefix that its client has just asked to keep: more than of most, less than of what is used all the time. */
const MOST_KEPT = 0.5;
const DAY_MS = 86_400_000;

export interface Used {
  readonly lastUseMs: number;
  readonly hits: number;
  /** Until when its client has asked to keep it; absent is nobody has. */
  readonly keepUntilMs?: number;
}

/**
 * Chance that a prefix is wanted again, 0-1.
 * @param unusedChance That of one that nobody has come back to, when its slot has just become idle.
 */
export function reuseChance(
  { lastUseMs, hits, keepUntilMs = 0 }: Used,
  nowMs: number,
  unusedChance = UNUSED_WANTED,
): number {
  const ageMs = Math.max(0, nowMs - lastUseMs);
  const usual = Math.exp(-ageMs / DECAY_MS) * (1 - (1 - unusedChance) ** (hits + 1));
  return Math.max(usual, MOST_KEPT * Math.min(1, (keepUntilMs - nowMs) / DAY_MS));
}

/** Whether most of a prompt, of which so many tokens were copied from this slot, is kept there already: once is enough. */
export function isKept(
  { keepUntilMs }: Pick<Slot, "keepUntilMs">,
  { prompt }: Pick<ScheduledRequest, "prompt">,
  copied: number,
  nowMs: number,
): boolean {
  return nowMs < keepUntilMs && 2 * copied >= prompt.length;
}
