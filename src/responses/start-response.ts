/** Starts the generation of a response, dropping the oldest items first where the request allows it. */
import { prepareChatTurn } from "../chat-turn.ts";
import type { ChatTurn, PreparedTurn } from "../chat-turn.ts";
import { generate } from "../generate.ts";
import type { GenerateDeps, Generation } from "../generate.ts";
import { settleRequests } from "../settle-request.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import { ApiError } from "../openai/api-error.ts";
import { toMessages } from "../openai/responses/item-messages.ts";
import type { Item } from "../openai/responses/items.ts";
import type { Scheduling } from "../scheduling.ts";
import type { ResponseRequest } from "../openai/responses/request.ts";

/** Each attempt renders and tokenizes everything again; the first cut is nearly always enough. */
const MAX_ATTEMPTS = 8;

/** Share of the context that a cut conversation may fill, so that there is room for an answer. */
const KEPT_SHARE = 0.75;

export interface StartOptions {
  readonly id: string;
  readonly owner: string;
  readonly scheduling: Scheduling;
  readonly nextCallId: () => string;
  readonly signal: AbortSignal;
}

export interface StartedResponse {
  readonly generation: Generation;
  /** The items that the model was given. */
  readonly context: readonly Item[];
  /** Paths of schema keywords that the answer is not held to. */
  readonly relaxed: readonly string[];
}

/** @throws {ApiError} What `prepareChatTurn` and `generate` throw, in the words of the Responses API. */
export async function startResponse(
  deps: GenerateDeps,
  model: LoadedModel,
  request: ResponseRequest,
  options: StartOptions & { readonly context: readonly Item[] },
): Promise<StartedResponse> {
  let { context } = options;
  for (let attempt = 1; ; attempt++) {
    try {
      const prepared = await prepareChatTurn(model, turnOf(request, context));
      const asked = { ...prepared.request(options), reportsPrefill: request.promptProgress };
      const [settled = asked] = await settleRequests(model, [asked], deps, options.signal);
      const generation = await generate(model, settled, deps, options.signal);
      return { generation, context, relaxed: prepared.relaxed };
    } catch (error) {
      const shorter = request.truncate && attempt < MAX_ATTEMPTS ? withoutOldest(context, error) : undefined;
      if (shorter === undefined) throw inResponsesWords(error);
      context = shorter;
    }
  }
}

/**
 * The prompt that a request would have.
 * @throws {ApiError} What `prepareChatTurn` throws, in the words of the Responses API.
 */
export async function prepareResponse(
  model: LoadedModel,
  request: ResponseRequest,
  context: readonly Item[],
): Promise<PreparedTurn> {
  try {
    return await prepareChatTurn(model, turnOf(request, context));
  } catch (error) {
    throw inResponsesWords(error);
  }
}

function turnOf(request: ResponseRequest, context: readonly Item[]): ChatTurn {
  return {
    ...request.turn,
    render: {
      messages: toMessages(context, request.instructions),
      addGenerationPrompt: true,
      continueFinalMessage: false,
      tools: undefined,
      kwargs: request.kwargs,
    },
  };
}

/**
 * The conversation without its beginning; undefined when the error is another one or nothing can go. What the
 * operator of the conversation said stays, and so does the last item.
 */
function withoutOldest(context: readonly Item[], error: unknown): readonly Item[] | undefined {
  if (!(error instanceof ApiError) || error.code !== "context_length_exceeded") return undefined;
  const { n_ctx: limit, n_prompt_tokens: tokens } = error.body.error;
  // Not even counted: far too long.
  const share =
    typeof limit === "number" && typeof tokens === "number" ? (limit * KEPT_SHARE) / tokens : KEPT_SHARE / 2;
  const sizes = context.map((item) => JSON.stringify(item).length);
  let excess = sizes.reduce((sum, size) => sum + size, 0) * (1 - Math.min(share, 1));
  const kept: Item[] = [];
  let dropped = 0;
  for (const [i, item] of context.entries()) {
    const stays = i === context.length - 1 || isInstruction(item) || (dropped > 0 && excess <= 0);
    if (stays) {
      kept.push(item);
    } else {
      dropped += 1;
      excess -= sizes[i] ?? 0;
    }
  }
  return dropped === 0 ? undefined : withoutOrphans(kept);
}

function isInstruction(item: Item): boolean {
  return item.type === "message" && (item.role === "system" || item.role === "developer");
}

/** Templates do not understand the result of a call that is not there. */
function withoutOrphans(items: readonly Item[]): readonly Item[] {
  const calls = new Set<string>();
  return items.filter((item, i) => {
    if (item.type === "function_call" || item.type === "custom_tool_call") calls.add(item.call_id);
    if (item.type !== "function_call_output" && item.type !== "custom_tool_call_output") return true;
    return calls.has(item.call_id) || i === items.length - 1;
  });
}

/** Errors name the fields of the chat API, where what the model is given is called messages. */
function inResponsesWords(error: unknown): unknown {
  if (!(error instanceof ApiError) || error.param === undefined) return error;
  const param = error.param.replace(/^messages\b.*$/, "input");
  return param === error.param ? error : error.withParam(param);
}
