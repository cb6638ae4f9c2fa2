/** Reads the `input` of a request: a text, or items in the many forms that clients send them in. */
import type { Limits } from "../../config/limits.ts";
import { isObject } from "../../http/json.ts";
import { ApiError } from "../api-error.ts";
import { checkLength, emptyArray, missing, notOneOf, wrongType } from "../validation.ts";
import { ITEM_PREFIX } from "./items.ts";
import type {
  CallOutputItem,
  ContentPart,
  InputTextPart,
  Item,
  ItemStatus,
  MessageItem,
  ReasoningItem,
} from "./items.ts";

type Json = Readonly<Record<string, unknown>>;

export interface InputReading {
  /** The id of an item that has none. */
  newId(type: Item["type"], index: number): string;
  /** The item that an `item_reference` means; undefined when it is not known here. */
  resolve(id: string): Item | undefined;
  readonly limits: Limits;
}

const ROLES = ["user", "assistant", "system", "developer"] as const;
const STATUSES: readonly ItemStatus[] = ["in_progress", "completed", "incomplete"];
const ITEM_TYPES = [...Object.keys(ITEM_PREFIX), "item_reference"];
const PART_TYPES = ["input_text", "output_text", "refusal"] as const;

/** @throws {ApiError} 400 with the path of what is wrong, for items of other types by name. */
export function readInput(input: unknown, reading: InputReading): Item[] {
  if (typeof input === "string") return [readItem({ role: "user", content: input }, 0, reading)];
  if (!Array.isArray(input)) throw wrongType("input", "a string or an array of objects", input);
  checkLength(input, reading.limits["max-messages"], "input", "max-messages");
  return (input as unknown[]).map((item, i) => readItem(item, i, reading));
}

/** @throws {ApiError} 400 for a request that asks nothing. */
export function assertSomething(items: readonly Item[]): void {
  if (items.length === 0) throw emptyArray("input");
}

function readItem(item: unknown, index: number, reading: InputReading): Item {
  const at = `input[${index}]`;
  if (!isObject(item)) throw wrongType(at, "an object", item);
  const type = typeOf(item, at);
  if (type === "item_reference") return readReference(item, at, reading);
  const id = stringOr(item, "id", at, () => reading.newId(type, index));
  const status = STATUSES.find((name) => name === item["status"]) ?? "completed";
  switch (type) {
    case "message":
      return readMessage(item, at, { id, status }, reading);
    case "function_call":
      return {
        id,
        type,
        status,
        call_id: stringOf(item, "call_id", at),
        name: stringOf(item, "name", at),
        arguments: stringOf(item, "arguments", at),
      };
    case "custom_tool_call":
      return {
        id,
        type,
        status,
        call_id: stringOf(item, "call_id", at),
        name: stringOf(item, "name", at),
        input: stringOf(item, "input", at),
      };
    case "function_call_output":
    case "custom_tool_call_output":
      return {
        id,
        type,
        status,
        call_id: stringOf(item, "call_id", at),
        output: readOutput(item, at, reading),
      };
    case "reasoning":
      return readReasoning(item, at, { id, status }, reading);
  }
}

/** Clients leave the type away where the other keys tell it. */
function typeOf(item: Json, at: string): Item["type"] | "item_reference" {
  const type = item["type"];
  if (type == null) {
    if (item["role"] != null) return "message";
    if (typeof item["id"] === "string") return "item_reference";
    throw missing(`${at}.type`);
  }
  const known = ITEM_TYPES.find((name) => name === type);
  if (known !== undefined) return known as Item["type"] | "item_reference";
  throw typeof type === "string"
    ? notOneOf(`${at}.type`, ITEM_TYPES, type)
    : wrongType(`${at}.type`, "a string", type);
}

function readReference(item: Json, at: string, reading: InputReading): Item {
  const id = stringOf(item, "id", at);
  const found = reading.resolve(id);
  if (found !== undefined) return found;
  throw new ApiError(
    "invalid_value",
    `Item with id '${id.slice(0, 200)}' not found. Items are not persisted when \`store\` is set to false. Try ` +
      "again with `store` set to true, or remove this item from your input.",
    `${at}.id`,
  );
}

function readMessage(
  item: Json,
  at: string,
  { id, status }: { readonly id: string; readonly status: ItemStatus },
  reading: InputReading,
): MessageItem {
  const role = ROLES.find((name) => name === item["role"]);
  if (role === undefined) {
    throw notOneOf(`${at}.role`, ROLES, item["role"]);
  }
  return {
    id,
    type: "message",
    status,
    role,
    content: readContent(item["content"], `${at}.content`, role, reading),
  };
}

function readContent(
  content: unknown,
  at: string,
  role: MessageItem["role"],
  reading: InputReading,
): ContentPart[] {
  if (typeof content === "string") return [textPart(content, role)];
  if (content == null) throw missing(at);
  if (!Array.isArray(content)) throw wrongType(at, "a string or an array of objects", content);
  checkParts(content, at, reading);
  return (content as unknown[]).map((part, i) => readPart(part, `${at}[${i}]`, role));
}

/** The type of a text follows from who said it, whatever the client called it. */
function textPart(text: string, role: MessageItem["role"]): ContentPart {
  return role === "assistant"
    ? { type: "output_text", text, annotations: [], logprobs: [] }
    : { type: "input_text", text };
}

function readPart(part: unknown, at: string, role: MessageItem["role"]): ContentPart {
  if (!isObject(part)) throw wrongType(at, "an object", part);
  switch (part["type"]) {
    case "input_text":
    case "output_text":
    case "text":
      return textPart(stringOf(part, "text", at), role);
    case "refusal":
      return { type: "refusal", refusal: stringOf(part, "refusal", at) };
    case "input_image":
    case "input_file":
    case "input_audio":
      throw new ApiError(
        "unsupported_value",
        `Unsupported value: content of type '${part["type"]}' is not supported: this server reads text only, whatever the model.`,
        `${at}.type`,
      );
    default:
      throw notOneOf(`${at}.type`, PART_TYPES, part["type"]);
  }
}

function readOutput(item: Json, at: string, reading: InputReading): CallOutputItem["output"] {
  const output = item["output"];
  if (typeof output === "string") return output;
  if (output == null) throw missing(`${at}.output`);
  if (!Array.isArray(output)) throw wrongType(`${at}.output`, "a string or an array of objects", output);
  checkParts(output, `${at}.output`, reading);
  return (output as unknown[]).map((part, i): InputTextPart => {
    const read = readPart(part, `${at}.output[${i}]`, "user");
    return { type: "input_text", text: read.type === "refusal" ? read.refusal : read.text };
  });
}

/** Clients hand back what they got, with keys that are empty, null or gone. */
function readReasoning(
  item: Json,
  at: string,
  { id, status }: { readonly id: string; readonly status: ItemStatus },
  reading: InputReading,
): ReasoningItem {
  const summary = readTexts(item["summary"], `${at}.summary`, reading);
  const content = readTexts(item["content"], `${at}.content`, reading);
  const packed = item["encrypted_content"];
  if (packed != null && typeof packed !== "string") {
    throw wrongType(`${at}.encrypted_content`, "a string", packed);
  }
  return {
    id,
    type: "reasoning",
    status,
    summary: summary.map((text) => ({ type: "summary_text", text })),
    ...(content.length === 0
      ? {}
      : { content: content.map((text) => ({ type: "reasoning_text" as const, text })) }),
    ...(packed == null || packed === "" ? {} : { encrypted_content: packed }),
  };
}

function readTexts(parts: unknown, at: string, reading: InputReading): string[] {
  if (parts == null) return [];
  if (typeof parts === "string") return parts === "" ? [] : [parts];
  if (!Array.isArray(parts)) throw wrongType(at, "an array of objects", parts);
  checkParts(parts, at, reading);
  return (parts as unknown[]).map((part, i) => {
    if (!isObject(part)) throw wrongType(`${at}[${i}]`, "an object", part);
    return stringOf(part, "text", `${at}[${i}]`);
  });
}

/** @throws {ApiError} 400 for lists too long to be walked through. */
function checkParts(parts: unknown, at: string, { limits }: InputReading): void {
  checkLength(parts, limits["max-message-parts"], at, "max-message-parts");
}

function stringOf(item: Json, key: string, at: string): string {
  return stringOr(item, key, at, () => {
    throw missing(`${at}.${key}`);
  });
}

function stringOr(item: Json, key: string, at: string, absent: () => string): string {
  const value = item[key];
  if (typeof value === "string") return value;
  if (value == null) return absent();
  throw wrongType(`${at}.${key}`, "a string", value);
}
