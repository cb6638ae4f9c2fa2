/** Which draft model is for which served model, from `--draft-model`. */
import { PRESETS } from "../../engine/presets.ts";
import { ConfigError } from "./config-error.ts";
import type { LoadedConfig } from "./load-config.ts";

/** What can only be meant as `MODEL=NAME`, whether that model is served or not. */
const FOR_A_MODEL = /^([\w.-]+)=(.+)$/s;

/** What a model is called. */
interface Named {
  readonly id: string;
  readonly aliases: readonly string[];
}

/**
 * @param served The models, in order.
 * @returns Names of draft models by the id of the model that each guesses for.
 * @throws {ConfigError} When nothing is guessed at all, and for a model that is not served or not named.
 */
export function draftModels(config: LoadedConfig, served: readonly Named[]): Map<string, string> {
  const chosen = new Map<string, string>();
  const entries = config.values["draft-model"];
  if (entries.length > 0) refuseWhereNothingIsGuessed(config);
  for (const entry of entries) {
    const { id, name } = readEntry(entry, served);
    if (chosen.has(id)) throw new ConfigError(`--draft-model is given twice for "${id}".`);
    chosen.set(id, name);
  }
  return chosen;
}

/** `MODEL=NAME`; a name alone is for the only model. Names of models and of files may have an `=` of their own. */
function readEntry(entry: string, served: readonly Named[]): { readonly id: string; readonly name: string } {
  for (const { id, aliases } of served) {
    const own = [id, ...aliases].find((name) => entry.startsWith(`${name}=`));
    if (own !== undefined) return { id, name: entry.slice(own.length + 1) };
  }
  const [, other] = FOR_A_MODEL.exec(entry) ?? [];
  if (other !== undefined) {
    const ids = served.map(({ id }) => id).join(", ");
    throw new ConfigError(
      `--draft-model ${entry} is for "${other}", which is not served; served are: ${ids}.`,
    );
  }
  const id = served[0]?.id ?? "";
  if (served.length < 2) return { id, name: entry };
  throw new ConfigError(
    `Several models are served; say for which one --draft-model ${entry} is: --draft-model ${id}=${entry}.`,
  );
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
