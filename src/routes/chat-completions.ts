/** `POST /v1/chat/completions`. */
import type { AppDeps } from "../deps.ts";
import { generateChoices } from "../choices.ts";
import type { GenerateRequest } from "../generate.ts";
import { readJsonObject } from "../http/body.ts";
import { readChatRequest } from "../openai/chat-request.ts";
import { chatBody, chatEventWriter } from "../openai/chat-response.ts";
import type { ChatAnswer } from "../openai/chat-response.ts";
import { sendAnswer } from "./answer.ts";
import type { AppContext } from "./env.ts";
import { assertOpen, findModel } from "./find-model.ts";
import { renderChat } from "./render-chat.ts";

export async function chatCompletions(c: AppContext, deps: AppDeps): Promise<Response> {
  c.get("notes").endpoint = "chat";
  const request = readChatRequest(await readJsonObject(c.req.raw), deps.config);
  assertOpen(deps);
  const model = findModel(deps, request.model);
  c.get("notes").model = model.id;
  const rendered = await renderChat(model, request.render);
  const markers = request.splitReasoning ? model.template?.reasoning : undefined;
  const id = deps.ids.next("chatcmpl-");
  const turn: GenerateRequest = {
    id,
    prompt: rendered.parts,
    addBos: true,
    promptField: "messages",
    settings: request.generation,
    reasoning: markers && { ...markers, opened: rendered.reasoningOpened },
    owner: c.get("owner"),
  };
  const asked = { prompts: [turn], perPrompt: request.choices };
  const choices = await generateChoices(model, asked, deps, c.get("scope").signal);
  const answer: ChatAnswer = {
    head: { id, created: deps.clock.epochSeconds(), model: model.id, fingerprint: model.facts.fingerprint },
    delivery: request.delivery,
    reasoningField: deps.config.reasoningField,
    logprobs: request.generation.topLogprobs !== undefined,
    table: model.tokens,
    promptTokens: choices.promptTokens[0] ?? [],
  };
  return sendAnswer(c, deps, choices, {
    stream: request.delivery.stream,
    ignoredFields: request.ignoredFields,
    write: chatEventWriter(answer),
    body: (finished) => chatBody(finished, answer),
  });
}
