/** What a request says about thinking, in the words of OpenAI, of llama.cpp, of vLLM and of OpenRouter. */
import { z } from "zod";
import { ApiError } from "./api-error.ts";
import type { RequestLimits } from "./generation-fields.ts";
import { integer } from "./validation.ts";

export const reasoningShape = {
  reasoning_format: z.enum(["none", "auto", "deepseek"]).optional(),
  reasoning_effort: z.string().optional(),
  include_reasoning: z.boolean().optional(),
  enable_thinking: z.boolean().optional(),
  thinking_budget_tokens: integer(-1).optional(),
  thinking_token_budget: integer(-1).optional(),
  reasoning: z
    .object({
      effort: z.string().nullish(),
      enabled: z.boolean().nullish(),
      max_tokens: integer(0).nullish(),
      exclude: z.boolean().nullish(),
    })
    .optional(),
} as const;

const schema = z.object(reasoningShape);
type ReasoningFields = z.infer<typeof schema>;

export interface ReasoningSettings {
  /** Whether thinking is told apart from the answer. */
  readonly split: boolean;
  /** Whether thinking that is told apart is delivered. */
  readonly show: boolean;
  /** Most tokens of thinking; undefined is no limit. */
  readonly budget: number | undefined;
  /** What templates call all this. */
  readonly kwargs: Readonly<Record<string, unknown>>;
}

/** @throws {ApiError} 400 for a budget of thinking that is not to be told apart. */
export function readReasoning(
  fields: ReasoningFields,
  { requestDefaults = {} }: Pick<RequestLimits, "requestDefaults">,
): ReasoningSettings {
  const { reasoning } = fields;
  const { field, tokens: budget } = readBudget(fields);
  if (budget > 0 && fields.reasoning_format === "none") {
    throw new ApiError(
      "invalid_value",
      `'${field}' cannot be used together with 'reasoning_format': 'none', which does not look for thinking.`,
      field,
    );
  }
  const effort = fields.reasoning_effort ?? reasoning?.effort ?? undefined;
  const { enable_thinking: byDefault } = requestDefaults;
  // An effort, or a budget, says that there is to be thinking.
  const unsaid = effort === undefined && budget < 0;
  return {
    split: fields.reasoning_format !== "none",
    show: fields.include_reasoning !== false && reasoning?.exclude !== true,
    budget: budget < 0 ? undefined : budget,
    kwargs: {
      ...(unsaid && byDefault !== undefined ? { enable_thinking: byDefault } : {}),
      ...(effort === undefined ? {} : { reasoning_effort: effort }),
      ...enableKwargs(fields, effort, budget),
    },
  };
}

function readBudget(fields: ReasoningFields): { readonly field: string; readonly tokens: number } {
  if (fields.thinking_budget_tokens !== undefined)
    return { field: "thinking_budget_tokens", tokens: fields.thinking_budget_tokens };
  if (fields.thinking_token_budget !== undefined)
    return { field: "thinking_token_budget", tokens: fields.thinking_token_budget };
  return { field: "reasoning.max_tokens", tokens: fields.reasoning?.max_tokens ?? -1 };
}

/** Templates that only know on and off are told so where the request leaves no doubt. */
function enableKwargs(fields: ReasoningFields, effort: string | undefined, budget: number): object {
  const { reasoning } = fields;
  const asked = reasoning?.enabled ?? (reasoning?.effort == null ? undefined : reasoning.effort !== "none");
  if (budget === 0) return { enable_thinking: false };
  const enabled = fields.enable_thinking ?? (effort === "none" ? false : asked);
  return enabled === undefined ? {} : { enable_thinking: enabled };
}
