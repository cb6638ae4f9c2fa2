/** Prompts in llama.cpp's own dialect: texts, token ids, both in one, and objects that hold a text. */
import type { LoadedModel } from "../../models/loaded-model.ts";
import type { PromptPart } from "../../engine/protocol.ts";
import { isObject } from "../http/json.ts";
import { ApiError } from "../openai/api-error.ts";
import { promptParts } from "../openai/completion-prompt.ts";
import type { PromptCut } from "../openai/prompt-cut.ts";
import { readMixture } from "../openai/text-inputs.ts";
import type { MixedInput } from "../openai/text-inputs.ts";
import { checkLength, emptyArray, missing, wrongType } from "../openai/validation.ts";

/**
 * @param most Prompts.
 * @returns At least one.
 * @throws {ApiError} 400 for anything else.
 */
export function readNativePrompts(value: unknown, most: number): readonly MixedInput[] {
  if (value === undefined) throw missing("prompt");
  if (!Array.isArray(value)) return [readPrompt(value, "prompt")];
  const items = value as unknown[];
  if (items.length === 0) throw emptyArray("prompt");
  const hasIds = items.some((item) => typeof item === "number");
  if (hasIds) return [readMixture(items, "prompt")];
  checkLength(items, most, "prompt", "max-answer-choices");
  return items.map((item, i) => readPrompt(item, `prompt[${i}]`));
}

/**
 * The prompt for a model's engine; its control tokens are meant.
 * @throws {ApiError} 400 for ids that the model does not have, and for too many.
 */
export function nativePromptParts(prompt: MixedInput, model: LoadedModel, cut?: PromptCut): PromptPart[] {
  return prompt.flatMap((piece) => promptParts(piece, model, cut));
}

function readPrompt(value: unknown, param: string): MixedInput {
  if (typeof value === "string") return [{ kind: "text", param, text: value }];
  if (isObject(value)) return [{ kind: "text", param, text: heldText(value) }];
  if (!Array.isArray(value)) throw wrongType(param, "a string, an array or an object", value);
  if (value.length === 0) throw emptyArray(param);
  return readMixture(value, param);
}

/** Objects were made for images beside the text. */
function heldText({
  prompt_string: text,
  multimodal_data: media,
}: Readonly<Record<string, unknown>>): string {
  if (text === undefined) throw missing("prompt.prompt_string");
  if (media !== undefined && !(Array.isArray(media) && media.length === 0)) {
    throw new ApiError(
      "unsupported_parameter",
      "Unsupported parameter: 'prompt.multimodal_data' is not supported by this server.",
      "prompt",
    );
  }
  if (typeof text !== "string") throw wrongType("prompt.prompt_string", "a string", text);
  return text;
}
