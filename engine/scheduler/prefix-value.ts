/** What computed prefixes are worth: the time to compute them again, times the chance that they are wanted again. */
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
