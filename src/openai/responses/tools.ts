/** Reads `tools` and `tool_choice` in the flat form of the Responses API. */
import type { ToolChoice, TurnTool } from "../../chat-turn.ts";
import { isObject } from "../../http/json.ts";
import { ApiError } from "../api-error.ts";
import { checkLength, missing, notOneOf, wrongType } from "../validation.ts";

type Json = Readonly<Record<string, unknown>>;

/** OpenAI's bound. */
const MAX_TOOLS = 128;
/** OpenAI's bound is 64; names of tools that other servers provide are longer. */
const NAME = /^[\w./:-]{1,128}$/;

/** Tools that OpenAI runs on its own machines or that need a harness of its own. */
const HOSTED: ReadonlySet<string> = new Set([
  "apply_patch",
  "code_interpreter",
  "computer",
  "computer_use",
  "computer_use_preview",
  "file_search",
  "image_generation",
  "local_shell",
  "mcp",
  "namespace",
  "shell",
  "tool_search",
  "web_search",
  "web_search_preview",
]);

export interface FunctionTool {
  readonly type: "function";
  readonly name: string;
  readonly description: string | null;
  /** JSON Schema. */
  readonly parameters: Json | null;
  readonly strict: boolean;
}

/** `regex` bounds the input; `lark` is a grammar that the model is told of and not held to. */
type CustomFormat =
  | { readonly type: "text" }
  | { readonly type: "grammar"; readonly syntax: "regex" | "lark"; readonly definition: string };

/** A tool whose input is plain text. */
export interface CustomTool {
  readonly type: "custom";
  readonly name: string;
  readonly description: string | null;
  readonly format: CustomFormat;
}

export type ResponseTool = FunctionTool | CustomTool;

export interface ReadTools {
  readonly tools: readonly ResponseTool[];
  /** The same tools as functions. */
  readonly definitions: readonly TurnTool[];
  /** As in the request, for the response object; without those that are left out. */
  readonly echo: readonly object[];
  /** Paths of what is asked for and not there: hosted tools, formats that are not enforced. */
  readonly leftOut: readonly string[];
}

/**
 * A hosted tool cannot be offered. Beside tools that can, it is left out and reported, because agents offer
 * it to every model and live without it; alone it is what the request is about, and refused.
 * @param strict Refuses whatever would be left out.
 * @throws {ApiError} 400 with the path of what is wrong.
 */
export function readTools(value: unknown, strict: boolean): ReadTools {
  if (value === undefined) return { tools: [], definitions: [], echo: [], leftOut: [] };
  if (!Array.isArray(value)) throw wrongType("tools", "an array of objects", value);
  checkLength(value, MAX_TOOLS, "tools");
  const tools: ResponseTool[] = [];
  const definitions: TurnTool[] = [];
  const hosted: { readonly at: string; readonly type: string }[] = [];
  const loose: string[] = [];
  for (const [i, tool] of (value as unknown[]).entries()) {
    const at = `tools[${i}]`;
    if (!isObject(tool)) throw wrongType(at, "an object", tool);
    const type = stringOf(tool, "type", at);
    if (HOSTED.has(type)) {
      hosted.push({ at, type });
    } else {
      const read = readTool(tool, type, at);
      if (isLoose(read)) loose.push(`${at}.format`);
      tools.push(read);
      definitions.push(toDefinition(read, at));
    }
  }
  const [first] = hosted;
  if (first !== undefined && (strict || tools.length === 0)) throw unsupportedTool(first.at, first.type);
  if (strict && loose[0] !== undefined) throw unsupportedLark(loose[0]);
  assertUnique(tools);
  return { tools, definitions, echo: tools, leftOut: [...hosted.map(({ at }) => at), ...loose] };
}

/** @throws {ApiError} 400 for a choice that these tools do not have. */
export function readToolChoice(value: unknown, tools: readonly ResponseTool[]): ToolChoice {
  if (value === undefined) return { mode: "auto", allowed: undefined };
  if (typeof value === "string") return readMode(value, tools);
  if (!isObject(value)) throw wrongType("tool_choice", "a string or an object", value);
  switch (value["type"]) {
    case "function":
    case "custom":
      return { mode: "named", name: knownName(value, "tool_choice", tools) };
    case "allowed_tools":
      return readAllowed(value, tools);
    case null:
    case undefined:
      throw missing("tool_choice.type");
    default:
      if (typeof value["type"] === "string" && HOSTED.has(value["type"])) {
        throw unsupportedTool("tool_choice", value["type"]);
      }
      throw notOneOf("tool_choice.type", ["function", "custom", "allowed_tools"], value["type"]);
  }
}

/** The tool as a function: a custom tool is one with a single text argument, which is unpacked from its calls. */
function toDefinition(tool: ResponseTool, at: string): TurnTool {
  const { name } = tool;
  const said = descriptionOf(tool);
  const description = said === "" ? {} : { description: said };
  if (tool.type === "function") {
    const { strict, parameters } = tool;
    const param = `${at}.parameters`;
    return { name, ...description, parameters: parameters ?? undefined, strict, custom: false, param };
  }
  const { format } = tool;
  const isRegex = format.type === "grammar" && format.syntax === "regex";
  const pattern = isRegex ? { pattern: `^(?:${format.definition})$` } : {};
  const parameters = {
    type: "object",
    properties: { input: { type: "string", ...pattern } },
    required: ["input"],
    additionalProperties: false,
  };
  const param = `${at}.format.definition`;
  return { name, ...description, parameters, strict: true, custom: true, param };
}

function readMode(value: string, tools: readonly ResponseTool[]): ToolChoice {
  // Some clients call it as Anthropic does.
  const mode = value === "any" ? "required" : value;
  if (mode !== "none" && mode !== "auto" && mode !== "required") {
    throw notOneOf("tool_choice", ["none", "auto", "required"], value);
  }
  if (mode === "required" && tools.length === 0) throw withoutTools();
  return mode === "none" ? { mode } : { mode, allowed: undefined };
}

function readAllowed(value: Json, tools: readonly ResponseTool[]): ToolChoice {
  const mode = value["mode"] ?? "auto";
  if (mode !== "auto" && mode !== "required") {
    throw notOneOf("tool_choice.mode", ["auto", "required"], mode);
  }
  const list = value["tools"];
  if (!Array.isArray(list)) {
    throw list == null ? missing("tool_choice.tools") : wrongType("tool_choice.tools", "an array", list);
  }
  checkLength(list, MAX_TOOLS, "tool_choice.tools");
  const names = (list as unknown[]).map((tool, i) => {
    const at = `tool_choice.tools[${i}]`;
    if (!isObject(tool)) throw wrongType(at, "an object", tool);
    return knownName(tool, at, tools);
  });
  if (mode === "required" && names.length === 0) throw withoutTools();
  return { mode, allowed: names };
}

function knownName(value: Json, at: string, tools: readonly ResponseTool[]): string {
  const name = stringOf(value, "name", at);
  if (tools.some((tool) => tool.name === name)) return name;
  throw new ApiError(
    "invalid_value",
    `Tool choice '${name.slice(0, 200)}' not found in 'tools' parameter.`,
    "tool_choice",
  );
}

function withoutTools(): ApiError {
  return new ApiError(
    "invalid_value",
    "Tool choice 'required' must be specified with 'tools' parameter.",
    "tool_choice",
  );
}

function readTool(tool: Json, type: string, at: string): ResponseTool {
  if (type !== "function" && type !== "custom") throw notOneOf(`${at}.type`, ["function", "custom"], type);
  const name = stringOf(tool, "name", at);
  if (!NAME.test(name)) {
    throw new ApiError(
      "invalid_value",
      `Invalid '${at}.name': expected at most 128 letters, digits and the characters _ - . / :`,
      `${at}.name`,
    );
  }
  const description = optionalString(tool, "description", at);
  if (type === "custom")
    return { type, name, description, format: readFormat(tool["format"], `${at}.format`) };
  const { parameters, strict } = tool;
  if (parameters != null && !isObject(parameters))
    throw wrongType(`${at}.parameters`, "an object", parameters);
  if (strict != null && typeof strict !== "boolean") throw wrongType(`${at}.strict`, "a boolean", strict);
  return { type, name, description, parameters: parameters ?? null, strict: strict ?? false };
}

function readFormat(format: unknown, at: string): CustomTool["format"] {
  if (format == null) return { type: "text" };
  if (!isObject(format)) throw wrongType(at, "an object", format);
  if (format["type"] === "text") return { type: "text" };
  if (format["type"] !== "grammar") throw notOneOf(`${at}.type`, ["text", "grammar"], format["type"]);
  const { syntax } = format;
  if (syntax !== "regex" && syntax !== "lark") throw notOneOf(`${at}.syntax`, ["regex", "lark"], syntax);
  return { type: "grammar", syntax, definition: stringOf(format, "definition", at) };
}

function isLoose(tool: ResponseTool): boolean {
  return tool.type === "custom" && tool.format.type === "grammar" && tool.format.syntax === "lark";
}

/** A grammar that the model cannot be held to is at least shown to it. */
function descriptionOf(tool: ResponseTool): string {
  const description = tool.description ?? "";
  if (tool.type === "function" || tool.format.type === "text" || tool.format.syntax !== "lark") {
    return description;
  }
  return `${description}\n\nThe input has to follow this Lark grammar:\n${tool.format.definition}`.trimStart();
}

function unsupportedLark(at: string): ApiError {
  return new ApiError(
    "unsupported_value",
    `Unsupported value: '${at}.syntax' does not support 'lark' with this server. Supported values are: 'regex'.`,
    `${at}.syntax`,
  );
}

function assertUnique(tools: readonly ResponseTool[]): void {
  const names = new Set<string>();
  for (const { name } of tools) {
    if (names.has(name)) {
      throw new ApiError("invalid_value", `Invalid 'tools': two tools have the name '${name}'.`, "tools");
    }
    names.add(name);
  }
}

function unsupportedTool(at: string, type: string): ApiError {
  return new ApiError(
    "unsupported_value",
    `Unsupported value: tools of type '${type}' are not supported by this server. Supported values are: ` +
      "'function' and 'custom'.",
    `${at}.type`,
  );
}

function optionalString(tool: Json, key: string, at: string): string | null {
  const value = tool[key];
  if (value == null || typeof value === "string") return value ?? null;
  throw wrongType(`${at}.${key}`, "a string", value);
}

function stringOf(value: Json, key: string, at: string): string {
  const text = value[key];
  if (typeof text === "string") return text;
  throw text == null ? missing(`${at}.${key}`) : wrongType(`${at}.${key}`, "a string", text);
}
