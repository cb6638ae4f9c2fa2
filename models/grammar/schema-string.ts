/** Strings: length, pattern, format. */
import { compileRegex, searchRegex } from "./regex.ts";
import { countOf, stringOf } from "./schema-keywords.ts";
import { DESCRIPTIVE_FORMATS, FORMATS } from "./formats.ts";
import { GrammarBuilder } from "./grammar.ts";
import { GrammarError } from "./grammar-error.ts";
import { SchemaError } from "./schema-error.ts";
import { insideString, quote, string, stringChar } from "./json-text.ts";
import { repeat } from "./expressions.ts";
import type { Expr } from "./expressions.ts";
import type { Part } from "./schema-parts.ts";
import type { SchemaContext } from "./json-schema.ts";

interface Length {
  readonly min: number;
  readonly max: number;
  /** Where the bound comes from. */
  readonly path: readonly string[];
  readonly keyword: string;
}

interface Shape {
  readonly keyword: "pattern" | "format";
  readonly path: readonly string[];
  /** Characters as they are; rules in it stand for text inside a JSON string. */
  readonly expr: Expr;
}

export function stringExpr(context: SchemaContext, parts: readonly Part[], hint: string): Expr {
  const { builder } = context;
  const length = lengthOf(parts);
  if (length.min > length.max)
    return context.contradiction(length.path, "minLength", "'minLength' is above 'maxLength'.");
  const [shape, ...others] = shapesOf(context, parts);
  for (const other of others)
    context.relax(
      other.path,
      other.keyword,
      `'${other.keyword}' is not permitted beside another pattern or format.`,
    );
  if (shape === undefined)
    return string(builder, length.min, Number.isFinite(length.max) ? length.max : undefined);
  const fitting = withLength(shape.expr, length);
  if (fitting === undefined)
    context.relax(
      length.path,
      length.keyword,
      `'${length.keyword}' is not permitted beside a ${shape.keyword} that allows other lengths.`,
    );
  return builder.rule(hint, quote(insideString(builder, fitting ?? shape.expr)));
}

function lengthOf(parts: readonly Part[]): Length {
  let length: Length = { min: 0, max: Infinity, path: [], keyword: "maxLength" };
  for (const { schema, path } of parts) {
    const min = countOf(schema, "minLength", path) ?? 0;
    const max = countOf(schema, "maxLength", path) ?? Infinity;
    if (min > length.min) length = { ...length, min, path, keyword: "minLength" };
    if (max < length.max) length = { ...length, max, path, keyword: "maxLength" };
  }
  return length;
}

function shapesOf(context: SchemaContext, parts: readonly Part[]): readonly Shape[] {
  const shapes = new Map<string, Shape>();
  for (const { schema, path } of parts) {
    const format = stringOf(schema, "format", path);
    const pattern = stringOf(schema, "pattern", path);
    if (format !== undefined && !DESCRIPTIVE_FORMATS.has(format)) {
      const regex = FORMATS.get(format);
      if (regex === undefined)
        context.relax(path, "format", `format '${format.slice(0, 60)}' is not supported.`);
      else shapes.set(`format ${format}`, { keyword: "format", path, expr: wholeRegex(regex) });
    }
    if (pattern === undefined || shapes.has(`pattern ${pattern}`)) continue;
    const expr = patternExpr(context, pattern, path);
    if (expr !== undefined) shapes.set(`pattern ${pattern}`, { keyword: "pattern", path, expr });
  }
  return [...shapes.values()];
}

function wholeRegex(regex: string): Expr {
  const builder = new GrammarBuilder();
  const grammar = builder.build(compileRegex(builder, regex));
  const [[, expr] = ["", grammar.root]] = grammar.rules;
  return expr;
}

/** Undefined for patterns that are not understood. */
function patternExpr(context: SchemaContext, pattern: string, path: readonly string[]): Expr | undefined {
  const { builder } = context;
  const around = builder.shared("text inside a string", () =>
    builder.rule("text", repeat(stringChar(builder), 0)),
  );
  try {
    return searchRegex(pattern, around);
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error;
    if (!isRegex(pattern)) throw new SchemaError(path, "pattern", error.message);
    context.relax(path, "pattern", error.message);
    return undefined;
  }
}

/** Tells a mistake from what is merely not supported. */
function isRegex(pattern: string): boolean {
  try {
    return new RegExp(pattern, "u").unicode;
  } catch {
    return false;
  }
}

/** The same texts of these lengths; undefined when that takes more than counting. */
function withLength(expr: Expr, { min, max }: Length): Expr | undefined {
  const [shortest, longest] = lengthsOf(expr);
  if (shortest >= min && longest <= max) return expr;
  if (expr.kind !== "repeat" || expr.item.kind !== "class") return undefined;
  const most = Math.min(longest, max);
  return Math.max(shortest, min) > most
    ? undefined
    : repeat(expr.item, Math.max(shortest, min), Number.isFinite(most) ? most : undefined);
}

/** In characters. */
function lengthsOf(expr: Expr): readonly [min: number, max: number] {
  switch (expr.kind) {
    case "literal": {
      const { length } = Array.from(expr.text);
      return [length, length];
    }
    case "class":
      return [1, 1];
    case "rule":
      return [0, Infinity];
    case "repeat": {
      const [min, max] = lengthsOf(expr.item);
      return [min * expr.min, max === 0 ? 0 : max * (expr.max ?? Infinity)];
    }
    case "sequence":
      return expr.items
        .map(lengthsOf)
        .reduce(([min, max], [itemMin, itemMax]) => [min + itemMin, max + itemMax], [0, 0]);
    case "choice":
      return expr.options
        .map(lengthsOf)
        .reduce(([min, max], [optionMin, optionMax]) => [Math.min(min, optionMin), Math.max(max, optionMax)]);
  }
}
