/** Grammars of parameters that are written one by one: in tags, or as in a Python call. */
import {
  charClass,
  charClassExcept,
  empty,
  literal,
  oneOf,
  oneOfTexts,
  optional,
  repeat,
  sequence,
} from "../grammar/grammar.ts";
import type { Expr, GrammarBuilder } from "../grammar/grammar.ts";
import { compileJsonSchema, SchemaError } from "../grammar/json-schema.ts";
import { textWithout } from "../grammar/text-without.ts";
import type { LiteralBody, TaggedBody } from "./call-syntax.ts";
import type { GrammarParts } from "./calls-grammar.ts";
import { typesOf } from "./loose-value.ts";
import type { CallableTool } from "./tool-format.ts";

interface Parameter {
  readonly key: string;
  readonly required: boolean;
  readonly schema: unknown;
  /** Undefined when any type is allowed, as far as can be seen. */
  readonly types: ReadonlySet<string> | undefined;
}

/** The parameters in the order of the schema; those that are not required may be left out. */
export function taggedParameters(parts: GrammarParts, body: TaggedBody, tool: CallableTool): Expr {
  const { builder, loose } = parts;
  const end = body.afterValue.trim();
  const text = builder.shared(`tools:text-without:${end}`, () => textWithout(builder, end));
  return sequence(
    ...parametersOf(tool).map((parameter) => {
      const value = taggedValue(builder, parameter, tool, text);
      const whole = sequence(
        loose(body.beforeKey),
        literal(parameter.key),
        loose(body.afterKey),
        value,
        loose(body.afterValue),
      );
      return parameter.required ? whole : optional(builder.rule(parameter.key, whole));
    }),
  );
}

function taggedValue(
  builder: GrammarBuilder,
  { schema, types }: Parameter,
  tool: CallableTool,
  text: Expr,
): Expr {
  const choices = choicesOf(schema);
  if (choices !== undefined) {
    return oneOfTexts(choices.map((value) => (typeof value === "string" ? value : JSON.stringify(value))));
  }
  // Text has no quotes, so what a schema says of it cannot be held.
  if (types === undefined || types.has("string")) return text;
  return jsonValue(builder, schema, tool) ?? text;
}

/** A value as JSON; undefined when its schema alone cannot be compiled. */
function jsonValue(builder: GrammarBuilder, schema: unknown, { parameters }: CallableTool): Expr | undefined {
  const definitions = ["$defs", "definitions"].map((key) => [key, parameters?.[key]] as const);
  const known = Object.fromEntries(definitions.filter(([, value]) => value !== undefined));
  try {
    return compileJsonSchema(builder, { ...known, ...(isRecord(schema) ? schema : {}) }, { strict: false })
      .root;
  } catch (error) {
    if (error instanceof SchemaError) return undefined;
    throw error;
  }
}

/** The parameters in the order of the schema, with separators between those that are there. */
export function literalParameters(parts: GrammarParts, body: LiteralBody, tool: CallableTool): Expr {
  const { builder, space } = parts;
  const parameters = parametersOf(tool);
  const separator = sequence(literal(body.separator.trim()), space);
  const entry = ({ key, schema, types }: Parameter): Expr =>
    sequence(literal(key + body.assign.trim()), space, literalValue(builder, body, { schema, types }));
  const from = (index: number, begun: boolean): Expr => {
    const parameter = parameters[index];
    if (parameter === undefined) return empty;
    const written = sequence(begun ? separator : empty, entry(parameter), after(index + 1, true));
    return parameter.required ? written : oneOf(written, after(index + 1, begun));
  };
  // As rules, because each tail is needed twice.
  const tails = new Map<string, Expr>();
  function after(index: number, begun: boolean): Expr {
    if (index === parameters.length) return empty;
    const key = `${index}:${begun}`;
    const known = tails.get(key);
    if (known !== undefined) return known;
    const tail = builder.rule("parameters", from(index, begun));
    tails.set(key, tail);
    return tail;
  }
  return after(0, false);
}

function literalValue(
  builder: GrammarBuilder,
  body: LiteralBody,
  { schema, types }: Pick<Parameter, "schema" | "types">,
): Expr {
  const choices = choicesOf(schema);
  const quoted = (text: string): string =>
    body.quote === '"' ? JSON.stringify(text) : body.quote + text + body.quote;
  if (choices?.every((value) => typeof value !== "object") === true) {
    return oneOfTexts(
      choices.map((value) => (typeof value === "string" ? quoted(value) : wordOf(value, body))),
    );
  }
  if (types === undefined || types.has("object") || types.has("array")) return anyLiteral(builder, body);
  return oneOf(
    ...[...types].map((type) =>
      type === "string" ? stringGrammar(builder, body.quote) : scalarGrammar(builder, type, body),
    ),
  );
}

function anyLiteral(builder: GrammarBuilder, body: LiteralBody): Expr {
  return builder.shared(`tools:literal:${body.open}${body.quote}`, () =>
    builder.recursive("literal", (self) => {
      const string = stringGrammar(builder, body.quote);
      const space = repeat(charClass(" \n"), 0, 2);
      const list = (open: string, item: Expr, close: string): Expr =>
        sequence(
          literal(open),
          optional(sequence(item, repeat(sequence(literal(","), space, item), 0))),
          literal(close),
        );
      const entry = sequence(string, literal(":"), space, self);
      const scalars = ["boolean", "null", "number"].map((type) => scalarGrammar(builder, type, body));
      return oneOf(string, ...scalars, list("[", self, "]"), list("{", entry, "}"));
    }),
  );
}

function stringGrammar(builder: GrammarBuilder, quote: string): Expr {
  return builder.shared(`tools:string:${quote}`, () => {
    if (quote !== '"') {
      return builder.rule("string", sequence(literal(quote), textWithout(builder, quote), literal(quote)));
    }
    const escaped = sequence(literal("\\"), charClass('"\\nrt'));
    const character = oneOf(charClassExcept('"\\', [0, 0x1f]), escaped);
    return builder.rule("string", sequence(literal('"'), repeat(character, 0), literal('"')));
  });
}

/** Words as in JSON, or as in Python where the call is one. */
function scalarGrammar(builder: GrammarBuilder, type: string, body?: LiteralBody): Expr {
  switch (type) {
    case "integer":
      return builder.shared("tools:integer", () => builder.rule("integer", integerGrammar()));
    case "number":
      return builder.shared("tools:number", () =>
        builder.rule(
          "number",
          sequence(integerGrammar(), optional(sequence(literal("."), repeat(digit, 1, MOST_DIGITS)))),
        ),
      );
    case "boolean":
      return oneOf(literal(wordOf(true, body)), literal(wordOf(false, body)));
    case "null":
      return literal(wordOf(null, body));
    default:
      return builder.shared("tools:line", () =>
        builder.rule("line", repeat(charClassExcept("\n<"), 1, MOST_DIGITS)),
      );
  }
}

const digit = charClass("0123456789");

/** More digits mean nothing to a JSON number, and a model that writes only digits would never end. */
const MOST_DIGITS = 15;

function integerGrammar(): Expr {
  const whole = sequence(charClass("123456789"), repeat(digit, 0, MOST_DIGITS));
  return sequence(optional(literal("-")), oneOf(literal("0"), whole));
}

function wordOf(value: unknown, body?: LiteralBody): string {
  const json = JSON.stringify(value);
  if (body?.open.trim() !== "(") return json;
  return { true: "True", false: "False", null: "None" }[json] ?? json;
}

function parametersOf(tool: CallableTool): Parameter[] {
  const properties = tool.parameters?.["properties"];
  if (typeof properties !== "object" || properties === null) return [];
  const required: unknown = tool.parameters?.["required"];
  const names: readonly unknown[] = Array.isArray(required) ? required : [];
  return Object.entries(properties).map(([key, schema]) => ({
    key,
    schema,
    required: names.includes(key),
    types: typesOf(tool.parameters, key),
  }));
}

function choicesOf(schema: unknown): readonly unknown[] | undefined {
  if (typeof schema !== "object" || schema === null) return undefined;
  if ("enum" in schema && Array.isArray(schema.enum) && schema.enum.length > 0) return schema.enum;
  return "const" in schema ? [schema.const] : undefined;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
