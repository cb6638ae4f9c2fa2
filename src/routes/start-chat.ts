/** From a chat that has been read to the choices of its answer, whatever dialect it came in. */
import type { LoadedModel } from "../../models/loaded-model.ts";
import { prepareChatTurn } from "../chat-turn.ts";
import { generateChoices } from "../choices.ts";
import type { Choices } from "../choices.ts";
import type { AppDeps } from "../deps.ts";
import type { ChatRequest } from "../openai/chat-request.ts";
import { reportedFields } from "../openai/unsupported.ts";
import { readScheduling, vainPriority } from "../scheduling.ts";
import type { AppContext } from "./env.ts";
import { assertOpen, findGenerator } from "./find-model.ts";

export interface StartedChat {
  readonly id: string;
  readonly model: LoadedModel;
  readonly choices: Choices;
  /** Fields of the request, and keywords of its schemas, that have no effect. */
  readonly ignoredFields: readonly string[];
}

/**
 * @param prefixes Of the answer's id and of those of its calls.
 * @throws {ApiError} What the request is refused with.
 */
export async function startChat(
  c: AppContext,
  deps: AppDeps,
  request: ChatRequest,
  prefixes: { readonly answer: string; readonly call: string },
): Promise<StartedChat> {
  const scheduling = readScheduling(c, deps);
  assertOpen(deps);
  const model = findGenerator(deps, request.model, request.turn.generation.lora);
  c.get("notes").model = model.id;
  const id = deps.ids.next(prefixes.answer);
  const nextCallId = (): string => deps.ids.next(prefixes.call);
  const prepared = await prepareChatTurn(model, request.turn);
  const turn = prepared.request({ id, owner: c.get("owner"), scheduling, nextCallId });
  const { promptLogprobs } = request;
  const reportsPrefill = request.delivery.promptProgress;
  const prompts = [{ ...turn, promptLogprobs, reportsPrefill }];
  const asked = { prompts, perPrompt: request.choices, askedBy: "n" };
  const choices = await generateChoices(model, asked, deps, c.get("scope").signal);
  c.get("notes").allowance = choices.allowance;
  const vain = vainPriority(scheduling, request.turn.generation.priority);
  const ignoredFields = reportedFields([...vain, ...request.ignoredFields], prepared.relaxed);
  return { id, model, choices, ignoredFields };
}
