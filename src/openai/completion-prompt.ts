/** The prompts of a legacy completion request as parts for a model's engine, and as text. */
import type { PromptPart } from "../../engine/protocol.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import { ApiError, contextExceeded } from "./api-error.ts";
import { checkToken } from "./generation-fields.ts";
import { keptTokens } from "./prompt-cut.ts";
import type { PromptCut } from "./prompt-cut.ts";
import type { TextInput } from "./text-inputs.ts";

/**
 * A raw prompt is the client's own template: its control tokens are meant.
 * @param cut What is before it need not be there.
 * @throws {ApiError} 400 for ids that the model does not have, and for too many.
 */
export function promptParts(prompt: TextInput, model: LoadedModel, cut?: PromptCut): PromptPart[] {
  if (prompt.kind === "text") return [{ text: prompt.text, special: true }];
  const { contextTokens, vocabSize } = model.facts;
  const tokens = prompt.tokens.slice(-keptTokens(cut, contextTokens));
  // Counting is enough; the engine's exact bound is one token below.
  if (tokens.length > contextTokens) throw contextExceeded("prompt", contextTokens, tokens.length);
  const start = (prompt.start ?? 0) + prompt.tokens.length - tokens.length;
  for (const [i, token] of tokens.entries()) checkToken(token, vocabSize, `${prompt.param}[${start + i}]`);
  return [{ tokens }];
}

/**
 * What the model is asked to write the middle of. Both sides are a document, in which nothing is a control token.
 * @param param The field that holds the suffix.
 * @throws {ApiError} 400 when the model was not made for it.
 */
export function fillInParts(
  prompt: TextInput,
  suffix: string,
  model: LoadedModel,
  param = "suffix",
): PromptPart[] {
  const { fim } = model.facts;
  if (fim === undefined) {
    throw new ApiError(
      "unsupported_parameter",
      `Unsupported parameter: '${param}' is not supported with the model '${model.id}', which has no tokens for ` +
        "filling in the middle.",
      param,
    );
  }
  const before: PromptPart[] =
    prompt.kind === "text" ? [{ text: prompt.text, special: false }] : promptParts(prompt, model);
  return [
    { tokens: [fim.prefix] },
    ...before,
    { tokens: [fim.suffix] },
    { text: suffix, special: false },
    { tokens: [fim.middle] },
  ];
}

/** What `echo` gives back. */
export function echoedText(prompt: TextInput, model: LoadedModel): string {
  return prompt.kind === "text" ? prompt.text : model.tokens.text(prompt.tokens);
}
