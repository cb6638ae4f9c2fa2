/** The fields of a response request that are refused, by name, and those that have no effect, for the client to see. */
import { ApiError } from "../api-error.ts";
import { reportField, unknownParameter } from "../unsupported.ts";
import type { FieldRules } from "../unsupported.ts";

type Body = Readonly<Record<string, unknown>>;

/** What these fields ask for does not exist here. */
const REFUSED: ReadonlySet<string> = new Set(["conversation", "moderation", "prompt"]);

/** Fields of the chat API; dropping them would change the answer. */
const MOVED: Readonly<Record<string, string>> = {
  function_call: "tool_choice",
  functions: "tools",
  max_completion_tokens: "max_output_tokens",
  max_tokens: "max_output_tokens",
  messages: "input",
  reasoning_effort: "reasoning.effort",
  response_format: "text.format",
};

/** Understood, repeated in the response where OpenAI does, and without effect; never refused. */
const WITHOUT_EFFECT: ReadonlySet<string> = new Set([
  "context_management",
  "max_tool_calls",
  "prompt_cache_key",
  "prompt_cache_options",
  "safety_identifier",
  "service_tier",
  "stream_options",
  "user",
]);

export const RESPONSE_FIELD_RULES: FieldRules = {
  refused: [...REFUSED, ...Object.keys(MOVED)],
  refusedValues: [],
  withoutEffect: [...WITHOUT_EFFECT],
};

/** @throws {ApiError} 400 that names the field. */
export function refuseFields(body: Body): void {
  for (const field of Object.keys(body)) {
    const moved = Object.hasOwn(MOVED, field) ? MOVED[field] : undefined;
    if (moved !== undefined) {
      throw new ApiError(
        "unsupported_parameter",
        `Unsupported parameter: '${field}'. In the Responses API, this parameter has moved to '${moved}'.`,
        field,
      );
    }
    if (REFUSED.has(field)) {
      throw new ApiError(
        "unsupported_parameter",
        `Unsupported parameter: '${field}' is not supported by this server.`,
        field,
      );
    }
  }
}

/**
 * The fields that had no effect.
 * @param known The fields that the schema reads and honours.
 * @throws {ApiError} 400 for the first unknown field when `strict`.
 */
export function withoutEffect(body: Body, known: ReadonlySet<string>, strict: boolean): string[] {
  const ignored: string[] = [];
  for (const field of Object.keys(body)) {
    const understood = WITHOUT_EFFECT.has(field);
    if (known.has(field) && !understood) continue;
    if (strict && !understood) throw unknownParameter(field);
    reportField(ignored, field);
  }
  return ignored;
}
