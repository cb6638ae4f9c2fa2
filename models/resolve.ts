/** Turns what a user calls a model into a file on this machine. */
import { statSync } from "node:fs";
import type { Stats } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { catalogue, findCatalogueEntry } from "./catalogue.ts";
import type { ModelOverrides } from "./catalogue.ts";
import type { NamedAdapter } from "./loaded-model.ts";
import { fetchFromHub, fetchPublished, isOffline, modelCacheDirectory } from "./download.ts";
import type { DownloadOptions, DownloadReporter } from "./download.ts";
import { parseHubName } from "./hub/hub-names.ts";
import { ModelFileError } from "./model-file-error.ts";
import { nearestName } from "./nearest-name.ts";
import { packageRoot } from "./package-root.ts";

export interface ResolvedModel {
  /** The name it is served by. */
  readonly id: string;
  /** Absolute path of the GGUF file. */
  readonly path: string;
  /** Other names for it. */
  readonly aliases: readonly string[];
  /** Modification time of the file, Unix seconds. */
  readonly createdSeconds: number;
  readonly source: "embedded" | "catalogue" | "file" | "hub";
  readonly overrides?: ModelOverrides;
  /** LoRA adapters that are loaded with it; absent is none. */
  readonly adapters?: readonly ResolvedAdapter[];
}

export interface ResolvedAdapter extends NamedAdapter {
  /** Absolute path of the GGUF file. */
  readonly path: string;
  /** Modification time of the file, Unix seconds. */
  readonly createdSeconds: number;
}

export interface ResolveOptions {
  readonly env?: DownloadOptions["env"];
  /** Hears of downloads; default: nobody. */
  readonly reporter?: DownloadReporter;
}

/** Could be a path, too. */
const HUB_REPOSITORY = /^\w[\w.-]*\/[\w.-]+(?<!\.gguf)(:[\w.-]+)?$/i;

const silent: DownloadReporter = { note: () => undefined, progress: () => undefined };

/**
 * Finds a model, fetching it first if need be. Names: a catalogue entry (`pocket`, `smollm2`), a path to a
 * `.gguf` file, `hf:org/repo`, `hf:org/repo:QUANT`, `hf:org/repo/file.gguf`; each may have `id=` in front to
 * be served by another name.
 *
 * @throws {ModelFileError} `model_not_found` or `download_failed`.
 */
export async function resolveModel(name: string, options: ResolveOptions = {}): Promise<ResolvedModel> {
  const [, chosenId, rest] = /^([\w.-]+)=(.+)$/s.exec(name) ?? [];
  const model = await locate(rest ?? name, options);
  if (chosenId === undefined) return model;
  return { ...model, id: chosenId, aliases: [model.id, ...model.aliases] };
}

async function locate(name: string, options: ResolveOptions): Promise<ResolvedModel> {
  const env = options.env ?? process.env;
  const download: DownloadOptions = {
    directory: modelCacheDirectory(env),
    offline: isOffline(env),
    reporter: options.reporter ?? silent,
    env,
  };
  if (name.startsWith("hf:")) {
    if (parseHubName(name) === undefined) throw notAName(name);
    const path = await fetchFromHub(name, download);
    const createdSeconds = createdOf(path, () => whyNotKept(name, path, dirname(path)));
    return { id: name.slice(3), path, aliases: [name], createdSeconds, source: "hub" };
  }
  const entry = findCatalogueEntry(name);
  if (entry?.source.kind === "embedded") {
    const path = join(packageRoot, entry.source.path);
    const createdSeconds = createdOf(
      path,
      () => `The model ${entry.id} is part of Weft, and ${path} is not there. Install Weft again.`,
    );
    return { id: entry.id, path, aliases: [], createdSeconds, source: "embedded" };
  }
  if (entry?.source.kind === "published") {
    const path = await fetchPublished(entry.id, entry.source, download);
    const aliases = [stem(entry.source.fileName)];
    const createdSeconds = createdOf(path, () => whyNotKept(entry.id, path, path));
    const { id, overrides = {} } = entry;
    return { id, path, aliases, createdSeconds, source: "catalogue", overrides };
  }
  const path = resolve(name);
  const createdSeconds = createdOf(path, (stat) => whyNot(name, path, stat));
  return { id: stem(name), path, aliases: [], createdSeconds, source: "file" };
}

function notAName(name: string): ModelFileError {
  return new ModelFileError(
    "model_not_found",
    `${JSON.stringify(name.slice(0, 200))} is not a model name; write hf:org/repo, hf:org/repo:Q4_K_M or hf:org/repo/file.gguf.`,
  );
}

/** @param whyNoFile What to tell the user where the path is no file; its stat is undefined where nothing is there. */
function createdOf(path: string, whyNoFile: (stat: Stats | undefined) => string): number {
  const stat = statOf(path);
  if (stat?.isFile() === true) return Math.floor(stat.mtimeMs / 1000);
  throw new ModelFileError("model_not_found", whyNoFile(stat));
}

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    // Not there, or not for this user.
    return undefined;
  }
}

/** @param kept What of the cache stands for the model: while it is there, nothing is fetched. */
function whyNotKept(name: string, path: string, kept: string): string {
  return `${name} was fetched before, and ${path} is not a file. Delete ${kept} and try again.`;
}

/** @param stat Of the path that the name was taken for; undefined where nothing is there. */
function whyNot(name: string, path: string, stat: Stats | undefined): string {
  const shown = JSON.stringify(name);
  if (stat?.isDirectory() === true) return `${shown} is a folder; give the path of a .gguf file in it.`;
  if (stat !== undefined) return `${shown} is not a file.`;
  if (HUB_REPOSITORY.test(name) && parseHubName(`hf:${name}`) !== undefined)
    return `There is no file ${shown}. If it is on Hugging Face, put hf: in front: hf:${name}`;
  if (/[/\\]|\.gguf$/i.test(name)) return `There is no file ${shown}${name === path ? "" : ` (${path})`}.`;
  const known = catalogue.map((entry) => entry.id);
  const meant = nearestName(name, known);
  return `There is no model ${shown}.${meant === undefined ? "" : ` Did you mean ${meant}?`} Give the path of a .gguf file, hf:org/repo:QUANT, or one of: ${known.join(", ")}.`;
}

function stem(path: string): string {
  return basename(path).replace(/\.gguf$/i, "");
}
