/** `POST /v1/chat/completions`. */
import { fingerprintOf } from "../../models/adapted-model.ts";
import type { AppDeps } from "../deps.ts";
import { prepareChatTurn } from "../chat-turn.ts";
import { generateChoices } from "../choices.ts";
import { readJsonObject } from "../http/body.ts";
import { readChatRequest } from "../openai/chat-request.ts";
import { chatBody, chatEventWriter } from "../openai/chat-response.ts";
import type { ChatAnswer } from "../openai/chat-response.ts";
import { reportedFields } from "../openai/unsupported.ts";
import { readScheduling } from "../scheduling.ts";
import { sendAnswer } from "./answer.ts";
import type { AppContext } from "./env.ts";
import { assertOpen, findModel } from "./find-model.ts";

export async function chatCompletions(c: AppContext, deps: AppDeps): Promise<Response> {
  c.get("notes").endpoint = "chat";
  const request = readChatRequest(await readJsonObject(c.req.raw, deps.config.limits), deps.config);
  const scheduling = readScheduling(c, deps);
  assertOpen(deps);
  const model = findModel(deps, request.model, request.turn.generation.lora);
  c.get("notes").model = model.id;
  const id = deps.ids.next("chatcmpl-");
  const nextCallId = (): string => deps.ids.next("call_");
  const prepared = await prepareChatTurn(model, request.turn);
  const turn = prepared.request({ id, owner: c.get("owner"), scheduling, nextCallId });
  const { promptLogprobs } = request;
  const asked = { prompts: [{ ...turn, promptLogprobs }], perPrompt: request.choices };
  const choices = await generateChoices(model, asked, deps, c.get("scope").signal);
  c.get("notes").allowance = choices.allowance;
  const answer: ChatAnswer = {
    head: { id, created: deps.clock.epochSeconds(), model: model.id, fingerprint: fingerprintOf(model) },
    delivery: request.delivery,
    reasoningField: request.showReasoning ? deps.config.reasoningField : undefined,
    logprobs: request.turn.generation.topLogprobs !== undefined,
    calls: request.callStyle,
    naming: { table: model.tokens, asIds: request.tokensAsIds },
    promptLogprobs: request.promptLogprobs !== undefined,
    promptTokens: choices.promptTokens[0] ?? [],
  };
  return sendAnswer(c, deps, choices, {
    stream: request.delivery.stream,
    ignoredFields: reportedFields(request.ignoredFields, prepared.relaxed),
    write: chatEventWriter(answer),
    body: (finished) => chatBody(finished, answer),
  });
}
