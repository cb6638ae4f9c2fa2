/**
 * Guesses how a request goes on by looking up where its last two tokens stood before (prompt lookup): text that
 * repeats itself, quotes its prompt or edits it comes several tokens a step. Wrong guesses cost time, never tokens.
 *
 * A place that has been right is followed for as long as it stays so, since the longer a text has been the same, the
 * likelier it is to go on: what a guess is worth is learned by how far its place has been right.
 *
 * What the client predicts is followed from its first token on, by its text: behind a word in other tokens, or another
 * word in its place, it goes on.
 */
import { PredictedText } from "./predicted-text.ts";
import type { TokenId } from "../protocol.ts";
import type { TokenTexts } from "../token-texts.ts";

/** Chances of a guess whose place has been right for 0, 1, 2-3, 4-7, 8-15, 16 and more tokens before. */
type Chances = readonly number[];

/** What is trusted before a request has shown anything: rarely enough to try. */
const FIRST_CHANCES: Chances = [0.3, 0.45, 0.6, 0.75, 0.88, 0.95];
/** A text that the client itself predicts is tried at once. */
const PREDICTED_CHANCES: Chances = [0.8, 0.9, 0.93, 0.95, 0.97, 0.98];
/** Classes of a first guess that its streak does not tell, and what is trusted before they have shown anything. */
const FIRST_OF = {
  /** Behind a token that was not as predicted: as often as not it alone was replaced. */
  behindMiss: { kind: FIRST_CHANCES.length, chance: 0.6 },
  /** Behind the predicted text, written in other tokens. */
  realigned: { kind: FIRST_CHANCES.length + 1, chance: 0.9 },
  /** The rest of a predicted token of which the output has the beginning. */
  rest: { kind: FIRST_CHANCES.length + 2, chance: 0.75 },
  /** Where the prediction was found again behind a difference. */
  found: { kind: FIRST_CHANCES.length + 3, chance: 0.6 },
} as const;
/** The first chances count as so many guesses, those of a prediction as more: whoever sends one knows. */
const FIRST_WEIGHT = 4;
const PREDICTED_WEIGHT = 16;
/** All that was seen counts as no more than so many. */
const MOST_WEIGHT = 64;
/** Predicted tokens behind a difference among which the text is looked for again, and what has to be the same there. */
const NEAR = 16;
const LEAST_SAME_BYTES = 5;
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

  constructor(first: Chances, weight: number) {
    this.#rates = [...first, ...Object.values(FIRST_OF).map(({ chance }) => chance)];
    this.#weights = this.#rates.map(() => weight);
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
  readonly #ofPrediction = new HitRates(PREDICTED_CHANCES, PREDICTED_WEIGHT);
  readonly #ofText = new HitRates(FIRST_CHANCES, FIRST_WEIGHT);
  /** Undefined where nothing is predicted. */
  readonly #prediction: PredictedText | undefined;
  /** Where the next token is expected to stand. */
  #place = NOWHERE;
  /** Tokens that are expected before it: the rest of a predicted one. */
  #rest: readonly TokenId[] = [];
  /** For how many tokens before it the place has been right. */
  #streak = 0;
  /** Class of the next guess where its streak does not tell. */
  #first: keyof typeof FIRST_OF | undefined;
  /** The byte of the prediction at which the output stands. */
  #at = NOWHERE;
  /** The predicted token at which the output left it. */
  #lost = NOWHERE;

  /**
   * @param predicted What the client expects as the output; may be empty.
   * @param prompt
   * @param output So far.
   * @param texts Of tokens; without them a text in other tokens is another one.
   */
  constructor(
    predicted: ArrayLike<TokenId>,
    prompt: ArrayLike<TokenId>,
    output: ArrayLike<TokenId> = [],
    texts?: TokenTexts,
  ) {
    const total = predicted.length + prompt.length + output.length;
    const room = 2 ** Math.ceil(Math.log2(total + SPARE_TOKENS));
    this.#tokens = new Uint32Array(room);
    this.#after = new Int32Array(2 * room);
    this.#predictedEnd = predicted.length;
    for (const text of [predicted, prompt]) for (let i = 0; i < text.length; i++) this.#append(text[i] ?? 0);
    if (predicted.length === 0) {
      for (let i = 0; i < output.length; i++) this.#append(output[i] ?? 0);
      this.#lookUp();
      return;
    }
    this.#prediction = new PredictedText(predicted, texts);
    this.#goTo(0);
    // Where the output stands in its prediction is known by how it came there.
    for (let i = 0; i < output.length; i++) this.push(output[i] ?? 0);
  }

  /** Whether there is anything to propose. */
  get guesses(): boolean {
    return this.#place !== NOWHERE;
  }

  /** Whether what it proposes is the client's prediction. */
  get followsPrediction(): boolean {
    return this.#place !== NOWHERE && this.#at !== NOWHERE;
  }

  /** Chance that the first token of a guess is right, as seen lately; 0 to 1. */
  get hitRate(): number {
    return this.expectedHits(1);
  }

  /** How many of so many proposed tokens are right on average: each counts only when all before it are. */
  expectedHits(guesses: number): number {
    if (this.#place === NOWHERE) return 0;
    const rates = this.#rates();
    const most = this.#mostGuesses(guesses);
    let chance = 1;
    let hits = 0;
    for (let i = 0; i < most; i++) hits += chance *= rates.of(this.#kindOf(i));
    return hits;
  }

  /** Adds the next token of the output and learns from it what guesses are worth. */
  push(token: TokenId): void {
    const place = this.#place;
    const hit = place !== NOWHERE && (this.#rest[0] ?? this.#tokens[place]) === token;
    if (place !== NOWHERE) this.#rates().learn(this.#kindOf(0), hit);
    this.#append(token);
    this.#prediction?.wrote(token);
    if (hit) this.#advance();
    else if (this.#at !== NOWHERE && this.#realign(token)) return;
    const found = hit && this.#place !== NOWHERE;
    if (found && (this.#lost === NOWHERE || this.#at !== NOWHERE)) return;
    const behind = hit ? NOWHERE : this.#leave();
    // Behind a difference what is found in the prediction comes before what the text has elsewhere.
    if (this.#lookUpNear() || found) return;
    if (behind === NOWHERE || behind >= this.#predictedEnd) return this.#lookUp();
    this.#goTo(behind);
    this.#first = "behindMiss";
  }

  /** The tokens that may come next: at most `most`. */
  propose(most: number): TokenId[] {
    const start = this.#place;
    const guess: TokenId[] = [];
    if (start === NOWHERE) return guess;
    const count = this.#mostGuesses(most);
    guess.push(...this.#rest.slice(0, count));
    const begin = start - guess.length;
    // What runs over the end goes on with the guess itself: so a loop is unrolled.
    for (let i = guess.length; i < count; i++)
      guess.push((begin + i < this.#length ? this.#tokens[begin + i] : guess[begin + i - this.#length]) ?? 0);
    return guess;
  }

  /** A prediction says nothing of what comes behind it. */
  #mostGuesses(most: number): number {
    if (this.#at === NOWHERE) return most;
    return Math.min(most, this.#predictedEnd - this.#place + this.#rest.length);
  }

  #rates(): HitRates {
    return this.#at === NOWHERE ? this.#ofText : this.#ofPrediction;
  }

  /** Class of a guess behind so many others. */
  #kindOf(before: number): number {
    if (before === 0 && this.#first !== undefined) return FIRST_OF[this.#first].kind;
    return Math.min(FIRST_CHANCES.length - 1, 32 - Math.clz32(this.#streak + before));
  }

  #goTo(place: number): void {
    this.#place = place;
    this.#rest = [];
    this.#first = undefined;
    const predicted = place !== NOWHERE && place < this.#predictedEnd;
    this.#at = predicted ? (this.#prediction?.startOf(place) ?? NOWHERE) : NOWHERE;
  }

  /** The guess was right. */
  #advance(): void {
    this.#streak++;
    this.#first = undefined;
    if (this.#rest.length > 1) {
      this.#at = this.#prediction?.behind(this.#at, this.#rest[0] ?? 0) ?? NOWHERE;
      this.#rest = this.#rest.slice(1);
      return;
    }
    const following = this.#at !== NOWHERE;
    const next = this.#rest.length === 0 ? this.#place + 1 : this.#place;
    this.#goTo(next);
    if (following && next === this.#predictedEnd) this.#end();
    else if (following) this.#lost = NOWHERE;
  }

  /** All that was predicted has been said. */
  #end(): void {
    this.#goTo(NOWHERE);
    this.#lost = NOWHERE;
  }

  /** Whether a token that was not as predicted is the predicted text all the same, so that what follows is known. */
  #realign(token: TokenId): boolean {
    const at = this.#prediction?.behind(this.#at, token);
    if (this.#prediction === undefined || at === undefined) return false;
    const place = this.#prediction.placeAt(at);
    if (this.#prediction.startOf(place) === at) {
      if (place === this.#predictedEnd) {
        this.#end();
        return false;
      }
      this.#goTo(place);
      this.#first = "realigned";
      return true;
    }
    const rest = this.#prediction.restFrom(at);
    this.#at = at;
    this.#rest = rest.tokens;
    this.#first = "rest";
    this.#place = rest.tokens.length === 0 ? NOWHERE : rest.place;
    return true;
  }

  /**
   * The output is not as predicted.
   * @returns The predicted token behind the one in its place, where it has just parted from the prediction.
   */
  #leave(): number {
    const [at, first] = [this.#at, this.#first];
    this.#at = NOWHERE;
    this.#rest = [];
    this.#first = undefined;
    this.#streak = 0;
    if (at === NOWHERE || first === "behindMiss" || this.#prediction === undefined) return NOWHERE;
    const place = this.#prediction.placeAt(at);
    this.#lost = this.#prediction.startOf(place) === at ? place : place - 1;
    return this.#lost + 1;
  }

  /** Goes on behind the latest occurrence of the last two tokens. */
  #lookUp(): void {
    const found = this.#length < 2 ? 0 : (this.#after[this.#placeOf(this.#length)] ?? 0);
    this.#goTo(found === 0 ? NOWHERE : found);
    this.#streak = found === 0 ? 0 : this.#sameBefore(found);
  }

  /** Goes on in the prediction, where soon behind the difference it is the same again. */
  #lookUpNear(): boolean {
    if (this.#lost === NOWHERE || this.#prediction === undefined) return false;
    const end = Math.min(this.#lost + NEAR, this.#predictedEnd);
    for (let place = this.#lost + 1; place < end; place++) {
      if (this.#prediction.sameBefore(place) < LEAST_SAME_BYTES) continue;
      this.#goTo(place);
      this.#first = "found";
      this.#streak = Math.max(0, this.#sameBefore(place));
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

/** Spreads pairs over the table, of which the lowest bits are used. */
function scrambled(first: number, second: number): number {
  const mixed = Math.imul(first, 0x9e3779b1) ^ Math.imul(second, 0x85ebca6b);
  return mixed ^ (mixed >>> 15);
}
