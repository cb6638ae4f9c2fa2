/** What a response request asks for, read from its JSON body. */
import { z } from "zod";
import type { ChatTurn, OutputFormat, ToolChoice } from "../../chat-turn.ts";
import type { Limits } from "../../config/limits.ts";
import { ApiError } from "../api-error.ts";
import { formatShape, readFormat } from "../format-fields.ts";
import { generationShape, prepareBody, readDelivery, readGeneration } from "../generation-fields.ts";
import type { GenerationSettings, RequestLimits } from "../generation-fields.ts";
import { checkName, SCHEMA_NAME } from "../names.ts";
import { readReasoning, reasoningShape } from "../reasoning-fields.ts";
import { readChoice } from "../tool-fields.ts";
import { checkSchemaSize } from "../schema-size.ts";
import { checkMaximum, integer, missing, notOneOf, parseWith, wrongType } from "../validation.ts";
import { RESPONSE_INPUT_JSON, responseToolsJson, TOOL_CHOICE_JSON } from "../wire-schemas.ts";
import { isObject } from "../../http/json.ts";
import { refuseFields, withoutEffect } from "./fields.ts";
import type { OutputStyle } from "./response-object.ts";
import { choiceJson, HOSTED_TOOLS, readResponseTools, refuseHostedChoice } from "./tools.ts";
import type { ReadTools } from "./tools.ts";

const {
  n: _n,
  max_tokens: _maxTokens,
  n_predict: _nPredict,
  max_completion_tokens: _maxCompletionTokens,
  stream_options: _streamOptions,
  include_stop_str_in_output: _includeStop,
  return_token_ids: _tokenIds,
  ...sharedShape
} = generationShape;

const { response_format: _responseFormat, ...otherFormats } = formatShape;

/** OpenAI's. Those that belong to hosted tools and to images change nothing in answers that have none. */
const INCLUDABLE = [
  "file_search_call.results",
  "web_search_call.results",
  "web_search_call.action.sources",
  "message.input_image.image_url",
  "computer_call_output.output.image_url",
  "code_interpreter_call.outputs",
  "reasoning.encrypted_content",
  "message.output_text.logprobs",
] as const;

const SUMMARIES = ["auto", "concise", "detailed"] as const;

/** OpenAI's bounds. */
const MAX_METADATA_PAIRS = 16;
const MAX_METADATA_KEY = 64;
const MAX_METADATA_VALUE = 512;

const schema = z.object({
  ...sharedShape,
  ...otherFormats,
  enable_thinking: reasoningShape.enable_thinking,
  thinking_budget_tokens: reasoningShape.thinking_budget_tokens,
  thinking_token_budget: reasoningShape.thinking_token_budget,
  // These are judged by hand: they have many forms.
  input: z.unknown().meta(RESPONSE_INPUT_JSON).optional(),
  tools: z
    .unknown()
    .meta(responseToolsJson([...HOSTED_TOOLS]))
    .optional(),
  tool_choice: z.unknown().meta(TOOL_CHOICE_JSON).optional(),
  instructions: z.string().optional(),
  previous_response_id: z.string().optional(),
  store: z.boolean().optional(),
  background: z.boolean().optional(),
  include: z.array(z.enum(INCLUDABLE)).optional(),
  max_output_tokens: integer(1).optional(),
  max_tool_calls: integer(0).optional(),
  parallel_tool_calls: z.boolean().optional(),
  top_logprobs: integer(0).optional(),
  text: z
    .looseObject({
      format: z.looseObject({ type: z.string() }).nullish(),
      verbosity: z.enum(["low", "medium", "high"]).nullish(),
    })
    .optional(),
  reasoning: z
    .looseObject({
      effort: z.string().nullish(),
      max_tokens: integer(0).nullish(),
      summary: z.enum(SUMMARIES).nullish(),
      generate_summary: z.enum(SUMMARIES).nullish(),
    })
    .optional(),
  truncation: z.enum(["auto", "disabled"]).optional(),
  metadata: z.record(z.string(), z.string()).optional(),
  user: z.string().optional(),
  safety_identifier: z.string().optional(),
  prompt_cache_key: z.string().optional(),
  service_tier: z.string().optional(),
  chat_template_kwargs: z.record(z.string(), z.unknown()).optional(),
});

type Fields = z.infer<typeof schema>;

const KNOWN: ReadonlySet<string> = new Set(Object.keys(schema.shape));

export { schema as responseSchema };

export interface ResponseRequest {
  readonly model: string | undefined;
  /** Not read yet: that takes the id of the response and the items it may refer to. */
  readonly input: unknown;
  readonly instructions: string | undefined;
  readonly previousResponseId: string | undefined;
  readonly store: boolean;
  readonly stream: boolean;
  readonly background: boolean;
  /** Whether a stream tells how far the prompt is; and with each piece the times so far. */
  readonly promptProgress: boolean;
  readonly timingsPerToken: boolean;
  /** Whether the oldest items are dropped when the context is too small for all. */
  readonly truncate: boolean;
  /** The turn without its messages. */
  readonly turn: Omit<ChatTurn, "render">;
  readonly kwargs: Readonly<Record<string, unknown>>;
  readonly customTools: ReadonlySet<string>;
  readonly logprobs: boolean;
  readonly style: OutputStyle;
  readonly ignoredFields: readonly string[];
  /** The response's own fields that repeat the request. */
  readonly echo: RequestEcho;
}

/** Undefined where the model's default stands. */
export interface RequestEcho {
  readonly temperature: number | undefined;
  readonly topP: number | undefined;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** @throws {ApiError} 400 for what is wrong, and for what cannot be honoured. */
export function readResponseRequest(
  body: Readonly<Record<string, unknown>>,
  limits: RequestLimits,
): ResponseRequest {
  const present = prepareBody(body, limits.limits);
  refuseFields(present);
  const fields = parseWith(schema, present);
  const ignored = withoutEffect(present, KNOWN, limits.strictParams);
  checkMetadata(fields.metadata);
  const tools = readResponseTools(fields.tools, limits);
  refuseHostedChoice(fields.tool_choice);
  const toolChoice = readChoice(fields.tool_choice, tools.tools, limits.limits);
  const format = readOneFormat(fields, present, limits.limits);
  const reasoning = readReasoning(fields, limits);
  const store = fields.store ?? true;
  const background = fields.background ?? false;
  if (background && !store) {
    throw new ApiError(
      "invalid_value",
      "A background response has to be stored: 'background' cannot be true when 'store' is false.",
      "background",
    );
  }
  const include = fields.include ?? [];
  const { stream, promptProgress, timingsPerToken } = readDelivery(fields);
  const logprobs = include.includes("message.output_text.logprobs") || (fields.top_logprobs ?? 0) > 0;
  return {
    model: fields.model,
    input: fields.input,
    instructions: fields.instructions,
    previousResponseId: fields.previous_response_id,
    store,
    stream,
    background,
    promptProgress,
    timingsPerToken: stream && timingsPerToken,
    truncate: fields.truncation === "auto",
    turn: {
      tools: tools.tools,
      toolChoice,
      parallelToolCalls: fields.parallel_tool_calls ?? true,
      format,
      splitReasoning: true,
      thinkingBudget: reasoning.budget,
      generation: readSettings(fields, logprobs, limits),
    },
    kwargs: { ...reasoning.kwargs, ...fields.chat_template_kwargs },
    customTools: new Set(tools.tools.filter(({ custom }) => custom).map(({ name }) => name)),
    logprobs,
    style: { summary: summaryOf(fields) !== null, packed: include.includes("reasoning.encrypted_content") },
    ignoredFields: [...ignored, ...tools.leftOut],
    echo: {
      temperature: fields.temperature ?? limits.requestDefaults?.temperature,
      topP: fields.top_p ?? limits.requestDefaults?.top_p,
      fields: echoOf(fields, tools, { format, store, toolChoice }),
    },
  };
}

function readSettings(fields: Fields, logprobs: boolean, allowed: RequestLimits): GenerationSettings {
  const { max_output_tokens: max, top_logprobs: top = 0 } = fields;
  checkMaximum(top, allowed.limits["max-top-logprobs"], "top_logprobs", "max-top-logprobs");
  const bound = max === undefined ? {} : { max_completion_tokens: max };
  return readGeneration({ ...fields, ...bound }, logprobs ? top : undefined, undefined, allowed);
}

/** The format of the text, or one in the words of other servers. */
function readOneFormat(
  fields: Fields,
  body: Readonly<Record<string, unknown>>,
  limits: Limits,
): OutputFormat {
  const own = readTextFormat(fields, limits);
  const other = readFormat(body, limits);
  if (other.kind === "text") return own;
  if (own.kind === "text") return other;
  throw new ApiError(
    "invalid_value",
    `'text.format' and '${other.param}' cannot be used together.`,
    other.param,
  );
}

function readTextFormat({ text }: Fields, limits: Limits): OutputFormat {
  const format = text?.format;
  if (format == null || format.type === "text") return { kind: "text" };
  if (format.type === "json_object") return { kind: "json_object", param: "text.format" };
  if (format.type !== "json_schema") {
    throw notOneOf("text.format.type", ["text", "json_object", "json_schema"], format.type);
  }
  const { name, schema: wanted, strict } = format;
  if (typeof name !== "string") {
    throw name == null ? missing("text.format.name") : wrongType("text.format.name", "a string", name);
  }
  checkName(name, "text.format.name", SCHEMA_NAME);
  if (wanted === undefined) throw missing("text.format.schema");
  if (!isObject(wanted)) throw wrongType("text.format.schema", "an object", wanted);
  if (strict != null && typeof strict !== "boolean")
    throw wrongType("text.format.strict", "a boolean", strict);
  const owner = `text.format '${name}'`;
  checkSchemaSize({ schema: wanted, owner, param: "text.format", code: "invalid_schema" }, limits);
  return {
    kind: "json_schema",
    name,
    schema: wanted,
    strict: strict ?? false,
    at: "text.format.schema",
    param: "text.format",
  };
}

function summaryOf({ reasoning }: Fields): string | null {
  return reasoning?.summary ?? reasoning?.generate_summary ?? null;
}

function checkMetadata(metadata: Fields["metadata"]): void {
  const pairs = Object.entries(metadata ?? {});
  if (pairs.length > MAX_METADATA_PAIRS) {
    throw new ApiError(
      "invalid_value",
      `Invalid 'metadata': too many pairs. Expected at most ${MAX_METADATA_PAIRS}, but got ${pairs.length} instead.`,
      "metadata",
    );
  }
  for (const [key, value] of pairs) {
    if (key.length <= MAX_METADATA_KEY && value.length <= MAX_METADATA_VALUE) continue;
    throw new ApiError(
      "string_above_max_length",
      `Invalid 'metadata': keys have at most ${MAX_METADATA_KEY} characters and values ${MAX_METADATA_VALUE}.`,
      "metadata",
    );
  }
}

function echoOf(
  fields: Fields,
  tools: ReadTools,
  given: { readonly format: OutputFormat; readonly store: boolean; readonly toolChoice: ToolChoice },
): Record<string, unknown> {
  const { format, store, toolChoice } = given;
  return {
    instructions: fields.instructions ?? null,
    max_output_tokens: fields.max_output_tokens ?? null,
    max_tool_calls: fields.max_tool_calls ?? null,
    metadata: fields.metadata ?? {},
    parallel_tool_calls: fields.parallel_tool_calls ?? true,
    previous_response_id: fields.previous_response_id ?? null,
    prompt_cache_key: fields.prompt_cache_key ?? null,
    reasoning: { effort: fields.reasoning?.effort ?? null, summary: summaryOf(fields) },
    safety_identifier: fields.safety_identifier ?? null,
    service_tier: "default",
    store,
    text: { format: formatJson(fields, format), verbosity: fields.text?.verbosity ?? "medium" },
    tool_choice: choiceJson(fields.tool_choice, toolChoice, tools.tools),
    tools: tools.echo,
    top_logprobs: fields.top_logprobs ?? 0,
    truncation: fields.truncation ?? "disabled",
    user: fields.user ?? null,
  };
}

function formatJson({ text }: Fields, format: OutputFormat): object {
  if (format.kind !== "json_schema") return { type: text?.format?.type ?? "text" };
  const { name, schema: wanted, strict } = format;
  const description = text?.format?.["description"];
  return {
    type: "json_schema",
    name,
    description: typeof description === "string" ? description : null,
    schema: wanted,
    strict,
  };
}
