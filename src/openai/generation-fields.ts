/** The request fields that chat and legacy completions share, and what they mean to the engine. */
import { z } from "zod";
import type { SamplingDefaults } from "../../models/catalogue.ts";
import type { GenerationParams, SamplingParams, TokenId } from "../../engine/protocol.ts";
import type { Limits } from "../config/limits.ts";
import type { RequestDefaults } from "../config/request-defaults.ts";
import { MAX_CACHE_SALT, MAX_DRY_BREAKERS, MAX_LORAS, MAX_MODEL_NAME } from "../http/limits.ts";
import { isObject } from "../http/json.ts";
import type { PriorityClass } from "../../engine/sharing.ts";
import { ApiError, emptyPrompt } from "./api-error.ts";
import { extraSamplersShape, readExtraSamplers } from "./extra-samplers.ts";
import { loraField } from "./lora-field.ts";
import type { RequestedAdapters } from "./lora-field.ts";
import { priorityField, readPriority } from "./priority-field.ts";
import {
  belowMinimum,
  checkLength,
  checkMaximum,
  checkTextLength,
  decimal,
  emptyArray,
  integer,
  withoutNulls,
  wrongType,
} from "./validation.ts";
import { readPromptCut } from "./prompt-cut.ts";
import type { PromptCut } from "./prompt-cut.ts";

const UINT32 = 2n ** 32n;

/** Below it logits lose their meaning, above it nothing is ever repeated. */
const REPEAT_PENALTY_RANGE = [0.01, 100] as const;

const repeatPenaltyField = decimal(...REPEAT_PENALTY_RANGE).optional();

export const streamOptions = z.object({
  include_usage: z.boolean().nullish(),
  continuous_usage_stats: z.boolean().nullish(),
});

export const generationShape = {
  model: z.string().optional(),
  temperature: decimal(0, 2).optional(),
  top_p: decimal(0, 1).optional(),
  top_k: integer(-1).optional(),
  min_p: decimal(0, 1).optional(),
  frequency_penalty: decimal(-2, 2).optional(),
  presence_penalty: decimal(-2, 2).optional(),
  repeat_penalty: repeatPenaltyField,
  repetition_penalty: repeatPenaltyField,
  repeat_last_n: integer(-1).optional(),
  ...extraSamplersShape,
  logit_bias: z.record(z.string(), decimal(-100, 100)).optional(),
  allowed_token_ids: z.array(integer(0)).optional(),
  truncate_prompt_tokens: integer(-1).optional(),
  bad_words: z.array(z.string()).optional(),
  seed: z.number("an integer").optional(),
  ignore_eos: z.boolean().optional(),
  min_tokens: integer(0).optional(),
  stop: z
    .union(
      [z.string(), z.array(z.union([z.string(), integer(0)], "a string or an integer"))],
      "a string or an array of strings",
    )
    .optional(),
  stop_token_ids: z.array(integer(0)).optional(),
  max_tokens: integer(-(2 ** 31)).optional(),
  max_completion_tokens: integer(-(2 ** 31)).optional(),
  n_predict: integer(-(2 ** 31)).optional(),
  stream: z.boolean().optional(),
  stream_options: streamOptions.optional(),
  include_stop_str_in_output: z.boolean().optional(),
  skip_special_tokens: z.boolean().optional(),
  cache_prompt: z.boolean().optional(),
  cache_salt: z.string().optional(),
  prompt_cache_retention: z.enum(["in_memory", "in-memory", "24h"]).optional(),
  return_token_ids: z.boolean().optional(),
  timings_per_token: z.boolean().optional(),
  return_progress: z.boolean().optional(),
  n: integer(1).optional(),
  priority: priorityField.optional(),
  lora: loraField.optional(),
} as const;

/** OpenAI's longest retention. */
const DAY_MS = 24 * 3_600_000;

const generationSchema = z.object(generationShape);
export type GenerationFields = z.infer<typeof generationSchema>;

/** What to generate, with every default filled in that does not depend on the model. */
/** As asked for: the model's defaults fill what is undefined. */
export type RequestedSampling = Omit<SamplingParams, "temperature" | "topP"> & {
  readonly temperature: number | undefined;
  readonly topP: number | undefined;
};

/** A token id, and where in the request it stands. */
export interface NamedToken {
  readonly token: TokenId;
  readonly param: string;
}

export interface GenerationSettings {
  readonly sampling: RequestedSampling;
  /** 0 computes the prompt alone. */
  readonly maxTokens: number | undefined;
  readonly minTokens: number;
  readonly ignoreEos: boolean;
  readonly stopTokens: readonly NamedToken[];
  readonly stops: readonly string[];
  /** Absent: all of the prompt is read. */
  readonly truncatePrompt?: PromptCut | undefined;
  /** Not to be written; absent: none. */
  readonly badWords?: readonly string[] | undefined;
  readonly includeStop: boolean;
  readonly skipControl: boolean;
  readonly topLogprobs: number | undefined;
  /** As in `GenerationParams`. */
  readonly logprobsOfDraws?: boolean;
  readonly reusePrefix: boolean;
  /** Whether its computed prompt is to be kept for a day, before others that are as dear. */
  readonly keepsPrompt?: boolean;
  /** Cells are shared among requests of the same salt alone. */
  readonly cacheSalt: string | undefined;
  /** Undefined where the body says nothing of it. */
  readonly priority?: PriorityClass | undefined;
  /** In place of the adapters that the model's name stands for; absent or empty: those. */
  readonly lora?: RequestedAdapters | undefined;
}

/** How the answer is to be sent. */
export interface DeliverySettings {
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** Usage so far in every chunk. */
  readonly continuousUsage: boolean;
  readonly tokenIds: boolean;
  readonly timingsPerToken: boolean;
  /** Whether a stream tells how far the prompt is. */
  readonly promptProgress: boolean;
}

/** What the operator lets a request ask for. */
export interface RequestLimits {
  /** Whether unknown fields are refused. */
  readonly strictParams: boolean;
  readonly limits: Limits;
  /** For what a request says nothing of. */
  readonly requestDefaults?: RequestDefaults;
}

/** The request without nulls, its long arrays bounded before a schema walks through them. */
export function prepareBody(
  body: Readonly<Record<string, unknown>>,
  limits: Limits,
): Record<string, unknown> {
  const present = withoutNulls(body);
  checkLength(present["stop"], limits["max-stops"], "stop", "max-stops");
  checkLength(present["stop_token_ids"], limits["max-stop-tokens"], "stop_token_ids", "max-stop-tokens");
  checkLength(present["allowed_token_ids"], limits["max-logit-bias"], "allowed_token_ids", "max-logit-bias");
  checkLength(present["bad_words"], limits["max-stop-tokens"], "bad_words", "max-stop-tokens");
  checkLength(present["dry_sequence_breakers"], MAX_DRY_BREAKERS, "dry_sequence_breakers");
  checkLength(present["lora"], MAX_LORAS, "lora");
  const bias = present["logit_bias"];
  const mostBiases = limits["max-logit-bias"];
  if (isObject(bias) && Object.keys(bias).length > mostBiases) {
    throw new ApiError(
      "invalid_value",
      `Invalid 'logit_bias': at most ${mostBiases} tokens (--max-logit-bias).`,
      "logit_bias",
    );
  }
  const model = present["model"];
  if (typeof model === "string") checkTextLength(model.length, MAX_MODEL_NAME, "model");
  const salt = present["cache_salt"];
  if (typeof salt === "string") checkTextLength(salt.length, MAX_CACHE_SALT, "cache_salt");
  return present;
}

/**
 * @param topLogprobs See `GenerationParams`.
 * @param defaultMaxTokens Where the operator has none; undefined runs to the end of the context.
 * @throws {ApiError} 400 for values a schema cannot judge alone.
 */
export function readGeneration(
  fields: GenerationFields,
  topLogprobs: number | undefined,
  defaultMaxTokens: number | undefined,
  { limits, requestDefaults = {} }: RequestLimits,
): GenerationSettings {
  return {
    sampling: readSampling(fields, requestDefaults),
    maxTokens: readMaxTokens(fields, requestDefaults.max_tokens ?? defaultMaxTokens),
    minTokens: fields.min_tokens ?? 0,
    ignoreEos: fields.ignore_eos ?? false,
    stopTokens: readStopTokens(fields),
    stops: readStops(fields.stop, limits),
    truncatePrompt: readPromptCut(fields.truncate_prompt_tokens, limits),
    badWords: readBadWords(fields.bad_words, limits),
    includeStop: fields.include_stop_str_in_output ?? false,
    skipControl: fields.skip_special_tokens ?? true,
    topLogprobs,
    reusePrefix: fields.cache_prompt ?? true,
    keepsPrompt: fields.prompt_cache_retention === "24h",
    priority: readPriority(fields.priority),
    cacheSalt: fields.cache_salt,
    lora: fields.lora,
  };
}

export function readDelivery(fields: GenerationFields): DeliverySettings {
  const options = fields.stream_options;
  return {
    stream: fields.stream ?? false,
    includeUsage: options?.include_usage ?? options?.continuous_usage_stats ?? false,
    continuousUsage: options?.continuous_usage_stats ?? false,
    tokenIds: fields.return_token_ids ?? false,
    timingsPerToken: fields.timings_per_token ?? false,
    promptProgress: (fields.stream ?? false) && (fields.return_progress ?? false),
  };
}

/** @throws {ApiError} 400 for too many. */
export function readChoices({ n = 1 }: GenerationFields, limits: Limits): number {
  checkMaximum(n, limits["max-choices"], "n", "max-choices");
  return n;
}

/** @throws {ApiError} 400 for a token outside the vocabulary. */
export function toEngineParams(
  settings: GenerationSettings,
  vocabSize: number,
  defaults: SamplingDefaults,
): GenerationParams {
  for (const { token, param } of settings.stopTokens) checkToken(token, vocabSize, param);
  for (const [token] of settings.sampling.logitBias) checkToken(token, vocabSize, "logit_bias");
  for (const [i, token] of (settings.sampling.allowedTokens ?? []).entries())
    checkToken(token, vocabSize, `allowed_token_ids[${i}]`);
  const { maxTokens, minTokens, ignoreEos, stopTokens, topLogprobs, reusePrefix } = settings;
  const { temperature = defaults.temperature, topP = defaults.topP } = settings.sampling;
  const sampling = { ...settings.sampling, temperature, topP };
  return {
    sampling,
    maxTokens,
    minTokens,
    ignoreEos,
    stopTokenIds: stopTokens.map(({ token }) => token),
    grammar: undefined,
    topLogprobs,
    ...(settings.logprobsOfDraws === true ? { logprobsOfDraws: true } : {}),
    reusePrefix,
    ...(settings.keepsPrompt === true ? { keepMs: DAY_MS } : {}),
  };
}

/** The field that bans tokens; undefined when nothing is banned. */
export function banningField(settings: GenerationSettings): string | undefined {
  const { sampling, ignoreEos, minTokens } = settings;
  if (sampling.allowedTokens !== undefined) return "allowed_token_ids";
  if (settings.badWords !== undefined) return "bad_words";
  if (sampling.logitBias.length > 0) return "logit_bias";
  if (ignoreEos) return "ignore_eos";
  return minTokens > 0 ? "min_tokens" : undefined;
}

/** @throws {ApiError} 400 unless `0 <= token < vocabSize` and whole. */
export function checkToken(token: unknown, vocabSize: number, param: string): asserts token is TokenId {
  if (typeof token !== "number" || !Number.isInteger(token)) throw wrongType(param, "an integer", token);
  if (token >= 0 && token < vocabSize) return;
  throw new ApiError(
    "invalid_value",
    `Invalid '${param}': token ${token} is not in the vocabulary, which has ${vocabSize} tokens.`,
    param,
  );
}

function readSampling(fields: GenerationFields, defaults: RequestDefaults): RequestedSampling {
  const lookBack = fields.repeat_last_n ?? -1;
  if (lookBack !== -1 && ((fields.frequency_penalty ?? 0) !== 0 || (fields.presence_penalty ?? 0) !== 0)) {
    throw new ApiError(
      "unsupported_value",
      "'repeat_last_n' cannot be combined with 'frequency_penalty' or 'presence_penalty', which count every " +
        "generated token.",
      "repeat_last_n",
    );
  }
  // A request that looks back on some tokens alone cannot have penalties that look at all of them.
  const { frequency_penalty = 0, presence_penalty = 0 } = lookBack === -1 ? defaults : {};
  const repeatPenalty = fields.repeat_penalty ?? fields.repetition_penalty ?? defaults.repeat_penalty ?? 1;
  return {
    temperature: fields.temperature ?? defaults.temperature,
    topP: fields.top_p ?? defaults.top_p,
    topK: Math.max(0, fields.top_k ?? defaults.top_k ?? 0),
    minP: fields.min_p ?? defaults.min_p ?? 0,
    frequencyPenalty: fields.frequency_penalty ?? frequency_penalty,
    presencePenalty: fields.presence_penalty ?? presence_penalty,
    // llama.cpp's clients switch the penalty off with a window of 0; to the engine 0 means all.
    repeatPenalty: lookBack === 0 ? 1 : repeatPenalty,
    repeatLastTokens: Math.max(0, lookBack),
    ...readExtraSamplers(fields),
    allowedTokens: readAllowedTokens(fields.allowed_token_ids),
    logitBias: Object.entries(fields.logit_bias ?? {}).map(([token, bias]) => [readBiasToken(token), bias]),
    seed: readSeed(fields.seed ?? defaults.seed),
  };
}

/** Any whole number is a seed; different ones may be the same modulo 2^32. */
function readSeed(seed: number | undefined): number {
  if (seed === undefined || seed === -1) return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
  if (!Number.isInteger(seed)) throw wrongType("seed", "an integer", seed);
  return Number(((BigInt(seed) % UINT32) + UINT32) % UINT32);
}

function readBiasToken(key: string): TokenId {
  if (/^\d{1,10}$/.test(key)) return Number(key);
  throw new ApiError("invalid_value", "Invalid 'logit_bias': its keys must be token ids.", "logit_bias");
}

function readMaxTokens(fields: GenerationFields, byDefault: number | undefined): number | undefined {
  const names = ["max_completion_tokens", "max_tokens", "n_predict"] as const;
  const param = names.find((name) => fields[name] !== undefined);
  if (param === undefined) return byDefault;
  const value = fields[param] ?? -1;
  if (value === -1) return undefined;
  if (value < 1) throw belowMinimum(param, 1, value);
  return value;
}

function readAllowedTokens(ids: GenerationFields["allowed_token_ids"]): TokenId[] | undefined {
  if (ids?.length === 0) throw emptyArray("allowed_token_ids");
  return ids;
}

function readBadWords(words: readonly string[] = [], limits: Limits): readonly string[] | undefined {
  for (const [i, word] of words.entries()) {
    const param = `bad_words[${i}]`;
    if (word === "") throw emptyPrompt(param);
    checkTextLength(Buffer.byteLength(word), limits["max-stop-bytes"], param, "max-stop-bytes");
  }
  return words.length === 0 ? undefined : words;
}

function readStops(stop: GenerationFields["stop"], limits: Limits): string[] {
  const stops = typeof stop === "string" ? [stop] : (stop ?? []);
  return stops.flatMap((text, i) => {
    if (typeof text === "number") return [];
    const param = typeof stop === "string" ? "stop" : `stop[${i}]`;
    checkTextLength(Buffer.byteLength(text), limits["max-stop-bytes"], param, "max-stop-bytes");
    return text === "" ? [] : [text];
  });
}

/** Tokens are stops too, some clients list them among the texts. */
function readStopTokens({ stop, stop_token_ids: ids = [] }: GenerationFields): NamedToken[] {
  const listed = Array.isArray(stop) ? stop : [];
  return [
    ...ids.map((token, i) => ({ token, param: `stop_token_ids[${i}]` })),
    ...listed.flatMap((token, i) => (typeof token === "number" ? [{ token, param: `stop[${i}]` }] : [])),
  ];
}
