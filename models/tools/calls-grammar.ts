/** The grammar of one or more tool calls in a syntax. */
import {
  charClass,
  charClassExcept,
  empty,
  literal,
  oneOf,
  optional,
  repeat,
  sequence,
} from "../grammar/grammar.ts";
import type { Expr, GrammarBuilder } from "../grammar/grammar.ts";
import { callEnds } from "./call-syntax.ts";
import type { CallBody, CallSyntax, NamedBody, ObjectField } from "./call-syntax.ts";
import { literalParameters, taggedParameters } from "./parameters-grammar.ts";
import type { CallableTool } from "./tool-format.ts";

/** White space between the parts of a call at most: a line break and some indentation. */
const MOST_SPACE = 8;

/** Of an id or a number that a model makes up for its call. */
const MOST_ID_CHARACTERS = 64;

export interface CallsGrammarOptions {
  /** Allows several calls, where the syntax does. */
  readonly parallel: boolean;
}

/** @param tools At least one. */
export function callsGrammar(
  builder: GrammarBuilder,
  syntax: CallSyntax,
  tools: readonly CallableTool[],
  options: CallsGrammarOptions,
): Expr {
  const parts = partsOf(builder);
  const { call: end, next, all } = callEnds(syntax);
  const call = builder.rule("call", sequence(bodyGrammar(parts, syntax.body, tools), parts.loose(end)));
  const further = next === undefined ? empty : sequence(parts.loose(next), call);
  return sequence(
    parts.loose(syntax.before.trimStart()),
    call,
    options.parallel ? repeat(further, 0) : empty,
    parts.loose(all),
    optional(literal("\n")),
  );
}

/** What all call grammars are made of. */
export interface GrammarParts {
  readonly builder: GrammarBuilder;
  readonly space: Expr;
  /** A fixed text; where it has white space, but not within a tag, there may be other, or none. */
  readonly loose: (text: string) => Expr;
}

function partsOf(builder: GrammarBuilder): GrammarParts {
  const space = builder.shared("tools:space", () =>
    builder.rule("space", repeat(charClass(" \t\n"), 0, MOST_SPACE)),
  );
  const loose = (text: string): Expr => {
    const parts = [...text.matchAll(/\s+|\S+/g)].map(({ 0: part, index }) =>
      /^\s/.test(part) && !isInTag(text, index) ? space : literal(part),
    );
    return sequence(...parts);
  };
  return { builder, space, loose };
}

/** Whether a tag is open at this place of a text, which may begin or end within one. */
function isInTag(text: string, at: number): boolean {
  return /<[^>]*$/.test(text.slice(0, at)) || /^[^<>]*>/.test(text.slice(at));
}

function bodyGrammar(parts: GrammarParts, body: CallBody, tools: readonly CallableTool[]): Expr {
  switch (body.kind) {
    case "object":
      return objectGrammar(parts, body.fields, tools);
    case "named":
      return oneOf(
        ...tools.map((tool) =>
          sequence(literal(tool.name), afterName(parts, body), parts.space, tool.arguments()),
        ),
      );
    case "tagged":
      return oneOf(
        ...tools.map((tool) =>
          sequence(literal(tool.name), parts.loose(body.afterName), taggedParameters(parts, body, tool)),
        ),
      );
    case "literal":
      return oneOf(
        ...tools.map((tool) =>
          sequence(
            literal(tool.name + body.open.trim()),
            literalParameters(parts, body, tool),
            literal(body.close.trim()),
          ),
        ),
      );
  }
}

function afterName({ loose }: GrammarParts, { afterName: texts }: NamedBody): Expr {
  const id = repeat(charClass("-_.", [0x30, 0x39], [0x41, 0x5a], [0x61, 0x7a]), 1, MOST_ID_CHARACTERS);
  return sequence(...texts.flatMap((text, index) => (index === 0 ? [loose(text)] : [id, loose(text)])));
}

/** The fields before the name are the same for all tools and stand once, as a choice costs at each of its options. */
function objectGrammar(
  parts: GrammarParts,
  fields: readonly ObjectField[],
  tools: readonly CallableTool[],
): Expr {
  const { space } = parts;
  const key = (field: ObjectField): Expr =>
    sequence(literal(JSON.stringify(field.key)), space, literal(":"), space);
  const separator = sequence(space, literal(","), space);
  const at = fields.findIndex((field) => field.holds === "name" || field.holds === "fields");
  const head = fields.slice(0, Math.max(at, 0)).map((field) => sequence(key(field), value(field), separator));
  function value(field: ObjectField, tool?: CallableTool): Expr {
    switch (field.holds) {
      case "name":
        return literal(JSON.stringify(tool?.name ?? ""));
      case "arguments":
        return tool?.arguments() ?? literal("{}");
      case "anything":
        return anythingGrammar();
      case "constant":
        return literal(JSON.stringify(field.value));
      case "fields":
        return objectGrammar(parts, field.fields, tool === undefined ? tools : [tool]);
    }
  }
  const tails = (offered: readonly CallableTool[], from: number): Expr => {
    const first = fields[from];
    if (first === undefined) return empty;
    const rest = (tool: CallableTool): Expr =>
      sequence(...fields.slice(from + 1).flatMap((field) => [separator, key(field), value(field, tool)]));
    return sequence(key(first), oneOf(...offered.map((tool) => sequence(value(first, tool), rest(tool)))));
  };
  const earlyArguments = fields.slice(0, Math.max(at, 0)).some((field) => field.holds === "arguments");
  const inner = earlyArguments ? tails(tools, 0) : sequence(...head, tails(tools, Math.max(at, 0)));
  return sequence(literal("{"), space, inner, space, literal("}"));
}

/** An id as text or as a number. */
function anythingGrammar(): Expr {
  const text = repeat(charClassExcept('"\\', [0, 0x1f]), 0, MOST_ID_CHARACTERS);
  return oneOf(sequence(literal('"'), text, literal('"')), repeat(charClass([0x30, 0x39]), 1, 9));
}
