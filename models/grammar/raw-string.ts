/** Strings without quotes or escapes: what a schema says of them, and that the text which ends them does not occur. */
import { anyChar, charClassExcept, literal, oneOf, repeat, sequence } from "./expressions.ts";
import { GrammarError } from "./grammar-error.ts";
import { searched } from "./regex.ts";
import { regularRules } from "./regular.ts";
import { conditionsOf, withLength } from "./string-conditions.ts";
import { textWithout } from "./text-without.ts";
import type { Expr } from "./expressions.ts";
import type { Length, Shape } from "./string-conditions.ts";
import type { RawStrings } from "./notation.ts";
import type { SchemaContext } from "./json-schema.ts";

/** States of the automaton that counts characters and looks for the end. */
const MAX_COUNTED = 1500;

/** What stands between the quotes; undefined when there is no such text. */
export function rawContent(
  context: SchemaContext,
  { end }: RawStrings,
  shapes: readonly Shape[],
  length: Length,
): Expr | undefined {
  const { min, max } = length;
  const first = String.fromCodePoint(end.codePointAt(0) ?? 0);
  if (shapes.length === 0 && (max < Infinity ? max : min) * end.length > MAX_COUNTED)
    return repeat(charClassExcept(first), min, max < Infinity ? max : undefined);
  const simple = simpleContent(shapes, length);
  if (simple !== undefined && !mayContain(simple, first.codePointAt(0) ?? 0)) return simple;
  const anyText = repeat(anyChar, 0);
  const ended = { expr: sequence(anyText, literal(end), anyText), holds: false };
  try {
    const conditions = [...shapes.flatMap(conditionsOf), ended];
    const language = { conditions, min, max, budget: context.regularBudget };
    return regularRules(context.builder, language, (characters) => characters);
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error;
    for (const { path, keyword } of shapes)
      context.relax(
        path,
        keyword,
        `'${keyword}' is not permitted here: text without quotes that has it needs a too large grammar.`,
      );
    if (min > 0 || max < Infinity) context.relax(length.path, length.keyword);
    return textWithout(context.builder, end);
  }
}

/** One pattern or format that counting can bring to the right length. */
function simpleContent(shapes: readonly Shape[], length: Length): Expr | undefined {
  const [shape, second] = shapes;
  if (shape === undefined || second !== undefined) return undefined;
  if (shape.alternatives.some((one) => one.ahead.length > 0)) return undefined;
  return withLength(oneOf(...shape.alternatives.map((one) => searched(one))), length);
}

function mayContain(expr: Expr, code: number): boolean {
  switch (expr.kind) {
    case "literal":
      return expr.text.includes(String.fromCodePoint(code));
    case "class":
      return expr.ranges.some(([low, high]) => low <= code && code <= high);
    case "sequence":
      return expr.items.some((item) => mayContain(item, code));
    case "choice":
      return expr.options.some((option) => mayContain(option, code));
    case "repeat":
      return mayContain(expr.item, code);
    case "rule":
      return true;
  }
}
