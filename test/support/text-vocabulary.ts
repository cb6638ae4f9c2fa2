/** A vocabulary of the given texts, for what asks nothing else of a model. */
import type { Vocabulary } from "../../engine/llama/vocabulary.ts";

export function vocabularyOf(texts: readonly string[], endTokens: readonly number[]): Vocabulary {
  const pieces = texts.map((text) => Buffer.from(text));
  const tokenOffsets = new Uint32Array(pieces.length + 1);
  pieces.forEach((piece, token) => (tokenOffsets[token + 1] = (tokenOffsets[token] ?? 0) + piece.length));
  return {
    vocabSize: texts.length,
    tokenBytes: Buffer.concat(pieces),
    tokenOffsets,
    tokenAttributes: new Uint16Array(texts.length),
    endTokens,
  };
}
