/** Fields this server knows and cannot honour: refused by name, because dropping them would change the answer. */
import { isObject } from "../http/json.ts";
import { MAX_REPORTED_FIELDS } from "../http/limits.ts";
import { ApiError } from "./api-error.ts";

type Body = Readonly<Record<string, unknown>>;
export type GenerationEndpoint = "chat" | "completions";
type Check = (value: unknown) => boolean;

const isAsked: Check = (value) => value !== false && value !== "" && !isEmptyList(value);
const isOverOne: Check = (value) => value !== 1;

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}

/** Fields that are refused whatever they hold, unless that is an empty or false value. */
const REFUSED: Readonly<Record<string, Check>> = {
  audio: isAsked,
  chat_template: isAsked,
  documents: isAsked,
  functions: isAsked,
  grammar: isAsked,
  guided_choice: isAsked,
  guided_grammar: isAsked,
  guided_json: isAsked,
  guided_regex: isAsked,
  json_schema: isAsked,
  lora: isAsked,
  moderation: isAsked,
  prediction: isAsked,
  structured_outputs: isAsked,
  tools: isAsked,
  web_search_options: isAsked,
};

const REFUSED_BY: Readonly<Record<GenerationEndpoint, Readonly<Record<string, Check>>>> = {
  chat: REFUSED,
  completions: REFUSED,
};

/** Fields of which only some values are refused. */
const REFUSED_VALUES: Readonly<Record<string, Check>> = {
  function_call: (value) => value !== "none" && value !== "auto",
  modalities: (value) => !Array.isArray(value) || value.some((name) => name !== "text"),
  response_format: (value) => !isObject(value) || value["type"] !== "text",
  tool_choice: (value) => value !== "none" && value !== "auto",
  use_beam_search: isAsked,
};

const REFUSED_VALUES_BY: Readonly<Record<GenerationEndpoint, Readonly<Record<string, Check>>>> = {
  chat: { ...REFUSED_VALUES, best_of: isOverOne },
  completions: REFUSED_VALUES,
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

/** @throws {ApiError} 400 that names the field. */
export function refuseUnsupported(body: Body, endpoint: GenerationEndpoint): void {
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
  { endpoint, strict }: { readonly endpoint: GenerationEndpoint; readonly strict: boolean },
): string[] {
  const ignored: string[] = [];
  for (const field of Object.keys(body)) {
    if (known.has(field) || has(REFUSED_BY[endpoint], field) || has(REFUSED_VALUES_BY[endpoint], field))
      continue;
    if (strict && !WITHOUT_EFFECT.has(field)) {
      const name = printable(field);
      throw new ApiError("unknown_parameter", `Unknown parameter: '${name}'.`, name);
    }
    if (ignored.length < MAX_REPORTED_FIELDS) ignored.push(printable(field));
  }
  return ignored;
}

/** Field names are the client's text and end up in a header. */
function printable(field: string): string {
  return field.replace(/[^\w.-]/g, "?").slice(0, 64);
}

function has(table: object, field: string): boolean {
  return Object.hasOwn(table, field);
}
