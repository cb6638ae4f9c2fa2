/** Grammars of parameters that are written one by one: in tags, or as in a Python call. */
import { charClass, empty, literal, oneOf, optional, repeat, sequence } from "../grammar/grammar.ts";
import type { Expr } from "../grammar/grammar.ts";
import type { PropertySchema, PropertySchemas } from "../grammar/json-schema.ts";
import { anyString, JSON_NOTATION, rawNotation } from "../grammar/notation.ts";
import { TYPES } from "../grammar/schema-keywords.ts";
import { endOfValue, notationOf, valueFrame } from "./call-syntax.ts";
import type { LiteralBody, TaggedBody } from "./call-syntax.ts";
import type { GrammarParts } from "./calls-grammar.ts";
import type { CallableTool } from "./tool-format.ts";

type DeclaredProperty = PropertySchemas["declared"][number];

const UNWRITABLE = "its name cannot be written in a call of this model.";

/** Of a name that no schema declares. */
const MOST_NAME_CHARACTERS = 64;

function anyName(): Expr {
  const letters = charClass([0x41, 0x5a], [0x61, 0x7a], "_");
  const others = charClass([0x30, 0x39], [0x41, 0x5a], [0x61, 0x7a], "_");
  return sequence(letters, repeat(others, 0, MOST_NAME_CHARACTERS - 1));
}

/** In the order of the schema; those that are not required may be left out. */
export function taggedParameters(parts: GrammarParts, body: TaggedBody, tool: CallableTool): Expr {
  const { builder, loose } = parts;
  const mark = body.afterKey.trim().split(/\s+/)[0] ?? "";
  const { afterEndName } = body;
  const whole = (name: Expr, property: PropertySchema): Expr =>
    sequence(
      loose(body.beforeKey),
      name,
      taggedValue(parts, body, property),
      loose(body.afterValue.trimStart()),
      ...(afterEndName === undefined ? [] : [name, loose(afterEndName)]),
    );
  const declaredOne = (property: DeclaredProperty): Expr => {
    const { name, required } = property;
    if (name.trim() !== name || (name + mark).indexOf(mark) < name.length) property.refuse(UNWRITABLE);
    const one = whole(literal(name), property);
    return required ? one : optional(builder.rule(name, one));
  };
  return tool.parameters(({ declared, others }) => {
    if (others === undefined) return sequence(...declared.map(declaredOne));
    if (afterEndName !== undefined) {
      others.refuse("names that are not declared cannot be repeated at the end of a value.");
      return empty;
    }
    const other = builder.rule("parameter", whole(anyName(), others));
    return repeat(other, others.min, finite(others.max));
  });
}

function finite(max: number): number | undefined {
  return max === Infinity ? undefined : max;
}

/**
 * The rest of the tag before a value, and the value with the white space that belongs to the tags. Where tags do not
 * tell strings from other values, readers take what may be a string for one, so that no other type is written there.
 * White space is part of a string: there is exactly as much around it as the syntax has, unless any string will do.
 */
function taggedValue(
  { builder, loose, space }: GrammarParts,
  body: TaggedBody,
  property: PropertySchema,
): Expr {
  const { afterKey, afterTextKey } = body;
  const { open, close } = valueFrame(body);
  const notation = rawNotation({ quote: "", end: endOfValue(body) });
  const anyText = anyString({ builder, notation });
  const text = (value: Expr): Expr => {
    const tag = loose((afterTextKey ?? afterKey).trimEnd());
    return value === anyText ? sequence(tag, value) : sequence(tag, literal(open), value, literal(close));
  };
  const json = (value: Expr): Expr => sequence(loose(afterKey), value, close === "" ? empty : space);
  const { types } = property;
  if (types === undefined && afterTextKey === undefined) {
    // Compiled all the same, for what it refuses.
    property.value(JSON_NOTATION);
    return text(anyText);
  }
  if (types?.has("string") === false) return json(property.value(JSON_NOTATION));
  const others = [...(types ?? TYPES)].filter((type) => type !== "string");
  if (afterTextKey === undefined) {
    const nothing = others.filter((type) => type === "null");
    return text(property.value(notation, ["string", ...nothing]));
  }
  const string = text(property.value(notation, ["string"]));
  return others.length === 0 ? string : oneOf(string, json(property.value(JSON_NOTATION, others)));
}

/** In the order of the schema, with separators between those that are there. */
export function literalParameters(parts: GrammarParts, body: LiteralBody, tool: CallableTool): Expr {
  const { builder, space } = parts;
  const notation = notationOf(body);
  const assign = sequence(literal(body.assign.trim()), space);
  const separator = sequence(literal(body.separator.trim()), space);
  const entry = (name: Expr, property: PropertySchema): Expr =>
    sequence(name, assign, property.value(notation));
  return tool.parameters(({ declared, others }) => {
    if (others === undefined) {
      const entries = declared.map((property) => {
        if (!LITERAL_NAME.test(property.name)) property.refuse(UNWRITABLE);
        return { required: property.required, expr: entry(literal(property.name), property) };
      });
      return inOrder(parts, entries, separator);
    }
    const { min, max } = others;
    if (max === 0) return empty;
    const other = builder.rule("parameter", entry(anyName(), others));
    const more = repeat(sequence(separator, other), Math.max(min - 1, 0), finite(max - 1));
    return min === 0 ? optional(sequence(other, more)) : sequence(other, more);
  });
}

/** Nothing in it may be taken for the end of the name, or of the call. */
const LITERAL_NAME = /^[^\s"'()[\]{}<>=:,]+$/u;

function inOrder(
  { builder }: GrammarParts,
  entries: readonly { readonly required: boolean; readonly expr: Expr }[],
  separator: Expr,
): Expr {
  const from = (index: number, begun: boolean): Expr => {
    const entry = entries[index];
    if (entry === undefined) return empty;
    const written = sequence(begun ? separator : empty, entry.expr, after(index + 1, true));
    return entry.required ? written : oneOf(written, after(index + 1, begun));
  };
  // As rules, because each tail is needed twice.
  const tails = new Map<string, Expr>();
  function after(index: number, begun: boolean): Expr {
    if (index === entries.length) return empty;
    const key = `${index}:${begun}`;
    const known = tails.get(key);
    if (known !== undefined) return known;
    const tail = builder.rule("parameters", from(index, begun));
    tails.set(key, tail);
    return tail;
  }
  return after(0, false);
}
