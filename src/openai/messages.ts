/** A chat history on the wire, and the same history as a template reads it. */
import { z } from "zod";
import type { TemplateMessage } from "../../models/chat-template.ts";
import type { Limits } from "../config/limits.ts";
import { isObject } from "../http/json.ts";
import { ApiError } from "./api-error.ts";
import { checkLength, missing, notOneOf, wrongType } from "./validation.ts";
import { CONTENT_PART_JSON } from "./wire-schemas.ts";

const ROLES = ["system", "developer", "user", "assistant", "tool", "function"] as const;

const part = z.looseObject({ type: z.string() }).meta(CONTENT_PART_JSON);

const toolCall = z.looseObject({
  id: z.string().nullish(),
  type: z.string().nullish(),
  function: z.looseObject({ name: z.string(), arguments: z.unknown() }).nullish(),
  custom: z.looseObject({ name: z.string(), input: z.string().nullish() }).nullish(),
});

const message = z.looseObject({
  role: z.enum(ROLES),
  content: z.union([z.string(), z.array(part)], "a string or an array of objects").nullish(),
  name: z.string().nullish(),
  refusal: z.string().nullish(),
  reasoning: z.string().nullish(),
  reasoning_content: z.string().nullish(),
  tool_calls: z.array(toolCall).nullish(),
  function_call: z.looseObject({ name: z.string(), arguments: z.unknown() }).nullish(),
  tool_call_id: z.string().nullish(),
  prefix: z.boolean().nullish(),
});

export const messagesSchema = z.array(message);

export type WireMessage = z.infer<typeof message>;
type WirePart = z.infer<typeof part>;
type WireCall = z.infer<typeof toolCall>;

/** @throws {ApiError} 400 for lists too long to be walked through. */
export function boundMessages(messages: unknown, limits: Limits): void {
  checkLength(messages, limits["max-messages"], "messages", "max-messages");
  const most = limits["max-message-parts"];
  if (!Array.isArray(messages)) return;
  for (const [i, item] of (messages as unknown[]).entries()) {
    if (!isObject(item)) continue;
    checkLength(item["content"], most, `messages[${i}].content`, "max-message-parts");
    checkLength(item["tool_calls"], most, `messages[${i}].tool_calls`, "max-message-parts");
  }
}

/** @throws {ApiError} 400 for parts that are no text, and for a message that says nothing. */
export function toTemplateMessages(messages: readonly WireMessage[]): TemplateMessage[] {
  return messages.map(toTemplateMessage);
}

/** Length of the text a client wrote, in UTF-16 units: at most its length in bytes. */
export function textLength(messages: readonly TemplateMessage[]): number {
  return messages.reduce((sum, { content }) => sum + (typeof content === "string" ? content.length : 0), 0);
}

function toTemplateMessage(wire: WireMessage, index: number): TemplateMessage {
  const at = `messages[${index}]`;
  const calls = readCalls(wire, at);
  const reasoning = wire.reasoning_content ?? wire.reasoning;
  const content = readContent(wire, at, calls.length > 0);
  return {
    // A function's result is what tool results were called before; templates know only the new name.
    role: wire.role === "function" ? "tool" : wire.role,
    content,
    ...(wire.name == null ? {} : { name: wire.name }),
    ...(reasoning == null ? {} : { reasoning_content: reasoning }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
    ...(wire.tool_call_id == null ? {} : { tool_call_id: wire.tool_call_id }),
  };
}

function readContent(wire: WireMessage, at: string, hasCalls: boolean): string {
  const { content } = wire;
  if (typeof content === "string") return content;
  if (content != null) return content.map((item, i) => partText(item, `${at}.content[${i}]`)).join("");
  if (wire.role !== "assistant") throw missing(`${at}.content`);
  if (wire.refusal != null) return wire.refusal;
  if (hasCalls || wire.reasoning_content != null || wire.reasoning != null) return "";
  throw missing(`${at}.content`);
}

function partText(item: WirePart, at: string): string {
  switch (item.type) {
    case "text":
      return stringOf(item["text"], `${at}.text`);
    case "refusal":
      return stringOf(item["refusal"], `${at}.refusal`);
    case "image_url":
    case "input_audio":
    case "file":
    case "video_url":
      throw new ApiError(
        "unsupported_value",
        `Unsupported value: content of type '${item.type}' is not supported: this server reads text only, whatever the model.`,
        `${at}.type`,
      );
    default:
      throw notOneOf(`${at}.type`, ["text", "refusal"], item.type);
  }
}

function stringOf(value: unknown, param: string): string {
  if (typeof value === "string") return value;
  throw value == null ? missing(param) : wrongType(param, "a string", value);
}

function readCalls(wire: WireMessage, at: string): Record<string, unknown>[] {
  const calls = (wire.tool_calls ?? []).map((call, i) => ({
    ...(call.id == null ? {} : { id: call.id }),
    type: "function",
    function: calledFunction(call, `${at}.tool_calls[${i}]`),
  }));
  if (wire.function_call == null) return calls;
  const { name, arguments: args } = wire.function_call;
  return [...calls, { type: "function", function: { name, arguments: parsedArguments(args) } }];
}

/** Of a custom tool as the model was shown it: a function of one text. */
function calledFunction({ function: called, custom }: WireCall, at: string): Record<string, unknown> {
  if (called != null) return { name: called.name, arguments: parsedArguments(called.arguments) };
  if (custom != null) return { name: custom.name, arguments: { input: custom.input ?? "" } };
  throw missing(`${at}.function`);
}

/** Templates go through the arguments as an object; text that is none stays text. */
function parsedArguments(value: unknown): unknown {
  if (typeof value !== "string") return value ?? {};
  try {
    const parsed: unknown = JSON.parse(value);
    return isObject(parsed) ? parsed : value;
  } catch {
    return value;
  }
}
