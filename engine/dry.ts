/**
 * DRY: what tokens lose for going on with a repetition. A function of the tokens so far alone, so that a request can
 * be continued elsewhere.
 */
import type { DryParams, TokenId } from "./protocol.ts";

/** No draw survives it, and it is too small to reach a token that a bias forces. */
const MOST_PENALTY = 1000;

const NONE: ReadonlyMap<TokenId, number> = new Map();

export class DryPenalties {
  readonly #params: DryParams;
  readonly #bytesOf: (token: TokenId) => Uint8Array;
  readonly #prompt: readonly TokenId[];
  readonly #breakers: readonly Buffer[];
  readonly #longestBreaker: number;
  /** Place of the token in which the last breaker of the prompt ends; -1 without one. */
  #promptBreak: number | undefined;
  /** What is known of the output: its tokens, and the place of the last breaker up to each of them. */
  readonly #output: TokenId[] = [];
  readonly #outputBreaks: number[] = [];

  /** @param bytesOf Text of a token. */
  constructor(params: DryParams, prompt: readonly TokenId[], bytesOf: (token: TokenId) => Uint8Array) {
    this.#params = params;
    this.#bytesOf = bytesOf;
    this.#prompt = prompt;
    this.#breakers = params.breakers.filter((text) => text !== "").map((text) => Buffer.from(text));
    this.#longestBreaker = Math.max(0, ...this.#breakers.map(({ length }) => length));
  }

  /** What is to be taken from the logits of the next token, of those tokens that lose something. */
  after(output: readonly TokenId[]): ReadonlyMap<TokenId, number> {
    this.#follow(output);
    const { multiplier, base, allowedLength, lastTokens } = this.#params;
    const length = this.#prompt.length + output.length;
    const window = lastTokens > 0 ? Math.min(lastTokens, length) : length;
    const sinceBreak = length - 1 - this.#lastBreak();
    if (window <= allowedLength || sinceBreak < allowedLength) return NONE;
    const last = Uint32Array.from({ length: window }, (_, i) => this.#at(length - 1 - i));
    const repeated = repeatLengths(last);
    const penalties = new Map<TokenId, number>();
    for (let back = 1; back < window; back++) {
      const repeats = Math.min(repeated[back] ?? 0, sinceBreak);
      const next = last[back - 1];
      if (repeats < allowedLength || next === undefined) continue;
      const penalty = Math.min(MOST_PENALTY, multiplier * base ** (repeats - allowedLength));
      if (penalty > (penalties.get(next) ?? 0)) penalties.set(next, penalty);
    }
    return penalties;
  }

  /** Takes in what is new, and forgets what has turned out otherwise. */
  #follow(output: readonly TokenId[]): void {
    this.#promptBreak ??= this.#findPromptBreak();
    let same = 0;
    while (same < output.length && output[same] === this.#output[same]) same++;
    this.#output.length = Math.min(this.#output.length, same);
    this.#outputBreaks.length = this.#output.length;
    for (const token of output.slice(this.#output.length)) {
      this.#output.push(token);
      const place = this.#prompt.length + this.#output.length - 1;
      this.#outputBreaks.push(this.#endsBreaker(place) ? place : this.#lastBreak());
    }
  }

  #lastBreak(): number {
    return this.#outputBreaks.at(-1) ?? this.#promptBreak ?? -1;
  }

  #findPromptBreak(): number {
    let place = this.#prompt.length - 1;
    while (place >= 0 && !this.#endsBreaker(place)) place--;
    return place;
  }

  /** Whether a breaker ends within this token, wherever it begins. */
  #endsBreaker(place: number): boolean {
    const pieces: Uint8Array[] = [this.#bytesOf(this.#at(place))];
    let before = 0;
    for (let at = place - 1; at >= 0 && before < this.#longestBreaker - 1; at--) {
      const bytes = this.#bytesOf(this.#at(at));
      pieces.unshift(bytes);
      before += bytes.length;
    }
    const text = Buffer.concat(pieces);
    return this.#breakers.some((breaker) => text.includes(breaker, Math.max(0, before - breaker.length + 1)));
  }

  #at(place: number): TokenId {
    return (
      (place < this.#prompt.length ? this.#prompt[place] : this.#output[place - this.#prompt.length]) ?? 0
    );
  }
}

/**
 * How many of the last tokens stand in the same order that many places earlier, by the distance in places.
 * Linear: what has been compared once is not compared again (the Z function).
 * @param last The latest first.
 */
function repeatLengths(last: Uint32Array): Uint32Array {
  const lengths = new Uint32Array(last.length);
  /** The known repetition that reaches farthest: from where, and up to where. */
  let [from, end] = [0, 0];
  for (let at = 1; at < last.length; at++) {
    let length = at < end ? Math.min(end - at, lengths[at - from] ?? 0) : 0;
    while (at + length < last.length && last[length] === last[at + length]) length++;
    lengths[at] = length;
    if (at + length > end) [from, end] = [at, at + length];
  }
  return lengths;
}
