/** What an engine is told to load, and how: the options, and the preset for those that nobody has set. */
import { PRESETS } from "../../engine/presets.ts";
import type { PresetKnobs } from "../../engine/presets.ts";
import type { LoadOptions } from "../../engine/protocol.ts";
import type { ResolvedModel } from "../../models/resolve.ts";
import { NO_POLICIES } from "./key-policies.ts";
import type { LoadedConfig } from "./load-config.ts";
import type { ServeOptionName } from "./options.ts";

/**
 * @param draftModelPath That of its draft model, where it has one.
 * @param shares Whether it takes turns on the device with other models.
 */
export function engineOptions(
  { id, path, adapters = [] }: Pick<ResolvedModel, "id" | "path" | "adapters">,
  { values, sources }: LoadedConfig,
  draftModelPath?: string,
  shares = false,
): LoadOptions {
  const preset: PresetKnobs = PRESETS[values.preset];
  const chosen = <T>(name: ServeOptionName, value: T, ofPreset: T | undefined): T =>
    sources[name] === "default" ? (ofPreset ?? value) : value;
  const minPrefillShare = chosen("prefill-share", values["prefill-share"], preset.minPrefillShare);
  const speculation = values.speculation === "auto" ? undefined : values.speculation === "on";
  return {
    modelPath: path,
    ...(adapters.length === 0 ? {} : { adapters: adapters.map((adapter) => adapter.path) }),
    contextTokens: values.context,
    slots: values.slots,
    batchTokens: values["batch-size"],
    threads: values.threads,
    gpu: values.gpu,
    gpuLayers: values["gpu-layers"],
    flashAttention: values["flash-attention"],
    kvCacheType: values["kv-type"],
    prefillChunk: values["prefill-chunk"],
    ...(preset.evenSteps === undefined ? {} : { evenSteps: preset.evenSteps }),
    gatherMs: chosen("gather-tokens", values["gather-tokens"], preset.gatherMs),
    itlTargetMs: chosen("itl-target", values["itl-target"], preset.itlTargetMs),
    maxQueued: values["max-queued"],
    maxPromptTokens: values["max-prompt-tokens"],
    deterministic: chosen("deterministic", values.deterministic, preset.deterministic),
    fairness: {
      ...(values["key-policy"] ?? NO_POLICIES).fairness,
      agingQuantumMs: values["aging-quantum"] * 1000,
      evict: values.eviction,
      ttftLimitMs: values["ttft-limit"] ?? Infinity,
    },
    speculate: chosen("speculation", speculation, preset.speculate),
    ...(draftModelPath === undefined ? {} : { draftModelPath }),
    ...(minPrefillShare === undefined ? {} : { minPrefillShare }),
    prefillWorker: values["prefill-worker"] === "auto",
    plugGaps: values.plugs,
    prefixFirst: chosen("prefix-first", values["prefix-first"], preset.prefixFirst),
    keepSlots: chosen("keep-slots", values["keep-slots"], preset.keepSlots),
    prefillOrder: chosen("prefill-order", values["prefill-order"], preset.prefillOrder),
    ...(values["reserve-slots"] === 0
      ? {}
      : { reserve: { slots: values["reserve-slots"], promptTokens: values["short-prompt-tokens"] } }),
    swaFull: values["swa-full"],
    ...(shares ? { sharesDevice: true } : {}),
    timelineSteps: values.timeline,
    ...(values["checkpoint-size"] === 0 ? {} : { checkpoints: { bytes: values["checkpoint-size"] } }),
    ...(values["spill-size"] === 0
      ? {}
      : { spill: { directory: values["spill-dir"], bytes: values["spill-size"], model: id } }),
  };
}
