/**
 * Guesses how a request goes on by looking up where its last two tokens stood before (prompt lookup): text that
 * repeats itself, quotes its prompt or edits it comes several tokens a step. Wrong guesses cost time, never tokens.
 */
import type { TokenId } from "../protocol.ts";

/** Weight of the newest token in the hit rate: a text that begins to repeat itself is trusted after a few tokens. */
const NEWEST = 0.25;
/** What is trusted before a request has shown anything: rarely enough to try. */
const FIRST_RATE = 0.3;
/** A text that the client itself predicts is tried at once. */
const PREDICTED_RATE = 0.8;
/** Tokens that the first table has room for, beyond those it begins with. */
const SPARE_TOKENS = 64;
/** A prompt can be made so that all of its pairs want the same place: then the latest of them have it. */
const MOST_PROBES = 64;

export class DraftIndex {
  #tokens: Uint32Array;
  #length = 0;
  /**
   * Hash table of where the token after the latest occurrence of a pair stands; 0 is nowhere. Twice as many places
   * as tokens have room, a power of two. A `Map` would hold an object for every pair, and all of them are made anew
   * whenever a request gets a slot.
   */
  #after: Int32Array;
  #hitRate: number;

  /**
   * @param predicted What the client expects as the output; may be empty.
   * @param known Prompt and output so far, in parts.
   */
  constructor(predicted: ArrayLike<TokenId>, ...known: readonly ArrayLike<TokenId>[]) {
    const total = known.reduce((sum, { length }) => sum + length, predicted.length);
    const room = 2 ** Math.ceil(Math.log2(total + SPARE_TOKENS));
    this.#tokens = new Uint32Array(room);
    this.#after = new Int32Array(2 * room);
    this.#hitRate = predicted.length > 0 ? PREDICTED_RATE : FIRST_RATE;
    for (const text of [predicted, ...known])
      for (let i = 0; i < text.length; i++) this.#append(text[i] ?? 0);
  }

  /** Chance that the first token of a guess is right, as seen lately; 0 to 1. */
  get hitRate(): number {
    return this.#hitRate;
  }

  /** Whether there is anything to propose. */
  get guesses(): boolean {
    return this.#start() !== 0;
  }

  /** Adds the next token of the output and learns from it what guesses are worth. */
  push(token: TokenId): void {
    const start = this.#start();
    if (start !== 0) this.#hitRate += NEWEST * ((this.#tokens[start] === token ? 1 : 0) - this.#hitRate);
    this.#append(token);
  }

  /** The tokens that may come next: `most` of them, or none. */
  propose(most: number): TokenId[] {
    const start = this.#start();
    const guess: TokenId[] = [];
    if (start === 0) return guess;
    // What runs over the end goes on with the guess itself: so a loop is unrolled.
    for (let i = 0; i < most; i++)
      guess.push((start + i < this.#length ? this.#tokens[start + i] : guess[start + i - this.#length]) ?? 0);
    return guess;
  }

  /** Where what follows the last two tokens stands; 0 for nowhere. */
  #start(): number {
    return this.#length < 2 ? 0 : (this.#after[this.#placeOf(this.#length)] ?? 0);
  }

  #append(token: TokenId): void {
    const index = this.#length;
    if (index === this.#tokens.length) this.#grow();
    if (index >= 2) this.#after[this.#placeOf(index)] = index;
    this.#tokens[index] = token;
    this.#length = index + 1;
  }

  /** The place in the table of the pair before `index`, whether it is taken or free. */
  #placeOf(index: number): number {
    const tokens = this.#tokens;
    const after = this.#after;
    const [first, second] = [tokens[index - 2] ?? 0, tokens[index - 1] ?? 0];
    const mask = after.length - 1;
    let place = scrambled(first, second) & mask;
    for (let probes = 0; probes < MOST_PROBES; probes++) {
      const found = after[place] ?? 0;
      if (found === 0 || (tokens[found - 2] === first && tokens[found - 1] === second)) return place;
      place = (place + 1) & mask;
    }
    return place;
  }

  #grow(): void {
    const known = this.#tokens;
    this.#tokens = new Uint32Array(2 * known.length);
    this.#tokens.set(known);
    this.#after = new Int32Array(4 * known.length);
    for (let index = 2; index < this.#length; index++) this.#after[this.#placeOf(index)] = index;
  }
}

/** Spreads pairs over the table, of which the lowest bits are used. */
function scrambled(first: number, second: number): number {
  const mixed = Math.imul(first, 0x9e3779b1) ^ Math.imul(second, 0x85ebca6b);
  return mixed ^ (mixed >>> 15);
}
