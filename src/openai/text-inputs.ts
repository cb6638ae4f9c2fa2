/** Fields that hold a text, a list of texts, a list of token ids, or a list of lists of ids. */
import { z } from "zod";
import type { TokenId } from "../../engine/protocol.ts";
import type { LimitName } from "../config/limits.ts";
import { checkLength, emptyArray, missing, wrongType } from "./validation.ts";

/** `param` is what errors call it, such as `prompt[1]`. */
export type TextInput =
  | { readonly kind: "text"; readonly param: string; readonly text: string }
  /** Whole numbers; not yet compared with a vocabulary. */
  | {
      readonly kind: "tokens";
      readonly param: string;
      readonly tokens: readonly TokenId[];
      /** Where they begin in the array that `param` names; 0 by default. */
      readonly start?: number;
    };

const tokensJson = { type: "array", items: { type: "integer" } } as const;

/** Judged by hand, by `readTextInputs`: it may be an array of very many numbers. */
export const textInputs = z.unknown().meta({
  anyOf: [
    { type: "string" },
    { type: "array", items: { type: "string" } },
    tokensJson,
    { type: "array", items: tokensJson },
  ],
});

/**
 * @param max Most texts or lists of ids.
 * @param option The limit that `max` is, if it is one.
 * @returns At least one.
 * @throws {ApiError} 400 for anything else.
 */
export function readTextInputs(value: unknown, param: string, max: number, option?: LimitName): TextInput[] {
  if (value === undefined) throw missing(param);
  if (typeof value === "string") return [{ kind: "text", param, text: value }];
  if (!Array.isArray(value)) throw wrongType(param, "a string or an array", value);
  const items = value as unknown[];
  const first = items[0];
  if (first === undefined) throw emptyArray(param);
  if (typeof first === "number") return [{ kind: "tokens", param, tokens: readTokens(items, param) }];
  checkLength(items, max, param, option);
  return items.map((item, i) => readItem(item, `${param}[${i}]`));
}

function readItem(item: unknown, param: string): TextInput {
  if (typeof item === "string") return { kind: "text", param, text: item };
  if (!Array.isArray(item)) throw wrongType(param, "a string, an integer or an array of integers", item);
  if (item.length === 0) throw emptyArray(param);
  return { kind: "tokens", param, tokens: readTokens(item, param) };
}

function readTokens(items: readonly unknown[], param: string): TokenId[] {
  return items.map((item, i) => {
    if (typeof item === "number" && Number.isInteger(item)) return item;
    throw wrongType(`${param}[${i}]`, "an integer", item);
  });
}
