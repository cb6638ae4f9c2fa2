/** Bounds and steps of numbers. */
import { ceilUnits, decimalOf, floorUnits, gcd, nextDown, nextUp } from "./decimal.ts";
import { SchemaError } from "./schema-error.ts";
import { MAX_DIGITS } from "./json-text.ts";
import { MAX_REMAINDERS, integerRange, remaindersOf } from "./integer-range.ts";
import { numberOf } from "./schema-keywords.ts";
import { numberRange } from "./number-range.ts";
import { oneOf } from "./expressions.ts";
import type { Decimal } from "./decimal.ts";
import type { Expr } from "./expressions.ts";
import type { NumberRange } from "./number-range.ts";
import type { Part } from "./schema-parts.ts";
import type { SchemaContext } from "./json-schema.ts";

/** Digits behind the point that a step may have. */
const MAX_PLACES = 10;
/** Digits of a number of which every one still counts when it is read as a double. */
const EXACT_DIGITS = 15;
/** Digits of a number that is to be a multiple of a fraction: with more, dividing them as doubles shows a remainder. */
const DIVISIBLE_DIGITS = 9;

/** Undefined when there are no bounds and no steps. */
export function numberExpr(
  context: SchemaContext,
  parts: readonly Part[],
  type: "integer" | "number",
): Expr | undefined {
  const range = rangeOf(parts);
  const steps = stepsOf(context, parts);
  const bounded = range.min !== undefined || range.max !== undefined;
  if (!bounded && steps.length === 0) return undefined;
  const whole: Decimal[] = type === "integer" ? [{ units: 1n, places: 0 }] : [];
  const [first, ...others] = [...whole, ...steps];
  const expr =
    first === undefined
      ? numberRange(range)
      : stepped(context, others.reduce(leastCommonMultiple, first), range);
  const path = parts[0]?.path ?? [];
  if (expr === undefined) return context.contradiction(path, "minimum", "no number is within these bounds.");
  return context.builder.rule(type, expr);
}

function rangeOf(parts: readonly Part[]): NumberRange {
  let min: number | undefined;
  let max: number | undefined;
  let [exclusiveMin, exclusiveMax] = [false, false];
  for (const { schema, path } of parts) {
    for (const [keyword, exclusive] of [
      ["minimum", false],
      ["exclusiveMinimum", true],
    ] as const) {
      const value = numberOf(schema, keyword, path);
      if (value === undefined || (min !== undefined && value < min)) continue;
      exclusiveMin = min === value ? exclusiveMin || exclusive : exclusive;
      min = value;
    }
    for (const [keyword, exclusive] of [
      ["maximum", false],
      ["exclusiveMaximum", true],
    ] as const) {
      const value = numberOf(schema, keyword, path);
      if (value === undefined || (max !== undefined && value > max)) continue;
      exclusiveMax = max === value ? exclusiveMax || exclusive : exclusive;
      max = value;
    }
  }
  return { min, max, exclusiveMin, exclusiveMax };
}

function stepsOf(context: SchemaContext, parts: readonly Part[]): readonly Decimal[] {
  return parts.flatMap(({ schema, path }) => {
    const value = numberOf(schema, "multipleOf", path);
    if (value === undefined) return [];
    if (value <= 0) throw new SchemaError(path, "multipleOf", "'multipleOf' is not above 0.");
    const step = decimalOf(value);
    if (step.places <= MAX_PLACES && remaindersOf(step.units) <= MAX_REMAINDERS) return [step];
    context.relax(
      path,
      "multipleOf",
      `'multipleOf' of ${value} is not permitted: a grammar for it is too large.`,
    );
    return [];
  });
}

function leastCommonMultiple(left: Decimal, right: Decimal): Decimal {
  const places = Math.max(left.places, right.places);
  const [a, b] = [floorUnits(left, places), floorUnits(right, places)];
  const units = (a / gcd(a, b)) * b;
  // Fewest places, as everywhere.
  let reduced: Decimal = { units, places };
  while (reduced.places > 0 && reduced.units % 10n === 0n)
    reduced = { units: reduced.units / 10n, places: reduced.places - 1 };
  return reduced;
}

/** With as many digits behind the point as the step has, or fewer. */
function stepped(context: SchemaContext, step: Decimal, range: NumberRange): Expr | undefined {
  const options: Expr[] = [];
  if (remaindersOf(step.units) > MAX_REMAINDERS)
    throw new SchemaError(
      [],
      "multipleOf",
      "the values of 'multipleOf' taken together need a too large grammar.",
    );
  for (let places = 0; places <= step.places; places++) {
    const units = step.units / gcd(step.units, 10n ** BigInt(step.places - places));
    // Steps have to survive being read as a double.
    const whole = step.units === 1n && step.places === 0;
    const digits = whole ? MAX_DIGITS : step.places > 0 ? DIVISIBLE_DIGITS : EXACT_DIGITS;
    const { min, max } = unitBounds(range, places, digits, whole);
    const expr = integerRange(context.builder, { min, max, step: units, places });
    if (expr !== undefined) options.push(expr);
  }
  return options.length === 0 ? undefined : oneOf(...options);
}

function unitBounds(
  range: NumberRange,
  places: number,
  digits: number,
  wide: boolean,
): { min: bigint; max: bigint } {
  const exact = 10n ** BigInt(EXACT_DIGITS);
  let limit = 10n ** BigInt(digits) - 1n;
  let [min, max] = [-limit, limit];
  if (range.min !== undefined) min = lowest(range.min, range.exclusiveMin, places, exact);
  if (range.max !== undefined) max = -lowest(-range.max, range.exclusiveMax, places, exact);
  // A bound beyond the usual digits still leaves room on its other side.
  if (wide && range.max === undefined && min > limit) limit = max = min * 10n;
  if (wide && range.min === undefined && max < -limit) limit = -(min = max * 10n);
  if (wide) return { min, max };
  return { min: min < -limit ? -limit : min, max: max > limit ? limit : max };
}

/** The lowest number of units that is at least, or above, `bound`. */
function lowest(bound: number, exclusive: boolean, places: number, exact: bigint): bigint {
  const at = ceilUnits(decimalOf(bound), places);
  if (!exclusive) return at;
  // Beyond what a double tells apart, the next whole number may read as the bound itself.
  if (at >= exact || at <= -exact)
    return ceilUnits(decimalOf(bound < 0 ? -nextDown(-bound) : nextUp(bound)), places);
  return floorUnits(decimalOf(bound), places) + 1n;
}
