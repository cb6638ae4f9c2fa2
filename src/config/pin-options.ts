/** `--pin-prompt`: what each served model is to keep computed, read from its files before anything is started. */
import { existsSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import type { ResolvedModel } from "../../models/resolve.ts";
import { ConfigError } from "./config-error.ts";
import { jsonProblem } from "./json-problem.ts";

export interface PinOption {
  /** As the file is called. */
  readonly name: string;
  /** Id of the model, and the name of the adapter that it is computed with; undefined is the model alone. */
  readonly model: string;
  readonly adapter: string | undefined;
  /** A chat request without its user's turn. */
  readonly body: Readonly<Record<string, unknown>>;
}

interface Target {
  readonly names: readonly string[];
  readonly model: string;
  readonly adapter: string | undefined;
}

/**
 * @param entries `FILE` or `FILE@MODEL`.
 * @throws {ConfigError} For a file that cannot be read or is no beginning of a chat, and for a model that is not served or not
 * named.
 */
export function pinOptions(
  entries: readonly string[],
  served: readonly Pick<ResolvedModel, "id" | "aliases" | "adapters">[],
): PinOption[] {
  const targets = served.flatMap(({ id, aliases, adapters = [] }): Target[] => [
    { names: [id, ...aliases], model: id, adapter: undefined },
    ...adapters.map(({ name }) => ({ names: [name], model: id, adapter: name })),
  ]);
  const options = entries.map((entry): PinOption => {
    const { file, target } = splitEntry(entry, targets, served.length);
    const { model, adapter } = target;
    return { name: basename(file), model, adapter, body: bodyOf(file) };
  });
  for (const [i, { name, model, adapter }] of options.entries()) {
    const same = (other: PinOption): boolean =>
      other.name === name && other.model === model && other.adapter === adapter;
    if (options.slice(0, i).some(same))
      throw new ConfigError(`Two pinned prompts of "${adapter ?? model}" would be called ${name}.`);
  }
  return options;
}

/** Names of models and of files may have an `@` of their own. */
function splitEntry(
  entry: string,
  targets: readonly Target[],
  models: number,
): { readonly file: string; readonly target: Target } {
  for (const target of targets)
    for (const name of target.names)
      if (entry.endsWith(`@${name}`)) return { file: entry.slice(0, -name.length - 1), target };
  const names = targets.map(({ names: [first] }) => first).join(", ");
  const [, file, other] = /^(.+)@([^@]+)$/.exec(entry) ?? [];
  if (other !== undefined && !existsSync(entry))
    throw new ConfigError(
      `--pin-prompt ${file} is for "${other}", which is not served; served are: ${names}.`,
    );
  const [first] = targets;
  if (first !== undefined && models === 1) return { file: entry, target: first };
  throw new ConfigError(
    `Several models are served; say for which one --pin-prompt ${entry} is: --pin-prompt ${entry}@MODEL with one of ${names}.`,
  );
}

function bodyOf(file: string): PinOption["body"] {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(file));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError(`The prompt to be pinned ${file} cannot be read (${reason}).`);
  }
  if (!/\.json$/i.test(file)) {
    // Editors end a file with a line break that no client sends.
    const content = text.replace(/\r?\n$/, "");
    if (content === "") throw new ConfigError(`The prompt to be pinned ${file} is empty.`);
    return { messages: [{ role: "system", content }] };
  }
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new ConfigError(`${file} is not JSON: ${jsonProblem(text)}.`);
  }
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw new ConfigError(`${file} must hold one JSON object, such as {"messages": [...], "tools": [...]}.`);
  const { messages = [] } = body as { readonly messages?: unknown };
  if (!Array.isArray(messages)) throw new ConfigError(`"messages" in ${file} must be a list.`);
  return { ...body, messages };
}
