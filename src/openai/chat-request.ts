/** What a chat completion request asks for, read from its JSON body. */
import { z } from "zod";
import type { RenderRequest } from "../../models/chat-template.ts";
import type { ChatTurn } from "../chat-turn.ts";
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
import type { DeliverySettings, RequestLimits } from "./generation-fields.ts";
import { checkMessageOrder } from "./message-order.ts";
import { boundMessages, messagesSchema, toTemplateMessages } from "./messages.ts";
import { logprobShape, readProbs, readPromptLogprobs } from "./logprob-fields.ts";
import { readReasoning, reasoningShape } from "./reasoning-fields.ts";
import type { ReasoningSettings } from "./reasoning-fields.ts";
import type { CallStyle } from "./tool-calls.ts";
import { readTools, toolShape } from "./tool-fields.ts";
import { ignoredFields, refuseUnsupported } from "./unsupported.ts";
import { checkMaximum, emptyArray, integer, parseWith } from "./validation.ts";

const predictionSchema = z.looseObject({
  type: z.literal("content"),
  content: z.union(
    [z.string(), z.array(z.looseObject({ type: z.literal("text"), text: z.string() }))],
    "a string or an array of text parts",
  ),
});

const schema = z.object({
  ...generationShape,
  ...reasoningShape,
  ...formatShape,
  ...toolShape,
  messages: messagesSchema,
  logprobs: z.boolean().optional(),
  top_logprobs: integer(0).optional(),
  ...logprobShape,
  chat_template_kwargs: z.record(z.string(), z.unknown()).optional(),
  add_generation_prompt: z.boolean().optional(),
  continue_final_message: z.boolean().optional(),
  prediction: predictionSchema.optional(),
  verbose: z.boolean().optional(),
});

type ChatFields = z.infer<typeof schema>;

const KNOWN_WITH_TOOLS: ReadonlySet<string> = new Set(Object.keys(schema.shape));
const KNOWN: ReadonlySet<string> = new Set(
  [...KNOWN_WITH_TOOLS].filter((field) => field !== "parallel_tool_calls"),
);

export { schema as chatSchema };

export interface ChatRequest {
  readonly model: string | undefined;
  readonly turn: ChatTurn;
  readonly delivery: DeliverySettings;
  /** How many answers; at least 1. */
  readonly choices: number;
  readonly callStyle: CallStyle;
  /** As `SubmitCommand.promptLogprobs`. */
  readonly promptLogprobs: number | undefined;
  /** Whether log probabilities name tokens by their ids. */
  readonly tokensAsIds: boolean;
  /** Whether the answer tells what the model was given and what it wrote, as they were. */
  readonly verbose: boolean;
  /** Whether thinking that is told apart is delivered. */
  readonly showReasoning: boolean;
  readonly ignoredFields: readonly string[];
}

/** @throws {ApiError} 400 for what is wrong, and for what cannot be honoured. */
export function readChatRequest(
  body: Readonly<Record<string, unknown>>,
  allowed: RequestLimits,
): ChatRequest {
  const { strictParams, limits } = allowed;
  const present = prepareBody(body, limits);
  boundMessages(present["messages"], limits);
  const fields = parseWith(schema, present);
  refuseUnsupported(present, "chat");
  if (strictParams) checkMessageOrder(fields.messages);
  const { tools, choice, parallel, style } = readTools(present, limits);
  const known = tools.length === 0 ? KNOWN : KNOWN_WITH_TOOLS;
  const ignored = ignoredFields(present, known, { endpoint: "chat", strict: strictParams });
  const reasoning = readReasoning(fields, allowed);
  return {
    model: fields.model,
    turn: {
      render: readRender(fields, reasoning),
      tools,
      toolChoice: choice,
      parallelToolCalls: parallel,
      format: readFormat(present, limits),
      splitReasoning: reasoning.split,
      thinkingBudget: reasoning.budget,
      predicted: predictedText(fields),
      generation: readGeneration(fields, readTopLogprobs(fields, limits), undefined, allowed),
    },
    delivery: readDelivery(fields),
    choices: readChoices(fields, limits),
    callStyle: style,
    promptLogprobs: readPromptLogprobs(fields, limits),
    tokensAsIds: fields.return_tokens_as_token_ids ?? false,
    verbose: fields.verbose ?? false,
    showReasoning: reasoning.show,
    ignoredFields: ignored,
  };
}

function readRender(fields: ChatFields, reasoning: ReasoningSettings): RenderRequest {
  const { messages } = fields;
  const last = messages.at(-1);
  if (last === undefined) throw emptyArray("messages");
  const continueFinalMessage =
    fields.continue_final_message ?? (last.role === "assistant" && last.prefix === true);
  if (continueFinalMessage && fields.add_generation_prompt === true) {
    throw new ApiError(
      "invalid_value",
      "'continue_final_message' and 'add_generation_prompt' cannot both be true.",
      "continue_final_message",
    );
  }
  if (continueFinalMessage && last.role !== "assistant") {
    throw new ApiError(
      "invalid_value",
      "'continue_final_message' needs a last message with the role 'assistant'.",
      "continue_final_message",
    );
  }
  return {
    messages: toTemplateMessages(messages),
    addGenerationPrompt: fields.add_generation_prompt ?? !continueFinalMessage,
    continueFinalMessage,
    tools: undefined,
    kwargs: { ...reasoning.kwargs, ...fields.chat_template_kwargs },
  };
}

function predictedText({ prediction }: ChatFields): string | undefined {
  const content = prediction?.content;
  if (content === undefined || typeof content === "string") return content;
  return content.map(({ text }) => text).join("");
}

function readTopLogprobs(fields: ChatFields, limits: Limits): number | undefined {
  const { logprobs, top_logprobs: top } = fields;
  const probs = readProbs(fields, limits);
  checkMaximum(top ?? 0, limits["max-top-logprobs"], "top_logprobs", "max-top-logprobs");
  if (logprobs === true) return top ?? probs ?? 0;
  if (top === undefined) return probs;
  throw new ApiError(
    "invalid_value",
    "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
    "top_logprobs",
  );
}
