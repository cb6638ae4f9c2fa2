/** Prompts in llama.cpp's own dialect: texts, token ids, both in one, and objects that hold a text. */
import type { LoadedModel } from "../../models/loaded-model.ts";
import type { PromptPart, TokenId } from "../../engine/protocol.ts";
import { isObject } from "../http/json.ts";
import { ApiError } from "../openai/api-error.ts";
import { promptParts } from "../openai/completion-prompt.ts";
import type { TextInput } from "../openai/text-inputs.ts";
import { checkLength, emptyArray, missing, wrongType } from "../openai/validation.ts";

/** Texts and ids that follow each other; at least one. */
export type NativePrompt = readonly TextInput[];

/** Most changes between texts and ids in one prompt: each text is tokenized by itself. */
const MOST_PIECES = 256;

/**
 * @param most Prompts.
 * @returns At least one.
 * @throws {ApiError} 400 for anything else.
 */
export function readNativePrompts(value: unknown, most: number): readonly NativePrompt[] {
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
export function nativePromptParts(prompt: NativePrompt, model: LoadedModel): PromptPart[] {
  return prompt.flatMap((piece) => promptParts(piece, model));
}

function readPrompt(value: unknown, param: string): NativePrompt {
  if (typeof value === "string") return [{ kind: "text", param, text: value }];
  if (isObject(value)) return [{ kind: "text", param, text: heldText(value) }];
  if (!Array.isArray(value)) throw wrongType(param, "a string, an array or an object", value);
  if (value.length === 0) throw emptyArray(param);
  return readMixture(value, param);
}

function readMixture(items: readonly unknown[], param: string): NativePrompt {
  const pieces: (TextInput & { readonly tokens?: TokenId[] })[] = [];
  for (const [i, item] of items.entries()) {
    const at = `${param}[${i}]`;
    if (typeof item === "string") {
      pieces.push({ kind: "text", param: at, text: item });
    } else if (typeof item === "number" && Number.isInteger(item)) {
      const ids = pieces.at(-1)?.tokens;
      if (ids === undefined) pieces.push({ kind: "tokens", param, tokens: [item], start: i });
      else ids.push(item);
    } else {
      throw wrongType(at, "an integer or a string", item);
    }
    checkLength(pieces, MOST_PIECES, param);
  }
  return pieces;
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
