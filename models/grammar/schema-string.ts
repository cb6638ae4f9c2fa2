/** Strings: length, pattern, format. */
import { searchAlternatives, searched } from "./regex.ts";
import { countOf, stringOf } from "./schema-keywords.ts";
import { DESCRIPTIVE_FORMATS, FORMATS, IMPLIED_PATTERNS } from "./formats.ts";
import { GrammarError } from "./grammar-error.ts";
import { SchemaError } from "./schema-error.ts";
import { insideString, quote, string, stringChar } from "./json-text.ts";
import { anyString } from "./notation.ts";
import { literal, oneOf, repeat, sequence } from "./expressions.ts";
import { rawContent } from "./raw-string.ts";
import { conditionsOf, withLength } from "./string-conditions.ts";
import { regularRules } from "./regular.ts";
import type { Alternative } from "./regex.ts";
import type { Length, Shape } from "./string-conditions.ts";
import type { Expr } from "./expressions.ts";
import type { Part } from "./schema-parts.ts";
import type { SchemaContext } from "./json-schema.ts";

export function stringExpr(context: SchemaContext, parts: readonly Part[], hint: string): Expr {
  const { builder } = context;
  const length = lengthOf(parts);
  if (length.min > length.max)
    return context.contradiction(length.path, "minLength", "'minLength' is above 'maxLength'.");
  const shapes = shapesOf(context, parts);
  const [shape] = shapes;
  const { raw } = context.notation;
  if (raw !== undefined) {
    if (shape === undefined && length.min === 0 && length.max === Infinity) return anyString(context);
    const content = rawContent(context, raw, shapes, length);
    if (content === undefined) {
      const { path, keyword } = shape ?? length;
      return context.contradiction(
        path,
        keyword,
        "no string of this kind can be written in a call of this model.",
      );
    }
    return builder.rule(hint, sequence(literal(raw.quote), content, literal(raw.quote)));
  }
  if (shape === undefined)
    return string(builder, length.min, Number.isFinite(length.max) ? length.max : undefined);
  const simple = shapes.length === 1 ? simpleExpr(context, shape, length) : undefined;
  const content = simple ?? combined(context, shapes, length);
  if (content === undefined)
    return context.contradiction(shape.path, shape.keyword, "no string has this pattern, format and length.");
  return builder.rule(hint, quote(content));
}

/** One pattern or format, where the length adds nothing or can be counted; undefined in all other cases. */
function simpleExpr(context: SchemaContext, { alternatives }: Shape, length: Length): Expr | undefined {
  if (alternatives.some((one) => one.ahead.length > 0)) return undefined;
  const { builder } = context;
  const around = builder.shared("text inside a string", () =>
    builder.rule("text", repeat(stringChar(builder), 0)),
  );
  const fitting = withLength(oneOf(...alternatives.map((one) => searched(one, around))), length);
  return fitting === undefined ? undefined : insideString(builder, fitting);
}

/** All of them at once. */
function combined(
  context: SchemaContext,
  shapes: readonly Shape[],
  { min, max, ...length }: Length,
): Expr | undefined {
  const { builder } = context;
  const write = (characters: Expr): Expr => insideString(builder, oneOf(characters));
  const build = (some: readonly Shape[], bounds: { min: number; max: number }): Expr | undefined =>
    regularRules(
      builder,
      { conditions: some.flatMap(conditionsOf), budget: context.regularBudget, ...bounds },
      write,
    );
  try {
    return build(shapes, { min, max });
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error;
    const [first, second] = shapes;
    if (min > 0 || max < Infinity)
      context.relax(
        length.path,
        length.keyword,
        `'${length.keyword}' is not permitted beside this pattern or format.`,
      );
    if (second !== undefined)
      context.relax(
        second.path,
        second.keyword,
        `'${second.keyword}' is not permitted beside the other pattern or format.`,
      );
    return build(first === undefined ? [] : [first], { min: 0, max: Infinity });
  }
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
    const regex = format === undefined ? undefined : FORMATS.get(format);
    if (regex !== undefined)
      shapes.set(`format ${format}`, {
        keyword: "format",
        path,
        alternatives: searchAlternatives(`^(?:${regex})$`),
      });
    // Beside a pattern a format of another library's making is a name for it.
    else if (format !== undefined && pattern === undefined && !DESCRIPTIVE_FORMATS.has(format))
      context.relax(path, "format", `format '${format.slice(0, 60)}' is not supported.`);
    if (pattern === undefined || shapes.has(`pattern ${pattern}`)) continue;
    if (regex !== undefined && IMPLIED_PATTERNS.get(format ?? "")?.has(pattern) === true) continue;
    const alternatives = patternAlternatives(context, pattern, path);
    if (alternatives !== undefined)
      shapes.set(`pattern ${pattern}`, { keyword: "pattern", path, alternatives });
  }
  return [...shapes.values()];
}

/** Undefined for patterns that are not understood. */
function patternAlternatives(
  context: SchemaContext,
  pattern: string,
  path: readonly string[],
): readonly Alternative[] | undefined {
  try {
    return searchAlternatives(pattern);
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
