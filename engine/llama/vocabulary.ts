/**
 * Reads the vocabulary out of a model once: bytes, attributes and end tokens of every token.
 *
 * The rules are those of llama.cpp's `token_to_piece`, which its JavaScript binding hides behind strings in
 * which half a character is already lost.
 */
import { TokenAttribute } from "../token-attribute.ts";
import type { TokenId } from "../protocol.ts";
import type { AddonModel } from "./addon.ts";

export interface Vocabulary {
  readonly vocabSize: number;
  readonly tokenBytes: Uint8Array;
  readonly tokenOffsets: Uint32Array;
  readonly tokenAttributes: Uint16Array;
  readonly endTokens: readonly TokenId[];
}

/** llama.h `llama_vocab_type`. */
const VOCABULARY = { spm: 1, bpe: 2, wpm: 3, ugm: 4 } as const;

type PieceReader = (token: TokenId, text: string, attributes: number) => Uint8Array;

const encoder = new TextEncoder();

export function readVocabulary(model: AddonModel, vocabSize: number): Vocabulary {
  const texts: string[] = [];
  const tokenAttributes = new Uint16Array(vocabSize);
  const endTokens: TokenId[] = [];
  for (let token = 0; token < vocabSize; token++) {
    texts.push(model.getTokenString(token));
    tokenAttributes[token] = model.getTokenAttributes(token);
    if (model.isEogToken(token)) endTokens.push(token);
  }
  const read = pieceReader(model, texts);
  const pieces = texts.map((text, token) => read(token, text, tokenAttributes[token] ?? 0));
  const tokenOffsets = new Uint32Array(vocabSize + 1);
  pieces.forEach((piece, token) => (tokenOffsets[token + 1] = (tokenOffsets[token] ?? 0) + piece.length));
  const tokenBytes = new Uint8Array(tokenOffsets[vocabSize] ?? 0);
  pieces.forEach((piece, token) => tokenBytes.set(piece, tokenOffsets[token]));
  return { vocabSize, tokenBytes, tokenOffsets, tokenAttributes, endTokens };
}

function pieceReader(model: AddonModel, texts: readonly string[]): PieceReader {
  const normal = normalReader(model, texts);
  const literal = TokenAttribute.control | TokenAttribute.unknown | TokenAttribute.userDefined;
  return (token, text, attributes) => {
    if ((attributes & literal) !== 0) return encoder.encode(text);
    if ((attributes & TokenAttribute.byte) !== 0) {
      const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(text)?.[1];
      if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
    }
    // llama.cpp gives tokens without a kind no text.
    if ((attributes & (TokenAttribute.normal | TokenAttribute.byte)) === 0) return new Uint8Array(0);
    return normal(token, text, attributes);
  };
}

function normalReader(model: AddonModel, texts: readonly string[]): PieceReader {
  const withSpaces: PieceReader = (_token, text) => encoder.encode(text.replaceAll("\u2581", " "));
  switch (model.getVocabularyType()) {
    case VOCABULARY.spm:
    case VOCABULARY.wpm:
    case VOCABULARY.ugm:
      return withSpaces;
    case VOCABULARY.bpe: {
      // Some byte-pair vocabularies write spaces as sentencepiece does instead of mapping bytes to letters.
      const marked = texts.some((text) => text.startsWith("\u2581"));
      const mapped = texts.some((text) => text.startsWith("\u0120"));
      return marked && !mapped ? withSpaces : (_token, text) => byteLevelBytes(text);
    }
    default:
      return (token) => encoder.encode(model.detokenize(Uint32Array.of(token), true));
  }
}

/** GPT-2's table: printable bytes stand for themselves, the other 68 for the letters from U+0100 on. */
const BYTE_OF_LETTER = ((): ReadonlyMap<number, number> => {
  const map = new Map<number, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    map.set(printable ? byte : next++, byte);
  }
  return map;
})();

function byteLevelBytes(text: string): Uint8Array {
  const bytes: number[] = [];
  for (const letter of text) {
    const byte = BYTE_OF_LETTER.get(letter.codePointAt(0) ?? -1);
    if (byte === undefined) bytes.push(...encoder.encode(letter));
    else bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}
