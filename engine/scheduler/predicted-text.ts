/**
 * The text that a client expects as its output, by bytes: a model may write the same text in other tokens than a
 * tokenizer makes of it, and what follows is as predicted all the same.
 */
import { textOf } from "../token-texts.ts";
import { longestTokens } from "./longest-tokens.ts";
import type { TokenId } from "../protocol.ts";
import type { TokenTexts } from "../token-texts.ts";

/** Of the output are kept, to find again where it stands. */
const RECENT_BYTES = 64;
/** Tokens after which the rest of a predicted one is given up. */
const MOST_REST = 8;

export class PredictedText {
  readonly #tokens: Uint32Array;
  readonly #texts: TokenTexts | undefined;
  readonly #bytes: Uint8Array;
  /** Byte at which each token begins, and the end of the text. */
  readonly #starts: Uint32Array;
  /** The output's last bytes, the latest at the end. */
  readonly #recent = new Uint8Array(RECENT_BYTES);
  #recentLength = 0;

  /** @param texts Undefined: tokens are only the same where their numbers are. */
  constructor(tokens: ArrayLike<TokenId>, texts: TokenTexts | undefined) {
    this.#tokens = Uint32Array.from(tokens);
    this.#texts = texts;
    [this.#bytes, this.#starts] =
      texts === undefined ? numbersOf(this.#tokens) : textOfAll(this.#tokens, texts);
  }

  /** First byte of a token; of the one behind the last, the length of the text. */
  startOf(place: number): number {
    return this.#starts[place] ?? this.#bytes.length;
  }

  /** The first token that begins at this byte or behind it. */
  placeAt(byte: number): number {
    let [low, high] = [0, this.#tokens.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.startOf(middle) < byte) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Takes note of the output's next token. */
  wrote(token: TokenId): void {
    const text = this.#textOf(token).subarray(-RECENT_BYTES);
    this.#recent.copyWithin(0, text.length);
    this.#recent.set(text, RECENT_BYTES - text.length);
    this.#recentLength = Math.min(RECENT_BYTES, this.#recentLength + text.length);
  }

  /** The byte behind the token's text where that is what stands at `byte`; else undefined. */
  behind(byte: number, token: TokenId): number | undefined {
    const text = this.#textOf(token);
    if (text.length === 0) return undefined;
    for (let i = 0; i < text.length; i++) if (text[i] !== this.#bytes[byte + i]) return undefined;
    return byte + text.length;
  }

  /**
   * In what tokens a model is likely to go on from within a predicted token: the longest ones, until one of them ends
   * where a predicted one does.
   * @returns None where that cannot be told. `place` is the predicted token behind them.
   */
  restFrom(byte: number): { readonly tokens: readonly TokenId[]; readonly place: number } {
    const tokens: TokenId[] = [];
    const longest = this.#texts && longestTokens(this.#texts);
    for (let at = byte; tokens.length < MOST_REST;) {
      const token = longest?.at(this.#bytes, at);
      if (token === undefined) break;
      tokens.push(token);
      at += this.#textOf(token).length;
      const place = this.placeAt(at);
      if (this.startOf(place) === at) return { tokens, place };
    }
    return { tokens: [], place: this.placeAt(byte) };
  }

  /** How many bytes before a token are the same as the output's last ones. */
  sameBefore(place: number): number {
    const end = this.startOf(place);
    const most = Math.min(end, this.#recentLength);
    let same = 0;
    while (same < most && this.#bytes[end - 1 - same] === this.#recent[RECENT_BYTES - 1 - same]) same++;
    return same;
  }

  #textOf(token: TokenId): Uint8Array {
    return this.#texts === undefined ? numberOf(token) : textOf(this.#texts, token);
  }
}

/** All bytes, and where each token's begin. */
type Joined = [bytes: Uint8Array, starts: Uint32Array];

/** Byte by byte: an object for each token takes ten times as long, while streams wait. */
function textOfAll(tokens: Uint32Array, { tokenBytes, tokenOffsets }: TokenTexts): Joined {
  const starts = new Uint32Array(tokens.length + 1);
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i] ?? 0;
    starts[i + 1] = (starts[i] ?? 0) + ((tokenOffsets[token + 1] ?? 0) - (tokenOffsets[token] ?? 0));
  }
  const bytes = new Uint8Array(starts.at(-1) ?? 0);
  for (let i = 0, to = 0; i < tokens.length; i++) {
    const end = starts[i + 1] ?? 0;
    for (let from = tokenOffsets[tokens[i] ?? 0] ?? 0; to < end; from++, to++)
      bytes[to] = tokenBytes[from] ?? 0;
  }
  return [bytes, starts];
}

function numbersOf(tokens: Uint32Array): Joined {
  const bytes = new Uint8Array(4 * tokens.length);
  tokens.forEach((token, i) => bytes.set(numberOf(token), 4 * i));
  return [bytes, Uint32Array.from({ length: tokens.length + 1 }, (_, i) => 4 * i)];
}

function numberOf(token: TokenId): Uint8Array {
  return Uint8Array.of(token >>> 24, token >>> 16, token >>> 8, token);
}
