/**
 * Which tokens a grammar leaves where it leaves few, worked out once for each place in it.
 *
 * The runtime's own state says the same, but question by question, through native code, and for every output anew. Where a
 * grammar cannot be followed here, or an output not yet, nothing is known, and the runtime is asked.
 */
import { readGbnf } from "../grammar/gbnf-rules.ts";
import { GrammarMap, TooMuchWork } from "../grammar/grammar-map.ts";
import type { Place } from "../grammar/grammar-map.ts";
import type { TokenId } from "../protocol.ts";
import type { NextTokens } from "./next-tokens.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** For one answer, in looks at a stack: some milliseconds. A grammar that takes more, which is rare, is given up. */
const MOST_WORK = 100_000;
/** What is longer, of an output that is continued elsewhere, is followed at its next draws. */
const MOST_TOKENS_AT_ONCE = 256;

export interface KnownLimits {
  /** As `NextTokens.few` takes them. */
  readonly tokens: number;
  readonly questions: number;
  /** Of the grammar's rules; of one that has more nothing is known. */
  readonly positions: number;
}

/** How far an output has been followed. */
export class Walk {
  /** Undefined before the first token. */
  place: Place | undefined;
  tokens = 0;
  /** Whether it went where nothing is known. */
  lost = false;
}

/** Of one grammar. */
export class KnownChoices {
  readonly #limits: KnownLimits;
  readonly #nextTokens: NextTokens;
  readonly #endTokens: ReadonlySet<TokenId>;
  #positions: number;
  #map: GrammarMap | undefined;

  constructor(text: string, limits: KnownLimits, vocabulary: Vocabulary, nextTokens: NextTokens) {
    this.#limits = limits;
    this.#nextTokens = nextTokens;
    this.#endTokens = new Set(vocabulary.endTokens);
    const rules = readGbnf(text, limits.positions);
    this.#positions = rules?.size ?? 0;
    this.#map = rules && new GrammarMap(rules, vocabulary);
  }

  /** What it keeps of the grammar itself, in parts of about a hundred bytes. */
  get positions(): number {
    return this.#positions;
  }

  /** What it keeps of what has been found out, in the same parts. */
  get places(): number {
    return this.#map?.size ?? 0;
  }

  /** Both. */
  get size(): number {
    return this.positions + this.places;
  }

  /** Frees what has been found out; it can be found out again. */
  forget(): void {
    this.#map?.forget();
  }

  /** Frees everything: nothing is known from now on. */
  close(): void {
    // Walks outlive it.
    this.#map?.forget();
    this.#map = undefined;
    this.#positions = 0;
  }

  /**
   * The tokens that may follow the output, end tokens included, or that they are more than the limits.
   * @param walk Of the same output when it was shorter.
   * @returns Undefined where it is not known.
   */
  after(output: readonly TokenId[], walk: Walk): readonly TokenId[] | "many" | undefined {
    const map = this.#map;
    if (map === undefined || walk.lost) return undefined;
    map.allow(MOST_WORK);
    try {
      const place = this.#follow(map, output, walk);
      return place && (place.choices ??= this.#find(map, place));
    } catch (error) {
      if (!(error instanceof TooMuchWork)) throw error;
      this.close();
      // The same grammar, when it is read again, would be given up at the same place.
      walk.lost = true;
      return undefined;
    }
  }

  #follow(map: GrammarMap, output: readonly TokenId[], walk: Walk): Place | undefined {
    let place: Place | undefined = walk.place === undefined ? map.start() : map.current(walk.place);
    walk.place = place;
    const end = Math.min(output.length, walk.tokens + MOST_TOKENS_AT_ONCE);
    while (walk.tokens < end && map.work > MOST_WORK / 2) {
      const token = output[walk.tokens] ?? -1;
      // An end is no part of the grammar.
      if (!this.#endTokens.has(token)) place = map.behind(place, token);
      if (place === undefined) {
        walk.lost = true;
        return undefined;
      }
      // Together: the next step may throw.
      walk.place = place;
      walk.tokens += 1;
    }
    return walk.tokens === output.length ? place : undefined;
  }

  #find(map: GrammarMap, place: Place): readonly TokenId[] | "many" {
    const accepts = (token: TokenId): boolean =>
      this.#endTokens.has(token) ? place.mayEnd : map.takes(place, token);
    return this.#nextTokens.few(accepts, this.#limits.tokens, this.#limits.questions) ?? "many";
  }
}
