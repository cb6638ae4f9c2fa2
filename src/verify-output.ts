/** Looks whether a finished answer is what its schemas say: a grammar that promised it may be wrong. */
import { isObject } from "./http/json.ts";
import { validateInstance } from "../models/grammar/validate-instance.ts";
import type { ChatTurn, TurnTool } from "./chat-turn.ts";

/** A whole answer, thinking left out. */
export interface WholeOutput {
  content: string;
  readonly calls: { readonly name: string; arguments: string }[];
}

/** What is wrong with an answer, for the log; undefined when nothing is. Never throws. */
export type OutputVerifier = (output: WholeOutput) => string | undefined;

/**
 * Undefined when nothing was promised.
 * @param relaxed Schema keywords that the answer is not held to.
 */
export function verifierOf(
  { format, tools, toolChoice }: Pick<ChatTurn, "format" | "tools" | "toolChoice">,
  relaxed: readonly string[],
): OutputVerifier | undefined {
  const strict = new Map(tools.filter((tool) => tool.strict).map((tool) => [tool.name, tool]));
  const promised = format.kind === "json_object" || format.kind === "json_schema";
  const calls = toolChoice.mode === "none" ? 0 : strict.size;
  if (!promised && calls === 0) return undefined;
  return ({ content, calls: made }) => {
    for (const call of made) {
      const wrong = wrongArguments(call.arguments, strict.get(call.name));
      if (wrong !== undefined) return `call of ${call.name}: ${wrong}`;
    }
    if (!promised || (made.length > 0 && content === "")) return undefined;
    const value = parsed(content);
    if (value === undefined) return "the content is not JSON";
    if (format.kind === "json_object") return isObject(value.json) ? undefined : "the content is no object";
    return relaxed.length === 0 ? violation(format.schema, value.json) : undefined;
  };
}

function wrongArguments(text: string, tool: TurnTool | undefined): string | undefined {
  if (tool === undefined) return undefined;
  const value = parsed(text);
  if (value === undefined) return "the arguments are not JSON";
  return violation(tool.parameters ?? {}, value.json);
}

function violation(schema: unknown, value: unknown): string | undefined {
  const found = validateInstance(schema, value);
  return found && `${found.path}: ${found.message}`;
}

function parsed(text: string): { readonly json: unknown } | undefined {
  try {
    return { json: JSON.parse(text) };
  } catch {
    return undefined;
  }
}
