/** The texts of a vocabulary's tokens, as bytes: a token may hold a part of a character. */
import type { TokenId } from "./protocol.ts";

/** The bytes of each token lie between its offset and the next one. */
export interface TokenTexts {
  readonly tokenBytes: Uint8Array;
  readonly tokenOffsets: Uint32Array;
}

/** Empty where there is no such token. */
export function textOf({ tokenBytes, tokenOffsets }: TokenTexts, token: TokenId): Uint8Array {
  return tokenBytes.subarray(tokenOffsets[token], tokenOffsets[token + 1]);
}
