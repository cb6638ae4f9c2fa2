/** Biases in llama.cpp's own dialect: pairs or an object, by token id or by a text, which stands for all its tokens. */
import { z } from "zod";
import { EngineError } from "../../engine/errors.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import type { Limits } from "../config/limits.ts";
import { isObject } from "../http/json.ts";
import { ApiError, fromEngineError } from "../openai/api-error.ts";
import type { GenerationSettings } from "../openai/generation-fields.ts";
import { checkLength, checkTextLength, decimal, parseWith } from "../openai/validation.ts";

type Body = Readonly<Record<string, unknown>>;
/** By text. */
export type TextBiases = Readonly<Record<string, number>>;

/** Each text is tokenized by itself. */
const MOST_TEXTS = 256;
const MOST_TEXT_BYTES = 1024;

const textsSchema = z.object({ logit_bias: z.record(z.string(), decimal(-100, 100)) });

/**
 * @returns The body with the biases of ids as OpenAI's dialect has them, and those of texts.
 * @throws {ApiError} 400 for too many, and for what is no bias.
 */
export function splitBiases(body: Body, limits: Limits): { readonly body: Body; readonly texts: TextBiases } {
  const bias = body["logit_bias"];
  if (!Array.isArray(bias) && !isObject(bias)) return { body, texts: {} };
  const most = limits["max-logit-bias"];
  const entries: readonly unknown[] = Array.isArray(bias) ? bias : Object.entries(bias);
  checkLength(entries, most, "logit_bias", "max-logit-bias");
  const ids = new Map<string, unknown>();
  const texts = new Map<string, unknown>();
  for (const [i, entry] of entries.entries()) {
    if (!isPair(entry)) {
      throw new ApiError(
        "invalid_type",
        `Invalid type for 'logit_bias[${i}]': expected a token id or a text, and its bias.`,
        `logit_bias[${i}]`,
      );
    }
    const [key, value] = entry;
    // The keys of an object are texts in any case.
    const isId = typeof key === "number" || (!Array.isArray(bias) && /^\d{1,10}$/.test(key));
    (isId ? ids : texts).set(String(key), value === false ? -100 : value);
  }
  if (texts.size === 0) return { body: { ...body, logit_bias: Object.fromEntries(ids) }, texts: {} };
  checkLength([...texts], MOST_TEXTS, "logit_bias");
  for (const text of texts.keys()) checkTextLength(Buffer.byteLength(text), MOST_TEXT_BYTES, "logit_bias");
  const { logit_bias } = parseWith(textsSchema, { logit_bias: Object.fromEntries(texts) });
  return { body: { ...body, logit_bias: Object.fromEntries(ids) }, texts: logit_bias };
}

function isPair(entry: unknown): entry is readonly [string | number, unknown] {
  if (!Array.isArray(entry) || entry.length !== 2) return false;
  return typeof entry[0] === "number" || typeof entry[0] === "string";
}

/**
 * The settings with a bias for each token of each text.
 * @throws {ApiError} 400 for more tokens than may have one, or 503.
 */
export async function withTextBiases(
  settings: GenerationSettings,
  texts: TextBiases,
  model: LoadedModel,
  limits: Limits,
): Promise<GenerationSettings> {
  const entries = Object.entries(texts);
  if (entries.length === 0) return settings;
  const biases = new Map(settings.sampling.logitBias);
  try {
    const parts = entries.map(([text]) => [{ text, special: false }]);
    const tokenized = await model.engine.tokenizeEach(parts, false);
    for (const [i, tokens] of tokenized.entries()) {
      for (const token of tokens) biases.set(token, entries[i]?.[1] ?? 0);
    }
  } catch (error) {
    throw error instanceof EngineError ? fromEngineError(error, "logit_bias") : error;
  }
  checkLength([...biases], limits["max-logit-bias"], "logit_bias", "max-logit-bias");
  return { ...settings, sampling: { ...settings.sampling, logitBias: [...biases] } };
}
