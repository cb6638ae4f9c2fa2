/** Turns the parts of a prompt into tokens, and lets only those that may become control tokens. */
import { EngineError } from "../errors.ts";
import { TokenAttribute } from "../token-attribute.ts";
import type { PromptPart, TokenId } from "../protocol.ts";
import type { AddonModel } from "./addon.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** @throws {EngineError} `invalid_request` for a token outside the vocabulary. */
export function promptTokens(
  parts: readonly PromptPart[],
  bosToken: TokenId | undefined,
  model: AddonModel,
  vocabulary: Vocabulary,
): Uint32Array {
  const pieces: (Uint32Array | readonly number[])[] = [];
  let strip = false;
  for (const part of parts) {
    if ("tokens" in part) {
      checkTokens(part.tokens, vocabulary.vocabSize);
      pieces.push(part.tokens);
      strip = false;
      continue;
    }
    // llama.cpp takes the white space after such a token away when it parses a text as a whole.
    const text = strip ? part.text.trimStart() : part.text;
    if (text === "") continue;
    const tokens = model.tokenize(text, part.special);
    pieces.push(tokens);
    const last = tokens.at(-1);
    strip =
      part.special &&
      last !== undefined &&
      ((vocabulary.tokenAttributes[last] ?? 0) & TokenAttribute.rstrip) !== 0;
  }
  const first = pieces.find((piece) => piece.length > 0)?.[0];
  if (bosToken !== undefined && first !== bosToken) pieces.unshift([bosToken]);
  const all = new Uint32Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let offset = 0;
  for (const piece of pieces) {
    all.set(piece, offset);
    offset += piece.length;
  }
  return all;
}

// An id out of range would end the process inside native code.
function checkTokens(tokens: readonly TokenId[], vocabSize: number): void {
  for (const token of tokens) {
    if (!Number.isInteger(token) || token < 0 || token >= vocabSize) {
      throw new EngineError("invalid_request", `Token id ${token} is not in 0 to ${vocabSize - 1}.`, {
        vocabSize,
      });
    }
  }
}
