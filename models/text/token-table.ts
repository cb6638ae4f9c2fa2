/** What each token of a vocabulary is made of: its bytes and its kind, looked up without a native call. */
import { TokenAttribute } from "../../engine/token-attribute.ts";
import type { ModelFacts, TokenId } from "../../engine/protocol.ts";

type TokenFacts = Pick<
  ModelFacts,
  "vocabSize" | "tokenBytes" | "tokenOffsets" | "tokenAttributes" | "endTokens"
>;

const CONTROL = TokenAttribute.control | TokenAttribute.unknown;

export class TokenTable {
  readonly size: number;
  readonly #bytes: Uint8Array;
  readonly #offsets: Uint32Array;
  readonly #attributes: Uint16Array;
  readonly #endTokens: ReadonlySet<TokenId>;

  constructor(facts: TokenFacts) {
    this.size = facts.vocabSize;
    this.#bytes = facts.tokenBytes;
    this.#offsets = facts.tokenOffsets;
    this.#attributes = facts.tokenAttributes;
    this.#endTokens = new Set(facts.endTokens);
  }

  /** The token's own bytes, control tokens included; possibly part of a character. A view: do not change it. */
  bytes(token: TokenId): Uint8Array {
    return this.#bytes.subarray(this.#offsets[token] ?? 0, this.#offsets[token + 1] ?? 0);
  }

  /** The token's bytes as text, with U+FFFD where they are not whole characters. */
  piece(token: TokenId): string {
    return new TextDecoder().decode(this.bytes(token));
  }

  /** All of it, control tokens included, with U+FFFD where it ends within a character. */
  text(tokens: readonly TokenId[]): string {
    const bytes = Buffer.concat(tokens.map((token) => this.bytes(token)));
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  }

  /** Whether it is a control token, which has a name but no text of its own. */
  isControl(token: TokenId): boolean {
    return ((this.#attributes[token] ?? 0) & CONTROL) !== 0;
  }

  /** llama.cpp's attribute bits (`TokenAttribute`). */
  attributes(token: TokenId): number {
    return this.#attributes[token] ?? 0;
  }

  /** Whether it ends a generation. */
  isEnd(token: TokenId): boolean {
    return this.#endTokens.has(token);
  }

  /** The names of all control tokens, longest first, as a tokenizer looks for them in text. */
  controlStrings(): string[] {
    const strings: string[] = [];
    for (let token = 0; token < this.size; token++) {
      if (this.isControl(token)) strings.push(this.piece(token));
    }
    return strings.filter((text) => text !== "").sort((a, b) => b.length - a.length);
  }
}
