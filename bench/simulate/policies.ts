/** The policies that a simulation compares: a preset or the baseline, and knobs that differ from it. */
import { NO_ITL_TARGET_MS, PRESETS, PRESET_NAMES } from "../../engine/presets.ts";
import { SHORT_PROMPT_TOKENS } from "../../engine/sharing.ts";
import type { SchedulerConfig } from "../../engine/simulate/config.ts";

export interface Policy {
  /** As it was given. */
  readonly label: string;
  readonly knobs: Partial<SchedulerConfig>;
  /** Whether a CPU computes prompts in the short cells of the preset `latency`, where no others are asked for. */
  readonly evenSteps?: boolean;
}

/** First come, first served in whichever slot has been idle for longest: what simple servers do. */
const BASELINE: Partial<SchedulerConfig> = {
  slotChoice: "oldest",
  plugGaps: false,
  prefixFirst: false,
  keepSlots: false,
  itlTargetMs: NO_ITL_TARGET_MS,
};

type Reader = (text: string) => Partial<SchedulerConfig> | undefined;

const number =
  (least: number, most: number, make: (value: number) => Partial<SchedulerConfig>): Reader =>
  (text) => {
    const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
    return value >= least && value <= most ? make(value) : undefined;
  };
const onOff =
  (make: (value: boolean) => Partial<SchedulerConfig>): Reader =>
  (text) =>
    text === "on" || text === "off" ? make(text === "on") : undefined;

const KNOBS: Readonly<Record<string, Reader>> = {
  slots: number(1, 256, (slots) => ({ slots: Math.round(slots) })),
  "batch-size": number(1, 65_536, (tokens) => ({ batchTokens: Math.round(tokens) })),
  "prefill-chunk": number(1, 65_536, (tokens) => ({ prefillChunk: Math.round(tokens) })),
  "itl-target": number(1, NO_ITL_TARGET_MS, (itlTargetMs) => ({ itlTargetMs })),
  "prefill-share": number(0, 1, (minPrefillShare) => ({ minPrefillShare })),
  "max-queued": number(0, 10_000_000, (maxQueued) => ({ maxQueued: Math.round(maxQueued) })),
  plugs: onOff((plugGaps) => ({ plugGaps })),
  "prefix-first": onOff((prefixFirst) => ({ prefixFirst })),
  "keep-slots": onOff((keepSlots) => ({ keepSlots })),
  "reserve-slots": number(0, 255, (slots) =>
    slots === 0 ? {} : { reserve: { slots: Math.round(slots), promptTokens: SHORT_PROMPT_TOKENS } },
  ),
  deterministic: onOff((deterministic) => ({ deterministic })),
  victim: (text) => (text === "least-sunk" || text === "least-sunk-per-token" ? { victim: text } : undefined),
  "slot-choice": (text) => (text === "cheapest" || text === "oldest" ? { slotChoice: text } : undefined),
};

export const POLICY_HELP = `${[...PRESET_NAMES, "baseline"].join(", ")}, and behind it knobs: balanced,slots=16,plugs=off; knobs are ${Object.keys(KNOBS).join(", ")}`;

/** @returns Undefined, or what is wrong with it, when it is no policy. */
export function readPolicy(label: string): Policy | string {
  const [base = "", ...changes] = label.split(",").map((part) => part.trim());
  const preset = PRESET_NAMES.find((name) => name === base);
  if (preset === undefined && base !== "baseline") return `there is no policy "${base}"`;
  let knobs: Partial<SchedulerConfig> = BASELINE;
  let evenSteps = {};
  if (preset !== undefined) {
    const chosen = PRESETS[preset];
    const { itlTargetMs, minPrefillShare, deterministic, prefixFirst, keepSlots } = chosen;
    if (chosen.evenSteps === true) evenSteps = { evenSteps: true };
    knobs = {
      ...(itlTargetMs === undefined ? {} : { itlTargetMs }),
      ...(minPrefillShare === undefined ? {} : { minPrefillShare }),
      ...(deterministic === undefined ? {} : { deterministic }),
      ...(prefixFirst === undefined ? {} : { prefixFirst }),
      ...(keepSlots === undefined ? {} : { keepSlots }),
    };
  }
  for (const change of changes) {
    const [name = "", value = ""] = change.split("=");
    const read = Object.hasOwn(KNOBS, name) ? KNOBS[name]?.(value) : undefined;
    if (read === undefined) return `"${change}" is no knob with a value it can have`;
    knobs = { ...knobs, ...read };
  }
  return { label, knobs, ...evenSteps };
}
