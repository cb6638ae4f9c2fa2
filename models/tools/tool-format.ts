/** How a model writes tool calls: what the server asks of every format, whatever its syntax. */
import type { Expr, GrammarBuilder } from "../grammar/grammar.ts";
import type { PropertySchemas } from "../grammar/json-schema.ts";

export interface ToolDefinition {
  readonly name: string;
  readonly description?: string;
  /** JSON Schema of an object; undefined when the tool takes nothing. */
  readonly parameters: Readonly<Record<string, unknown>> | undefined;
  readonly strict: boolean;
}

/** A tool that a grammar offers. Its schema is compiled in the way in which the format writes arguments. */
export interface CallableTool {
  readonly name: string;
  /** As one JSON object. */
  arguments(): Expr;
  /** One by one, in a notation of the format's own. */
  parameters(write: (properties: PropertySchemas) => Expr): Expr;
}

/** What a parser has to know of a tool. */
export interface ParsedTool {
  readonly name: string;
  readonly parameters?: ToolDefinition["parameters"];
}

/** What the grammar of an output says of its calls. */
export interface HeldCalls {
  /** Names of those that may be called. */
  readonly names: readonly string[];
  /** Texts with which calls begin, and that nothing else contains; undefined where there is nothing but calls. */
  readonly triggers: readonly string[] | undefined;
  /** The output is calls from its first character on, or none; absent is no. No other output begins like a trigger. */
  readonly atStart?: boolean;
}

export type ToolPiece =
  | { readonly kind: "content"; readonly text: string }
  /** A call begins; its arguments follow before the next one begins. `index` counts from 0. */
  | { readonly kind: "call"; readonly index: number; readonly name: string }
  /** A piece of the JSON text of the arguments. */
  | { readonly kind: "arguments"; readonly index: number; readonly text: string };

/**
 * Parts an output into content and calls. The joined pieces do not depend on how the output is cut. Markup that
 * is no call is content. Never throws.
 */
export interface ToolCallParser {
  push(text: string): ToolPiece[];
  /** What was held back, once. @param complete False when the output was cut off. */
  flush(complete: boolean): ToolPiece[];
}

export interface ToolFormat {
  /** The family for people: "hermes", "llama3-json", "mistral", …, "generic". */
  readonly name: string;
  /** Differs where the grammars or the parsers do. */
  readonly key: string;
  /** Texts with which a call of one of these tools begins; free text must not contain them while tools are offered. */
  triggersFor(names: readonly string[]): readonly string[];
  /** All fixed texts of the syntax. A control token within one of them has to stay visible for the parser. */
  readonly markup: readonly string[];
  /**
   * What stands before an answer, up to its first character, where text is in markup, too; the parser has to read
   * every output then, whether tools are offered or not.
   */
  readonly answerHeader: Expr | undefined;
  /** What the template shows of tools by itself; the rest is written into the messages. */
  readonly shows: ShownTools;
  /**
   * One or more calls (exactly one when not `parallel`) of the given tools, from the first character of the
   * trigger on; only a newline may follow.
   */
  callsGrammar(
    builder: GrammarBuilder,
    tools: readonly CallableTool[],
    options: { readonly parallel: boolean },
  ): Expr;
  /**
   * @param tools Names that a call without any markup must have, and types of parameters that are not JSON.
   * @param held What a grammar holds the output to; absent: anything may come.
   */
  createParser(tools?: readonly ParsedTool[], held?: HeldCalls): ToolCallParser;
  /** Calls as the model writes them. */
  print(calls: readonly PrintedCall[]): string;
}

export interface PrintedCall {
  readonly name: string;
  /** JSON text of an object. */
  readonly arguments: string;
}

export interface ShownTools {
  readonly definitions: boolean;
  readonly calls: boolean;
  /** More than the first call of a message. */
  readonly severalCalls: boolean;
  /** A call's id in place of its name. */
  readonly namesInIds: boolean;
  readonly results: boolean;
}
