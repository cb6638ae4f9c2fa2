/**
 * Which tokens may come next, asked with as few questions as possible: whether there is one at all, before a request is
 * accepted and can still be refused, or all of them, where a grammar leaves only a few.
 *
 * A grammar that does not take a token takes none that begins with it. So the vocabulary is gone through as a tree
 * of bytes, of which only what follows an accepted beginning is looked at.
 */
import type { Bans } from "./bias.ts";
import type { TokenId } from "../protocol.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** Whether a token may come next; for an end token, whether the output may end here. */
export type Accepts = (token: TokenId) => boolean;

export class NextTokens {
  readonly #vocabulary: Vocabulary;
  #groups: readonly Group[] | undefined;

  constructor(vocabulary: Vocabulary) {
    this.#vocabulary = vocabulary;
  }

  /**
   * Whether a token that is not banned is accepted.
   * @param most Questions after which it is taken to be so, and the draw itself left to find out.
   */
  some(accepts: Accepts, banned: Bans, most: number): boolean {
    const { endTokens } = this.#vocabulary;
    if (endTokens.some((token) => !banned.has(token) && accepts(token))) return true;
    return this.#search(accepts, most, (tokens) => tokens.some((token) => !banned.has(token)));
  }

  /**
   * Every token that is accepted.
   * @param most Of them, and of questions, after which it gives up: undefined.
   */
  few(accepts: Accepts, most: number, mostQuestions: number): TokenId[] | undefined {
    const accepted = this.#vocabulary.endTokens.filter(accepts);
    const gaveUp = this.#search(accepts, mostQuestions, (tokens) => {
      accepted.push(...tokens);
      return accepted.length > most;
    });
    return gaveUp ? undefined : accepted;
  }

  /**
   * @param found Told of accepted tokens with the same bytes; ends the search with true.
   * @returns Whether the search was ended, by `found` or because there were too many questions.
   */
  #search(accepts: Accepts, most: number, found: (tokens: readonly TokenId[]) => boolean): boolean {
    this.#groups ??= this.#group(this.#texts(), 0);
    let questions = 0;
    const search = (groups: readonly Group[], depth: number): boolean => {
      for (const group of groups) {
        const [first] = group.exact;
        if (questions++ >= most) return true;
        if (first !== undefined && !accepts(first)) continue;
        if (first !== undefined && found(group.exact)) return true;
        if (group.longer.length === 0) continue;
        group.next ??= this.#group(group.longer, depth);
        if (search(group.next, depth + 1)) return true;
      }
      return false;
    };
    return search(this.#groups, 1);
  }

  /** Grammars take no token without a text, and end tokens are not meant as text. */
  #texts(): TokenId[] {
    const { vocabSize, tokenBytes, tokenOffsets, endTokens } = this.#vocabulary;
    const texts: TokenId[] = [];
    for (let token = 0; token < vocabSize; token++) {
      const start = tokenOffsets[token] ?? 0;
      const empty = start === tokenOffsets[token + 1] || tokenBytes[start] === 0;
      if (!empty && !endTokens.includes(token)) texts.push(token);
    }
    return texts;
  }

  /** By the byte at `depth`; the tokens have the same bytes before it, and all of them are longer. */
  #group(tokens: readonly TokenId[], depth: number): readonly Group[] {
    const { tokenBytes, tokenOffsets } = this.#vocabulary;
    const groups = new Map<number, Group>();
    for (const token of tokens) {
      const at = (tokenOffsets[token] ?? 0) + depth;
      const byte = tokenBytes[at] ?? 0;
      const group = groups.get(byte) ?? { exact: [], longer: [], next: undefined };
      groups.set(byte, group);
      (at + 1 === tokenOffsets[token + 1] ? group.exact : group.longer).push(token);
    }
    return [...groups.values()];
  }
}

/** Tokens that begin alike. */
interface Group {
  /** Those that are no more than this beginning. */
  readonly exact: TokenId[];
  readonly longer: TokenId[];
  /** The longer ones by their next byte, once they have been looked at. */
  next: readonly Group[] | undefined;
}
