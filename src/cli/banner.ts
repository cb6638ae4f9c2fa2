/** What the server prints when it is ready, below the lines of its loading: what runs, where, and a line to try it with. */
import type { LoadedModel } from "../../models/loaded-model.ts";

export interface BannerFacts {
  readonly models: readonly LoadedModel[];
  /** Base of all URLs, without a slash at the end. */
  readonly url: string;
  /** Number of keys that clients may use. */
  readonly keys: number;
  readonly embeddedModel: string;
  /** The command that serves a real model. */
  readonly realModel: string;
}

export function banner({ models, url, keys, embeddedModel, realModel }: BannerFacts): string {
  const lines: string[] = [];
  for (const { id, facts, template, adapters } of models) {
    const size = `${count(facts.parameters)} parameters, ${bytes(facts.sizeBytes)}`;
    lines.push(
      `  model    ${id} (${facts.architecture}, ${size})`,
      `  slots    ${facts.slots} × ${facts.contextTokens} tokens, ${bytes(facts.contextBytes)} of memory`,
      `  device   ${facts.device}, loaded in ${(facts.loadMs / 1000).toFixed(1)} s`,
    );
    if (facts.spill !== undefined) {
      const { directory, inMemory, limitBytes } = facts.spill;
      const where = inMemory ? "of memory" : `in ${directory}`;
      lines.push(`  prompts  computed ones are kept for their clients, up to ${bytes(limitBytes)} ${where}`);
    }
    if (facts.checkpointBytes !== undefined)
      lines.push(
        `  states   checkpoints of prompts are kept, up to ${bytes(facts.checkpointBytes)} of memory`,
      );
    if (facts.draft !== undefined) {
      const { name, parameters, sizeBytes, contextBytes } = facts.draft;
      lines.push(
        `  draft    ${name} (${count(parameters)} parameters, ${bytes(sizeBytes)}), ${bytes(contextBytes)} of memory`,
      );
    }
    for (const { name, fileName } of adapters) lines.push(`  adapter  ${name} (${fileName})`);
    const { contextTokens, trainContextTokens } = facts;
    if (contextTokens > trainContextTokens && trainContextTokens > 0)
      lines.push(
        `  note     it was trained with texts of up to ${trainContextTokens} tokens: beyond them answers get worse`,
      );
    if (template === undefined) lines.push("  note     no chat template: it serves /v1/completions only");
    if (id === embeddedModel) {
      lines.push(`  note     a tiny test model; for real answers try "${realModel}", or a .gguf file there`);
    }
  }
  const first = models[0];
  const model = first?.id ?? "";
  const chat = first?.template !== undefined;
  const body = chat
    ? { model, messages: [{ role: "user", content: "Hello" }] }
    : { model, prompt: "Once upon a time" };
  const path = chat ? "chat/completions" : "completions";
  const auth = keys > 0 ? " -H 'authorization: Bearer YOUR_KEY'" : "";
  lines.push(
    `  ready    ${url}/v1${keys > 0 ? ` (${keys === 1 ? "one API key" : `${keys} API keys`})` : " (no API key)"}`,
    "",
    `  curl ${url}/v1/${path} -H 'content-type: application/json'${auth} -d ${quote(JSON.stringify(body))}`,
    `  new OpenAI({ baseURL: "${url}/v1", apiKey: "${keys > 0 ? "YOUR_KEY" : "none"}" })`,
    "",
  );
  return lines.join("\n");
}

function quote(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function count(parameters: number): string {
  if (parameters >= 1e9) return `${(parameters / 1e9).toFixed(1)} B`;
  return `${(parameters / 1e6).toFixed(1)} M`;
}

function bytes(value: number): string {
  return value >= 1e9 ? `${(value / 1e9).toFixed(1)} GB` : `${(value / 1e6).toFixed(1)} MB`;
}
