/** The one grammar that a whole output follows: what the model thinks, what it says, and the calls it makes. */
import {
  charClass,
  empty,
  GrammarBuilder,
  GrammarError,
  literal,
  oneOf,
  optional,
  printGrammar,
  repeat,
  sequence,
} from "./grammar/grammar.ts";
import type { Expr } from "./grammar/grammar.ts";
import { checkAmbiguity } from "./grammar/check-ambiguity.ts";
import { grammarForChoice } from "./grammar/choice.ts";
import { anyJsonObject, compileJsonSchema, compileProperties, SchemaError } from "./grammar/json-schema.ts";
import type { CompiledSchema } from "./grammar/json-schema.ts";
import { parseGbnf } from "./grammar/parse-gbnf.ts";
import { compileRegex } from "./grammar/regex.ts";
import { textUntil, textWithout } from "./grammar/text-without.ts";
import type { ReasoningMarkers } from "./text/reasoning-splitter.ts";
import { formatOfKey } from "./tools/format-of-key.ts";
import type { CallableTool, ToolDefinition, ToolFormat } from "./tools/tool-format.ts";

/** What the answer must look like. `param` is the request field that says so, for errors. */
export type OutputFormat =
  | { readonly kind: "text" }
  | { readonly kind: "json_object"; readonly param: string }
  | {
      readonly kind: "json_schema";
      readonly name: string;
      readonly schema: unknown;
      /** Whether a keyword that cannot be held is an error. */
      readonly strict: boolean;
      /** Path of the schema in the request. */
      readonly at: string;
      readonly param: string;
    }
  | { readonly kind: "regex"; readonly pattern: string; readonly param: string }
  | { readonly kind: "choice"; readonly choices: readonly string[]; readonly param: string }
  /** GBNF. */
  | { readonly kind: "grammar"; readonly text: string; readonly param: string };

export interface ConstrainedTool extends ToolDefinition {
  /** Path of its parameters in the request, for errors. */
  readonly param: string;
}

export interface CallConstraint {
  readonly format: ToolFormat;
  /** Names of all tools, so that a call of one that may not be called cannot begin. */
  readonly names: readonly string[];
  /** `none`: no call can begin. `auto`: an answer, calls, or text and then calls. `required`: calls. */
  readonly mode: "none" | "auto" | "required";
  /** Those that may be called; unused for `none`. */
  readonly callable: readonly ConstrainedTool[];
  /** Exactly one call otherwise. */
  readonly parallel: boolean;
}

export interface OutputConstraint {
  /** The model may think first, or does already; what it thinks is free. */
  readonly reasoning: (ReasoningMarkers & { readonly opened: boolean }) | undefined;
  readonly calls: CallConstraint | undefined;
  readonly answer: OutputFormat;
  /** What the model writes before an answer that is not free text, from the format of its template. */
  readonly answerHeader: Expr | undefined;
}

export interface CompiledConstraint {
  /** GBNF with the entry rule `root`. */
  readonly grammar: string;
  /** Paths of schema keywords that it does not hold. */
  readonly relaxed: readonly string[];
}

/** A schema, pattern or grammar that cannot be held. */
export class ConstraintError extends Error {
  override readonly name = "ConstraintError";
  readonly param: string;
  /** The tool whose schema it is. */
  readonly tool: string | undefined;

  constructor(message: string, param: string, tool?: string) {
    super(message);
    this.param = param;
    this.tool = tool;
  }
}

/** White space that models write between their thinking and what follows. */
const MAX_SPACE = 8;

/** The constraint as a text that says all of it. */
export function writeConstraint({ reasoning, calls, answer, answerHeader }: OutputConstraint): string {
  return JSON.stringify([reasoning, calls && { ...calls, format: calls.format.key }, answer, answerHeader]);
}

type WrittenConstraint = readonly [
  reasoning: NonNullable<OutputConstraint["reasoning"]> | null,
  calls: (Omit<CallConstraint, "format"> & { readonly format: string }) | null,
  answer: OutputFormat,
  answerHeader: Expr | null,
];

/** @param text What `writeConstraint` wrote. */
export function readConstraint(text: string): OutputConstraint {
  const [reasoning, calls, answer, answerHeader] = JSON.parse(text) as WrittenConstraint;
  return {
    reasoning: reasoning ?? undefined,
    calls: calls === null ? undefined : { ...calls, format: formatOfKey(calls.format) },
    answer,
    answerHeader: answerHeader ?? undefined,
  };
}

/** @throws {ConstraintError} For what cannot be held. */
export function compileConstraint(constraint: OutputConstraint): CompiledConstraint {
  const builder = new GrammarBuilder();
  const relaxed: string[] = [];
  const said = sayOrCall(builder, constraint, relaxed);
  const root = withReasoning(builder, constraint, said);
  try {
    const whole = builder.build(root);
    const grammar = printGrammar(whole);
    const { kind } = constraint.answer;
    checkAmbiguity(whole, kind === "grammar" || kind === "regex" ? "written" : "made");
    return { grammar, relaxed };
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error;
    throw new ConstraintError(error.message, fieldOf(constraint));
  }
}

/** The field to name for what is wrong with the whole. */
export function fieldOf({ answer, calls }: OutputConstraint): string {
  if (answer.kind !== "text") return answer.param;
  return calls === undefined ? "response_format" : "tools";
}

function withReasoning(
  builder: GrammarBuilder,
  { reasoning, answer, calls }: OutputConstraint,
  said: Expr,
): Expr {
  if (reasoning === undefined) return said;
  // Free text takes the white space itself.
  const free = answer.kind === "text" && calls?.mode !== "required";
  const space = free ? [] : [builder.rule("space", repeat(charClass(" \t\r\n"), 0, MAX_SPACE))];
  const thought = builder.rule("thought", sequence(textUntil(builder, reasoning.end), ...space));
  if (reasoning.opened) return sequence(thought, said);
  return sequence(optional(sequence(literal(reasoning.start), thought)), said);
}

function sayOrCall(
  builder: GrammarBuilder,
  { calls, answer, answerHeader = empty }: OutputConstraint,
  relaxed: string[],
): Expr {
  const held = (): Expr => sequence(answerHeader, answerExpr(builder, answer, relaxed));
  if (calls === undefined) return held();
  if (calls.mode === "none") {
    return answer.kind === "text" ? textWithout(builder, calls.format.triggersFor(calls.names)) : held();
  }
  const called = callsExpr(builder, calls, relaxed);
  if (calls.mode === "required") return called;
  return answer.kind === "text"
    ? sequence(textWithout(builder, calls.format.triggersFor(calls.names)), optional(called))
    : oneOf(called, held());
}

function callsExpr(builder: GrammarBuilder, calls: CallConstraint, relaxed: string[]): Expr {
  const tools = calls.callable.map((tool) => callableTool(builder, tool, relaxed));
  return calls.format.callsGrammar(builder, tools, { parallel: calls.parallel });
}

/** Arguments are always an object; nothing said of them means that there are none. */
function objectSchema({ name, parameters, param }: ConstrainedTool): Readonly<Record<string, unknown>> {
  if (parameters === undefined || Object.keys(parameters).length === 0) {
    return { type: "object", properties: {}, additionalProperties: false };
  }
  const { type } = parameters;
  if (type === undefined) return { ...parameters, type: "object" };
  if (type === "object") return parameters;
  throw new ConstraintError(
    `schema must be a JSON Schema of 'type: "object"', got 'type: ${JSON.stringify(type).slice(0, 100)}'.`,
    param,
    name,
  );
}

function callableTool(builder: GrammarBuilder, tool: ConstrainedTool, relaxed: string[]): CallableTool {
  const { name, strict, param } = tool;
  const parameters = objectSchema(tool);
  const held = (compile: () => CompiledSchema): Expr => {
    try {
      const compiled = compile();
      for (const path of compiled.relaxed) relaxed.push(`${param}.${path}`);
      return compiled.root;
    } catch (error) {
      throw toConstraintError(error, param, name);
    }
  };
  return {
    name,
    arguments: () => held(() => compileJsonSchema(builder, parameters, { strict })),
    parameters: (write) => held(() => compileProperties(builder, parameters, { strict, write })),
  };
}

function answerExpr(builder: GrammarBuilder, answer: OutputFormat, relaxed: string[]): Expr {
  if (answer.kind === "text") throw new RangeError("Text without calls needs no grammar.");
  try {
    switch (answer.kind) {
      case "json_object":
        return anyJsonObject(builder);
      case "json_schema": {
        const { root, relaxed: paths } = compileJsonSchema(builder, answer.schema, { strict: answer.strict });
        for (const path of paths) relaxed.push(`${answer.at}.${path}`);
        return root;
      }
      case "regex":
        return compileRegex(builder, answer.pattern);
      case "choice":
        return grammarForChoice(builder, answer.choices);
      case "grammar":
        return builder.include(parseGbnf(answer.text));
    }
  } catch (error) {
    throw toConstraintError(error, answer.param, undefined);
  }
}

/** What is wrong, in OpenAI's words where it has some. */
function toConstraintError(error: unknown, param: string, tool: string | undefined): unknown {
  if (error instanceof SchemaError) return new ConstraintError(error.message, param, tool);
  if (!(error instanceof GrammarError)) return error;
  const place = error.line === undefined ? "" : ` (line ${error.line})`;
  return new ConstraintError(`${error.message}${place}`, param, tool);
}
