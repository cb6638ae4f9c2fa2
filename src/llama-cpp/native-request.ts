/** What a request in llama.cpp's own dialect asks for: `/completion` and `/infill`, read as a legacy completion with other names. */
import { z } from "zod";
import { ApiError } from "../openai/api-error.ts";
import { completionSchema, readCompletionRequest } from "../openai/completion-request.ts";
import type { CompletionRequest } from "../openai/completion-request.ts";
import { prepareBody } from "../openai/generation-fields.ts";
import type { RequestLimits } from "../openai/generation-fields.ts";
import type { MixedInput } from "../openai/text-inputs.ts";
import { unreadFields } from "../openai/unsupported.ts";
import { checkLength, exclusive, integer, missing, parseWith } from "../openai/validation.ts";
import { NATIVE_BIAS_JSON, NATIVE_PROMPT_JSON } from "../openai/wire-schemas.ts";
import { splitBiases } from "./native-bias.ts";
import type { TextBiases } from "./native-bias.ts";
import { readNativePrompts } from "./native-prompt.ts";

type Body = Readonly<Record<string, unknown>>;

/** Most files that `/infill` takes beside the one that is written in, and most keys of `response_fields`. */
const MOST_LISTED = 256;

const nativeShape = {
  n_predict: integer(-(2 ** 31)).optional(),
  n_cmpl: integer(1).optional(),
  n_probs: integer(0).optional(),
  post_sampling_probs: z.boolean().optional(),
  return_tokens: z.boolean().optional(),
  response_fields: z.array(z.string()).optional(),
} as const;

const extraFile = z.object({ filename: z.string().optional(), text: z.string() });

const infillShape = {
  input_prefix: z.string().optional(),
  input_suffix: z.string().optional(),
  input_extra: z.array(extraFile).optional(),
} as const;

const shared = completionSchema.omit({
  best_of: true,
  echo: true,
  logprobs: true,
  n: true,
  prompt_logprobs: true,
  return_tokens_as_token_ids: true,
  suffix: true,
});
/** What OpenAI's completions read and these do not: without effect, like any unknown field. */
const UNREAD: ReadonlySet<string> = new Set([
  "best_of",
  "echo",
  "prompt_logprobs",
  "return_tokens_as_token_ids",
  "suffix",
]);
const nativeSchema = z.object(nativeShape);
const infillSchema = z.object({ ...infillShape, prompt: z.string().optional() });

/** Judged by hand, before the others are read. */
const logit_bias = z.unknown().meta(NATIVE_BIAS_JSON).optional();

/** With every field that is read, for whoever describes them. */
export const nativeBodySchema = shared
  .extend(nativeShape)
  .extend({ prompt: z.unknown().meta(NATIVE_PROMPT_JSON), logit_bias });
export const infillBodySchema = shared.extend(nativeShape).extend(infillSchema.shape).extend({ logit_bias });

const NONE: ReadonlySet<string> = new Set();

/** Their names here, by their names in OpenAI's dialect. */
const NATIVE_NAMES: Readonly<Record<string, string>> = {
  max_tokens: "n_predict",
  logprobs: "n_probs",
  n: "n_cmpl",
};

export interface NativeRequest {
  /** Its own prompts say nothing. */
  readonly completion: CompletionRequest;
  readonly prompts: readonly MixedInput[];
  /** Beside those of `completion`. */
  readonly textBiases: TextBiases;
  /** Whether a whole answer lists its tokens; a stream always does. */
  readonly returnTokens: boolean;
  /** Paths such as `timings/predicted_n`; undefined is everything. */
  readonly responseFields: readonly string[] | undefined;
}

export interface ExtraFile {
  readonly filename?: string | undefined;
  readonly text: string;
}

export interface InfillRequest extends NativeRequest {
  readonly prefix: string;
  readonly suffix: string;
  /** Already written behind the gap's beginning. */
  readonly begun: string;
  readonly files: readonly ExtraFile[];
}

/** @throws {ApiError} 400 for what is wrong, and for what cannot be honoured. */
export function readNativeRequest(body: Body, limits: RequestLimits): NativeRequest {
  const { body: byId, texts } = splitBiases(body, limits.limits);
  const present = prepareBody(byId, limits.limits);
  const request = readNative(present, limits);
  const { "max-answer-choices": most } = limits.limits;
  const prompts = readNativePrompts(
    present["prompt"],
    Math.max(1, Math.floor(most / request.completion.choices)),
  );
  return { ...request, prompts, textBiases: texts };
}

/** @throws {ApiError} 400 for what is wrong, and for what cannot be honoured. */
export function readInfillRequest(body: Body, limits: RequestLimits): InfillRequest {
  const { body: byId, texts } = splitBiases(body, limits.limits);
  const { input_prefix, input_suffix, input_extra, prompt, ...rest } = prepareBody(byId, limits.limits);
  checkLength(input_extra, MOST_LISTED, "input_extra");
  const fields = parseWith(
    infillSchema,
    withoutUndefined({ input_prefix, input_suffix, input_extra, prompt }),
  );
  if (fields.input_prefix === undefined) throw missing("input_prefix");
  if (fields.input_suffix === undefined) throw missing("input_suffix");
  const native = readNative(rest, limits);
  // The tokens that make it a gap are in front.
  if (native.completion.generation.truncatePrompt !== undefined)
    throw exclusive("truncate_prompt_tokens", "input_suffix");
  return {
    // What is really asked comes from the fields above.
    ...native,
    prompts: [],
    textBiases: texts,
    prefix: fields.input_prefix,
    suffix: fields.input_suffix,
    begun: fields.prompt ?? "",
    files: fields.input_extra ?? [],
  };
}

function withoutUndefined(fields: Body): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function readNative(body: Body, limits: RequestLimits): Omit<NativeRequest, "prompts" | "textBiases"> {
  checkLength(body["response_fields"], MOST_LISTED, "response_fields");
  const { n_predict, n_cmpl, n_probs, post_sampling_probs, return_tokens, response_fields } = parseWith(
    nativeSchema,
    body,
  );
  const others = Object.entries(body).filter(([name]) => !Object.hasOwn(nativeShape, name));
  const read = Object.fromEntries(others.filter(([name]) => !UNREAD.has(name)));
  const unread = Object.fromEntries(others.filter(([name]) => UNREAD.has(name)));
  const asked = n_predict ?? limits.requestDefaults?.max_tokens ?? -1;
  const most = asked < 0 ? -1 : asked;
  const translated = {
    ...read,
    // Read apart from it.
    prompt: "",
    // Nothing is generated for 0, which llama.cpp's clients ask for to warm the cache up.
    max_tokens: most === 0 ? 1 : most,
    ...(n_probs === undefined || n_probs === 0 ? {} : { logprobs: n_probs }),
    ...(n_cmpl === undefined ? {} : { n: n_cmpl }),
  };
  const completion = inNativeNames(() => readCompletionRequest(translated, limits));
  const ignored = unreadFields(unread, NONE, limits.strictParams);
  const generation = {
    ...completion.generation,
    ...(most === 0 ? { maxTokens: 0 } : {}),
    ...(post_sampling_probs === true ? { logprobsOfDraws: true } : {}),
  };
  return {
    completion: { ...completion, generation, ignoredFields: [...completion.ignoredFields, ...ignored] },
    returnTokens: return_tokens ?? false,
    responseFields:
      response_fields === undefined || response_fields.length === 0 ? undefined : response_fields,
  };
}

function inNativeNames<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const { param = "" } = error;
    const native = NATIVE_NAMES[param];
    if (native === undefined) throw error;
    throw error.reworded((text) => (text === param ? native : text.replaceAll(`'${param}'`, `'${native}'`)));
  }
}
