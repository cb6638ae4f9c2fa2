/** What of a model's memory can be taken back: cells of every token, of a window of them, or a state of all of them. */
import type { LlamaModel } from "node-llama-cpp";
import type { CheckpointNeeds } from "../scheduler/types.ts";
import type { AddonBindings } from "./addon.ts";

/** llama.cpp's own windows of architectures whose files need not name one. */
const WINDOWS: Readonly<Record<string, number>> = {
  gemma2: 4096,
  exaone4: 4096,
  "exaone-moe": 128,
  llama4: 8192,
};

/** Recurrent and hybrid models: their state knows no token but the last. */
export function keepsState(bindings: AddonBindings, model: LlamaModel): boolean {
  const architecture = model.fileInfo.metadata.general.architecture;
  return (
    bindings.getIsArchRecurrent(architecture) === true || bindings.getIsArchHybrid(architecture) === true
  );
}

/** What a slot has to hold to come back to a checkpoint. A queued copy would overwrite the cells of a window. */
export function checkpointNeedsOf(bindings: AddonBindings, model: LlamaModel): CheckpointNeeds {
  if (windowOf(model) !== undefined) return "own-cells";
  return bindings.getIsArchRecurrent(model.fileInfo.metadata.general.architecture) === true
    ? "none"
    : "cells";
}

/**
 * How many tokens sliding-window layers look back; undefined for a model that has none. Some files name a window that
 * llama.cpp does not use; such a model is taken for one that does.
 */
export function windowOf(model: LlamaModel): number | undefined {
  const { attention } = model.fileInfo.architectureMetadata;
  const named: unknown = attention?.sliding_window;
  if (typeof named === "number" && named > 0) return named;
  return WINDOWS[model.fileInfo.metadata.general.architecture];
}
