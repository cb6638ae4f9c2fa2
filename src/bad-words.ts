/** Words that an answer may not hold, as the tokens that write them. */
import type { TokenId } from "../engine/protocol.ts";
import type { LoadedModel } from "../models/loaded-model.ts";
import type { GenerateRequest } from "./generate-request.ts";

/** @throws {EngineError} When the engine is gone. */
export async function withoutBadWords(
  model: LoadedModel,
  request: GenerateRequest,
): Promise<GenerateRequest> {
  const { settings } = request;
  if (settings.badWords === undefined) return request;
  const badSequences = await tokensOfWords(model, settings.badWords);
  return { ...request, settings: { ...settings, sampling: { ...settings.sampling, badSequences } } };
}

/**
 * At the beginning of a text and behind a space, as the model's tokenizer writes them. Other tokens can spell the same
 * word; those a model seldom draws.
 * @throws {EngineError} When the engine is gone.
 */
async function tokensOfWords(
  { engine }: LoadedModel,
  words: readonly string[],
): Promise<readonly (readonly TokenId[])[]> {
  const spelled = words.flatMap((word) => [word.trimStart(), ` ${word.trimStart()}`]);
  const tokens = spelled.map((text) => engine.tokenize([{ text, special: false }], false));
  return (await Promise.all(tokens)).filter(({ length }) => length > 0);
}
