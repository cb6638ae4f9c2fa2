/** The models, draft models and adapters that the options name, found and looked at before anything is started. */
import { readFileSync, statSync } from "node:fs";
import { basename, resolve } from "node:path";
import { checkAdapterFile } from "../../models/adapter-file.ts";
import { DEFAULT_MODEL } from "../../models/catalogue.ts";
import { readGgufHeader } from "../../models/gguf-header.ts";
import type { GgufHeader } from "../../models/gguf-header.ts";
import { ModelFileError } from "../../models/model-file-error.ts";
import { resolveModel } from "../../models/resolve.ts";
import type { ResolvedAdapter, ResolvedModel } from "../../models/resolve.ts";
import type { AdapterOption } from "../config/adapter-options.ts";
import { ConfigError } from "../config/config-error.ts";
import { draftModels } from "../config/draft-models.ts";
import type { LoadedConfig } from "../config/load-config.ts";
import type { ServeValues } from "../config/options.ts";
import { terminalProgress } from "./terminal-progress.ts";

interface FoundModel {
  readonly model: ResolvedModel;
  readonly header: GgufHeader;
}

/** @throws {ModelFileError | ConfigError} For what is not there, no model, no adapter of its model, or called alike. */
export async function findModels(
  options: Pick<ServeValues, "model" | "alias" | "lora" | "chat-template">,
): Promise<ResolvedModel[]> {
  const { "chat-template": templateFile, lora } = options;
  const template = templateFile === undefined ? {} : { chatTemplate: readTemplate(templateFile) };
  const found: FoundModel[] = [];
  const reporter = terminalProgress();
  for (const name of options.model.length === 0 ? [DEFAULT_MODEL] : options.model) {
    const model = await resolveModel(name, { reporter });
    const header = headerOfModel(model.path, name);
    if (found.some(({ model: { id } }) => id === model.id)) {
      throw new ConfigError(
        `Two models would be called "${model.id}"; name one of them: OTHER_NAME=${name}.`,
      );
    }
    found.push({ model: { ...model, overrides: { ...model.overrides, ...template } }, header });
  }
  nameAliases(found, options.alias);
  checkNames(found, lora);
  const bases = lora.map((adapter) => baseOf(adapter, found));
  return found.map((base) => {
    const adapters = lora.filter((_, i) => bases[i] === base).map((adapter) => findAdapter(adapter, base));
    return adapters.length === 0 ? base.model : { ...base.model, adapters };
  });
}

/** Paths of draft models by the id of the model that each is for. */
export async function findDraftModels(
  config: LoadedConfig,
  served: readonly ResolvedModel[],
): Promise<ReadonlyMap<string, string>> {
  const reporter = terminalProgress();
  const paths = new Map<string, string>();
  for (const [id, name] of draftModels(config, served)) {
    const { path } = await resolveModel(name, { reporter });
    headerOfModel(path, name);
    paths.set(id, path);
  }
  return paths;
}

/**
 * Looks at a model's files once more, which may have been replaced since they were found.
 * @throws {ModelFileError} For what no engine could load.
 */
export function checkFiles({ path, id, adapters = [] }: ResolvedModel, draftPath: string | undefined): void {
  const header = headerOfModel(path, id);
  for (const adapter of adapters) checkAdapterFile(adapter.path, header);
  if (draftPath !== undefined) headerOfModel(draftPath, draftPath);
}

/** A broken file is told here in a second, rather than by a native reader in a minute. */
function headerOfModel(path: string, name: string): GgufHeader {
  const header = readGgufHeader(path);
  if (header.adapter === undefined) return header;
  throw new ModelFileError(
    "model_invalid",
    `${path} is no model but an adapter of one; serve it beside its model with --lora NAME=${name}.`,
  );
}

/** `NAME` or `NAME=MODEL`. @throws {ConfigError} For a name that a model has, and for a model that is not served. */
function nameAliases(found: FoundModel[], aliases: readonly string[]): void {
  for (const text of aliases) {
    const [, name = "", wanted] = /^([\w./:-]{1,128})(?:=(.+))?$/.exec(text) ?? [];
    if (name === "") throw new ConfigError(`Expected --alias to be NAME or NAME=MODEL, but got "${text}".`);
    if (found.some(({ model }) => hasName(model, name)))
      throw new ConfigError(`A model is called "${name}" already; --alias needs another name.`);
    const index = wanted === undefined ? 0 : found.findIndex(({ model }) => hasName(model, wanted));
    const base = found[index];
    if (base === undefined)
      throw new ConfigError(`The alias "${name}" is for the model "${wanted}", which is not served.`);
    found[index] = { ...base, model: { ...base.model, aliases: [...base.model.aliases, name] } };
  }
}

function hasName({ id, aliases }: ResolvedModel, name: string): boolean {
  return id === name || aliases.includes(name);
}

function checkNames(found: readonly FoundModel[], adapters: readonly AdapterOption[]): void {
  const taken = new Set(found.flatMap(({ model: { id, aliases } }) => [id, ...aliases]));
  for (const { name, file } of adapters) {
    if (taken.has(name))
      throw new ConfigError(
        `A model is called "${name}" already; name the adapter: --lora OTHER_NAME=${file}.`,
      );
  }
}

function baseOf({ name, file, model }: AdapterOption, found: readonly FoundModel[]): FoundModel {
  const [first] = found;
  if (model === undefined && first !== undefined && found.length === 1) return first;
  const served = found.map(({ model: { id } }) => id).join(", ");
  const base = found.find((one) => hasName(one.model, model ?? ""));
  if (base !== undefined) return base;
  throw new ConfigError(
    model === undefined
      ? `Several models are served; say for which one the adapter "${name}" is: --lora ${name}=${file}@MODEL with one of ${served}.`
      : `The adapter "${name}" is for the model "${model}", which is not served; served: ${served}.`,
  );
}

function findAdapter({ name, file, scale }: AdapterOption, { header }: FoundModel): ResolvedAdapter {
  const path = resolve(file);
  checkAdapterFile(path, header);
  const createdSeconds = Math.floor(statSync(path).mtimeMs / 1000);
  return { name, path, fileName: basename(path), scale, createdSeconds };
}

function readTemplate(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigError(
      `The chat template ${file} cannot be read (${error instanceof Error ? error.message : String(error)}).`,
    );
  }
}
