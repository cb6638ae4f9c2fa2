/** The prompts of a legacy completion request: read from its body, and turned into parts for a model's engine. */
import type { PromptPart, TokenId } from "../../engine/protocol.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import { MAX_ANSWER_CHOICES } from "../http/limits.ts";
import { ApiError, contextExceeded } from "./api-error.ts";
import { checkToken } from "./generation-fields.ts";
import { checkLength, emptyArray, missing, wrongType } from "./validation.ts";

/** `param` is what errors call it, such as `prompt[1]`. */
export type CompletionPrompt =
  | { readonly kind: "text"; readonly param: string; readonly text: string }
  /** Whole numbers; not yet compared with a vocabulary. */
  | { readonly kind: "tokens"; readonly param: string; readonly tokens: readonly TokenId[] };

/**
 * A text, a list of texts, a list of ids, or a list of lists of ids.
 *
 * @returns At least one.
 * @throws {ApiError} 400 for anything else.
 */
export function readPrompts(prompt: unknown): CompletionPrompt[] {
  if (prompt === undefined) throw missing("prompt");
  if (typeof prompt === "string") return [{ kind: "text", param: "prompt", text: prompt }];
  if (!Array.isArray(prompt)) throw wrongType("prompt", "a string or an array", prompt);
  const items = prompt as unknown[];
  const first = items[0];
  if (first === undefined) throw emptyArray("prompt");
  if (typeof first === "number")
    return [{ kind: "tokens", param: "prompt", tokens: readTokens(items, "prompt") }];
  checkLength(items, MAX_ANSWER_CHOICES, "prompt");
  return items.map((item, i): CompletionPrompt => {
    const param = `prompt[${i}]`;
    if (typeof item === "string") return { kind: "text", param, text: item };
    if (!Array.isArray(item)) throw wrongType(param, "a string, an integer or an array of integers", item);
    if (item.length === 0) throw emptyArray(param);
    return { kind: "tokens", param, tokens: readTokens(item, param) };
  });
}

/**
 * A raw prompt is the client's own template: its control tokens are meant.
 * @throws {ApiError} 400 for ids that the model does not have, and for too many.
 */
export function promptParts(prompt: CompletionPrompt, model: LoadedModel): PromptPart[] {
  if (prompt.kind === "text") return [{ text: prompt.text, special: true }];
  const { contextTokens, vocabSize } = model.facts;
  // Counting is enough; the engine's exact bound is one token below.
  if (prompt.tokens.length > contextTokens)
    throw contextExceeded("prompt", contextTokens, prompt.tokens.length);
  for (const [i, token] of prompt.tokens.entries()) checkToken(token, vocabSize, `${prompt.param}[${i}]`);
  return [{ tokens: prompt.tokens }];
}

/**
 * What the model is asked to write the middle of. Both sides are a document, in which nothing is a control token.
 * @throws {ApiError} 400 when the model was not made for it.
 */
export function fillInParts(prompt: CompletionPrompt, suffix: string, model: LoadedModel): PromptPart[] {
  const { fim } = model.facts;
  if (fim === undefined) {
    throw new ApiError(
      "unsupported_parameter",
      `Unsupported parameter: 'suffix' is not supported with the model '${model.id}', which has no tokens for ` +
        "filling in the middle.",
      "suffix",
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
export function echoedText(prompt: CompletionPrompt, model: LoadedModel): string {
  if (prompt.kind === "text") return prompt.text;
  const bytes = Buffer.concat(prompt.tokens.map((token) => model.tokens.bytes(token)));
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

function readTokens(items: readonly unknown[], param: string): TokenId[] {
  return items.map((item, i) => {
    if (typeof item === "number" && Number.isInteger(item)) return item;
    throw wrongType(`${param}[${i}]`, "an integer", item);
  });
}
