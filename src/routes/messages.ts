/** `POST /v1/messages` and the count of its tokens: chats in the dialect of Anthropic's Messages API. */
import { messageErrorJson } from "../anthropic/error-reply.ts";
import { readMessageRequest, renamed } from "../anthropic/message-request.ts";
import { messageBody, messageEventWriter } from "../anthropic/message-response.ts";
import { prepareChatTurn } from "../chat-turn.ts";
import type { AppDeps } from "../deps.ts";
import { readJsonObject } from "../http/body.ts";
import { jsonReply } from "../http/reply.ts";
import { eventFrame } from "../http/sse.ts";
import { reportedFields } from "../openai/unsupported.ts";
import { ignoredHeader, sendAnswer } from "./answer.ts";
import type { AppContext } from "./env.ts";
import { findModel } from "./find-model.ts";
import { startChat } from "./start-chat.ts";
import { countedTokens } from "./tokenize.ts";

export async function createMessage(c: AppContext, deps: AppDeps): Promise<Response> {
  c.get("notes").endpoint = "chat";
  const request = readMessageRequest(await readJsonObject(c.req.raw, deps.config.limits), deps.config);
  const started = startChat(c, deps, request, { answer: "msg_", call: "toolu_" });
  const { id, model, choices, ignoredFields } = await inItsWords(started);
  const answer = { id, model: model.id, showThinking: request.showReasoning };
  const requestId = c.get("requestId");
  const sent = sendAnswer(c, deps, choices, {
    stream: request.delivery.stream,
    ignoredFields,
    write: messageEventWriter(answer),
    body: (finished) => messageBody(finished, answer),
    headers: { "request-id": requestId },
    framing: {
      done: "",
      failure: (error) => eventFrame(messageErrorJson(error, requestId)),
      keepAlive: () => eventFrame({ type: "ping" }),
    },
  });
  return inItsWords(sent);
}

/** What the prompt would cost, without asking for an answer. */
export async function countMessageTokens(c: AppContext, deps: AppDeps): Promise<Response> {
  const request = readMessageRequest(await readJsonObject(c.req.raw, deps.config.limits), deps.config);
  const model = findModel(deps, request.model);
  const { prompt, relaxed } = await inItsWords(prepareChatTurn(model, request.turn));
  const tokens = await countedTokens(model, prompt.parts, true, deps.config.limits);
  const headers = {
    ...ignoredHeader(reportedFields(request.ignoredFields, relaxed)),
    "request-id": c.get("requestId"),
  };
  return jsonReply({ input_tokens: tokens.length }, 200, headers);
}

async function inItsWords<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw renamed(error);
  }
}
