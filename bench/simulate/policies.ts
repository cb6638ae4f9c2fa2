/** The policies that a simulation compares: a preset or the baseline, and knobs that differ from it. */
import { NO_ITL_TARGET_MS, PRESETS, PRESET_NAMES } from "../../engine/presets.ts";
import { SHORT_PROMPT_TOKENS } from "../../engine/sharing.ts";
import { DEFAULT_FAIRNESS } from "../../engine/simulate/config.ts";
import type { SchedulerConfig } from "../../engine/simulate/config.ts";

export interface Policy {
  /** As it was given. */
  readonly label: string;
  readonly knobs: Partial<SchedulerConfig>;
  /** Whether a CPU computes prompts in the short cells of the preset `latency`, where no others are asked for. */
  readonly evenSteps?: boolean;
  /** Whether tenants and classes are told apart; absent is yes. */
  readonly fair?: boolean;
}

type Knobs = Partial<SchedulerConfig>;

/** First come, first served in whichever slot has been idle for longest, whoever asks: what simple servers do. */
const BASELINE: Knobs = {
  slotChoice: "oldest",
  prefixHolds: false,
  plugGaps: false,
  prefixFirst: false,
  keepSlots: false,
  prefillOrder: "arrival",
  itlTargetMs: NO_ITL_TARGET_MS,
  fairness: { ...DEFAULT_FAIRNESS, evict: false },
};

/** @returns What of a policy changes; `before` are its knobs so far. */
type Reader = (
  text: string,
  before: Knobs,
) => (Pick<Policy, "fair"> & { readonly knobs?: Knobs }) | undefined;

const number =
  (least: number, most: number, make: (value: number, before: Knobs) => Knobs): Reader =>
  (text, before) => {
    const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
    return value >= least && value <= most ? { knobs: make(value, before) } : undefined;
  };
const isOnOff = (text: string): boolean => text === "on" || text === "off";
const onOff =
  (make: (value: boolean, before: Knobs) => Knobs): Reader =>
  (text, before) =>
    isOnOff(text) ? { knobs: make(text === "on", before) } : undefined;

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
  "prefill-order": (text) =>
    text === "arrival" || text === "shortest" ? { knobs: { prefillOrder: text } } : undefined,
  "reserve-slots": number(0, 255, (slots) =>
    slots === 0 ? {} : { reserve: { slots: Math.round(slots), promptTokens: SHORT_PROMPT_TOKENS } },
  ),
  deterministic: onOff((deterministic) => ({ deterministic })),
  fair: (text) => (isOnOff(text) ? { fair: text === "on" } : undefined),
  eviction: onOff((evict, { fairness = DEFAULT_FAIRNESS }) => ({ fairness: { ...fairness, evict } })),
  "aging-quantum": number(1, 86_400_000, (agingQuantumMs, { fairness = DEFAULT_FAIRNESS }) => ({
    fairness: { ...fairness, agingQuantumMs },
  })),
  victim: (text) =>
    text === "least-sunk" || text === "least-sunk-per-token" ? { knobs: { victim: text } } : undefined,
  // Nobody waits for a copy that is not made, unless that is asked for behind it.
  "slot-choice": (text) =>
    text === "cheapest" || text === "oldest"
      ? { knobs: { slotChoice: text, prefixHolds: text === "cheapest" } }
      : undefined,
  "prefix-holds": onOff((prefixHolds) => ({ prefixHolds })),
};

export const POLICY_HELP = `${[...PRESET_NAMES, "baseline"].join(", ")}, and behind it knobs: balanced,slots=16,plugs=off; knobs are ${Object.keys(KNOBS).join(", ")}`;

/** @returns Undefined, or what is wrong with it, when it is no policy. */
export function readPolicy(label: string): Policy | string {
  const [base = "", ...changes] = label.split(",").map((part) => part.trim());
  const preset = PRESET_NAMES.find((name) => name === base);
  if (preset === undefined && base !== "baseline") return `there is no policy "${base}"`;
  let knobs = BASELINE;
  let evenSteps = {};
  let fair = preset === undefined ? { fair: false } : {};
  if (preset !== undefined) {
    const chosen = PRESETS[preset];
    const { itlTargetMs, minPrefillShare, deterministic, prefixFirst, keepSlots, prefillOrder } = chosen;
    if (chosen.evenSteps === true) evenSteps = { evenSteps: true };
    knobs = {
      ...(itlTargetMs === undefined ? {} : { itlTargetMs }),
      ...(minPrefillShare === undefined ? {} : { minPrefillShare }),
      ...(deterministic === undefined ? {} : { deterministic }),
      ...(prefixFirst === undefined ? {} : { prefixFirst }),
      ...(keepSlots === undefined ? {} : { keepSlots }),
      ...(prefillOrder === undefined ? {} : { prefillOrder }),
    };
  }
  for (const change of changes) {
    const [name = "", value = ""] = change.split("=");
    const read = Object.hasOwn(KNOBS, name) ? KNOBS[name]?.(value, knobs) : undefined;
    if (read === undefined) return `"${change}" is no knob with a value it can have`;
    const { knobs: changed, ...told } = read;
    knobs = { ...knobs, ...changed };
    fair = { ...fair, ...told };
  }
  return { label, knobs, ...evenSteps, ...fair };
}
