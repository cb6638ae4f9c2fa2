/** What of the prompts of an answer the tokenizer has to say: the end of one that is cut, and how bad words are written. */
import type { TokenId } from "../engine/protocol.ts";
import type { LoadedModel } from "../models/loaded-model.ts";
import type { GenerateRequest } from "./generate-request.ts";
import { inClientsWords } from "./client-words.ts";
import type { GenerateDeps } from "./generate.ts";
import { keptTokens } from "./openai/prompt-cut.ts";
import { assertWorthTokenizing } from "./submit-request.ts";

/**
 * Once for all choices of each prompt.
 *
 * @param requests Of one answer: their settings are the same.
 * @throws {ApiError} As `generate`.
 */
export async function settleRequests(
  model: LoadedModel,
  requests: readonly GenerateRequest[],
  deps: GenerateDeps,
  signal: AbortSignal,
): Promise<readonly GenerateRequest[]> {
  const [first] = requests;
  if (first === undefined) return requests;
  const { truncatePrompt, badWords } = first.settings;
  if (truncatePrompt === undefined && badWords === undefined) return requests;
  for (const request of requests) assertWorthTokenizing(request, model, truncatePrompt);
  return inClientsWords(first, deps, signal, async () => {
    const badSequences = badWords && (await tokensOfWords(model, badWords, signal));
    const settled: GenerateRequest[] = [];
    // One after the other: the engine computes what runs in between.
    for (const request of requests) {
      const cut = await withCutPrompt(model, request, signal);
      const { settings } = cut;
      settled.push({ ...cut, settings: { ...settings, sampling: { ...settings.sampling, badSequences } } });
    }
    return settled;
  });
}

/** The prompt's last tokens alone, where it has more than the client wants to be read. */
async function withCutPrompt(
  model: LoadedModel,
  request: GenerateRequest,
  signal: AbortSignal,
): Promise<GenerateRequest> {
  const { truncatePrompt } = request.settings;
  if (truncatePrompt === undefined) return request;
  const tokens = await model.engine.tokenize(request.prompt, request.addBos, signal);
  const most = keptTokens(truncatePrompt, model.facts.contextTokens);
  return { ...request, prompt: [{ tokens: tokens.slice(-most) }], addBos: false };
}

/**
 * At the beginning of a text and behind a space, as the model's tokenizer writes them; white space as it is. Other tokens can spell the same
 * word; those a model seldom draws.
 * @throws {EngineError} When the engine is gone.
 */
async function tokensOfWords(
  { engine }: LoadedModel,
  words: readonly string[],
  signal: AbortSignal,
): Promise<readonly (readonly TokenId[])[]> {
  const spelled = words.flatMap((word) => {
    const bare = word.trimStart();
    return bare === "" ? [word] : [bare, ` ${bare}`];
  });
  const parts = spelled.map((text) => [{ text, special: false }]);
  return (await engine.tokenizeEach(parts, false, signal)).filter(({ length }) => length > 0);
}
