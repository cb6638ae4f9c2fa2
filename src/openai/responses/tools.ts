/** Reads `tools` in the flat form of the Responses API, where some are not for this server to run. */
import type { ToolChoice, TurnTool } from "../../chat-turn.ts";
import type { RequestLimits } from "../generation-fields.ts";
import { isObject } from "../../http/json.ts";
import { ApiError } from "../api-error.ts";
import { readCustom, readFunction, refuseDuplicates } from "../tool-fields.ts";
import { checkLength, notOneOf, wrongType } from "../validation.ts";

type Json = Readonly<Record<string, unknown>>;

/** Tools that OpenAI runs on its own machines or that need a harness of its own. */
export const HOSTED_TOOLS: ReadonlySet<string> = new Set([
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

export interface ReadTools {
  readonly tools: readonly TurnTool[];
  /** As in the request, for the response object; without those that are left out. */
  readonly echo: readonly object[];
  /** Paths of what is asked for and not there: hosted tools, formats that are not enforced. */
  readonly leftOut: readonly string[];
}

/**
 * A hosted tool cannot be offered. Beside tools that can, it is left out and reported, because agents offer
 * it to every model and live without it; alone it is what the request is about, and refused.
 * @throws {ApiError} 400 with the path of what is wrong.
 */
export function readResponseTools(
  value: unknown,
  { strictParams: strict, limits }: RequestLimits,
): ReadTools {
  if (value === undefined) return { tools: [], echo: [], leftOut: [] };
  if (!Array.isArray(value)) throw wrongType("tools", "an array of objects", value);
  checkLength(value, limits["max-tools"], "tools", "max-tools");
  const tools: TurnTool[] = [];
  const echo: object[] = [];
  const leftOut: string[] = [];
  let hosted: ApiError | undefined;
  for (const [i, tool] of (value as unknown[]).entries()) {
    const at = `tools[${i}]`;
    if (!isObject(tool)) throw wrongType(at, "an object", tool);
    const type = typeOf(tool, at);
    if (HOSTED_TOOLS.has(type)) {
      hosted ??= unsupportedTool(`${at}.type`, type);
      leftOut.push(at);
    } else if (type === "function") {
      const read = readFunction(tool, at, limits);
      tools.push(read);
      const { name, description = null, parameters = null } = read;
      echo.push({ type, name, description, parameters, strict: read.strict });
    } else {
      const isLoose = isLark(tool["format"]) && !strict;
      const read = readCustom(isLoose ? { ...tool, format: undefined } : tool, at);
      const { name, description = null } = read;
      echo.push({ type, name, description, format: tool["format"] ?? { type: "text" } });
      tools.push(isLoose ? { ...read, description: withGrammar(description, tool["format"]) } : read);
      if (isLoose) leftOut.push(`${at}.format`);
    }
  }
  if (hosted !== undefined && (strict || tools.length === 0)) throw hosted;
  refuseDuplicates(tools);
  return { tools, echo, leftOut };
}

/** @throws {ApiError} 400 for a choice of a tool that is never there. */
export function refuseHostedChoice(choice: unknown): void {
  const type = isObject(choice) ? choice["type"] : undefined;
  if (typeof type === "string" && HOSTED_TOOLS.has(type)) throw unsupportedTool("tool_choice.type", type);
}

/**
 * The choice as this API writes it, whatever form it was given in.
 * @param given Of the request.
 * @param choice What was read in it.
 */
export function choiceJson(given: unknown, choice: ToolChoice, tools: readonly TurnTool[]): unknown {
  if (typeof given === "string" || given === undefined) {
    return choice.mode === "required" ? choice.mode : (given ?? "auto");
  }
  const toolJson = (name: string): object => {
    const isCustom = tools.some((tool) => tool.name === name && tool.custom);
    return { type: isCustom ? "custom" : "function", name };
  };
  if (choice.mode === "named") return toolJson(choice.name);
  if (choice.mode === "none") return choice.mode;
  return { type: "allowed_tools", mode: choice.mode, tools: choice.allowed?.map(toolJson) ?? [] };
}

function typeOf(tool: Json, at: string): string {
  const { type } = tool;
  if (type === "function" || type === "custom") return type;
  if (typeof type === "string" && HOSTED_TOOLS.has(type)) return type;
  throw notOneOf(`${at}.type`, ["function", "custom"], type);
}

/** There is no way to hold a model to a grammar in this language. */
function isLark(format: unknown): format is { readonly definition: string } {
  return (
    isObject(format) &&
    format["type"] === "grammar" &&
    format["syntax"] === "lark" &&
    typeof format["definition"] === "string"
  );
}

/** A grammar that the model cannot be held to is at least shown to it. */
function withGrammar(description: string | null, format: unknown): string {
  const definition = isLark(format) ? format.definition : "";
  return `${description ?? ""}\n\nThe input has to follow this Lark grammar:\n${definition}`.trimStart();
}

function unsupportedTool(param: string, type: string): ApiError {
  return new ApiError(
    "unsupported_value",
    `Unsupported value: tools of type '${type}' are not supported by this server. Supported values are: ` +
      "'function' and 'custom'.",
    param,
  );
}
