/** The fields about log probabilities that llama.cpp's and vLLM's clients send beside OpenAI's. */
import { z } from "zod";
import type { Limits } from "../config/limits.ts";
import { ApiError } from "./api-error.ts";
import { checkMaximum, integer } from "./validation.ts";

export const logprobShape = {
  n_probs: integer(0).optional(),
  prompt_logprobs: integer(0).optional(),
  return_tokens_as_token_ids: z.boolean().optional(),
} as const;

const logprobSchema = z.object(logprobShape);
type LogprobFields = z.infer<typeof logprobSchema>;

/** @returns Alternatives of each token; undefined when they are not asked for, as with 0. */
export function readProbs({ n_probs: probs = 0 }: LogprobFields, limits: Limits): number | undefined {
  checkMaximum(probs, limits["max-top-logprobs"], "n_probs", "max-top-logprobs");
  return probs === 0 ? undefined : probs;
}

/** @returns Alternatives of each token of the prompt; undefined when they are not asked for. */
export function readPromptLogprobs(
  { prompt_logprobs: top, stream }: LogprobFields & { readonly stream?: boolean | undefined },
  limits: Limits,
): number | undefined {
  if (top === undefined) return undefined;
  checkMaximum(top, limits["max-top-logprobs"], "prompt_logprobs", "max-top-logprobs");
  if (stream !== true) return top;
  throw new ApiError(
    "invalid_value",
    "'prompt_logprobs' cannot be combined with 'stream'.",
    "prompt_logprobs",
  );
}
