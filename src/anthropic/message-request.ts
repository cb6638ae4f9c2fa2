/** What a request of Anthropic's Messages API asks for, read as a chat with other names. */
import { z } from "zod";
import type { Limits } from "../config/limits.ts";
import { ApiError } from "../openai/api-error.ts";
import { readChatRequest } from "../openai/chat-request.ts";
import type { ChatRequest } from "../openai/chat-request.ts";
import { generationShape } from "../openai/generation-fields.ts";
import type { RequestLimits } from "../openai/generation-fields.ts";
import { boundMessages } from "../openai/messages.ts";
import { reportedFields, unreadFields } from "../openai/unsupported.ts";
import { checkLength, emptyArray, integer, parseWith, withoutNulls } from "../openai/validation.ts";
import { blockList, chatMessages, historySchema, textOfBlocks } from "./history.ts";
import type { AnthropicMessage } from "./history.ts";

type Body = Readonly<Record<string, unknown>>;

const tool = z.looseObject({
  type: z.string().nullish(),
  name: z.string(),
  description: z.string().nullish(),
  input_schema: z.record(z.string(), z.unknown()).nullish(),
  strict: z.boolean().nullish(),
});

const toolChoice = z.looseObject({
  type: z.enum(["auto", "any", "tool", "none"]),
  name: z.string().nullish(),
  disable_parallel_tool_use: z.boolean().nullish(),
});

const format = z.looseObject({
  type: z.literal("json_schema"),
  schema: z.record(z.string(), z.unknown()),
});

const shape = {
  messages: historySchema,
  max_tokens: integer(1).optional(),
  system: blockList.optional(),
  stop_sequences: z.array(z.string()).optional(),
  tools: z.array(tool).optional(),
  tool_choice: toolChoice.optional(),
  thinking: z
    .looseObject({
      type: z.enum(["enabled", "disabled", "adaptive"]),
      budget_tokens: integer(0).nullish(),
    })
    .optional(),
  output_config: z.looseObject({ effort: z.string().nullish(), format: format.nullish() }).optional(),
  output_format: format.optional(),
} as const;

/** Fields that mean the same in a chat; beside Anthropic's own those of llama.cpp's clients. */
const SAME = {
  model: generationShape.model,
  stream: generationShape.stream,
  temperature: generationShape.temperature,
  top_p: generationShape.top_p,
  top_k: generationShape.top_k,
  min_p: generationShape.min_p,
  seed: generationShape.seed,
  frequency_penalty: generationShape.frequency_penalty,
  presence_penalty: generationShape.presence_penalty,
  repeat_penalty: generationShape.repeat_penalty,
  logit_bias: generationShape.logit_bias,
  ignore_eos: generationShape.ignore_eos,
  cache_salt: generationShape.cache_salt,
  priority: generationShape.priority,
  lora: generationShape.lora,
  chat_template_kwargs: z.record(z.string(), z.unknown()).optional(),
} as const;

/** With every field that is read, for whoever describes them. */
export const messageRequestSchema = z.object({ ...SAME, ...shape });
const schema = z.object(shape);
type Fields = z.infer<typeof schema>;

/** What only Anthropic's machines can do; dropping it would change the answer. */
const REFUSED = ["container", "mcp_servers"] as const;

const KNOWN: ReadonlySet<string> = new Set([...Object.keys(SAME), ...Object.keys(shape), ...REFUSED]);

/** Names in a chat, by what says the same here; longest first. */
const NAMES: readonly (readonly [chat: RegExp, here: string])[] = [
  [/\btools\[(\d+)\]\.function\.parameters/g, "tools[$1].input_schema"],
  [/\btools\[(\d+)\]\.function\b/g, "tools[$1]"],
  [/\btool_choice\.function\b/g, "tool_choice"],
  [/\bresponse_format(\.json_schema)?\b/g, "output_config.format"],
  [/\bthinking_budget_tokens\b/g, "thinking.budget_tokens"],
  [/\bstop\b(?=$|['[])/g, "stop_sequences"],
];

/** @throws {ApiError} 400 for what is wrong, and for what cannot be honoured. */
export function readMessageRequest(body: Body, limits: RequestLimits): ChatRequest {
  const present = withoutNulls(body);
  boundFields(present, limits.limits);
  const fields = parseWith(schema, present);
  if (fields.messages.length === 0) throw emptyArray("messages");
  for (const field of REFUSED) {
    const value = present[field];
    if (value === undefined || (Array.isArray(value) && value.length === 0)) continue;
    const sentence = `Unsupported parameter: '${field}' is not supported by this server.`;
    throw new ApiError("unsupported_parameter", sentence, field);
  }
  const unread = unreadFields(present, KNOWN, limits.strictParams);
  const { tools, leftOut } = chatTools(fields, limits.strictParams);
  const same = Object.entries(present).filter(([name]) => Object.hasOwn(SAME, name));
  const chat = {
    ...Object.fromEntries(same),
    messages: [...systemMessages(fields), ...chatMessages(fields.messages)],
    continue_final_message: isBegun(fields.messages.at(-1)),
    max_tokens: fields.max_tokens ?? null,
    stop: fields.stop_sequences ?? null,
    ...tools,
    ...thinkingFields(fields),
    ...formatFields(fields),
  };
  const request = inAnthropicNames(() => readChatRequest(chat, { ...limits, strictParams: false }));
  return { ...request, ignoredFields: reportedFields([...unread, ...request.ignoredFields], leftOut) };
}

/** Errors of a chat in the words of its request. */
export function inAnthropicNames<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw renamed(error);
  }
}

export function renamed(error: unknown): unknown {
  if (!(error instanceof ApiError)) return error;
  return error.reworded((text) => NAMES.reduce((said, [chat, here]) => said.replace(chat, here), text));
}

function boundFields(present: Body, limits: Limits): void {
  boundMessages(present["messages"], limits);
  checkLength(present["system"], limits["max-message-parts"], "system", "max-message-parts");
  checkLength(present["stop_sequences"], limits["max-stops"], "stop_sequences", "max-stops");
  checkLength(present["tools"], limits["max-tools"], "tools", "max-tools");
}

function systemMessages({ system }: Fields): Body[] {
  if (system === undefined) return [];
  const content = textOfBlocks(system, "system");
  return content === "" ? [] : [{ role: "system", content }];
}

/** Whether the answer goes on with the last message, as Anthropic's does. */
function isBegun(last: AnthropicMessage | undefined): boolean {
  if (last?.role !== "assistant") return false;
  if (typeof last.content === "string") return last.content !== "";
  const block = last.content.at(-1);
  return block?.type === "text" && !last.content.some(({ type }) => type === "tool_use");
}

/**
 * Tools that Anthropic runs or has described to its models are no use here. Beside others they are left out and reported, because
 * agents offer them to every model; alone they are what the request is about, and refused.
 */
function chatTools(
  { tools = [], tool_choice: choice }: Fields,
  strict: boolean,
): { readonly tools: Body; readonly leftOut: readonly string[] } {
  const own = tools.map(({ type }) => type == null || type === "custom");
  const leftOut = own.flatMap((isOwn, i) => (isOwn ? [] : [`tools[${i}]`]));
  const hosted = own.indexOf(false);
  if (hosted !== -1 && (strict || !own.includes(true))) {
    throw new ApiError(
      "unsupported_value",
      `Unsupported value: tools of type '${String(tools[hosted]?.type).slice(0, 100)}' are not supported by this ` +
        "server. Supported values are: 'custom'.",
      `tools[${hosted}].type`,
    );
  }
  const offered = tools.filter((_, i) => own[i]).map(chatTool);
  const parallel = choice?.disable_parallel_tool_use === true ? { parallel_tool_calls: false } : {};
  const chosen = choice === undefined ? {} : { tool_choice: chatChoice(choice) };
  if (offered.length === 0) return { tools: chosen, leftOut };
  return { tools: { tools: offered, ...chosen, ...parallel }, leftOut };
}

function chatTool({ name, description, input_schema, strict }: z.infer<typeof tool>): Body {
  return { type: "function", function: { name, description, parameters: input_schema, strict } };
}

function chatChoice({ type, name }: z.infer<typeof toolChoice>): unknown {
  return type === "tool" ? { type: "function", name: name ?? undefined } : type;
}

function thinkingFields({ thinking, output_config: config }: Fields): Body {
  const effort = config?.effort == null ? {} : { reasoning_effort: config.effort };
  if (thinking === undefined) return effort;
  if (thinking.type === "disabled") return { ...effort, enable_thinking: false, include_reasoning: false };
  const budget = thinking.budget_tokens;
  return {
    ...effort,
    enable_thinking: true,
    ...(thinking.type === "enabled" && budget != null ? { thinking_budget_tokens: budget } : {}),
  };
}

function formatFields({ output_config: config, output_format: older }: Fields): Body {
  const asked = config?.format ?? older;
  if (asked === undefined) return {};
  const json_schema = { name: "output", strict: true, schema: asked.schema };
  return { response_format: { type: "json_schema", json_schema } };
}
