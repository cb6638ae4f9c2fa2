/** Whether served models take turns on the device, and how much of it each has: `--share-device`, `--model-weight`. */
import { ConfigError } from "./config-error.ts";
import type { ServeValues } from "./options.ts";

const WEIGHT = /^(.+)=(\d+(?:\.\d+)?)$/s;
const LEAST_WEIGHT = 0.01;
const MOST_WEIGHT = 100;

/** What a model is called. */
interface Named {
  readonly id: string;
  readonly aliases: readonly string[];
}

/**
 * On a GPU, and on a CPU where there are more threads than cores, models that compute at the same time take more of each
 * other than they get.
 * @param cores That the process may use.
 */
export function sharesDevice(
  { "share-device": share, gpu, threads }: Pick<ServeValues, "share-device" | "gpu" | "threads">,
  models: number,
  cores: number,
): boolean {
  if (models < 2 || share === "off") return false;
  const ownCores = gpu === "off" && threads !== undefined && models * threads <= cores;
  return share === "on" || !ownCores;
}

/**
 * @returns Weights by the ids of models; those that are not named have none.
 * @throws {ConfigError} For a model that is not served, or named twice, and for what is no weight.
 */
export function modelWeights(entries: readonly string[], served: readonly Named[]): Map<string, number> {
  const weights = new Map<string, number>();
  for (const entry of entries) {
    const [, name = "", digits] = WEIGHT.exec(entry) ?? [];
    const weight = Number(digits);
    if (!(weight >= LEAST_WEIGHT && weight <= MOST_WEIGHT))
      throw new ConfigError(
        `Expected --model-weight to be NAME=WEIGHT with a weight from ${LEAST_WEIGHT} to ${MOST_WEIGHT}, but got "${entry}".`,
      );
    const model = served.find(({ id, aliases }) => id === name || aliases.includes(name));
    if (model === undefined) {
      const ids = served.map(({ id }) => id).join(", ");
      throw new ConfigError(
        `--model-weight ${entry} is for "${name}", which is not served; served are: ${ids}.`,
      );
    }
    if (weights.has(model.id)) throw new ConfigError(`--model-weight is given twice for "${model.id}".`);
    weights.set(model.id, weight);
  }
  return weights;
}
