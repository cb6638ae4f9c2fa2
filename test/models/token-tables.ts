/** Small vocabularies for tests of the text side. */
import { TokenAttribute } from "../../engine/token-attribute.ts";
import { TokenTable } from "../../models/text/token-table.ts";

export interface TestToken {
  readonly bytes: Uint8Array;
  readonly attributes: number;
  readonly end?: boolean;
}

export function textToken(text: string): TestToken {
  return { bytes: new TextEncoder().encode(text), attributes: TokenAttribute.normal };
}

export function controlToken(text: string, more = 0): TestToken {
  return { bytes: new TextEncoder().encode(text), attributes: TokenAttribute.control | more };
}

export function endToken(text: string): TestToken {
  return { ...controlToken(text), end: true };
}

/** Token `i` of the table is the i-th of the list. */
export function tableOf(tokens: readonly TestToken[]): TokenTable {
  const offsets = new Uint32Array(tokens.length + 1);
  for (const [index, token] of tokens.entries()) {
    offsets[index + 1] = (offsets[index] ?? 0) + token.bytes.length;
  }
  const bytes = new Uint8Array(offsets[tokens.length] ?? 0);
  for (const [index, token] of tokens.entries()) bytes.set(token.bytes, offsets[index]);
  return new TokenTable({
    vocabSize: tokens.length,
    tokenBytes: bytes,
    tokenOffsets: offsets,
    tokenAttributes: Uint16Array.from(tokens, (token) => token.attributes),
    endTokens: tokens.flatMap((token, index) => (token.end === true ? [index] : [])),
  });
}

/** Cuts a list at the given places, taken modulo its length. */
export function cutAt<T>(items: readonly T[], places: readonly number[]): T[][] {
  const cuts = [...new Set(places.map((place) => place % (items.length + 1)))].sort((a, b) => a - b);
  const starts = [0, ...cuts];
  return starts.map((start, index) => items.slice(start, starts[index + 1] ?? items.length));
}
