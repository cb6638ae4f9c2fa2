/** `POST /v1/chat/completions`. */
import { fingerprintOf } from "../../models/adapted-model.ts";
import type { AppDeps } from "../deps.ts";
import { readChatRequest } from "../openai/chat-request.ts";
import { chatBody, chatEventWriter } from "../openai/chat-response.ts";
import type { ChatAnswer } from "../openai/chat-response.ts";
import { sendAnswer } from "./answer.ts";
import type { AppContext } from "./env.ts";
import { readRequestBody } from "./request-body.ts";
import { startChat } from "./start-chat.ts";

export async function chatCompletions(c: AppContext, deps: AppDeps): Promise<Response> {
  c.get("notes").endpoint = "chat";
  const request = readChatRequest(await readRequestBody(c, deps), deps.config);
  const { id, model, choices, ignoredFields } = await startChat(c, deps, request, {
    answer: "chatcmpl-",
    call: "call_",
  });
  const answer: ChatAnswer = {
    head: { id, created: deps.clock.epochSeconds(), model: model.id, fingerprint: fingerprintOf(model) },
    delivery: request.delivery,
    reasoningField: request.showReasoning ? deps.config.reasoningField : undefined,
    logprobs: request.turn.generation.topLogprobs !== undefined,
    calls: request.callStyle,
    naming: { table: model.tokens, asIds: request.tokensAsIds },
    promptLogprobs: request.promptLogprobs !== undefined,
    promptTokens: choices.promptTokens[0] ?? [],
    verbose: request.verbose,
  };
  return sendAnswer(c, deps, choices, {
    stream: request.delivery.stream,
    ignoredFields,
    write: chatEventWriter(answer),
    body: (finished) => chatBody(finished, answer),
  });
}
