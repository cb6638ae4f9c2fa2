/** A model with LoRA adapters applied is another model to its clients, with the same engine behind it. */
import { createHash } from "node:crypto";
import { adapterSet } from "../engine/adapters.ts";
import type { AdapterUse } from "../engine/adapters.ts";
import type { LoadedModel } from "./loaded-model.ts";

/**
 * @param id What it is called in answers.
 * @param applied In place of what is applied to `model`; each adapter at most once.
 */
export function withAdapters(model: LoadedModel, id: string, applied: readonly AdapterUse[]): LoadedModel {
  return { ...model, id, applied: adapterSet(applied, model.facts.adapters)?.uses ?? [] };
}

/** Changes with whatever may change an answer: the model, its settings, and what is applied to it. 10 hex digits. */
export function fingerprintOf({ facts, applied }: LoadedModel): string {
  const set = adapterSet(applied, facts.adapters);
  if (set === undefined) return facts.fingerprint;
  const hash = createHash("sha256").update(JSON.stringify([facts.fingerprint, set.key]));
  return hash.digest("hex").slice(0, 10);
}
