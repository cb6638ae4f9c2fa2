/** Fields that hold a text, a list of texts, a list of token ids, or a list of lists of ids; and texts and ids in one. */
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

/** Texts and ids that follow each other; at least one. */
export type MixedInput = readonly TextInput[];

/** One of several, with what errors call it. */
export interface NamedInput {
  readonly param: string;
  readonly pieces: MixedInput;
}

/** Most changes between texts and ids in one input: each text is tokenized by itself. */
const MOST_PIECES = 256;

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

const mixtureJson = { type: "array", items: { type: ["string", "integer"] } } as const;

/** Judged by hand, by `readNamedInputs`. */
export const namedInputs = z.unknown().meta({
  anyOf: [
    { type: "string" },
    mixtureJson,
    { type: "array", items: { anyOf: [{ type: "string" }, mixtureJson] } },
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

/**
 * As `readTextInputs`, and each input may have texts and ids in one list, as llama.cpp's clients write it.
 * @returns At least one.
 * @throws {ApiError} 400 for anything else.
 */
export function readNamedInputs(value: unknown, param: string, max: number): NamedInput[] {
  if (!Array.isArray(value) || value.length === 0)
    return readTextInputs(value, param, max).map((input) => ({ param, pieces: [input] }));
  const items = value as unknown[];
  if (items.some((item) => typeof item === "number")) return [{ param, pieces: readMixture(items, param) }];
  checkLength(items, max, param);
  return items.map((item, i) => {
    const named = `${param}[${i}]`;
    const isMixture = Array.isArray(item) && item.length > 0;
    return { param: named, pieces: isMixture ? readMixture(item, named) : [readItem(item, named)] };
  });
}

export function isEmptyInput({ pieces }: NamedInput): boolean {
  return pieces.every((piece) => piece.kind === "text" && piece.text === "");
}

/**
 * As llama.cpp's clients may write a prompt: a list in which each text is a piece, and each run of ids.
 * @throws {ApiError} 400 for anything else in it, and for too many pieces.
 */
export function readMixture(items: readonly unknown[], param: string): MixedInput {
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

function readTokens(items: readonly unknown[], param: string): TokenId[] {
  return items.map((item, i) => {
    if (typeof item === "number" && Number.isInteger(item)) return item;
    throw wrongType(`${param}[${i}]`, "an integer", item);
  });
}
