/**
 * Whether an output can begin at all: asked before a request is accepted, while it can still be refused.
 *
 * A grammar that does not take a token takes none that begins with it. So the vocabulary is gone through as a tree
 * of bytes, of which only what follows an accepted beginning is looked at.
 */
import type { TokenId } from "../protocol.ts";
import type { Vocabulary } from "./vocabulary.ts";

export class FirstTokens {
  readonly #vocabulary: Vocabulary;
  #groups: readonly Group[] | undefined;

  constructor(vocabulary: Vocabulary) {
    this.#vocabulary = vocabulary;
  }

  /**
   * Whether a token that is not banned is accepted.
   * @param accepts Whether the output may begin with this token, or end before it has begun with an end token.
   * @param most Questions after which it is taken to be so, and the draw itself left to find out.
   */
  some(accepts: (token: TokenId) => boolean, banned: ReadonlySet<TokenId>, most: number): boolean {
    const { endTokens } = this.#vocabulary;
    if (endTokens.some((token) => !banned.has(token) && accepts(token))) return true;
    this.#groups ??= this.#group(this.#texts(), 0);
    let questions = 0;
    const search = (groups: readonly Group[], depth: number): boolean => {
      for (const { exact, longer } of groups) {
        const [first] = exact;
        if (questions++ >= most) return true;
        if (first !== undefined && !accepts(first)) continue;
        if (exact.some((token) => !banned.has(token))) return true;
        if (longer.length > 0 && search(this.#group(longer, depth), depth + 1)) return true;
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
      const group = groups.get(byte) ?? { exact: [], longer: [] };
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
}
