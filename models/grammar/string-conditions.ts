/** What a schema says of a string: its length, and patterns and formats, as expressions. */
import { GrammarError } from "./grammar-error.ts";
import { oneOf, repeat } from "./expressions.ts";
import { searched } from "./regex.ts";
import type { Alternative } from "./regex.ts";
import type { Condition } from "./regular.ts";
import type { Expr } from "./expressions.ts";

export interface Length {
  readonly min: number;
  readonly max: number;
  /** Where the bound comes from. */
  readonly path: readonly string[];
  readonly keyword: string;
}

export interface Shape {
  readonly keyword: "pattern" | "format";
  readonly path: readonly string[];
  readonly alternatives: readonly Alternative[];
}

/** @throws GrammarError */
export function conditionsOf({ alternatives }: Shape): readonly Condition[] {
  const expr = oneOf(...alternatives.map((one) => searched(one)));
  const ahead = alternatives.flatMap((one) => one.ahead);
  if (ahead.length > 0 && alternatives.length > 1) throw new GrammarError("Lookahead beside alternatives.");
  return [{ expr, holds: true }, ...ahead];
}

/** The same texts of these lengths; undefined when that takes more than counting. */
export function withLength(expr: Expr, { min, max }: Length): Expr | undefined {
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
