/** The scheduler's settings as a simulation takes them. */
import type { SchedulerConfig } from "../scheduler/types.ts";

export { DEFAULT_FAIRNESS } from "../scheduler/owners.ts";
export type { SchedulerConfig } from "../scheduler/types.ts";

/** The engine's defaults, for a device of this kind; cells are not joined, by which a device of linear costs gains nothing. */
export function defaultConfig(kind: "cpu" | "gpu"): SchedulerConfig {
  const prefillChunk = kind === "gpu" ? 256 : 64;
  return {
    slots: 8,
    contextTokens: 4096,
    batchTokens: prefillChunk,
    prefillChunk,
    itlTargetMs: kind === "gpu" ? 100 : 400,
    minPrefillShare: 0.3,
    maxQueued: 256,
    deterministic: false,
    // Guesses depend on texts, of which a simulation has none.
    speculate: false,
    speculateAloneTokens: 0,
    canRewind: true,
    plugGaps: true,
    slotChoice: "cheapest",
    prefixHolds: true,
  };
}

/** The settings with knobs turned; a call must have room for every slot and for a cell, as in the engine. */
export function withKnobs(config: SchedulerConfig, knobs: Partial<SchedulerConfig>): SchedulerConfig {
  const merged = { ...config, ...knobs };
  const least = Math.max(merged.slots, merged.prefillChunk);
  const batchTokens = knobs.batchTokens === undefined ? least : Math.max(merged.slots, knobs.batchTokens);
  return { ...merged, batchTokens, prefillChunk: Math.min(merged.prefillChunk, batchTokens) };
}
