/** What of a request the tokenizer has to say: the end of a prompt that is cut, and how bad words are written. */
import type { TokenId } from "../engine/protocol.ts";
import type { LoadedModel } from "../models/loaded-model.ts";
import type { GenerateRequest } from "./generate-request.ts";

/** @throws {EngineError} When the engine is gone. */
export async function settleRequest(model: LoadedModel, request: GenerateRequest): Promise<GenerateRequest> {
  return withoutBadWords(model, await withCutPrompt(model, request));
}

/** The prompt's last tokens alone, where it has more than the client wants to be read. */
async function withCutPrompt(model: LoadedModel, request: GenerateRequest): Promise<GenerateRequest> {
  const { truncatePrompt } = request.settings;
  if (truncatePrompt === undefined) return request;
  const tokens = await model.engine.tokenize(request.prompt, request.addBos);
  // One is left to be generated.
  const most = truncatePrompt === -1 ? model.facts.contextTokens - 1 : truncatePrompt;
  return { ...request, prompt: [{ tokens: tokens.slice(-most) }], addBos: false };
}

async function withoutBadWords(model: LoadedModel, request: GenerateRequest): Promise<GenerateRequest> {
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
