/** Numbers between two bounds, written as decimals, and with an exponent where every such number is within the bounds. */
import { MAX_DIGITS, fractionDigits, largeExponent, smallExponent, tinyExponent } from "./json-text.ts";
import { charClass, empty, literal, oneOf, optional, repeat, sequence } from "./expressions.ts";
import { decimalOf, nextDown, nextUp } from "./decimal.ts";
import type { Expr } from "./expressions.ts";

/** Digits behind the point. */
const MAX_PLACES = 25;

export interface NumberRange {
  readonly min: number | undefined;
  readonly max: number | undefined;
  readonly exclusiveMin: boolean;
  readonly exclusiveMax: boolean;
}

const DIGIT = charClass([0x30, 0x39]);
const NON_ZERO = charClass([0x31, 0x39]);

/** Undefined when there is no such number. Zero is never negative. */
export function numberRange(range: NumberRange): Expr | undefined {
  // A decimal below an excluded bound may read as the bound: the double before it is the real limit.
  const min =
    range.min !== undefined && range.exclusiveMin && range.min !== 0 ? nextUp(range.min) : range.min;
  const max =
    range.max !== undefined && range.exclusiveMax && range.max !== 0 ? nextDown(range.max) : range.max;
  if (min !== undefined && max !== undefined && min > max) return undefined;
  const options: Expr[] = [];
  if (min === undefined || min < 0) {
    const negative = magnitudes(
      max !== undefined && max < 0 ? -max : 0,
      max === undefined || max >= 0 || range.exclusiveMax,
      min === undefined ? undefined : -min,
    );
    options.push(sequence(literal("-"), negative));
  }
  if (max === undefined || max > 0)
    options.push(magnitudes(Math.max(min ?? 0, 0), min === 0 && range.exclusiveMin, max));
  const zero = (min ?? 0) === 0 && max === 0 && !range.exclusiveMax && !(min === 0 && range.exclusiveMin);
  if (zero || (max === 0 && !range.exclusiveMax && (min ?? -1) < 0))
    options.push(sequence(literal("0"), zeros()));
  return options.length === 0 ? undefined : oneOf(...options);
}

function zeros(): Expr {
  return optional(sequence(literal("."), repeat(literal("0"), 1, MAX_PLACES)));
}

/** From `min` (0 itself only when not `positive`) to `max`, both of the same sign. */
function magnitudes(min: number, positive: boolean, max: number | undefined): Expr {
  const aboveZero = positive && min === 0;
  const options: Expr[] = [];
  const low = digitsOf(min);
  const high = max === undefined ? undefined : digitsOf(max);
  const longest = high?.whole.length ?? Math.max(MAX_DIGITS, low.whole.length + 1);
  for (let length = low.whole.length; length <= longest; length++) {
    const atLow = length === low.whole.length ? low : undefined;
    const atHigh = high !== undefined && length === longest ? high : undefined;
    if (atLow !== undefined || atHigh !== undefined) {
      options.push(...new Walk(atLow, atHigh, aboveZero).whole(length, 0));
      continue;
    }
    const last = high === undefined ? longest : longest - 1;
    options.push(sequence(NON_ZERO, repeat(DIGIT, length - 1, last - 1), optional(fractionDigits())));
    length = last;
  }
  const exponents: Expr[] = [];
  if (min === 0 && (max === undefined || max >= 1)) exponents.push(smallExponent());
  else if (min === 0 && max !== undefined && max >= 1e-6) exponents.push(tinyExponent());
  if (min <= 1 && max === undefined) exponents.push(largeExponent());
  if (exponents.length > 0)
    options.unshift(sequence(NON_ZERO, optional(fractionDigits()), charClass("eE"), oneOf(...exponents)));
  return oneOf(...options);
}

interface Digits {
  readonly whole: string;
  readonly fraction: string;
}

function digitsOf(value: number): Digits {
  const { units, places } = decimalOf(value);
  const digits = units.toString().padStart(places + 1, "0");
  return { whole: digits.slice(0, digits.length - places), fraction: digits.slice(digits.length - places) };
}

/** Follows the digits of the bounds as long as those written are equal to them. */
class Walk {
  readonly #low: Digits | undefined;
  readonly #high: Digits | undefined;
  readonly #aboveZero: boolean;

  constructor(low: Digits | undefined, high: Digits | undefined, aboveZero: boolean) {
    this.#low = low;
    this.#high = high;
    this.#aboveZero = aboveZero;
  }

  /** The digits before the point from `at` on; no option when there is no such number. */
  whole(
    length: number,
    at: number,
    low = this.#low !== undefined,
    high = this.#high !== undefined,
  ): readonly Expr[] {
    if (!low && !high) return [sequence(repeat(DIGIT, length - at, length - at), optional(fractionDigits()))];
    if (at === length) return this.#point(low, high);
    const first = low ? digitAt(this.#low?.whole, at) : at === 0 && length > 1 ? 1 : 0;
    const last = high ? digitAt(this.#high?.whole, at) : 9;
    return branches(first, last, [low, high], (nextLow, nextHigh) =>
      this.whole(length, at + 1, nextLow, nextHigh),
    );
  }

  #point(low: boolean, high: boolean): readonly Expr[] {
    const fraction = this.#fraction(0, low, high);
    const options = fraction.length === 0 ? [] : [sequence(literal("."), oneOf(...fraction))];
    return this.#mayEnd(0, low) ? [empty, ...options] : options;
  }

  /** At least one digit behind the point, from `at` on. */
  #fraction(at: number, low: boolean, high: boolean): readonly Expr[] {
    const limit = Math.max(MAX_PLACES, this.#low?.fraction.length ?? 0, this.#high?.fraction.length ?? 0);
    const left = limit - at;
    if (left <= 0) return [];
    const lowOver = low && at >= (this.#low?.fraction.length ?? 0);
    if (lowOver && this.#aboveZero && !high)
      return [sequence(repeat(literal("0"), 0, left - 1), NON_ZERO, repeat(DIGIT, 0, left))];
    const bound = low && !(lowOver && !this.#aboveZero);
    if (!bound && !high) return [repeat(DIGIT, 1, left)];
    if (!bound && at >= (this.#high?.fraction.length ?? 0)) return [repeat(literal("0"), 1, left)];
    const first = bound ? digitAt(this.#low?.fraction, at) : 0;
    const last = high ? digitAt(this.#high?.fraction, at) : 9;
    return branches(first, last, [bound, high], (nextLow, nextHigh) => {
      if (!nextLow && !nextHigh) return [repeat(DIGIT, 0, left - 1)];
      const more = this.#fraction(at + 1, nextLow, nextHigh);
      return this.#mayEnd(at + 1, nextLow) ? [empty, ...more] : more;
    });
  }

  /** Whether zeros from here on are enough. */
  #mayEnd(at: number, low: boolean): boolean {
    if (!low) return true;
    return !this.#aboveZero && /^0*$/.test(this.#low?.fraction.slice(at) ?? "");
  }
}

function digitAt(digits: string | undefined, at: number): number {
  return Number(digits?.[at] ?? 0);
}

/** Digits from `first` to `last`, of which only the outermost stay at the bounds that they are at. */
function branches(
  first: number,
  last: number,
  [low, high]: readonly [low: boolean, high: boolean],
  rest: (low: boolean, high: boolean) => readonly Expr[],
): readonly Expr[] {
  const groups = new Map<string, { digits: number[]; low: boolean; high: boolean }>();
  for (let digit = first; digit <= last; digit++) {
    const next = { low: low && digit === first, high: high && digit === last };
    const key = `${next.low} ${next.high}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { digits: [digit], ...next });
    else group.digits.push(digit);
  }
  return [...groups.values()].flatMap((group) => {
    const options = rest(group.low, group.high);
    return options.length === 0 ? [] : [sequence(oneOf(charClass(group.digits.join(""))), oneOf(...options))];
  });
}
