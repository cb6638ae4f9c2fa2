/** Whole numbers, or decimals with a given number of places, between two bounds and in steps: digit by digit. */
import { charClass, empty, literal, oneOf, repeat, sequence } from "./expressions.ts";
import { gcd } from "./decimal.ts";
import type { Expr } from "./expressions.ts";
import type { GrammarBuilder } from "./grammar.ts";

/** States that the remainder of a step may need at a digit, apart from what its last digits say. */
export const MAX_REMAINDERS = 16n;

export interface IntegerRange {
  /** Both included, both in units of the last place. */
  readonly min: bigint;
  readonly max: bigint;
  /** Only multiples of this; 1 for all. See `remaindersOf`. */
  readonly step: bigint;
  /** Digits behind the point. */
  readonly places: number;
}

const DIGIT = charClass([0x30, 0x39]);
const NON_ZERO = charClass([0x31, 0x39]);

/** How many remainders of `step` have to be told apart far from the last digit. */
export function remaindersOf(step: bigint): bigint {
  return step / gcd(step, 10n ** 400n);
}

/** Undefined when there is no such number. Zero is never negative. */
export function integerRange(builder: GrammarBuilder, range: IntegerRange): Expr | undefined {
  const { min, max } = range;
  const options: Expr[] = [];
  if (min < 0n && min <= max) {
    const negative = magnitudes(builder, { ...range, min: max < 0n ? -max : 1n, max: -min });
    if (negative !== undefined) options.push(sequence(literal("-"), negative));
  }
  if (max >= 0n && min <= max) {
    const positive = magnitudes(builder, { ...range, min: min > 0n ? min : 0n });
    if (positive !== undefined) options.push(positive);
  }
  return options.length === 0 ? undefined : oneOf(...options);
}

function magnitudes(builder: GrammarBuilder, range: IntegerRange): Expr | undefined {
  const { min, max, step, places } = range;
  const shortest = Math.max(places + 1, min.toString().length);
  const longest = Math.max(places + 1, max.toString().length);
  const options: Expr[] = [];
  const digits = new DigitRules(builder, step, places);
  for (let length = shortest; length <= longest; length++) {
    const [least, most] = ofLength(length, places);
    if (step === 1n && length > places + 1 && min <= least && max >= most) {
      let last = length;
      while (last < longest && max >= ofLength(last + 1, places)[1]) last++;
      const tail = places === 0 ? empty : sequence(literal("."), repeat(DIGIT, places, places));
      options.push(sequence(NON_ZERO, repeat(DIGIT, length - places - 1, last - places - 1), tail));
      length = last;
      continue;
    }
    if (min <= least && max >= most) {
      const option = digits.ofLength(length);
      if (option !== undefined) options.push(option);
      continue;
    }
    const low = (min > least ? min : least).toString().padStart(length, "0");
    const high = (max < most ? max : most).toString().padStart(length, "0");
    const option = low <= high ? digits.between(low, high) : undefined;
    if (option !== undefined) options.push(option);
  }
  return options.length === 0 ? undefined : oneOf(...options);
}

/** The numbers that are written with so many digits: none starts with 0 unless the point is behind it. */
function ofLength(length: number, places: number): readonly [least: bigint, most: bigint] {
  return [length === places + 1 ? 0n : 10n ** BigInt(length - 1), 10n ** BigInt(length) - 1n];
}

/** Digits that are to come. */
interface Digits {
  /** Bounds of the same length. */
  readonly low?: string | undefined;
  readonly high?: string | undefined;
  /** Of the digits before them. */
  readonly remainder: bigint;
  readonly length: number;
  /** The lowest that the first may be. */
  readonly first?: number;
}

class DigitRules {
  readonly #builder: GrammarBuilder;
  readonly #step: bigint;
  readonly #places: number;
  /** Rules for digits without bounds, by how many there are and the remainder so far. */
  readonly #free = new Map<string, Expr | undefined>();

  constructor(builder: GrammarBuilder, step: bigint, places: number) {
    this.#builder = builder;
    this.#step = step;
    this.#places = places;
  }

  /** All numbers that are written with so many digits. */
  ofLength(length: number): Expr | undefined {
    return this.#digit({ remainder: 0n, length, first: length === this.#places + 1 ? 0 : 1 });
  }

  /** Texts of the same length between two texts. */
  between(
    low: string | undefined,
    high: string | undefined,
    remainder = 0n,
    length = low?.length ?? 0,
  ): Expr | undefined {
    if (length === 0) return remainder % this.#step === 0n ? empty : undefined;
    if (low === undefined && high === undefined) return this.#unbounded(length, remainder);
    return this.#digit({ low, high, remainder, length });
  }

  #digit({ low, high, remainder, length, first = Number(low?.[0] ?? 0) }: Digits): Expr | undefined {
    const last = Number(high?.[0] ?? 9);
    const point = this.#places > 0 && length - 1 === this.#places ? literal(".") : empty;
    const groups = new Map<string, { digits: number[]; rest: Expr | undefined }>();
    for (let digit = first; digit <= last; digit++) {
      const restLow = digit === first ? unlessAll(low?.slice(1), "0") : undefined;
      const restHigh = digit === last ? unlessAll(high?.slice(1), "9") : undefined;
      const next = this.#reduced(remainder * 10n + BigInt(digit), length - 1);
      const key = `${restLow ?? ""} ${restHigh ?? ""} ${next}`;
      const group = groups.get(key);
      if (group !== undefined) group.digits.push(digit);
      else groups.set(key, { digits: [digit], rest: this.between(restLow, restHigh, next, length - 1) });
    }
    const options = [...groups.values()].flatMap(({ digits, rest }) =>
      rest === undefined ? [] : [sequence(oneOf(charClass(digits.join(""))), point, rest)],
    );
    return options.length === 0 ? undefined : oneOf(...options);
  }

  #unbounded(length: number, remainder: bigint): Expr | undefined {
    if (this.#step === 1n) {
      if (this.#places === 0 || length <= this.#places) return repeat(DIGIT, length, length);
      const before = length - this.#places;
      return sequence(repeat(DIGIT, before, before), literal("."), repeat(DIGIT, this.#places, this.#places));
    }
    const key = `${length} ${remainder}`;
    if (this.#free.has(key)) return this.#free.get(key);
    const expr = this.#digit({ remainder, length });
    const rule = expr === undefined || expr.kind === "class" ? expr : this.#builder.rule("digits", expr);
    this.#free.set(key, rule);
    return rule;
  }

  /** With `length` digits to come, remainders that those digits make equal are the same state. */
  #reduced(remainder: bigint, length: number): bigint {
    return remainder % (this.#step / gcd(this.#step, 10n ** BigInt(length)));
  }
}

/** Bounds that the digits themselves keep are none. */
function unlessAll(digits: string | undefined, digit: string): string | undefined {
  return digits?.replaceAll(digit, "") === "" ? undefined : digits;
}
