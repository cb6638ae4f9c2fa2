/** What a legacy completion request asks for, read from its JSON body. */
import { z } from "zod";
import type { TokenId } from "../../engine/protocol.ts";
import { MAX_TOP_LOGPROBS } from "../http/limits.ts";
import { ApiError } from "./api-error.ts";
import {
  generationShape,
  prepareBody,
  readChoices,
  readDelivery,
  readGeneration,
} from "./generation-fields.ts";
import type { DeliverySettings, GenerationSettings, RequestLimits } from "./generation-fields.ts";
import { ignoredFields, refuseUnsupported } from "./unsupported.ts";
import { emptyArray, integer, missing, parseWith, wrongType } from "./validation.ts";

/** OpenAI's default of this endpoint alone. */
const DEFAULT_MAX_TOKENS = 16;

const schema = z.object({
  ...generationShape,
  // Judged by hand: it may be an array of very many numbers.
  prompt: z.unknown(),
  logprobs: integer(0, MAX_TOP_LOGPROBS).optional(),
  best_of: integer(1, 20).optional(),
  add_special_tokens: z.boolean().optional(),
});

const KNOWN: ReadonlySet<string> = new Set(Object.keys(schema.shape));

export type CompletionPrompt =
  | { readonly kind: "text"; readonly text: string }
  /** Whole numbers; not yet compared with a vocabulary. */
  | { readonly kind: "tokens"; readonly tokens: readonly TokenId[] };

export interface CompletionRequest {
  readonly model: string | undefined;
  readonly prompt: CompletionPrompt;
  readonly addBos: boolean;
  readonly generation: GenerationSettings;
  readonly delivery: DeliverySettings;
  /** How many answers; at least 1. */
  readonly choices: number;
  readonly ignoredFields: readonly string[];
}

/** @throws {ApiError} 400 for what is wrong, and for what cannot be honoured. */
export function readCompletionRequest(
  body: Readonly<Record<string, unknown>>,
  limits: RequestLimits,
): CompletionRequest {
  const present = prepareBody(body);
  const fields = parseWith(schema, present);
  refuseUnsupported(present, "completions");
  const ignored = ignoredFields(present, KNOWN, { endpoint: "completions", strict: limits.strictParams });
  const prompt = readPrompt(present["prompt"]);
  return {
    model: fields.model,
    prompt,
    addBos: fields.add_special_tokens ?? prompt.kind === "text",
    generation: readGeneration(fields, fields.logprobs, DEFAULT_MAX_TOKENS),
    delivery: readDelivery(fields),
    choices: readChoices(fields, limits.maxChoices),
    ignoredFields: ignored,
  };
}

function readPrompt(prompt: unknown): CompletionPrompt {
  if (prompt === undefined) throw missing("prompt");
  if (typeof prompt === "string") return { kind: "text", text: prompt };
  if (!Array.isArray(prompt)) throw wrongType("prompt", "a string or an array", prompt);
  const items = prompt as unknown[];
  const first = items[0];
  if (first === undefined) throw emptyArray("prompt");
  if (typeof first === "number") return { kind: "tokens", tokens: readTokens(items, "prompt") };
  if (typeof first !== "string" && !Array.isArray(first)) {
    throw wrongType("prompt[0]", "a string, an integer or an array of integers", first);
  }
  if (items.length > 1) {
    throw new ApiError(
      "unsupported_value",
      "Unsupported value: several prompts in one request are not supported by this server. Please send one " +
        "request for each.",
      "prompt",
    );
  }
  if (typeof first === "string") return { kind: "text", text: first };
  if (first.length === 0) throw emptyArray("prompt[0]");
  return { kind: "tokens", tokens: readTokens(first as unknown[], "prompt[0]") };
}

function readTokens(items: readonly unknown[], param: string): TokenId[] {
  return items.map((item, i) => {
    if (typeof item === "number" && Number.isInteger(item)) return item;
    throw wrongType(`${param}[${i}]`, "an integer", item);
  });
}
