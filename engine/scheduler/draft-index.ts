/**
 * Guesses how a request goes on by looking up where its last two tokens stood before (prompt lookup): text that
 * repeats itself, quotes its prompt or edits it comes several tokens a step. Wrong guesses cost time, never tokens.
 */
import type { TokenId } from "../protocol.ts";

/** Above any vocabulary, so that a pair of tokens has a number of its own. */
const PAIR_BASE = 2 ** 22;
/** Weight of the newest token in the hit rate: a text that begins to repeat itself is trusted after a few tokens. */
const NEWEST = 0.25;
/** What is trusted before a request has shown anything: rarely enough to try. */
const FIRST_RATE = 0.3;
/** A text that the client itself predicts is tried at once. */
const PREDICTED_RATE = 0.8;

export class DraftIndex {
  readonly #tokens: TokenId[] = [];
  /** Where the token after the latest occurrence of a pair stands. */
  readonly #after = new Map<number, number>();
  #hitRate: number;

  /**
   * @param predicted What the client expects as the output; may be empty.
   * @param known Prompt and output so far.
   */
  constructor(predicted: Iterable<TokenId>, known: Iterable<TokenId>) {
    for (const token of predicted) this.#append(token);
    this.#hitRate = this.#tokens.length > 0 ? PREDICTED_RATE : FIRST_RATE;
    for (const token of known) this.#append(token);
  }

  /** Chance that the first token of a guess is right, as seen lately; 0 to 1. */
  get hitRate(): number {
    return this.#hitRate;
  }

  /** Adds the next token of the output and learns from it what guesses are worth. */
  push(token: TokenId): void {
    const [guess] = this.propose(1);
    if (guess !== undefined) this.#hitRate += NEWEST * ((guess === token ? 1 : 0) - this.#hitRate);
    this.#append(token);
  }

  /** The tokens that may come next: `most` of them, or none. */
  propose(most: number): TokenId[] {
    const { length } = this.#tokens;
    const start = length < 2 ? undefined : this.#after.get(this.#pairBefore(length));
    const guess: TokenId[] = [];
    if (start === undefined) return guess;
    // What runs over the end goes on with the guess itself: so a loop is unrolled.
    for (let i = 0; i < most; i++)
      guess.push((start + i < length ? this.#tokens[start + i] : guess[start + i - length]) ?? 0);
    return guess;
  }

  #append(token: TokenId): void {
    const index = this.#tokens.length;
    if (index >= 2) this.#after.set(this.#pairBefore(index), index);
    this.#tokens.push(token);
  }

  #pairBefore(index: number): number {
    return (this.#tokens[index - 2] ?? 0) * PAIR_BASE + (this.#tokens[index - 1] ?? 0);
  }
}
