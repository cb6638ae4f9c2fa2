/** Ends a text at the first stop string, and never lets a part of one out while it may still become whole. */

export interface StopMatcherOptions {
  /** Keeps the stop string at the end of the text. */
  readonly include: boolean;
}

interface Pattern {
  readonly stop: string;
  /** Knuth-Morris-Pratt: length of the longest proper border of `stop[0..i]`. */
  readonly borders: Uint32Array;
  /** How much of the stop string the text ends with. */
  matched: number;
}

/** A text of whole characters never contains half a surrogate pair, so a stop string with one cannot match. */
const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * The stop string that is complete first wins; of those complete at the same character, the longest. This needs
 * no look-ahead, so the result does not depend on how the text is cut.
 */
export class StopMatcher {
  readonly #patterns: Pattern[];
  readonly #include: boolean;
  /** Longest tail of the text that is a proper prefix of a stop string. */
  #held = "";
  #matched: string | undefined;

  /** @param stops Empty ones are ignored. */
  constructor(stops: readonly string[], options: StopMatcherOptions) {
    this.#patterns = [...new Set(stops)]
      .filter((stop) => stop !== "" && !LONE_SURROGATE.test(stop))
      .map((stop) => ({ stop, borders: bordersOf(stop), matched: 0 }));
    this.#include = options.include;
  }

  /** The stop string that ended the text. */
  get matched(): string | undefined {
    return this.#matched;
  }

  /** The text that is certain to be visible; after a match always "". */
  push(text: string): string {
    if (this.#matched !== undefined) return "";
    if (this.#patterns.length === 0) return text;
    for (let index = 0; index < text.length; index++) {
      const stop = this.#advance(text.charCodeAt(index));
      if (stop === undefined) continue;
      const whole = this.#held + text.slice(0, index + 1);
      this.#held = "";
      this.#matched = stop;
      return this.#include ? whole : whole.slice(0, whole.length - stop.length);
    }
    const whole = this.#held + text;
    const held = this.#patterns.reduce((longest, pattern) => Math.max(longest, pattern.matched), 0);
    this.#held = whole.slice(whole.length - held);
    return whole.slice(0, whole.length - held);
  }

  /** The text held back, when no more comes. */
  flush(): string {
    const rest = this.#held;
    this.#held = "";
    for (const pattern of this.#patterns) pattern.matched = 0;
    return rest;
  }

  /** Takes one UTF-16 unit and returns the longest stop string that it completes. */
  #advance(unit: number): string | undefined {
    let longest: string | undefined;
    for (const pattern of this.#patterns) {
      const { stop, borders } = pattern;
      let length = pattern.matched;
      while (length > 0 && stop.charCodeAt(length) !== unit) length = borders[length - 1] ?? 0;
      if (stop.charCodeAt(length) === unit) length++;
      pattern.matched = length;
      if (length === stop.length && length > (longest?.length ?? 0)) longest = stop;
    }
    return longest;
  }
}

function bordersOf(stop: string): Uint32Array {
  const borders = new Uint32Array(stop.length);
  let length = 0;
  for (let index = 1; index < stop.length; index++) {
    while (length > 0 && stop.charCodeAt(index) !== stop.charCodeAt(length))
      length = borders[length - 1] ?? 0;
    if (stop.charCodeAt(index) === stop.charCodeAt(length)) length++;
    borders[index] = length;
  }
  return borders;
}
