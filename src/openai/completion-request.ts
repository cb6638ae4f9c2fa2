/** What a legacy completion request asks for, read from its JSON body. */
import { z } from "zod";
import type { OutputFormat } from "../../models/output-constraint.ts";
import type { Limits } from "../config/limits.ts";
import { ApiError } from "./api-error.ts";
import { formatShape, readFormat } from "./format-fields.ts";
import {
  generationShape,
  prepareBody,
  readChoices,
  readDelivery,
  readGeneration,
} from "./generation-fields.ts";
import type { DeliverySettings, GenerationSettings, RequestLimits } from "./generation-fields.ts";
import { logprobShape, readProbs, readPromptLogprobs } from "./logprob-fields.ts";
import { readTextInputs, textInputs } from "./text-inputs.ts";
import type { TextInput } from "./text-inputs.ts";
import { ignoredFields, refuseUnsupported } from "./unsupported.ts";
import { checkLength, checkMaximum, exclusive, integer, parseWith } from "./validation.ts";

/** OpenAI's default of this endpoint alone. */
const DEFAULT_MAX_TOKENS = 16;

const schema = z.object({
  ...generationShape,
  ...formatShape,
  prompt: textInputs,
  suffix: z.string().optional(),
  echo: z.boolean().optional(),
  logprobs: integer(0).optional(),
  ...logprobShape,
  best_of: integer(1).optional(),
  add_special_tokens: z.boolean().optional(),
});

type CompletionFields = z.infer<typeof schema>;

const KNOWN: ReadonlySet<string> = new Set(Object.keys(schema.shape));

export { schema as completionSchema };

export interface CompletionRequest {
  readonly model: string | undefined;
  readonly prompts: readonly TextInput[];
  /** The text behind the gap to be filled; undefined continues the prompt. */
  readonly suffix: string | undefined;
  /** Whether each prompt comes back in front of its text. */
  readonly echo: boolean;
  /** As `GenerationParams.topLogprobs`, of the tokens that are shown. */
  readonly logprobs: number | undefined;
  /** Undefined: as the kind of prompt has it by default. */
  /** As `SubmitCommand.promptLogprobs`, whatever `echo` asks for. */
  readonly promptLogprobs: number | undefined;
  /** Whether log probabilities name tokens by their ids. */
  readonly tokensAsIds: boolean;
  readonly addSpecialTokens: boolean | undefined;
  readonly format: OutputFormat;
  readonly generation: GenerationSettings;
  readonly delivery: DeliverySettings;
  /** How many answers to each prompt; at least 1. */
  readonly choices: number;
  /** How many are generated, of which the best `choices` are shown. */
  readonly bestOf: number;
  readonly ignoredFields: readonly string[];
}

/** @throws {ApiError} 400 for what is wrong, and for what cannot be honoured. */
export function readCompletionRequest(
  body: Readonly<Record<string, unknown>>,
  allowed: RequestLimits,
): CompletionRequest {
  const { strictParams, limits } = allowed;
  const present = prepareBody(body, limits);
  const fields = parseWith(schema, present);
  refuseUnsupported(present, "completions");
  const ignored = ignoredFields(present, KNOWN, { endpoint: "completions", strict: strictParams });
  const prompts = readTextInputs(
    present["prompt"],
    "prompt",
    limits["max-answer-choices"],
    "max-answer-choices",
  );
  const echo = fields.echo ?? false;
  const suffix = fields.suffix === "" ? undefined : fields.suffix;
  if (echo && suffix !== undefined) throw exclusive("echo", "suffix");
  if (fields.truncate_prompt_tokens !== undefined) {
    if (echo) throw exclusive("truncate_prompt_tokens", "echo");
    if (suffix !== undefined) throw exclusive("truncate_prompt_tokens", "suffix");
  }
  const choices = readChoices(fields, limits);
  const bestOf = readBestOf(fields, choices, limits);
  checkLength(
    prompts,
    Math.max(1, Math.floor(limits["max-answer-choices"] / bestOf)),
    "prompt",
    "max-answer-choices",
  );
  checkMaximum(fields.logprobs ?? 0, limits["max-top-logprobs"], "logprobs", "max-top-logprobs");
  const logprobs = fields.logprobs ?? readProbs(fields, limits);
  const promptLogprobs = readPromptLogprobs(fields, limits);
  if (promptLogprobs !== undefined && echo && logprobs !== undefined)
    throw exclusive("prompt_logprobs", "echo");
  // Choosing the best needs the probabilities also where they are not shown.
  const topLogprobs = logprobs ?? (bestOf > choices ? 0 : undefined);
  const scoring = echo && fields.max_tokens === 0;
  const generation = readGeneration(
    scoring ? { ...fields, max_tokens: undefined } : fields,
    topLogprobs,
    DEFAULT_MAX_TOKENS,
    allowed,
  );
  return {
    model: fields.model,
    prompts,
    suffix,
    echo,
    logprobs,
    promptLogprobs,
    tokensAsIds: fields.return_tokens_as_token_ids ?? false,
    addSpecialTokens: fields.add_special_tokens,
    format: readFormat(present, limits),
    generation: scoring ? { ...generation, maxTokens: 0 } : generation,
    delivery: readDelivery(fields),
    choices,
    bestOf,
    ignoredFields: ignored,
  };
}

function readBestOf({ best_of, stream }: CompletionFields, choices: number, limits: Limits): number {
  if (best_of === undefined) return choices;
  checkMaximum(best_of, limits["max-choices"], "best_of", "max-choices");
  if (best_of < choices) {
    throw new ApiError(
      "invalid_value",
      `Invalid 'best_of': it must be at least 'n', which is ${choices}, but got ${best_of} instead.`,
      "best_of",
    );
  }
  if (best_of > choices && stream === true) throw exclusive("best_of", "stream");
  return best_of;
}
