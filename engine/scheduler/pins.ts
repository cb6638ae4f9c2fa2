/**
 * Prefixes that the operator has pinned: what they are of a prompt, who may read them, and how much of one a request is to
 * find computed whatever that costs.
 */
import { worthKeeping } from "./prefix-reuse.ts";
import type { AdapterSet } from "../adapters.ts";
import type { SchedulerConfig } from "./types.ts";

/** Under which pins are found: by adapters alone, since what is pinned belongs to no scope. */
export function pinKey(adapters: AdapterSet | undefined): string {
  return adapters?.key ?? "";
}

/** The same of what a slot without a request holds. */
export function pinKeyOf(cacheKey: string): string {
  return cacheKey.slice(0, Math.max(0, cacheKey.indexOf("\n")));
}

/**
 * So many of a prompt's first tokens are pinned: as many as a request would reuse of them, in the shapes of a cold run where
 * the rest is too short to be worth other ones.
 */
export function pinnedTokens(
  tokens: number,
  { prefillChunk: grid, deterministic }: Pick<SchedulerConfig, "prefillChunk" | "deterministic">,
): number {
  const exact = Math.floor(tokens / grid) * grid;
  return deterministic || !worthKeeping(tokens - exact, grid) ? exact : tokens;
}
