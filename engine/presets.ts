/** Named choices of what matters: each sets those knobs of the scheduler that nobody has set by hand. */
import type { LoadOptions } from "./protocol.ts";

export type PresetName = "latency" | "balanced" | "throughput" | "strict";

export type PresetKnobs = Partial<
  Pick<
    LoadOptions,
    | "itlTargetMs"
    | "minPrefillShare"
    | "evenSteps"
    | "gatherMs"
    | "deterministic"
    | "speculate"
    | "prefixFirst"
    | "keepSlots"
    | "prefillOrder"
  >
>;

/** Longer than any step: prompts are never held back. */
export const NO_ITL_TARGET_MS = 60_000;

export const PRESETS: Readonly<Record<PresetName, PresetKnobs>> = {
  /** Even streams: a prompt beside them takes longer. */
  latency: { itlTargetMs: 50, minPrefillShare: 0.2, evenSteps: true, gatherMs: 0 },
  /** What the engine chooses for the device. */
  balanced: {},
  /** Most tokens: prompts are computed at once, so that slots fill up, and streams wait for them. */
  throughput: { itlTargetMs: NO_ITL_TARGET_MS },
  /** The same bits whatever is cached and whoever else is served, and of a key first come, first served. */
  strict: {
    deterministic: true,
    speculate: false,
    prefixFirst: false,
    keepSlots: false,
    prefillOrder: "arrival",
  },
};

export const PRESET_NAMES = Object.keys(PRESETS) as readonly PresetName[];
