/**
 * Guesses how a request goes on by looking up where its last two tokens stood before (prompt lookup): text that
 * repeats itself, quotes its prompt or edits it comes several tokens a step. Wrong guesses cost time, never tokens.
 *
 * A place that has been right is followed for as long as it stays so, since the longer a text has been the same, the
 * likelier it is to go on: what a guess is worth is learned by how far its place has been right.
 */
import type { TokenId } from "../protocol.ts";

/** Chances of a guess whose place has been right for 0, 1, 2-3, 4-7, 8-15, 16 and more tokens before. */
type Chances = readonly number[];

/** What is trusted before a request has shown anything: rarely enough to try. */
const FIRST_CHANCES: Chances = [0.3, 0.45, 0.6, 0.75, 0.88, 0.95];
/** A text that the client itself predicts is tried at once. */
const PREDICTED_CHANCES: Chances = [0.8, 0.9, 0.93, 0.95, 0.97, 0.98];
/** Of the token behind one that was not as predicted: as often as not it alone was replaced. */
const BEHIND_MISS = FIRST_CHANCES.length;
const FIRST_BEHIND_MISS = 0.5;
/** The first chances count as so many guesses, and all that was seen as no more than so many. */
const FIRST_WEIGHT = 4;
const MOST_WEIGHT = 64;
/** Tokens behind a difference among which the text is looked for again. */
const NEAR = 16;
/** Tokens before a place that are compared with those at the end. */
const MOST_COMPARED = 16;
/** Tokens that the first table has room for, beyond those it begins with. */
const SPARE_TOKENS = 64;
/** A prompt can be made so that all of its pairs want the same place: then the latest of them have it. */
const MOST_PROBES = 64;
const NOWHERE = -1;

/** What guesses from one kind of text have been worth, by class. */
class HitRates {
  readonly #rates: number[];
  readonly #weights: number[];

  constructor(first: Chances) {
    this.#rates = [...first, FIRST_BEHIND_MISS];
    this.#weights = this.#rates.map(() => FIRST_WEIGHT);
  }

  of(kind: number): number {
    return this.#rates[kind] ?? 0;
  }

  learn(kind: number, hit: boolean): void {
    const weight = Math.min(MOST_WEIGHT, (this.#weights[kind] ?? 0) + 1);
    this.#weights[kind] = weight;
    this.#rates[kind] = this.of(kind) + ((hit ? 1 : 0) - this.of(kind)) / weight;
  }
}

export class DraftIndex {
  #tokens: Uint32Array;
  #length = 0;
  /**
   * Hash table of where the token after the latest occurrence of a pair stands; 0 is nowhere. Twice as many places
   * as tokens have room, a power of two. A `Map` would hold an object for every pair, and all of them are made anew
   * whenever a request gets a slot.
   */
  #after: Int32Array;
  /** The tokens before it are what the client predicts. */
  readonly #predictedEnd: number;
  readonly #ofPrediction = new HitRates(PREDICTED_CHANCES);
  readonly #ofText = new HitRates(FIRST_CHANCES);
  /** Where the next token is expected to stand. */
  #place = NOWHERE;
  /** For how many tokens before it the place has been right; negative behind a token that was not as expected. */
  #streak = 0;
  /** Where the prediction stopped being right. */
  #lost = NOWHERE;

  /**
   * @param predicted What the client expects as the output; may be empty.
   * @param prompt
   * @param output So far.
   */
  constructor(predicted: ArrayLike<TokenId>, prompt: ArrayLike<TokenId>, output: ArrayLike<TokenId> = []) {
    const total = predicted.length + prompt.length + output.length;
    const room = 2 ** Math.ceil(Math.log2(total + SPARE_TOKENS));
    this.#tokens = new Uint32Array(room);
    this.#after = new Int32Array(2 * room);
    this.#predictedEnd = predicted.length;
    for (const text of [predicted, prompt, output])
      for (let i = 0; i < text.length; i++) this.#append(text[i] ?? 0);
    if (predicted.length > 0 && output.length === 0) this.#place = 0;
    else this.#lookUp();
  }

  /** Whether there is anything to propose. */
  get guesses(): boolean {
    return this.#place !== NOWHERE;
  }

  /** Whether what it proposes is the client's prediction. */
  get followsPrediction(): boolean {
    return this.#place !== NOWHERE && this.#place < this.#predictedEnd;
  }

  /** Chance that the first token of a guess is right, as seen lately; 0 to 1. */
  get hitRate(): number {
    return this.expectedHits(1);
  }

  /** How many of so many proposed tokens are right on average: each counts only when all before it are. */
  expectedHits(guesses: number): number {
    if (this.#place === NOWHERE) return 0;
    const rates = this.#ratesAt(this.#place);
    const most = this.#mostGuesses(guesses);
    let chance = 1;
    let hits = 0;
    for (let i = 0; i < most; i++) hits += chance *= rates.of(kindOf(this.#streak, i));
    return hits;
  }

  /** Adds the next token of the output and learns from it what guesses are worth. */
  push(token: TokenId): void {
    const place = this.#place;
    const hit = place !== NOWHERE && this.#tokens[place] === token;
    if (place !== NOWHERE) this.#ratesAt(place).learn(kindOf(this.#streak, 0), hit);
    this.#append(token);
    if (hit && place + 1 !== this.#predictedEnd) {
      this.#place = place + 1;
      this.#streak = Math.max(this.#streak, 0) + 1;
      return;
    }
    const left = !hit && this.#streak >= 0 && place !== NOWHERE && place < this.#predictedEnd;
    if (left) this.#lost = place;
    if (this.#lookUpNear()) return;
    this.#lookUp();
    if (!left || this.#place !== NOWHERE || place + 1 === this.#predictedEnd) return;
    this.#place = place + 1;
    this.#streak = -1;
  }

  /** The tokens that may come next: at most `most`. */
  propose(most: number): TokenId[] {
    const start = this.#place;
    const guess: TokenId[] = [];
    if (start === NOWHERE) return guess;
    const count = this.#mostGuesses(most);
    // What runs over the end goes on with the guess itself: so a loop is unrolled.
    for (let i = 0; i < count; i++)
      guess.push((start + i < this.#length ? this.#tokens[start + i] : guess[start + i - this.#length]) ?? 0);
    return guess;
  }

  /** A prediction says nothing of what comes behind it. */
  #mostGuesses(most: number): number {
    return this.#place < this.#predictedEnd ? Math.min(most, this.#predictedEnd - this.#place) : most;
  }

  #ratesAt(place: number): HitRates {
    return place < this.#predictedEnd ? this.#ofPrediction : this.#ofText;
  }

  /** Goes on behind the latest occurrence of the last two tokens. */
  #lookUp(): void {
    const found = this.#length < 2 ? 0 : (this.#after[this.#placeOf(this.#length)] ?? 0);
    this.#place = found === 0 ? NOWHERE : found;
    this.#streak = found === 0 ? 0 : this.#sameBefore(found);
  }

  /** Goes on in the prediction, where the last two tokens follow soon behind the difference. */
  #lookUpNear(): boolean {
    const tokens = this.#tokens;
    const [first, second] = [tokens[this.#length - 2], tokens[this.#length - 1]];
    if (this.#lost === NOWHERE || this.#length < 2) return false;
    const end = Math.min(this.#lost + NEAR, this.#predictedEnd);
    for (let place = Math.max(2, this.#lost + 1); place < end; place++) {
      if (tokens[place - 2] !== first || tokens[place - 1] !== second) continue;
      this.#place = place;
      this.#streak = this.#sameBefore(place);
      this.#lost = NOWHERE;
      return true;
    }
    return false;
  }

  /** How many tokens more than two are the same before a place as at the end. */
  #sameBefore(place: number): number {
    const most = Math.min(MOST_COMPARED, place - 2);
    let same = 0;
    while (same < most && this.#tokens[place - 3 - same] === this.#tokens[this.#length - 3 - same]) same++;
    return same;
  }

  #append(token: TokenId): void {
    const index = this.#length;
    if (index === this.#tokens.length) this.#grow();
    this.#note(index);
    this.#tokens[index] = token;
    this.#length = index + 1;
  }

  /** Remembers where the pair before it stands; the prompt does not go on with a prediction. */
  #note(index: number): void {
    if (index < 2 || index === this.#predictedEnd || index === this.#predictedEnd + 1) return;
    this.#after[this.#placeOf(index)] = index;
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
    for (let index = 0; index < this.#length; index++) this.#note(index);
  }
}

/** Class of a guess that so many right ones come before, which follow a streak. */
function kindOf(streak: number, before: number): number {
  if (streak < 0 && before === 0) return BEHIND_MISS;
  return Math.min(FIRST_CHANCES.length - 1, 32 - Math.clz32(Math.max(streak, 0) + before));
}

/** Spreads pairs over the table, of which the lowest bits are used. */
function scrambled(first: number, second: number): number {
  const mixed = Math.imul(first, 0x9e3779b1) ^ Math.imul(second, 0x85ebca6b);
  return mixed ^ (mixed >>> 15);
}
