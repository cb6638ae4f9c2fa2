/** Which draft model is for which served model, from `--draft-model`. */
import { PRESETS } from "../../engine/presets.ts";
import { ConfigError } from "./config-error.ts";
import type { LoadedConfig } from "./load-config.ts";

/** `MODEL=NAME`; a name alone is for the only model. */
const FOR_ONE_OF_SEVERAL = /^([\w.-]+)=(.+)$/s;

/**
 * @param served Ids of the models, in order.
 * @returns Names of draft models by the id of the model that each guesses for.
 * @throws {ConfigError} When nothing is guessed at all, and for a model that is not served or not named.
 */
export function draftModels(config: LoadedConfig, served: readonly string[]): Map<string, string> {
  const chosen = new Map<string, string>();
  for (const entry of config.values["draft-model"]) {
    refuseWhereNothingIsGuessed(config);
    const [, forModel, rest] = FOR_ONE_OF_SEVERAL.exec(entry) ?? [];
    const [id, name] = forModel === undefined ? [served[0] ?? "", entry] : [forModel, rest ?? ""];
    if (forModel === undefined && served.length > 1)
      throw new ConfigError(
        `Several models are served; say for which one --draft-model ${entry} is: --draft-model ${id}=${entry}.`,
      );
    if (!served.includes(id))
      throw new ConfigError(
        `--draft-model ${entry} is for "${id}", which is not served; served are: ${served.join(", ")}.`,
      );
    if (chosen.has(id)) throw new ConfigError(`--draft-model is given twice for "${id}".`);
    chosen.set(id, name);
  }
  return chosen;
}

function refuseWhereNothingIsGuessed({ values, sources }: LoadedConfig): void {
  const preset = PRESETS[values.preset];
  const by = (name: "speculation" | "deterministic", own: boolean, ofPreset: boolean): string | undefined => {
    if (sources[name] === "default") return ofPreset ? `--preset ${values.preset}` : undefined;
    if (!own) return undefined;
    return name === "speculation" ? "--speculation off" : "--deterministic";
  };
  const reason =
    by("speculation", values.speculation === "off", preset.speculate === false) ??
    by("deterministic", values.deterministic, preset.deterministic === true);
  if (reason === undefined) return;
  throw new ConfigError(
    `--draft-model has nothing to do under ${reason}, where nothing is guessed. Drop one of them.`,
  );
}
