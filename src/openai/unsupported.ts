/** Fields this server knows and cannot honour: refused by name, because dropping them would change the answer. */
import { isObject } from "../http/json.ts";
import { MAX_REPORTED_FIELDS } from "../http/limits.ts";
import { ApiError } from "./api-error.ts";
import { STRUCTURED_FIELDS } from "./format-fields.ts";
import { streamOptions } from "./generation-fields.ts";

type Body = Readonly<Record<string, unknown>>;
export type RequestEndpoint = "chat" | "completions" | "embeddings" | "rerank";
type Check = (value: unknown) => boolean;

const isAsked: Check = (value) => value !== false && value !== "" && !isEmptyList(value);

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}

/** Fields that are refused whatever they hold, unless that is an empty or false value. */
const REFUSED: Readonly<Record<string, Check>> = {
  audio: isAsked,
  chat_template: isAsked,
  documents: isAsked,
  logits_processors: isAsked,
  logprob_token_ids: isAsked,
  moderation: isAsked,
  post_sampling_probs: isAsked,
  web_search_options: isAsked,
};

const REFUSED_BY: Readonly<Record<RequestEndpoint, Readonly<Record<string, Check>>>> = {
  chat: { ...REFUSED, echo: isAsked, suffix: isAsked },
  completions: {
    ...REFUSED,
    functions: isAsked,
    prediction: isAsked,
    tools: isAsked,
  },
  embeddings: {},
  rerank: {},
};

const isNot =
  (neutral: number): Check =>
  (value) =>
    value !== neutral;

/** Fields of which only some values are refused. */
const REFUSED_VALUES: Readonly<Record<string, Check>> = {
  adaptive_target: (value) => !(typeof value === "number" && value < 0),
  dynatemp_range: isNot(0),
  length_penalty: isNot(1),
  modalities: (value) => !Array.isArray(value) || value.some((name) => name !== "text"),
  mirostat: isNot(0),
  top_n_sigma: (value) => !(typeof value === "number" && value <= 0),
  typ_p: isNot(1),
  typical_p: isNot(1),
  use_beam_search: isAsked,
};

const REFUSED_VALUES_BY: Readonly<Record<RequestEndpoint, Readonly<Record<string, Check>>>> = {
  chat: { ...REFUSED_VALUES, best_of: isNot(1) },
  completions: {
    ...REFUSED_VALUES,
    function_call: (value) => value !== "none" && value !== "auto",
    tool_choice: (value) => value !== "none" && value !== "auto",
  },
  embeddings: {},
  rerank: {},
};

/** Understood and without effect; reported like unknown fields, and never refused. */
const WITHOUT_EFFECT: ReadonlySet<string> = new Set([
  "metadata",
  "parallel_tool_calls",
  "prompt_cache_key",
  "prompt_cache_options",
  "prompt_cache_retention",
  "safety_identifier",
  "service_tier",
  "store",
  "user",
  "verbosity",
]);

/** Of fields that are objects, what is read of them; the rest has no effect either. */
const READ_WITHIN: Readonly<Record<string, ReadonlySet<string>>> = {
  stream_options: new Set(Object.keys(streamOptions.shape)),
  structured_outputs: STRUCTURED_FIELDS,
};

/** Padding of the chunks, which OpenAI sends and no client needs. */
const KNOWN_WITHIN = "stream_options.include_obfuscation";

/** How an endpoint treats the fields that it does not simply read. */
export interface FieldRules {
  readonly refused: readonly string[];
  /** Of these only some values are refused. */
  readonly refusedValues: readonly string[];
  readonly withoutEffect: readonly string[];
}

export function fieldRules(endpoint: RequestEndpoint): FieldRules {
  return {
    refused: Object.keys(REFUSED_BY[endpoint]),
    refusedValues: Object.keys(REFUSED_VALUES_BY[endpoint]),
    withoutEffect: [...WITHOUT_EFFECT],
  };
}

/** @throws {ApiError} 400 that names the field. */
export function refuseUnsupported(body: Body, endpoint: RequestEndpoint): void {
  const refused = REFUSED_BY[endpoint];
  const refusedValues = REFUSED_VALUES_BY[endpoint];
  for (const [field, value] of Object.entries(body)) {
    if (has(refused, field) && refused[field]?.(value) === true) {
      throw new ApiError(
        "unsupported_parameter",
        `Unsupported parameter: '${field}' is not supported by this server.`,
        field,
      );
    }
    if (has(refusedValues, field) && refusedValues[field]?.(value) === true) {
      throw new ApiError(
        "unsupported_value",
        `Unsupported value: this value of '${field}' is not supported by this server.`,
        field,
      );
    }
  }
}

/**
 * The fields that had no effect, for the client to see.
 * @param known The fields that the endpoint's schema reads.
 * @throws {ApiError} 400 for the first unknown field when `strict`.
 */
export function ignoredFields(
  body: Body,
  known: ReadonlySet<string>,
  { endpoint, strict }: { readonly endpoint: RequestEndpoint; readonly strict: boolean },
): string[] {
  const ignored: string[] = [];
  for (const field of Object.keys(body)) {
    if (known.has(field)) reportUnreadWithin(body, field, { strict, ignored });
    if (known.has(field) || has(REFUSED_BY[endpoint], field) || has(REFUSED_VALUES_BY[endpoint], field))
      continue;
    if (strict && !WITHOUT_EFFECT.has(field)) throw unknownParameter(field);
    reportField(ignored, field);
  }
  return ignored;
}

/** @throws {ApiError} 400 for the first that OpenAI does not know either when `strict`. */
function reportUnreadWithin(
  body: Body,
  field: string,
  { strict, ignored }: { readonly strict: boolean; readonly ignored: string[] },
): void {
  const read = has(READ_WITHIN, field) ? READ_WITHIN[field] : undefined;
  const value = body[field];
  if (read === undefined || !isObject(value)) return;
  for (const [key, given] of Object.entries(value)) {
    if (read.has(key) || given === null || given === false) continue;
    const path = `${field}.${key}`;
    if (strict && path !== KNOWN_WITHIN) throw unknownParameter(path);
    reportField(ignored, path);
  }
}

/**
 * The fields that an endpoint without fields of its own to refuse or to ignore does not read.
 * @throws {ApiError} 400 for the first of them when `strict`.
 */
export function unreadFields(body: Body, known: ReadonlySet<string>, strict: boolean): string[] {
  const unread: string[] = [];
  for (const field of Object.keys(body)) {
    if (known.has(field)) continue;
    if (strict) throw unknownParameter(field);
    reportField(unread, field);
  }
  return unread;
}

/** Adds a field to the list of those that had no effect, while it has room: a body may have thousands. */
export function reportField(ignored: string[], field: string): void {
  if (ignored.length < MAX_REPORTED_FIELDS) ignored.push(printable(field));
}

export function unknownParameter(field: string): ApiError {
  const name = printable(field);
  return new ApiError("unknown_parameter", `Unknown parameter: '${name}'.`, name);
}

/** The names of what had no effect as a header may hold them: keywords of schemas follow the fields. */
export function reportedFields(fields: readonly string[], keywords: readonly string[]): string[] {
  const reported = fields.slice(0, MAX_REPORTED_FIELDS);
  const others = keywords.slice(0, MAX_REPORTED_FIELDS - reported.length);
  return [...reported, ...others.map((path) => path.slice(0, 128).replace(/[^\w.$[\]-]/g, "?"))];
}

/** Field names are the client's text and end up in a header. */
function printable(field: string): string {
  return field.slice(0, 64).replace(/[^\w.-]/g, "?");
}

function has(table: object, field: string): boolean {
  return Object.hasOwn(table, field);
}
