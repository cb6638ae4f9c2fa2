/** Tools and the choice among them on the wire: `tools`, `tool_choice`, and what they were called before. */
import { z } from "zod";
import type { Limits } from "../config/limits.ts";
import { isObject } from "../http/json.ts";
import { MAX_TOOL_NAME } from "../http/limits.ts";
import type { ToolChoice, TurnTool } from "../chat-turn.ts";
import { ApiError } from "./api-error.ts";
import type { CallStyle } from "./tool-calls.ts";
import { checkName } from "./names.ts";
import type { NameRule } from "./names.ts";
import { checkSchemaSize } from "./schema-size.ts";
import {
  FUNCTION_CALL_JSON,
  FUNCTIONS_JSON,
  TOOL_CHOICE_JSON,
  TOOL_NAME_PATTERN,
  TOOLS_JSON,
} from "./wire-schemas.ts";
import { checkLength, emptyArray, missing, notOneOf, wrongType } from "./validation.ts";

type JsonObject = Readonly<Record<string, unknown>>;

export interface RequestedTools {
  readonly tools: readonly TurnTool[];
  readonly choice: ToolChoice;
  readonly parallel: boolean;
  readonly style: CallStyle;
}

/** Judged by hand, because what is allowed depends on what else is there. */
export const toolShape = {
  tools: z.unknown().meta(TOOLS_JSON).optional(),
  tool_choice: z.unknown().meta(TOOL_CHOICE_JSON).optional(),
  parallel_tool_calls: z.unknown().meta({ type: "boolean" }).optional(),
  functions: z.unknown().meta(FUNCTIONS_JSON).optional(),
  function_call: z.unknown().meta(FUNCTION_CALL_JSON).optional(),
} as const;

const TOOL_NAME: NameRule = { maxLength: MAX_TOOL_NAME, pattern: TOOL_NAME_PATTERN };

/**
 * @param body The request without nulls.
 * @throws {ApiError} 400 for tools and choices that are not as they must be.
 */
export function readTools(body: JsonObject, limits: Limits): RequestedTools {
  const functions = listOf(body, "functions", limits);
  const given = listOf(body, "tools", limits);
  if (functions.length > 0) {
    if (given.length > 0) {
      throw new ApiError("invalid_value", "'functions' and 'tools' cannot be used together.", "functions");
    }
    const tools = functions.map((item, i) => readFunction(item, `functions[${i}]`, limits));
    refuseDuplicates(tools);
    const choice = readFunctionCall(body["function_call"], tools);
    return { tools, choice, parallel: false, style: styleOf(tools, choice, true) };
  }
  const { function_call: call = "auto" } = body;
  if (call !== "auto" && call !== "none") throw noFunctions(call);
  const tools = given.map((item, i) => readTool(item, `tools[${i}]`, limits));
  refuseDuplicates(tools);
  const choice = readChoice(body["tool_choice"], tools, limits);
  const parallel = body["parallel_tool_calls"] ?? true;
  if (typeof parallel !== "boolean") throw wrongType("parallel_tool_calls", "a boolean", parallel);
  return { tools, choice, parallel, style: styleOf(tools, choice, false) };
}

function styleOf(tools: readonly TurnTool[], choice: ToolChoice, legacy: boolean): CallStyle {
  const custom = new Set(tools.flatMap((tool) => (tool.custom ? [tool.name] : [])));
  return { custom, legacy, named: choice.mode === "named" };
}

function listOf(body: JsonObject, field: string, limits: Limits): readonly unknown[] {
  const value = body[field];
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw wrongType(field, "an array of objects", value);
  checkLength(value, limits["max-tools"], field, "max-tools");
  return value as unknown[];
}

function readTool(item: unknown, at: string, limits: Limits): TurnTool {
  if (!isObject(item)) throw wrongType(at, "an object", item);
  const type = item["type"] ?? "function";
  if (type === "function") return readFunction(item["function"], `${at}.function`, limits);
  if (type === "custom") return readCustom(item["custom"], `${at}.custom`);
  throw notOneOf(`${at}.type`, ["function", "custom"], type);
}

/** @param at The path of `item`. */
export function readFunction(item: unknown, at: string, limits: Limits): TurnTool {
  if (item === undefined || item === null) throw missing(at);
  if (!isObject(item)) throw wrongType(at, "an object", item);
  const parameters = item["parameters"] ?? undefined;
  if (parameters !== undefined && !isObject(parameters))
    throw wrongType(`${at}.parameters`, "an object", parameters);
  const strict = item["strict"] ?? false;
  if (typeof strict !== "boolean") throw wrongType(`${at}.strict`, "a boolean", strict);
  const named = readNamed(item, at);
  const param = `${at}.parameters`;
  if (parameters !== undefined) {
    const owner = `function '${named.name}'`;
    checkSchemaSize({ schema: parameters, owner, param, code: "invalid_function_parameters" }, limits);
  }
  return { ...named, parameters, strict, custom: false, param };
}

/** A custom tool is shown to the model as a function of one text, which is what templates know. */
export function readCustom(item: unknown, at: string): TurnTool {
  if (item === undefined || item === null) throw missing(at);
  if (!isObject(item)) throw wrongType(at, "an object", item);
  const pattern = readCustomPattern(item["format"] ?? undefined, `${at}.format`);
  const input = { type: "string", ...(pattern === undefined ? {} : { pattern }) };
  return {
    ...readNamed(item, at),
    parameters: { type: "object", properties: { input }, required: ["input"], additionalProperties: false },
    strict: true,
    custom: true,
    param: `${at}.format`,
  };
}

/** The regular expression that the whole input matches; undefined for any text. */
function readCustomPattern(format: unknown, at: string): string | undefined {
  if (format === undefined) return undefined;
  if (!isObject(format)) throw wrongType(at, "an object", format);
  if (format["type"] === "text") return undefined;
  if (format["type"] !== "grammar") throw notOneOf(`${at}.type`, ["text", "grammar"], format["type"]);
  // The Responses API leaves out the inner object.
  const [grammar, inner] = isObject(format["grammar"]) ? [format["grammar"], `${at}.grammar`] : [format, at];
  if (grammar["syntax"] === "lark") {
    throw new ApiError(
      "unsupported_value",
      "Unsupported value: grammars with the syntax 'lark' are not supported by this server. Please use 'regex'.",
      `${inner}.syntax`,
    );
  }
  if (grammar["syntax"] !== "regex") throw notOneOf(`${inner}.syntax`, ["regex"], grammar["syntax"]);
  const definition = grammar["definition"];
  if (typeof definition !== "string") {
    throw definition == null
      ? missing(`${inner}.definition`)
      : wrongType(`${inner}.definition`, "a string", definition);
  }
  return `^(?:${definition})$`;
}

function readNamed(item: JsonObject, at: string): Pick<TurnTool, "name" | "description"> {
  const { name } = item;
  if (name === undefined || name === null) throw missing(`${at}.name`);
  if (typeof name !== "string") throw wrongType(`${at}.name`, "a string", name);
  checkName(name, `${at}.name`, TOOL_NAME);
  const description = item["description"] ?? undefined;
  if (description === undefined) return { name };
  if (typeof description !== "string") throw wrongType(`${at}.description`, "a string", description);
  return { name, description };
}

/** @throws {ApiError} 400 for two tools of one name. */
export function refuseDuplicates(tools: readonly TurnTool[]): void {
  const seen = new Set<string>();
  for (const { name, param } of tools) {
    if (seen.has(name)) {
      throw new ApiError(
        "invalid_value",
        `Invalid value: there are several tools with the name '${name}'.`,
        param.replace(/\.\w+$/, ".name"),
      );
    }
    seen.add(name);
  }
}

/** @throws {ApiError} 400 for a choice among tools that are not there. */
export function readChoice(value: unknown, tools: readonly TurnTool[], limits: Limits): ToolChoice {
  if (value === undefined)
    return tools.length === 0 ? { mode: "none" } : { mode: "auto", allowed: undefined };
  const choice = typeof value === "string" ? readMode(value) : readChoiceObject(value, limits);
  if (tools.length === 0) {
    if (choice.mode === "none" || (choice.mode === "auto" && choice.allowed === undefined)) {
      return { mode: "none" };
    }
    throw new ApiError(
      "invalid_value",
      "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.",
      "tool_choice",
    );
  }
  const chosen =
    choice.mode === "none" ? [] : choice.mode === "named" ? [choice.name] : (choice.allowed ?? []);
  for (const name of chosen) {
    if (!tools.some((tool) => tool.name === name)) throw unknownChoice(name);
  }
  return choice;
}

function readMode(value: string): ToolChoice {
  switch (value) {
    case "none":
      return { mode: "none" };
    case "auto":
      return { mode: "auto", allowed: undefined };
    case "required":
    // What other servers call it.
    case "any":
      return { mode: "required", allowed: undefined };
    default:
      throw notOneOf("tool_choice", ["none", "auto", "required"], value);
  }
}

/** The Responses API writes the same objects without the inner one. */
function readChoiceObject(value: unknown, limits: Limits): ToolChoice {
  if (!isObject(value)) throw wrongType("tool_choice", "a string or an object", value);
  const { type } = value;
  switch (type) {
    case "function":
    case "custom":
      return { mode: "named", name: readChosenName(value, type, "tool_choice") };
    case "allowed_tools": {
      const [allowed, at] = isObject(value["allowed_tools"])
        ? [value["allowed_tools"], "tool_choice.allowed_tools"]
        : [value, "tool_choice"];
      const { tools } = allowed;
      const mode = allowed["mode"] ?? "auto";
      if (mode !== "auto" && mode !== "required") throw notOneOf(`${at}.mode`, ["auto", "required"], mode);
      if (tools === undefined || tools === null) throw missing(`${at}.tools`);
      if (!Array.isArray(tools)) throw wrongType(`${at}.tools`, "an array of objects", tools);
      checkLength(tools, limits["max-tools"], `${at}.tools`, "max-tools");
      // A call that must come and may be of no tool.
      if (mode === "required" && tools.length === 0) throw emptyArray(`${at}.tools`);
      const names = (tools as unknown[]).map((tool, i) => {
        const path = `${at}.tools[${i}]`;
        if (!isObject(tool)) throw wrongType(path, "an object", tool);
        return readChosenName(tool, tool["type"] === "custom" ? "custom" : "function", path);
      });
      return { mode, allowed: [...new Set(names)] };
    }
    default:
      throw notOneOf("tool_choice.type", ["function", "custom", "allowed_tools"], type);
  }
}

function readChosenName(value: JsonObject, type: "function" | "custom", at: string): string {
  const [named, path] = isObject(value[type]) ? [value[type], `${at}.${type}`] : [value, at];
  const { name } = named;
  if (typeof name === "string") return name;
  throw name == null ? missing(`${path}.name`) : wrongType(`${path}.name`, "a string", name);
}

function readFunctionCall(value: unknown, tools: readonly TurnTool[]): ToolChoice {
  if (value === undefined || value === "auto") return { mode: "auto", allowed: undefined };
  if (value === "none") return { mode: "none" };
  if (typeof value === "string") throw notOneOf("function_call", ["none", "auto"], value);
  if (!isObject(value)) throw wrongType("function_call", "a string or an object", value);
  const { name } = value;
  if (typeof name !== "string") {
    throw name == null ? missing("function_call.name") : wrongType("function_call.name", "a string", name);
  }
  if (tools.some((tool) => tool.name === name)) return { mode: "named", name };
  throw new ApiError(
    "invalid_value",
    `Invalid value for 'function_call': no function named '${name.slice(0, MAX_TOOL_NAME)}' was specified in 'functions'.`,
    "function_call",
  );
}

/** Why a choice is refused where there are no `functions`: the older name says nothing of `tools`. */
function noFunctions(choice: unknown): ApiError {
  if (typeof choice === "string") return notOneOf("function_call", ["none", "auto"], choice);
  return new ApiError(
    "invalid_value",
    "Invalid value for 'function_call': 'function_call' is only allowed when 'functions' are specified.",
    "function_call",
  );
}

function unknownChoice(name: string): ApiError {
  return new ApiError(
    "invalid_value",
    `Tool choice '${name.slice(0, MAX_TOOL_NAME)}' not found in 'tools' parameter.`,
    "tool_choice",
  );
}
