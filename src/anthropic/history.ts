/** A conversation in Anthropic's blocks as the messages of a chat: thinking, text, calls and their results each where chats have them. */
import { z } from "zod";
import { isObject } from "../http/json.ts";
import { ApiError } from "../openai/api-error.ts";
import { missing, notOneOf, wrongType } from "../openai/validation.ts";

type Json = Readonly<Record<string, unknown>>;

const block = z.looseObject({ type: z.string() });
export const blockList = z.union([z.string(), z.array(block)], "a string or an array of objects");
const message = z.looseObject({ role: z.enum(["user", "assistant", "system"]), content: blockList });
export const historySchema = z.array(message);

export type AnthropicMessage = z.infer<typeof message>;
type Block = z.infer<typeof block>;

/** What a model that reads text alone cannot be shown. */
const MEDIA: Readonly<Record<string, string>> = {
  image: "image input is not supported",
  document: "document input is not supported",
  container_upload: "file input is not supported",
};

/**
 * One message may become several: results of tools are messages of their own, and come first, as right behind their calls.
 * @throws {ApiError} 400 with the path of a block that cannot be understood.
 */
export function chatMessages(history: readonly AnthropicMessage[]): Json[] {
  return history.flatMap(({ role, content }, i) => {
    if (typeof content === "string") return [{ role, content }];
    const at = `messages[${i}].content`;
    if (role === "assistant") return [assistantMessage(content, at)];
    return userMessages(role, content, at);
  });
}

/** @throws {ApiError} 400 with the path of what is no text. */
export function textOfBlocks(content: string | readonly Block[], at: string): string {
  if (typeof content === "string") return content;
  return content
    .map((item, i) => {
      if (item.type !== "text") throw unknownBlock(item, `${at}[${i}]`, ["text"]);
      return stringOf(item, "text", `${at}[${i}]`);
    })
    .join("");
}

function userMessages(role: string, blocks: readonly Block[], at: string): Json[] {
  const results: Json[] = [];
  const texts: Json[] = [];
  for (const [i, item] of blocks.entries()) {
    const path = `${at}[${i}]`;
    if (item.type === "text") texts.push({ type: "text", text: stringOf(item, "text", path) });
    else if (item.type === "tool_result") results.push(toolMessage(item, path));
    else throw unknownBlock(item, path, ["text", "tool_result"]);
  }
  const said = texts.length > 0 || results.length === 0 ? [{ role, content: texts }] : [];
  return [...results, ...said];
}

function toolMessage(item: Block, at: string): Json {
  const content = item["content"] ?? "";
  const read = blockList.safeParse(content);
  if (!read.success) throw wrongType(`${at}.content`, "a string or an array of objects", content);
  return {
    role: "tool",
    tool_call_id: stringOf(item, "tool_use_id", at),
    content: textOfBlocks(read.data, `${at}.content`),
  };
}

function assistantMessage(blocks: readonly Block[], at: string): Json {
  const calls: Json[] = [];
  const text: string[] = [];
  const thinking: string[] = [];
  for (const [i, item] of blocks.entries()) {
    const path = `${at}[${i}]`;
    switch (item.type) {
      case "text":
        text.push(stringOf(item, "text", path));
        break;
      case "thinking":
        thinking.push(stringOf(item, "thinking", path));
        break;
      case "redacted_thinking":
        // Nobody but its author can read it.
        break;
      case "tool_use":
        calls.push(call(item, path));
        break;
      default:
        throw unknownBlock(item, path, ["text", "thinking", "tool_use"]);
    }
  }
  return {
    role: "assistant",
    content: text.join(""),
    ...(thinking.length === 0 ? {} : { reasoning_content: thinking.join("") }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}

function call(item: Block, at: string): Json {
  const input = item["input"] ?? {};
  if (!isObject(input)) throw wrongType(`${at}.input`, "an object", input);
  return {
    id: stringOf(item, "id", at),
    type: "function",
    function: { name: stringOf(item, "name", at), arguments: input },
  };
}

function stringOf(item: Block, field: string, at: string): string {
  const value = item[field];
  if (typeof value === "string") return value;
  throw value == null ? missing(`${at}.${field}`) : wrongType(`${at}.${field}`, "a string", value);
}

function unknownBlock({ type }: Block, at: string, known: readonly string[]): ApiError {
  const media = Object.hasOwn(MEDIA, type) ? MEDIA[type] : undefined;
  if (media === undefined) return notOneOf(`${at}.type`, known, type);
  return new ApiError(
    "unsupported_value",
    `Unsupported value: ${media}: this server reads text only, whatever the model.`,
    `${at}.type`,
  );
}
