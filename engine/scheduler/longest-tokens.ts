/**
 * The longest token that a text goes on with, found by a hash of its text: a vocabulary is too large to be looked through
 * for every token of an output.
 */
import type { TokenId } from "../protocol.ts";
import type { TokenTexts } from "../token-texts.ts";

/** FNV-1a. */
const HASH_START = 0x811c9dc5;
const HASH_FACTOR = 0x01000193;

export class LongestTokens {
  readonly #texts: TokenTexts;
  /** Tokens counted from 1; 0 is a free place. Of those of the same text the last one: the others only spell out bytes. */
  readonly #table: Int32Array;
  /** Bytes of the longest token. */
  readonly #most: number = 0;

  constructor(texts: TokenTexts) {
    this.#texts = texts;
    const { tokenOffsets, tokenBytes } = texts;
    const tokens = tokenOffsets.length - 1;
    this.#table = new Int32Array(2 ** Math.ceil(Math.log2(2 * tokens + 2)));
    for (let token = 0; token < tokens; token++) {
      const [start, end] = [tokenOffsets[token] ?? 0, tokenOffsets[token + 1] ?? 0];
      if (start === end) continue;
      this.#most = Math.max(this.#most, end - start);
      let hash = HASH_START;
      for (let at = start; at < end; at++) hash = Math.imul(hash ^ (tokenBytes[at] ?? 0), HASH_FACTOR);
      this.#table[this.#placeOf(hash, tokenBytes, start, end - start)] = token + 1;
    }
  }

  /** @returns Undefined where no token begins so. */
  at(bytes: Uint8Array, start: number): TokenId | undefined {
    const most = Math.min(this.#most, bytes.length - start);
    let longest: TokenId | undefined;
    let hash = HASH_START;
    for (let length = 1; length <= most; length++) {
      hash = Math.imul(hash ^ (bytes[start + length - 1] ?? 0), HASH_FACTOR);
      const found = this.#table[this.#placeOf(hash, bytes, start, length)] ?? 0;
      if (found > 0) longest = found - 1;
    }
    return longest;
  }

  /** Where the token of this text is, or would be. */
  #placeOf(hash: number, bytes: Uint8Array, start: number, length: number): number {
    const mask = this.#table.length - 1;
    let place = (hash ^ (hash >>> 15)) & mask;
    for (;;) {
      const found = this.#table[place] ?? 0;
      if (found === 0 || this.#isText(found - 1, bytes, start, length)) return place;
      place = (place + 1) & mask;
    }
  }

  #isText(token: TokenId, bytes: Uint8Array, start: number, length: number): boolean {
    const { tokenOffsets, tokenBytes } = this.#texts;
    const first = tokenOffsets[token] ?? 0;
    if ((tokenOffsets[token + 1] ?? 0) - first !== length) return false;
    for (let i = 0; i < length; i++) if (tokenBytes[first + i] !== bytes[start + i]) return false;
    return true;
  }
}

/** Of a model; made when its first output is told in other tokens. */
const ofTexts = new WeakMap<TokenTexts, LongestTokens>();

export function longestTokens(texts: TokenTexts): LongestTokens {
  let tokens = ofTexts.get(texts);
  if (tokens === undefined) ofTexts.set(texts, (tokens = new LongestTokens(texts)));
  return tokens;
}
