/** Loads LoRA adapters beside their model. */
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { EngineError } from "../errors.ts";
import type { AdapterFacts } from "../adapters.ts";
import type { AddonAdapter, AddonBindings, AddonModel } from "./addon.ts";
import { wholeFingerprint } from "./fingerprint.ts";

interface LoadedAdapter {
  readonly handle: AddonAdapter;
  readonly facts: AdapterFacts;
}

/**
 * The model frees them with itself.
 * @throws {EngineError} `model_not_found`, `model_invalid` with the name of the file.
 */
export async function loadAdapters(
  { AddonModelLora }: AddonBindings,
  model: AddonModel,
  paths: readonly string[],
): Promise<LoadedAdapter[]> {
  const loaded: LoadedAdapter[] = [];
  for (const path of paths) {
    const file = await stat(path).catch(() => undefined);
    if (file === undefined || !file.isFile())
      throw new EngineError("model_not_found", `There is no LoRA adapter at ${path}.`);
    const handle = new AddonModelLora(model, path);
    try {
      await model.loadLora(handle);
    } catch {
      // What is thrown repeats the path, and no more.
      throw new EngineError(
        "model_invalid",
        `The LoRA adapter ${basename(path)} cannot be applied to this model: it was made for another one, or is broken.`,
      );
    }
    loaded.push({ handle, facts: { fingerprint: await wholeFingerprint(path) } });
  }
  return loaded;
}
